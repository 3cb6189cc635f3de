/* One transformer block of the Llama kind: forward, and the backward pass that inverts it line by
 * line.
 *
 *   n1 = rmsnorm(x)      qkv = n1 Wqkv^T, q and k rotated     h = x + attention(qkv) Wo^T
 *   n2 = rmsnorm(h)      gu = n2 Wgu^T                        y = h + (silu(gate) * up) Wd^T
 *
 * where a family has them, each product has its bias added, and each head of q and k goes through
 * an rmsnorm before it is rotated. */
#ifndef EQ_MODEL_BLOCK_H
#define EQ_MODEL_BLOCK_H

#include "model/attention.h"
#include "model/config.h"
#include "model/head_norm.h"
#include "model/linear.h"
#include "model/norm.h"

/* The four products of a block; q, k, v and gate, up are one each because they share an input. */
typedef enum eq_unit { EQ_QKV, EQ_OUT, EQ_GATE_UP, EQ_DOWN, EQ_UNITS } eq_unit;

typedef struct eq_block {
    const eq_config *config; /* borrowed */
    eq_linear units[EQ_UNITS];
    float *norm1, *norm2;   /* [C]; owner: whoever made the block */
    float *dnorm1, *dnorm2; /* [C] gradients that backward adds to; NULL: none wanted */
    float *q_norm, *k_norm; /* [D] with config->qk_norm, as those above */
    float *dq_norm, *dk_norm;
    const float *biases[EQ_UNITS]; /* [N] of a unit, never trained; NULL: it has none */
} eq_block;

/* Rotary tables of positions 0 .. T-1: [T, D/2] each, in an arena. */
typedef struct eq_rope {
    float *cosine, *sine;
} eq_rope;

eq_rope eq_rope_layout(eq_arena *arena, const eq_config *config, int64_t T);
/* Fill tables taken from a reserved arena, for positions first .. first+T-1. freq_i =
 * theta^(-2i/D). */
void eq_rope_fill(eq_rope *rope, const eq_config *config, int64_t first, int64_t T);

/* Activations of a step of B windows of T tokens, M = B*T; all in one arena. */
typedef struct eq_activations {
    int64_t B, T, M;
    eq_dtype type;        /* of the void buffers: inputs of products */
    int kv_bits;          /* 8 or 4: round k and v as such a cache keeps them (tensor/kv.h) */
    bool plain_keys;      /* leave k as it is before its rotation */
    float *x, *h, *y;     /* [M, C]: input, after attention, output. y may be h. */
    float *rstd1, *rstd2; /* [M] */
    void *n1, *n2;        /* [M, C] */
    void *qkv;            /* [M, (H + 2 Hkv) D] */
    void *attn;           /* [M, H D] */
    float *lse;           /* [B, H, T] */
    void *gu;             /* [M, 2F] */
    void *act;            /* [M, F] */
    void *scratch;        /* for eq_linear */
    int threads;          /* that the buffers are for */
    eq_attention_scratch attention;
    eq_head_norm_scratch head_norm; /* with config->qk_norm */
    /* backward only */
    float *dh;    /* [M, C]: gradient of y, then of h, then of x */
    void *dn;     /* [M, C] in type: dh rounded for products, then the gradient of n1 or n2 */
    void *dattn;  /* [M, H D] */
    void *dact;   /* [M, F] */
    float *dnorm; /* of eq_norm_backward */
} eq_activations;

typedef struct eq_block_shape {
    int64_t B, T;
    eq_dtype type;
    bool backward; /* keep what the backward pass needs */
} eq_block_shape;

/* Take the buffers from the arena (also while measuring). Without backward, h and y are one buffer.
 * */
eq_activations eq_activations_layout(eq_arena *arena, const eq_config *config,
                                     const eq_block_shape *shape, int threads);
/* Those of another block that goes through its backward pass later: buffers of its own for what
 * the forward pass leaves to the backward pass, all others those of `other`. */
eq_activations eq_activations_beside(eq_arena *arena, const eq_config *config,
                                     const eq_activations *other);

/* acts->x to acts->y. */
void eq_block_forward(eq_ctx *ctx, const eq_block *block, const eq_rope *rope,
                      eq_activations *acts);
/* What the backward pass needs of the forward pass, from acts->x: all but acts->y. */
void eq_block_recompute(eq_ctx *ctx, const eq_block *block, const eq_rope *rope,
                        eq_activations *acts);
/* The three parts of it, for callers with an attention of their own (a cache of keys and values):
 * norm and q, k, v rotated by row of `rope` (row r of acts uses row r % T of the tables), k and v
 * as kv_bits and plain_keys say; output product onward from acts->attn. */
void eq_block_project(eq_ctx *ctx, const eq_block *block, const eq_rope *rope,
                      eq_activations *acts);
void eq_block_finish(eq_ctx *ctx, const eq_block *block, eq_activations *acts);

/* acts->dh holds dL/dy on entry. Gives the gradient of each unit to its linear's form, adds those
 * of the norms to those of the block, and leaves dL/dx in acts->dh. Overwrites qkv, gu, act and
 * attn's inputs. */
void eq_block_backward(eq_ctx *ctx, eq_block *block, const eq_rope *rope, eq_activations *acts);

/* Useful work of one step, in FLOP: 2 per weight and token forward and 4 backward, attention 2 T^2
 * C forward per window and twice that backward. */
double eq_block_flops(const eq_config *config, int64_t B, int64_t T, bool backward);

#endif
