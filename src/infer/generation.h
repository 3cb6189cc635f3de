/* Decoding token by token: what a decoder needs to continue B sequences of the same length at
 * once. */
#ifndef EQ_INFER_GENERATION_H
#define EQ_INFER_GENERATION_H

#include "infer/cache.h"
#include "infer/dense.h"

typedef struct eq_generation_shape {
    int64_t B;      /* sequences */
    int64_t room;   /* most tokens of a sequence */
    eq_dtype type;  /* of activations and products */
    int64_t rows;   /* of every product, at least B: logits depend on rows, not on B; 0: B */
    int64_t memory; /* bytes that all of it may take; 0: what the machine has left */
    bool panels;    /* repack quantized weights, for products with these inputs: */
    eq_activation_mode activations;
} eq_generation_shape;

typedef struct eq_generation {
    const eq_decoder *decoder; /* borrowed */
    eq_dense weights;
    eq_cache cache;
    int64_t length;      /* tokens of every sequence that are in the cache */
    eq_activations acts; /* of one token per sequence, and rows that fill up products */
    int32_t *ids;        /* [rows] */
    eq_rope rope;        /* of positions 0 .. room-1 */
    float *logits;       /* [rows, V]: what follows the last token of each sequence */
    eq_arena arena;      /* owned */
} eq_generation;

/* Bytes that eq_generation_init takes. */
int64_t eq_generation_bytes(const eq_ctx *ctx, const eq_decoder *decoder,
                            const eq_generation_shape *shape);
/* Reserve everything for shape->B sequences of up to shape->room tokens. Weights are copied when
 * that is not too much of the memory; logits do not depend on it. */
eq_status eq_generation_init(eq_ctx *ctx, eq_generation *generation, const eq_decoder *decoder,
                             const eq_generation_shape *shape);
void eq_generation_deinit(eq_generation *generation); /* zeroed storage is fine */

/* Start with new sequences. */
void eq_generation_rewind(eq_generation *generation);
/* Read a prompt, ids [count], in one pass; only for B = 1 and at the start. Leaves the logits of
 * what follows it. */
eq_status eq_generation_prompt(eq_ctx *ctx, eq_generation *generation, const int32_t *ids,
                               int64_t count);
/* Append ids [B], one token to every sequence, and leave the logits of what follows. length <
 * room. */
eq_status eq_generation_step(eq_ctx *ctx, eq_generation *generation, const int32_t *ids);

#endif
