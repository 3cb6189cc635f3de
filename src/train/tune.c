#include "train/tune.h"

#include "base/file.h"
#include "io/tokens.h"
#include "train/block_file.h"
#include "train/masters.h"
#include "train/state_file.h"
#include "train/teacher_file.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* What lives while the model is trained. */
typedef struct tuning {
    const eq_tune_job *job;
    eq_whole whole;
    eq_optimizer optimizer;
    double saved_at;                 /* seconds of the clock */
    char *last, *best, *good, *next; /* owned paths */
    eq_teacher_files teacher[2]; /* owned; of training and validation windows, with teacher_top */
} tuning;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What is held beside the model: all windows, what products take, and what is needed now and then,
 * a window of the teacher's file and a block that is written. */
static int64_t other_bytes(const eq_ctx *ctx, const eq_tune_job *job, const eq_whole_shape *shape)
{
    int64_t written = eq_block_file_bytes(&job->base->config, job->schemes);
    int64_t teacher = eq_teacher_files_bytes(1, job->T, shape->top);
    return eq_windows_bytes(job->train.n + job->val.n, job->T) +
           eq_block_product_bytes(ctx, &job->base->config, job->T, job->type) +
           (written > teacher ? written : teacher);
}

static eq_whole_shape whole_shape(const eq_ctx *ctx, const eq_tune_job *job)
{
    const eq_tune_options *o = job->options;
    eq_whole_shape shape = {.base = job->base,
                            .teacher = o->kl > 0 ? job->teacher : NULL,
                            .schemes = job->schemes,
                            .train = o->train,
                            .edges_clipped = job->edges_clipped,
                            .exact_scales = job->exact_scales,
                            .top = o->kl > 0 ? least(o->teacher_top, job->base->config.V) : 0,
                            .weights = {(float)o->kl, (float)o->ce, (float)o->temperature},
                            .T = job->T,
                            .type = job->type};
    eq_whole_keep(&shape, job->memory, other_bytes(ctx, job, &shape), ctx->threads);
    return shape;
}

static eq_fit_options fit_options(const eq_tune_job *job)
{
    const eq_tune_options *o = job->options;
    return (eq_fit_options){.name = "end to end",
                            .samples = job->train.n,
                            .batch = o->batch,
                            .epochs = o->epochs,
                            .tokens = job->T};
}

/* MiB */
static double memory_of(eq_ctx *ctx, const eq_tune_job *job, const eq_whole_shape *shape)
{
    int64_t all = (int64_t)eq_whole_bytes(shape, ctx->threads) + other_bytes(ctx, job, shape);
    return (double)all / (1 << 20);
}

/* need in MiB, limit in bytes */
static eq_status check_memory(eq_ctx *ctx, const eq_tune_job *job, double need, int64_t limit)
{
    double most = (double)limit / (1 << 20);
    if (!limit || need <= most) return EQ_OK;
    return eq_fail(ctx, EQ_ENOMEM,
                   "the end-to-end phase needs %.1f MiB and may use %.1f MiB; give a larger "
                   "--memory, or a smaller --seqlen%s%s",
                   need, most, job->options->train == EQ_TRAIN_SCALES ? "" : ", or --tune scales",
                   job->masters ? ", or --tune-epochs 0" : "");
}

eq_status eq_tune_fits(eq_ctx *ctx, const eq_tune_job *job, int64_t limit)
{
    const eq_whole_shape shape = whole_shape(ctx, job);
    return check_memory(ctx, job, memory_of(ctx, job, &shape), limit);
}

eq_status eq_tune_plan(eq_ctx *ctx, const eq_tune_job *job, int64_t limit)
{
    static const char *const WHAT[] = {"scales", "scales and norms", "all weights"};
    const eq_whole_shape shape = whole_shape(ctx, job);
    const eq_tune_options *o = job->options;
    double need = memory_of(ctx, job, &shape);
    char rates[64] = "";
    if (o->train == EQ_TRAIN_NORMS) snprintf(rates, sizeof rates, ", norms %g", o->norm_lr);
    if (o->train == EQ_TRAIN_ALL)
        snprintf(rates, sizeof rates, ", norms %g, weights %g", o->norm_lr, o->weight_lr);
    eq_log(ctx, EQ_LOG_INFO,
           "plan: end to end %s by %s, %lld windows of %lld tokens, %d passes, %.0f MiB of memory",
           WHAT[o->train],
           o->kl > 0 ? (o->ce > 0 ? "KL and cross-entropy" : "KL") : "cross-entropy",
           (long long)job->train.n, (long long)job->T, o->epochs, need);
    eq_log(ctx, EQ_LOG_INFO, "plan: learning rates: scales %g%s", o->scale_lr, rates);
    int64_t disk = eq_teacher_files_bytes(job->train.n + job->val.n, job->T, shape.top);
    if (shape.top)
        eq_log(ctx, EQ_LOG_INFO,
               "plan: %.0f MiB on disk for the %lld likeliest tokens of the teacher",
               (double)disk / (1 << 20), (long long)shape.top);
    return check_memory(ctx, job, need, limit);
}

static const uint8_t *counts_of(const eq_tune_windows *w, int64_t i, int64_t T)
{
    return w->counts ? w->counts + i * T : NULL;
}

/* Sum of the losses of windows first .. first+count-1, all counted positions with one share. */
static eq_status windows_pass(eq_ctx *ctx, tuning *t, const eq_tune_windows *w, int64_t first,
                              int64_t count, bool backward, double *loss)
{
    int64_t T = t->job->T, positions = 0;
    for (int64_t i = first; i < first + count; i++)
        positions += eq_logits_positions(counts_of(w, i, T), T);
    *loss = 0;
    eq_teacher_files *teacher = &t->teacher[w == &t->job->val];
    for (int64_t i = first; positions && i < first + count; i++) {
        eq_whole_window window = {
            .ids = w->ids + i * T, .counts = counts_of(w, i, T), .share = 1.0f / (float)positions};
        double part = 0;
        eq_status st = EQ_OK;
        if (t->whole.shape.top)
            st = eq_teacher_files_window(ctx, teacher, &t->whole, i, &window.top);
        if (st == EQ_OK) st = eq_whole_window_pass(ctx, &t->whole, &window, backward, &part);
        if (st != EQ_OK) return st;
        *loss += part;
    }
    return EQ_OK;
}

static eq_status step(eq_ctx *ctx, void *self, int64_t first, int64_t count,
                      const eq_fit_state *state, double *loss)
{
    tuning *t = self;
    const eq_tune_options *o = t->job->options;
    const eq_parameters *p = &t->whole.parameters;
    eq_parameters_zero_gradients(ctx, p);
    eq_status st = windows_pass(ctx, t, &t->job->train, first, count, true, loss);
    if (st != EQ_OK) return st;
    double norm = eq_parameters_gradient_norm(ctx, p);
    if (!isfinite(norm)) *loss = (double)NAN;
    if (!isfinite(*loss)) return EQ_OK;
    if (o->clip > 0 && norm > o->clip)
        eq_parameters_scale_gradients(ctx, p, (float)(o->clip / norm));
    const double rates[3] = {o->weight_lr, o->scale_lr, o->norm_lr};
    eq_adamw steps[3];
    for (int i = 0; i < 3; i++)
        steps[i] = eq_adamw_step(&t->optimizer, rates[i] * state->rate, state->step);
    eq_parameters_step(ctx, p, steps);
    return EQ_OK;
}

static eq_status validate(eq_ctx *ctx, void *self, double *loss)
{
    tuning *t = self;
    const eq_tune_windows *w = &t->job->val;
    eq_status st = windows_pass(ctx, t, w, 0, w->n, false, loss);
    if (*loss < 0) *loss = 0; /* rounding can leave a KL there */
    if (!w->n) *loss = -1;
    return st;
}

static eq_status log_start(eq_ctx *ctx, tuning *t, double val, double seconds)
{
    json_t *line = json_pack("{s:s, s:f}", "event", "tune-start", "seconds", seconds);
    if (val >= 0) {
        json_object_set_new(line, "val_loss", json_real(val));
        eq_log(ctx, EQ_LOG_INFO, "end to end: validation loss %.6g before the first step, %.1f s",
               val, seconds);
    }
    return eq_run_log(ctx, t->job->run, line);
}

/* The values alone: nothing goes on from them. */
static eq_status write_best(eq_ctx *ctx, const tuning *t)
{
    return eq_state_write(ctx, t->best, &t->whole.parameters, NULL);
}

static eq_status epoch_done(eq_ctx *ctx, void *self, const eq_epoch *epoch)
{
    const tuning *t = self;
    json_t *line = json_pack("{s:s}", "event", "tune");
    eq_status st = eq_run_log_epoch(ctx, t->job->run, line, "end to end", epoch);
    return st == EQ_OK && epoch->best ? write_best(ctx, t) : st;
}

/* Keep a state to go back to: at fixed places, eight in a pass, so that what comes after a rollback
 * does not depend on when states were saved. It is good when the step behind it had a loss. */
static eq_status keep_good(eq_ctx *ctx, const tuning *t, const eq_fit_state *fit)
{
    const eq_fit_options o = fit_options(t->job);
    const int64_t pass = eq_fit_steps(&o) / o.epochs, every = (pass + 7) / 8;
    if (fit->step == 0) return EQ_OK;
    const bool behind = (fit->step - 1) % pass % every == 0;
    if (behind && eq_file_exists(t->next) && rename(t->next, t->good))
        return eq_fail(ctx, EQ_EIO, "%s: cannot rename to it: %s", t->good, strerror(errno));
    if (fit->step % pass % every) return EQ_OK;
    return eq_state_write(ctx, t->next, &t->whole.parameters, fit);
}

static eq_status save(eq_ctx *ctx, void *self, const eq_fit_state *fit, bool now)
{
    tuning *t = self;
    const eq_parameters *p = &t->whole.parameters;
    eq_status st = keep_good(ctx, t, fit);
    if (!now && eq_seconds() - t->saved_at < 60 * t->job->options->save_minutes) return st;
    if (st == EQ_OK) st = eq_state_write(ctx, t->last, p, fit);
    t->saved_at = eq_seconds();
    return st;
}

/* The unrounded weights of block i, if the run has them and they are wanted. */
static eq_status load_masters(eq_ctx *ctx, tuning *t, int64_t i)
{
    if (!t->whole.fakes || !t->job->masters) return EQ_OK;
    char *path = eq_run_masters_path(ctx, t->job->run, i);
    eq_status st = path ? eq_masters_read(ctx, path, &t->whole.fakes[i * EQ_UNITS]) : EQ_ENOMEM;
    eq_free(path);
    return st;
}

static eq_status load_blocks(eq_ctx *ctx, tuning *t)
{
    const eq_tune_job *job = t->job;
    eq_status st = EQ_OK;
    for (int64_t i = 0; st == EQ_OK && i < job->base->config.L; i++) {
        const eq_block *block = NULL;
        st = job->block(ctx, job->self, i, &block);
        if (st == EQ_OK) st = eq_whole_load(ctx, &t->whole, i, block);
        if (st == EQ_OK) st = load_masters(ctx, t, i);
    }
    job->block(ctx, job->self, -1, NULL);
    return st;
}

/* A file that was damaged must not lead anywhere. */
static eq_status read_state(eq_ctx *ctx, const tuning *t, const char *path, eq_fit_state *s)
{
    const eq_fit_options fit = fit_options(t->job);
    eq_status st = eq_state_read(ctx, path, &t->whole.parameters, s);
    if (st != EQ_OK) return st;
    bool good = s->step >= 0 && s->step <= eq_fit_steps(&fit) && s->worse >= 0 &&
                isfinite(s->sum) && !isnan(s->best) && (s->rate == 1 || s->rate == 0.5);
    if (good) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: is not the state of such a training; remove the file",
                   path);
}

static eq_status rollback(eq_ctx *ctx, void *self, eq_fit_state *fit)
{
    const tuning *t = self;
    unlink(t->next); /* what led to the loss */
    return read_state(ctx, t, t->good, fit);
}

/* What the teacher says about the windows, made as far as it is not there yet. */
static eq_status make_teacher(eq_ctx *ctx, tuning *t)
{
    static const char *const STEMS[2] = {"tune-teacher", "tune-teacher-val"};
    const eq_tune_windows *sets[2] = {&t->job->train, &t->job->val};
    eq_status st = EQ_OK;
    for (int i = 0; st == EQ_OK && t->whole.shape.top && i < 2; i++) {
        char *stem = eq_path_join(ctx, t->job->run->folder, STEMS[i]);
        st = eq_teacher_files_make(ctx, &t->teacher[i], stem, &t->whole, sets[i]->ids, sets[i]->n);
    }
    return st;
}

/* Where an earlier call stopped, or the start, whose state is saved too. */
static eq_status begin(eq_ctx *ctx, tuning *t, eq_fit_state *fit)
{
    eq_status st = load_blocks(ctx, t);
    if (st == EQ_OK) st = make_teacher(ctx, t);
    if (st != EQ_OK) return st;
    if (eq_file_exists(t->last)) {
        st = read_state(ctx, t, t->last, fit);
        if (st == EQ_OK && fit->step > 0)
            eq_log(ctx, EQ_LOG_INFO, "end to end: goes on after step %lld", (long long)fit->step);
        return st;
    }
    double loss = 0, start = eq_seconds();
    st = validate(ctx, t, &loss);
    if (st == EQ_OK && !isfinite(loss))
        st = eq_fail(ctx, EQ_ENUMERIC, "end to end: the loss before the first step is not finite");
    if (st == EQ_OK) st = log_start(ctx, t, loss, eq_seconds() - start);
    *fit = eq_fit_start();
    if (loss >= 0) fit->best = loss;
    if (st == EQ_OK) st = write_best(ctx, t);
    if (st == EQ_OK) st = eq_state_write(ctx, t->good, &t->whole.parameters, fit);
    return st == EQ_OK ? save(ctx, t, fit, true) : st;
}

static eq_status train(eq_ctx *ctx, tuning *t)
{
    const eq_tune_options *o = t->job->options;
    const eq_fit_options fit = fit_options(t->job);
    int64_t steps = eq_fit_steps(&fit);
    const eq_objective objective = {.self = t,
                                    .step = step,
                                    .validate = validate,
                                    .epoch_done = epoch_done,
                                    .save = save,
                                    .rollback = rollback};
    t->optimizer = (eq_optimizer){.beta1 = o->beta1,
                                  .beta2 = o->beta2,
                                  .epsilon = o->epsilon,
                                  .weight_decay = o->weight_decay,
                                  .min_lr_factor = o->min_lr_factor,
                                  .steps = steps,
                                  .warmup = (int64_t)ceil(o->warmup * (double)steps)};
    eq_fit_state state;
    eq_status st = begin(ctx, t, &state);
    return st == EQ_OK ? eq_fit(ctx, &fit, &objective, state) : st;
}

/* The best validation state as block files. A call that is killed here finds the same state again:
 * zero points do not change, nor codes unless all weights are trained; everything else is in the
 * state file. */
static eq_status write_blocks(eq_ctx *ctx, tuning *t, float *norm)
{
    const eq_config *c = &t->job->base->config;
    eq_status st = eq_state_read(ctx, t->best, &t->whole.parameters, NULL);
    for (int64_t i = 0; st == EQ_OK && i < c->L; i++) {
        char *path = eq_run_block_path(ctx, t->job->run, i);
        st = path ? eq_block_file_write(ctx, &t->whole.blocks[i], &t->job->schemes[i], i, path)
                  : EQ_ENOMEM;
        eq_free(path);
    }
    if (st == EQ_OK) memcpy(norm, t->whole.final_norm, (size_t)c->C * sizeof *norm);
    return st;
}

eq_status eq_tune(eq_ctx *ctx, const eq_tune_job *job, float *norm)
{
    tuning t = {.job = job,
                .last = eq_path_join(ctx, job->run->folder, "tune-last.safetensors"),
                .best = eq_path_join(ctx, job->run->folder, "tune-best.safetensors"),
                .good = eq_path_join(ctx, job->run->folder, "tune-good.safetensors"),
                .next = eq_path_join(ctx, job->run->folder, "tune-next.safetensors"),
                .saved_at = eq_seconds()};
    const eq_whole_shape shape = whole_shape(ctx, job);
    const bool named = t.last && t.best && t.good && t.next;
    eq_status st = named ? eq_whole_init(ctx, &t.whole, &shape) : EQ_ENOMEM;
    if (st == EQ_OK) st = train(ctx, &t);
    if (st == EQ_OK) st = write_blocks(ctx, &t, norm);
    eq_whole_deinit(&t.whole);
    eq_teacher_files_close(&t.teacher[0]);
    eq_teacher_files_close(&t.teacher[1]);
    eq_free(t.last);
    eq_free(t.best);
    eq_free(t.good);
    eq_free(t.next);
    return st;
}
