#include "train/block_ap.h"

#include "quant/hessian.h"

static void layout_unit(eq_student *s, const eq_student_shape *shape, eq_unit unit)
{
    const eq_config *c = shape->config;
    eq_part parts[EQ_MAX_PARTS];
    int count = eq_unit_parts(c, unit, parts);
    int64_t N = parts[count - 1].row0 + parts[count - 1].rows, K = eq_unit_columns(c, unit);
    const eq_quant_shape quant = {.K = K,
                                  .g = eq_scheme_group(&shape->scheme, K),
                                  .bits = shape->scheme.bits,
                                  .edges_clipped = shape->options.edges == EQ_EDGES_CLIPPED,
                                  .symmetric = shape->scheme.grid == EQ_GRID_SYMMETRIC};
    const eq_fake_kind kind = {.type = shape->type, .exact_scales = shape->options.exact_scales};
    s->fakes[unit] = eq_fake_layout(&s->arena, N, &quant, &kind);
    s->importance[unit] = eq_arena_take(&s->arena, K, sizeof(float));
    if (shape->options.start >= EQ_START_OUTPUT)
        s->hessian[unit] = eq_arena_take(&s->arena, K * K, sizeof(float));
}

static void layout(eq_student *s, const eq_student_shape *shape, int threads)
{
    const eq_config *c = shape->config;
    int64_t B = shape->options.batch, M = B * shape->T;
    const eq_block_shape block = {B, shape->T, shape->type, true};
    for (int u = 0; u < EQ_UNITS; u++)
        layout_unit(s, shape, (eq_unit)u);
    float **vectors[] = {&s->norms, &s->dnorms, &s->norm_m, &s->norm_v};
    for (int i = 0; i < 4; i++)
        *vectors[i] = eq_arena_take(&s->arena, 2 * c->C, sizeof(float));
    s->acts = eq_activations_layout(&s->arena, c, &block, threads);
    s->rope = eq_rope_layout(&s->arena, c, shape->T);
    s->rows = eq_arena_take(&s->arena, M, sizeof(float));
    s->buffer = eq_arena_take(&s->arena, M * c->C, eq_elem_bytes(shape->type));
    s->target = eq_arena_take(&s->arena, M * c->C, eq_elem_bytes(shape->type));
    s->other = eq_arena_take(&s->arena, M * c->C, sizeof(float));
    s->own_x = s->acts.x;
}

size_t eq_student_bytes(const eq_student_shape *shape, int threads)
{
    eq_student s = {.arena = eq_arena_measure()};
    layout(&s, shape, threads);
    return s.arena.used;
}

eq_status eq_student_init(eq_ctx *ctx, eq_student *s, const eq_student_shape *shape)
{
    *s = (eq_student){.config = shape->config,
                      .scheme = shape->scheme,
                      .options = shape->options,
                      .type = shape->type};
    eq_status st = eq_arena_reserve(ctx, &s->arena, eq_student_bytes(shape, ctx->threads));
    if (st != EQ_OK) return st;
    layout(s, shape, ctx->threads);
    eq_rope_fill(&s->rope, s->config, 0, shape->T);
    int64_t C = s->config->C;
    s->block = (eq_block){.config = s->config,
                          .norm1 = s->norms,
                          .norm2 = s->norms + C,
                          .dnorm1 = s->dnorms,
                          .dnorm2 = s->dnorms + C};
    for (int u = 0; u < EQ_UNITS; u++) {
        s->block.units[u] = eq_linear_fake(ctx->kernels, &s->fakes[u]);
        s->fakes[u].step = &s->step;
    }
    return EQ_OK;
}

void eq_student_deinit(eq_student *s)
{
    eq_arena_release(&s->arena);
}

static void reset_moments(eq_student *s)
{
    for (int u = 0; u < EQ_UNITS; u++) {
        eq_fake *f = &s->fakes[u];
        int64_t N = f->N, K = f->shape.K, groups = K / f->shape.g;
        float *moments[] = {f->w_m, f->w_v, f->s_m, f->s_v, f->z_m, f->z_v};
        for (int i = 0; i < 6; i++)
            memset(moments[i], 0, (size_t)(i < 2 ? N * K : N * groups) * sizeof(float));
    }
    memset(s->norm_m, 0, (size_t)(2 * s->config->C) * sizeof(float));
    memset(s->norm_v, 0, (size_t)(2 * s->config->C) * sizeof(float));
}

static void load_unit(eq_ctx *ctx, eq_fake *f, const eq_linear *source)
{
    int64_t N = f->N, K = f->shape.K, groups = K / f->shape.g;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t row = 0; row < N; row++)
        source->form->rows(source, f->w + row * K, EQ_F32, row, 1);
    float *moments[] = {f->w_m, f->w_v, f->s_m, f->s_v, f->z_m, f->z_v};
    for (int i = 0; i < 6; i++)
        memset(moments[i], 0, (size_t)(i < 2 ? N * K : N * groups) * sizeof(float));
}

void eq_student_load(eq_ctx *ctx, eq_student *s, const eq_block *source)
{
    size_t bytes = (size_t)s->config->C * sizeof(float);
    for (int u = 0; u < EQ_UNITS; u++)
        load_unit(ctx, &s->fakes[u], &source->units[u]);
    memcpy(s->block.norm1, source->norm1, bytes);
    memcpy(s->block.norm2, source->norm2, bytes);
    memset(s->norm_m, 0, 2 * bytes);
    memset(s->norm_v, 0, 2 * bytes);
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
    s->acts.x = s->own_x;
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
        for (int u = 0; u < EQ_UNITS && s->hessian[u]; u++) {
            int64_t K = s->fakes[u].shape.K;
            eq_gemm g = eq_gemm_weight_gradient(s->acts.M, K, K, K, s->type);
            g.accumulate = first > 0;
            eq_gemm_run(ctx, &g, s->hessian[u], inputs[u], inputs[u]);
        }
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
        bool output = s->options.start >= EQ_START_OUTPUT && s->fakes[u].shape.bits == s->scheme.bits;
        if (output && s->options.start == EQ_START_FEEDBACK) {
            eq_start_feedback(ctx, &s->fakes[u], s->hessian[u], s->importance[u]);
            continue;
        }
        eq_start_values(ctx, &s->fakes[u],
                        s->options.start > EQ_START_WEIGHTED ? EQ_START_WEIGHTED : s->options.start,
                        s->importance[u]);
        if (output) eq_start_output(ctx, &s->fakes[u], s->hessian[u]);
    }
}

eq_status eq_student_propagate(eq_ctx *ctx, eq_student *s, const eq_block *block, eq_stream *in,
                               eq_stream *out)
{
    int64_t n = in->shape.n;
    s->acts.x = s->own_x;
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

void eq_student_link(eq_student *s, eq_student *next)
{
    s->next = next;
    if (next) next->acts.x = s->acts.y;
}

/* x = (1 - share) x + share (full-precision input) */
static eq_status mix_input(eq_ctx *ctx, eq_student *s, const eq_student_data *data, int64_t first,
                           int64_t count, float share)
{
    eq_status st = eq_stream_read(ctx, data->full_input, first, count, s->other, s->buffer);
    for (int64_t i = 0; st == EQ_OK && i < s->acts.M * s->config->C; i++)
        s->acts.x[i] += share * (s->other[i] - s->acts.x[i]);
    return st;
}

/* Forward over windows first .. first+count-1, the loss, and dL/dy in acts.dh. */
static eq_status forward_loss(eq_ctx *ctx, eq_student *s, const eq_student_data *data,
                              int64_t first, int64_t count, float share, double *loss)
{
    set_batch(s, count);
    s->acts.x = s->own_x;
    eq_status st = eq_stream_read(ctx, data->input, first, count, s->acts.x, s->buffer);
    if (st != EQ_OK) return st;
    const void *target = eq_stream_raw(ctx, data->target, first, count, s->target);
    if (!target) return eq_ctx_status(ctx);
    if (share > 0 && mix_input(ctx, s, data, first, count, share) != EQ_OK)
        return eq_ctx_status(ctx);
    eq_student *last = s;
    for (eq_student *one = s; one; one = one->next) {
        set_batch(one, count);
        eq_block_forward(ctx, &one->block, &one->rope, &one->acts);
        last = one;
    }
    bool training = first < data->samples;
    const eq_reconstruction shape = {s->acts.M,
                                     s->config->C,
                                     s->type,
                                     s->options.loss,
                                     s->options.trim,
                                     last->tokens && training ? last->tokens + first * s->acts.T
                                                              : NULL,
                                     last->channels};
    *loss = eq_reconstruction_loss(ctx, last->acts.dh, last->acts.y, target, s->rows, &shape);
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
        eq_status st = forward_loss(ctx, s, data, first, count, 0, &part);
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

static eq_status train_step(eq_ctx *ctx, void *self, int64_t first, int64_t count, int64_t t,
                            double *loss)
{
    training *job = self;
    eq_student *s = job->student;
    int64_t C = s->config->C;
    float share = (float)(s->options.mix * (1 - 1.25 * (double)t / (double)s->optimizer.steps));
    eq_status st = forward_loss(ctx, s, job->data, first, count, share, loss);
    if (st != EQ_OK) return st;
    eq_student *chain[8];
    int n = 0;
    for (eq_student *one = s; one; one = one->next)
        chain[n++] = one;
    for (int k = n - 1; k >= 0; k--) {
        eq_student *one = chain[k];
        one->step = s->step;
        one->step.weights = eq_adamw_step(&s->optimizer, s->options.weight_lr, t);
        one->step.quant = eq_adamw_step(&s->optimizer, s->options.quant_lr, t);
        memset(one->dnorms, 0, (size_t)(2 * C) * sizeof *one->dnorms);
        if (k < n - 1)
            memcpy(one->acts.dh, chain[k + 1]->acts.dh,
                   (size_t)(one->acts.M * C) * sizeof *one->acts.dh);
        eq_block_backward(ctx, &one->block, &one->rope, &one->acts);
        if (one->step.train_weights)
            ctx->kernels->adamw(one->norms, one->norm_m, one->norm_v, one->dnorms, 2 * C,
                                &one->step.weights);
    }
    return eq_ctx_status(ctx);
}

static eq_status validate(eq_ctx *ctx, void *self, double *loss)
{
    training *job = self;
    return eq_student_validate(ctx, job->student, job->data, loss);
}

static eq_status epoch_done(eq_ctx *ctx, void *self, int epoch, double train, double val,
                            double seconds)
{
    training *job = self;
    return job->log ? job->log->epoch(ctx, job->log->user, epoch, train, val, seconds) : EQ_OK;
}

eq_status eq_student_fit(eq_ctx *ctx, eq_student *s, const eq_student_data *data,
                         const eq_fit_options *fit, const eq_student_log *log)
{
    const eq_train_options *o = &s->options;
    training job = {s, data, log};
    for (eq_student *one = s; one; one = one->next)
        reset_moments(one);
    const eq_objective objective = {
        .self = &job, .step = train_step, .validate = validate, .epoch_done = epoch_done};
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
