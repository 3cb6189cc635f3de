/* What every command does around its work: make the context, open the model, report a failure. */
#ifndef EQ_APP_SESSION_H
#define EQ_APP_SESSION_H

#include "app/app.h"
#include "app/console.h"

typedef struct eq_session {
    eq_console console;
    eq_ctx *ctx;     /* owned */
    eq_model *model; /* owned; NULL when the command opens none */
    bool reported;   /* the failure has been printed already */
} eq_session;

/* Make the context from the common options; with `with_model` open common->model too. */
eq_status eq_session_open(eq_session *session, const eq_common *common, bool with_model);
/* Print `eqat: ` and a message about a failure of the command itself; returns status. */
eq_status eq_session_fail(eq_session *session, eq_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Whether the model has a chat format, or the one with that name; else as eq_chat_ids. */
eq_status eq_session_check_chat(eq_session *session, const char *format);
/* Tokens of context for texts that have no end yet: `asked`, or for 0 what the model was made for,
 * at most 4096. */
int64_t eq_session_context(const eq_session *session, int64_t asked);
/* Free everything, print the library's message if status is a failure nobody has reported, and
 * give the exit code that belongs to status. */
int eq_session_close(eq_session *session, eq_status status);

#endif
