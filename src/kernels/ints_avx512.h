/* Whole numbers in AVX-512 for panels_body.h: see there. */
#ifndef EQ_KERNELS_INTS_AVX512_H
#define EQ_KERNELS_INTS_AVX512_H

#include "kernels/vec_avx512.h"

typedef __m512i ivec;

VEC ivec i_zero(void)
{
    return _mm512_setzero_si512();
}

VEC ivec i_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

VEC void i_store(uint32_t *p, ivec a)
{
    _mm512_storeu_si512(p, a);
}

VEC ivec i_set(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}

VEC ivec i_right(ivec a, int n)
{
    return _mm512_srli_epi32(a, (unsigned)n);
}

VEC ivec i_left(ivec a, int n)
{
    return _mm512_slli_epi32(a, (unsigned)n);
}

VEC ivec i_and(ivec a, uint32_t b)
{
    return _mm512_and_si512(a, _mm512_set1_epi32((int)b));
}

VEC ivec i_or(ivec a, ivec b)
{
    return _mm512_or_si512(a, b);
}

VEC ivec i_add(ivec a, ivec b)
{
    return _mm512_add_epi32(a, b);
}

VEC vec i_float(ivec a)
{
    return _mm512_cvtepi32_ps(a);
}

VEC vec v_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p)));
}

VEC void v_store_i8(int8_t *p, vec a)
{
    _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

#endif
