/* How far a block's output is from its target, and the gradient.
 *
 *   mse:      L = 1/(M C) sum_t |y_t - g_t|^2
 *   relative: L = 1/M sum_t |y_t - g_t|^2 / n_t,  n_t = |g_t|^2 + 1e-6 C
 *             every token counts the same, however large
 *   bounded:  the same with n_t = |g_t|^2 + |y_t - g_t|^2 + 1e-6 C
 *             and no token counts more than 1
 *
 * n_t is taken as a constant by the gradient. It is one for `relative`; for `bounded` this keeps a
 * pull on tokens that are far off, which the true gradient would give up. */
#ifndef EQ_TRAIN_RECONSTRUCTION_H
#define EQ_TRAIN_RECONSTRUCTION_H

#include "base/context.h"
#include "kernels/kernels.h"

typedef struct eq_reconstruction {
    int64_t M, C;
    eq_dtype type; /* of target */
    eq_loss loss;

} eq_reconstruction;

/* The loss of y [M, C] f32 against target [M, C] type; dy out [M, C] gets dL/dy. rows: scratch
 * [M]. */
double eq_reconstruction_loss(eq_ctx *ctx, float *dy, const float *y, const void *target,
                              float *rows, const eq_reconstruction *shape);

#endif
