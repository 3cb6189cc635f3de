/* Start values against the error of the linear's output, tr(E H E^T), H = X^T X / M. */
#ifndef EQ_QUANT_HESSIAN_H
#define EQ_QUANT_HESSIAN_H

#include "quant/fake.h"

/* From the weighted start: each group's scale again, the other groups as they are; two rounds. */
void eq_start_output(eq_ctx *ctx, eq_fake *fake, const float *H);
/* Columns in order, each taking over the errors of those before it: masters become what is rounded
 * (LDLQ: H = (U + I) D (U + I)^T). importance [K] weighs the search of a group's scale. */
void eq_start_feedback(eq_ctx *ctx, eq_fake *fake, const float *H, const float *importance);

#endif
