/* The training loop: steps in stored order, schedule, finite checks, validation, early stop,
 * progress. */
#ifndef EQ_TRAIN_FIT_H
#define EQ_TRAIN_FIT_H

#include "base/context.h"
#include "train/schedule.h"

/* What is trained. The functions get `self`. */
typedef struct eq_objective {
    void *self;
    /* One step on samples first .. first+count-1: forward, backward, update with the rates of step
     * t. Gives the loss. */
    eq_status (*step)(eq_ctx *ctx, void *self, int64_t first, int64_t count, int64_t t,
                      double *loss);
    /* Loss on the validation samples; a negative number when there are none. */
    eq_status (*validate)(eq_ctx *ctx, void *self, double *loss);
    /* Called after each epoch, to log it. May be NULL. */
    eq_status (*epoch_done)(eq_ctx *ctx, void *self, int epoch, double train, double val,
                            double seconds);
} eq_objective;

typedef struct eq_fit_options {
    const char *name; /* of the thing trained, for messages and progress: "block 3/30" */
    int64_t samples, batch;
    int epochs;
    int early_stop; /* stop after so many epochs without a better validation loss; 0: never */
    int64_t tokens; /* of one sample, for the speed shown */
    double
        /* an estimate of what follows this fit, for the time left; negative unknown */
        seconds_after;
} eq_fit_options;

/* Number of steps of all epochs: a last incomplete batch counts. */
int64_t eq_fit_steps(const eq_fit_options *options);
/* Train. A loss that is not finite ends it with EQ_ENUMERIC, naming the step. */
eq_status eq_fit(eq_ctx *ctx, const eq_fit_options *options, const eq_objective *objective);

#endif
