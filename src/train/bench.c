#include "train/bench.h"

#include "base/rng.h"
#include "infer/generation.h"
#include "train/bench_decode.h"
#include "train/bench_whole.h"

#include <stdio.h>

enum { B = 2, T = 1024, M = B * T, RUNS = 9, BITS = 2, GROUP = 64, READ_BYTES = 256 << 20 };

typedef struct bench {
    eq_ctx *ctx;
    const eq_config *config;
    eq_dtype type;
    eq_bench_fn row;
    void *user;
    double peak;      /* FLOP/s of the best product; 0 until known */
    double bandwidth; /* bytes/s read by all threads; 0 until known */
} bench;

eq_config eq_bench_config(void)
{
    return (eq_config){.family = "llama",
                       .L = 30,
                       .C = 576,
                       .F = 1536,
                       .H = 9,
                       .Hkv = 3,
                       .D = 64,
                       .V = 49152,
                       .positions = 8192,
                       .theta = 1e5,
                       .eps = 1e-5f,
                       .tied = true};
}

static void emit(const bench *b, const char *group, const char *name, const char *unit,
                 double value, double share)
{
    const eq_bench_row row = {group, name, unit, value, share};
    b->row(b->user, &row);
}

/* Median seconds of `work`, after one run that is not counted. */
static double median_seconds(void (*work)(void *), void *data)
{
    double seconds[RUNS];
    work(data);
    for (int i = 0; i < RUNS; i++) {
        double start = eq_seconds();
        work(data);
        seconds[i] = eq_seconds() - start;
    }
    return eq_bench_median(seconds, RUNS);
}

/* ---- products ------------------------------------------------------------------------------ */

typedef struct product {
    eq_ctx *ctx;
    eq_gemm shape;
    void *a, *b, *c;
} product;

static void run_product(void *data)
{
    product *p = data;
    eq_gemm_run(p->ctx, &p->shape, p->c, p->a, p->b);
}

static double measure_product(product *p)
{
    double work = 2.0 * (double)p->shape.M * (double)p->shape.N * (double)p->shape.K;
    return work / median_seconds(run_product, p);
}

static eq_status bench_products(bench *b, eq_dtype type, bool show)
{
    static const char *const UNITS[EQ_UNITS] = {"qkv", "out", "gate_up", "down"};
    static const char *const KINDS[] = {"forward", "dx", "dw"};
    const eq_config *c = b->config;
    int64_t widest = 2 * c->F > eq_config_qkv(c) ? 2 * c->F : eq_config_qkv(c);
    product p = {.ctx = b->ctx};
    p.a = eq_alloc(b->ctx, M * widest, 4);
    p.b = eq_alloc(b->ctx, widest * (M > c->F ? M : c->F), 4);
    p.c = eq_alloc(b->ctx, widest * (M > c->F ? M : c->F), 4);
    eq_status st = p.a && p.b && p.c ? EQ_OK : EQ_ENOMEM;
    double best = 0;
    for (int u = 0; st == EQ_OK && u < EQ_UNITS; u++) {
        eq_part parts[EQ_MAX_PARTS];
        int count = eq_unit_parts(c, (eq_unit)u, parts);
        int64_t N = parts[count - 1].row0 + parts[count - 1].rows,
                K = eq_unit_columns(c, (eq_unit)u);
        const eq_gemm shapes[] = {eq_gemm_forward(M, N, K, type, type),
                                  eq_gemm_input_gradient(M, N, K, type, type),
                                  eq_gemm_weight_gradient(M, N, K, N, type)};
        for (int k = 0; k < 3; k++) {
            char name[64];
            p.shape = shapes[k];
            double rate = measure_product(&p);
            snprintf(name, sizeof name, "%s_%s_%s", UNITS[u], KINDS[k],
                     type == EQ_F32 ? "f32" : "bf16");
            if (show) emit(b, "gemm", name, "GFLOP/s", rate / 1e9, -1);
            best = rate > best ? rate : best;
        }
    }
    if (type == b->type) b->peak = best;
    if (show) emit(b, "gemm", type == EQ_F32 ? "peak_f32" : "peak_bf16", "GFLOP/s", best / 1e9, -1);
    eq_free(p.a);
    eq_free(p.b);
    eq_free(p.c);
    return st == EQ_OK ? eq_ctx_status(b->ctx) : st;
}

/* ---- loops --------------------------------------------------------------------------------- */

/* Buffers that every loop finds large enough: M rows of 2F elements. */
typedef struct loops {
    const bench *b;
    float *x, *y, *z, *w;
    float *sums; /* [threads * 16] */
} loops;

enum { ROWS = 64 };

static void read_memory(void *data)
{
    loops *l = data;
    int64_t n = READ_BYTES / (int64_t)sizeof(float), piece = 1 << 16;
#pragma omp parallel for schedule(static) num_threads(l->b->ctx->threads)
    for (int64_t i = 0; i < n / piece; i++) {
        float s = l->b->ctx->kernels->sum_squares(l->x + i * piece, piece, EQ_F32);
        if (s < 0) l->sums[0] = s; /* never, but the compiler must not drop the sum */
    }
}

/* A loop over chunks of ROWS rows. bytes: what it moves for one row. */
typedef struct row_loop {
    const char *name;
    void (*run)(const loops *l, int64_t row, int64_t rows);
    double bytes;
} row_loop;

static void *at(float *p, int64_t row, int64_t columns, eq_dtype type)
{
    return (char *)p + (size_t)(row * columns) * (type == EQ_F32 ? 4 : 2);
}

static void loop_norm(const loops *l, int64_t row, int64_t rows)
{
    const eq_config *c = l->b->config;
    l->b->ctx->kernels->rmsnorm_forward(at(l->y, row, c->C, l->b->type), l->z + row,
                                        l->x + row * c->C, l->w, rows, c->C, c->eps, l->b->type);
}

enum { WIDEST = 1 << 12 }; /* hidden size that rmsnorm_backward is measured with */

static void loop_norm_backward(const loops *l, int64_t row, int64_t rows)
{
    const eq_config *c = l->b->config;
    float dw[WIDEST] = {0};
    l->b->ctx->kernels->rmsnorm_backward(l->z + M + row * c->C, dw, at(l->y, row, c->C, l->b->type),
                                         l->x + row * c->C, l->w, l->z + row, rows, c->C,
                                         l->b->type);
}

static void loop_rope(const loops *l, int64_t row, int64_t rows)
{
    const eq_config *c = l->b->config;
    int64_t ld = eq_config_qkv(c);
    l->b->ctx->kernels->rope(at(l->y, row, ld, l->b->type), ld, l->w, l->w, rows, c->H + c->Hkv,
                             c->D, 1, l->b->type);
}

static void loop_swiglu(const loops *l, int64_t row, int64_t rows)
{
    int64_t F = l->b->config->F;
    l->b->ctx->kernels->swiglu_forward(at(l->y, row, F, l->b->type),
                                       at(l->x, row, 2 * F, l->b->type), rows, F, l->b->type);
}

static void loop_swiglu_backward(const loops *l, int64_t row, int64_t rows)
{
    int64_t F = l->b->config->F;
    l->b->ctx->kernels->swiglu_backward(at(l->x, row, 2 * F, l->b->type), NULL,
                                        at(l->y, row, F, l->b->type), rows, F, l->b->type);
}

static void loop_adamw(const loops *l, int64_t row, int64_t rows)
{
    int64_t F = l->b->config->F, n = rows * F, i = row * F;
    const eq_adamw step = {0.9f, 0.999f, 1e-8f, 0, 1e-9f, 1};
    l->b->ctx->kernels->adamw(l->x + i, l->y + i, l->z + i, l->x + M * F + i, n, &step);
}

static void loop_fakequant(const loops *l, int64_t row, int64_t rows)
{
    const eq_quant_shape shape = {.K = l->b->config->F / GROUP * GROUP, .g = GROUP, .bits = BITS};
    for (int64_t r = row; r < row + rows; r++)
        l->b->ctx->kernels->fakequant_forward(at(l->y, r, shape.K, l->b->type), l->x + r * shape.K,
                                              l->w, l->z, &shape, l->b->type);
}

static void loop_fakequant_backward(const loops *l, int64_t row, int64_t rows)
{
    const eq_quant_shape shape = {.K = l->b->config->F / GROUP * GROUP, .g = GROUP, .bits = BITS};
    float ds[1 << 12], dz[1 << 12];
    if (shape.K / GROUP > 1 << 12) return;
    for (int64_t r = row; r < row + rows; r++)
        l->b->ctx->kernels->fakequant_backward(l->y + r * shape.K, ds, dz, l->x + r * shape.K, l->w,
                                               l->z, &shape);
}

typedef struct loop_run {
    const loops *l;
    const row_loop *loop;
} loop_run;

static void run_loop(void *data)
{
    const loop_run *r = data;
#pragma omp parallel for schedule(static) num_threads(r->l->b->ctx->threads)
    for (int64_t k = 0; k < M / ROWS; k++)
        r->loop->run(r->l, k * ROWS, ROWS);
}

static void measure_loops(const bench *b, const loops *l)
{
    double e = b->type == EQ_F32 ? 4 : 2, C = (double)b->config->C, F = (double)b->config->F;
    double qk = (double)((b->config->H + b->config->Hkv) * b->config->D);
    const row_loop list[] = {{"rmsnorm_forward", loop_norm, C * (4 + e)},
                             {"rmsnorm_backward", loop_norm_backward, C * (12 + e)},
                             {"rope", loop_rope, qk * 2 * e},
                             {"swiglu_forward", loop_swiglu, F * 3 * e},
                             {"swiglu_backward", loop_swiglu_backward, F * 5 * e},
                             {"fakequant_forward", loop_fakequant, F * (4 + e)},
                             {"fakequant_backward", loop_fakequant_backward, F * 12},
                             {"adamw", loop_adamw, F * 28}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].run == loop_norm_backward && b->config->C > WIDEST) continue;
        loop_run run = {l, &list[i]};
        double rate = list[i].bytes * M / median_seconds(run_loop, &run);
        emit(b, "kernel", list[i].name, "GB/s", rate / 1e9, rate / b->bandwidth);
    }
}

static eq_status measure_memory(bench *b)
{
    float sum = 0;
    loops l = {.b = b, .sums = &sum, .x = eq_alloc(b->ctx, READ_BYTES, 1)};
    if (!l.x) return EQ_ENOMEM;
    b->bandwidth = (double)READ_BYTES / median_seconds(read_memory, &l);
    emit(b, "kernel", "memory_read", "GB/s", b->bandwidth / 1e9, -1);
    eq_free(l.x);
    return EQ_OK;
}

static eq_status bench_loops(bench *b)
{
    int64_t n = M * 2 * b->config->F;
    loops l = {.b = b};
    float **buffers[] = {&l.x, &l.y, &l.z, &l.w, &l.sums};
    eq_status st = EQ_OK;
    for (int i = 0; st == EQ_OK && i < 5; i++) {
        *buffers[i] = eq_alloc(b->ctx, i < 3 ? n : 1 << 20, sizeof(float));
        if (!*buffers[i]) st = EQ_ENOMEM;
    }
    if (st == EQ_OK) {
        for (int64_t i = 0; i < 1 << 20; i++)
            l.w[i] = 0.01f;
        measure_loops(b, &l);
    }
    for (int i = 0; i < 5; i++)
        eq_free(*buffers[i]);
    return st;
}

/* ---- a whole step -------------------------------------------------------------------------- */

static void random_fill(float *p, int64_t n, float scale, eq_rng *rng)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = scale * (float)(2 * eq_rng_uniform(rng) - 1);
}

static eq_status fill_stream(eq_ctx *ctx, eq_stream *stream, const eq_config *c, eq_dtype type,
                             eq_student *s, eq_rng *rng)
{
    const eq_stream_shape shape = {B, T, c->C, type};
    eq_status st = eq_stream_create(ctx, stream, &shape, NULL);
    if (st != EQ_OK) return st;
    random_fill(s->acts.x, M * c->C, 1, rng);
    return eq_stream_write(ctx, stream, 0, B, s->acts.x, s->buffer);
}

static void fill_student(eq_ctx *ctx, eq_student *s, eq_rng *rng)
{
    for (int u = 0; u < EQ_UNITS; u++) {
        eq_fake *f = &s->fakes[u];
        random_fill(f->w, f->N * f->shape.K, 0.05f, rng);
    }
    for (int64_t i = 0; i < eq_norm_elems(s->config); i++)
        s->vectors[i] = 1;
    s->options.start = EQ_START_MINMAX;
    eq_student_start(ctx, s);
}

static void emit_step(bench *b, double seconds)
{
    const double work = eq_block_flops(b->config, B, T, true);
    emit(b, "step", "seconds", "s", seconds, -1);
    emit(b, "step", "tokens_per_second", "tokens/s", M / seconds, -1);
    emit(b, "step", "useful", "GFLOP/s", work / seconds / 1e9, work / seconds / b->peak);
}

static eq_status time_step(bench *b, eq_student *s)
{
    eq_rng rng;
    eq_stream input = {.fd = -1}, target = {.fd = -1};
    eq_rng_init(&rng, 1, 0);
    fill_student(b->ctx, s, &rng);
    eq_status st = fill_stream(b->ctx, &input, b->config, b->type, s, &rng);
    if (st == EQ_OK) st = fill_stream(b->ctx, &target, b->config, b->type, s, &rng);
    if (st == EQ_OK) {
        const eq_student_data data = {.input = &input, .target = &target, .samples = B};
        const eq_fit_options fit = {
            .name = "bench", .samples = B, .batch = B, .epochs = 1, .tokens = T};
        double seconds[RUNS];
        for (int i = -2; st == EQ_OK && i < RUNS; i++) { /* the first two make plans and warm up */
            double start = eq_seconds();
            st = eq_student_fit(b->ctx, s, &data, &fit, NULL);
            if (i >= 0) seconds[i] = eq_seconds() - start;
        }
        if (st == EQ_OK) emit_step(b, eq_bench_median(seconds, RUNS));
    }
    eq_stream_close(&input);
    eq_stream_close(&target);
    return st;
}

static eq_status bench_step(bench *b)
{
    const eq_quantize_options none = {0};
    const eq_block_scheme scheme = eq_scheme_block(&(eq_scheme){.bits = BITS, .group = GROUP});
    eq_student_shape shape = {.config = b->config,
                              .schemes = &scheme,
                              .blocks = 1,
                              .options = none.train,
                              .T = T,
                              .type = b->type};
    shape.options.batch = B;
    shape.options.loss = EQ_LOSS_RELATIVE;
    shape.options.quant_lr = shape.options.weight_lr = 1e-6;
    shape.options.min_lr_factor = 20;
    shape.options.beta1 = 0.9;
    shape.options.beta2 = 0.999;
    shape.options.epsilon = 1e-8;
    eq_student student;
    eq_status st = eq_student_init(b->ctx, &student, &shape);
    if (st == EQ_OK) st = time_step(b, &student);
    eq_student_deinit(&student);
    return st;
}

static eq_status bench_whole(bench *b)
{
    eq_bench_whole r;
    eq_status st = eq_bench_whole_run(b->ctx, b->config, b->type, &r);
    if (st != EQ_OK) return st;
    emit(b, "e2e", "seconds", "s", r.seconds, -1);
    emit(b, "e2e", "tokens_per_second", "tokens/s", T / r.seconds, -1);
    emit(b, "e2e", "useful", "GFLOP/s", r.flops / r.seconds / 1e9, r.flops / r.seconds / b->peak);
    return EQ_OK;
}

static eq_status decode_with(bench *b, const eq_decoder *decoder, const eq_bench_options *o,
                             bool exact)
{
    const eq_activation_mode mode = exact ? EQ_ACTIVATIONS_EXACT : EQ_ACTIVATIONS_8BIT;
    const eq_bench_task task = {.type = b->type,
                                .activations = mode,
                                .kv_bits = eq_generation_kv_bits(o->kv_bits, mode),
                                .prompt = o->prompt,
                                .texts = o->texts};
    eq_bench_decode r;
    eq_status st = eq_bench_decode_run(b->ctx, decoder, &task, &r);
    if (st != EQ_OK) return st;
    if (!exact) {
        emit(b, "decode", "prompt", "tokens", (double)task.prompt, -1);
        emit(b, "decode", "texts", "", (double)task.texts, -1);
    }
    emit(b, "decode", exact ? "kv_bits_exact" : "kv_bits", "bits", task.kv_bits, -1);
    emit(b, "decode", exact ? "load_exact" : "load", "s", r.load, -1);
    emit(b, "decode", exact ? "read_exact" : "read", "tokens/s", (double)task.prompt / r.read, -1);
    emit(b, "decode", exact ? "write_exact" : "write", "tokens/s", (double)task.texts / r.step,
         r.bytes / r.step / b->bandwidth);
    emit(b, "decode", exact ? "write_exact_fastest" : "write_fastest", "tokens/s",
         (double)task.texts / r.fastest, r.bytes / r.fastest / b->bandwidth);
    return EQ_OK;
}

/* Shares are of what the memory could deliver. */
static eq_status bench_decode(bench *b, const eq_decoder *decoder, const eq_bench_options *o)
{
    eq_status st = decode_with(b, decoder, o, false);
    return st == EQ_OK ? decode_with(b, decoder, o, true) : st;
}

static bool wanted(const char *only, const char *group)
{
    return !only || !strcmp(only, group);
}

static eq_status check_group(eq_ctx *ctx, const char *only, const eq_decoder *decoder)
{
    static const char *const GROUPS[] = {"gemm", "kernel", "step", "e2e", "decode"};
    if (only && !strcmp(only, "decode") && !decoder)
        return eq_fail(ctx, EQ_EINVAL, "decode is measured on a model, and none was given");
    for (size_t i = 0; i < sizeof GROUPS / sizeof *GROUPS; i++)
        if (wanted(only, GROUPS[i])) return EQ_OK;
    return eq_fail(ctx, EQ_EINVAL,
                   "nothing called %s can be measured: gemm, kernel, step, e2e, decode", only);
}

eq_status eq_bench_run(eq_ctx *ctx, const eq_config *config, const eq_decoder *decoder,
                       const eq_bench_options *options, eq_bench_fn row, void *user)
{
    const char *only = options->only;
    bench b = {.ctx = ctx, .config = config, .row = row, .user = user};
    bool gemm = wanted(only, "gemm"), step = wanted(only, "step"), whole = wanted(only, "e2e");
    bool kernel = wanted(only, "kernel"), decode = decoder && wanted(only, "decode");
    eq_status st = check_group(ctx, only, decoder);
    if (st == EQ_OK) st = eq_precision_type(ctx, &b.type, EQ_PRECISION_AUTO);
    if (st == EQ_OK && (gemm || step || whole)) st = bench_products(&b, b.type, gemm);
    if (st == EQ_OK && gemm && b.type != EQ_F32) st = bench_products(&b, EQ_F32, true);
    if (st == EQ_OK && (kernel || decode)) st = measure_memory(&b);
    if (st == EQ_OK && kernel) st = bench_loops(&b);
    if (st == EQ_OK && step) st = bench_step(&b);
    if (st == EQ_OK && whole) st = bench_whole(&b);
    if (st == EQ_OK && decode) st = bench_decode(&b, decoder, options);
    return st;
}
