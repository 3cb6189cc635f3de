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
/* Free everything, print the library's message if status is a failure nobody has reported, and
 * give the exit code that belongs to status. */
int eq_session_close(eq_session *session, eq_status status);

#endif
