#include "infer/slab.h"

#include <math.h>

static int64_t number_of(const eq_slabs *s, const eq_slab *slab)
{
    return (slab->block * s->B + slab->sequence) * s->config->Hkv + slab->head;
}

/* Bytes of the keys (or values) of a slab, without grids. */
static int64_t bytes_of(const eq_slabs *s)
{
    if (eq_kv_packed(s->bits)) return s->room * eq_kv_bytes(s->config->D, s->bits);
    return s->room * s->config->D * (int64_t)eq_elem_bytes(s->type);
}

void eq_slabs_layout(eq_arena *arena, eq_slabs *s)
{
    int64_t count = s->config->L * s->B * s->config->Hkv, half = s->config->D / 2;
    bool packed = eq_kv_packed(s->bits);
    s->keys = eq_arena_take(arena, count * bytes_of(s), 1);
    s->values = eq_arena_take(arena, count * bytes_of(s) + (packed ? EQ_KV_PAD : 0), 1);
    if (!packed) return;
    int64_t grids = count * s->room * eq_kv_grids(s->bits);
    s->key_grids = eq_arena_take(arena, grids, sizeof *s->key_grids);
    s->value_grids = eq_arena_take(arena, grids, sizeof *s->value_grids);
    if (s->bits != 4) return;
    s->turn_cosine = eq_arena_take(arena, half * EQ_KEY_BLOCK, sizeof(float));
    s->turn_sine = eq_arena_take(arena, half * EQ_KEY_BLOCK, sizeof(float));
}

void eq_slabs_set_rope(eq_slabs *s, const eq_rope *rope)
{
    int64_t half = s->config->D / 2;
    s->rope = *rope;
    if (s->bits != 4) return;
    for (int64_t i = 0; i < half; i++) {
        for (int64_t r = 0; r < EQ_KEY_BLOCK; r++) {
            s->turn_cosine[i * EQ_KEY_BLOCK + r] = rope->cosine[r * half + i];
            s->turn_sine[i * EQ_KEY_BLOCK + r] = rope->sine[r * half + i];
        }
    }
}

static eq_kv packed_slab(const eq_slabs *s, const eq_slab *slab)
{
    int64_t number = number_of(s, slab), grids = number * s->room * eq_kv_grids(s->bits);
    return (eq_kv){.bits = s->bits,
                   .keys = (uint8_t *)s->keys + number * bytes_of(s),
                   .values = (uint8_t *)s->values + number * bytes_of(s),
                   .key_grids = s->key_grids + grids,
                   .value_grids = s->value_grids + grids,
                   .cosine = s->rope.cosine,
                   .sine = s->rope.sine,
                   .turn_cosine = s->turn_cosine,
                   .turn_sine = s->turn_sine};
}

static char *plain_keys(const eq_slabs *s, const eq_slab *slab)
{
    return s->keys + number_of(s, slab) * bytes_of(s);
}

char *eq_slab_values(const eq_slabs *s, const eq_slab *slab)
{
    return s->values + number_of(s, slab) * bytes_of(s);
}

/* One key [D] to its place among the keys of a slab. */
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

void eq_slab_put(const eq_kernels *kernels, eq_slabs *s, const eq_slab *slab, int64_t position,
                 int64_t T, const void *qkv)
{
    const eq_config *c = s->config;
    size_t head = (size_t)c->D * eq_elem_bytes(s->type);
    size_t row = (size_t)eq_config_qkv(c) * eq_elem_bytes(s->type);
    const char *key = (const char *)qkv + (size_t)(c->H + slab->head) * head;
    const eq_kv packed = packed_slab(s, slab);
    for (int64_t t = position; t < position + T; t++, key += row) {
        const char *value = key + (size_t)c->Hkv * head;
        if (eq_kv_packed(s->bits)) {
            const eq_kv_row k = eq_kv_key(&packed, t, c->D), v = eq_kv_value(&packed, t, c->D);
            kernels->kv_pack(&k, key, c->D, s->bits, s->type);
            kernels->kv_pack(&v, value, c->D, s->bits, s->type);
        } else {
            put_key(plain_keys(s, slab), t, key, c->D, s->type);
            memcpy(eq_slab_values(s, slab) + (size_t)t * head, value, head);
        }
    }
}

int64_t eq_slab_scratch(const eq_slabs *s, int64_t keys)
{
    int64_t group = s->config->H / s->config->Hkv, most = eq_key_room(keys) + s->config->D;
    return group * most * (eq_kv_packed(s->bits) ? 2 : 1);
}

void eq_slab_attend(const eq_kernels *kernels, const eq_slabs *s, const eq_slab *slab,
                    const eq_slab_range *range, void *out, float *lse, const void *q,
                    float *scratch)
{
    int64_t D = s->config->D;
    const eq_attend shape = {.heads = s->config->H / s->config->Hkv,
                             .keys = range->keys,
                             .D = D,
                             .scale = 1.0f / sqrtf((float)D),
                             .type = s->type,
                             .result = range->result};
    if (eq_kv_packed(s->bits)) {
        const eq_kv packed = packed_slab(s, slab), kv = eq_kv_from(&packed, range->first, D);
        kernels->attend_packed(out, lse, q, &kv, scratch, &shape);
    } else {
        const size_t before = (size_t)(range->first * D) * eq_elem_bytes(s->type);
        kernels->attend(out, lse, q, plain_keys(s, slab) + before, eq_slab_values(s, slab) + before,
                        scratch, &shape);
    }
}

/* A tile [EQ_KEY_BLOCK, D] to columns `room` elements apart. */
static void transpose(char *columns, const char *tile, int64_t D, int64_t room, size_t elem)
{
    for (int64_t d = 0; d < D; d++, columns += (size_t)room * elem)
        for (int64_t r = 0; r < EQ_KEY_BLOCK; r++)
            memcpy(columns + (size_t)r * elem, tile + (size_t)(r * D + d) * elem, elem);
}

static void load_packed(const eq_kernels *kernels, const eq_slabs *s, const eq_slab *slab,
                        int64_t first, int64_t n, char *columns, char *rows, char *tile)
{
    int64_t D = s->config->D, half = D / 2;
    size_t elem = eq_elem_bytes(s->type), head = (size_t)D * elem;
    const eq_kv packed = packed_slab(s, slab);
    for (int64_t r = 0; r < n; r++) {
        const eq_kv_row k = eq_kv_key(&packed, first + r, D);
        const eq_kv_row v = eq_kv_value(&packed, first + r, D);
        kernels->kv_unpack(tile + (size_t)r * head, &k, D, s->bits, s->type);
        kernels->kv_unpack(rows + (size_t)(first + r) * head, &v, D, s->bits, s->type);
    }
    if (s->bits == 4)
        kernels->rope(tile, D, s->rope.cosine + first * half, s->rope.sine + first * half, n, 1, D,
                      1, s->type);
    if (elem == sizeof(float))
        transpose(columns + (size_t)first * elem, tile, D, s->room, sizeof(float));
    else
        transpose(columns + (size_t)first * elem, tile, D, s->room, sizeof(uint16_t));
}

static void load_plain(const eq_slabs *s, const eq_slab *slab, int64_t first, char *columns)
{
    int64_t D = s->config->D;
    size_t elem = eq_elem_bytes(s->type);
    const char *keys = plain_keys(s, slab) + (size_t)(first * D) * elem;
    for (int64_t d = 0; d < D; d++)
        memcpy(columns + (size_t)(d * s->room + first) * elem,
               keys + (size_t)(d * EQ_KEY_BLOCK) * elem, EQ_KEY_BLOCK * elem);
}

void eq_slab_load(const eq_kernels *kernels, const eq_slabs *s, const eq_slab *slab, int64_t first,
                  int64_t end, void *columns, void *rows, void *tile)
{
    bool packed = eq_kv_packed(s->bits);
    char *values = packed ? rows : eq_slab_values(s, slab);
    int64_t left = end - first, n = left < 0 ? 0 : left < EQ_KEY_BLOCK ? left : EQ_KEY_BLOCK;
    size_t head = (size_t)s->config->D * eq_elem_bytes(s->type);
    if (packed)
        load_packed(kernels, s, slab, first, n, columns, rows, tile);
    else
        load_plain(s, slab, first, columns);
    memset(values + (size_t)(first + n) * head, 0, (size_t)(EQ_KEY_BLOCK - n) * head);
}
