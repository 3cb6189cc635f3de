/* Trained vectors with their gradients and moments, whatever they belong to: what the optimizer,
 * gradient clipping and saved states go over. */
#ifndef EQ_TRAIN_PARAMETERS_H
#define EQ_TRAIN_PARAMETERS_H

#include "base/arena.h"
#include "kernels/kernels.h"

typedef enum eq_parameter_group {
    EQ_GROUP_WEIGHTS,
    EQ_GROUP_SCALES,
    EQ_GROUP_NORMS
} eq_parameter_group;

typedef struct eq_parameter {
    float *w, *g; /* values and gradients; owner: whoever made the entry */
    float *m, *v; /* moments; in the arena of the one who trains */
    int64_t n;
    eq_parameter_group group;
} eq_parameter;

typedef struct eq_parameters {
    eq_parameter *list; /* owner: whoever made it */
    int64_t count;
} eq_parameters;

void eq_parameters_zero_gradients(eq_ctx *ctx, const eq_parameters *p);
/* Square root of the sum of squares of all gradients: the same number for any number of threads. */
double eq_parameters_gradient_norm(eq_ctx *ctx, const eq_parameters *p);
/* g *= factor. */
void eq_parameters_scale_gradients(eq_ctx *ctx, const eq_parameters *p, float factor);
/* One AdamW step, with the step of each group in steps[eq_parameter_group]. */
void eq_parameters_step(eq_ctx *ctx, const eq_parameters *p, const eq_adamw steps[3]);

#endif
