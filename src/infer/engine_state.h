/* Inside of an engine, for engine.c and engine_open.c. */
#ifndef EQ_INFER_ENGINE_STATE_H
#define EQ_INFER_ENGINE_STATE_H

#include "infer/engine.h"
#include "infer/generation.h"
#include "infer/request.h"

/* Room for one text. */
typedef struct eq_slot {
    eq_job *job;         /* owned; NULL: free, but what was read before is kept */
    int32_t *ids;        /* [context]: tokens in the cache, then the prompt or the next one */
    float *raw;          /* [V] */
    eq_candidate *ranks; /* [V] */
    int64_t served;      /* the step that read its prompt or gave it a token last */
} eq_slot;

/* Jobs in order. */
typedef struct eq_jobs {
    eq_job *first, *last;
} eq_jobs;

struct eq_engine {
    eq_engine_model model;
    eq_generation generation;
    int64_t slots, context, chunk, bytes;
    eq_slot *slot;      /* [slots] */
    int64_t *sequences; /* [slots]: those of a step */
    int32_t *next;      /* [slots]: their tokens */
    int32_t *ends;      /* [model.end_count] */
    eq_arena arena;     /* owned; of these arrays */
    eq_jobs waiting;    /* owned */
    eq_jobs ended;      /* owned; their last event is to be fetched */
    eq_jobs done;       /* owned; it was */
    int64_t submitted, steps;
    int64_t polled; /* slots whose event of the last step was fetched */
};

/* Remove the first job of a queue; NULL when it is empty. */
eq_job *eq_jobs_take(eq_jobs *jobs);
void eq_jobs_free(eq_jobs *jobs);

#endif
