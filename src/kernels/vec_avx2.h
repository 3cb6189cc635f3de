/* Vectors of 8 floats in AVX2 with FMA and F16C: see vec.h. */
#ifndef EQ_KERNELS_VEC_AVX2_H
#define EQ_KERNELS_VEC_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define VEC static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef __m256 vec;
typedef __m256 mask;
typedef int64_t part; /* how many lanes, 1 .. LANES */

static const part ALL = LANES;

VEC part v_part(int64_t left)
{
    return left >= LANES ? LANES : left;
}

/* All bits set in the first m lanes. */
VEC __m256i v_lanes(part m)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)m), index);
}

VEC vec v_set(float a)
{
    return _mm256_set1_ps(a);
}

VEC vec v_load(const float *p, part m)
{
    return m == LANES ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, v_lanes(m));
}

VEC void v_store(float *p, vec a, part m)
{
    if (m == LANES)
        _mm256_storeu_ps(p, a);
    else
        _mm256_maskstore_ps(p, v_lanes(m), a);
}

VEC __m128i v_load_u16(const void *p, part m)
{
    if (m == LANES) return _mm_loadu_si128(p);
    uint16_t lane[LANES] = {0};
    for (part i = 0; i < m; i++)
        memcpy(&lane[i], (const char *)p + 2 * i, sizeof *lane);
    return _mm_loadu_si128((const void *)lane);
}

VEC vec v_load_bf16(const void *p, part m)
{
    __m256i u = _mm256_cvtepu16_epi32(v_load_u16(p, m));
    return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}

VEC void v_store_bf16(void *p, vec a, part m)
{
    __m256i u = _mm256_castps_si256(a), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i sum = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(64));
    __m256i size = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    __m256i nan = _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x7f800000));
    __m256i r = _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), quiet, nan);
    __m128i h = _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
    if (m == LANES) {
        _mm_storeu_si128(p, h);
        return;
    }
    uint16_t lane[LANES];
    _mm_storeu_si128((void *)lane, h);
    for (part i = 0; i < m; i++)
        memcpy((char *)p + 2 * i, &lane[i], sizeof *lane);
}

VEC vec v_load_f16(const void *p, part m)
{
    return _mm256_cvtph_ps(v_load_u16(p, m));
}

VEC float v_f16(const void *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

VEC vec v_load_i8(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}

VEC vec v_load_low(const void *p)
{
    __m128i b = _mm_and_si128(_mm_loadl_epi64(p), _mm_set1_epi8(15));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b));
}

VEC vec v_load_high(const void *p)
{
    __m128i b = _mm_and_si128(_mm_srli_epi16(_mm_loadl_epi64(p), 4), _mm_set1_epi8(15));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b));
}

/* LANES fields of `bits` bits, the first one at the start of a byte: all fit the 32 bits from there
 * on, but not at 8 bits. */
VEC vec v_codes(const uint8_t *p, int bits)
{
    if (bits == 8)
        return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p)));
    uint32_t word;
    memcpy(&word, p, sizeof word);
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i shift = _mm256_mullo_epi32(index, _mm256_set1_epi32(bits));
    __m256i q = _mm256_srlv_epi32(_mm256_set1_epi32((int)word), shift);
    return _mm256_cvtepi32_ps(_mm256_and_si256(q, _mm256_set1_epi32((1 << bits) - 1)));
}

VEC vec v_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

VEC vec v_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

VEC vec v_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

VEC vec v_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}

VEC vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

VEC vec v_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

VEC vec v_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

VEC vec v_round(vec a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n in two factors, so that results below the normal range come out right. */
VEC vec v_scale(vec a, vec n)
{
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

VEC mask v_less(vec a, vec b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}

VEC mask v_equal(vec a, vec b)
{
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}

VEC bool v_any(mask m)
{
    return _mm256_movemask_ps(m) != 0;
}

VEC vec v_select(mask m, vec yes, vec no)
{
    return _mm256_blendv_ps(no, yes, m);
}

VEC vec v_fill(part m, vec a, vec rest)
{
    return m == LANES ? a : _mm256_blendv_ps(rest, a, _mm256_castsi256_ps(v_lanes(m)));
}

VEC float v_sum(vec a)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

VEC float v_largest(vec a)
{
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

#endif
