#include "eval/perplexity.h"

#include <math.h>

/* Sums over positions; added window by window, position by position, so that threads do not matter.
 * */
typedef struct sums {
    double nll, reference_nll, kl;
    int64_t same, positions;
} sums;

typedef struct position {
    double nll, reference_nll, kl;
    bool same;
} position;

/* One position: the logits of the model and, unless NULL, of the reference. */
static position measure(const eq_kernels *k, const float *x, const float *r, int64_t V,
                        int32_t next)
{
    position p = {0};
    int64_t best = 0, reference_best = 0;
    float lx = k->logsumexp(x, V, &best);
    p.nll = (double)lx - (double)x[next];
    if (!r) return p;
    float lr = k->logsumexp(r, V, &reference_best);
    p.reference_nll = (double)lr - (double)r[next];
    p.kl = (double)k->kl_row(r, lr, x, lx, V);
    p.same = best == reference_best;
    return p;
}

typedef struct job {
    const eq_decoder *model, *reference;
    const eq_eval_windows *windows;
    eq_decoder_pass pass, reference_pass;
    position *list; /* [slice] */
} job;

/* `rows` positions whose logits are in the passes; the first of them predicts token `next` of all
 * windows. */
static void add_slice(eq_ctx *ctx, job *j, sums *s, int64_t next, int64_t rows)
{
    const int32_t *ids = j->windows->ids + next;
    const uint8_t *counts = j->windows->counts ? j->windows->counts + next : NULL;
    const float *x = j->pass.logits, *r = j->reference ? j->reference_pass.logits : NULL;
    int64_t V = j->model->config.V;
    position *list = j->list;
#pragma omp parallel for schedule(dynamic, 4) num_threads(ctx->threads)
    for (int64_t i = 0; i < rows; i++)
        if (!counts || counts[i])
            list[i] = measure(ctx->kernels, x + i * V, r ? r + i * V : NULL, V, ids[i]);
    for (int64_t i = 0; i < rows; i++) {
        if (counts && !counts[i]) continue;
        s->positions++;
        s->nll += list[i].nll;
        s->reference_nll += list[i].reference_nll;
        s->kl += list[i].kl;
        s->same += list[i].same;
    }
}

static eq_status check_sums(eq_ctx *ctx, const job *j, const sums *s, int64_t window)
{
    const bool mine = isfinite(s->nll), theirs = isfinite(s->reference_nll);
    if (mine && theirs && isfinite(s->kl)) return EQ_OK;
    const eq_decoder *culprit = mine && !theirs ? j->reference : j->model;
    return eq_fail(ctx, EQ_ENUMERIC, "%s: the logits are not finite in window %lld",
                   eq_checkpoint_path(culprit->checkpoint), (long long)window);
}

static eq_status add_window(eq_ctx *ctx, job *j, sums *s, int64_t window)
{
    int64_t T = j->windows->T;
    const int32_t *ids = j->windows->ids + window * T;
    eq_status st = eq_decoder_forward(ctx, j->model, &j->pass, ids);
    if (st == EQ_OK && j->reference)
        st = eq_decoder_forward(ctx, j->reference, &j->reference_pass, ids);
    int64_t slice = j->pass.slice;
    for (int64_t row = 0; st == EQ_OK && row < T - 1; row += slice) {
        int64_t rows = T - 1 - row < slice ? T - 1 - row : slice;
        eq_decoder_logits(ctx, j->model, &j->pass, row, rows);
        if (j->reference) eq_decoder_logits(ctx, j->reference, &j->reference_pass, row, rows);
        st = eq_ctx_status(ctx);
        if (st == EQ_OK) add_slice(ctx, j, s, window * T + row + 1, rows);
    }
    return st == EQ_OK ? check_sums(ctx, j, s, window) : st;
}

static void report(eq_ctx *ctx, const sums *s, int64_t done, int64_t n, int64_t T, double start)
{
    double seconds = eq_seconds() - start;
    const eq_progress p = {.task = "evaluating",
                           .unit = "windows",
                           .done = done,
                           .total = n,
                           .loss = s->positions ? s->nll / (double)s->positions : -1,
                           .per_second = (double)(done * T) / seconds,
                           .seconds_left = seconds / (double)done * (double)(n - done)};
    eq_report(ctx, &p);
}

static eq_status finish(eq_ctx *ctx, const sums *s, bool reference, eq_eval_result *result)
{
    double positions = (double)s->positions;
    if (!s->positions) return eq_fail(ctx, EQ_EINVAL, "no token of the windows counts");
    result->tokens = s->positions;
    result->perplexity = exp(s->nll / positions);
    result->kl = reference ? s->kl / positions : -1;
    result->top1 = reference ? (double)s->same / positions : -1;
    result->reference_perplexity = reference ? exp(s->reference_nll / positions) : -1;
    return EQ_OK;
}

int64_t eq_perplexity_bytes(const eq_ctx *ctx, const eq_decoder *model, bool reference, int64_t T,
                            eq_dtype type)
{
    return eq_decoder_pass_bytes(ctx, model, 1, T, type) * (reference ? 2 : 1);
}

eq_status eq_perplexity(eq_ctx *ctx, const eq_decoder *model, const eq_decoder *reference,
                        const eq_eval_windows *windows, eq_dtype type, eq_eval_result *result)
{
    int64_t n = windows->n, T = windows->T;
    job j = {.model = model, .reference = reference, .windows = windows};
    sums s = {0};
    double start = eq_seconds();
    *result = (eq_eval_result){.windows = n};
    if (reference && reference->config.V != model->config.V)
        return eq_fail(ctx, EQ_EINVAL, "the reference has a vocabulary of %lld, the model of %lld",
                       (long long)reference->config.V, (long long)model->config.V);
    eq_status st = eq_decoder_pass_init(ctx, &j.pass, model, 1, T, type);
    j.pass.acts.kv_bits = windows->kv_bits;
    if (st == EQ_OK && reference)
        st = eq_decoder_pass_init(ctx, &j.reference_pass, reference, 1, T, type);
    if (st == EQ_OK) {
        j.list = eq_alloc(ctx, j.pass.slice, sizeof *j.list);
        if (!j.list) st = EQ_ENOMEM;
    }
    for (int64_t w = 0; st == EQ_OK && w < n; w++) {
        st = add_window(ctx, &j, &s, w);
        if (st == EQ_OK) report(ctx, &s, w + 1, n, T, start);
    }
    if (st == EQ_OK) st = finish(ctx, &s, reference != NULL, result);
    eq_free(j.list);
    eq_decoder_pass_deinit(&j.reference_pass);
    eq_decoder_pass_deinit(&j.pass);
    return st;
}
