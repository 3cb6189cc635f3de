/* A server of OpenAI's interface: HTTP in a thread of its own, the engine in the caller's. */
#ifndef EQ_APP_SERVE_SERVER_H
#define EQ_APP_SERVE_SERVER_H

#include "app/serve/http.h"

typedef struct eq_server_options {
    eq_http_options http; /* limits are filled in but for the name of the model */
    eq_engine_options engine;
    int64_t max_waiting; /* texts that may wait for a slot */
    bool json;           /* say where it listens as an object */
} eq_server_options;

/* Serve the session's model until the user asks to stop, which is EQ_OK, or something breaks.
 * Prints a line on stdout when it is ready. The limits in the options are filled in. */
eq_status eq_server_run(eq_session *session, eq_server_options *options);

#endif
