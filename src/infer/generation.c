#include "infer/generation.h"

#include <assert.h>

/* Copies of the weights take at most this many bytes, and at most this share of the memory that
 * is left. */
#define EQ_MOST_COPY ((int64_t)2 << 30)
enum { COPY_SHARE = 2 };

static eq_dense_kind choose_kind(const eq_ctx *ctx, const eq_decoder *d,
                                 const eq_generation_shape *shape)
{
    if (shape->panels)
        return shape->activations == EQ_ACTIVATIONS_EXACT ? EQ_DENSE_EXACT : EQ_DENSE_FAST;
    eq_dense_kind kind = shape->B == 1 && shape->rows <= 1 ? EQ_DENSE_ROWS : EQ_DENSE_PACKED;
    int64_t need = eq_dense_bytes(ctx, d, shape->type, kind);
    int64_t left = eq_memory_limit(shape->memory);
    bool worth = need <= EQ_MOST_COPY && (left == 0 || need <= left / COPY_SHARE);
    return worth ? kind : EQ_DENSE_STORED;
}

static void layout(eq_generation *g, const eq_generation_shape *shape, int threads)
{
    const eq_config *c = &g->decoder->config;
    int64_t rows = shape->rows > shape->B ? shape->rows : shape->B;
    const eq_cache_shape cache = {shape->B, shape->room, shape->type};
    const eq_block_shape step = {rows, 1, shape->type, false};
    g->cache = eq_cache_layout(&g->arena, c, &cache, threads);
    g->rope = eq_rope_layout(&g->arena, c, shape->room);
    g->acts = eq_activations_layout(&g->arena, c, &step, threads);
    g->acts.scratch = eq_arena_take(&g->arena, (int64_t)eq_decoder_scratch(g->decoder), 1);
    g->ids = eq_arena_take(&g->arena, rows, sizeof *g->ids);
    g->logits = eq_arena_take(&g->arena, rows * c->V, sizeof(float));
}

int64_t eq_generation_bytes(const eq_ctx *ctx, const eq_decoder *d,
                            const eq_generation_shape *shape)
{
    eq_generation g = {.decoder = d, .arena = eq_arena_measure()};
    layout(&g, shape, ctx->threads);
    return (int64_t)g.arena.used + eq_dense_bytes(ctx, d, shape->type, choose_kind(ctx, d, shape));
}

eq_status eq_generation_init(eq_ctx *ctx, eq_generation *g, const eq_decoder *d,
                             const eq_generation_shape *shape)
{
    eq_dense_kind kind = choose_kind(ctx, d, shape);
    *g = (eq_generation){.decoder = d, .arena = eq_arena_measure()};
    layout(g, shape, ctx->threads);
    eq_status st = eq_arena_reserve(ctx, &g->arena, g->arena.used);
    if (st == EQ_OK) {
        layout(g, shape, ctx->threads);
        eq_rope_fill(&g->rope, &d->config, 0, shape->room);
        st = eq_dense_init(ctx, &g->weights, d, shape->type, kind);
    }
    if (st != EQ_OK) eq_generation_deinit(g);
    return st;
}

void eq_generation_deinit(eq_generation *g)
{
    eq_dense_deinit(&g->weights);
    eq_arena_release(&g->arena);
    *g = (eq_generation){0};
}

void eq_generation_rewind(eq_generation *g)
{
    g->length = 0;
}

/* Final norm and head on acts.x. */
static eq_status finish(eq_ctx *ctx, eq_generation *g)
{
    const eq_config *c = &g->decoder->config;
    eq_activations *a = &g->acts;
    ctx->kernels->rmsnorm_forward(a->n1, a->rstd1, a->x, g->decoder->norms + 2 * c->L * c->C, a->M,
                                  c->C, c->eps, a->type);
    eq_linear_call call = {a->M, a->type, EQ_F32, false, a->scratch};
    eq_linear_forward(ctx, &g->weights.head, g->logits, a->n1, &call);
    return eq_ctx_status(ctx);
}

eq_status eq_generation_step(eq_ctx *ctx, eq_generation *g, const int32_t *ids)
{
    const eq_config *c = &g->decoder->config;
    eq_activations *a = &g->acts;
    int64_t position = g->length, half = c->D / 2;
    assert(position < g->cache.room);
    eq_rope rope = {g->rope.cosine + position * half, g->rope.sine + position * half};
    memcpy(g->ids, ids, (size_t)g->cache.B * sizeof *ids);
    eq_status st = eq_decoder_embed(ctx, g->decoder, a->x, g->ids, a->B);
    if (st != EQ_OK) return st;
    for (int64_t i = 0; i < c->L; i++) {
        const eq_block *block = &g->weights.blocks[i];
        eq_block_project(ctx, block, &rope, a);
        eq_cache_attend(ctx, &g->cache, i, position, a->attn, a->qkv);
        eq_block_finish(ctx, block, a);
    }
    g->length = position + 1;
    return finish(ctx, g);
}

/* The blocks over a whole prompt, in activations `a` of T = count tokens. */
static eq_status read_prompt(eq_ctx *ctx, eq_generation *g, eq_activations *a, const int32_t *ids)
{
    const eq_config *c = &g->decoder->config;
    const eq_attention shape = {1, a->T, c->H, c->Hkv, c->D, a->type};
    eq_status st = eq_decoder_embed(ctx, g->decoder, a->x, ids, a->T);
    for (int64_t i = 0; st == EQ_OK && i < c->L; i++) {
        const eq_block *block = &g->weights.blocks[i];
        eq_block_project(ctx, block, &g->rope, a);
        eq_cache_put(ctx, &g->cache, i, a->T, a->qkv);
        eq_attention_forward(ctx, a->attn, a->lse, a->qkv, &shape, &a->attention);
        eq_block_finish(ctx, block, a);
        st = eq_check_interrupt(ctx);
    }
    return st == EQ_OK ? eq_ctx_status(ctx) : st;
}

eq_status eq_generation_prompt(eq_ctx *ctx, eq_generation *g, const int32_t *ids, int64_t count)
{
    assert(g->acts.B == 1 && g->length == 0 && count >= 1 && count <= g->cache.room);
    const eq_config *c = &g->decoder->config;
    const eq_block_shape shape = {1, count, g->acts.type, false};
    eq_arena arena = eq_arena_measure();
    eq_activations_layout(&arena, c, &shape, ctx->threads);
    eq_status st = eq_arena_reserve(ctx, &arena, arena.used);
    if (st != EQ_OK) return st;
    eq_activations a = eq_activations_layout(&arena, c, &shape, ctx->threads);
    st = read_prompt(ctx, g, &a, ids);
    if (st == EQ_OK) {
        memcpy(g->acts.x, a.x + (count - 1) * c->C, (size_t)c->C * sizeof *a.x);
        g->length = count;
        st = finish(ctx, g);
    }
    eq_arena_release(&arena);
    return st;
}
