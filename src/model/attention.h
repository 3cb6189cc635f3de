/* Causal grouped-query attention over whole windows, without a T x T buffer.
 * [docs/math.md] */
#ifndef EQ_MODEL_ATTENTION_H
#define EQ_MODEL_ATTENTION_H

#include "base/arena.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"

typedef struct eq_attention {
    int64_t B, T; /* windows and their length; rows are b * T + t */
    int64_t H, Hkv, D;
    eq_dtype type; /* of activations */
} eq_attention;

/* Buffers of the calculation, taken from an arena once per shape. */
typedef struct eq_attention_scratch {
    char *base;  /* borrowed from the arena: one part per thread */
    size_t part; /* bytes of a part */
    float *sums; /* gradients of keys and values, [B * Hkv, parts, 2, T, D]; backward only */
} eq_attention_scratch;

eq_attention_scratch eq_attention_layout(eq_arena *arena, const eq_attention *shape, int threads,
                                         bool backward);

/* out[b,t,h] = sum_j softmax_j(q[b,t,h] . k[b,j,h'] / sqrt(D)) v[b,j,h'], j <= t, h' = h / (H /
 * Hkv).
 *
 * out  out [B*T, H*D] type
 * lse  out [B, H, T] f32: logarithm of each softmax's denominator, kept for the backward pass
 * qkv  in  [B*T, (H + 2 Hkv) D] type: q heads, k heads, v heads, rotated already */
void eq_attention_forward(eq_ctx *ctx, void *out, float *lse, const void *qkv,
                          const eq_attention *shape, const eq_attention_scratch *scratch);

/* Backward of eq_attention_forward: qkv is replaced by its gradient.
 *
 * qkv  in/out as above
 * dout in [B*T, H*D] type: gradient of out; out, lse: what forward gave */
void eq_attention_backward(eq_ctx *ctx, void *qkv, const void *dout, const void *out,
                           const float *lse, const eq_attention *shape,
                           const eq_attention_scratch *scratch);

#endif
