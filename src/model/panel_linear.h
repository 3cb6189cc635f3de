/* The form "panels" of a linear, for inference: quantized tensors stacked by rows, repacked once
 * into panels (tensor/panels.h), which are then the only copy of the weight.
 *
 * Products multiply the codes themselves. With inputs in 8 bits every product does. With inputs as
 * they are, products of few rows do, in f32 and without rounding the weights: the same sums as
 * those of the weight in f32, in another order; products of more rows unpack the weight like any
 * other form. Results do not depend on the number of threads, and no row of the result depends on
 * other rows of X. */
#ifndef EQ_MODEL_PANEL_LINEAR_H
#define EQ_MODEL_PANEL_LINEAR_H

#include "model/linear.h"

typedef struct eq_panel_linear {
    int count;
    int64_t row0[EQ_MAX_PARTS]; /* of the parts */
    eq_panels parts[EQ_MAX_PARTS];
    bool exact; /* inputs as they are, not in 8 bits */
} eq_panel_linear;

/* Describe panels for all parts of `stored`, without data; false when panels cannot hold one. */
bool eq_panel_linear_describe(eq_panel_linear *linear, const eq_stored *stored);
size_t eq_panel_linear_bytes(const eq_panel_linear *linear);
/* Fill the described panels from the same `stored`, on all threads. data out,
 * eq_panel_linear_bytes, aligned to 64, borrowed. */
void eq_panel_linear_fill(eq_ctx *ctx, eq_panel_linear *linear, const eq_stored *stored,
                          void *data);
/* A linear of this form over filled panels (borrowed). */
eq_linear eq_linear_panels(const eq_kernels *kernels, eq_panel_linear *linear);

#endif
