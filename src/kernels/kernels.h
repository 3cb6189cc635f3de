/* Loops on pointers: everything that is neither a matrix product nor logic. One table of functions
 * per instruction set; kernels_ref.c is the definition, the others must agree with it within the
 * bounds that tests/test_kernels.c states.
 *
 * All functions work on the rows they are given, in the calling thread: the caller splits rows
 * between threads. None allocates, none fails. Buffers need no alignment beyond that of their
 * elements. Sizes are any positive number unless said otherwise. `type` is EQ_F32 or EQ_BF16 and
 * names the element type of the void buffers; arithmetic is always f32. Sums within one row run in
 * an order that depends on the instruction set only; the reference collects them in f64.
 * Conversions, unpack, dequantize, fakequant_forward, quantize_codes, kv_pack, kv_unpack, kv_round,
 * adamw and start_search give the same bits in every table. Gradients of activations overwrite,
 * gradients of parameters are added. */
#ifndef EQ_KERNELS_KERNELS_H
#define EQ_KERNELS_KERNELS_H

#include "tensor/codes.h"
#include "tensor/kv.h"
#include "tensor/panels.h"
#include <math.h>

/* The uniform affine quantizer along a row of K columns in groups of g (K % g == 0).
 *   q = clamp(rne(w / s) + z, 0, Q),  Q = 2^bits - 1,  w^ = (q - z) * s    [EfficientQAT, eq. 1] */
typedef struct eq_quant_shape {
    int64_t K;
    int64_t g;
    int bits; /* 2, 3, 4 or 8 */
    /* Backward: whether weights whose code before the clamp is exactly 0 or Q count as clipped. In
     * the paper's equations, and in PyTorch up to 2.14, they do not; PyTorch 2.15 gives clamp no
     * gradient at its bounds. */
    bool edges_clipped;
    /* The zero point is 2^(bits-1) for every group, which the caller keeps in z, and a scale may be
     * negative: the one code more that the grid has below zero then lies above. */
    bool symmetric;
    /* EQ_Q2_K, EQ_Q3_K or EQ_Q4_K: the groups of those super-blocks (tensor/super_block.h), whose
     * zero points are real numbers and go into the rounding:
     *   q = clamp(rne(w / s + z), 0, Q)
     * EQ_F32: there are none. */
    eq_dtype super;
} eq_quant_shape;

/* The least scale: 1e-4, and 2^-14, the smallest normal half, at 8 bits, whose scales are smaller;
 * of super-blocks the smallest half of all. */
static inline float eq_least_scale(const eq_quant_shape *shape)
{
    return shape->super ? 0x1p-24f : shape->bits == 8 ? 0x1p-14f : 1e-4f;
}

/* s within [least, 1e4]; on a symmetric grid its magnitude, and the sign stays. NaN stays NaN. */
static inline float eq_clamp_scale(float s, const eq_quant_shape *shape)
{
    const float least = eq_least_scale(shape), most = 1e4f;
    const float size = shape->symmetric ? fabsf(s) : s;
    const float clamped = size < least ? least : size > most ? most : size;
    return shape->symmetric ? copysignf(clamped, s) : clamped;
}

/* One AdamW step with the bias corrections already worked out:
 *   m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
 *   w = w (1 - lr * wd) - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps) */
typedef struct eq_adamw {
    float beta1, beta2, eps;
    float decay; /* lr * weight decay */
    float step;  /* lr / (1 - beta1^t) */
    float root;  /* 1 / sqrt(1 - beta2^t) */
} eq_adamw;

/* A tile of causal attention scores. */
typedef struct eq_causal {
    int64_t rows, cols, ld; /* columns 0 .. cols-1 of the result are written */
    int64_t first;          /* columns that row 0 sees besides its own; cols >= first + rows */
    float scale;
    eq_dtype type; /* of the results */
} eq_causal;

/* Attention of one token over the keys in a cache. Keys lie in blocks of EQ_KEY_BLOCK, transposed:
 * element d of key j is at [j / EQ_KEY_BLOCK][d][j % EQ_KEY_BLOCK], so that loops over d work on
 * many keys at once. */
typedef struct eq_attend {
    int64_t heads; /* of queries, which share the keys */
    int64_t keys;
    int64_t D;
    float scale;
    eq_dtype type;   /* of queries, keys and values */
    eq_dtype result; /* type of the result */
} eq_attend;

/* The gradient of a loss on one row of logits x, with those of a teacher r (both already multiplied
 * by 1 / temperature); lx, lr: logsumexp of x and r; sharp = temperature, ls: logsumexp of
 * sharp * x, the logits as they were.
 *   out[i] = a exp(x[i] - lx) - b exp(r[i] - lr) + c exp(sharp x[i] - ls) */
typedef struct eq_softmax_error {
    float lx, lr, ls;
    float sharp;
    float a, b, c; /* a term with weight 0 is left out, and r may be NULL when b is 0 */
} eq_softmax_error;

typedef struct eq_start_search {
    eq_quant_shape shape; /* K is unused: one group at a time */
    int scales;           /* number of scales tried */
    float shrink;         /* the smallest, as a share of the min-max scale; the largest is `grow` */
    float grow;
    float smallest; /* no scale below this (its magnitude on a symmetric grid) */
} eq_start_search;

/* Rows of X [M, K] as products with panels read them: columns as those of the panels, filled up
 * with 0. Either in 8 bits, each segment with a scale of its own,
 *   x = scale code,  scale = max |x| / 127,  code = rne(127 x / max |x|),
 * or as f32. */
/* A segment whose largest |x| is not above this is 0: 127 / |x| would leave what f32 holds. */
#define EQ_PANEL_NOTHING 0x1p-120f
typedef struct eq_panel_inputs {
    int64_t columns, segments, groups; /* of a row; columns = EQ_SEGMENT segments */
    int8_t *codes;                     /* [M, columns] */
    float *scales;                     /* [M, segments] */
    float *values; /* [M, columns]: f32, and codes and scales are NULL; or NULL */
    float *sums;   /* [M, groups]: of the values, or of scale times code */
} eq_panel_inputs;

typedef struct eq_kernels {
    const char *name; /* "ref", "avx2", "avx512", "vnni" */

    /* out[i] = in[i], n elements. */
    void (*f32_to_bf16)(uint16_t *out, const float *in, int64_t n);
    void (*bf16_to_f32)(float *out, const uint16_t *in, int64_t n);
    /* Stored tensor to f32 or bf16: as eq_dtype_to_f32; `out_type` EQ_F32 or EQ_BF16;
     * `in` may start at any address. */
    void (*unpack)(void *out, eq_dtype out_type, const void *in, eq_dtype in_type, int64_t n);
    /* y += x, n elements. */
    void (*add)(float *y, const float *x, int64_t n);

    /* y[r][c] = x[r][c] * rstd[r] * w[c],  rstd[r] = 1 / sqrt(mean_c x[r][c]^2 + eps).
     * y out [rows, C] type; rstd out [rows]; x in [rows, C] f32; w in [C]. */
    void (*rmsnorm_forward)(void *y, float *rstd, const float *x, const float *w, int64_t rows,
                            int64_t C, float eps, eq_dtype type);
    /* Backward of rmsnorm_forward, with xh = x * rstd, p = dy * w:
     *   dx[r] += rstd[r] * (p[r] - xh[r] * mean_c(p[r][c] * xh[r][c]))   (added: the residual path)
     *   dw[c] += sum_r dy[r][c] * xh[r][c]
     * dx in/out [rows, C] f32, may be NULL; dw in/out [C]; dy in [rows, C] type. */
    void (*rmsnorm_backward)(float *dx, float *dw, const void *dy, const float *x, const float *w,
                             const float *rstd, int64_t rows, int64_t C, eq_dtype type);

    /* Rotate `heads` heads of D (even) in place in each of `rows` rows:
     *   x'[i] = x[i] c[r][i] - x[i+D/2] s[r][i],  x'[i+D/2] = x[i+D/2] c[r][i] + x[i] s[r][i]
     * x in/out [rows, ld] type, heads at columns 0, D, 2D, ...; c, s in [rows, D/2].
     * sign = -1 rotates back (its transpose: the backward pass), else 1. */
    void (*rope)(void *x, int64_t ld, const float *c, const float *s, int64_t rows, int64_t heads,
                 int64_t D, float sign, eq_dtype type);

    /* y[r][f] = silu(gu[r][f]) * gu[r][F + f],  silu(a) = a / (1 + exp(-a)).
     * y out [rows, F] type; gu in [rows, 2F] type (gate, then up). */
    void (*swiglu_forward)(void *y, const void *gu, int64_t rows, int64_t F, eq_dtype type);
    /* Backward: gu in/out, replaced by its gradient; dy in [rows, F]. Also writes y again when y is
     * not NULL (so that it need not be kept): computed from gu before it is replaced. */
    void (*swiglu_backward)(void *gu, void *y, const void *dy, int64_t rows, int64_t F,
                            eq_dtype type);

    /* Causal softmax of a tile of scores, see eq_causal. Row r may see columns 0 .. first + r:
     *   p[r][j] = exp(scale * s[r][j] - lse[r]) for j <= first + r, else 0;  lse[r] = log sum exp
     * p out [rows, ld] type, may start at the same address as s; lse out [rows], may be NULL; s in
     * [rows, ld] f32. */
    void (*softmax_causal)(void *p, float *lse, const float *s, const eq_causal *tile);
    /* Recompute p from s and lse as above, and the gradient of s:
     *   ds[r][j] = scale * p[r][j] * (dp[r][j] - delta[r]), 0 where masked
     * p, ds out [rows, ld] type; s, dp in [rows, ld] f32; lse, delta in [rows]. p may start
     * at the same address as s, and ds at dp, whatever the type. */
    void (*softmax_causal_backward)(void *p, void *ds, const float *s, const float *dp,
                                    const float *lse, const float *delta, const eq_causal *tile);
    /* One token's attention, see eq_attend:
     *   out[h] = sum_j softmax_j(scale q[h] . k[j]) v[j],  j < keys; softmax and sums in f32
     *   lse[h] = log sum_j exp(scale q[h] . k[j]), unless lse is NULL
     * out [heads, D]; lse [heads]; q [heads, D];
     * k [eq_key_room(keys) / EQ_KEY_BLOCK, D, EQ_KEY_BLOCK], what is behind the last key is read
     * and has no effect; v [keys, D]; scratch, overwritten: [heads, eq_key_room(keys) + D] f32. */
    void (*attend)(void *out, float *lse, const void *q, const void *k, const void *v,
                   float *scratch, const eq_attend *shape);
    /* The same over packed keys and values (tensor/kv.h), x^ in f32 and keys in 4 bits rotated:
     * out, lse, q as above; scratch, overwritten: [heads, 2 eq_key_room(keys) + 2 D] f32. */
    void (*attend_packed)(void *out, float *lse, const void *q, const eq_kv *kv, float *scratch,
                          const eq_attend *shape);
    /* One row x [D] type of keys or values to codes and grid in 8 or 4 bits; back, as x^ rounded to
     * type; and both at once in place. The same bits in every table. */
    void (*kv_pack)(const eq_kv_row *row, const void *x, int64_t D, int bits, eq_dtype type);
    void (*kv_unpack)(void *x, const eq_kv_row *row, int64_t D, int bits, eq_dtype type);
    void (*kv_round)(void *x, int64_t D, int bits, eq_dtype type);
    /* out[r * stride] = sum_c a[r][c] * b[r][c]; a and b [rows, lda / ldb] type, n columns. */
    void (*dot_rows)(float *out, int64_t stride, const void *a, int64_t lda, const void *b,
                     int64_t ldb, int64_t rows, int64_t n, eq_dtype type);

    /* w^ of one row (see eq_quant_shape): y out [K] type; w in [K] f32; s, z in [K/g];
     * inside, s is clamped (eq_clamp_scale) and z, but not that of super-blocks, rounded (half to
     * even) and clamped to [0, Q]. */
    void (*fakequant_forward)(void *y, const float *w, const float *s, const float *z,
                              const eq_quant_shape *shape, eq_dtype type);
    /* Backward of fakequant_forward for one row, straight-through for rounding and the clamps of
     * s and z; v = rne(w/s) + z, with super-blocks rne(w/s + z):
     *   0 <= v <= Q:  dw = dy,  ds += dy (v - z - w/s)
     *   v < 0:        dw = 0,   ds += -dy z,       dz += -dy s
     *   v > Q:        dw = 0,   ds += dy (Q - z),  dz += -dy s           [EfficientQAT, its code]
     * dy in/out [K] f32, replaced by dw; ds, dz in/out [K/g]; w in [K]; s, z in [K/g]. */
    void (*fakequant_backward)(float *dy, float *ds, float *dz, const float *w, const float *s,
                               const float *z, const eq_quant_shape *shape);
    /* Final codes of one row: q out [K]; s in [K/g], used as it is; z in [K/g], whole, in
     * [0, Q], unless of super-blocks. A weight that is not a number gets code 0. */
    void (*quantize_codes)(uint8_t *q, const float *w, const float *s, const float *z,
                           const eq_quant_shape *shape);
    /* One AdamW step on n parameters. w, m, v in/out [n]; g in [n]. */
    void (*adamw)(float *w, float *m, float *v, const float *g, int64_t n, const eq_adamw *step);

    /* Scale and integer zero point of one group that minimise sum_i h[i] (w^[i] - w[i])^2 over
     * search->scales scales evenly spaced between shrink and grow times (max - min) / Q, range
     * widened to hold 0, and all zero points 0 .. Q; at 8 bits only that of the min-max quantizer
     * and its two neighbours. Ties: the first found, scales ascending, zeros ascending. Inside,
     * w / s is w * (1 / s), which may choose the other code at a tie.
     * On a symmetric grid the scales go from shrink to grow times max |w| / 2^(bits-1), first with
     * a plus, then all of them with a minus, and the zero point is 2^(bits-1).
     * s out, z out; w, h in [g]; returns the least weighted error. */
    float (*start_search)(float *s, float *z, const float *w, const float *h,
                          const eq_start_search *search);

    /* One row of frozen codes, packed by eq_codes_pack:  y = (q - z) s  as f32, rounded to type.
     * y out [K] type; codes with EQ_CODES_PAD readable bytes behind the row; s, z in [K/g], used as
     * they are; z is f32 with super-blocks, else u8. */
    void (*dequantize)(void *y, const uint8_t *codes, const float *s, const void *z,
                       const eq_quant_shape *shape, eq_dtype type);
    /* Backward of dequantize for the scales:  ds[k] += sum over the group of dy (q - z).
     * ds in/out [K/g]; dy in [K] f32.                                        [EfficientQAT, 3.3] */
    void (*scale_gradient)(float *ds, const float *dy, const uint8_t *codes, const void *z,
                           const eq_quant_shape *shape);

    /* Row m of the inputs for products with w from a row of X, x in [K] type. Where a value is not
     * finite, its segment's scale is NaN and its codes may be any. Else codes and scales are the
     * same bits in every table. */
    void (*panel_inputs)(const eq_panel_inputs *inputs, int64_t m, const void *x,
                         const eq_panels *w, eq_dtype type);
    /* Rows m .. m+rows-1 of X times panels panel .. panel+panels-1:
     *   y[r][n] = sum over groups of s (sum over segments of scale (q . code) - z sum)
     * and with minimums s (..) + m sum. y out [rows, ldy] f32, EQ_PANEL_ROWS columns a panel, also
     * those behind the last row of w. With inputs in 8 bits q . code is exact and the rest runs in
     * one order: the same bits in every table. */
    void (*panel_product)(float *y, int64_t ldy, const eq_panels *w, int64_t panel, int64_t panels,
                          const eq_panel_inputs *inputs, int64_t m, int64_t rows);
    /* Rows row0 .. row0+rows-1 of w to out [rows, K] type: the same bits in every table. */
    void (*panel_rows)(void *out, eq_dtype type, const eq_panels *w, int64_t row0, int64_t rows);

    /* See eq_softmax_error. out [n] type, may not overlap x or r. */
    void (*softmax_error)(void *out, const float *x, const float *r, int64_t n,
                          const eq_softmax_error *e, eq_dtype type);

    /* dy[c] = weight * (y[c] - t[c]) and the sum over c of (y[c] - t[c])^2 is returned.
     * dy out [C] f32, may be y; y in [C] f32; t in [C] type. */
    float (*error_row)(float *dy, const float *y, const void *t, float weight, int64_t C,
                       eq_dtype type);
    /* sum_c x[c]^2 of one row, x [C] type. */
    float (*sum_squares)(const void *x, int64_t C, eq_dtype type);
    /* log sum_i exp(x[i]), n >= 1; *argmax out: the first index of the largest. */
    float (*logsumexp)(const float *x, int64_t n, int64_t *argmax);
    /* KL divergence in nats of softmax(x) from softmax(r):
     *   sum_i exp(r[i] - lr) ((r[i] - lr) - (x[i] - lx)),  lr and lx the logsumexp of r and x. */
    float (*kl_row)(const float *r, float lr, const float *x, float lx, int64_t n);
} eq_kernels;

/* The best table that this CPU can run, or the one called `name` ("ref", "avx2", "avx512", "vnni",
 * which is "avx512" with dot products of bytes; NULL for the best); NULL when there is no such
 * table or the CPU cannot run it. */
const eq_kernels *eq_kernels_get(const char *name);

#endif
