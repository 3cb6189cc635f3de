/* How much a model changes when one unit of one block is rounded and everything else is as it was:
 * the divergence KL(full precision || rounded) of its next-token distributions, for each unit and
 * number of bits. */
#ifndef EQ_TRAIN_SENSITIVITY_H
#define EQ_TRAIN_SENSITIVITY_H

#include "quant/budget.h"
#include "train/block_ap.h"

/* The bits that are tried. */
extern const int EQ_TRIED_BITS[EQ_VARIANTS];

typedef struct eq_sensitivity_job {
    const eq_decoder *teacher;
    const eq_train_options *train; /* start values and exact_scales */
    eq_scheme scheme;              /* group and grid */
    const int32_t *ids;            /* [n, T]; the beginning of the first ones is used */
    int64_t n, T;
    eq_dtype type;
    const char *path; /* keeps what is known after each block, for a later call; NULL: nothing */
} eq_sensitivity_job;

/* Bytes that eq_sensitivity will take. */
size_t eq_sensitivity_bytes(const eq_sensitivity_job *job, int threads);
/* kl out [L * EQ_UNITS]: mean divergence of a position for each of EQ_TRIED_BITS, in nats, with the
 * start values and no training. Reports progress; EQ_ENUMERIC when one is not finite. Blocks in the
 * file job->path, which an earlier call for the same job left, are not tried again. */
eq_status eq_sensitivity(eq_ctx *ctx, double (*kl)[EQ_VARIANTS], const eq_sensitivity_job *job);

#endif
