#include "train/fisher.h"

#include "train/logits_loss.h"

#include <math.h>

typedef struct fisher {
    const eq_decoder *d;
    int64_t n, T;
    eq_activations acts;
    eq_rope rope;
    eq_logits_loss loss;
    eq_linear head;
    float *inputs;
    float *tokens, *channels;
    eq_arena arena;
} fisher;

static void layout(fisher *f, eq_dtype type, int threads)
{
    const eq_config *c = &f->d->config;
    const eq_block_shape block = {1, f->T, type, true};
    const eq_logits_shape loss = {f->T, c->C, c->V, type, {0, 1, 1}, 0};
    f->acts = eq_activations_layout(&f->arena, c, &block, threads);
    f->rope = eq_rope_layout(&f->arena, c, f->T);
    f->loss = eq_logits_loss_layout(&f->arena, &loss);
    f->inputs = eq_arena_take(&f->arena, (c->L + 1) * f->T * c->C, sizeof(float));
}

static void take(fisher *f, int64_t i, int64_t w)
{
    int64_t C = f->d->config.C;
    for (int64_t t = 0; t < f->T; t++) {
        const float *g = f->acts.dh + t * C;
        float sum = 0;
        for (int64_t c = 0; c < C; c++) {
            f->channels[i * C + c] += g[c] * g[c];
            sum += g[c] * g[c];
        }
        f->tokens[(i * f->n + w) * f->T + t] = sum;
    }
}

static eq_status window(eq_ctx *ctx, fisher *f, const int32_t *ids, int64_t w)
{
    const eq_config *c = &f->d->config;
    int64_t MC = f->T * c->C;
    eq_status st = eq_decoder_embed(ctx, f->d, f->inputs, ids, f->T);
    if (st != EQ_OK) return st;
    for (int64_t i = 0; i < c->L; i++) {
        f->acts.x = f->inputs + i * MC;
        f->acts.y = f->inputs + (i + 1) * MC;
        eq_block_forward(ctx, &f->d->blocks[i].block, &f->rope, &f->acts);
    }
    const eq_logits_window logits = {
        .ids = ids, .x = f->inputs + c->L * MC, .end = {f->d->norms + 2 * c->L * c->C, &f->head, c->eps}};
    eq_logits_loss_window(ctx, &f->loss, &logits, 1.0f, f->acts.dh, NULL);
    for (int64_t i = c->L - 1; i >= 0; i--) {
        eq_block b = f->d->blocks[i].block;
        take(f, i, w);
        f->acts.x = f->inputs + i * MC;
        eq_block_recompute(ctx, &b, &f->rope, &f->acts);
        eq_block_backward(ctx, &b, &f->rope, &f->acts);
    }
    st = eq_ctx_status(ctx);
    return st == EQ_OK ? eq_check_interrupt(ctx) : st;
}

/* The square root tempers what one sampled token gives; mean 1. */
static void normalize(float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        x[i] = sqrtf(x[i]);
        sum += (double)x[i];
    }
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] * (double)n / sum);
}

eq_status eq_fisher(eq_ctx *ctx, const eq_decoder *decoder, const int32_t *ids, int64_t n,
                    int64_t T, eq_dtype type, float **tokens, float **channels)
{
    const eq_config *c = &decoder->config;
    fisher f = {.d = decoder, .n = n, .T = T, .arena = eq_arena_measure(), .head = decoder->head};
    layout(&f, type, ctx->threads);
    size_t bytes = f.arena.used;
    f.arena = (eq_arena){0};
    f.tokens = eq_alloc(ctx, c->L * n * T, sizeof(float));
    f.channels = eq_alloc(ctx, c->L * c->C, sizeof(float));
    eq_status st = f.tokens && f.channels ? eq_arena_reserve(ctx, &f.arena, bytes) : EQ_ENOMEM;
    if (st == EQ_OK) {
        layout(&f, type, ctx->threads);
        eq_rope_fill(&f.rope, c, 0, T);
        memset(f.channels, 0, (size_t)(c->L * c->C) * sizeof(float));
    }
    for (int64_t w = 0; st == EQ_OK && w < n; w++)
        st = window(ctx, &f, ids + w * T, w);
    for (int64_t i = 0; st == EQ_OK && i < c->L; i++) {
        normalize(f.tokens + i * n * T, n * T);
        normalize(f.channels + i * c->C, c->C);
    }
    eq_arena_release(&f.arena);
    *tokens = f.tokens;
    *channels = f.channels;
    return st;
}
