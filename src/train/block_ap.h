/* Block-AP: train the weights, scales and zero points of one block at a time so that its output on
 * the quantized stream follows the full-precision block's output on the full-precision stream.
 * [EfficientQAT, 3.2] */
#ifndef EQ_TRAIN_BLOCK_AP_H
#define EQ_TRAIN_BLOCK_AP_H

#include "model/decoder.h"
#include "quant/start.h"
#include "train/fit.h"
#include "train/reconstruction.h"
#include "train/stream.h"

/* The block being trained, with buffers for one batch. Made once, loaded again for every block, in
 * which its units may have other grids. */
typedef struct eq_student {
    const eq_config *config; /* borrowed */
    eq_train_options options;
    eq_dtype type;
    bool rounds;
    eq_block block; /* over the members below */
    eq_fake fakes[EQ_UNITS];
    float *vectors;                  /* norms, then biases, which do not change */
    float *dnorms, *norm_m, *norm_v; /* [eq_norm_elems] gradients and moments */
    float *importance[EQ_UNITS];     /* [K] mean square of each input channel of a unit */
    eq_fake_step step;
    eq_optimizer optimizer;
    eq_activations acts;
    eq_rope rope;
    float *rows;    /* [M] of the loss */
    void *buffer;   /* one batch of a stream */
    void *target;   /* one batch of the target stream */
    eq_arena arena; /* owned */
    size_t units;   /* where the units' buffers begin in it: laid out again for every block */
} eq_student;

typedef struct eq_student_shape {
    const eq_config *config;
    const eq_block_scheme *schemes; /* [blocks] grids that it will be loaded with */
    int64_t blocks;
    eq_train_options options;
    int64_t T;
    eq_dtype type;
    bool rounds; /* it is not trained */
} eq_student_shape;

/* Bytes that eq_student_init will take. */
size_t eq_student_bytes(const eq_student_shape *shape, int threads);
/* A student with the grids of the first block. */
eq_status eq_student_init(eq_ctx *ctx, eq_student *student, const eq_student_shape *shape);
void eq_student_deinit(eq_student *student);

/* Masters and norms from a block of stored weights, to be trained on these grids; moments zero. */
void eq_student_load(eq_ctx *ctx, eq_student *student, const eq_block *source,
                     const eq_block_scheme *scheme);
/* Mean squares of the inputs of source's units over windows 0 .. count-1 of a stream. They stay
 * when the student is loaded again. */
eq_status eq_student_weigh(eq_ctx *ctx, eq_student *student, const eq_block *source,
                           eq_stream *stream, int64_t count);
/* Start values of every unit, by options.start. */
void eq_student_start(eq_ctx *ctx, eq_student *student);

/* Run `block` over the windows of a stream: in to out (may be the same stream). */
eq_status eq_student_propagate(eq_ctx *ctx, eq_student *student, const eq_block *block,
                               eq_stream *in, eq_stream *out);

/* Where a block trains: windows 0 .. samples-1 are for training, the rest for validation. source
 * and scheme are what it was loaded with, to begin again after a loss that is not finite; NULL:
 * such a loss is an error. */
typedef struct eq_student_data {
    eq_stream *input, *target;
    int64_t samples;
    const eq_block *source;
    const eq_block_scheme *scheme;
} eq_student_data;

/* Loss over the validation windows with the student as it is; -1 without any. */
eq_status eq_student_validate(eq_ctx *ctx, eq_student *student, const eq_student_data *data,
                              double *loss);
/* Train the loaded block, from its start values; after a loss that is not finite once more from
 * these, at half the rates, if data has a source. log gets each epoch; may be NULL. */
typedef struct eq_student_log {
    eq_status (*epoch)(eq_ctx *ctx, void *user, const eq_epoch *epoch);
    void *user;
} eq_student_log;

eq_status eq_student_fit(eq_ctx *ctx, eq_student *student, const eq_student_data *data,
                         const eq_fit_options *fit, const eq_student_log *log);

#endif
