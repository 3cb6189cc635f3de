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

/* The block being trained, with buffers for one batch. Made once, loaded again for every block. */
typedef struct eq_student {
    const eq_config *config; /* borrowed */
    eq_scheme scheme;
    eq_train_options options;
    eq_dtype type;
    eq_block block; /* over the members below */
    eq_fake fakes[EQ_UNITS];
    float *norms;                    /* [2, C] norm1, norm2 */
    float *dnorms, *norm_m, *norm_v; /* [2, C] gradients and moments */
    float *importance[EQ_UNITS];     /* [K] mean square of each input channel of a unit */
    eq_fake_step step;
    eq_optimizer optimizer;
    eq_activations acts;
    eq_rope rope;
    float *rows;    /* [M] of the loss */
    void *buffer;   /* one batch of a stream */
    void *target;   /* one batch of the target stream */
    float *hessian[EQ_UNITS];
    float *other;                  /* one batch of the full-precision input, for mix */
    float *own_x;                  /* acts.x of the first of a chain */
    struct eq_student *next;       /* the block behind that trains too; NULL: this is the last */
    const float *tokens, *channels; /* weights of the loss at this block's output, or NULL */
    eq_arena arena; /* owned */
} eq_student;

typedef struct eq_student_shape {
    const eq_config *config;
    eq_scheme scheme;
    eq_train_options options;
    int64_t T;
    eq_dtype type;
} eq_student_shape;

/* Bytes that eq_student_init will take. */
size_t eq_student_bytes(const eq_student_shape *shape, int threads);
eq_status eq_student_init(eq_ctx *ctx, eq_student *student, const eq_student_shape *shape);
void eq_student_deinit(eq_student *student);

/* Masters and norms from a block of stored weights; moments zero. */
void eq_student_load(eq_ctx *ctx, eq_student *student, const eq_block *source);
/* Mean squares of the inputs of source's units over windows 0 .. count-1 of a stream. */
eq_status eq_student_weigh(eq_ctx *ctx, eq_student *student, const eq_block *source,
                           eq_stream *stream, int64_t count);
/* Start values of every unit, by options.start. */
/* Let a chain of students follow each other. */
void eq_student_link(eq_student *student, eq_student *next);
void eq_student_start(eq_ctx *ctx, eq_student *student);

/* Run `block` over the windows of a stream: in to out (may be the same stream). */
eq_status eq_student_propagate(eq_ctx *ctx, eq_student *student, const eq_block *block,
                               eq_stream *in, eq_stream *out);

/* Where a block trains: windows 0 .. samples-1 are for training, the rest for validation. */
typedef struct eq_student_data {
    eq_stream *input, *target;
    int64_t samples;
    eq_stream *full_input; /* for mix, or NULL */
} eq_student_data;

/* Loss over the validation windows with the student as it is; -1 without any. */
eq_status eq_student_validate(eq_ctx *ctx, eq_student *student, const eq_student_data *data,
                              double *loss);
/* Train the loaded block. log gets each epoch; may be NULL. */
typedef struct eq_student_log {
    eq_status (*epoch)(eq_ctx *ctx, void *user, int epoch, double train, double val,
                       double seconds);
    void *user;
} eq_student_log;

eq_status eq_student_fit(eq_ctx *ctx, eq_student *student, const eq_student_data *data,
                         const eq_fit_options *fit, const eq_student_log *log);

#endif
