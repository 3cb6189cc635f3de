/* Results for people and for machines. */
#ifndef EQ_APP_OUTPUT_H
#define EQ_APP_OUTPUT_H

#include "app/session.h"

#include <jansson.h>

/* A JSON number; null when value is not finite, which JSON cannot say. Owned by the caller. */
json_t *eq_json_real(double value);
/* Print one object on one line of stdout and drop the reference to it. NULL, as jansson gives for
 * text that is not UTF-8 or without memory, is reported as EQ_ENOMEM. */
eq_status eq_json_print(eq_session *session, json_t *object);

/* The end of a command that writes the model folder `out`: print the result or the failure, close
 * the session, give the exit code. */
int eq_finish_run(eq_session *session, const char *out, const eq_quantize_result *result,
                  eq_status status, bool json);

/* Bytes as "88.1 MiB" into out. */
void eq_format_bytes(char *out, size_t size, int64_t bytes);

/* Text in whole characters: bytes that complete no character wait, bytes that never can become
 * U+FFFD. Starts as {0}. */
typedef struct eq_utf8 {
    char held[4];
    size_t count;
} eq_utf8;

typedef void (*eq_text_sink)(void *user, const char *text, size_t size);

void eq_utf8_push(eq_utf8 *utf8, const char *bytes, size_t n, eq_text_sink sink, void *user);
/* At the end: what still waits will never be complete. */
void eq_utf8_end(eq_utf8 *utf8, eq_text_sink sink, void *user);

#endif
