#include "train/choose_bits.h"

#include "base/file.h"
#include "quant/recipe.h"
#include "train/output.h"
#include "train/sensitivity.h"

static eq_sensitivity_job sensitivity_job(const eq_quantize_job *job)
{
    const eq_quantize_options *o = job->options;
    return (eq_sensitivity_job){.teacher = job->teacher,
                                .train = &o->train,
                                .scheme = eq_scheme_of(o),
                                .ids = job->train,
                                .n = eq_quantize_samples(o),
                                .T = o->data.seqlen,
                                .type = job->type};
}

int64_t eq_choose_bits_bytes(const eq_quantize_job *job, int threads)
{
    const eq_sensitivity_job s = sensitivity_job(job);
    return job->options->target_bpw > 0 ? (int64_t)eq_sensitivity_bytes(&s, threads) : 0;
}

/* Of the folder, or of the GGUF file that is wanted; -1: cannot be stored. */
static int64_t stored_bits(const eq_quantize_options *o, const eq_scheme *scheme, int64_t N,
                           int64_t K)
{
    if (!o->gguf) return eq_scheme_stored_bits(scheme, N, K);
    const eq_dtype type = eq_scheme_ggml(scheme, K);
    return type ? 8 * (int64_t)eq_dtype_bytes(type, N * K) : -1;
}

/* What the variants of unit i, counted through all blocks, cost. */
static eq_budget_item item_of(const eq_quantize_job *job, int64_t i)
{
    const eq_config *c = &job->teacher->config;
    eq_scheme scheme = eq_scheme_of(job->options);
    eq_unit unit = (eq_unit)(i % EQ_UNITS);
    eq_part parts[EQ_MAX_PARTS];
    eq_budget_item item = {{0}, {0}};
    int count = eq_unit_parts(c, unit, parts);
    int64_t N = eq_unit_rows(c, unit), K = eq_unit_columns(c, unit);
    for (int v = 0; v < EQ_VARIANTS; v++) {
        bool fits = true;
        scheme.bits = EQ_TRIED_BITS[v];
        for (int p = 0; p < count; p++)
            fits = fits && eq_qmatrix_fits(parts[p].rows, K, scheme.bits);
        item.cost[v] = fits ? stored_bits(job->options, &scheme, N, K) : -1;
    }
    return item;
}

/* Units of the model, their weights, and what they may take. */
typedef struct choice {
    eq_budget_item *items; /* owned, [n] */
    int64_t n;
    double weights;
    int64_t budget; /* bits */
} choice;

static eq_status open_choice(eq_ctx *ctx, choice *ch, const eq_quantize_job *job)
{
    const eq_config *c = &job->teacher->config;
    *ch = (choice){.n = c->L * EQ_UNITS};
    ch->items = eq_alloc(ctx, ch->n, sizeof *ch->items);
    if (!ch->items) return EQ_ENOMEM;
    double least = 0;
    for (int64_t i = 0; i < ch->n; i++) {
        eq_unit unit = (eq_unit)(i % EQ_UNITS);
        ch->items[i] = item_of(job, i);
        ch->weights += (double)(eq_unit_rows(c, unit) * eq_unit_columns(c, unit));
        least += (double)eq_budget_least(&ch->items[i]);
    }
    ch->budget = (int64_t)(job->options->target_bpw * ch->weights);
    if (least <= (double)ch->budget) return EQ_OK;
    return eq_fail(ctx, EQ_EINVAL,
                   "target-bpw %g cannot be had: the least in groups of %lld is %.3f%s",
                   job->options->target_bpw, (long long)job->options->group, least / ch->weights,
                   job->options->gguf ? " in ggml's types" : "");
}

eq_status eq_choose_bits_check(eq_ctx *ctx, const eq_quantize_job *job)
{
    choice ch;
    eq_status st = open_choice(ctx, &ch, job);
    eq_free(ch.items);
    return st;
}

/* ---- choosing ------------------------------------------------------------------------------ */

static eq_status log_unit(eq_ctx *ctx, const eq_quantize_job *job, int64_t i, const double *kl)
{
    eq_part parts[EQ_MAX_PARTS];
    eq_unit_parts(&job->teacher->config, (eq_unit)(i % EQ_UNITS), parts);
    json_t *line =
        json_pack("{s:I, s:s, s:s, s:[f, f, f, f]}", "block", (json_int_t)(i / EQ_UNITS), "event",
                  "sensitivity", "unit", parts[0].name, "kl", kl[0], kl[1], kl[2], kl[3]);
    return eq_run_log(ctx, job->run, line);
}

static eq_status measure(eq_ctx *ctx, choice *ch, const eq_quantize_job *job)
{
    eq_sensitivity_job s = sensitivity_job(job);
    char *path = eq_path_join(ctx, job->run->folder, "sensitivity.safetensors");
    double(*kl)[EQ_VARIANTS] = eq_alloc(ctx, ch->n, sizeof *kl);
    s.path = path;
    eq_status st = path && kl ? eq_sensitivity(ctx, kl, &s) : EQ_ENOMEM;
    for (int64_t i = 0; st == EQ_OK && i < ch->n; i++) {
        memcpy(ch->items[i].loss, kl[i], sizeof kl[i]);
        st = log_unit(ctx, job, i, kl[i]);
    }
    eq_free(kl);
    eq_free(path);
    return st;
}

static eq_status choose(eq_ctx *ctx, eq_block_scheme *schemes, const eq_quantize_job *job)
{
    choice ch;
    eq_status st = open_choice(ctx, &ch, job);
    int *variants = st == EQ_OK ? eq_alloc(ctx, ch.n, sizeof *variants) : NULL;
    if (st == EQ_OK) st = variants ? measure(ctx, &ch, job) : EQ_ENOMEM;
    if (st == EQ_OK) st = eq_budget_choose(ctx, variants, ch.items, ch.n, ch.budget);
    for (int64_t i = 0; st == EQ_OK && i < ch.n; i++)
        schemes[i / EQ_UNITS].units[i % EQ_UNITS].bits = EQ_TRIED_BITS[variants[i]];
    eq_free(variants);
    eq_free(ch.items);
    return st;
}

static eq_status write_choice(eq_ctx *ctx, const eq_block_scheme *schemes,
                              const eq_quantize_job *job, const char *path)
{
    const eq_config *c = &job->teacher->config;
    char comment[128];
    snprintf(comment, sizeof comment, "chosen for at most %g bits per weight; these take %.4f",
             job->options->target_bpw, eq_output_bits_per_weight(c, schemes));
    return eq_recipe_write(ctx, path, schemes, c, comment);
}

eq_status eq_choose_bits(eq_ctx *ctx, eq_block_scheme *schemes, const eq_quantize_job *job)
{
    char *path = eq_path_join(ctx, job->run->folder, "recipe.json");
    eq_status st = path ? EQ_OK : EQ_ENOMEM;
    if (path && eq_file_exists(path)) {
        st = eq_recipe_read(ctx, schemes, &job->teacher->config, path);
    } else if (path) {
        st = choose(ctx, schemes, job);
        if (st == EQ_OK) st = write_choice(ctx, schemes, job, path);
    }
    eq_free(path);
    return st;
}
