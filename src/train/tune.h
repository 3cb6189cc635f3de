/* The end-to-end phase: train scales, norms or all weights of a quantized decoder as a whole.
 * [EfficientQAT, 3.3]
 *
 *   run/tune-last.safetensors   where the training stands: values, moments, step
 *   run/tune-best.safetensors   values of the best validation loss so far
 *   run/tune-good.safetensors   as last, at the latest eighth of a pass: to go back to after a loss
 *                               that is not finite
 *   run/tune-teacher-*, run/tune-teacher-val-*   with teacher_top: what the teacher says about the
 *                               windows */
#ifndef EQ_TRAIN_TUNE_H
#define EQ_TRAIN_TUNE_H

#include "train/run.h"
#include "train/whole.h"

/* Windows [n, T] and which tokens count, see eq_logits_window. */
typedef struct eq_tune_windows {
    const int32_t *ids;
    const uint8_t *counts; /* [n, T] or NULL */
    int64_t n;
} eq_tune_windows;

typedef struct eq_tune_job {
    const eq_decoder *base;    /* embedding, final norm, head */
    const eq_decoder *teacher; /* NULL without a KL */
    const eq_tune_options *options;
    const eq_block_scheme *schemes; /* [L]; borrowed */
    int64_t T;
    eq_dtype type;
    eq_tune_windows train, val;
    int64_t memory; /* bytes the phase may use, for activations that need not be computed again; 0:
                       somewhat more than it must */
    eq_run *run;
    bool masters; /* the run has the blocks' unrounded weights, if all weights are trained */
    bool edges_clipped, exact_scales; /* as the blocks were trained, if all weights are */
    /* Block i of the quantized model, stored and packed, open until the next call; i = -1 closes
     * the last one. */
    eq_status (*block)(eq_ctx *ctx, void *self, int64_t i, const eq_block **block);
    void *self;
} eq_tune_job;

/* EQ_ENOMEM when the phase needs more than `limit` bytes (0: any). */
eq_status eq_tune_fits(eq_ctx *ctx, const eq_tune_job *job, int64_t limit);
/* Log what the phase will do, and check that it fits. */
eq_status eq_tune_plan(eq_ctx *ctx, const eq_tune_job *job, int64_t limit);
/* Train, then write all blocks of the best validation state as block files of the run. norm out
 * [C]: the final norm. */
eq_status eq_tune(eq_ctx *ctx, const eq_tune_job *job, float *norm);

#endif
