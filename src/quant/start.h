/* Start values of scales and zero points. */
#ifndef EQ_QUANT_START_H
#define EQ_QUANT_START_H

#include "quant/fake.h"

/* Set fake->s and fake->z from fake->w and form the effective weights.
 *   minmax:   s = (max - min) / Q, z = rne(-min / s), over each group with 0 taken into the range;
 *             on a symmetric grid s = -m / 2^(bits-1) for the weight m of the largest magnitude
 *   mse:      the scale and whole zero point of least sum (w^ - w)^2; with super-blocks refined
 *             to any zero point
 *   weighted: the same, each column weighted by `importance` [K], the mean square of that input
 * channel importance is used by weighted only. Without training the scales are rounded to fp16
 * before codes are chosen, which freeze does. */
void eq_start_values(eq_ctx *ctx, eq_fake *fake, eq_start start, const float *importance);

#endif
