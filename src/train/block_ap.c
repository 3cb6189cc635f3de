#include "train/block_ap.h"

#include <math.h>

/* The fakes of a block's units; again for every block, as their grids may differ. */
static void layout_units(eq_student *s, const eq_block_scheme *scheme)
{
    const eq_fake_kind kind = {
        .type = s->type, .rounds = s->rounds, .exact_scales = s->options.exact_scales};
    for (int u = 0; u < EQ_UNITS; u++) {
        eq_unit unit = (eq_unit)u;
        eq_quant_shape quant = eq_scheme_shape(&scheme->units[u], eq_unit_columns(s->config, unit));
        quant.edges_clipped = s->options.edges == EQ_EDGES_CLIPPED;
        s->fakes[u] = eq_fake_layout(&s->arena, eq_unit_rows(s->config, unit), &quant, &kind);
        s->fakes[u].step = &s->step;
    }
}

static void layout(eq_student *s, const eq_student_shape *shape, int threads)
{
    const eq_config *c = shape->config;
    int64_t B = shape->options.batch, M = B * shape->T;
    const eq_block_shape block = {B, shape->T, shape->type, true};
    for (int u = 0; u < EQ_UNITS; u++)
        s->importance[u] = eq_arena_take(&s->arena, eq_unit_columns(c, (eq_unit)u), sizeof(float));
    float **norms[] = {&s->dnorms, &s->norm_m, &s->norm_v};
    s->vectors = eq_arena_take(&s->arena, eq_vector_elems(c), sizeof(float));
    for (int i = 0; i < 3; i++)
        *norms[i] = eq_arena_take(&s->arena, eq_norm_elems(c), sizeof(float));
    s->acts = eq_activations_layout(&s->arena, c, &block, threads);
    s->rope = eq_rope_layout(&s->arena, c, shape->T);
    s->rows = eq_arena_take(&s->arena, M, sizeof(float));
    s->buffer = eq_arena_take(&s->arena, M * c->C, eq_elem_bytes(shape->type));
    s->target = eq_arena_take(&s->arena, M * c->C, eq_elem_bytes(shape->type));
    s->units = s->arena.used;
}

static void set_grids(eq_ctx *ctx, eq_student *s, const eq_block_scheme *scheme)
{
    eq_arena_rewind(&s->arena, s->units);
    layout_units(s, scheme);
    for (int u = 0; u < EQ_UNITS; u++)
        s->block.units[u] = eq_linear_fake(ctx->kernels, &s->fakes[u]);
}

static eq_student start_student(const eq_student_shape *shape)
{
    return (eq_student){.config = shape->config,
                        .options = shape->options,
                        .type = shape->type,
                        .rounds = shape->rounds};
}

size_t eq_student_bytes(const eq_student_shape *shape, int threads)
{
    eq_student s = start_student(shape);
    size_t most = 0;
    s.arena = eq_arena_measure();
    layout(&s, shape, threads);
    for (int64_t i = 0; i < shape->blocks; i++) {
        eq_arena_rewind(&s.arena, s.units);
        layout_units(&s, &shape->schemes[i]);
        most = s.arena.used > most ? s.arena.used : most;
    }
    return most;
}

eq_status eq_student_init(eq_ctx *ctx, eq_student *s, const eq_student_shape *shape)
{
    *s = start_student(shape);
    eq_status st = eq_arena_reserve(ctx, &s->arena, eq_student_bytes(shape, ctx->threads));
    if (st != EQ_OK) return st;
    layout(s, shape, ctx->threads);
    eq_rope_fill(&s->rope, s->config, 0, shape->T);
    s->block = (eq_block){.config = s->config};
    eq_block_set_norms(&s->block, s->vectors, s->dnorms);
    eq_block_set_biases(&s->block, s->vectors + eq_norm_elems(s->config));
    set_grids(ctx, s, &shape->schemes[0]);
    return EQ_OK;
}

void eq_student_deinit(eq_student *s)
{
    eq_arena_release(&s->arena);
}

static void load_unit(eq_ctx *ctx, eq_fake *f, const eq_linear *source)
{
    int64_t N = f->N, K = f->shape.K, groups = K / f->shape.g;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t row = 0; row < N; row++)
        source->form->rows(source, f->w + row * K, EQ_F32, row, 1);
    float *moments[] = {f->w_m, f->w_v, f->s_m, f->s_v, f->z_m, f->z_v};
    for (int i = 0; i < 6 && f->w_m; i++)
        memset(moments[i], 0, (size_t)(i < 2 ? N * K : N * groups) * sizeof(float));
}

void eq_student_load(eq_ctx *ctx, eq_student *s, const eq_block *source,
                     const eq_block_scheme *scheme)
{
    size_t norm_bytes = (size_t)eq_norm_elems(s->config) * sizeof(float);
    set_grids(ctx, s, scheme);
    for (int u = 0; u < EQ_UNITS; u++)
        load_unit(ctx, &s->fakes[u], &source->units[u]);
    eq_block_copy_vectors(s->vectors, source);
    memset(s->norm_m, 0, norm_bytes);
    memset(s->norm_v, 0, norm_bytes);
}

/* How many windows of a stream go at once, from `first` on. */
static int64_t batch_count(const eq_student *s, int64_t first, int64_t end)
{
    return end - first < s->options.batch ? end - first : s->options.batch;
}

/* Set the number of windows of the next pass. */
static void set_batch(eq_student *s, int64_t count)
{
    s->acts.B = count;
    s->acts.M = count * s->acts.T;
}

/* sums[k] += sum over rows of x[row][k]^2 in double, row by row in order. */
static void add_squares(double *sums, const void *x, eq_dtype type, int64_t M, int64_t K)
{
    for (int64_t r = 0; r < M; r++) {
        for (int64_t k = 0; k < K; k++) {
            float v = type == EQ_F32 ? ((const float *)x)[r * K + k]
                                     : eq_bf16_f32(((const uint16_t *)x)[r * K + k]);
            sums[k] += (double)v * (double)v;
        }
    }
}

eq_status eq_student_weigh(eq_ctx *ctx, eq_student *s, const eq_block *source, eq_stream *stream,
                           int64_t count)
{
    double *sums[EQ_UNITS] = {NULL};
    eq_status st = EQ_OK;
    for (int u = 0; st == EQ_OK && u < EQ_UNITS; u++) {
        sums[u] = eq_alloc(ctx, s->fakes[u].shape.K, sizeof(double));
        if (!sums[u]) st = EQ_ENOMEM;
    }
    for (int64_t first = 0; st == EQ_OK && first < count; first += s->options.batch) {
        set_batch(s, batch_count(s, first, count));
        st = eq_stream_read(ctx, stream, first, s->acts.B, s->acts.x, s->buffer);
        if (st != EQ_OK) break;
        eq_block_forward(ctx, source, &s->rope, &s->acts);
        const void *inputs[EQ_UNITS] = {s->acts.n1, s->acts.attn, s->acts.n2, s->acts.act};
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
        for (int u = 0; u < EQ_UNITS; u++)
            add_squares(sums[u], inputs[u], s->type, s->acts.M, s->fakes[u].shape.K);
        st = eq_ctx_status(ctx);
    }
    for (int u = 0; u < EQ_UNITS; u++) {
        for (int64_t k = 0; st == EQ_OK && k < s->fakes[u].shape.K; k++)
            s->importance[u][k] = (float)(sums[u][k] / (double)(count * s->acts.T));
        eq_free(sums[u]);
    }
    return st;
}

void eq_student_start(eq_ctx *ctx, eq_student *s)
{
    for (int u = 0; u < EQ_UNITS; u++) {
        for (int64_t k = 0; s->options.start == EQ_START_MSE && k < s->fakes[u].shape.K; k++)
            s->importance[u][k] = 1.0f;
        eq_start_values(ctx, &s->fakes[u], s->options.start, s->importance[u]);
    }
}

eq_status eq_student_propagate(eq_ctx *ctx, eq_student *s, const eq_block *block, eq_stream *in,
                               eq_stream *out)
{
    int64_t n = in->shape.n;
    for (int64_t first = 0; first < n; first += s->options.batch) {
        set_batch(s, batch_count(s, first, n));
        eq_status st = eq_stream_read(ctx, in, first, s->acts.B, s->acts.x, s->buffer);
        if (st != EQ_OK) return st;
        eq_block_forward(ctx, block, &s->rope, &s->acts);
        st = eq_stream_write(ctx, out, first, s->acts.B, s->acts.y, s->buffer);
        if (st == EQ_OK) st = eq_check_interrupt(ctx);
        if (st == EQ_OK) st = eq_ctx_status(ctx);
        if (st != EQ_OK) return st;
    }
    return EQ_OK;
}

/* Forward over windows first .. first+count-1, the loss, and dL/dy in acts.dh. */
static eq_status forward_loss(eq_ctx *ctx, eq_student *s, const eq_student_data *data,
                              int64_t first, int64_t count, double *loss)
{
    set_batch(s, count);
    eq_status st = eq_stream_read(ctx, data->input, first, count, s->acts.x, s->buffer);
    if (st != EQ_OK) return st;
    const void *target = eq_stream_raw(ctx, data->target, first, count, s->target);
    if (!target) return eq_ctx_status(ctx);
    const eq_reconstruction shape = {s->acts.M, s->config->C, s->type, s->options.loss};
    eq_block_forward(ctx, &s->block, &s->rope, &s->acts);
    *loss = eq_reconstruction_loss(ctx, s->acts.dh, s->acts.y, target, s->rows, &shape);
    return eq_ctx_status(ctx);
}

eq_status eq_student_validate(eq_ctx *ctx, eq_student *s, const eq_student_data *data, double *loss)
{
    int64_t n = data->input->shape.n;
    double sum = 0;
    *loss = -1;
    for (int64_t first = data->samples; first < n; first += s->options.batch) {
        int64_t count = batch_count(s, first, n);
        double part = 0;
        eq_status st = forward_loss(ctx, s, data, first, count, &part);
        if (st != EQ_OK) return st;
        sum += part * (double)count;
    }
    if (n > data->samples) *loss = sum / (double)(n - data->samples);
    return EQ_OK;
}

/* What the objective's functions get. */
typedef struct training {
    eq_student *student;
    const eq_student_data *data;
    const eq_student_log *log;
} training;

static eq_status train_step(eq_ctx *ctx, void *self, int64_t first, int64_t count,
                            const eq_fit_state *state, double *loss)
{
    training *job = self;
    eq_student *s = job->student;
    int64_t norms = eq_norm_elems(s->config);
    const eq_train_options *o = &s->options;
    s->step.weights = eq_adamw_step(&s->optimizer, o->weight_lr * state->rate, state->step);
    s->step.quant = eq_adamw_step(&s->optimizer, o->quant_lr * state->rate, state->step);
    eq_status st = forward_loss(ctx, s, job->data, first, count, loss);
    if (st != EQ_OK || !isfinite(*loss)) return st; /* backward would apply it */
    memset(s->dnorms, 0, (size_t)norms * sizeof *s->dnorms);
    eq_block_backward(ctx, &s->block, &s->rope, &s->acts);
    if (s->step.train_weights)
        ctx->kernels->adamw(s->vectors, s->norm_m, s->norm_v, s->dnorms, norms, &s->step.weights);
    return eq_ctx_status(ctx);
}

static eq_status validate(eq_ctx *ctx, void *self, double *loss)
{
    training *job = self;
    return eq_student_validate(ctx, job->student, job->data, loss);
}

static eq_status epoch_done(eq_ctx *ctx, void *self, const eq_epoch *epoch)
{
    training *job = self;
    return job->log ? job->log->epoch(ctx, job->log->user, epoch) : EQ_OK;
}

/* To the start. */
static eq_status rollback(eq_ctx *ctx, void *self, eq_fit_state *state)
{
    training *job = self;
    eq_student_load(ctx, job->student, job->data->source, job->data->scheme);
    eq_student_start(ctx, job->student);
    *state = eq_fit_start();
    return eq_ctx_status(ctx);
}

eq_status eq_student_fit(eq_ctx *ctx, eq_student *s, const eq_student_data *data,
                         const eq_fit_options *fit, const eq_student_log *log)
{
    const eq_train_options *o = &s->options;
    training job = {s, data, log};
    const eq_objective objective = {.self = &job,
                                    .step = train_step,
                                    .validate = validate,
                                    .epoch_done = epoch_done,
                                    .rollback = data->source ? rollback : NULL};
    s->step = (eq_fake_step){.train_weights = o->weight_lr > 0, .train_quant = o->quant_lr > 0};
    s->optimizer = (eq_optimizer){.beta1 = o->beta1,
                                  .beta2 = o->beta2,
                                  .epsilon = o->epsilon,
                                  .weight_decay = o->weight_decay,
                                  .min_lr_factor = o->min_lr_factor,
                                  .steps = eq_fit_steps(fit),
                                  .schedule = o->schedule};
    return eq_fit(ctx, fit, &objective, eq_fit_start());
}
