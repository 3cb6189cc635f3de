/* Keys and values of the tokens seen so far, and attention of new tokens over them. */
#ifndef EQ_INFER_CACHE_H
#define EQ_INFER_CACHE_H

#include "infer/slab.h"

typedef struct eq_cache_shape {
    int64_t B;     /* sequences */
    int64_t room;  /* most tokens of a sequence */
    int64_t chunk; /* most tokens of eq_cache_extend; 0: it is not called */
    eq_dtype type; /* of activations, EQ_F32 or EQ_BF16 */
    int bits;      /* 8 or 4: keys and values are packed; else kept in type */
} eq_cache_shape;

typedef struct eq_cache {
    const eq_config *config; /* borrowed */
    int64_t B, room, chunk;  /* room is rounded up */
    eq_dtype type;
    eq_slabs slabs;
    char *scratch; /* of attention, one part per thread, in the arena */
    size_t part;   /* bytes of a part */
    /* Attention of one token goes over pieces of the keys, so that threads have work whatever the
     * number of heads: results [B, Hkv, pieces, H/Hkv, D] and their lse [B, Hkv, pieces, H/Hkv], in
     * the arena; NULL when the room is one piece. */
    int64_t pieces; /* of the room */
    float *partial, *lse;
    char *columns; /* [Hkv, D, room] type: keys as products read them, in the arena */
    char *rows;    /* [Hkv, room, D] type: values, when they are packed; else NULL */
} eq_cache;

/* Where a token stands. */
typedef struct eq_place {
    int64_t sequence, position;
} eq_place;

/* Take the buffers from an arena, measuring or reserved. eq_slabs_set_rope comes next. */
eq_cache eq_cache_layout(eq_arena *arena, const eq_config *config, const eq_cache_shape *shape,
                         int threads);

/* Keep k and v of one token at each of `n` places, all of different sequences, and attend causally
 * over positions 0 .. position of each, all of which have been kept.
 *   out[i,h] = sum_j softmax_j(q[i,h] . k[j,h'] / sqrt(D)) v[j,h'],
 *   j <= position, h' = h / (H / Hkv), k and v those of the sequence
 * out out [n, H D] type; qkv in [n, (H + 2 Hkv) D] type, rotated but for keys kept in 4 bits.
 * Of packed keys and values every token sees what is kept, also of itself. */
void eq_cache_attend(eq_ctx *ctx, eq_cache *cache, int64_t block, const eq_place *places, int64_t n,
                     void *out, const void *qkv);
/* The same for T neighbouring tokens of one sequence, the first of them at `place`, by matrix
 * products.
 * T      at most the chunk, and place->position + T at most the room
 * out    out [rows, H D] type, qkv in [rows, (H + 2 Hkv) D] type, rotated as above, where
 *        rows = eq_cache_rows(T); rows from T on are read and written but mean nothing */
void eq_cache_extend(eq_ctx *ctx, eq_cache *cache, int64_t block, const eq_place *place, int64_t T,
                     void *out, const void *qkv);
/* T rounded up, so that few different shapes of products occur. */
int64_t eq_cache_rows(int64_t T);

#endif
