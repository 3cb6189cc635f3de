#include "infer/generate.h"

#include "infer/generation.h"
#include "infer/sample.h"
#include <math.h>

static eq_status check_options(eq_ctx *ctx, const eq_decoder *d, int64_t count,
                               const eq_generate_options *o)
{
    if (count < 1) return eq_fail(ctx, EQ_EINVAL, "the prompt has no tokens, at least 1 is needed");
    if (o->max_tokens < 1)
        return eq_fail(ctx, EQ_EINVAL, "max tokens is %lld, at least 1 is needed",
                       (long long)o->max_tokens);
    int64_t positions = d->config.positions;
    if (count > positions || o->max_tokens > positions - count)
        return eq_fail(ctx, EQ_EINVAL,
                       "%lld tokens of prompt and %lld new ones exceed the model's context of %lld",
                       (long long)count, (long long)o->max_tokens, (long long)positions);
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return eq_fail(ctx, EQ_EINVAL, "temperature is %g, allowed are 0 and more", o->temperature);
    if (o->top_k < 0)
        return eq_fail(ctx, EQ_EINVAL, "top-k is %lld, allowed are 0 and more",
                       (long long)o->top_k);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return eq_fail(ctx, EQ_EINVAL, "top-p is %g, allowed is above 0 up to 1", o->top_p);
    return EQ_OK;
}

static bool ends_text(const eq_listener *l, int32_t id)
{
    for (int64_t i = 0; i < l->end_count; i++)
        if (l->ends[i] == id) return true;
    return false;
}

static eq_status speak(eq_ctx *ctx, eq_generation *g, const eq_generate_options *o,
                       const eq_listener *listener, eq_candidate *scratch)
{
    const eq_sampling sampling = {o->temperature, o->top_k, o->top_p};
    eq_rng rng;
    eq_rng_init(&rng, o->seed, 0);
    eq_status st = EQ_OK;
    for (int64_t made = 1; st == EQ_OK; made++) {
        int32_t id =
            eq_sample(ctx->kernels, g->logits, g->decoder->config.V, &sampling, &rng, scratch);
        if (id < 0) return eq_fail(ctx, EQ_ENUMERIC, "the model's logits are not finite");
        bool more = listener->emit(listener->user, id);
        if (!more || made == o->max_tokens || ends_text(listener, id)) break;
        st = eq_check_interrupt(ctx);
        if (st == EQ_OK) st = eq_generation_step(ctx, g, &id);
    }
    return st;
}

eq_status eq_generate_tokens(eq_ctx *ctx, const eq_decoder *d, const int32_t *ids, int64_t count,
                             const eq_generate_options *options, eq_dtype type,
                             const eq_listener *listener)
{
    eq_status st = check_options(ctx, d, count, options);
    if (st != EQ_OK) return st;
    const eq_generation_shape shape = {.B = 1,
                                       .room = count + options->max_tokens,
                                       .type = type,
                                       .panels = true,
                                       .activations = options->activations};
    const eq_sampling sampling = {options->temperature, options->top_k, options->top_p};
    eq_generation g = {0};
    eq_candidate *scratch = NULL;
    st = eq_generation_init(ctx, &g, d, &shape);
    if (st == EQ_OK && eq_sampling_ranks(&sampling)) {
        scratch = eq_alloc(ctx, d->config.V, sizeof *scratch);
        if (!scratch) st = EQ_ENOMEM;
    }
    if (st == EQ_OK) st = eq_generation_prompt(ctx, &g, ids, count);
    if (st == EQ_OK) st = speak(ctx, &g, options, listener, scratch);
    eq_free(scratch);
    eq_generation_deinit(&g);
    return st;
}
