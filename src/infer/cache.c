#include "infer/cache.h"

#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include <math.h>

/* Attention multiplies with a number of keys rounded up to this, so that few product shapes
 * occur. */
enum { GRAIN = 64 };

static int64_t round_up(int64_t n)
{
    return (n + GRAIN - 1) / GRAIN * GRAIN;
}

/* Query heads that share a key-value head. */
static int64_t group_of(const eq_config *c)
{
    return c->H / c->Hkv;
}

int64_t eq_cache_sequence_bytes(const eq_config *c, int64_t room, eq_dtype type)
{
    return 2 * c->L * c->Hkv * round_up(room) * c->D * (int64_t)eq_elem_bytes(type);
}

eq_cache eq_cache_layout(eq_arena *arena, const eq_config *c, const eq_cache_shape *shape,
                         int threads)
{
    eq_cache k = {.config = c, .B = shape->B, .room = round_up(shape->room), .type = shape->type};
    int64_t elems = c->L * k.B * c->Hkv * k.room * c->D;
    k.keys = eq_arena_take(arena, elems, eq_elem_bytes(k.type));
    k.values = eq_arena_take(arena, elems, eq_elem_bytes(k.type));
    /* Scores in f32, and probabilities of the activation type at the same place. */
    k.part = (size_t)(group_of(c) * k.room) * sizeof(float);
    k.scratch = eq_arena_take(arena, threads, k.part);
    return k;
}

/* Bytes before the keys (or values) of one sequence and key-value head. */
static size_t slab_offset(const eq_cache *k, int64_t block, int64_t sequence, int64_t head)
{
    int64_t slab = (block * k->B + sequence) * k->config->Hkv + head;
    return (size_t)(slab * k->room * k->config->D) * eq_elem_bytes(k->type);
}

void eq_cache_put(eq_ctx *ctx, eq_cache *k, int64_t block, int64_t first, int64_t T,
                  const void *qkv)
{
    const eq_config *c = k->config;
    size_t head_bytes = (size_t)c->D * eq_elem_bytes(k->type);
    size_t row_bytes = (size_t)eq_config_qkv(c) * eq_elem_bytes(k->type);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t unit = 0; unit < k->B * c->Hkv; unit++) {
        int64_t b = unit / c->Hkv, kv = unit % c->Hkv;
        size_t to = slab_offset(k, block, b, kv) + (size_t)first * head_bytes;
        const char *from =
            (const char *)qkv + (size_t)(b * T) * row_bytes + (size_t)(c->H + kv) * head_bytes;
        for (int64_t t = 0; t < T; t++, to += head_bytes, from += row_bytes) {
            memcpy(k->keys + to, from, head_bytes);
            memcpy(k->values + to, from + (size_t)c->Hkv * head_bytes, head_bytes);
        }
    }
}

void eq_cache_attend(eq_ctx *ctx, const eq_cache *k, int64_t block, int64_t position, void *out,
                     const void *qkv)
{
    const eq_config *c = k->config;
    int64_t group = group_of(c), keys = round_up(position + 1), D = c->D;
    size_t elem = eq_elem_bytes(k->type);
    float scale = 1.0f / sqrtf((float)D);
    eq_gemm score_shape = eq_gemm_forward(group, keys, D, k->type, EQ_F32);
    eq_gemm mix_shape = eq_gemm_input_gradient(group, keys, D, k->type, k->type);
    const eq_gemm_plan *scores = eq_gemm_prepare(ctx, &score_shape);
    const eq_gemm_plan *mix = eq_gemm_prepare(ctx, &mix_shape);
    if (!scores || !mix) return;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t unit = 0; unit < k->B * c->Hkv; unit++) {
        int64_t b = unit / c->Hkv, kv = unit % c->Hkv;
        size_t slab = slab_offset(k, block, b, kv);
        float *s = (float *)(void *)(k->scratch + (size_t)eq_this_thread() * k->part);
        const char *q = (const char *)qkv + (size_t)(b * eq_config_qkv(c) + kv * group * D) * elem;
        eq_gemm_serial(ctx, scores, eq_this_thread(), s, q, k->keys + slab);
        const eq_causal tile = {1, keys, keys, position, scale, k->type};
        /* In place, and in bf16 a row of p is half as long as one of s: ascending rows never
         * meet. */
        for (int64_t h = 0; h < group; h++)
            ctx->kernels->softmax_causal((char *)s + (size_t)(h * keys) * elem, NULL, s + h * keys,
                                         &tile);
        char *o = (char *)out + (size_t)((b * c->H + kv * group) * D) * elem;
        eq_gemm_serial(ctx, mix, eq_this_thread(), o, s, k->values + slab);
    }
}
