#include "infer/request.h"

#include "base/arena.h"
#include <math.h>
#include <string.h>

/* ---- what is allowed ----------------------------------------------------------------------- */

static eq_status check_lengths(eq_ctx *ctx, const eq_request *r, const eq_job_limits *limits)
{
    int64_t most = limits->context, new_tokens = r->options.max_tokens;
    if (r->count < 1)
        return eq_fail(ctx, EQ_EINVAL, "the prompt has no tokens, at least 1 is needed");
    if (new_tokens < 0)
        return eq_fail(ctx, EQ_EINVAL, "max tokens is %lld, allowed are 0 and more",
                       (long long)new_tokens);
    if (r->count < most && new_tokens <= most - r->count) return EQ_OK;
    return eq_fail(ctx, EQ_EINVAL,
                   "%lld tokens of prompt and %lld new ones exceed the %scontext of %lld",
                   (long long)r->count, (long long)(new_tokens ? new_tokens : 1),
                   most == limits->positions ? "model's " : "", (long long)most);
}

static eq_status check_sampling(eq_ctx *ctx, const eq_generate_options *o)
{
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return eq_fail(ctx, EQ_EINVAL, "temperature is %g, allowed are 0 and more", o->temperature);
    if (o->top_k < 0)
        return eq_fail(ctx, EQ_EINVAL, "top-k is %lld, allowed are 0 and more",
                       (long long)o->top_k);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return eq_fail(ctx, EQ_EINVAL, "top-p is %g, allowed is above 0 up to 1", o->top_p);
    if (!(o->min_p >= 0 && o->min_p <= 1))
        return eq_fail(ctx, EQ_EINVAL, "min-p is %g, allowed is 0 to 1", o->min_p);
    if (!(o->repetition_penalty >= 0.01 && o->repetition_penalty <= 100))
        return eq_fail(ctx, EQ_EINVAL, "the repetition penalty is %g, allowed is 0.01 to 100",
                       o->repetition_penalty);
    return EQ_OK;
}

static eq_status check_text(eq_ctx *ctx, const eq_request *r, const eq_job_limits *limits)
{
    for (int64_t i = 0; i < r->count; i++)
        if (r->ids[i] < 0 || r->ids[i] >= limits->V)
            return eq_fail(ctx, EQ_EINVAL, "token %lld is %d, the vocabulary has %lld",
                           (long long)i, r->ids[i], (long long)limits->V);
    if (r->stop_count && !limits->text)
        return eq_fail(ctx, EQ_EINVAL, "a stop string is given, but the model has no tokenizer");
    for (int64_t i = 0; i < r->stop_count; i++)
        if (!*r->stops[i]) return eq_fail(ctx, EQ_EINVAL, "a stop string is empty");
    if (r->top_logprobs < 0 || r->top_logprobs > EQ_MOST_LOGPROBS || r->top_logprobs > limits->V)
        return eq_fail(ctx, EQ_EINVAL, "top logprobs is %lld, allowed are 0 to %d",
                       (long long)r->top_logprobs, EQ_MOST_LOGPROBS);
    return EQ_OK;
}

/* ---- life ---------------------------------------------------------------------------------- */

/* Copy what the request points to, and make room for `seen`. */
static void copy(eq_job *job, eq_arena *arena, const eq_request *from, int64_t V)
{
    int32_t *ids = eq_arena_take(arena, from->count, sizeof *ids);
    int32_t *ends = eq_arena_take(arena, from->end_count, sizeof *ends);
    job->stops = eq_arena_take(arena, from->stop_count, sizeof *job->stops);
    bool penalty = from->options.repetition_penalty != 1;
    job->seen = eq_arena_take(arena, penalty ? V : 0, sizeof *job->seen);
    for (int64_t i = 0; i < from->stop_count; i++) {
        size_t size = strlen(from->stops[i]);
        char *text = eq_arena_take(arena, (int64_t)size, 1);
        if (text) job->stops[i] = (eq_text){memcpy(text, from->stops[i], size), size};
    }
    if (!arena->base) return;
    memcpy(ids, from->ids, (size_t)from->count * sizeof *ids);
    if (from->end_count) memcpy(ends, from->ends, (size_t)from->end_count * sizeof *ends);
    if (!penalty) job->seen = NULL;
    for (int64_t i = 0; penalty && i < from->count; i++)
        job->seen[ids[i]] = 1;
    job->request.ids = ids;
    job->request.ends = ends;
    job->request.stops = NULL;
}

eq_status eq_job_new(eq_ctx *ctx, eq_job **out, const eq_request *r, const eq_job_limits *limits)
{
    *out = NULL;
    eq_status st = check_lengths(ctx, r, limits);
    if (st == EQ_OK) st = check_sampling(ctx, &r->options);
    if (st == EQ_OK) st = check_text(ctx, r, limits);
    if (st != EQ_OK) return st;
    eq_job *job = eq_alloc(ctx, 1, sizeof *job);
    if (!job) return EQ_ENOMEM;
    eq_arena arena = eq_arena_measure();
    job->request = *r;
    copy(job, &arena, r, limits->V);
    st = eq_arena_reserve(ctx, &arena, arena.used);
    if (st != EQ_OK) {
        eq_free(job);
        return st;
    }
    job->copies = arena.base;
    copy(job, &arena, r, limits->V);
    job->text = (eq_text_stream){.stops = job->stops, .stop_count = r->stop_count};
    job->event = (eq_event){.user = r->user, .token = -1, .prompt_tokens = r->count};
    eq_rng_init(&job->rng, r->options.seed, 0);
    *out = job;
    return EQ_OK;
}

void eq_job_free(eq_job *job)
{
    if (!job) return;
    eq_text_stream_deinit(&job->text);
    eq_free(job->copies);
    eq_free(job);
}

/* ---- tokens -------------------------------------------------------------------------------- */

void eq_job_draw(eq_job *job, const eq_kernels *kernels, float *logits, int64_t V, float *raw,
                 eq_candidate *ranks)
{
    const eq_generate_options *o = &job->request.options;
    const eq_sampling sampling = {o->temperature, o->top_k, o->top_p, o->min_p};
    int64_t best, count = job->request.top_logprobs;
    eq_event *event = &job->event;
    const float *own = logits;
    float total = kernels->logsumexp(logits, V, &best);
    int32_t id = (int32_t)best;
    event->token = -1;
    if (!isfinite(total)) return;
    /* Probabilities in the event are the model's own, and sampling changes the logits. */
    if (o->temperature > 0 || job->seen) {
        memcpy(raw, logits, (size_t)V * sizeof *raw);
        own = raw;
        if (job->seen) eq_penalize(logits, job->seen, V, o->repetition_penalty);
        id = eq_sample(kernels, logits, V, &sampling, &job->rng, ranks);
    }
    if (id < 0) return;
    if (job->seen) job->seen[id] = 1;
    event->token = id;
    event->logprob = own[id] - total;
    if (!count) return;
    eq_most_likely(ranks, count, own, V);
    for (int64_t i = 0; i < count; i++)
        job->top[i] = (eq_logprob){ranks[i].id, ranks[i].logit - total};
    event->top = job->top;
    event->top_count = count;
}

bool eq_job_ends(const eq_job *job)
{
    for (int64_t i = 0; i < job->request.end_count; i++)
        if (job->request.ends[i] == job->event.token) return true;
    return false;
}
