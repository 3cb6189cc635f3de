#include "base/cpu.h"

#include <cpuid.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Registers that the system saves, by bit of XCR0. */
enum {
    SAVED_YMM = 0x6,    /* xmm and upper halves */
    SAVED_ZMM = 0xe6,   /* and mask registers, upper halves of zmm, zmm16-31 */
    SAVED_TMM = 0x60000 /* tile configuration and tile data */
};
/* Linux: arch_prctl code that asks for an extended register state, and the state of tile data. */
enum { REQUEST_STATE = 0x1023, TILE_DATA = 18 };

static bool has(uint32_t word, int bit)
{
    return word >> bit & 1;
}

static uint64_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

void eq_cpu_probe(eq_cpu *cpu)
{
    memset(cpu, 0, sizeof *cpu);
    uint32_t a, b, c, d, a1, b1, c1, d1;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, 27)) return; /* no xgetbv */
    const bool fma = has(c, 12), f16c = has(c, 29);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    const uint64_t saved = saved_registers();
    if (!__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1)) a1 = 0;

    bool ymm = (saved & SAVED_YMM) == SAVED_YMM, zmm = (saved & SAVED_ZMM) == SAVED_ZMM;
    cpu->avx2 = ymm && has(b, 5) && fma && f16c;
    cpu->avx512 = cpu->avx2 && zmm && has(b, 16) && has(b, 17) && has(b, 30) && has(b, 31);
    cpu->avx512_vnni = cpu->avx512 && has(c, 11);
    cpu->avx512_bf16 = cpu->avx512 && has(a1, 5);
    bool tiles = has(d, 24) && (saved & SAVED_TMM) == SAVED_TMM &&
                 syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0;
    cpu->amx_bf16 = tiles && has(d, 22);
}
