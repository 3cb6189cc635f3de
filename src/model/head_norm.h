/* RMSNorm of each head of q and k, before they are rotated (Qwen3).            [docs/math.md] */
#ifndef EQ_MODEL_HEAD_NORM_H
#define EQ_MODEL_HEAD_NORM_H

#include "base/arena.h"
#include "kernels/kernels.h"

typedef struct eq_head_norm {
    int64_t M, H, Hkv, D;
    float eps;
    eq_dtype type; /* of qkv */
} eq_head_norm;

/* Buffers, from an arena once per shape. */
typedef struct eq_head_norm_scratch {
    float *heads; /* one token's heads and their gradients in f32, for each thread */
    float *rstd;  /* [M, H + Hkv] */
    void *before; /* [M, (H + Hkv) D] type: q and k as they came; NULL without backward */
    float *sums;  /* of gradients of the weights; NULL without backward */
} eq_head_norm_scratch;

eq_head_norm_scratch eq_head_norm_layout(eq_arena *arena, const eq_head_norm *shape, int threads,
                                         bool backward);

/* Each head x of q and k becomes x rstd w, rstd = 1 / sqrt(mean_d x[d]^2 + eps), w that of q or k.
 *
 * qkv    in/out [M, (H + 2 Hkv) D] type
 * wq, wk in [D] */
void eq_head_norm_forward(eq_ctx *ctx, void *qkv, const float *wq, const float *wk,
                          const eq_head_norm *shape, const eq_head_norm_scratch *scratch);
/* Backward: the gradient in the q and k of qkv becomes that of what they were before. Gradients of
 * the weights are added to dwq and dwk [D], unless they are NULL, in an order that depends on M
 * only. */
void eq_head_norm_backward(eq_ctx *ctx, void *qkv, float *dwq, float *dwk, const float *wq,
                           const float *wk, const eq_head_norm *shape,
                           const eq_head_norm_scratch *scratch);

#endif
