#include "export/export.h"

#include <math.h>

static const eq_export_kind KINDS[] = {
    [EQ_EXPORT_GGUF] = {false, eq_gguf_plan, eq_gguf_export},
    [EQ_EXPORT_DENSE] = {true, eq_dense_plan, eq_dense_export},
    [EQ_EXPORT_GPTQ] = {true, eq_gptq_plan, eq_gptq_export},
    [EQ_EXPORT_AWQ] = {true, eq_packed_plan, eq_packed_export},
    [EQ_EXPORT_COMPRESSED] = {true, eq_packed_plan, eq_packed_export},
    [EQ_EXPORT_EQAT] = {true, eq_packed_plan, eq_packed_export},
};

const eq_export_kind *eq_export_kind_of(eq_export_format format)
{
    return &KINDS[format];
}

eq_status eq_weight_refuse(eq_ctx *ctx, const eq_export_job *job, const eq_weight *w,
                           const char *why)
{
    return eq_fail(ctx, EQ_EINVAL, "%s: %s %s", eq_checkpoint_path(job->decoder->checkpoint),
                   w->module, why);
}

eq_status eq_export_progress(eq_ctx *ctx, const eq_export_job *job, const char *task, int64_t i)
{
    const eq_progress progress = {.task = task,
                                  .unit = "tensors",
                                  .done = i,
                                  .total = job->count,
                                  .loss = -1,
                                  .per_second = -1,
                                  .seconds_left = -1};
    eq_report(ctx, &progress);
    return eq_check_interrupt(ctx);
}

/* ---- reading back -------------------------------------------------------------------------- */

enum { TILE = 64 }; /* rows compared at a time by one thread */

/* What a comparison has seen so far. */
typedef struct seen {
    float error, bound; /* largest difference, and largest that was allowed */
    int64_t wrong;      /* first row with more than that; N when there is none */
} seen;

static void compare_row(seen *s, const float *want, const float *got, const eq_weight *w,
                        int64_t row)
{
    for (int64_t k = 0; k < w->K; k++) {
        float off = fabsf(got[k] - want[k]), bound = w->absolute + w->relative * fabsf(want[k]);
        if (!(off <= bound) && row < s->wrong) s->wrong = row;
        if (off > s->error) s->error = off;
        if (bound > s->bound) s->bound = bound;
    }
}

static eq_status compare(eq_ctx *ctx, const eq_weight *want, const eq_weight *got, seen *all)
{
    int64_t K = want->K, tiles = (want->N + TILE - 1) / TILE;
    float *rooms = eq_alloc(ctx, ctx->threads * TILE * 2 * K, sizeof *rooms);
    if (!rooms) return EQ_ENOMEM;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t t = 0; t < tiles; t++) {
        float *a = rooms + eq_this_thread() * TILE * 2 * K, *b = a + TILE * K;
        int64_t row = t * TILE, rows = want->N - row < TILE ? want->N - row : TILE;
        seen own = {.wrong = want->N};
        eq_weight_rows(a, want, row, rows);
        eq_weight_rows(b, got, row, rows);
        for (int64_t r = 0; r < rows; r++)
            compare_row(&own, a + r * K, b + r * K, want, row + r);
#pragma omp critical(eq_export_compare)
        {
            if (own.wrong < all->wrong) all->wrong = own.wrong;
            if (own.error > all->error) all->error = own.error;
            if (own.bound > all->bound) all->bound = own.bound;
        }
    }
    eq_free(rooms);
    return EQ_OK;
}

static bool same_config(const eq_config *a, const eq_config *b)
{
    return !strcmp(a->family, b->family) && a->L == b->L && a->C == b->C && a->F == b->F &&
           a->H == b->H && a->Hkv == b->Hkv && a->D == b->D && a->V == b->V &&
           a->positions == b->positions && (float)a->theta == (float)b->theta && a->eps == b->eps &&
           a->tied == b->tied && a->qk_norm == b->qk_norm && a->qkv_bias == b->qkv_bias &&
           a->out_bias == b->out_bias && a->mlp_bias == b->mlp_bias;
}

static eq_status check_weight(eq_ctx *ctx, const eq_export_job *job, const eq_weight *want,
                              const eq_weight *got, seen *all)
{
    all->wrong = want->N;
    eq_status st = compare(ctx, want, got, all);
    if (st != EQ_OK || all->wrong == want->N) return st;
    return eq_fail(
        ctx, EQ_EINTERNAL, "%s: row %lld of %s reads back as other numbers than were written",
        eq_checkpoint_path(job->decoder->checkpoint), (long long)all->wrong, want->module);
}

eq_status eq_export_verify(eq_ctx *ctx, const eq_export_job *job, const eq_decoder *written,
                           eq_export_result *result)
{
    const char *path = eq_checkpoint_path(job->decoder->checkpoint);
    eq_weight *got = NULL;
    int64_t count = 0;
    seen all = {0};
    double bits = 0, weights = 0;
    if (!same_config(&job->decoder->config, &written->config))
        return eq_fail(ctx, EQ_EINTERNAL, "%s: the sizes read back are others", path);
    eq_status st = eq_weights_list(ctx, written, &got, &count);
    for (int64_t i = 0; st == EQ_OK && i < count; i++) {
        st = check_weight(ctx, job, &job->weights[i], &got[i], &all);
        if (st == EQ_OK) st = eq_export_progress(ctx, job, "reading back", i + 1);
        bits += got[i].linear ? eq_weight_bits(&got[i]) : 0;
        weights += got[i].linear ? (double)(got[i].N * got[i].K) : 0;
    }
    result->bits_per_weight = bits / weights;
    result->largest_error = (double)all.error;
    result->error_bound = (double)all.bound;
    eq_free(got);
    return st;
}
