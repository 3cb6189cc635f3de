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

/* What a command has written; gguf: the file in the folder, NULL when there is none. */
typedef struct eq_written {
    const char *folder, *gguf;
} eq_written;

/* The end of a command that writes a model: print the result or the failure, close
 * the session, give the exit code. */
int eq_finish_run(eq_session *session, const eq_written *written, const eq_quantize_result *result,
                  eq_status status, bool json);

/* Bytes as "88.1 MiB" into out. */
void eq_format_bytes(char *out, size_t size, int64_t bytes);

#endif
