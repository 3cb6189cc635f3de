/* Trained values on disk: to go on after an interruption, to go back to, or the best. */
#ifndef EQ_TRAIN_STATE_FILE_H
#define EQ_TRAIN_STATE_FILE_H

#include "train/fit.h"
#include "train/parameters.h"

/* Write values, and for a `state` to go on from the optimizer's moments too, as a safetensors file
 * that appears whole. state may be NULL: values alone. */
eq_status eq_state_write(eq_ctx *ctx, const char *path, const eq_parameters *parameters,
                         const eq_fit_state *state);
/* Read what eq_state_write wrote for the same parameters, with a state or without (NULL) as there;
 * EQ_EFORMAT for another file. */
eq_status eq_state_read(eq_ctx *ctx, const char *path, const eq_parameters *parameters,
                        eq_fit_state *state);

#endif
