/* SIMD forms of attention over packed keys and values (tensor/kv.h), for the vectors of vec.h.
 * Codes are multiplied as they are; scales come in where they cost least. */
#ifndef EQ_KERNELS_KV_BODY_H
#define EQ_KERNELS_KV_BODY_H

#include "kernels/kv_loops.h"
#include "kernels/rows_body.h"

/* Vectors of bytes of values in 4 bits at a time; each has two of elements. */
enum { NIBBLES = LANES == 16 ? 2 : 1 };

/* s[h][j] *= grid[j], n elements of each head. */
VEC void scale_rows(float *s, int64_t ld, const uint16_t *grid, int64_t n, int heads)
{
    for (int64_t j = 0; j < n; j += LANES) {
        part m = v_part(n - j);
        const vec scale = v_load_f16(grid + j, m);
        for (int h = 0; h < heads; h++)
            v_store(s + h * ld + j, v_mul(scale, v_load(s + h * ld + j, m)), m);
    }
}

VEC void attend_8bit(void *out, float *lse, const void *q, const eq_kv *kv, float *scratch,
                     const eq_attend *shape, int heads, eq_dtype type)
{
    const int64_t D = shape->D, keys = shape->keys, room = eq_key_room(keys);
    float *queries = scratch + heads * room, factor[SHARED];
    load_queries(queries, q, heads * D, type);
    for (int64_t j = 0; j < room; j += EQ_KEY_BLOCK)
        score_block(scratch + j, room, queries, kv->keys + j * D, D, heads, EQ_U8);
    scale_rows(scratch, room, kv->key_grids, keys, heads);
    for (int h = 0; h < heads; h++)
        factor[h] = weigh(scratch + h * room, keys, shape->scale, lse ? lse + h : NULL);
    scale_rows(scratch, room, kv->value_grids, keys, heads);
    mix_values(out, scratch, room, factor, kv->values, shape, heads, EQ_U8);
}

/* ---- 4 bits -------------------------------------------------------------------------------- */

/* A key at position b + r, b the first of its block, is R(b) R(r) k: with queries turned back by
 * R(b), only R(r) is left for its elements, the same tables for all blocks. */
VEC void turn_queries(float *turned, const float *queries, const eq_kv *kv, int64_t b, int64_t D,
                      int heads)
{
    const int64_t half = D / 2;
    memcpy(turned, queries, (size_t)(heads * D) * sizeof *turned);
    for (int h = 0; h < heads; h++)
        rope_head(turned + h * D, kv->cosine + b * half, kv->sine + b * half, half, -1, EQ_F32);
}

/* s[h][j] = q[h] . k[j] for a block of keys in 4 bits, q turned back to its start. */
VEC void score_nibbles(float *s, int64_t ld, const float *q, const eq_kv *kv, int64_t block,
                       int64_t D, int heads)
{
    const int64_t half = D / 2;
    const uint8_t *codes = kv->keys + block * half;
    const uint16_t *grid = kv->key_grids + block * 4;
    for (int from = 0; from < EQ_KEY_BLOCK; from += LANES) {
        const vec s0 = v_load_f16(grid + from, ALL);
        const vec s1 = v_load_f16(grid + EQ_KEY_BLOCK + from, ALL);
        const vec m0 = v_load_f16(grid + 2 * EQ_KEY_BLOCK + from, ALL);
        const vec m1 = v_load_f16(grid + 3 * EQ_KEY_BLOCK + from, ALL);
        vec sum[SHARED][2];
        for (int h = 0; h < heads; h++)
            sum[h][0] = sum[h][1] = v_set(0);
        for (int64_t i = 0; i < half; i++) {
            const int64_t at = i * EQ_KEY_BLOCK + from;
            const vec a = v_fma(s0, v_load_low(codes + at), m0);
            const vec b = v_fma(s1, v_load_high(codes + at), m1);
            const vec c = v_load(kv->turn_cosine + at, ALL), d = v_load(kv->turn_sine + at, ALL);
            const vec x = v_fms(a, c, v_mul(b, d)), y = v_fma(b, c, v_mul(a, d));
            for (int h = 0; h < heads; h++) {
                sum[h][0] = v_fma(v_set(q[h * D + i]), x, sum[h][0]);
                sum[h][1] = v_fma(v_set(q[h * D + half + i]), y, sum[h][1]);
            }
        }
        for (int h = 0; h < heads; h++)
            v_store(s + h * ld + from, v_add(sum[h][0], sum[h][1]), ALL);
    }
}

/* What mixes values in 4 bits: p times the scales of both halves, and sums of p times their least
 * values. */
typedef struct halves {
    const float *p[2]; /* [heads, ld] each */
    int64_t ld;
    float least[SHARED][2], factor[SHARED];
} halves;

/* w->p[0] holds p, and room for as much is behind it. */
VEC void split_weights(halves *w, float *p, const uint16_t *grids, int64_t keys, int heads)
{
    for (int h = 0; h < heads; h++) {
        float *first = p + h * w->ld, *second = first + heads * w->ld;
        vec least[2] = {v_set(0), v_set(0)};
        for (int64_t j = 0; j < keys; j += LANES) {
            part m = v_part(keys - j);
            const uint16_t *grid = grids + j / EQ_KEY_BLOCK * 4 * EQ_KEY_BLOCK + j % EQ_KEY_BLOCK;
            const vec weight = v_load(first + j, m);
            for (int i = 0; i < 2; i++)
                least[i] = v_fma(weight, v_load_f16(grid + (2 + i) * EQ_KEY_BLOCK, m), least[i]);
            v_store(second + j, v_mul(weight, v_load_f16(grid + EQ_KEY_BLOCK, m)), m);
            v_store(first + j, v_mul(weight, v_load_f16(grid, m)), m);
        }
        w->least[h][0] = v_sum(least[0]);
        w->least[h][1] = v_sum(least[1]);
    }
    w->p[0] = p;
    w->p[1] = p + heads * w->ld;
}

/* Columns i .. of both halves, `count` vectors of each; m: lanes of the last. */
VEC void mix_nibbles(void *out, const halves *w, const uint8_t *v, int64_t i,
                     const eq_attend *shape, int heads, int count, part m)
{
    const int64_t D = shape->D, half = D / 2;
    vec sum[SHARED][NIBBLES][2];
    for (int h = 0; h < heads; h++)
        for (int k = 0; k < count; k++)
            sum[h][k][0] = sum[h][k][1] = v_set(0);
    for (int64_t j = 0; j < shape->keys; j++) {
        for (int k = 0; k < count; k++) {
            const uint8_t *codes = v + j * half + i + k * LANES;
            const vec low = v_load_low(codes), high = v_load_high(codes);
            for (int h = 0; h < heads; h++) {
                sum[h][k][0] = v_fma(v_set(w->p[0][h * w->ld + j]), low, sum[h][k][0]);
                sum[h][k][1] = v_fma(v_set(w->p[1][h * w->ld + j]), high, sum[h][k][1]);
            }
        }
    }
    for (int h = 0; h < heads; h++) {
        const vec factor = v_set(w->factor[h]);
        for (int k = 0; k < count; k++) {
            for (int p = 0; p < 2; p++) {
                const vec all = v_add(sum[h][k][p], v_set(w->least[h][p]));
                v_put(out, h * D + p * half + i + k * LANES, shape->result, v_mul(factor, all),
                      k == count - 1 ? m : ALL);
            }
        }
    }
}

VEC void attend_4bit(void *out, float *lse, const void *q, const eq_kv *kv, float *scratch,
                     const eq_attend *shape, int heads, eq_dtype type)
{
    const int64_t D = shape->D, half = D / 2, room = eq_key_room(shape->keys);
    float *queries = scratch + 2 * heads * room, *turned = queries + heads * D;
    halves w = {.ld = room};
    load_queries(queries, q, heads * D, type);
    for (int64_t j = 0; j < room; j += EQ_KEY_BLOCK) {
        turn_queries(turned, queries, kv, j, D, heads);
        score_nibbles(scratch + j, room, turned, kv, j, D, heads);
    }
    for (int h = 0; h < heads; h++)
        w.factor[h] = weigh(scratch + h * room, shape->keys, shape->scale, lse ? lse + h : NULL);
    split_weights(&w, scratch, kv->value_grids, shape->keys, heads);
    int64_t i = 0;
    for (; i + NIBBLES * LANES <= half; i += NIBBLES * LANES)
        mix_nibbles(out, &w, kv->values, i, shape, heads, NIBBLES, ALL);
    for (; i < half; i += LANES)
        mix_nibbles(out, &w, kv->values, i, shape, heads, 1, v_part(half - i));
}

/* The number of heads is a constant in each call. */
VEC void attend_some(void *out, float *lse, const void *q, const eq_kv *kv, float *scratch,
                     const eq_attend *shape, int heads)
{
    if (kv->bits == 8)
        attend_8bit(out, lse, q, kv, scratch, shape, heads, shape->type);
    else
        attend_4bit(out, lse, q, kv, scratch, shape, heads, shape->type);
}

static void attend_packed(void *out, float *lse, const void *q, const eq_kv *kv, float *scratch,
                          const eq_attend *shape)
{
    const eq_attend s = *shape;
    for (int64_t h = 0; h < s.heads; h += SHARED) {
        const void *qh = at_const(q, h * s.D, s.type);
        void *oh = at(out, h * s.D, s.result);
        float *lh = lse ? lse + h : NULL;
        const int64_t left = s.heads - h;
        if (left >= 4)
            attend_some(oh, lh, qh, kv, scratch, &s, 4);
        else if (left == 3)
            attend_some(oh, lh, qh, kv, scratch, &s, 3);
        else if (left == 2)
            attend_some(oh, lh, qh, kv, scratch, &s, 2);
        else
            attend_some(oh, lh, qh, kv, scratch, &s, 1);
    }
}

#endif
