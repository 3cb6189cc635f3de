/* Vectors of 16 floats in AVX-512: see vec.h. */
#ifndef EQ_KERNELS_VEC_AVX512_H
#define EQ_KERNELS_VEC_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define VEC static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef __m512 vec;
typedef __mmask16 mask;
typedef __mmask16 part;

static const part ALL = 0xffff;

VEC part v_part(int64_t left)
{
    return left >= LANES ? ALL : (part)((1u << left) - 1);
}

VEC vec v_set(float a)
{
    return _mm512_set1_ps(a);
}

VEC vec v_load(const float *p, part m)
{
    return _mm512_maskz_loadu_ps(m, p);
}

VEC void v_store(float *p, vec a, part m)
{
    _mm512_mask_storeu_ps(p, m, a);
}

VEC vec v_load_bf16(const void *p, part m)
{
    __m512i u = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}

VEC void v_store_bf16(void *p, vec a, part m)
{
    __m512i u = _mm512_castps_si512(a), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(64));
    mask nan = _mm512_fpclass_ps_mask(a, 0x81); /* quiet or signalling NaN */
    __m512i r = _mm512_mask_blend_epi32(nan, _mm512_srli_epi32(sum, 16), quiet);
    _mm256_mask_storeu_epi16(p, m, _mm512_cvtepi32_epi16(r));
}

VEC vec v_load_f16(const void *p, part m)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
}

VEC float v_f16(const void *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

VEC vec v_load_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

VEC vec v_load_low(const void *p)
{
    __m128i b = _mm_and_si128(_mm_loadu_si128(p), _mm_set1_epi8(15));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b));
}

VEC vec v_load_high(const void *p)
{
    __m128i b = _mm_and_si128(_mm_srli_epi16(_mm_loadu_si128(p), 4), _mm_set1_epi8(15));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b));
}

/* LANES fields of `bits` bits, the first one at the start of a byte: eight fit the 32 bits from a
 * byte on, but not at 8 bits. */
VEC vec v_codes(const uint8_t *p, int bits)
{
    if (bits == 8)
        return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p)));
    uint32_t low, high;
    memcpy(&low, p, sizeof low);
    memcpy(&high, p + bits, sizeof high);
    const __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i shift = _mm512_mullo_epi32(index, _mm512_set1_epi32(bits));
    __m512i words = _mm512_mask_set1_epi32(_mm512_set1_epi32((int)low), 0xff00, (int)high);
    __m512i q =
        _mm512_and_si512(_mm512_srlv_epi32(words, shift), _mm512_set1_epi32((1 << bits) - 1));
    return _mm512_cvtepi32_ps(q);
}

VEC vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

VEC vec v_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

VEC vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

VEC vec v_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

VEC vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

VEC vec v_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

VEC vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

VEC vec v_round(vec a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

VEC vec v_scale(vec a, vec n)
{
    return _mm512_scalef_ps(a, n);
}

VEC mask v_less(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

VEC mask v_equal(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

VEC bool v_any(mask m)
{
    return m != 0;
}

VEC vec v_select(mask m, vec yes, vec no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}

VEC vec v_fill(part m, vec a, vec rest)
{
    return _mm512_mask_mov_ps(rest, m, a);
}

VEC float v_sum(vec a)
{
    return _mm512_reduce_add_ps(a);
}

VEC float v_largest(vec a)
{
    return _mm512_reduce_max_ps(a);
}

#endif
