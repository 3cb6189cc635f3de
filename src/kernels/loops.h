/* Loops that compilers vectorize well by themselves, and the scalar access to typed buffers. Each
 * kernels_<isa>.c compiles its own copy with its own instruction set; as no sum and no fused
 * multiply-add is involved, all copies give the same bits. The functions are the entries of
 * eq_kernels with the same names, described in kernels.h. */
#ifndef EQ_KERNELS_LOOPS_H
#define EQ_KERNELS_LOOPS_H

#include "kernels/kernels.h"
#include <math.h>

/* Element i of a buffer of EQ_F32 or EQ_BF16. Copies bytes, because a bf16 result may take the
 * place of its f32 argument. */
static inline float get(const void *x, int64_t i, eq_dtype type)
{
    if (type == EQ_F32) return ((const float *)x)[i];
    uint16_t h;
    memcpy(&h, (const char *)x + 2 * i, sizeof h);
    return eq_bf16_f32(h);
}

static inline void put(void *x, int64_t i, eq_dtype type, float value)
{
    if (type == EQ_F32) {
        ((float *)x)[i] = value;
        return;
    }
    uint16_t h = eq_f32_bf16(value);
    memcpy((char *)x + 2 * i, &h, sizeof h);
}

/* Address of element i. */
static inline void *at(void *x, int64_t i, eq_dtype type)
{
    return (char *)x + i * (type == EQ_F32 ? 4 : 2);
}

static inline const void *at_const(const void *x, int64_t i, eq_dtype type)
{
    return (const char *)x + i * (type == EQ_F32 ? 4 : 2);
}

static inline float levels(const eq_quant_shape *shape)
{
    return (float)((1 << shape->bits) - 1);
}

/* A zero point, and what of it is added before and after the rounding. */
typedef struct zero_point {
    float z, before, after;
} zero_point;

static inline zero_point zero_of(float z, const eq_quant_shape *shape)
{
    if (shape->super) return (zero_point){z, z, 0};
    float Q = levels(shape), whole = rintf(z);
    whole = whole < 0 ? 0 : whole > Q ? Q : whole;
    return (zero_point){whole, 0, whole};
}

/* The zero point of group k of frozen codes. */
static inline float frozen_zero(const void *z, int64_t k, const eq_quant_shape *shape)
{
    return shape->super ? ((const float *)z)[k] : (float)((const uint8_t *)z)[k];
}

static void f32_to_bf16(uint16_t *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = eq_f32_bf16(in[i]);
}

static void bf16_to_f32(float *out, const uint16_t *in, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = eq_bf16_f32(in[i]);
}

static void add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void adamw(float *w, float *m, float *v, const float *g, int64_t n, const eq_adamw *step)
{
    const eq_adamw a = *step;
    const float rest1 = 1 - a.beta1, rest2 = 1 - a.beta2, keep = 1 - a.decay;
    for (int64_t i = 0; i < n; i++) {
        float mi = a.beta1 * m[i] + rest1 * g[i];
        float vi = a.beta2 * v[i] + rest2 * (g[i] * g[i]);
        m[i] = mi;
        v[i] = vi;
        w[i] = w[i] * keep - a.step * mi / (sqrtf(vi) * a.root + a.eps);
    }
}

static void fakequant_forward(void *y, const float *w, const float *s, const float *z,
                              const eq_quant_shape *shape, eq_dtype type)
{
    const int64_t g = shape->g, groups = shape->K / g;
    const float Q = levels(shape);
    for (int64_t k = 0; k < groups; k++) {
        const float scale = eq_clamp_scale(s[k], shape);
        const zero_point zero = zero_of(z[k], shape);
        for (int64_t i = k * g; i < (k + 1) * g; i++) {
            float v = rintf(w[i] / scale + zero.before) + zero.after;
            float q = v < 0 ? 0 : v > Q ? Q : v;
            put(y, i, type, (q - zero.z) * scale);
        }
    }
}

/* A quotient that is not a number gives code 0. */
static void quantize_codes(uint8_t *q, const float *w, const float *s, const float *z,
                           const eq_quant_shape *shape)
{
    const int64_t g = shape->g, groups = shape->K / g;
    const float Q = levels(shape);
    for (int64_t k = 0; k < groups; k++) {
        const zero_point zero = zero_of(z[k], shape);
        for (int64_t i = k * g; i < (k + 1) * g; i++) {
            float code = rintf(w[i] / s[k] + zero.before) + zero.after;
            code = code > 0 ? code : 0;
            q[i] = (uint8_t)(int32_t)(code < Q ? code : Q);
        }
    }
}

/* The zero points that start_search tries: all of them, or, at 8 bits, the one of the min-max
 * quantizer and its two neighbours; the middle one alone on a symmetric grid. */
typedef struct search_range {
    float scale;     /* of the min-max quantizer */
    int first, last; /* zero points */
} search_range;

static inline search_range search_bounds(const float *w, const eq_start_search *search)
{
    const int Q = (1 << search->shape.bits) - 1;
    float low = 0, high = 0;
    for (int64_t i = 0; i < search->shape.g; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    if (search->shape.symmetric) {
        const int middle = (Q + 1) / 2;
        return (search_range){fmaxf(-low, high) / (float)middle, middle, middle};
    }
    search_range r = {(high - low) / (float)Q, 0, Q};
    if (search->shape.bits < 8) return r;
    /* Not finite, or all zero: any zero point serves. */
    float share = high - low > 0 ? -low / (high - low) : 0;
    int zero = (int)rintf((share <= 1 ? share : 0) * (float)Q);
    r.first = zero > 0 ? zero - 1 : 0;
    r.last = zero < Q ? zero + 1 : Q;
    return r;
}

/* How many scales start_search tries: on a symmetric grid each with either sign. */
static inline int64_t search_count(const eq_start_search *search)
{
    return search->shape.symmetric ? 2 * (int64_t)search->scales : search->scales;
}

/* Scale number i of the search. */
static inline float search_scale(const eq_start_search *search, float minmax, int64_t i)
{
    const bool negative = i >= search->scales;
    float step =
        search->scales > 1 ? (search->grow - search->shrink) / (float)(search->scales - 1) : 0;
    float s = (search->shrink + step * (float)(negative ? i - search->scales : i)) * minmax;
    s = s > search->smallest ? s : search->smallest;
    return negative ? -s : s;
}

#endif
