/* The folder OUT/run of a quantization: what was asked for, what has been done, and a log.
 *
 *   plan.json         options, fingerprints of model and data, state "running" or "finished"
 *   log.jsonl         one object a line, appended
 *   calib.npy         windows sampled from the model, when it made its own data; calib.tmp-*.npy
 *                     until all are there
 *   block-00012.safetensors   a finished block, until the whole model is written
 *   masters-00012.safetensors its unrounded weights, scales and zero points, when all weights are
 *                     trained end to end
 *   sensitivity.safetensors   see sensitivity.h, until the model is written
 *   ends-*            see ends.h
 *   tune-*            see tune.h
 *   stream-*          activations between blocks, when they live in files
 *   lock              held while a process works here */
#ifndef EQ_TRAIN_RUN_H
#define EQ_TRAIN_RUN_H

#include "train/fit.h"
#include <jansson.h>

typedef struct eq_run {
    char *out;       /* owned: OUT */
    char *folder;    /* owned: OUT/run */
    char *plan_path; /* owned: OUT/run/plan.json */
    json_t *plan;    /* owned */
    int lock;        /* owned descriptor, -1 */
    FILE *log;       /* owned */
    bool resumed, finished;
} eq_run;

/* Whether a file has the name of one that is being written: NAME.tmp-<pid> of eq_output_open, and
 * what streams and sampled windows are written to. */
bool eq_run_temporary(const char *name);
/* Take the folder `out`, made when it is not there, for this process. A folder in use by another
 * process (EQ_EIO), or one that holds something else (EQ_EMISMATCH), is refused. */
eq_status eq_run_enter(eq_ctx *ctx, eq_run *run, const char *out);
/* Before windows are made, which takes minutes: EQ_EMISMATCH when the folder that was entered holds
 * a run that was started otherwise, as far as `plan` (stolen; NULL is out of memory) goes: members
 * that it lacks are not compared. */
eq_status eq_run_check(eq_ctx *ctx, const eq_run *run, json_t *plan);
/* Begin or continue the run in the folder that was entered. `plan` (stolen; NULL is out of memory)
 * is an object of objects; all its members but "info" must be the same as those of an earlier call
 * (EQ_EMISMATCH names the first that is not). */
eq_status eq_run_open(eq_ctx *ctx, eq_run *run, json_t *plan);
/* Append one line; `line` is stolen. */
eq_status eq_run_log(eq_ctx *ctx, eq_run *run, json_t *line);
/* Log an epoch of `what`, as text, and as `line` (stolen) with the losses added; without a
 * validation loss when there is none. */
eq_status eq_run_log_epoch(eq_ctx *ctx, eq_run *run, json_t *line, const char *what,
                           const eq_epoch *epoch);
/* Mark the run as finished. */
eq_status eq_run_finish(eq_ctx *ctx, eq_run *run);
void eq_run_close(eq_run *run);

/* Paths inside the run folder, in fresh memory; NULL after eq_fail. */
char *eq_run_block_path(eq_ctx *ctx, const eq_run *run, int64_t block);
char *eq_run_masters_path(eq_ctx *ctx, const eq_run *run, int64_t block);
char *eq_run_stream_path(eq_ctx *ctx, const eq_run *run, const char *name, int64_t block);

#endif
