/* One request to an engine, its text shown as it comes. */
#ifndef EQ_APP_ANSWER_H
#define EQ_APP_ANSWER_H

#include "app/output.h"

#include <stdio.h>

/* Zeroed storage is an empty one. */
typedef struct eq_answer {
    char *text; /* owned; [size], a NUL behind it */
    size_t size, room;
    int32_t *ids; /* owned; [event.new_tokens] */
    int64_t ids_room;
    eq_event event; /* the last one; its pointers are not valid */
} eq_answer;

/* Run a request to its end.
 *
 * stream  in   where the text goes as it comes, NULL: nowhere
 * answer  out  all of it; what there is after a failure too
 * EQ_EINTERRUPTED when the user asked to stop: the request is pending still. EQ_ENUMERIC when the
 * model failed. */
eq_status eq_answer_run(eq_session *session, eq_engine *engine, const eq_request *request,
                        FILE *stream, eq_answer *answer);
/* Cancel what an interruption left pending and take the rest of its text. */
eq_status eq_answer_cancel(eq_session *session, eq_engine *engine, FILE *stream, eq_answer *answer);
void eq_answer_deinit(eq_answer *answer);

/* "stop", "length" or "cancelled". */
const char *eq_answer_reason(const eq_answer *answer);
/* Tokens per second of the prompt that was read, and of the answer behind its first token; negative
 * when unknown. */
double eq_answer_prompt_speed(const eq_answer *answer);
double eq_answer_speed(const eq_answer *answer);
/* A speed as JSON, null when unknown. Owned by the caller. */
json_t *eq_answer_number(double speed);
/* One line on stderr with counts and speeds. */
void eq_answer_report(const eq_answer *answer);

#endif
