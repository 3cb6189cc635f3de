/* The form "fake" of a linear: f32 masters W, scales s and zero points z, all trainable through the
 * rounding; on a symmetric grid the zero points stay what they are.
 *
 *   W^ = (clamp(rne(W / s) + rne(z), 0, Q) - rne(z)) s                       [EfficientQAT, eq. 1
 * and 2]
 *
 * The gradient of a few rows of W^ becomes, row by row while it is in the cache, the gradients of
 * W, s and z, their AdamW step, and the new row of W^. */
#ifndef EQ_QUANT_FAKE_H
#define EQ_QUANT_FAKE_H

#include "model/linear.h"
#include "quant/scheme.h"

/* The two optimizer steps of one training step. A group that is frozen has train_* false. */
typedef struct eq_fake_step {
    bool train_weights, train_quant;
    eq_adamw weights, quant;
} eq_fake_step;

typedef struct eq_fake {
    int64_t N;
    eq_quant_shape shape;
    float *w;                     /* [N, K] masters */
    float *s, *z;                 /* [N, K/g] */
    float *seen;                  /* [N, K/g] what the forward pass sees of s: see eq_fake_kind */
    float *seen_z;                /* the same of z, which differs with super-blocks only */
    float *w_m, *w_v;             /* [N, K] moments */
    float *s_m, *s_v, *z_m, *z_v; /* [N, K/g] */
    float *ds, *dz;               /* [N, K/g] gradients of the current step */
    float *
        /* [N, K]; NULL: gradients are applied at once, else they are added here and to ds, dz */
        dw;
    void *effective; /* [N, K] in type */
    eq_dtype type;
    const eq_fake_step *step; /* borrowed; of the current training step */
} eq_fake;

typedef struct eq_fake_kind {
    eq_dtype type; /* of the effective weights */
    bool keep_gradients;
    bool rounds; /* it is not trained: no moments, no gradients */
    /* Scales are seen in f32, not rounded to the fp16 that the file will hold. Training leaves many
     * weights at the border of two codes, where that rounding would change the code afterwards.
     * Super-blocks are always seen as the file will hold them. */
    bool exact_scales;
} eq_fake_kind;

/* Take the buffers from an arena (also while measuring). With keep_gradients, dw is among them, and
 * moments and effective weights are not: those are the optimizer's, and these stand in a buffer of
 * the caller, which fakes may share. */
eq_fake eq_fake_layout(eq_arena *arena, int64_t N, const eq_quant_shape *shape,
                       const eq_fake_kind *kind);
/* A linear over `fake` (borrowed). Its form freezes to
 *   s' = fp16(eq_clamp_scale(s)),  z' = clamp(rne(z), 0, Q)
 *   q = clamp(rne(W / s') + z', 0, Q)
 * and to what its super-blocks hold (eq_super_row) if it has them. */
eq_linear eq_linear_fake(const eq_kernels *kernels, eq_fake *fake);
/* Recompute W^ from w, s, z. */
void eq_fake_refresh(eq_ctx *ctx, eq_fake *fake);

#endif
