/* Keys and values of the tokens seen so far, and attention of one new token of each sequence
 * over them. */
#ifndef EQ_INFER_CACHE_H
#define EQ_INFER_CACHE_H

#include "base/arena.h"
#include "model/config.h"
#include "tensor/dtype.h"

typedef struct eq_cache_shape {
    int64_t B;     /* sequences */
    int64_t room;  /* most tokens of a sequence */
    eq_dtype type; /* of activations, EQ_F32 or EQ_BF16 */
} eq_cache_shape;

typedef struct eq_cache {
    const eq_config *config; /* borrowed */
    int64_t B, room;         /* room is rounded up */
    eq_dtype type;
    char *keys;    /* [L, B, Hkv, room D] type, as eq_attend has them, in the arena */
    char *values;  /* [L, B, Hkv, room, D] type, in the arena */
    char *scratch; /* of attention, one part per thread, in the arena */
    size_t part;   /* bytes of a part */
} eq_cache;

/* Take the buffers from an arena, measuring or reserved. */
eq_cache eq_cache_layout(eq_arena *arena, const eq_config *config, const eq_cache_shape *shape,
                         int threads);
/* Bytes of the keys and values of one sequence. */
int64_t eq_cache_sequence_bytes(const eq_config *config, int64_t room, eq_dtype type);

/* Keep k and v of the first T tokens of every sequence in block `block`, T <= room.
 * qkv in [B*T, (H + 2 Hkv) D] type, rotated; rows are b * T + t. */
void eq_cache_put(eq_ctx *ctx, eq_cache *cache, int64_t block, int64_t T, const void *qkv);
/* Keep k and v of the tokens at `position`, one per sequence, and attend causally over positions
 * 0 .. position, all of which have been kept.
 *   out[b,h] = sum_j softmax_j(q[b,h] . k[b,j,h'] / sqrt(D)) v[b,j,h'],
 *   j <= position, h' = h / (H / Hkv)
 * out out [B, H D] type; qkv in [B, (H + 2 Hkv) D] type, rotated. */
void eq_cache_attend(eq_ctx *ctx, eq_cache *cache, int64_t block, int64_t position, void *out,
                     const void *qkv);

#endif
