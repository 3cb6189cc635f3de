/* A request to the engine, from its submission to its end. */
#ifndef EQ_INFER_REQUEST_H
#define EQ_INFER_REQUEST_H

#include "base/rng.h"
#include "infer/sample.h"
#include "infer/text_stream.h"

enum { EQ_MOST_LOGPROBS = 20 };

typedef struct eq_job {
    int64_t id;
    eq_request request; /* its arrays are owned, in `copies` */
    eq_text *stops;     /* [request.stop_count], in `copies` */
    uint8_t *seen;      /* [V], in `copies`: tokens of the text; NULL without a penalty */
    void *copies;       /* owned */
    eq_text_stream text;
    eq_rng rng;
    eq_logprob top[EQ_MOST_LOGPROBS];
    bool cancelled;
    double first_step, first_token; /* times, 0: not yet */
    eq_event event;                 /* the last one */
    struct eq_job *next;            /* in a queue of the engine */
} eq_job;

/* Bounds of what is asked for. */
typedef struct eq_job_limits {
    int64_t V;
    int64_t context, positions; /* most tokens of the engine, and of the model */
    bool text;                  /* there is a tokenizer */
} eq_job_limits;

/* Check and copy a request. EQ_EINVAL names what is out of range. */
eq_status eq_job_new(eq_ctx *ctx, eq_job **job, const eq_request *request,
                     const eq_job_limits *limits);
void eq_job_free(eq_job *job);
/* Choose the next token from logits [V], which are overwritten, and put it with its probability in
 * the event; -1 when they are not finite. raw, ranks: scratch, [V]. */
void eq_job_draw(eq_job *job, const eq_kernels *kernels, float *logits, int64_t V, float *raw,
                 eq_candidate *ranks);
/* Whether the token in the event is one of the request's end tokens. */
bool eq_job_ends(const eq_job *job);

#endif
