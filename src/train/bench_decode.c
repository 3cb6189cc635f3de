#include "train/bench_decode.h"

#include "infer/generation.h"
#include "infer/sample.h"
#include "train/bench_whole.h"

enum { PROMPT = 512, TOKENS = 128 };

/* The most likely token after each step, as greedy generation has it. */
static eq_status write_tokens(eq_ctx *ctx, eq_generation *g, double seconds[TOKENS])
{
    const eq_sampling greedy = {0};
    eq_status st = EQ_OK;
    for (int i = 0; st == EQ_OK && i < TOKENS; i++) {
        double start = eq_seconds();
        int32_t id = eq_sample(ctx->kernels, g->logits, g->decoder->config.V, &greedy, NULL, NULL);
        if (id < 0) return eq_fail(ctx, EQ_ENUMERIC, "the model's logits are not finite");
        st = eq_generation_step(ctx, g, NULL, &id, 1);
        seconds[i] = eq_seconds() - start;
    }
    return st;
}

static eq_status measure(eq_ctx *ctx, eq_generation *g, eq_bench_decode *r)
{
    const eq_config *c = &g->decoder->config;
    int32_t ids[PROMPT];
    double seconds[TOKENS];
    eq_rng rng;
    eq_rng_init(&rng, 1, 0);
    for (int i = 0; i < PROMPT; i++)
        ids[i] = (int32_t)eq_rng_below(&rng, (uint64_t)c->V);
    eq_status st = EQ_OK;
    for (int i = 0; st == EQ_OK && i < 2; i++) { /* the first one makes plans */
        eq_generation_cut(g, 0, 0);
        double start = eq_seconds();
        st = eq_generation_read(ctx, g, 0, ids, PROMPT, true);
        r->read = eq_seconds() - start;
    }
    if (st == EQ_OK) st = write_tokens(ctx, g, seconds);
    if (st != EQ_OK) return st;
    r->token = eq_bench_median(seconds, TOKENS);
    r->fastest = seconds[0];
    for (int i = 1; i < TOKENS; i++)
        r->fastest = seconds[i] < r->fastest ? seconds[i] : r->fastest;
    int64_t cache =
        2 * c->L * c->Hkv * c->D * (PROMPT + TOKENS / 2) * (int64_t)eq_elem_bytes(g->acts.type);
    r->bytes = (double)g->weights.arena.used + (double)cache;
    return EQ_OK;
}

eq_status eq_bench_decode_run(eq_ctx *ctx, const eq_decoder *d, eq_dtype type,
                              eq_activation_mode activations, eq_bench_decode *r)
{
    if (d->config.positions < PROMPT + TOKENS)
        return eq_fail(ctx, EQ_EINVAL,
                       "the model's context of %lld is below the %d of this measure",
                       (long long)d->config.positions, PROMPT + TOKENS);
    const eq_generation_shape shape = {.B = 1,
                                       .room = PROMPT + TOKENS,
                                       .type = type,
                                       .chunk = PROMPT,
                                       .panels = true,
                                       .activations = activations};
    *r = (eq_bench_decode){.prompt = PROMPT, .tokens = TOKENS};
    eq_generation g = {0};
    double start = eq_seconds();
    eq_status st = eq_generation_init(ctx, &g, d, &shape);
    r->load = eq_seconds() - start;
    if (st == EQ_OK) st = measure(ctx, &g, r);
    eq_generation_deinit(&g);
    return st;
}
