#include "io/mix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void eq_mix_deinit(eq_mix *mix)
{
    for (int64_t i = 0; i < mix->n; i++)
        eq_free(mix->sources[i].path);
    eq_free(mix->sources);
    *mix = (eq_mix){0};
}

/* ---- the words of a mix -------------------------------------------------------------------- */

/* Put a source at the end, which then owns the path. */
static eq_status append(eq_ctx *ctx, eq_mix *mix, char *path, double weight)
{
    for (int64_t i = 0; i < mix->n; i++)
        if (!strcmp(mix->sources[i].path, path))
            return eq_fail(ctx, EQ_EINVAL, "%s: is named twice", path);
    eq_mix_source *sources = eq_grow(ctx, mix->sources, mix->n, mix->n + 1, sizeof *sources);
    if (!sources) return EQ_ENOMEM;
    mix->sources = sources;
    mix->sources[mix->n++] = (eq_mix_source){path, weight};
    return EQ_OK;
}

/* The weight behind the last colon of a part, and the length of the path before it. */
static double split_weight(const char *part, size_t *path_size)
{
    const char *colon = strrchr(part, ':');
    *path_size = strlen(part);
    if (!colon || !colon[1] || strspn(colon + 1, "0123456789.eE+-") != strlen(colon + 1)) return 1;
    char *end = NULL;
    double weight = strtod(colon + 1, &end);
    if (*end) return 1; /* "1e", "..": no number */
    *path_size = (size_t)(colon - part);
    return weight;
}

static eq_status parse_part(eq_ctx *ctx, eq_mix *mix, char *part)
{
    size_t n = 0;
    double weight = split_weight(part, &n);
    if (!(weight > 0) || !isfinite(weight))
        return eq_fail(ctx, EQ_EINVAL, "%s: the weight must be above 0 and finite", part);
    part[n] = 0;
    if (!n) return eq_fail(ctx, EQ_EINVAL, "a path of the mix is empty");
    char *path = eq_strndup(ctx, part, n);
    if (!path) return EQ_ENOMEM;
    eq_status st = append(ctx, mix, path, weight);
    if (st != EQ_OK) eq_free(path);
    return st;
}

eq_status eq_mix_parse(eq_ctx *ctx, eq_mix *mix, const char *spec)
{
    char *copy = eq_strndup(ctx, spec, strlen(spec));
    if (!copy) return EQ_ENOMEM;
    eq_status st = EQ_OK;
    for (char *part = copy; part && st == EQ_OK;) {
        char *comma = strchr(part, ',');
        if (comma) *comma = 0;
        st = parse_part(ctx, mix, part);
        part = comma ? comma + 1 : NULL;
    }
    eq_free(copy);
    return st;
}

/* ---- windows ------------------------------------------------------------------------------- */

void eq_mix_assign(const eq_mix *mix, int64_t n, int32_t *owner, int64_t *counts)
{
    double largest = 0, sum = 0;
    for (int64_t k = 0; k < mix->n; k++) {
        counts[k] = 0;
        if (mix->sources[k].weight > largest) largest = mix->sources[k].weight;
    }
    for (int64_t k = 0; k < mix->n; k++)
        sum += mix->sources[k].weight / largest; /* so the sum of huge weights is finite */
    for (int64_t i = 0; i < n; i++) {
        int64_t best = 0;
        double most = -INFINITY;
        for (int64_t k = 0; k < mix->n; k++) {
            double share = mix->sources[k].weight / largest / sum;
            double deficit = share * (double)(i + 1) - (double)counts[k];
            if (deficit > most) {
                most = deficit;
                best = k;
            }
        }
        owner[i] = (int32_t)best;
        counts[best]++;
    }
}

/* The windows of each source and their way into one list. */
typedef struct mixing {
    int64_t *counts;         /* owned; [mix->n] windows of each source */
    int32_t *owner;          /* owned; [n] source of each window */
    eq_token_windows *parts; /* owned; [mix->n] */
    eq_token_windows all;    /* owned until handed out */
} mixing;

static void mixing_deinit(mixing *m, int64_t sources)
{
    for (int64_t k = 0; k < sources && m->parts; k++)
        eq_windows_deinit(&m->parts[k]);
    eq_windows_deinit(&m->all);
    eq_free(m->parts);
    eq_free(m->counts);
    eq_free(m->owner);
}

static eq_status reserve(eq_ctx *ctx, mixing *m, int64_t sources, int64_t n, int64_t T)
{
    m->counts = eq_alloc(ctx, sources, sizeof *m->counts);
    m->parts = eq_alloc(ctx, sources, sizeof *m->parts);
    m->owner = eq_alloc(ctx, n, sizeof *m->owner);
    m->all = (eq_token_windows){.ids = eq_alloc(ctx, n * T, sizeof *m->all.ids), .n = n, .T = T};
    m->all.counts = eq_alloc(ctx, n * T, sizeof *m->all.counts);
    return m->counts && m->parts && m->owner && m->all.ids && m->all.counts ? EQ_OK : EQ_ENOMEM;
}

/* Lay the windows of all sources one after the other, in the order of their owners. */
static void interleave(mixing *m, int64_t sources)
{
    const size_t T = (size_t)m->all.T;
    bool whole = true;
    for (int64_t k = 0; k < sources; k++)
        m->counts[k] = 0; /* now the windows taken so far */
    for (int64_t i = 0; i < m->all.n; i++) {
        const eq_token_windows *part = &m->parts[m->owner[i]];
        const size_t from = (size_t)m->counts[m->owner[i]]++ * T, to = (size_t)i * T;
        memcpy(m->all.ids + to, part->ids + from, T * sizeof *part->ids);
        if (part->counts)
            memcpy(m->all.counts + to, part->counts + from, T);
        else
            memset(m->all.counts + to, 1, T);
        whole = whole && !part->counts;
    }
    if (!whole) return;
    eq_free(m->all.counts);
    m->all.counts = NULL;
}

eq_status eq_windows_mix(eq_ctx *ctx, eq_token_windows *windows, const eq_mix *mix,
                         const eq_window_source *like, const eq_dialog_options *options)
{
    *windows = (eq_token_windows){0};
    if (mix->n < 1) return eq_fail(ctx, EQ_EINVAL, "a mix needs a file");
    eq_window_source source = *like;
    source.path = mix->sources[0].path;
    if (mix->n == 1) return eq_windows_dialogs(ctx, windows, &source, options);
    source.enough = 0; /* the shares would not be those asked for */
    if (!source.n)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s and others: how many windows of a mix are taken must be "
                       "said",
                       source.path);
    mixing m = {0};
    eq_status st = eq_windows_sizes(ctx, &source, 1);
    if (st == EQ_OK) st = reserve(ctx, &m, mix->n, like->n, like->T);
    if (st == EQ_OK) eq_mix_assign(mix, like->n, m.owner, m.counts);
    for (int64_t k = 0; k < mix->n && st == EQ_OK; k++) {
        source.path = mix->sources[k].path;
        source.n = m.counts[k];
        if (source.n) st = eq_windows_dialogs(ctx, &m.parts[k], &source, options);
    }
    if (st == EQ_OK) {
        interleave(&m, mix->n);
        m.all.mixed = true;
        *windows = m.all;
        m.all = (eq_token_windows){0};
    }
    mixing_deinit(&m, mix->n);
    return st;
}
