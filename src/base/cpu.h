/* What this CPU and its operating system let us use. */
#ifndef EQ_BASE_CPU_H
#define EQ_BASE_CPU_H

#include <stdbool.h>

typedef struct eq_cpu {
    bool avx2;        /* AVX2, FMA and F16C */
    bool avx512;      /* AVX-512 F, BW, VL and DQ */
    bool avx512_bf16; /* bf16 dot products */
    bool avx512_vnni; /* int8 dot products, 512-bit */
    bool amx_bf16;    /* tile products in bf16 */
} eq_cpu;

/* Ask the CPU and the operating system. A feature is true only when the system also saves its
 * registers; for AMX this asks Linux to let this process use tile data, which stays granted. */
void eq_cpu_probe(eq_cpu *cpu);

#endif
