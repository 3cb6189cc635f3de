/* Calls: requests for text on their way between the thread that speaks HTTP and the one that owns
 * the engine.
 *
 * The HTTP thread makes a call, puts it into the queue and suspends the connection. The engine's
 * thread takes it, writes bytes into its output and wakes the connection. Each of the two holds the
 * call until it releases it. What is shared is marked so below and needs the lock; all else of a
 * call belongs to the HTTP thread until it is queued, and then to the engine's. */
#ifndef EQ_APP_SERVE_CALLS_H
#define EQ_APP_SERVE_CALLS_H

#include "app/serve/openai.h"

#include <pthread.h>

/* Bytes that grow. Zeroed storage is empty. */
typedef struct eq_bytes {
    char *data; /* owned; [size] */
    size_t size, room;
} eq_bytes;

/* Append n bytes; false without memory. */
bool eq_bytes_add(eq_bytes *bytes, const char *data, size_t n);
void eq_bytes_deinit(eq_bytes *bytes);

typedef struct eq_call eq_call;

/* One choice for one prompt. */
typedef struct eq_call_text {
    eq_call *call;
    int64_t index;
    int64_t request;    /* of the engine; 0: it has not got it */
    eq_bytes text;      /* of the answer, unless it is streamed */
    int64_t characters; /* of the tokens so far */
    json_t *logprobs;   /* owned; of what was not sent yet, NULL: none */
    bool opened;        /* the first part was sent */
    eq_event last;      /* its counts and finish; its pointers are not valid */
} eq_call_text;

struct eq_call {
    eq_api_request request;
    eq_api_head head;
    int socket;          /* the client's; open as long as `gone` is false */
    double started;      /* when the request had come, by eq_clock */
    eq_call_text *texts; /* owned; [text_count], those of a prompt in a row */
    int64_t text_count, ended;
    bool cancelled; /* nobody wants the rest */
    eq_call *next;  /* in the queue, then among the engine's */
    /* Shared: */
    int references;
    bool gone;          /* the client is */
    void *waiting;      /* the suspended connection, NULL: it is not suspended */
    int status;         /* of HTTP; 0: not known yet */
    eq_bytes output;    /* the body, or what there is of the stream */
    bool done;          /* nothing follows */
    int outcome;        /* status, or that of the error which ended the stream; for the log */
    eq_api_usage usage; /* so far */
};

typedef struct eq_calls {
    pthread_mutex_t lock;
    pthread_cond_t come;
    eq_call *first, *last;     /* the queue */
    int64_t texts, most_texts; /* that have not ended, of all calls */
    bool closing;
    /* Stop serving a connection, and go on with it; called with the lock held. Set by the HTTP
     * side. */
    void (*suspend)(void *connection);
    void (*wake)(void *connection);
} eq_calls;

/* EQ_EINTERNAL when the system has no more locks. */
eq_status eq_calls_init(eq_calls *calls, int64_t most_texts);
void eq_calls_deinit(eq_calls *calls);

/* ---- the HTTP thread ----------------------------------------------------------------------- */

/* A call for a request, which it takes in any case; NULL without memory. One reference. */
eq_call *eq_call_new(eq_api_request *request);
/* Queue a call for the engine: false, with the error filled in, when too many wait already or the
 * server ends. */
bool eq_calls_put(eq_calls *calls, eq_call *call, eq_api_error *error);
/* The status of the response. 0: not known yet, and the connection is suspended until it is. */
int eq_call_status(eq_calls *calls, eq_call *call, void *connection);
/* Up to n bytes of the output from `at` on; gives their number. 0: there are none yet, and the
 * connection is suspended until there are; -1: the output ends there. done out: nothing is added to
 * it any more. */
int64_t eq_call_read(eq_calls *calls, eq_call *call, void *connection, size_t at, char *out,
                     size_t n, bool *done);
/* For the log: how it went, 0: it has not ended. */
int eq_call_outcome(eq_calls *calls, const eq_call *call, eq_api_usage *usage);
/* The client has gone or has all; drops the reference. */
void eq_call_leave(eq_calls *calls, eq_call *call);

/* ---- the engine's thread ------------------------------------------------------------------- */

/* The whole queue as a list by `next`, NULL when it is empty. With seconds above 0, waits for so
 * long at most. */
eq_call *eq_calls_take(eq_calls *calls, double seconds);
/* Let no more calls in; gives those of the queue. */
eq_call *eq_calls_close(eq_calls *calls);
bool eq_call_is_gone(eq_calls *calls, const eq_call *call);
/* The stream begins. */
void eq_call_begin(eq_calls *calls, eq_call *call);
/* Send a part of the stream, or the whole body, which is the end; takes the object, NULL counts as
 * a failure of memory. Nothing is sent when the call is done. */
void eq_call_send(eq_calls *calls, eq_call *call, json_t *part);
void eq_call_answer(eq_calls *calls, eq_call *call, json_t *body);
/* The stream is whole. */
void eq_call_finish(eq_calls *calls, eq_call *call);
/* End with an error, within the stream if that has begun. Nothing happens when the call is done. */
void eq_call_fail(eq_calls *calls, eq_call *call, const eq_api_error *error,
                  const eq_api_usage *usage);
/* One text has ended. */
void eq_calls_text_ended(eq_calls *calls, eq_call *call, const eq_api_usage *usage);
/* The engine has nothing more to do with it; drops the reference. */
void eq_call_release(eq_calls *calls, eq_call *call);

#endif
