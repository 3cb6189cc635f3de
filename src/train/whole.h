/* A whole decoder while it is trained: the forward pass keeps the input of each block, the backward
 * pass computes a block again before it goes through it, unless its activations were kept too. One
 * window at a time, so that gradients do not depend on how many windows a step has.
 *                                                                            [EfficientQAT, 3.3] */
#ifndef EQ_TRAIN_WHOLE_H
#define EQ_TRAIN_WHOLE_H

#include "quant/fake.h"
#include "quant/scales.h"
#include "train/logits_loss.h"
#include "train/parameters.h"

typedef struct eq_whole_shape {
    const eq_decoder *base;         /* embedding, final norm and head of the model */
    const eq_decoder *teacher;      /* NULL unless weights.kl is above 0 */
    const eq_block_scheme *schemes; /* [L]; borrowed */
    eq_train_what train;
    bool edges_clipped, exact_scales; /* of EQ_TRAIN_ALL */
    eq_logits_weights weights;
    int64_t top; /* tokens known of a teacher that is run before; 0: it runs alongside */
    int64_t T;
    eq_dtype type;
    int64_t kept; /* so many blocks, the last ones, keep their activations; changes no result */
} eq_whole_shape;

typedef struct eq_whole {
    eq_whole_shape shape;
    eq_block *blocks;          /* [L] over the members below */
    eq_scales *scales;         /* [L * EQ_UNITS]; EQ_TRAIN_SCALES and EQ_TRAIN_NORMS */
    eq_fake *fakes;            /* [L * EQ_UNITS]; EQ_TRAIN_ALL */
    void *effective[EQ_UNITS]; /* of one block, in type */
    float *norms, *dnorms;     /* [eq_norm_elems] of each block, then the final norm [C] */
    float *final_norm;         /* the last of the norms */
    eq_parameters parameters;
    eq_activations acts;
    eq_activations *kept; /* [shape.kept] of the last blocks */
    eq_rope rope;
    float *inputs;                /* [L + 1, T, C]: of each block; the last hidden states */
    float *teacher_hidden;        /* [T, C] */
    eq_linear head, teacher_head; /* the decoders' own */
    eq_logits_loss loss;
    eq_arena arena; /* owned */
} eq_whole;

/* Bytes that eq_whole_init will take. */
size_t eq_whole_bytes(const eq_whole_shape *shape, int threads);
/* Set shape->kept to as many blocks as fit into `bytes` with all the rest and the bytes beside it;
 * 0 bytes: into 1.4 times what the rest takes, and into what the machine has free. */
void eq_whole_keep(eq_whole_shape *shape, int64_t bytes, int64_t beside, int threads);
eq_status eq_whole_init(eq_ctx *ctx, eq_whole *whole, const eq_whole_shape *shape);
void eq_whole_deinit(eq_whole *whole); /* zeroed storage is fine */
/* Block i from a block of stored weights, packed on its grids. */
eq_status eq_whole_load(eq_ctx *ctx, eq_whole *whole, int64_t i, const eq_block *source);

typedef struct eq_whole_window {
    const int32_t *ids;    /* [T] */
    const uint8_t *counts; /* [T] or NULL, see eq_logits_window */
    float share;           /* weight of a counted position */
    eq_logits_top top;     /* with shape.top */
} eq_whole_window;

/* Loss of a window; with `backward` gradients are added to those of all parameters. */
eq_status eq_whole_window_pass(eq_ctx *ctx, eq_whole *whole, const eq_whole_window *window,
                               bool backward, double *loss);

/* Run the teacher alone; out gets its shape.top most likely tokens. */
eq_status eq_whole_find_top(eq_ctx *ctx, eq_whole *whole, const int32_t *ids,
                            const eq_logits_top *out);

/* Useful work of one window in FLOP, without what is computed twice: see eq_block_flops; the head
 * 2 V C a token forward and the same backward, for the teacher forward only. */
double eq_whole_flops(const eq_whole_shape *shape);

#endif
