/* RMSNorm over rows on all threads: forward, and the backward pass that inverts it. */
#ifndef EQ_MODEL_NORM_H
#define EQ_MODEL_NORM_H

#include "base/arena.h"
#include "kernels/kernels.h"

typedef struct eq_norm_shape {
    int64_t M, C;
    float eps;
    eq_dtype type; /* of n and dn */
} eq_norm_shape;

/* n[r][c] = x[r][c] rstd[r] w[c],  rstd[r] = 1 / sqrt(mean_c x[r][c]^2 + eps).
 * n out [M, C] type; rstd out [M]; x in [M, C]; w in [C]. */
void eq_norm_forward(eq_ctx *ctx, void *n, float *rstd, const float *x, const float *w,
                     const eq_norm_shape *shape);

/* What the backward pass reads of the forward pass. */
typedef struct eq_norm_saved {
    const float *x, *w, *rstd; /* [M, C], [C], [M] */
} eq_norm_saved;

/* Elements of f32 scratch that eq_norm_backward needs. */
int64_t eq_norm_scratch(int64_t M, int64_t C);
/* dx += dL/dx, and dw += dL/dw summed over fixed numbers of rows in order; dw may be NULL.
 * dx in/out [M, C]; dn in [M, C] type: dL/dn. */
void eq_norm_backward(eq_ctx *ctx, float *dx, float *dw, const void *dn, const eq_norm_saved *saved,
                      const eq_norm_shape *shape, float *scratch);

#endif
