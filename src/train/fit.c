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

static void report(eq_ctx *ctx, const eq_fit_options *o, int epoch, int64_t t, double loss,
                   double seconds)
{
    char task[128];
    snprintf(task, sizeof task, "%s, epoch %d/%d", o->name, epoch + 1, o->epochs);
    int64_t total = eq_fit_steps(o), done = t + 1;
    double rate = (double)(done * o->batch * o->tokens) / seconds;
    double left = seconds / (double)done * (double)(total - done);
    const eq_progress p = {.task = task,
                           .unit = "steps",
                           .done = done,
                           .total = total,
                           .loss = loss,
                           .per_second = rate,
                           .seconds_left = o->seconds_after < 0 ? -1 : left + o->seconds_after};
    eq_report(ctx, &p);
}

/* All steps of one epoch; the mean loss. */
static eq_status run_epoch(eq_ctx *ctx, const eq_fit_options *o, const eq_objective *objective,
                           int epoch, double start, double *mean)
{
    int64_t steps = steps_of_epoch(o);
    double sum = 0;
    for (int64_t i = 0; i < steps; i++) {
        int64_t first = i * o->batch, t = epoch * steps + i;
        int64_t count = o->samples - first < o->batch ? o->samples - first : o->batch;
        double loss = 0;
        eq_status st = objective->step(ctx, objective->self, first, count, t, &loss);
        if (st != EQ_OK) return st;
        if (!isfinite(loss))
            return eq_fail(ctx, EQ_ENUMERIC, "%s, step %lld: the loss is not finite", o->name,
                           (long long)t + 1);
        sum += loss;
        report(ctx, o, epoch, t, loss, eq_seconds() - start);
        st = eq_check_interrupt(ctx);
        if (st != EQ_OK) return st;
    }
    *mean = sum / (double)steps;
    return EQ_OK;
}

eq_status eq_fit(eq_ctx *ctx, const eq_fit_options *o, const eq_objective *objective)
{
    double start = eq_seconds(), best = INFINITY;
    int worse = 0;
    for (int epoch = 0; epoch < o->epochs; epoch++) {
        double train = 0, val = 0;
        eq_status st = run_epoch(ctx, o, objective, epoch, start, &train);
        if (st == EQ_OK) st = objective->validate(ctx, objective->self, &val);
        if (st == EQ_OK && objective->epoch_done)
            st = objective->epoch_done(ctx, objective->self, epoch, train, val,
                                       eq_seconds() - start);
        if (st != EQ_OK) return st;
        if (val >= best)
            worse++;
        else if (val >= 0) /* negative: there are no windows for validation */
            best = val;
        if (o->early_stop && worse >= o->early_stop) break;
    }
    return EQ_OK;
}
