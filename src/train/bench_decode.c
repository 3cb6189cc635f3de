#include "train/bench_decode.h"

#include "infer/generation.h"
#include "infer/sample.h"
#include "train/bench_whole.h"

enum { TOKENS = 128, MOST_TEXTS = 64 };

/* The most likely token of every text after each step, as greedy generation has it. */
static eq_status write_tokens(eq_ctx *ctx, eq_generation *g, int64_t texts, double seconds[TOKENS])
{
    const eq_sampling greedy = {0};
    const int64_t V = g->decoder->config.V;
    int64_t sequences[MOST_TEXTS];
    int32_t ids[MOST_TEXTS];
    eq_status st = EQ_OK;
    for (int i = 0; st == EQ_OK && i < TOKENS; i++) {
        double start = eq_seconds();
        for (int64_t t = 0; t < texts; t++) {
            float *logits = g->logits + (i ? t : 0) * V; /* all have read the same prompt */
            sequences[t] = t;
            ids[t] = eq_sample(ctx->kernels, logits, V, &greedy, NULL, NULL);
            if (ids[t] < 0) return eq_fail(ctx, EQ_ENUMERIC, "the model's logits are not finite");
        }
        st = eq_generation_step(ctx, g, sequences, ids, texts);
        seconds[i] = eq_seconds() - start;
    }
    return st;
}

/* Bytes of the keys and values of a token. */
static int64_t token_bytes(const eq_config *c, const eq_bench_task *task)
{
    int64_t row = c->D * (int64_t)eq_elem_bytes(task->type);
    if (eq_kv_packed(task->kv_bits))
        row = eq_kv_bytes(c->D, task->kv_bits) + 2 * eq_kv_grids(task->kv_bits);
    return 2 * c->L * c->Hkv * row;
}

static eq_status measure(eq_ctx *ctx, eq_generation *g, const eq_bench_task *task,
                         const int32_t *ids, eq_bench_decode *r)
{
    double seconds[TOKENS];
    eq_status st = EQ_OK;
    for (int64_t t = -1; st == EQ_OK && t < task->texts; t++) { /* the first time makes plans */
        eq_generation_cut(g, t < 0 ? 0 : t, 0);
        double start = eq_seconds();
        for (int64_t at = 0, n; st == EQ_OK && at < task->prompt; at += n) {
            n = task->prompt - at < g->cache.chunk ? task->prompt - at : g->cache.chunk;
            st = eq_generation_read(ctx, g, t < 0 ? 0 : t, ids + at, n, at + n == task->prompt);
        }
        r->read = eq_seconds() - start;
    }
    if (st == EQ_OK) st = write_tokens(ctx, g, task->texts, seconds);
    if (st != EQ_OK) return st;
    r->step = eq_bench_median(seconds, TOKENS);
    r->fastest = seconds[0];
    for (int i = 1; i < TOKENS; i++)
        r->fastest = seconds[i] < r->fastest ? seconds[i] : r->fastest;
    int64_t cached = task->texts * (task->prompt + TOKENS / 2);
    r->bytes =
        (double)g->weights.arena.used + (double)(cached * token_bytes(&g->decoder->config, task));
    return EQ_OK;
}

eq_status eq_bench_decode_run(eq_ctx *ctx, const eq_decoder *d, const eq_bench_task *task,
                              eq_bench_decode *r)
{
    enum { CHUNK = 512 };
    if (task->prompt < 1 || d->config.positions < task->prompt + TOKENS)
        return eq_fail(ctx, EQ_EINVAL,
                       "a prompt of %lld and %d tokens do not fit the model's context of %lld",
                       (long long)task->prompt, TOKENS, (long long)d->config.positions);
    if (task->texts < 1 || task->texts > MOST_TEXTS)
        return eq_fail(ctx, EQ_EINVAL, "texts must be from 1 to %d", MOST_TEXTS);
    if (task->kv_bits != 16 && !eq_kv_packed(task->kv_bits))
        return eq_fail(ctx, EQ_EINVAL, "kv-bits is %d, must be 16, 8 or 4", task->kv_bits);
    const eq_generation_shape shape = {.B = task->texts,
                                       .room = task->prompt + TOKENS,
                                       .type = task->type,
                                       .chunk = task->prompt < CHUNK ? task->prompt : CHUNK,
                                       .kv_bits = task->kv_bits,
                                       .panels = true,
                                       .activations = task->activations};
    *r = (eq_bench_decode){0};
    eq_generation g = {0};
    eq_rng rng;
    eq_rng_init(&rng, 1, 0);
    int32_t *ids = eq_alloc(ctx, task->prompt, sizeof *ids);
    for (int64_t i = 0; ids && i < task->prompt; i++)
        ids[i] = (int32_t)eq_rng_below(&rng, (uint64_t)d->config.V);
    double start = eq_seconds();
    eq_status st = ids ? eq_generation_init(ctx, &g, d, &shape) : EQ_ENOMEM;
    r->load = eq_seconds() - start;
    if (st == EQ_OK) st = measure(ctx, &g, task, ids, r);
    eq_generation_deinit(&g);
    eq_free(ids);
    return st;
}
