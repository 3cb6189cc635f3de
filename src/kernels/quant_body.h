/* SIMD forms of the kernels on stored and quantized weights, for the vectors of vec.h. */
#ifndef EQ_KERNELS_QUANT_BODY_H
#define EQ_KERNELS_QUANT_BODY_H

#include "kernels/tables.h"
#include "kernels/vec.h"

VEC void unpack_plain(void *out, eq_dtype out_type, const void *in, eq_dtype in_type, int64_t n)
{
    const char *p = in;
    for (int64_t i = 0; i < n; i += LANES) {
        part m = v_part(n - i);
        vec a = in_type == EQ_F16 ? v_load_f16(p + 2 * i, m) : v_get(in, i, in_type, m);
        v_put(out, i, out_type, a, m);
    }
}

VEC void unpack_q8_0(void *out, eq_dtype out_type, const uint8_t *in, int64_t n)
{
    for (int64_t i = 0; i < n; i += 32, in += 34) {
        const vec d = v_set(v_f16(in));
        for (int64_t j = 0; j < 32; j += LANES)
            v_put(out, i + j, out_type, v_mul(v_load_i8(in + 2 + j), d), ALL);
    }
}

/* (code - 8) d, and code d + m: `shift` is 8 or 0, and only Q4_1 has m. */
VEC void unpack_q4(void *out, eq_dtype out_type, const uint8_t *in, int64_t n, bool has_min)
{
    const int head = has_min ? 4 : 2;
    const vec shift = v_set(has_min ? 0.0f : 8.0f);
    for (int64_t i = 0; i < n; i += 32, in += head + 16) {
        const vec d = v_set(v_f16(in)), min = v_set(has_min ? v_f16(in + 2) : 0.0f);
        for (int64_t j = 0; j < 16; j += LANES) {
            vec low = v_mul(v_sub(v_load_low(in + head + j), shift), d);
            vec high = v_mul(v_sub(v_load_high(in + head + j), shift), d);
            v_put(out, i + j, out_type, has_min ? v_add(low, min) : low, ALL);
            v_put(out, i + j + 16, out_type, has_min ? v_add(high, min) : high, ALL);
        }
    }
}

VEC void unpack_to(void *out, eq_dtype out_type, const void *in, eq_dtype in_type, int64_t n)
{
    switch (in_type) {
    case EQ_Q8_0:
        unpack_q8_0(out, out_type, in, n);
        break;
    case EQ_Q4_0:
        unpack_q4(out, out_type, in, n, false);
        break;
    case EQ_Q4_1:
        unpack_q4(out, out_type, in, n, true);
        break;
    case EQ_F16:
        unpack_plain(out, out_type, in, EQ_F16, n);
        break;
    case EQ_BF16:
        unpack_plain(out, out_type, in, EQ_BF16, n);
        break;
    case EQ_F32:
        unpack_plain(out, out_type, in, EQ_F32, n);
        break;
    default:
        eq_kernels_ref.unpack(out, out_type, in, in_type, n);
    }
}

static void unpack(void *out, eq_dtype out_type, const void *in, eq_dtype in_type, int64_t n)
{
    if (out_type == EQ_F32)
        unpack_to(out, EQ_F32, in, in_type, n);
    else
        unpack_to(out, EQ_BF16, in, in_type, n);
}

static void fakequant_backward(float *dy, float *ds, float *dz, const float *w, const float *s,
                               const float *z, const eq_quant_shape *shape)
{
    const int64_t g = shape->g, groups = shape->K / g;
    const float Q = levels(shape);
    const float edge = shape->edges_clipped ? 0.5f : 0; /* codes are whole numbers */
    const vec nothing = v_set(0), bottom = v_set(edge), top = v_set(Q - edge);
    for (int64_t k = 0; k < groups; k++) {
        const float scale = eq_clamp_scale(s[k], shape);
        const zero_point zero = zero_of(z[k], shape);
        const vec before = v_set(zero.before), after = v_set(zero.after), origin = v_set(zero.z);
        vec sum_s = nothing, sum_z = nothing;
        for (int64_t i = 0; i < g; i += LANES) {
            part m = v_part(g - i);
            vec u = v_div(v_load(w + k * g + i, m), v_set(scale)), d = v_load(dy + k * g + i, m);
            vec v = v_add(v_round(v_add(u, before)), after);
            mask below = v_less(v, bottom), above = v_less(top, v);
            vec slope = v_select(above, v_set(Q - zero.z), v_sub(v_sub(v, origin), u));
            slope = v_select(below, v_set(-zero.z), slope);
            vec inside = v_select(below, nothing, v_select(above, nothing, d));
            sum_s = v_fma(d, slope, sum_s);
            sum_z = v_add(sum_z, v_sub(d, inside));
            v_store(dy + k * g + i, inside, m);
        }
        ds[k] += v_sum(sum_s);
        dz[k] -= v_sum(sum_z) * scale;
    }
}

/* Groups that do not begin at whole bytes go the plain way. */
VEC bool whole_bytes(const eq_quant_shape *shape)
{
    return shape->g * shape->bits % 8 == 0;
}

VEC void dequantize_row(void *y, const uint8_t *codes, const float *s, const void *z,
                        const eq_quant_shape *shape, int bits, eq_dtype type)
{
    const int64_t g = shape->g, groups = shape->K / g;
    for (int64_t k = 0; k < groups; k++) {
        const vec scale = v_set(s[k]), zero = v_set(frozen_zero(z, k, shape));
        for (int64_t i = 0; i < g; i += LANES) {
            vec q = v_codes(codes + (k * g + i) * bits / 8, bits);
            v_put(y, k * g + i, type, v_mul(v_sub(q, zero), scale), v_part(g - i));
        }
    }
}

VEC void dequantize_type(void *y, const uint8_t *codes, const float *s, const void *z,
                         const eq_quant_shape *shape, int bits, eq_dtype type)
{
    if (type == EQ_F32)
        dequantize_row(y, codes, s, z, shape, bits, EQ_F32);
    else
        dequantize_row(y, codes, s, z, shape, bits, EQ_BF16);
}

static void dequantize(void *y, const uint8_t *codes, const float *s, const void *z,
                       const eq_quant_shape *shape, eq_dtype type)
{
    if (!whole_bytes(shape)) {
        eq_kernels_ref.dequantize(y, codes, s, z, shape, type);
        return;
    }
    switch (shape->bits) {
    case 2:
        dequantize_type(y, codes, s, z, shape, 2, type);
        break;
    case 3:
        dequantize_type(y, codes, s, z, shape, 3, type);
        break;
    case 4:
        dequantize_type(y, codes, s, z, shape, 4, type);
        break;
    default:
        dequantize_type(y, codes, s, z, shape, 8, type);
    }
}

VEC void scale_gradient_row(float *ds, const float *dy, const uint8_t *codes, const void *z,
                            const eq_quant_shape *shape, int bits)
{
    const int64_t g = shape->g, groups = shape->K / g;
    for (int64_t k = 0; k < groups; k++) {
        const vec zero = v_set(frozen_zero(z, k, shape));
        vec sum = v_set(0);
        for (int64_t i = 0; i < g; i += LANES) {
            vec q = v_codes(codes + (k * g + i) * bits / 8, bits);
            sum = v_fma(v_load(dy + k * g + i, v_part(g - i)), v_sub(q, zero), sum);
        }
        ds[k] += v_sum(sum);
    }
}

static void scale_gradient(float *ds, const float *dy, const uint8_t *codes, const void *z,
                           const eq_quant_shape *shape)
{
    if (!whole_bytes(shape)) {
        eq_kernels_ref.scale_gradient(ds, dy, codes, z, shape);
        return;
    }
    switch (shape->bits) {
    case 2:
        scale_gradient_row(ds, dy, codes, z, shape, 2);
        break;
    case 3:
        scale_gradient_row(ds, dy, codes, z, shape, 3);
        break;
    case 4:
        scale_gradient_row(ds, dy, codes, z, shape, 4);
        break;
    default:
        scale_gradient_row(ds, dy, codes, z, shape, 8);
    }
}

enum { ZEROS_AT_ONCE = 4, ZEROS_MAX = 16 };

/* Losses of LANES scales s and the zero points first .. first + ZEROS_AT_ONCE - 1. A lane is a
 * scale, so that every sum runs from front to back as in the reference, and none crosses lanes. */
VEC void search_losses(float loss[][LANES], const float *w, const float *h, int64_t g, vec s,
                       int first, float Q)
{
    const vec inverse = v_div(v_set(1), s);
    vec sum[ZEROS_AT_ONCE], low[ZEROS_AT_ONCE], high[ZEROS_AT_ONCE];
    for (int k = 0; k < ZEROS_AT_ONCE; k++) {
        sum[k] = v_set(0);
        low[k] = v_set(-(float)(first + k));
        high[k] = v_set(Q - (float)(first + k));
    }
    for (int64_t i = 0; i < g; i++) {
        const vec u = v_mul(v_set(w[i]), inverse), r = v_round(u), weight = v_set(h[i]);
        for (int k = 0; k < ZEROS_AT_ONCE; k++) {
            vec d = v_sub(v_min(high[k], v_max(low[k], r)), u);
            sum[k] = v_add(sum[k], v_mul(weight, v_mul(d, d)));
        }
    }
    for (int k = 0; k < ZEROS_AT_ONCE; k++)
        v_store(loss[k], v_mul(sum[k], v_mul(s, s)), ALL);
}

static float start_search(float *s, float *z, const float *w, const float *h,
                          const eq_start_search *search)
{
    const search_range range = search_bounds(w, search);
    float loss[ZEROS_MAX][LANES], scale[LANES], least = INFINITY;
    *s = search_scale(search, range.scale, 0);
    *z = (float)range.first;
    const int64_t count = search_count(search);
    for (int64_t i = 0; i < count; i += LANES) {
        for (int l = 0; l < LANES; l++)
            scale[l] = search_scale(search, range.scale, i + l);
        const vec scales = v_load(scale, ALL);
        for (int k = range.first; k <= range.last; k += ZEROS_AT_ONCE)
            search_losses(loss + (k - range.first), w, h, search->shape.g, scales, k,
                          levels(&search->shape));
        for (int l = 0; l < LANES && i + l < count; l++) {
            for (int k = range.first; k <= range.last; k++) {
                if (!(loss[k - range.first][l] < least)) continue;
                least = loss[k - range.first][l];
                *s = scale[l];
                *z = (float)k;
            }
        }
    }
    return least;
}

#endif
