/* Whole numbers in AVX2 for panels_body.h: see there. */
#ifndef EQ_KERNELS_DOT_AVX2_H
#define EQ_KERNELS_DOT_AVX2_H

#include "kernels/vec_avx2.h"

typedef __m256i ivec;

VEC ivec i_zero(void)
{
    return _mm256_setzero_si256();
}

VEC ivec i_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}

VEC void i_store(uint32_t *p, ivec a)
{
    _mm256_storeu_si256((void *)p, a);
}

VEC ivec i_set(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

VEC ivec i_right(ivec a, int n)
{
    return _mm256_srli_epi32(a, n);
}

VEC ivec i_left(ivec a, int n)
{
    return _mm256_slli_epi32(a, n);
}

VEC ivec i_and(ivec a, uint32_t b)
{
    return _mm256_and_si256(a, _mm256_set1_epi32((int)b));
}

VEC ivec i_or(ivec a, ivec b)
{
    return _mm256_or_si256(a, b);
}

VEC ivec i_add(ivec a, ivec b)
{
    return _mm256_add_epi32(a, b);
}

VEC vec i_float(ivec a)
{
    return _mm256_cvtepi32_ps(a);
}

VEC vec v_load_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p)));
}

VEC void v_store_i8(int8_t *p, vec a)
{
    __m256i words = _mm256_cvtps_epi32(a);
    __m128i half =
        _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storel_epi64((void *)p, _mm_packs_epi16(half, half));
}

/* Below 8 bits sums are numbers of 16 bits, each of two products of bytes a quad: those of a
 * segment are at most 8 x 2 x 15 x 127 = 30480. At 8 bits not even one such pair would fit, so that
 * the even and the odd bytes are multiplied as 16-bit numbers there. */
VEC ivec i_dot(ivec sum, ivec codes, ivec x, int bits)
{
    if (bits < 8) return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x));
    const __m256i even = _mm256_and_si256(codes, _mm256_set1_epi16(255));
    const __m256i odd = _mm256_srli_epi16(codes, 8);
    const __m256i even_x = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
    const __m256i odd_x = _mm256_srai_epi16(x, 8);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, even_x));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(odd, odd_x));
}

VEC ivec i_total(ivec sum, int bits)
{
    return bits < 8 ? _mm256_madd_epi16(sum, _mm256_set1_epi16(1)) : sum;
}

#endif
