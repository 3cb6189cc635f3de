/* Keys and values of a cache in 8 or 4 bits. A row is the D elements (an even number) of one token
 * and head:
 *   8 bits  x^ = s q      s = max |x| / 127                 q = clamp(rne(x / s), -127, 127)
 *   4 bits  x^ = s q + m  m = min x, s = (max x - m) / 15   q = clamp(rne((x - m) / s), 0, 15)
 *           elements 0 .. D/2-1 and the others with s and m of their own
 * s and m are rounded to f16, within its range, before codes are chosen; s q is exact in f32. With
 * s = 0 codes are 0. Where a value is not finite, s = NaN, and so is x^ of all that share it.
 * [docs/math.md] */
#ifndef EQ_TENSOR_KV_H
#define EQ_TENSOR_KV_H

#include <stdbool.h>
#include <stdint.h>

/* Tokens lie in blocks of EQ_KEY_BLOCK: the same byte of all keys of a block, then the next one, so
 * that loops over elements work on many keys at once. EQ_KV_PAD bytes behind the values can be
 * read. */
enum { EQ_KEY_BLOCK = 32, EQ_KV_PAD = 32 };

/* The elements of a cache of n keys, whole blocks. */
static inline int64_t eq_key_room(int64_t n)
{
    return (n + EQ_KEY_BLOCK - 1) / EQ_KEY_BLOCK * EQ_KEY_BLOCK;
}

/* Whether so many bits are codes; else elements are kept as they are. */
static inline bool eq_kv_packed(int bits)
{
    return bits == 8 || bits == 4;
}

/* Bytes of a row's codes. */
static inline int64_t eq_kv_bytes(int64_t D, int bits)
{
    return bits == 8 ? D : D / 2;
}

/* Numbers of a row's grid: s; or s, s, m, m. */
static inline int64_t eq_kv_grids(int bits)
{
    return bits == 8 ? 1 : 4;
}

/* A packed row. Byte i has element i as a signed number, or in 4 bits element i in its lower half
 * and element i + D/2 in its upper half. */
typedef struct eq_kv_row {
    uint8_t *codes; /* borrowed, [eq_kv_bytes], code_step apart */
    uint16_t *grid; /* borrowed, f16 [eq_kv_grids], grid_step apart */
    int64_t code_step, grid_step;
} eq_kv_row;

/* What is kept of one sequence and key-value head; all borrowed. Whole blocks of tokens. */
typedef struct eq_kv {
    int bits;                          /* 8: keys are rotated; 4: they are not */
    uint8_t *keys;                     /* [blocks, eq_kv_bytes, EQ_KEY_BLOCK] */
    uint8_t *values;                   /* [tokens, eq_kv_bytes] */
    uint16_t *key_grids, *value_grids; /* f16 [blocks, eq_kv_grids, EQ_KEY_BLOCK] */
    /* For 4 bits the rotary tables of all positions [tokens, D/2] and, transposed, those of a
     * block's first one [D/2, EQ_KEY_BLOCK]; else NULL. */
    const float *cosine, *sine, *turn_cosine, *turn_sine;
} eq_kv;

/* What is kept from token `first` on, the first of a block. */
static inline eq_kv eq_kv_from(const eq_kv *kv, int64_t first, int64_t D)
{
    const int64_t bytes = first * eq_kv_bytes(D, kv->bits), grids = first * eq_kv_grids(kv->bits);
    eq_kv from = *kv;
    from.keys += bytes;
    from.values += bytes;
    from.key_grids += grids;
    from.value_grids += grids;
    if (kv->bits != 4) return from;
    from.cosine += first * (D / 2);
    from.sine += first * (D / 2);
    return from;
}

/* Key and value of token j. */
static inline eq_kv_row eq_kv_key(const eq_kv *kv, int64_t j, int64_t D)
{
    const int64_t first = j / EQ_KEY_BLOCK * EQ_KEY_BLOCK, at = j % EQ_KEY_BLOCK;
    return (eq_kv_row){.codes = kv->keys + first * eq_kv_bytes(D, kv->bits) + at,
                       .grid = kv->key_grids + first * eq_kv_grids(kv->bits) + at,
                       .code_step = EQ_KEY_BLOCK,
                       .grid_step = EQ_KEY_BLOCK};
}

static inline eq_kv_row eq_kv_value(const eq_kv *kv, int64_t j, int64_t D)
{
    const int64_t first = j / EQ_KEY_BLOCK * EQ_KEY_BLOCK, at = j % EQ_KEY_BLOCK;
    return (eq_kv_row){.codes = kv->values + j * eq_kv_bytes(D, kv->bits),
                       .grid = kv->value_grids + first * eq_kv_grids(kv->bits) + at,
                       .code_step = 1,
                       .grid_step = EQ_KEY_BLOCK};
}

#endif
