#include "train/fit.h"

#include <math.h>
#include <stdio.h>

static int64_t steps_of_epoch(const eq_fit_options *o)
{
    return (o->samples + o->batch - 1) / o->batch;
}

int64_t eq_fit_steps(const eq_fit_options *o)
{
    return steps_of_epoch(o) * o->epochs;
}

eq_fit_state eq_fit_start(void)
{
    return (eq_fit_state){.best = INFINITY, .rate = 1};
}

/* One call of eq_fit. */
typedef struct fit {
    const eq_fit_options *options;
    const eq_objective *objective;
    eq_fit_state state;
    int64_t first; /* step that this call began with, less those it had to do again */
    double start;
} fit;

static void report(eq_ctx *ctx, const fit *f, double loss)
{
    const eq_fit_options *o = f->options;
    char task[128];
    int epoch = (int)((f->state.step - 1) / steps_of_epoch(o));
    snprintf(task, sizeof task, "%s, epoch %d/%d", o->name, epoch + 1, o->epochs);
    int64_t total = eq_fit_steps(o), here = f->state.step - f->first;
    double seconds = eq_seconds() - f->start;
    double left = seconds / (double)here * (double)(total - f->state.step);
    const eq_progress p = {.task = task,
                           .unit = "steps",
                           .done = f->state.step,
                           .total = total,
                           .loss = loss,
                           .per_second = (double)(here * o->batch * o->tokens) / seconds,
                           .seconds_left = o->seconds_after < 0 ? -1 : left + o->seconds_after};
    eq_report(ctx, &p);
}

static eq_status save(eq_ctx *ctx, const fit *f, bool now)
{
    const eq_objective *objective = f->objective;
    return objective->save ? objective->save(ctx, objective->self, &f->state, now) : EQ_OK;
}

/* The loss of this step, from 1, or of the validation behind it. */
static eq_status not_finite(eq_ctx *ctx, fit *f, int64_t step)
{
    const eq_objective *objective = f->objective;
    const char *name = f->options->name;
    const int64_t done = f->state.step - f->first;
    if (!objective->rollback || f->state.rate < 1)
        return eq_fail(ctx, EQ_ENUMERIC, "%s, step %lld: the loss is not finite%s", name,
                       (long long)step, f->state.rate < 1 ? ", at half the rates too" : "");
    eq_log(ctx, EQ_LOG_WARNING,
           "%s, step %lld: the loss is not finite; going back to a good state, at half the rates",
           name, (long long)step);
    eq_status st = objective->rollback(ctx, objective->self, &f->state);
    f->state.rate = 0.5;
    f->first = f->state.step - done;
    return st == EQ_OK ? save(ctx, f, true) : st;
}

/* The step after those done. */
static eq_status one_step(eq_ctx *ctx, fit *f)
{
    const eq_fit_options *o = f->options;
    const eq_objective *objective = f->objective;
    int64_t first = f->state.step % steps_of_epoch(o) * o->batch;
    int64_t count = o->samples - first < o->batch ? o->samples - first : o->batch;
    double loss = 0;
    if (first == 0) f->state.sum = 0;
    eq_status st = objective->step(ctx, objective->self, first, count, &f->state, &loss);
    if (st != EQ_OK) return st;
    if (!isfinite(loss)) return not_finite(ctx, f, f->state.step + 1);
    f->state.sum += loss;
    f->state.step++;
    report(ctx, f, loss);
    return EQ_OK;
}

static eq_status end_epoch(eq_ctx *ctx, fit *f)
{
    const eq_objective *objective = f->objective;
    int64_t steps = steps_of_epoch(f->options);
    double val = 0;
    eq_status st = objective->validate(ctx, objective->self, &val);
    if (st != EQ_OK) return st;
    if (!isfinite(val)) return not_finite(ctx, f, f->state.step);
    const eq_epoch epoch = {.number = (int)(f->state.step / steps),
                            .train = f->state.sum / (double)steps,
                            .val = val,
                            .best = val < f->state.best,
                            .seconds = eq_seconds() - f->start};
    if (objective->epoch_done) st = objective->epoch_done(ctx, objective->self, &epoch);
    if (!epoch.best)
        f->state.worse++;
    else if (val >= 0) /* negative: there are no windows for validation */
        f->state.best = val;
    return st;
}

static bool finished(const fit *f)
{
    const eq_fit_options *o = f->options;
    bool early = o->early_stop && f->state.worse >= o->early_stop;
    return f->state.step >= eq_fit_steps(o) || early;
}

eq_status eq_fit(eq_ctx *ctx, const eq_fit_options *o, const eq_objective *objective,
                 eq_fit_state state)
{
    fit f = {o, objective, state, state.step, eq_seconds()};
    eq_status st = EQ_OK;
    bool whole = true; /* nothing is owed to the steps done: no validation that was cut short */
    while (st == EQ_OK && !finished(&f)) {
        int64_t before = f.state.step;
        st = one_step(ctx, &f);
        if (st == EQ_OK && f.state.step > before && f.state.step % steps_of_epoch(o) == 0) {
            st = end_epoch(ctx, &f);
            whole = st == EQ_OK;
        }
        if (st == EQ_OK) st = eq_check_interrupt(ctx);
        if (st == EQ_OK) st = save(ctx, &f, finished(&f));
    }
    if (st == EQ_EINTERRUPTED && whole && save(ctx, &f, true) != EQ_OK)
        eq_log(ctx, EQ_LOG_WARNING, "%s: the state could not be saved; an older one is there",
               o->name);
    return st;
}
