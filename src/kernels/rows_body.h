/* SIMD forms of the kernels on rows of activations, for the vectors of vec.h. */
#ifndef EQ_KERNELS_ROWS_BODY_H
#define EQ_KERNELS_ROWS_BODY_H

#include "kernels/vec.h"

/* Four sums at a time, because one would wait for the latency of the addition. */
VEC float dot(const void *a, const void *b, int64_t n, eq_dtype type)
{
    vec sum[4] = {v_set(0), v_set(0), v_set(0), v_set(0)};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        for (int k = 0; k < 4; k++) {
            int64_t j = i + k * LANES;
            sum[k] = v_fma(v_get(a, j, type, ALL), v_get(b, j, type, ALL), sum[k]);
        }
    }
    for (; i < n; i += LANES) {
        part m = v_part(n - i);
        sum[0] = v_fma(v_get(a, i, type, m), v_get(b, i, type, m), sum[0]);
    }
    return v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

static float sum_squares(const void *x, int64_t C, eq_dtype type)
{
    return type == EQ_F32 ? dot(x, x, C, EQ_F32) : dot(x, x, C, EQ_BF16);
}

static void dot_rows(float *out, int64_t stride, const void *a, int64_t lda, const void *b,
                     int64_t ldb, int64_t rows, int64_t n, eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        const void *ar = at_const(a, r * lda, type), *br = at_const(b, r * ldb, type);
        out[r * stride] = type == EQ_F32 ? dot(ar, br, n, EQ_F32) : dot(ar, br, n, EQ_BF16);
    }
}

static void rmsnorm_forward(void *y, float *rstd, const float *x, const float *w, int64_t rows,
                            int64_t C, float eps, eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *xr = x + r * C;
        rstd[r] = 1 / sqrtf(dot(xr, xr, C, EQ_F32) / (float)C + eps);
        for (int64_t c = 0; c < C; c += LANES) {
            part m = v_part(C - c);
            vec xh = v_mul(v_load(xr + c, m), v_set(rstd[r]));
            v_put(y, r * C + c, type, v_mul(xh, v_load(w + c, m)), m);
        }
    }
}

static void rmsnorm_backward(float *dx, float *dw, const void *dy, const float *x, const float *w,
                             const float *rstd, int64_t rows, int64_t C, eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        const vec scale = v_set(rstd[r]);
        vec sum = v_set(0);
        for (int64_t c = 0; c < C; c += LANES) {
            part m = v_part(C - c);
            vec xh = v_mul(v_load(x + r * C + c, m), scale), d = v_get(dy, r * C + c, type, m);
            v_store(dw + c, v_fma(d, xh, v_load(dw + c, m)), m);
            sum = v_fma(v_mul(d, v_load(w + c, m)), xh, sum);
        }
        if (!dx) continue;
        const vec mean = v_set(v_sum(sum) / (float)C);
        for (int64_t c = 0; c < C; c += LANES) {
            part m = v_part(C - c);
            vec xh = v_mul(v_load(x + r * C + c, m), scale);
            vec p = v_mul(v_get(dy, r * C + c, type, m), v_load(w + c, m));
            vec change = v_mul(scale, v_sub(p, v_mul(xh, mean)));
            v_store(dx + r * C + c, v_add(v_load(dx + r * C + c, m), change), m);
        }
    }
}

VEC void rope_head(void *head, const float *c, const float *s, int64_t half, float sign,
                   eq_dtype type)
{
    for (int64_t i = 0; i < half; i += LANES) {
        part m = v_part(half - i);
        vec a = v_get(head, i, type, m), b = v_get(head, i + half, type, m);
        vec cosine = v_load(c + i, m), sine = v_mul(v_set(sign), v_load(s + i, m));
        v_put(head, i, type, v_fms(a, cosine, v_mul(b, sine)), m);
        v_put(head, i + half, type, v_fma(b, cosine, v_mul(a, sine)), m);
    }
}

static void rope(void *x, int64_t ld, const float *c, const float *s, int64_t rows, int64_t heads,
                 int64_t D, float sign, eq_dtype type)
{
    const int64_t half = D / 2;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++)
            rope_head(at(x, r * ld + h * D, type), c + r * half, s + r * half, half, sign, type);
}

static void swiglu_forward(void *y, const void *gu, int64_t rows, int64_t F, eq_dtype type)
{
    for (int64_t r = 0; r < rows; r++) {
        const void *gate = at_const(gu, 2 * r * F, type), *up = at_const(gate, F, type);
        for (int64_t f = 0; f < F; f += LANES) {
            part m = v_part(F - f);
            vec a = v_get(gate, f, type, m), u = v_get(up, f, type, m);
            v_put(y, r * F + f, type, v_mul(v_mul(a, v_sigmoid(a)), u), m);
        }
    }
}

static void swiglu_backward(void *gu, void *y, const void *dy, int64_t rows, int64_t F,
                            eq_dtype type)
{
    const vec one = v_set(1);
    for (int64_t r = 0; r < rows; r++) {
        void *gate = at(gu, 2 * r * F, type), *up = at(gate, F, type);
        for (int64_t f = 0; f < F; f += LANES) {
            part m = v_part(F - f);
            vec a = v_get(gate, f, type, m), u = v_get(up, f, type, m);
            vec d = v_get(dy, r * F + f, type, m), g = v_sigmoid(a), silu = v_mul(a, g);
            if (y) v_put(y, r * F + f, type, v_mul(silu, u), m);
            vec slope = v_mul(g, v_fma(a, v_sub(one, g), one));
            v_put(gate, f, type, v_mul(v_mul(d, u), slope), m);
            v_put(up, f, type, v_mul(d, silu), m);
        }
    }
}

/* The largest of scale * x[i]. */
VEC float largest(const float *x, int64_t n, float scale)
{
    const vec lowest = v_set(-INFINITY), factor = v_set(scale);
    vec most = lowest;
    for (int64_t i = 0; i < n; i += LANES) {
        part m = v_part(n - i);
        most = v_max(most, v_fill(m, v_mul(factor, v_load(x + i, m)), lowest));
    }
    return v_largest(most);
}

/* sum_i exp(scale * x[i] - shift). */
VEC float sum_exp(const float *x, int64_t n, float scale, float shift)
{
    const vec factor = v_set(scale), offset = v_set(shift), nothing = v_set(0);
    vec sum = nothing;
    for (int64_t i = 0; i < n; i += LANES) {
        part m = v_part(n - i);
        vec e = v_exp(v_fms(factor, v_load(x + i, m), offset));
        sum = v_add(sum, v_fill(m, e, nothing));
    }
    return v_sum(sum);
}

VEC void put_zeros(void *x, int64_t from, int64_t to, eq_dtype type)
{
    for (int64_t i = from; i < to; i += LANES)
        v_put(x, i, type, v_set(0), v_part(to - i));
}

static void softmax_causal(void *p, float *lse, const float *s, const eq_causal *tile)
{
    const int64_t ld = tile->ld, rows = tile->rows, cols = tile->cols, first = tile->first;
    const float scale = tile->scale;
    const eq_dtype type = tile->type;
    const vec factor = v_set(scale);
    for (int64_t r = 0; r < rows; r++) {
        const float *sr = s + r * ld;
        void *pr = at(p, r * ld, type);
        const int64_t seen = first + r + 1;
        float most = largest(sr, seen, scale);
        float total = most + logf(sum_exp(sr, seen, scale, most));
        if (lse) lse[r] = total;
        for (int64_t j = 0; j < seen; j += LANES) {
            part m = v_part(seen - j);
            vec e = v_exp(v_fms(factor, v_load(sr + j, m), v_set(total)));
            v_put(pr, j, type, e, m);
        }
        put_zeros(pr, seen, cols, type);
    }
}

static void softmax_causal_backward(void *p, void *ds, const float *s, const float *dp,
                                    const float *lse, const float *delta, const eq_causal *tile)
{
    const int64_t ld = tile->ld, rows = tile->rows, cols = tile->cols, first = tile->first;
    const float scale = tile->scale;
    const eq_dtype type = tile->type;
    const vec factor = v_set(scale);
    for (int64_t r = 0; r < rows; r++) {
        void *pr = at(p, r * ld, type), *dr = at(ds, r * ld, type);
        const vec total = v_set(lse[r]), mean = v_set(delta[r]);
        const int64_t seen = first + r + 1;
        for (int64_t j = 0; j < seen; j += LANES) {
            part m = v_part(seen - j);
            vec e = v_exp(v_fms(factor, v_load(s + r * ld + j, m), total));
            vec d = v_sub(v_load(dp + r * ld + j, m), mean);
            v_put(pr, j, type, e, m);
            v_put(dr, j, type, v_mul(v_mul(factor, e), d), m);
        }
        put_zeros(pr, seen, cols, type);
        put_zeros(dr, seen, cols, type);
    }
}

/* Heads that attend together, so that keys and values are read once, and vectors of values at a
 * time: as many sums as there are registers for. */
enum { SHARED = 4, VALUES = LANES == 16 ? 4 : 2, KEYS = 2 };

/* Elements of a cache. EQ_U8 stands for codes in 8 bits: signed, and all lanes are read. */
VEC vec v_kept(const void *x, int64_t i, eq_dtype type, part m)
{
    return type == EQ_U8 ? v_load_i8((const char *)x + i) : v_get(x, i, type, m);
}

/* s[h][j] = q[h] . k[j] for a block of keys. */
VEC void score_block(float *s, int64_t ld, const float *q, const void *k, int64_t D, int heads,
                     eq_dtype type)
{
    for (int from = 0; from < EQ_KEY_BLOCK; from += KEYS * LANES) {
        vec sum[SHARED][KEYS];
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < KEYS; i++)
                sum[h][i] = v_set(0);
        for (int64_t d = 0; d < D; d++) {
            for (int i = 0; i < KEYS; i++) {
                const vec key = v_kept(k, d * EQ_KEY_BLOCK + from + i * LANES, type, ALL);
                for (int h = 0; h < heads; h++)
                    sum[h][i] = v_fma(v_set(q[h * D + d]), key, sum[h][i]);
            }
        }
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < KEYS; i++)
                v_store(s + h * ld + from + i * LANES, sum[h][i], ALL);
    }
}

/* Columns d .. of out[h] = factor[h] sum_j p[h][j] v[j], `count` vectors; m: lanes of the last;
 * type: of v. */
VEC void mix_columns(void *out, const float *p, int64_t ld, const float *factor, const void *v,
                     int64_t d, const eq_attend *shape, int heads, int count, part m, eq_dtype type)
{
    const int64_t D = shape->D;
    vec sum[SHARED][VALUES];
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < count; i++)
            sum[h][i] = v_set(0);
    for (int64_t j = 0; j < shape->keys; j++) {
        for (int i = 0; i < count; i++) {
            const vec value = v_kept(v, j * D + d + i * LANES, type, i == count - 1 ? m : ALL);
            for (int h = 0; h < heads; h++)
                sum[h][i] = v_fma(v_set(p[h * ld + j]), value, sum[h][i]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < count; i++)
            v_put(out, h * D + d + i * LANES, shape->result, v_mul(v_set(factor[h]), sum[h][i]),
                  i == count - 1 ? m : ALL);
}

/* All columns. */
VEC void mix_values(void *out, const float *p, int64_t ld, const float *factor, const void *v,
                    const eq_attend *shape, int heads, eq_dtype type)
{
    int64_t d = 0;
    for (; d + VALUES * LANES <= shape->D; d += VALUES * LANES)
        mix_columns(out, p, ld, factor, v, d, shape, heads, VALUES, ALL, type);
    for (; d < shape->D; d += LANES)
        mix_columns(out, p, ld, factor, v, d, shape, heads, 1, v_part(shape->D - d), type);
}

/* Queries as f32, n elements. */
VEC void load_queries(float *queries, const void *q, int64_t n, eq_dtype type)
{
    for (int64_t i = 0; i < n; i += LANES) {
        part m = v_part(n - i);
        v_store(queries + i, v_get(q, i, type, m), m);
    }
}

/* s[j] becomes exp(scale s[j] - its largest); returns 1 / their sum. lse as in kernels.h. */
VEC float weigh(float *s, int64_t n, float scale, float *lse)
{
    const float top = largest(s, n, scale);
    const vec factor = v_set(scale), most = v_set(top), nothing = v_set(0);
    vec sum = nothing;
    for (int64_t j = 0; j < n; j += LANES) {
        part m = v_part(n - j);
        vec e = v_exp(v_fms(factor, v_load(s + j, m), most));
        v_store(s + j, e, m);
        sum = v_add(sum, v_fill(m, e, nothing));
    }
    const float total = v_sum(sum);
    if (lse) *lse = top + logf(total);
    return 1 / total;
}

VEC void attend_heads(void *out, float *lse, const void *q, const void *k, const void *v,
                      float *scratch, const eq_attend *shape, int heads, eq_dtype type)
{
    const int64_t D = shape->D, room = eq_key_room(shape->keys);
    float *queries = scratch + heads * room, factor[SHARED];
    load_queries(queries, q, heads * D, type);
    for (int64_t j = 0; j < room; j += EQ_KEY_BLOCK)
        score_block(scratch + j, room, queries, at_const(k, j * D, type), D, heads, type);
    for (int h = 0; h < heads; h++)
        factor[h] = weigh(scratch + h * room, shape->keys, shape->scale, lse ? lse + h : NULL);
    mix_values(out, scratch, room, factor, v, shape, heads, type);
}

/* The number of heads and the type are constants in each call. */
VEC void attend_type(void *out, float *lse, const void *q, const void *k, const void *v,
                     float *scratch, const eq_attend *shape, eq_dtype type)
{
    for (int64_t h = 0; h < shape->heads; h += SHARED) {
        const void *qh = at_const(q, h * shape->D, type);
        void *oh = at(out, h * shape->D, shape->result);
        float *lh = lse ? lse + h : NULL;
        int64_t left = shape->heads - h;
        if (left >= 4)
            attend_heads(oh, lh, qh, k, v, scratch, shape, 4, type);
        else if (left == 3)
            attend_heads(oh, lh, qh, k, v, scratch, shape, 3, type);
        else if (left == 2)
            attend_heads(oh, lh, qh, k, v, scratch, shape, 2, type);
        else
            attend_heads(oh, lh, qh, k, v, scratch, shape, 1, type);
    }
}

static void attend(void *out, float *lse, const void *q, const void *k, const void *v,
                   float *scratch, const eq_attend *shape)
{
    if (shape->type == EQ_F32)
        attend_type(out, lse, q, k, v, scratch, shape, EQ_F32);
    else
        attend_type(out, lse, q, k, v, scratch, shape, EQ_BF16);
}

/* The terms are constants in each caller. */
VEC void softmax_error_terms(void *out, const float *x, const float *r, int64_t n,
                             const eq_softmax_error *e, eq_dtype type, bool teacher, bool sharp)
{
    const vec lx = v_set(e->lx), lr = v_set(e->lr), ls = v_set(e->ls);
    const vec a = v_set(e->a), b = v_set(e->b), c = v_set(e->c), factor = v_set(e->sharp);
    for (int64_t i = 0; i < n; i += LANES) {
        part m = v_part(n - i);
        const vec logits = v_load(x + i, m);
        vec sum = v_mul(a, v_exp(v_sub(logits, lx)));
        if (teacher) sum = v_sub(sum, v_mul(b, v_exp(v_sub(v_load(r + i, m), lr))));
        if (sharp) sum = v_fma(c, v_exp(v_fms(factor, logits, ls)), sum);
        v_put(out, i, type, sum, m);
    }
}

VEC void softmax_error_type(void *out, const float *x, const float *r, int64_t n,
                            const eq_softmax_error *e, eq_dtype type)
{
    if (e->b != 0 && e->c != 0)
        softmax_error_terms(out, x, r, n, e, type, true, true);
    else if (e->b != 0)
        softmax_error_terms(out, x, r, n, e, type, true, false);
    else
        softmax_error_terms(out, x, r, n, e, type, false, e->c != 0);
}

static void softmax_error(void *out, const float *x, const float *r, int64_t n,
                          const eq_softmax_error *e, eq_dtype type)
{
    if (type == EQ_F32)
        softmax_error_type(out, x, r, n, e, EQ_F32);
    else
        softmax_error_type(out, x, r, n, e, EQ_BF16);
}

static float error_row(float *dy, const float *y, const void *t, float weight, int64_t C,
                       eq_dtype type)
{
    vec sum = v_set(0);
    for (int64_t c = 0; c < C; c += LANES) {
        part m = v_part(C - c);
        vec d = v_sub(v_load(y + c, m), v_get(t, c, type, m));
        v_store(dy + c, v_mul(v_set(weight), d), m);
        sum = v_fma(d, d, sum);
    }
    return v_sum(sum);
}

static float logsumexp(const float *x, int64_t n, int64_t *argmax)
{
    const float most = largest(x, n, 1);
    int64_t i = 0, best = 0;
    while (i + LANES <= n && !v_any(v_equal(v_load(x + i, ALL), v_set(most))))
        i += LANES;
    for (; i < n; i++) {
        if (x[i] != most) continue;
        best = i;
        break;
    }
    *argmax = best;
    return most + logf(sum_exp(x, n, 1, most));
}

static float kl_row(const float *r, float lr, const float *x, float lx, int64_t n)
{
    const vec nothing = v_set(0);
    vec sum = nothing;
    for (int64_t i = 0; i < n; i += LANES) {
        part m = v_part(n - i);
        vec a = v_sub(v_load(r + i, m), v_set(lr)), b = v_sub(v_load(x + i, m), v_set(lx));
        sum = v_add(sum, v_fill(m, v_mul(v_exp(a), v_sub(a, b)), nothing));
    }
    return v_sum(sum);
}

#endif
