/* The training loop: steps in stored order, finite checks, validation, early stop, saving,
 * progress. */
#ifndef EQ_TRAIN_FIT_H
#define EQ_TRAIN_FIT_H

#include "base/context.h"
#include "train/schedule.h"

/* Where a training stands between two steps. */
typedef struct eq_fit_state {
    int64_t step; /* steps done */
    double sum;   /* of the losses of this epoch so far */
    double best;  /* validation loss; INFINITY at first */
    int worse;    /* epochs that did not improve on the best before them */
    double rate;  /* factor on the learning rates: 1, or 1/2 after a loss that was not finite */
} eq_fit_state;

/* A finished epoch. */
typedef struct eq_epoch {
    int number;        /* 1 is the first */
    double train, val; /* mean losses; val negative without windows for it */
    bool best;         /* no epoch before it had as small a val; always without val */
    double seconds;    /* since the training began, in this call */
} eq_epoch;

/* What is trained. The functions get `self`. */
typedef struct eq_objective {
    void *self;
    /* One step on samples first .. first+count-1: forward, backward, update with the rates of
     * state->step times state->rate. Gives the loss; one that is not finite must not have been
     * applied. */
    eq_status (*step)(eq_ctx *ctx, void *self, int64_t first, int64_t count,
                      const eq_fit_state *state, double *loss);
    /* Loss on the validation samples; a negative number when there are none. */
    eq_status (*validate)(eq_ctx *ctx, void *self, double *loss);
    /* Called after each epoch, to log it. May be NULL. */
    eq_status (*epoch_done)(eq_ctx *ctx, void *self, const eq_epoch *epoch);
    /* Called after each step, with `now` when the training is about to end or to be interrupted:
     * may save the state. May be NULL. */
    eq_status (*save)(eq_ctx *ctx, void *self, const eq_fit_state *state, bool now);
    /* After a loss that is not finite: go back to a state that was good. NULL: there
     * is none, it is an error. */
    eq_status (*rollback)(eq_ctx *ctx, void *self, eq_fit_state *state);
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
/* A training that has not begun. */
eq_fit_state eq_fit_start(void);
/* Train from `state` to the end. After a loss that is not finite, in a step or in validation, it
 * goes on from a good state at half the rates; a second one ends it with EQ_ENUMERIC, naming the
 * step. */
eq_status eq_fit(eq_ctx *ctx, const eq_fit_options *options, const eq_objective *objective,
                 eq_fit_state state);

#endif
