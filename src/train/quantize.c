#include "train/quantize.h"

#include "base/file.h"
#include "io/tokens.h"
#include "train/block_file.h"
#include "train/choose_bits.h"
#include "train/masters.h"

#include <stdio.h>
#include <unistd.h>

/* What lives while the blocks are done. */
typedef struct state {
    const eq_quantize_job *job;
    eq_student student;
    eq_stream full,
        quantized; /* outputs of the blocks so far; quantized is unused without training */
    bool in_file;
    int64_t block, made_here;         /* the block at work; blocks made in this call, */
    double started;                   /* since then */
    double began, val_start, val_end; /* of the block at work */
} state;

bool eq_quantize_needs_data(const eq_quantize_options *o)
{
    return o->method != EQ_METHOD_RTN || o->train.start == EQ_START_WEIGHTED;
}

static bool trains(const eq_quantize_options *o)
{
    return o->method != EQ_METHOD_RTN && o->train.epochs > 0;
}

/* Windows for the starts. */
static int64_t start_samples(const eq_train_options *t)
{
    return t->start_windows < t->samples ? t->start_windows : t->samples;
}

int64_t eq_quantize_samples(const eq_quantize_options *o)
{
    return trains(o) ? o->train.samples : start_samples(&o->train);
}

static int64_t val_samples(const eq_quantize_options *o)
{
    return trains(o) ? o->data.val_samples : 0;
}

static eq_student_shape student_shape(const eq_quantize_job *job)
{
    const eq_quantize_options *o = job->options;
    return (eq_student_shape){.config = &job->teacher->config,
                              .schemes = job->schemes,
                              .blocks = job->teacher->config.L,
                              .options = o->train,
                              .T = o->data.seqlen,
                              .type = job->type,
                              .rounds = !trains(o)};
}

static eq_stream_shape stream_shape(const eq_quantize_job *job)
{
    const eq_quantize_options *o = job->options;
    return (eq_stream_shape){eq_quantize_samples(o) + val_samples(o), o->data.seqlen,
                             job->teacher->config.C, job->type};
}

/* All windows, and a copy of those of the blocks if these are fewer. */
static int64_t window_bytes(const eq_quantize_options *o)
{
    const int64_t T = o->data.seqlen, blocks = o->train.samples, all = o->data.samples;
    if (!trains(o) && !o->tune.epochs) return eq_windows_bytes(eq_quantize_samples(o), T);
    int64_t copied = blocks < all ? blocks * T * (int64_t)sizeof(int32_t) : 0;
    return eq_windows_bytes(all + o->data.val_samples, T) + copied;
}

static double megabytes(int64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* The most bytes that choosing bits, and rounding the embedding and the head, take beside what is
 * held then: both before the blocks. */
static int64_t plan_first(eq_ctx *ctx, const eq_quantize_job *job)
{
    int64_t choice = eq_choose_bits_bytes(job, ctx->threads);
    int64_t ends = (int64_t)eq_ends_bytes(&job->teacher->config, job->ends);
    if (ends)
        eq_log(ctx, EQ_LOG_INFO, "plan: embedding in %d bits, head in %d, %.0f MiB of memory",
               job->ends[EQ_EMBEDDING].bits, job->ends[EQ_HEAD].bits, megabytes(ends));
    return choice > ends ? choice : ends;
}

eq_status eq_quantize_plan(eq_ctx *ctx, const eq_quantize_job *job, bool *in_file)
{
    const eq_quantize_options *o = job->options;
    const eq_student_shape student = student_shape(job);
    const eq_stream_shape shape = stream_shape(job);
    bool data = eq_quantize_needs_data(o);
    int64_t streams = data ? (int64_t)eq_stream_bytes(&shape) * (trains(o) ? 2 : 1) : 0;
    int64_t windows = data ? window_bytes(o) : 0;
    const eq_config *c = &job->teacher->config;
    int64_t held =
        windows + eq_block_product_bytes(ctx, c, o->train.batch * o->data.seqlen, job->type);
    int64_t work = held + (int64_t)eq_student_bytes(&student, ctx->threads) +
                   eq_block_file_bytes(c, job->schemes);
    int64_t limit = eq_memory_limit(o->run.memory);
    *in_file = o->run.streams == EQ_STREAMS_FILE ||
               (o->run.streams == EQ_STREAMS_AUTO && limit && work + streams > limit);
    int64_t need = work + (*in_file ? 0 : streams), first = plan_first(ctx, job);
    if (first) first += held;
    eq_log(ctx, EQ_LOG_INFO, "plan: %lld blocks, %s, products by %s (%s)",
           (long long)job->teacher->config.L, eq_dtype_get(job->type)->name,
           eq_gemm_engine(ctx, job->type), ctx->kernels->name);
    eq_log(ctx, EQ_LOG_INFO,
           "plan: memory %.0f MiB for the windows, one block and its step, %.0f MiB of activations "
           "in %s",
           megabytes(work), megabytes(streams), *in_file ? "files (twice that on disk)" : "memory");
    if (data)
        eq_log(ctx, EQ_LOG_INFO, "plan: %lld windows of %lld tokens, %lld of them for validation",
               (long long)shape.n, (long long)shape.T, (long long)val_samples(o));
    if (limit && first > limit && first > need)
        return eq_fail(ctx, EQ_ENOMEM,
                       "choosing bits, or rounding embedding and head, needs %.1f MiB and may use "
                       "%.1f MiB; give a larger --memory",
                       megabytes(first), megabytes(limit));
    if (limit && need > limit)
        return eq_fail(ctx, EQ_ENOMEM,
                       "the run needs %.1f MiB and may use %.1f MiB; give a larger --memory, a "
                       "smaller --batch or --seqlen%s",
                       megabytes(need), megabytes(limit), *in_file ? "" : ", or --streams file");
    return EQ_OK;
}

/* ---- streams ------------------------------------------------------------------------------- */

/* A stream for the output of the blocks before `block`; in memory there is one, written over. */
static eq_status new_stream(eq_ctx *ctx, const state *s, eq_stream *stream, const char *name,
                            int64_t block)
{
    const eq_stream_shape shape = stream_shape(s->job);
    if (!s->in_file) return eq_stream_create(ctx, stream, &shape, NULL);
    char *path = eq_run_stream_path(ctx, s->job->run, name, block);
    eq_status st = path ? eq_stream_create(ctx, stream, &shape, path) : EQ_ENOMEM;
    eq_free(path);
    return st;
}

/* decoder: whose embedding */
static eq_status embed_stream(eq_ctx *ctx, state *s, eq_stream *stream, const eq_decoder *decoder)
{
    const eq_quantize_job *job = s->job;
    int64_t samples = eq_quantize_samples(job->options), T = stream->shape.T;
    for (int64_t w = 0; w < stream->shape.n; w++) {
        const int32_t *ids = w < samples ? job->train + w * T : job->val + (w - samples) * T;
        eq_status st = eq_embed(ctx, &decoder->embedding, s->student.acts.x, ids, T);
        if (st == EQ_OK)
            st = eq_stream_write(ctx, stream, w, 1, s->student.acts.x, s->student.buffer);
        if (st != EQ_OK) return st;
    }
    return eq_stream_publish(ctx, stream);
}

static eq_status open_stream(eq_ctx *ctx, const state *s, eq_stream *stream, const char *name,
                             int64_t block)
{
    const eq_stream_shape shape = stream_shape(s->job);
    char *path = eq_run_stream_path(ctx, s->job->run, name, block);
    eq_status st = path ? eq_stream_open(ctx, stream, &shape, path) : EQ_ENOMEM;
    eq_free(path);
    return st;
}

static bool stream_exists(eq_ctx *ctx, const state *s, const char *name, int64_t block)
{
    char *path = eq_run_stream_path(ctx, s->job->run, name, block);
    bool there = path && eq_file_exists(path);
    eq_free(path);
    return there;
}

static void remove_stream(eq_ctx *ctx, const state *s, const char *name, int64_t block)
{
    char *path = eq_run_stream_path(ctx, s->job->run, name, block);
    if (path) unlink(path);
    eq_free(path);
}

/* The last block up to which both streams stand in files, or 0. */
static int64_t latest_streams(eq_ctx *ctx, const state *s, int64_t finished)
{
    bool both = trains(s->job->options);
    for (int64_t i = finished; s->in_file && i > 0; i--)
        if (stream_exists(ctx, s, "full", i) && (!both || stream_exists(ctx, s, "quantized", i)))
            return i;
    return 0;
}

static eq_status start_streams(eq_ctx *ctx, state *s, int64_t finished, int64_t *first)
{
    bool both = trains(s->job->options);
    *first = latest_streams(ctx, s, finished);
    if (*first > 0) {
        eq_status st = open_stream(ctx, s, &s->full, "full", *first);
        if (st == EQ_OK && both) st = open_stream(ctx, s, &s->quantized, "quantized", *first);
        return st;
    }
    eq_status st = new_stream(ctx, s, &s->full, "full", 0);
    if (st == EQ_OK) st = embed_stream(ctx, s, &s->full, s->job->teacher);
    if (st == EQ_OK && both) st = new_stream(ctx, s, &s->quantized, "quantized", 0);
    if (st == EQ_OK && both) st = embed_stream(ctx, s, &s->quantized, s->job->model);
    return st;
}

/* Run a block over `stream` to what becomes the next one: the same memory, or a new file. */
static eq_status advance(eq_ctx *ctx, state *s, const eq_block *block, eq_stream *stream,
                         eq_stream *next, const char *name)
{
    if (!s->in_file) return eq_student_propagate(ctx, &s->student, block, stream, stream);
    eq_status st = new_stream(ctx, s, next, name, s->block + 1);
    if (st == EQ_OK) st = eq_student_propagate(ctx, &s->student, block, stream, next);
    return st == EQ_OK ? eq_stream_publish(ctx, next) : st;
}

/* The next stream takes the place of the one before it. */
static void replace(eq_stream *stream, eq_stream *next)
{
    if (next->fd < 0) return;
    eq_stream_close(stream);
    *stream = *next;
    *next = (eq_stream){.fd = -1};
}

/* ---- one block ----------------------------------------------------------------------------- */

/* "block 3/30" */
static void block_name(const state *s, char name[64])
{
    snprintf(name, 64, "block %lld/%lld", (long long)s->block + 1,
             (long long)s->job->teacher->config.L);
}

static eq_status log_epoch(eq_ctx *ctx, void *user, const eq_epoch *epoch)
{
    state *s = user;
    char name[64];
    block_name(s, name);
    json_t *line = json_pack("{s:I}", "block", (json_int_t)s->block);
    s->val_end = epoch->val;
    return eq_run_log_epoch(ctx, s->job->run, line, name, epoch);
}

/* A trained block is on disk. Losses are negative when there are no windows for them. */
static eq_status log_block(eq_ctx *ctx, const state *s)
{
    json_t *line = json_pack("{s:I, s:s, s:f}", "block", (json_int_t)s->block, "event", "finished",
                             "seconds", eq_seconds() - s->began);
    if (s->val_start >= 0) json_object_set_new(line, "val_loss_start", json_real(s->val_start));
    if (s->val_end >= 0) json_object_set_new(line, "val_loss_end", json_real(s->val_end));
    return eq_run_log(ctx, s->job->run, line);
}

/* Seconds of a block that was made in this call; negative before there is one. */
static double seconds_each(const state *s)
{
    return s->made_here ? (eq_seconds() - s->started) / (double)s->made_here : -1;
}

static eq_status train_block(eq_ctx *ctx, state *s, eq_stream *target, const eq_block *teacher)
{
    const eq_quantize_options *o = s->job->options;
    int64_t L = s->job->teacher->config.L, left = L - s->block - 1;
    char name[64];
    block_name(s, name);
    double each = seconds_each(s);
    const eq_fit_options fit = {.name = name,
                                .samples = o->train.samples,
                                .batch = o->train.batch,
                                .epochs = o->train.epochs,
                                .early_stop = o->train.early_stop,
                                .tokens = o->data.seqlen,
                                .seconds_after = each < 0 ? -1 : each * (double)left};
    const eq_student_data data = {.input = &s->quantized,
                                  .target = target,
                                  .samples = o->train.samples,
                                  .source = teacher,
                                  .scheme = &s->job->schemes[s->block]};
    const eq_student_log log = {log_epoch, s};
    s->began = eq_seconds();
    eq_status st = eq_student_validate(ctx, &s->student, &data, &s->val_start);
    return st == EQ_OK ? eq_student_fit(ctx, &s->student, &data, &fit, &log) : st;
}

/* The first vector of the block with a value that is not finite, NULL when all are. */
static const char *spoiled_vector(const state *s, const char **suffix)
{
    eq_vector list[EQ_MOST_VECTORS];
    int count = eq_vectors(s->student.config, list);
    for (int v = 0; v < count; v++) {
        const float *values = s->student.vectors + list[v].offset;
        *suffix = list[v].suffix;
        if (eq_first_not_finite(values, list[v].n) < list[v].n) return list[v].module;
    }
    return NULL;
}

/* A weight of the model that is not finite would spoil its group silently: rounding has no loss
 * that shows it. One that the last step left, or a scale or zero point (trained), would spoil the
 * blocks behind. `whose` is for the message. */
static eq_status check_weights(eq_ctx *ctx, const state *s, const char *whose, bool trained)
{
    const eq_config *c = &s->job->teacher->config;
    const char *name = NULL, *suffix = "weight";
    for (int u = 0; !name && u < EQ_UNITS; u++) {
        eq_part parts[EQ_MAX_PARTS];
        const eq_fake *f = &s->student.fakes[u];
        int count = eq_unit_parts(c, (eq_unit)u, parts);
        int64_t K = f->shape.K, row = eq_first_not_finite(f->w, f->N * K) / K;
        const int64_t groups = K / f->shape.g;
        if (trained && row == f->N) row = eq_first_not_finite(f->s, f->N * groups) / groups;
        if (trained && row == f->N) row = eq_first_not_finite(f->z, f->N * groups) / groups;
        for (int p = 0; p < count; p++)
            if (row >= parts[p].row0 && row < parts[p].row0 + parts[p].rows) name = parts[p].name;
    }
    if (!name) name = spoiled_vector(s, &suffix);
    if (!name) return EQ_OK;
    return eq_fail(ctx, EQ_ENUMERIC, "%s: block %lld/%lld: %s.%s has a value that is not finite",
                   whose, (long long)s->block + 1, (long long)c->L, name, suffix);
}

/* Before the block file, whose presence says that the block is done. */
static eq_status write_masters(eq_ctx *ctx, const state *s)
{
    const eq_tune_options *o = &s->job->options->tune;
    if (!o->epochs || o->train != EQ_TRAIN_ALL) return EQ_OK;
    char *path = eq_run_masters_path(ctx, s->job->run, s->block);
    eq_status st = path ? eq_masters_write(ctx, path, s->student.fakes) : EQ_ENOMEM;
    eq_free(path);
    return st;
}

/* Start values, training, and the block on disk. full_next gets the full-precision output. */
static eq_status make_block(eq_ctx *ctx, state *s, eq_stream *full_next, const char *path)
{
    const eq_quantize_options *o = s->job->options;
    const eq_block *teacher = &s->job->teacher->blocks[s->block].block;
    const eq_block_scheme *scheme = &s->job->schemes[s->block];
    eq_student_load(ctx, &s->student, teacher, scheme);
    eq_status st = check_weights(ctx, s, eq_checkpoint_path(s->job->teacher->checkpoint), false);
    if (st == EQ_OK && o->train.start == EQ_START_WEIGHTED) {
        eq_stream *input = trains(o) ? &s->quantized : &s->full;
        st = eq_student_weigh(ctx, &s->student, teacher, input, start_samples(&o->train));
    }
    if (st == EQ_OK) eq_student_start(ctx, &s->student);
    if (st == EQ_OK && eq_quantize_needs_data(o))
        st = advance(ctx, s, teacher, &s->full, full_next, "full");
    if (st == EQ_OK && trains(o))
        st = train_block(ctx, s, s->in_file ? full_next : &s->full, teacher);
    if (st == EQ_OK) st = eq_ctx_status(ctx);
    if (st == EQ_OK) st = check_weights(ctx, s, s->job->run->out, true);
    if (st == EQ_OK) st = write_masters(ctx, s);
    if (st == EQ_OK) st = eq_block_file_write(ctx, &s->student.block, scheme, s->block, path);
    return st == EQ_OK && trains(o) ? log_block(ctx, s) : st;
}

static eq_status advance_quantized(eq_ctx *ctx, state *s, eq_stream *next, const char *path)
{
    eq_block_file file;
    eq_status st = eq_block_file_open(ctx, &file, &s->job->teacher->config,
                                      &s->job->schemes[s->block], s->block, path);
    if (st != EQ_OK) return st;
    st = advance(ctx, s, &file.block, &s->quantized, next, "quantized");
    eq_block_file_close(&file);
    return st;
}

static void report_block(eq_ctx *ctx, const state *s)
{
    int64_t L = s->job->teacher->config.L, done = s->block + 1;
    double each = seconds_each(s);
    const eq_progress p = {.task = "blocks",
                           .unit = "blocks",
                           .done = done,
                           .total = L,
                           .loss = -1,
                           .per_second = -1,
                           .seconds_left = each < 0 ? -1 : each * (double)(L - done)};
    eq_report(ctx, &p);
}

/* Bring block s->block about, or take it from disk, and move the streams past it. */
static eq_status do_block(eq_ctx *ctx, state *s)
{
    const eq_quantize_options *o = s->job->options;
    const eq_block *teacher = &s->job->teacher->blocks[s->block].block;
    eq_stream full_next = {.fd = -1}, quantized_next = {.fd = -1};
    char *path = eq_run_block_path(ctx, s->job->run, s->block);
    if (!path) return EQ_ENOMEM;
    eq_status st = EQ_OK;
    bool there = eq_file_exists(path);
    bool data = eq_quantize_needs_data(o);
    if (!there && !s->made_here) s->started = eq_seconds();
    if (!there)
        st = make_block(ctx, s, &full_next, path);
    else if (data)
        st = advance(ctx, s, teacher, &s->full, &full_next, "full");
    const bool last = s->block + 1 == s->job->teacher->config.L;
    if (st == EQ_OK && trains(o) && !last) st = advance_quantized(ctx, s, &quantized_next, path);
    eq_decoder_release_block(s->job->teacher, s->block);
    if (st == EQ_OK) {
        replace(&s->full, &full_next);
        replace(&s->quantized, &quantized_next);
        remove_stream(ctx, s, "full", s->block);
        remove_stream(ctx, s, "quantized", s->block);
        s->made_here += !there;
        report_block(ctx, s);
    }
    eq_stream_close(&full_next);
    eq_stream_close(&quantized_next);
    eq_free(path);
    return st == EQ_OK ? eq_check_interrupt(ctx) : st;
}

static int64_t count_finished(eq_ctx *ctx, const eq_quantize_job *job)
{
    int64_t i = 0;
    for (bool there = true; there && i < job->teacher->config.L; i += there) {
        char *path = eq_run_block_path(ctx, job->run, i);
        there = path && eq_file_exists(path);
        eq_free(path);
    }
    return i;
}

static eq_status run_blocks(eq_ctx *ctx, state *s, int64_t first, int64_t finished)
{
    const eq_quantize_options *o = s->job->options;
    eq_status st = EQ_OK;
    for (s->block = first; st == EQ_OK && s->block < s->job->teacher->config.L; s->block++) {
        bool enough = o->run.stop_after && s->block >= finished + o->run.stop_after;
        if (enough)
            return eq_fail(ctx, EQ_EINTERRUPTED, "stopped after %lld blocks",
                           (long long)o->run.stop_after);
        st = do_block(ctx, s);
    }
    return st;
}

eq_status eq_quantize_blocks(eq_ctx *ctx, const eq_quantize_job *job, bool in_file,
                             int64_t *resumed)
{
    state s = {.job = job, .in_file = in_file};
    s.full.fd = s.quantized.fd = -1;
    const eq_student_shape shape = student_shape(job);
    int64_t finished = count_finished(ctx, job), first = 0, L = job->teacher->config.L;
    *resumed = finished;
    if (finished == L) return EQ_OK;
    if (finished)
        eq_log(ctx, EQ_LOG_INFO, "going on after %lld finished blocks", (long long)finished);
    eq_status st = eq_student_init(ctx, &s.student, &shape);
    if (st == EQ_OK && eq_quantize_needs_data(job->options))
        st = start_streams(ctx, &s, finished, &first);
    if (st == EQ_OK) st = run_blocks(ctx, &s, first, finished);
    eq_stream_close(&s.full);
    eq_stream_close(&s.quantized);
    eq_student_deinit(&s.student);
    return st;
}
