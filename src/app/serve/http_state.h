/* Inside of the HTTP side, for http.c and http_exchange.c. */
#ifndef EQ_APP_SERVE_HTTP_STATE_H
#define EQ_APP_SERVE_HTTP_STATE_H

#include "app/serve/http.h"

#include <microhttpd.h>

/* A connection. */
typedef struct eq_http_client {
    struct eq_http_client *previous, *next;
    int socket;
    double deadline; /* by eq_clock; behind it the server hangs up */
} eq_http_client;

struct eq_http {
    const eq_http_options *options;
    eq_calls *calls;
    const eq_model *model;
    eq_ctx *ctx; /* owned; of the HTTP thread, for tokenizing */
    struct MHD_Daemon *daemon;
    int listener;
    int port;
    char url[128];
    int64_t created; /* seconds since 1970 */
    uint64_t requests;
    pthread_mutex_t lock;
    eq_http_client *clients; /* a list; with the lock, as are deadlines and `open` */
    int64_t open;            /* exchanges that have not ended */
};

/* Let the client have so many seconds from now. */
void eq_http_extend(eq_http *http, eq_http_client *client, double seconds);
/* One more exchange or, with -1, one less. */
void eq_http_count(eq_http *http, int change);

/* Callbacks of libmicrohttpd for a request; user is the eq_http (http_exchange.c). */
enum MHD_Result eq_exchange_handle(void *user, struct MHD_Connection *connection, const char *url,
                                   const char *method, const char *version, const char *data,
                                   size_t *size, void **state);
void eq_exchange_completed(void *user, struct MHD_Connection *connection, void **state,
                           enum MHD_RequestTerminationCode why);

#endif
