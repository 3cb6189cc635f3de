#include "infer/self.h"

#include "infer/generation.h"
#include "infer/sample.h"

/* Sequences that are written at once, 64 windows and 8 for validation. Products always have as many
 * rows, those of fewer sequences being filled up, because products of another height may round
 * differently. */
enum { MOST_BATCH = 72 };

typedef struct writer {
    const eq_decoder *decoder;
    const eq_self_options *options;
    eq_generation generation;
    int32_t *firsts; /* owned, [first_count]: the normal tokens */
    int64_t first_count;
    int64_t B;
    eq_rng rngs[MOST_BATCH];
    int32_t tokens[MOST_BATCH]; /* the last of each sequence; -1: its logits were not finite */
    bool ended[MOST_BATCH];
    double start; /* time */
} writer;

/* Share of the memory left that is taken when the caller names no limit. */
static const double FREE_SHARE = 0.75;

static eq_generation_shape shape_of(const eq_self_options *o, int64_t B, int64_t memory)
{
    return (eq_generation_shape){
        .B = B, .room = o->T, .type = o->type, .rows = MOST_BATCH, .memory = memory};
}

/* The windows in as few batches as memory allows, all about as large. */
static eq_status choose_shape(eq_ctx *ctx, writer *w, eq_generation_shape *shape)
{
    const eq_self_options *o = w->options;
    int64_t limit = o->memory, need = 0;
    if (!limit) limit = (int64_t)(FREE_SHARE * (double)eq_available_memory());
    const int64_t n = o->n - o->there;
    for (int64_t batches = (n + MOST_BATCH - 1) / MOST_BATCH;; batches++) {
        int64_t B = (n + batches - 1) / batches;
        *shape = shape_of(o, B, limit);
        need = eq_generation_bytes(ctx, w->decoder, shape);
        w->B = B;
        if (!limit || need <= limit) return EQ_OK;
        if (B == 1) break;
    }
    return eq_fail(ctx, EQ_ENOMEM,
                   "writing a window of %lld tokens needs %.1f MiB and may use %.1f MiB; give a "
                   "larger --memory, a smaller --seqlen or another --calib",
                   (long long)o->T, (double)need / (1 << 20), (double)limit / (1 << 20));
}

static eq_status find_firsts(eq_ctx *ctx, writer *w)
{
    int64_t V = w->decoder->config.V;
    w->firsts = eq_alloc(ctx, V, sizeof *w->firsts);
    if (!w->firsts) return EQ_ENOMEM;
    for (int64_t i = 0; i < V; i++)
        if (w->options->normal[i]) w->firsts[w->first_count++] = (int32_t)i;
    if (w->first_count == 0)
        return eq_fail(ctx, EQ_EINVAL, "the vocabulary of %lld has no normal token to begin with",
                       (long long)V);
    return EQ_OK;
}

static bool is_end(const eq_self_options *o, int32_t id)
{
    for (int64_t i = 0; i < o->end_count; i++)
        if (o->ends[i] == id) return true;
    return false;
}

/* The next token of sequence b. */
static void draw(const eq_kernels *kernels, writer *w, int64_t b)
{
    const eq_sampling plain = {.temperature = 1, .top_p = 1};
    int64_t V = w->decoder->config.V;
    eq_rng *rng = &w->rngs[b];
    if (w->ended[b])
        w->tokens[b] = w->firsts[eq_rng_below(rng, (uint64_t)w->first_count)];
    else
        w->tokens[b] = eq_sample(kernels, w->generation.logits + b * V, V, &plain, rng, NULL);
    w->ended[b] = is_end(w->options, w->tokens[b]);
}

static eq_status draw_all(eq_ctx *ctx, writer *w)
{
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t b = 0; b < w->B; b++)
        draw(ctx->kernels, w, b);
    for (int64_t b = 0; b < w->B; b++)
        if (w->tokens[b] < 0) return eq_fail(ctx, EQ_ENUMERIC, "the model's logits are not finite");
    return EQ_OK;
}

/* Windows first .. first+B-1 have t tokens. Those from n on are not kept. */
static void report(eq_ctx *ctx, const writer *w, int64_t first, int64_t t)
{
    const eq_self_options *o = w->options;
    int64_t left = o->n - first, wanted = left < w->B ? left : w->B;
    int64_t batches = (o->n - o->there + w->B - 1) / w->B;
    int64_t steps = (first - o->there) / w->B * o->T + t;
    double seconds = eq_seconds() - w->start;
    eq_progress progress = {.task = "writing calibration text",
                            .unit = "tokens",
                            .done = first * o->T + wanted * t,
                            .total = o->n * o->T,
                            .loss = -1};
    progress.per_second =
        (double)(progress.done - o->there * o->T) / (seconds > 0 ? seconds : 1e-9);
    progress.seconds_left = seconds * (double)(batches * o->T - steps) / (double)steps;
    eq_report(ctx, &progress);
}

static eq_status write_batch(eq_ctx *ctx, writer *w, int64_t first, int32_t *ids)
{
    const eq_self_options *o = w->options;
    eq_status st = EQ_OK;
    for (int64_t b = 0; b < w->B; b++) {
        eq_generation_cut(&w->generation, b, 0);
        eq_rng_init(&w->rngs[b], o->seed, (uint64_t)(first + b));
        w->ended[b] = true;
    }
    for (int64_t t = 0; st == EQ_OK && t < o->T; t++) {
        if (t > 0) st = eq_generation_step(ctx, &w->generation, NULL, w->tokens, w->B);
        if (st == EQ_OK) st = draw_all(ctx, w);
        for (int64_t b = 0; st == EQ_OK && b < w->B && first + b < o->n; b++)
            ids[(first + b) * o->T + t] = w->tokens[b];
        if (st == EQ_OK) st = eq_check_interrupt(ctx);
        if (st == EQ_OK) report(ctx, w, first, t + 1);
    }
    const int64_t there = first + w->B;
    return st == EQ_OK && o->keep && there < o->n ? o->keep(ctx, o->user, ids, there) : st;
}

eq_status eq_self_windows(eq_ctx *ctx, const eq_decoder *d, const eq_self_options *o, int32_t *ids)
{
    if (o->n < 1 || o->T < 2 || o->T > d->config.positions)
        return eq_fail(ctx, EQ_EINVAL,
                       "%lld windows of %lld tokens; at least 1 of 2 .. %lld is allowed",
                       (long long)o->n, (long long)o->T, (long long)d->config.positions);
    eq_status st = EQ_ENOMEM;
    writer *w = eq_alloc(ctx, 1, sizeof *w);
    if (!w) return st;
    w->decoder = d;
    w->options = o;
    w->start = eq_seconds();
    eq_generation_shape shape;
    st = choose_shape(ctx, w, &shape);
    if (st == EQ_OK) st = find_firsts(ctx, w);
    if (st == EQ_OK) st = eq_generation_init(ctx, &w->generation, d, &shape);
    for (int64_t first = o->there; st == EQ_OK && first < o->n; first += w->B)
        st = write_batch(ctx, w, first, ids);
    eq_generation_deinit(&w->generation);
    eq_free(w->firsts);
    eq_free(w);
    return st;
}
