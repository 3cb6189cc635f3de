/* What a decoder needs to continue several sequences, each at a position of its own. */
#ifndef EQ_INFER_GENERATION_H
#define EQ_INFER_GENERATION_H

#include "infer/cache.h"
#include "infer/dense.h"

typedef struct eq_generation_shape {
    int64_t B;      /* sequences */
    int64_t room;   /* most tokens of a sequence */
    eq_dtype type;  /* of activations and products */
    int64_t rows;   /* least of every product of new tokens: results depend on rows; 0: any */
    int64_t memory; /* bytes that all of it may take; 0: what the machine has left */
    int64_t chunk;  /* most tokens of eq_generation_read; 0: it is not called */
    int kv_bits;    /* 8 or 4: keys and values are packed; else kept in type */
    bool panels;    /* repack quantized weights, for products with these inputs: */
    eq_activation_mode activations;
} eq_generation_shape;

typedef struct eq_generation {
    const eq_decoder *decoder; /* borrowed */
    eq_dense weights;
    eq_cache cache;
    int64_t rows;
    int64_t *lengths;    /* [B]: tokens of each sequence that are in the cache */
    eq_place *places;    /* [B]: of the tokens of a step */
    eq_activations acts; /* of a step, or of a chunk */
    eq_rope rope;        /* of positions 0 .. room-1 */
    eq_rope here;        /* of the places, [max(B, rows), D/2] */
    float *logits;  /* [max(B, rows), V]: what follows the tokens of the last step, or a chunk */
    eq_arena arena; /* owned */
} eq_generation;

/* What is asked for, and for 0: 8 bits beside activations in 8 bits, else 16. */
static inline int eq_generation_kv_bits(int asked, eq_activation_mode activations)
{
    return asked ? asked : activations == EQ_ACTIVATIONS_8BIT ? 8 : 16;
}

/* Bytes that eq_generation_init takes. */
int64_t eq_generation_bytes(const eq_ctx *ctx, const eq_decoder *decoder,
                            const eq_generation_shape *shape);
/* Reserve everything for shape->B sequences of up to shape->room tokens. Weights are copied when
 * that is not too much of the memory; logits do not depend on it. */
eq_status eq_generation_init(eq_ctx *ctx, eq_generation *generation, const eq_decoder *decoder,
                             const eq_generation_shape *shape);
void eq_generation_deinit(eq_generation *generation); /* zeroed storage is fine */

/* Keep only the first `length` tokens of a sequence, 0 .. lengths[sequence]. */
void eq_generation_cut(eq_generation *generation, int64_t sequence, int64_t length);
/* Append ids [count] to one sequence, 1 <= count <= chunk, length + count <= room. With `logits`,
 * those of what follows are left in row 0. Stops between blocks when asked to; a sequence that was
 * not read to the end keeps its length. */
eq_status eq_generation_read(eq_ctx *ctx, eq_generation *generation, int64_t sequence,
                             const int32_t *ids, int64_t count, bool logits);
/* Append ids[i] to sequence sequences[i], all different, lengths < room, and leave the logits of
 * what follows it in row i, i < n. sequences may be NULL: 0 .. n-1. */
eq_status eq_generation_step(eq_ctx *ctx, eq_generation *generation, const int64_t *sequences,
                             const int32_t *ids, int64_t n);

#endif
