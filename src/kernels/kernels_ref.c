/* The reference kernels: the definition of what every table computes, in plain loops. Arithmetic
 * is f32; sums within a row are collected in f64, so that the reference can serve as the truth. */
#include "kernels/kv_loops.h"
#include "kernels/loops.h"
#include "kernels/panels_ref.h"
#include "kernels/tables.h"

static void unpack(void *out, eq_dtype out_type, const void *in, eq_dtype in_type, int64_t n)
{
    if (out_type == EQ_F32) {
        eq_dtype_to_f32(out, in, in_type, n);
        return;
    }
    enum { CHUNK = 256 }; /* a multiple of every block */
    float part[CHUNK];
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t count = n - i < CHUNK ? n - i : CHUNK;
        const char *from = (const char *)in + eq_dtype_bytes(in_type, i);
        eq_dtype_to_f32(part, from, in_type, count);
        f32_to_bf16((uint16_t *)out + i, part, count);
    }
}

static float sum_squares(const void *x, int64_t C, eq_dtype type)
{
    double sum = 0;
    for (int64_t c = 0; c < C; c++) {
        float value = get(x, c, type);
        sum += value * value;
    }
    return (float)sum;
}

static void rmsnorm_forward(void *y, float *rstd, const float *x, const float *w, int64_t rows,
                            int64_t C, float eps, eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *xr = x + r * C;
        rstd[r] = 1 / sqrtf(sum_squares(xr, C, EQ_F32) / (float)C + eps);
        for (int64_t c = 0; c < C; c++)
            put(y, r * C + c, type, xr[c] * rstd[r] * w[c]);
    }
}

static void rmsnorm_backward(float *dx, float *dw, const void *dy, const float *x, const float *w,
                             const float *rstd, int64_t rows, int64_t C, eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < C; c++) {
            float xh = x[r * C + c] * rstd[r], d = get(dy, r * C + c, type);
            dw[c] += d * xh;
            sum += d * w[c] * xh;
        }
        if (!dx) continue;
        float mean = (float)(sum / (double)C);
        for (int64_t c = 0; c < C; c++) {
            float xh = x[r * C + c] * rstd[r], p = get(dy, r * C + c, type) * w[c];
            dx[r * C + c] += rstd[r] * (p - xh * mean);
        }
    }
}

static void rope(void *x, int64_t ld, const float *c, const float *s, int64_t rows, int64_t heads,
                 int64_t D, float sign, eq_dtype type)
{
    const int64_t half = D / 2;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t h = 0; h < heads; h++) {
            void *head = at(x, r * ld + h * D, type);
            for (int64_t i = 0; i < half; i++) {
                float a = get(head, i, type), b = get(head, i + half, type);
                float cosine = c[r * half + i], sine = sign * s[r * half + i];
                put(head, i, type, a * cosine - b * sine);
                put(head, i + half, type, b * cosine + a * sine);
            }
        }
    }
}

static float sigmoid(float a)
{
    return 1 / (1 + expf(-a));
}

static void swiglu_forward(void *y, const void *gu, int64_t rows, int64_t F, eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        const void *gate = at_const(gu, 2 * r * F, type), *up = at_const(gate, F, type);
        for (int64_t f = 0; f < F; f++) {
            float a = get(gate, f, type);
            put(y, r * F + f, type, a * sigmoid(a) * get(up, f, type));
        }
    }
}

static void swiglu_backward(void *gu, void *y, const void *dy, int64_t rows, int64_t F,
                            eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        void *gate = at(gu, 2 * r * F, type), *up = at(gate, F, type);
        for (int64_t f = 0; f < F; f++) {
            float a = get(gate, f, type), u = get(up, f, type), d = get(dy, r * F + f, type);
            float g = sigmoid(a);
            if (y) put(y, r * F + f, type, a * g * u);
            put(gate, f, type, d * u * (g * (1 + a * (1 - g))));
            put(up, f, type, d * (a * g));
        }
    }
}

static void softmax_causal(void *p, float *lse, const float *s, const eq_causal *tile)
{
    const int64_t ld = tile->ld, rows = tile->rows, cols = tile->cols, first = tile->first;
    const float scale = tile->scale;
    const eq_dtype type = tile->type;
    for (int64_t r = 0; r < rows; r++) {
        const float *sr = s + r * ld;
        const int64_t seen = first + r + 1;
        float largest = scale * sr[0];
        for (int64_t j = 1; j < seen; j++)
            largest = fmaxf(largest, scale * sr[j]);
        double sum = 0;
        for (int64_t j = 0; j < seen; j++)
            sum += expf(scale * sr[j] - largest);
        float total = largest + logf((float)sum);
        if (lse) lse[r] = total;
        for (int64_t j = 0; j < seen; j++)
            put(p, r * ld + j, type, expf(scale * sr[j] - total));
        for (int64_t j = seen; j < cols; j++)
            put(p, r * ld + j, type, 0);
    }
}

static void softmax_causal_backward(void *p, void *ds, const float *s, const float *dp,
                                    const float *lse, const float *delta, const eq_causal *tile)
{
    const int64_t ld = tile->ld, rows = tile->rows, cols = tile->cols, first = tile->first;
    const float scale = tile->scale;
    const eq_dtype type = tile->type;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < cols; j++) {
            bool seen = j <= first + r;
            float pj = seen ? expf(scale * s[r * ld + j] - lse[r]) : 0;
            float dj = seen ? scale * pj * (dp[r * ld + j] - delta[r]) : 0;
            put(p, r * ld + j, type, pj);
            put(ds, r * ld + j, type, dj);
        }
    }
}

/* s becomes exp(s - its largest), n elements; returns their sum. lse as in kernels.h. */
static double weigh(float *s, int64_t n, float *lse)
{
    float most = -INFINITY;
    for (int64_t j = 0; j < n; j++)
        most = s[j] > most ? s[j] : most;
    double total = 0;
    for (int64_t j = 0; j < n; j++) {
        s[j] = expf(s[j] - most);
        total += s[j];
    }
    if (lse) *lse = most + (float)log(total);
    return total;
}

static void attend(void *out, float *lse, const void *q, const void *k, const void *v,
                   float *scratch, const eq_attend *shape)
{
    const int64_t D = shape->D, keys = shape->keys;
    const eq_dtype type = shape->type;
    for (int64_t h = 0; h < shape->heads; h++) {
        for (int64_t j = 0; j < keys; j++) {
            double sum = 0;
            for (int64_t d = 0; d < D; d++) {
                int64_t at = (j / EQ_KEY_BLOCK * D + d) * EQ_KEY_BLOCK + j % EQ_KEY_BLOCK;
                sum += get(q, h * D + d, type) * get(k, at, type);
            }
            scratch[j] = shape->scale * (float)sum;
        }
        const double total = weigh(scratch, keys, lse ? lse + h : NULL);
        for (int64_t d = 0; d < D; d++) {
            double sum = 0;
            for (int64_t j = 0; j < keys; j++)
                sum += scratch[j] * get(v, j * D + d, type);
            put(out, h * D + d, shape->result, (float)(sum / total));
        }
    }
}

static void attend_packed(void *out, float *lse, const void *q, const eq_kv *kv, float *scratch,
                          const eq_attend *shape)
{
    const int64_t D = shape->D, keys = shape->keys;
    float *key = scratch + keys;
    for (int64_t h = 0; h < shape->heads; h++) {
        for (int64_t j = 0; j < keys; j++) {
            const eq_kv_row row = eq_kv_key(kv, j, D);
            double score = 0;
            kv_unpack(key, &row, D, kv->bits, EQ_F32);
            if (kv->bits == 4)
                rope(key, D, kv->cosine + j * (D / 2), kv->sine + j * (D / 2), 1, 1, D, 1, EQ_F32);
            for (int64_t d = 0; d < D; d++)
                score += get(q, h * D + d, shape->type) * key[d];
            scratch[j] = shape->scale * (float)score;
        }
        const double total = weigh(scratch, keys, lse ? lse + h : NULL);
        for (int64_t d = 0; d < D; d++) {
            double sum = 0;
            for (int64_t j = 0; j < keys; j++) {
                const eq_kv_row row = eq_kv_value(kv, j, D);
                sum += scratch[j] * kv_element(&row, d, D, kv->bits);
            }
            put(out, h * D + d, shape->result, (float)(sum / total));
        }
    }
}

static void dot_rows(float *out, int64_t stride, const void *a, int64_t lda, const void *b,
                     int64_t ldb, int64_t rows, int64_t n, eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < n; c++)
            sum += get(a, r * lda + c, type) * get(b, r * ldb + c, type);
        out[r * stride] = (float)sum;
    }
}

static void fakequant_backward(float *dy, float *ds, float *dz, const float *w, const float *s,
                               const float *z, const eq_quant_shape *shape)
{
    const int64_t g = shape->g, groups = shape->K / g;
    const float Q = levels(shape);
    const float edge = shape->edges_clipped ? 0.5f : 0; /* codes are whole numbers */
    for (int64_t k = 0; k < groups; k++) {
        const float scale = eq_clamp_scale(s[k], shape);
        const zero_point zero = zero_of(z[k], shape);
        double sum_s = 0, sum_z = 0;
        for (int64_t i = k * g; i < (k + 1) * g; i++) {
            float u = w[i] / scale, v = rintf(u + zero.before) + zero.after;
            bool below = v<edge, above = v> Q - edge;
            float slope = below ? -zero.z : above ? Q - zero.z : v - zero.z - u;
            sum_s += dy[i] * slope;
            if (!below && !above) continue;
            sum_z -= dy[i] * scale;
            dy[i] = 0;
        }
        ds[k] += (float)sum_s;
        dz[k] += (float)sum_z;
    }
}

/* sum_i h[i] (w^[i] - w[i])^2 / s^2, added up from front to back: this order is part of the
 * definition, so that every instruction set finds the same start values. */
static float search_loss(const float *w, const float *h, int64_t g, float s, float zero, float Q)
{
    const float inverse = 1 / s, low = -zero, high = Q - zero;
    float loss = 0;
    for (int64_t i = 0; i < g; i++) {
        float u = w[i] * inverse, r = rintf(u);
        float d = (r < low ? low : r > high ? high : r) - u;
        loss += h[i] * (d * d);
    }
    return loss;
}

static float start_search(float *s, float *z, const float *w, const float *h,
                          const eq_start_search *search)
{
    const search_range range = search_bounds(w, search);
    float least = INFINITY;
    *s = search_scale(search, range.scale, 0);
    *z = (float)range.first;
    for (int64_t i = 0; i < search_count(search); i++) {
        float scale = search_scale(search, range.scale, i);
        for (int zero = range.first; zero <= range.last; zero++) {
            float loss =
                search_loss(w, h, search->shape.g, scale, (float)zero, levels(&search->shape));
            loss *= scale * scale;
            if (!(loss < least)) continue;
            least = loss;
            *s = scale;
            *z = (float)zero;
        }
    }
    return least;
}

static void dequantize(void *y, const uint8_t *codes, const float *s, const void *z,
                       const eq_quant_shape *shape, eq_dtype type)
{
    for (int64_t i = 0; i < shape->K; i++) {
        int64_t k = i / shape->g;
        float q = (float)eq_codes_get(codes, i, shape->bits);
        put(y, i, type, (q - frozen_zero(z, k, shape)) * s[k]);
    }
}

static void scale_gradient(float *ds, const float *dy, const uint8_t *codes, const void *z,
                           const eq_quant_shape *shape)
{
    for (int64_t k = 0; k < shape->K / shape->g; k++) {
        const float zero = frozen_zero(z, k, shape);
        double sum = 0;
        for (int64_t i = k * shape->g; i < (k + 1) * shape->g; i++)
            sum += dy[i] * ((float)eq_codes_get(codes, i, shape->bits) - zero);
        ds[k] += (float)sum;
    }
}

static void softmax_error(void *out, const float *x, const float *r, int64_t n,
                          const eq_softmax_error *e, eq_dtype type)
{
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        if (e->a != 0) sum += e->a * expf(x[i] - e->lx);
        if (e->b != 0) sum -= e->b * expf(r[i] - e->lr);
        if (e->c != 0) sum += e->c * expf(e->sharp * x[i] - e->ls);
        put(out, i, type, sum);
    }
}

static float error_row(float *dy, const float *y, const void *t, float weight, int64_t C,
                       eq_dtype type)
{
    double sum = 0;
    for (int64_t c = 0; c < C; c++) {
        float d = y[c] - get(t, c, type);
        dy[c] = weight * d;
        sum += d * d;
    }
    return (float)sum;
}

static float logsumexp(const float *x, int64_t n, int64_t *argmax)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += expf(x[i] - x[best]);
    *argmax = best;
    return x[best] + logf((float)sum);
}

static float kl_row(const float *r, float lr, const float *x, float lx, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        float a = r[i] - lr, b = x[i] - lx;
        sum += expf(a) * (a - b);
    }
    return (float)sum;
}

const eq_kernels eq_kernels_ref = {
    .name = "ref",
#include "kernels/table_entries.h"
};
