/* The tables of functions, for table.c. */
#ifndef EQ_KERNELS_TABLES_H
#define EQ_KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const eq_kernels eq_kernels_ref;
extern const eq_kernels eq_kernels_avx2;   /* needs AVX2, FMA, F16C */
extern const eq_kernels eq_kernels_avx512; /* needs AVX-512 F, BW, VL, DQ, and the above */
extern const eq_kernels eq_kernels_vnni;   /* needs AVX-512 VNNI, and the above */

#endif
