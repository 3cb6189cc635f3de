#include "infer/cache.h"

#include "kernels/kernels.h"
#include <math.h>

/* Query heads that share a key-value head. */
static int64_t group_of(const eq_config *c)
{
    return c->H / c->Hkv;
}

int64_t eq_cache_sequence_bytes(const eq_config *c, int64_t room, eq_dtype type)
{
    return 2 * c->L * c->Hkv * eq_key_room(room) * c->D * (int64_t)eq_elem_bytes(type);
}

eq_cache eq_cache_layout(eq_arena *arena, const eq_config *c, const eq_cache_shape *shape,
                         int threads)
{
    eq_cache k = {
        .config = c, .B = shape->B, .room = eq_key_room(shape->room), .type = shape->type};
    int64_t elems = c->L * k.B * c->Hkv * k.room * c->D;
    k.keys = eq_arena_take(arena, elems, eq_elem_bytes(k.type));
    k.values = eq_arena_take(arena, elems, eq_elem_bytes(k.type));
    k.part = (size_t)(group_of(c) * (k.room + c->D)) * sizeof(float);
    k.scratch = eq_arena_take(arena, threads, k.part);
    return k;
}

/* Bytes before the keys (or values) of one sequence and key-value head. */
static size_t slab_offset(const eq_cache *k, int64_t block, int64_t sequence, int64_t head)
{
    int64_t slab = (block * k->B + sequence) * k->config->Hkv + head;
    return (size_t)(slab * k->room * k->config->D) * eq_elem_bytes(k->type);
}

/* One key [D] to its place among the keys of a sequence and head. */
static void put_key(char *keys, int64_t position, const char *from, int64_t D, eq_dtype type)
{
    int64_t at = position / EQ_KEY_BLOCK * EQ_KEY_BLOCK * D + position % EQ_KEY_BLOCK;
    if (type == EQ_F32) {
        float *to = (float *)(void *)keys + at;
        for (int64_t d = 0; d < D; d++)
            to[d * EQ_KEY_BLOCK] = ((const float *)(const void *)from)[d];
    } else {
        uint16_t *to = (uint16_t *)(void *)keys + at;
        for (int64_t d = 0; d < D; d++)
            to[d * EQ_KEY_BLOCK] = ((const uint16_t *)(const void *)from)[d];
    }
}

/* Keep T tokens of sequence b and key-value head kv. */
static void put(eq_cache *k, int64_t block, int64_t b, int64_t kv, int64_t first, int64_t T,
                const char *qkv)
{
    const eq_config *c = k->config;
    size_t head = (size_t)c->D * eq_elem_bytes(k->type);
    size_t row = (size_t)eq_config_qkv(c) * eq_elem_bytes(k->type);
    size_t slab = slab_offset(k, block, b, kv);
    const char *from = qkv + (size_t)(b * T) * row + (size_t)(c->H + kv) * head;
    for (int64_t t = first; t < first + T; t++, from += row) {
        put_key(k->keys + slab, t, from, c->D, k->type);
        memcpy(k->values + slab + (size_t)t * head, from + (size_t)c->Hkv * head, head);
    }
}

void eq_cache_put(eq_ctx *ctx, eq_cache *k, int64_t block, int64_t T, const void *qkv)
{
    int64_t Hkv = k->config->Hkv;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t unit = 0; unit < k->B * Hkv; unit++)
        put(k, block, unit / Hkv, unit % Hkv, 0, T, qkv);
}

void eq_cache_attend(eq_ctx *ctx, eq_cache *k, int64_t block, int64_t position, void *out,
                     const void *qkv)
{
    const eq_config *c = k->config;
    int64_t group = group_of(c), D = c->D;
    size_t elem = eq_elem_bytes(k->type);
    const eq_attend shape = {group, position + 1, D, 1.0f / sqrtf((float)D), k->type};
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t unit = 0; unit < k->B * c->Hkv; unit++) {
        int64_t b = unit / c->Hkv, kv = unit % c->Hkv;
        size_t slab = slab_offset(k, block, b, kv);
        float *scratch = (float *)(void *)(k->scratch + (size_t)eq_this_thread() * k->part);
        const char *q = (const char *)qkv + (size_t)(b * eq_config_qkv(c) + kv * group * D) * elem;
        char *o = (char *)out + (size_t)((b * c->H + kv * group) * D) * elem;
        put(k, block, b, kv, position, 1, qkv);
        ctx->kernels->attend(o, q, k->keys + slab, k->values + slab, scratch, &shape);
    }
}
