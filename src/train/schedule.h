/* Learning rates and AdamW steps as functions of the step number. */
#ifndef EQ_TRAIN_SCHEDULE_H
#define EQ_TRAIN_SCHEDULE_H

#include "eqat.h"
#include "kernels/kernels.h"

typedef struct eq_optimizer {
    double beta1, beta2, epsilon, weight_decay;
    double min_lr_factor; /* the cosine ends at lr / min_lr_factor, at 0 when that is 0 */
    int64_t steps;        /* of the whole schedule */
    int64_t warmup;       /* of them, those in which the rate rises evenly to lr */
    eq_schedule schedule;
} eq_optimizer;

/* The AdamW step number t (0-based). Its rate is
 *     low + (lr - low) f(u) / 2,  f(u) = 1 + cos(pi u / (steps - warmup)),
 *     low = lr / min_lr_factor,
 * u = 0 at the first step after the warm-up, in which the rate is lr (t + 1) / warmup.
 * EQ_SCHEDULE_AHEAD multiplies the part above low by f(u) / f(u - 1) from u = 1 on:
 * EfficientQAT's code asks PyTorch's recursive formula for the rate once more than it advances it.
 * [spec efficientqat.md 2.4] */
eq_adamw eq_adamw_step(const eq_optimizer *optimizer, double lr, int64_t t);

#endif
