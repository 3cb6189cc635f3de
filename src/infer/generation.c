#include "infer/generation.h"

#include <assert.h>

/* Copies of the weights take at most this many bytes, and at most this share of the memory that
 * is left. */
#define EQ_MOST_COPY ((int64_t)2 << 30)
enum { COPY_SHARE = 2 };

static int64_t most_rows(const eq_generation_shape *shape)
{
    return shape->rows > shape->B ? shape->rows : shape->B;
}

/* How weights are kept beside `held` bytes of everything else, and what that takes. Copies are
 * left out where memory is short; panels are not, they stand for the file's pages. */
static eq_dense_kind choose_kind(const eq_ctx *ctx, const eq_decoder *d,
                                 const eq_generation_shape *shape, int64_t held, int64_t *bytes)
{
    eq_dense_kind kind = most_rows(shape) <= EQ_FEW_ROWS ? EQ_DENSE_ROWS : EQ_DENSE_PACKED;
    if (shape->panels)
        kind = shape->activations == EQ_ACTIVATIONS_EXACT ? EQ_DENSE_EXACT : EQ_DENSE_FAST;
    eq_dense_size size = eq_dense_measure(ctx, d, shape->type, kind);
    int64_t left = eq_memory_limit(shape->memory);
    bool fits = left == 0 || (size.copies <= left / COPY_SHARE &&
                              (size.copies < size.bytes || size.bytes <= left - held));
    bool kept = fits && size.copies <= EQ_MOST_COPY;
    *bytes = kept ? size.bytes : 0;
    return kept ? kind : EQ_DENSE_STORED;
}

/* A chunk at the very end has rows of padding behind it. */
static int64_t rope_rows(const eq_generation *g)
{
    return g->cache.room + eq_cache_rows(1);
}

static void layout(eq_generation *g, const eq_generation_shape *shape, int threads)
{
    const eq_config *c = &g->decoder->config;
    int64_t rows = most_rows(shape), chunk = eq_cache_rows(shape->chunk);
    const eq_cache_shape cache = {shape->B, shape->room, shape->chunk, shape->type, shape->kv_bits};
    const eq_block_shape step = {rows > chunk ? rows : chunk, 1, shape->type, false};
    g->rows = shape->rows;
    g->cache = eq_cache_layout(&g->arena, c, &cache, threads);
    g->rope = eq_rope_layout(&g->arena, c, rope_rows(g));
    g->here = eq_rope_layout(&g->arena, c, rows);
    g->acts = eq_activations_layout(&g->arena, c, &step, threads);
    g->acts.plain_keys = shape->kv_bits == 4;
    g->acts.scratch = eq_arena_take(&g->arena, (int64_t)eq_decoder_scratch(g->decoder), 1);
    g->lengths = eq_arena_take(&g->arena, shape->B, sizeof *g->lengths);
    g->places = eq_arena_take(&g->arena, shape->B, sizeof *g->places);
    g->logits = eq_arena_take(&g->arena, rows * c->V, sizeof(float));
}

/* Bytes of all but the copy of the weights. */
static int64_t held_bytes(const eq_ctx *ctx, const eq_decoder *d, const eq_generation_shape *shape)
{
    eq_generation g = {.decoder = d, .arena = eq_arena_measure()};
    layout(&g, shape, ctx->threads);
    return (int64_t)g.arena.used;
}

int64_t eq_generation_bytes(const eq_ctx *ctx, const eq_decoder *d,
                            const eq_generation_shape *shape)
{
    int64_t held = held_bytes(ctx, d, shape), weights;
    choose_kind(ctx, d, shape, held, &weights);
    return held + weights;
}

eq_status eq_generation_init(eq_ctx *ctx, eq_generation *g, const eq_decoder *d,
                             const eq_generation_shape *shape)
{
    int64_t held = held_bytes(ctx, d, shape), weights;
    eq_dense_kind kind = choose_kind(ctx, d, shape, held, &weights);
    if (kind == EQ_DENSE_STORED && shape->panels)
        eq_log(ctx, EQ_LOG_WARNING,
               "no memory for copies of the weights: they are read as they are stored, slowly, and "
               "activations are exact");
    *g = (eq_generation){.decoder = d};
    eq_status st = eq_arena_reserve(ctx, &g->arena, (size_t)held);
    if (st == EQ_OK) {
        layout(g, shape, ctx->threads);
        eq_rope_fill(&g->rope, &d->config, 0, rope_rows(g));
        eq_slabs_set_rope(&g->cache.slabs, &g->rope);
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

void eq_generation_cut(eq_generation *g, int64_t sequence, int64_t length)
{
    assert(length >= 0 && length <= g->lengths[sequence]);
    g->lengths[sequence] = length;
}

/* Let the activations be those of M rows and fill those behind the first n of x with 0. */
static void set_rows(eq_generation *g, int64_t M, int64_t n)
{
    int64_t C = g->decoder->config.C;
    g->acts.B = 1;
    g->acts.M = g->acts.T = M;
    memset(g->acts.x + n * C, 0, (size_t)((M - n) * C) * sizeof *g->acts.x);
}

/* Logits of the first n rows of acts.x: final norm and head. */
static eq_status finish(eq_ctx *ctx, eq_generation *g, int64_t n)
{
    const eq_config *c = &g->decoder->config;
    eq_activations *a = &g->acts;
    set_rows(g, n > g->rows ? n : g->rows, n);
    ctx->kernels->rmsnorm_forward(a->n1, a->rstd1, a->x, g->decoder->final_norm, a->M, c->C, c->eps,
                                  a->type);
    eq_linear_call call = {a->M, a->type, EQ_F32, false, a->scratch};
    eq_linear_forward(ctx, &g->weights.head, g->logits, a->n1, &call);
    return eq_ctx_status(ctx);
}

/* Where each token of a step goes, and the rotary tables of these places. */
static void find_places(eq_generation *g, const int64_t *sequences, int64_t n)
{
    int64_t half = g->decoder->config.D / 2;
    for (int64_t i = 0; i < n; i++) {
        int64_t s = sequences ? sequences[i] : i, position = g->lengths[s];
        assert(position < g->cache.room);
        g->places[i] = (eq_place){s, position};
        memcpy(g->here.cosine + i * half, g->rope.cosine + position * half,
               (size_t)half * sizeof(float));
        memcpy(g->here.sine + i * half, g->rope.sine + position * half,
               (size_t)half * sizeof(float));
    }
}

eq_status eq_generation_step(eq_ctx *ctx, eq_generation *g, const int64_t *sequences,
                             const int32_t *ids, int64_t n)
{
    const eq_config *c = &g->decoder->config;
    eq_activations *a = &g->acts;
    int64_t head = c->H * c->D * (int64_t)eq_elem_bytes(a->type);
    eq_status st = eq_embed(ctx, &g->weights.embedding, a->x, ids, n);
    if (st != EQ_OK) return st;
    set_rows(g, n > g->rows ? n : g->rows, n);
    find_places(g, sequences, n);
    memset((char *)a->attn + n * head, 0, (size_t)((a->M - n) * head));
    for (int64_t i = 0; i < c->L; i++) {
        const eq_block *block = &g->weights.blocks[i];
        eq_block_project(ctx, block, &g->here, a);
        eq_cache_attend(ctx, &g->cache, i, g->places, n, a->attn, a->qkv);
        eq_block_finish(ctx, block, a);
    }
    for (int64_t i = 0; i < n; i++)
        g->lengths[g->places[i].sequence]++;
    return finish(ctx, g, n);
}

eq_status eq_generation_read(eq_ctx *ctx, eq_generation *g, int64_t sequence, const int32_t *ids,
                             int64_t count, bool logits)
{
    const eq_config *c = &g->decoder->config;
    eq_activations *a = &g->acts;
    const eq_place place = {sequence, g->lengths[sequence]};
    int64_t first = place.position * (c->D / 2);
    const eq_rope rope = {g->rope.cosine + first, g->rope.sine + first};
    assert(count >= 1 && count <= g->cache.chunk && place.position + count <= g->cache.room);
    eq_status st = eq_embed(ctx, &g->weights.embedding, a->x, ids, count);
    set_rows(g, eq_cache_rows(count), count);
    for (int64_t i = 0; st == EQ_OK && i < c->L; i++) {
        const eq_block *block = &g->weights.blocks[i];
        eq_block_project(ctx, block, &rope, a);
        eq_cache_extend(ctx, &g->cache, i, &place, count, a->attn, a->qkv);
        eq_block_finish(ctx, block, a);
        st = eq_check_interrupt(ctx);
    }
    if (st == EQ_OK) st = eq_ctx_status(ctx);
    if (st != EQ_OK) return st;
    g->lengths[sequence] += count;
    if (!logits) return EQ_OK;
    memmove(a->x, a->x + (count - 1) * c->C, (size_t)c->C * sizeof *a->x);
    return finish(ctx, g, 1);
}
