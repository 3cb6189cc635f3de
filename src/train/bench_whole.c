#include "train/bench_whole.h"

#include "base/rng.h"
#include "train/whole.h"

#include <stdlib.h>

enum { T = 1024, RUNS = 5, BITS = 2, GROUP = 64 };

/* A decoder in memory: bf16 weights, each block's own, and one packed block. */
typedef struct model {
    eq_decoder decoder;
    eq_block packed;
    eq_stored stored[EQ_UNITS];
    uint16_t *weights; /* owned, [V C + elements of all blocks] */
    uint32_t *words;   /* owned; serves as codes and zero points */
    uint16_t *scales;  /* owned */
} model;

static int64_t block_elements(const eq_config *c)
{
    return c->C * (eq_config_qkv(c) + c->H * c->D + 3 * c->F);
}

static eq_status fill(eq_ctx *ctx, model *m, const eq_config *c)
{
    int64_t n = c->V * c->C + c->L * block_elements(c), groups = 2 * c->F * c->C / GROUP;
    int64_t vectors = eq_vector_elems(c) + c->C;
    eq_rng rng;
    eq_rng_init(&rng, 1, 0);
    m->weights = eq_alloc(ctx, n, sizeof *m->weights);
    m->words = eq_alloc(ctx, 2 * c->F * c->C * BITS / 32, sizeof *m->words);
    m->scales = eq_alloc(ctx, groups, sizeof *m->scales);
    m->decoder.vectors = eq_alloc(ctx, vectors, sizeof(float));
    m->decoder.blocks = eq_alloc(ctx, c->L, sizeof *m->decoder.blocks);
    if (!m->weights || !m->words || !m->scales || !m->decoder.vectors || !m->decoder.blocks)
        return EQ_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        m->weights[i] = eq_f32_bf16(0.05f * (float)(2 * eq_rng_uniform(&rng) - 1));
    for (int64_t i = 0; i < 2 * c->F * c->C * BITS / 32; i++)
        m->words[i] = (uint32_t)eq_rng_next(&rng);
    for (int64_t i = 0; i < groups; i++)
        m->scales[i] = eq_f32_f16(0.02f);
    for (int64_t i = 0; i < vectors; i++)
        m->decoder.vectors[i] = 1;
    m->decoder.final_norm = m->decoder.vectors + eq_vector_elems(c);
    return EQ_OK;
}

/* A tensor that takes its place in the weights from *at on. */
static eq_tensor tensor_of(const model *m, int64_t *at, int64_t N, int64_t K)
{
    const uint16_t *data = m->weights + *at;
    *at += N * K;
    return (eq_tensor){.data = data, .type = EQ_BF16, .dims = 2, .shape = {N, K, 1, 1}};
}

static void connect_unit(eq_ctx *ctx, model *m, eq_unit unit, int64_t *at)
{
    const eq_config *c = &m->decoder.config;
    eq_part parts[EQ_MAX_PARTS];
    int count = eq_unit_parts(c, unit, parts);
    int64_t K = eq_unit_columns(c, unit);
    m->stored[unit].count = count;
    for (int p = 0; p < count; p++) {
        int64_t N = parts[p].rows;
        const eq_qmatrix q = {.bits = BITS,
                              .N = N,
                              .K = K,
                              .g = GROUP,
                              .qweight = m->words,
                              .qzeros = m->words,
                              .scales = m->scales,
                              .scale_type = EQ_F16};
        m->stored[unit].parts[p] = (eq_stored_part){parts[p].row0, N, true, {0}, q};
        for (int64_t i = 0; i < c->L; i++) {
            eq_stored *s = &m->decoder.blocks[i].stored[unit];
            s->parts[p] = (eq_stored_part){parts[p].row0, N, false, tensor_of(m, at, N, K), {0}};
            s->count = count;
        }
    }
    m->packed.units[unit] = eq_linear_stored(ctx->kernels, &m->stored[unit], K);
    for (int64_t i = 0; i < c->L; i++)
        m->decoder.blocks[i].block.units[unit] =
            eq_linear_stored(ctx->kernels, &m->decoder.blocks[i].stored[unit], K);
}

static void connect(eq_ctx *ctx, model *m)
{
    eq_decoder *d = &m->decoder;
    const eq_config *c = &d->config;
    int64_t at = 0;
    m->packed = (eq_block){.config = c};
    eq_block_set_norms(&m->packed, d->vectors, NULL);
    eq_block_set_biases(&m->packed, d->vectors + eq_norm_elems(c));
    for (int64_t i = 0; i < c->L; i++)
        d->blocks[i].block = m->packed;
    for (int u = 0; u < EQ_UNITS; u++)
        connect_unit(ctx, m, (eq_unit)u, &at);
    d->embedding_stored.parts[0] =
        (eq_stored_part){0, c->V, false, tensor_of(m, &at, c->V, c->C), {0}};
    d->embedding_stored.count = 1;
    d->head_stored = d->embedding_stored;
    eq_decoder_link_ends(d, ctx->kernels);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double eq_bench_median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

static eq_status time_windows(eq_ctx *ctx, eq_whole *w, double *seconds)
{
    int32_t ids[T];
    double runs[RUNS], loss;
    const eq_adamw step = {0.9f, 0.999f, 1e-8f, 0, 1e-9f, 1}, steps[3] = {step, step, step};
    for (int t = 0; t < T; t++)
        ids[t] = (int32_t)(t * 37 % w->shape.base->config.V);
    const eq_whole_window window = {.ids = ids, .share = 1.0f / (T - 1)};
    eq_status st = EQ_OK;
    for (int i = -1; st == EQ_OK && i < RUNS; i++) { /* the first one makes plans and warms up */
        double start = eq_seconds();
        eq_parameters_zero_gradients(ctx, &w->parameters);
        st = eq_whole_window_pass(ctx, w, &window, true, &loss);
        double norm = eq_parameters_gradient_norm(ctx, &w->parameters);
        eq_parameters_scale_gradients(ctx, &w->parameters, (float)(0.3 / norm));
        eq_parameters_step(ctx, &w->parameters, steps);
        if (i >= 0) runs[i] = eq_seconds() - start;
    }
    if (st == EQ_OK) *seconds = eq_bench_median(runs, RUNS);
    return st;
}

eq_status eq_bench_whole_run(eq_ctx *ctx, const eq_config *config, eq_dtype type,
                             eq_bench_whole *result)
{
    model m = {.decoder = {.config = *config}};
    eq_whole w = {0};
    eq_block_scheme *schemes =
        eq_schemes_uniform(ctx, &(eq_scheme){.bits = BITS, .group = GROUP}, config->L);
    eq_whole_shape shape = {.base = &m.decoder,
                            .teacher = &m.decoder,
                            .schemes = schemes,
                            .train = EQ_TRAIN_SCALES,
                            .weights = {1, 0, 1},
                            .T = T,
                            .type = type};
    if (schemes) eq_whole_keep(&shape, 0, 0, ctx->threads);
    eq_status st = schemes ? fill(ctx, &m, config) : EQ_ENOMEM;
    if (st == EQ_OK) connect(ctx, &m);
    if (st == EQ_OK) st = eq_whole_init(ctx, &w, &shape);
    for (int64_t i = 0; st == EQ_OK && i < config->L; i++)
        st = eq_whole_load(ctx, &w, i, &m.packed);
    if (st == EQ_OK) st = time_windows(ctx, &w, &result->seconds);
    if (st == EQ_OK) result->flops = eq_whole_flops(&shape);
    eq_whole_deinit(&w);
    eq_free(schemes);
    eq_free(m.decoder.vectors);
    eq_free(m.decoder.blocks);
    eq_free(m.weights);
    eq_free(m.words);
    eq_free(m.scales);
    return st;
}
