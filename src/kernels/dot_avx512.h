/* Dot products of bytes in AVX-512 BW for panels_body.h: see there. */
#ifndef EQ_KERNELS_DOT_AVX512_H
#define EQ_KERNELS_DOT_AVX512_H

#include "kernels/ints_avx512.h"

/* As in AVX2. */
VEC ivec i_dot(ivec sum, ivec codes, ivec x, int bits)
{
    if (bits < 8) return _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, x));
    const __m512i even = _mm512_and_si512(codes, _mm512_set1_epi16(255));
    const __m512i odd = _mm512_srli_epi16(codes, 8);
    const __m512i even_x = _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8);
    const __m512i odd_x = _mm512_srai_epi16(x, 8);
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(even, even_x));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(odd, odd_x));
}

VEC ivec i_total(ivec sum, int bits)
{
    return bits < 8 ? _mm512_madd_epi16(sum, _mm512_set1_epi16(1)) : sum;
}

#endif
