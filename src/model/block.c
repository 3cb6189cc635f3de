#include "model/block.h"

#include "model/vectors.h"
#include <math.h>

/* Rows that one task of a row-wise loop takes. */
enum { ROWS = 64 };

static int64_t chunks_of(int64_t rows)
{
    return (rows + ROWS - 1) / ROWS;
}

static int64_t rows_of(int64_t chunk, int64_t M)
{
    return M - chunk * ROWS < ROWS ? M - chunk * ROWS : ROWS;
}

/* Row `row` of a [.., columns] buffer of type. */
static void *row_at(void *p, int64_t row, int64_t columns, eq_dtype type)
{
    return (char *)p + (size_t)(row * columns) * eq_elem_bytes(type);
}

eq_rope eq_rope_layout(eq_arena *arena, const eq_config *config, int64_t T)
{
    eq_rope rope;
    rope.cosine = eq_arena_take(arena, T * (config->D / 2), sizeof(float));
    rope.sine = eq_arena_take(arena, T * (config->D / 2), sizeof(float));
    return rope;
}

void eq_rope_fill(eq_rope *rope, const eq_config *config, int64_t first, int64_t T)
{
    int64_t half = config->D / 2;
    for (int64_t i = 0; i < half; i++) {
        double frequency = pow(config->theta, -2.0 * (double)i / (double)config->D);
        for (int64_t t = 0; t < T; t++) {
            double angle = (double)(first + t) * frequency;
            rope->cosine[t * half + i] = (float)cos(angle);
            rope->sine[t * half + i] = (float)sin(angle);
        }
    }
}

static eq_attention attention_shape(const eq_config *c, const eq_activations *a)
{
    return (eq_attention){a->B, a->T, c->H, c->Hkv, c->D, a->type};
}

static eq_head_norm head_norm_shape(const eq_config *c, const eq_activations *a)
{
    return (eq_head_norm){a->M, c->H, c->Hkv, c->D, c->eps, a->type};
}

static size_t linear_scratch(const eq_config *c)
{
    const int64_t sizes[EQ_UNITS][2] = {
        {eq_config_qkv(c), c->C}, {c->C, c->H * c->D}, {2 * c->F, c->C}, {c->C, c->F}};
    size_t most = 0;
    for (int u = 0; u < EQ_UNITS; u++) {
        size_t need = eq_linear_scratch(sizes[u][0], sizes[u][1]);
        most = need > most ? need : most;
    }
    return most;
}

static void layout_backward(eq_arena *arena, eq_activations *a, const eq_config *c)
{
    size_t e = eq_elem_bytes(a->type);
    a->dh = eq_arena_take(arena, a->M * c->C, sizeof(float));
    a->dn = eq_arena_take(arena, a->M * c->C, e);
    a->dattn = eq_arena_take(arena, a->M * c->H * c->D, e);
    a->dact = eq_arena_take(arena, a->M * c->F, e);
    a->dnorm = eq_arena_take(arena, eq_norm_scratch(a->M, c->C), sizeof(float));
}

/* What the backward pass reads of the forward pass; without one, h and n2 need no place. */
static void layout_forward(eq_arena *arena, eq_activations *a, const eq_config *c, bool backward)
{
    size_t e = eq_elem_bytes(a->type);
    int64_t M = a->M, C = c->C;
    a->h = backward ? eq_arena_take(arena, M * C, sizeof(float)) : a->x;
    a->rstd1 = eq_arena_take(arena, M, sizeof(float));
    a->rstd2 = eq_arena_take(arena, M, sizeof(float));
    a->n1 = eq_arena_take(arena, M * C, e);
    a->n2 = backward ? eq_arena_take(arena, M * C, e) : a->n1;
    a->qkv = eq_arena_take(arena, M * eq_config_qkv(c), e);
    a->attn = eq_arena_take(arena, M * c->H * c->D, e);
    a->lse = eq_arena_take(arena, M * c->H, sizeof(float));
    a->gu = eq_arena_take(arena, M * 2 * c->F, e);
    a->act = eq_arena_take(arena, M * c->F, e);
    const eq_head_norm heads = head_norm_shape(c, a);
    if (c->qk_norm) a->head_norm = eq_head_norm_layout(arena, &heads, a->threads, backward);
}

eq_activations eq_activations_beside(eq_arena *arena, const eq_config *c,
                                     const eq_activations *other)
{
    eq_activations a = *other;
    layout_forward(arena, &a, c, true);
    return a;
}

eq_activations eq_activations_layout(eq_arena *arena, const eq_config *c,
                                     const eq_block_shape *shape, int threads)
{
    eq_activations a = {
        .B = shape->B, .T = shape->T, .M = shape->B * shape->T, .type = shape->type};
    a.threads = threads;
    a.x = eq_arena_take(arena, a.M * c->C, sizeof(float));
    a.y = shape->backward ? eq_arena_take(arena, a.M * c->C, sizeof(float)) : a.x;
    layout_forward(arena, &a, c, shape->backward);
    a.scratch = eq_arena_take(arena, (int64_t)linear_scratch(c), 1);
    eq_attention attention = attention_shape(c, &a);
    a.attention = eq_attention_layout(arena, &attention, threads, shape->backward);
    if (shape->backward) layout_backward(arena, &a, c);
    return a;
}

static eq_norm_shape norm_shape(const eq_config *c, const eq_activations *a)
{
    return (eq_norm_shape){a->M, c->C, c->eps, a->type};
}

/* Rotate q and k by the rows of the tables (sign 1), or back (sign -1). Each window has T rows, so
 * a chunk is cut at their borders. */
static void rotate(eq_ctx *ctx, const eq_rope *rope, const eq_config *c, eq_activations *a,
                   float sign)
{
    int64_t heads = a->plain_keys ? c->H : c->H + c->Hkv;
    int64_t ld = eq_config_qkv(c), half = c->D / 2, per_window = chunks_of(a->T);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t k = 0; k < a->B * per_window; k++) {
        int64_t t = k % per_window * ROWS, row = k / per_window * a->T + t;
        ctx->kernels->rope(row_at(a->qkv, row, ld, a->type), ld, rope->cosine + t * half,
                           rope->sine + t * half, rows_of(k % per_window, a->T), heads, c->D, sign,
                           a->type);
    }
}

/* Round `count` heads of each row from number `first` on. */
static void round_heads(eq_ctx *ctx, const eq_config *c, eq_activations *a, int64_t first,
                        int64_t count)
{
    int64_t ld = eq_config_qkv(c);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t r = 0; r < a->M; r++)
        for (int64_t h = first; h < first + count; h++)
            ctx->kernels->kv_round(row_at(a->qkv, 1, r * ld + h * c->D, a->type), c->D, a->kv_bits,
                                   a->type);
}

static eq_linear_call unit_call(const eq_activations *a, eq_dtype out, bool accumulate)
{
    return (eq_linear_call){a->M, a->type, out, accumulate, a->scratch};
}

/* A unit's product, its bias added. */
static void unit_forward(eq_ctx *ctx, const eq_block *block, eq_unit unit, void *y, const void *x,
                         const eq_linear_call *call)
{
    const eq_linear *linear = &block->units[unit];
    eq_linear_forward(ctx, linear, y, x, call);
    if (block->biases[unit])
        eq_bias_add(ctx, y, block->biases[unit], call->M, linear->N, call->out_type);
}

void eq_block_project(eq_ctx *ctx, const eq_block *block, const eq_rope *rope, eq_activations *a)
{
    const eq_norm_shape norm = norm_shape(block->config, a);
    eq_norm_forward(ctx, a->n1, a->rstd1, a->x, block->norm1, &norm);
    eq_linear_call call = unit_call(a, a->type, false);
    unit_forward(ctx, block, EQ_QKV, a->qkv, a->n1, &call);
    const eq_config *c = block->config;
    const eq_head_norm heads = head_norm_shape(c, a);
    if (c->qk_norm)
        eq_head_norm_forward(ctx, a->qkv, block->q_norm, block->k_norm, &heads, &a->head_norm);
    if (a->kv_bits == 4) round_heads(ctx, c, a, c->H, c->Hkv);
    rotate(ctx, rope, c, a, 1.0f);
    if (a->kv_bits == 8) round_heads(ctx, c, a, c->H, c->Hkv);
    if (eq_kv_packed(a->kv_bits)) round_heads(ctx, c, a, c->H + c->Hkv, c->Hkv);
}

static void swiglu_forward(eq_ctx *ctx, const eq_config *c, eq_activations *a)
{
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t k = 0; k < chunks_of(a->M); k++) {
        int64_t row = k * ROWS;
        ctx->kernels->swiglu_forward(row_at(a->act, row, c->F, a->type),
                                     row_at(a->gu, row, 2 * c->F, a->type), rows_of(k, a->M), c->F,
                                     a->type);
    }
}

static void copy_rows(eq_ctx *ctx, float *to, const float *from, int64_t M, int64_t C)
{
    if (to == from) return;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t k = 0; k < chunks_of(M); k++)
        memcpy(to + k * ROWS * C, from + k * ROWS * C, (size_t)(rows_of(k, M) * C) * sizeof *to);
}

/* From acts->attn to acts->act: the output product, the norm, and the MLP but for its last product.
 */
static void finish_inner(eq_ctx *ctx, const eq_block *block, eq_activations *a)
{
    const eq_config *c = block->config;
    const eq_norm_shape norm = norm_shape(c, a);
    eq_linear_call residual = unit_call(a, EQ_F32, true), plain = unit_call(a, a->type, false);
    copy_rows(ctx, a->h, a->x, a->M, c->C);
    unit_forward(ctx, block, EQ_OUT, a->h, a->attn, &residual);
    eq_norm_forward(ctx, a->n2, a->rstd2, a->h, block->norm2, &norm);
    unit_forward(ctx, block, EQ_GATE_UP, a->gu, a->n2, &plain);
    swiglu_forward(ctx, c, a);
}

void eq_block_finish(eq_ctx *ctx, const eq_block *block, eq_activations *a)
{
    eq_linear_call residual = unit_call(a, EQ_F32, true);
    finish_inner(ctx, block, a);
    copy_rows(ctx, a->y, a->h, a->M, block->config->C);
    unit_forward(ctx, block, EQ_DOWN, a->y, a->act, &residual);
}

static void attend(eq_ctx *ctx, const eq_block *block, const eq_rope *rope, eq_activations *a)
{
    eq_attention shape = attention_shape(block->config, a);
    eq_block_project(ctx, block, rope, a);
    eq_attention_forward(ctx, a->attn, a->lse, a->qkv, &shape, &a->attention);
}

void eq_block_forward(eq_ctx *ctx, const eq_block *block, const eq_rope *rope, eq_activations *a)
{
    attend(ctx, block, rope, a);
    eq_block_finish(ctx, block, a);
}

void eq_block_recompute(eq_ctx *ctx, const eq_block *block, const eq_rope *rope, eq_activations *a)
{
    attend(ctx, block, rope, a);
    finish_inner(ctx, block, a);
}

/* dh in the type of products: itself in f32, else rounded into dn. */
static const void *rounded_dh(eq_ctx *ctx, const eq_config *c, eq_activations *a)
{
    if (a->type == EQ_F32) return a->dh;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t k = 0; k < chunks_of(a->M); k++)
        ctx->kernels->f32_to_bf16(row_at(a->dn, k * ROWS, c->C, a->type), a->dh + k * ROWS * c->C,
                                  rows_of(k, a->M) * c->C);
    return a->dn;
}

static void swiglu_backward(eq_ctx *ctx, const eq_config *c, eq_activations *a)
{
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t k = 0; k < chunks_of(a->M); k++) {
        int64_t row = k * ROWS;
        ctx->kernels->swiglu_backward(row_at(a->gu, row, 2 * c->F, a->type), NULL,
                                      row_at(a->dact, row, c->F, a->type), rows_of(k, a->M), c->F,
                                      a->type);
    }
}

/* n2 -> gu -> act -> y, backwards. dn goes to dn, whose rounded dh is used up by then. */
static void mlp_backward(eq_ctx *ctx, eq_block *block, eq_activations *a)
{
    const eq_config *c = block->config;
    eq_linear_call call = unit_call(a, a->type, false);
    const void *dy = rounded_dh(ctx, c, a);
    eq_linear_backward(ctx, &block->units[EQ_DOWN], a->dact, dy, a->act, &call);
    swiglu_backward(ctx, c, a);
    eq_linear_backward(ctx, &block->units[EQ_GATE_UP], a->dn, a->gu, a->n2, &call);
    const eq_norm_shape norm = norm_shape(c, a);
    const eq_norm_saved saved = {a->h, block->norm2, a->rstd2};
    eq_norm_backward(ctx, a->dh, block->dnorm2, a->dn, &saved, &norm, a->dnorm);
}

void eq_block_backward(eq_ctx *ctx, eq_block *block, const eq_rope *rope, eq_activations *a)
{
    const eq_config *c = block->config;
    eq_attention shape = attention_shape(c, a);
    eq_linear_call call = unit_call(a, a->type, false);
    mlp_backward(ctx, block, a);
    const void *dh = rounded_dh(ctx, c, a);
    eq_linear_backward(ctx, &block->units[EQ_OUT], a->dattn, dh, a->attn, &call);
    eq_attention_backward(ctx, a->qkv, a->dattn, a->attn, a->lse, &shape, &a->attention);
    rotate(ctx, rope, c, a, -1.0f);
    const eq_head_norm heads = head_norm_shape(c, a);
    if (c->qk_norm)
        eq_head_norm_backward(ctx, a->qkv, block->dq_norm, block->dk_norm, block->q_norm,
                              block->k_norm, &heads, &a->head_norm);
    eq_linear_backward(ctx, &block->units[EQ_QKV], a->dn, a->qkv, a->n1, &call);
    const eq_norm_shape norm = norm_shape(c, a);
    const eq_norm_saved saved = {a->x, block->norm1, a->rstd1};
    eq_norm_backward(ctx, a->dh, block->dnorm1, a->dn, &saved, &norm, a->dnorm);
}

double eq_block_flops(const eq_config *c, int64_t B, int64_t T, bool backward)
{
    double weights = (double)c->C * (double)(eq_config_qkv(c) + c->H * c->D + 3 * c->F);
    double tokens = (double)B * (double)T;
    double forward = 2.0 * weights * tokens + 2.0 * tokens * (double)T * (double)(c->H * c->D);
    return backward ? 3.0 * forward : forward;
}
