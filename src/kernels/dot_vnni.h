/* Dot products of bytes in AVX-512 VNNI for panels_body.h: see there. */
#ifndef EQ_KERNELS_DOT_VNNI_H
#define EQ_KERNELS_DOT_VNNI_H

#include "kernels/ints_avx512.h"

VEC ivec i_dot(ivec sum, ivec codes, ivec x, int bits)
{
    (void)bits;
    return _mm512_dpbusd_epi32(sum, codes, x);
}

VEC ivec i_total(ivec sum, int bits)
{
    (void)bits;
    return sum;
}

#endif
