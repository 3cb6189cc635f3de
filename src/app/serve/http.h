/* The HTTP side of the server, on GNU libmicrohttpd: one thread that speaks with all clients. */
#ifndef EQ_APP_SERVE_HTTP_H
#define EQ_APP_SERVE_HTTP_H

#include "app/serve/calls.h"

typedef struct eq_http_options {
    const char *host, *port; /* to bind to; a port of "0": any */
    const char *token;       /* that clients must show; NULL: none */
    const char *format;      /* of chats, as in eq_chat_ids */
    int64_t max_body;        /* bytes of a request */
    double timeout;          /* seconds until a call has its answer */
    double read_timeout;     /* seconds to send a request, or to begin the next one */
    int64_t connections;     /* at once */
    bool quiet;              /* no line for each request */
    eq_api_limits limits;
} eq_http_options;

typedef struct eq_http eq_http;

/* Listen, and answer from now on. Reports what is wrong. The options, the calls and the model are
 * borrowed until eq_http_close. */
eq_status eq_http_open(eq_session *session, eq_http **http, const eq_http_options *options,
                       eq_calls *calls);
/* http://ADDRESS:PORT */
const char *eq_http_url(const eq_http *http);
int eq_http_port(const eq_http *http);
/* Hang up on clients that take too long. To be called every now and then, from any thread. */
void eq_http_check(eq_http *http);
/* Accept no more connections, and wait up to `seconds` until all answers are sent. No call may be
 * without an end. NULL is fine. */
void eq_http_close(eq_http *http, double seconds);

#endif
