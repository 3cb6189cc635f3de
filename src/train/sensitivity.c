#include "train/sensitivity.h"

#include "base/file.h"
#include "io/safetensors.h"
#include "train/logits_loss.h"

#include <math.h>
#include <stdio.h>

/* A few hundred positions rank the units; see docs/results.md. */
enum { WINDOWS = 2, TOKENS = 256, TOP = 128 };

const int EQ_TRIED_BITS[EQ_VARIANTS] = {2, 3, 4, 8};

/* What lives while units are tried. */
typedef struct trial {
    const eq_sensitivity_job *job;
    int64_t n, T; /* windows and their tokens that are used, all in one pass */
    int32_t *ids; /* [n, T] */
    eq_student student;
    eq_stream stream;  /* full-precision input of the block at work, in f32 */
    eq_linear head;    /* the teacher's own */
    eq_logits_top top; /* [n T - 1, top]: what the teacher says */
    /* All windows are one for it: without a cross-entropy it does not matter what follows the last
     * token of one. */
    eq_logits_loss loss;
    eq_arena arena; /* owned; of ids, top and loss */
    double started;
    int64_t done, known; /* units that were tried, now and by an earlier call */
} trial;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static trial start_trial(const eq_sensitivity_job *job)
{
    return (trial){.job = job,
                   .n = least(job->n, WINDOWS),
                   .T = least(job->T, TOKENS),
                   .stream.fd = -1,
                   .head = job->teacher->head,
                   .started = eq_seconds()};
}

static eq_block_scheme scheme_of(const trial *t, int bits)
{
    eq_scheme scheme = t->job->scheme;
    scheme.bits = bits;
    return eq_scheme_block(&scheme);
}

static eq_student_shape student_shape(const trial *t, const eq_block_scheme *scheme)
{
    eq_student_shape shape = {.config = &t->job->teacher->config,
                              .schemes = scheme,
                              .blocks = 1,
                              .options = *t->job->train,
                              .T = t->T,
                              .type = t->job->type,
                              .rounds = true};
    shape.options.batch = t->n;
    return shape;
}

static eq_stream_shape stream_shape(const trial *t)
{
    return (eq_stream_shape){t->n, t->T, t->job->teacher->config.C, EQ_F32};
}

static void layout(trial *t)
{
    const eq_config *c = &t->job->teacher->config;
    const eq_logits_shape shape = {.T = t->n * t->T,
                                   .C = c->C,
                                   .V = c->V,
                                   .type = t->job->type,
                                   .weights = {.kl = 1, .temperature = 1},
                                   .top = least(c->V, TOP)};
    int64_t known = (shape.T - 1) * shape.top;
    t->ids = eq_arena_take(&t->arena, shape.T, sizeof(int32_t));
    t->loss = eq_logits_loss_layout(&t->arena, &shape);
    t->top = (eq_logits_top){eq_arena_take(&t->arena, known, sizeof(int32_t)),
                             eq_arena_take(&t->arena, known, sizeof(float))};
}

size_t eq_sensitivity_bytes(const eq_sensitivity_job *job, int threads)
{
    trial t = start_trial(job);
    const eq_block_scheme scheme = scheme_of(&t, EQ_TRIED_BITS[0]);
    const eq_student_shape student = student_shape(&t, &scheme);
    const eq_stream_shape stream = stream_shape(&t);
    t.arena = eq_arena_measure();
    layout(&t);
    return t.arena.used + eq_student_bytes(&student, threads) + eq_stream_bytes(&stream);
}

static eq_logits_end end_of(trial *t)
{
    const eq_decoder *d = t->job->teacher;
    return (eq_logits_end){d->final_norm, &t->head, d->config.eps};
}

/* The student's acts.x through `first`, which may be NULL, then the teacher's blocks from number i
 * on; the last hidden states are in acts.x again. */
static eq_status pass(eq_ctx *ctx, trial *t, const eq_block *first, int64_t i)
{
    eq_activations *a = &t->student.acts;
    const eq_decoder *d = t->job->teacher;
    eq_status st = EQ_OK;
    for (; st == EQ_OK && (first || i < d->config.L); first = NULL) {
        const eq_block *block = first ? first : &d->blocks[i++].block;
        eq_block_forward(ctx, block, &t->student.rope, a);
        float *x = a->x;
        a->x = a->y;
        a->y = x;
        st = eq_check_interrupt(ctx);
    }
    return st == EQ_OK ? eq_ctx_status(ctx) : st;
}

/* The windows' embeddings into the stream, and what the teacher makes of them. */
static eq_status run_teacher(eq_ctx *ctx, trial *t)
{
    const eq_stream_shape shape = stream_shape(t);
    eq_student *s = &t->student;
    for (int64_t w = 0; w < t->n; w++)
        memcpy(t->ids + w * t->T, t->job->ids + w * t->job->T, (size_t)t->T * sizeof *t->ids);
    eq_status st = eq_stream_create(ctx, &t->stream, &shape, NULL);
    if (st == EQ_OK)
        st = eq_embed(ctx, &t->job->teacher->embedding, s->acts.x, t->ids, t->n * t->T);
    if (st == EQ_OK) st = eq_stream_write(ctx, &t->stream, 0, t->n, s->acts.x, s->buffer);
    if (st == EQ_OK) st = pass(ctx, t, NULL, 0);
    if (st != EQ_OK) return st;
    const eq_logits_end end = end_of(t);
    eq_logits_find_top(ctx, &t->loss, &end, s->acts.x, &t->top);
    return eq_ctx_status(ctx);
}

/* Mean divergence of a position when block i is replaced. */
static eq_status measure(eq_ctx *ctx, trial *t, const eq_block *block, int64_t i, double *kl)
{
    eq_student *s = &t->student;
    eq_status st = eq_stream_read(ctx, &t->stream, 0, t->n, s->acts.x, s->buffer);
    if (st == EQ_OK) st = pass(ctx, t, block, i + 1);
    if (st != EQ_OK) return st;
    const eq_logits_window window = {
        .ids = t->ids, .x = s->acts.x, .top = t->top, .end = end_of(t)};
    float share = 1.0f / (float)(t->loss.T - 1);
    *kl = eq_logits_loss_window(ctx, &t->loss, &window, share, NULL, NULL);
    if (!isfinite(*kl))
        return eq_fail(ctx, EQ_ENUMERIC, "%s: block %lld: its sensitivity is not finite",
                       eq_checkpoint_path(t->job->teacher->checkpoint), (long long)i + 1);
    if (*kl < 0) *kl = 0; /* rounding can leave it there */
    return eq_ctx_status(ctx);
}

static void report(eq_ctx *ctx, trial *t, double kl)
{
    int64_t total = t->job->teacher->config.L * EQ_UNITS * EQ_VARIANTS;
    double seconds = eq_seconds() - t->started;
    t->done++;
    int64_t now = t->done - t->known;
    const eq_progress p = {.task = "trying bits",
                           .unit = "units",
                           .done = t->done,
                           .total = total,
                           .loss = kl,
                           .per_second = -1,
                           .seconds_left = seconds / (double)now * (double)(total - t->done)};
    eq_report(ctx, &p);
}

/* All units of block i at one number of bits, into kl[unit][variant]. */
static eq_status try_bits(eq_ctx *ctx, trial *t, int64_t i, int variant, double (*kl)[EQ_VARIANTS])
{
    const eq_block *teacher = &t->job->teacher->blocks[i].block;
    const eq_block_scheme scheme = scheme_of(t, EQ_TRIED_BITS[variant]);
    eq_student_load(ctx, &t->student, teacher, &scheme);
    eq_student_start(ctx, &t->student);
    eq_status st = eq_ctx_status(ctx);
    for (int u = 0; st == EQ_OK && u < EQ_UNITS; u++) {
        eq_block block = *teacher;
        block.units[u] = t->student.block.units[u];
        st = measure(ctx, t, &block, i, &kl[u][variant]);
        if (st == EQ_OK) report(ctx, t, kl[u][variant]);
    }
    return st;
}

static eq_status try_block(eq_ctx *ctx, trial *t, int64_t i, double (*kl)[EQ_VARIANTS])
{
    const eq_block *teacher = &t->job->teacher->blocks[i].block;
    eq_status st = EQ_OK;
    if (t->job->train->start == EQ_START_WEIGHTED)
        st = eq_student_weigh(ctx, &t->student, teacher, &t->stream, t->n);
    for (int v = 0; st == EQ_OK && v < EQ_VARIANTS; v++)
        st = try_bits(ctx, t, i, v, kl);
    return st;
}

/* ---- what an earlier call found ------------------------------------------------------------ */

/* Bits of f64; what is not known yet is negative. */
static eq_tensor_entry entry_of(const trial *t)
{
    return (eq_tensor_entry){"kl", EQ_I64, 3, {t->job->teacher->config.L, EQ_UNITS, EQ_VARIANTS}};
}

static eq_status save(eq_ctx *ctx, const trial *t, double (*kl)[EQ_VARIANTS])
{
    eq_safetensors_writer w;
    const eq_tensor_entry entry = entry_of(t);
    if (!t->job->path) return EQ_OK;
    eq_status st = eq_safetensors_begin(ctx, &w, t->job->path, &entry, 1);
    if (st != EQ_OK) return st;
    eq_safetensors_write(&w, kl, eq_tensor_entry_bytes(&entry));
    return eq_safetensors_commit(&w);
}

static bool known(double (*kl)[EQ_VARIANTS])
{
    bool all = true;
    for (int u = 0; u < EQ_UNITS; u++)
        for (int v = 0; v < EQ_VARIANTS; v++)
            all = all && isfinite(kl[u][v]) && kl[u][v] >= 0;
    return all;
}

static eq_status load(eq_ctx *ctx, const trial *t, double (*kl)[EQ_VARIANTS])
{
    eq_safetensors *file = NULL;
    const eq_tensor_entry entry = entry_of(t);
    for (int64_t i = 0; i < t->job->teacher->config.L * EQ_UNITS; i++)
        for (int v = 0; v < EQ_VARIANTS; v++)
            kl[i][v] = -1;
    if (!t->job->path || !eq_file_exists(t->job->path)) return EQ_OK;
    eq_status st = eq_safetensors_open(ctx, &file, t->job->path);
    if (st == EQ_OK) st = eq_safetensors_copy(ctx, file, &entry, kl);
    eq_safetensors_close(file);
    return st;
}

/* The stream goes from block i's input to its output. */
static eq_status pass_block(eq_ctx *ctx, trial *t, int64_t i, double (*kl)[EQ_VARIANTS])
{
    eq_status st = EQ_OK;
    if (known(kl + i * EQ_UNITS)) {
        t->known += EQ_UNITS * EQ_VARIANTS;
        t->done += EQ_UNITS * EQ_VARIANTS;
    } else {
        st = try_block(ctx, t, i, kl + i * EQ_UNITS);
        if (st == EQ_OK) st = save(ctx, t, kl);
    }
    if (st != EQ_OK) return st;
    return eq_student_propagate(ctx, &t->student, &t->job->teacher->blocks[i].block, &t->stream,
                                &t->stream);
}

eq_status eq_sensitivity(eq_ctx *ctx, double (*kl)[EQ_VARIANTS], const eq_sensitivity_job *job)
{
    trial t = start_trial(job);
    const eq_block_scheme scheme = scheme_of(&t, EQ_TRIED_BITS[0]);
    const eq_student_shape shape = student_shape(&t, &scheme);
    t.arena = eq_arena_measure();
    layout(&t);
    size_t bytes = t.arena.used;
    eq_status st = eq_student_init(ctx, &t.student, &shape);
    if (st == EQ_OK) st = eq_arena_reserve(ctx, &t.arena, bytes);
    if (st == EQ_OK) {
        layout(&t);
        st = run_teacher(ctx, &t);
    }
    if (st == EQ_OK) st = load(ctx, &t, kl);
    for (int64_t i = 0; st == EQ_OK && i < job->teacher->config.L; i++)
        st = pass_block(ctx, &t, i, kl);
    eq_stream_close(&t.stream);
    eq_arena_release(&t.arena);
    eq_student_deinit(&t.student);
    return st;
}
