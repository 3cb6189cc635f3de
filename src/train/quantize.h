/* A whole quantization: block by block over two streams of activations, each finished block on disk
 * at once. */
#ifndef EQ_TRAIN_QUANTIZE_H
#define EQ_TRAIN_QUANTIZE_H

#include "train/block_ap.h"
#include "train/ends.h"
#include "train/run.h"

typedef struct eq_quantize_job {
    const eq_decoder *teacher;
    const eq_decoder *model; /* embedding and head as the output has them; not for a plan */
    eq_scheme ends[EQ_ENDS]; /* of these two */
    const eq_quantize_options *options; /* train.samples is from 1 to data.samples */
    const eq_block_scheme *schemes;     /* [L]; borrowed */
    eq_dtype type;                      /* of products and streams */
    const int32_t *train;               /* [train.samples, T]; NULL when no data is needed */
    const int32_t *val;                 /* [val_samples, T]; NULL when val_samples is 0 */
    eq_run *run;
    const float *final_norm; /* [C] instead of the teacher's in the output; NULL: the teacher's */
} eq_quantize_job;

/* Whether the options need calibration windows: all but starts that look at weights only, without
 * training. */
bool eq_quantize_needs_data(const eq_quantize_options *options);
/* Windows of train.samples that this run really uses. */
int64_t eq_quantize_samples(const eq_quantize_options *options);
/* Log the plan, and check that it fits the memory allowed (EQ_ENOMEM says what is needed).
 * streams_in_file out. */
eq_status eq_quantize_plan(eq_ctx *ctx, const eq_quantize_job *job, bool *streams_in_file);
/* Do all blocks that are not done yet. resumed out: how many were. */
eq_status eq_quantize_blocks(eq_ctx *ctx, const eq_quantize_job *job, bool streams_in_file,
                             int64_t *resumed);

#endif
