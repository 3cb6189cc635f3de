/* The form "scales" of a linear: integers and zero points frozen and packed, only the scales are
 * trained.                                                                   [EfficientQAT, 3.3]
 *
 *   W^ = (q - z) s        dL/ds[group] = sum over the group of dL/dW^ (q - z)
 *
 * Of super-blocks (tensor/super_block.h) the forward pass sees the scales and offsets z s as these
 * hold them.
 *
 * The effective weight of one linear at a time stands in a buffer that linears may share: refresh
 * fills it before the linear is used. */
#ifndef EQ_QUANT_SCALES_H
#define EQ_QUANT_SCALES_H

#include "model/linear.h"

typedef struct eq_scales {
    int64_t N;
    eq_quant_shape shape; /* K, g, bits */
    uint8_t *codes;       /* [N, eq_codes_bytes(K)], EQ_CODES_PAD bytes behind */
    uint8_t *z;           /* [N, K/g]; NULL with super-blocks */
    float *real_z;        /* [N, K/g] of super-blocks, else NULL */
    float *s, *ds;        /* [N, K/g] scales, and gradients added to */
    void *effective;      /* [N, K] in type; borrowed */
    eq_dtype type;
} eq_scales;

/* Take codes, z, s and ds from an arena (also while measuring). */
eq_scales eq_scales_layout(eq_arena *arena, int64_t N, const eq_quant_shape *shape);
/* Codes, zero points and scales of `source`, a linear of the form "stored" whose parts are all
 * packed with this shape, or of its super-blocks. Leaves ds undefined. */
void eq_scales_load(eq_ctx *ctx, eq_scales *scales, const eq_linear *source);
/* A linear over `scales` (borrowed). */
eq_linear eq_linear_scales(const eq_kernels *kernels, eq_scales *scales);
/* Form W^ in the effective buffer. */
void eq_scales_refresh(eq_ctx *ctx, const eq_scales *scales);

#endif
