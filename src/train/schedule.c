#include "train/schedule.h"

#include <math.h>

static double fall(const eq_optimizer *o, int64_t t)
{
    return 1.0 + cos(3.14159265358979323846 * (double)t / (double)(o->steps - o->warmup));
}

static double rate_at(const eq_optimizer *o, double lr, int64_t t)
{
    if (t < o->warmup) return lr * (double)(t + 1) / (double)o->warmup;
    t -= o->warmup;
    double low = o->min_lr_factor > 0 ? lr / o->min_lr_factor : 0;
    double above = (lr - low) * fall(o, t) / 2.0;
    if (o->schedule == EQ_SCHEDULE_AHEAD && t > 0) above *= fall(o, t) / fall(o, t - 1);
    return low + above;
}

eq_adamw eq_adamw_step(const eq_optimizer *o, double lr, int64_t t)
{
    double rate = rate_at(o, lr, t), n = (double)(t + 1);
    return (eq_adamw){.beta1 = (float)o->beta1,
                      .beta2 = (float)o->beta2,
                      .eps = (float)o->epsilon,
                      .decay = (float)(rate * o->weight_decay),
                      .step = (float)(rate / (1.0 - pow(o->beta1, n))),
                      .root = (float)(1.0 / sqrt(1.0 - pow(o->beta2, n)))};
}
