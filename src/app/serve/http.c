#include "app/serve/http_state.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 128, NAP = 10000000 /* nanoseconds */ };

/* ---- connections --------------------------------------------------------------------------- */

static void suspend(void *connection)
{
    MHD_suspend_connection(connection);
}

static void wake(void *connection)
{
    MHD_resume_connection(connection);
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    eq_http *http = user;
    eq_http_client *client = *context;
    const union MHD_ConnectionInfo *info;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        client = info ? calloc(1, sizeof *client) : NULL;
        *context = client;
        if (!client) return; /* its requests are refused */
        client->socket = info->connect_fd;
        client->deadline = eq_clock() + http->options->read_timeout;
    }
    if (!client) return;
    pthread_mutex_lock(&http->lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        client->next = http->clients;
        if (client->next) client->next->previous = client;
        http->clients = client;
    } else {
        if (client->next) client->next->previous = client->previous;
        *(client->previous ? &client->previous->next : &http->clients) = client->next;
    }
    pthread_mutex_unlock(&http->lock);
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) free(client);
}

void eq_http_extend(eq_http *http, eq_http_client *client, double seconds)
{
    pthread_mutex_lock(&http->lock);
    client->deadline = eq_clock() + seconds;
    pthread_mutex_unlock(&http->lock);
}

void eq_http_count(eq_http *http, int change)
{
    pthread_mutex_lock(&http->lock);
    http->open += change;
    pthread_mutex_unlock(&http->lock);
}

/* A socket that is shut down looks to the HTTP thread as if the client had closed it. */
void eq_http_check(eq_http *http)
{
    double now = eq_clock();
    pthread_mutex_lock(&http->lock);
    for (eq_http_client *client = http->clients; client; client = client->next)
        if (now > client->deadline) shutdown(client->socket, SHUT_RDWR);
    pthread_mutex_unlock(&http->lock);
}

/* ---- opening and closing ------------------------------------------------------------------- */

/* A socket that listens at one of the addresses; -1 with errno set. */
static int try_listen(const struct addrinfo *address)
{
    int fd = -1, yes = 1, reason = EADDRNOTAVAIL;
    for (; address && fd < 0; address = address->ai_next) {
        fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
            reason = errno;
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
            return fd;
        reason = errno;
        close(fd);
        fd = -1;
    }
    errno = reason;
    return -1;
}

static eq_status open_listener(eq_session *session, eq_http *http)
{
    const eq_http_options *o = http->options;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char host[64], port[16];
    int failed = getaddrinfo(o->host, o->port, &hints, &addresses);
    if (failed)
        return eq_session_fail(session, EQ_EINVAL, "--host %s: %s", o->host, gai_strerror(failed));
    http->listener = try_listen(addresses);
    int reason = errno;
    freeaddrinfo(addresses);
    if (http->listener < 0)
        return eq_session_fail(session, EQ_EIO, "cannot listen on %s port %s: %s", o->host, o->port,
                               strerror(reason));
    if (getsockname(http->listener, (struct sockaddr *)&bound, &size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return eq_session_fail(session, EQ_EIO, "the address of the server is not known");
    bool six = strchr(host, ':') != NULL;
    snprintf(http->url, sizeof http->url, "http://%s%s%s:%s", six ? "[" : "", host, six ? "]" : "",
             port);
    http->port = atoi(port);
    return EQ_OK;
}

/* Signals are for the main thread, whose handlers they interrupt. */
static eq_status start(eq_session *session, eq_http *http)
{
    const eq_http_options *o = http->options;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    http->daemon = MHD_start_daemon(
        MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, 0, NULL, NULL,
        eq_exchange_handle, http, MHD_OPTION_LISTEN_SOCKET, http->listener,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_NOTIFY_COMPLETED,
        eq_exchange_completed, http, MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->connections,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(o->read_timeout + 1), MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (http->daemon) return EQ_OK;
    return eq_session_fail(session, EQ_EINTERNAL, "the HTTP library does not start");
}

eq_status eq_http_open(eq_session *session, eq_http **out, const eq_http_options *options,
                       eq_calls *calls)
{
    const eq_ctx_options one = {.threads = 1};
    eq_http *http = calloc(1, sizeof *http);
    *out = http;
    if (!http || eq_ctx_new(&http->ctx, &one) != EQ_OK || pthread_mutex_init(&http->lock, NULL)) {
        if (http) eq_ctx_free(http->ctx);
        free(http);
        *out = NULL;
        return eq_session_fail(session, EQ_ENOMEM, "out of memory");
    }
    http->options = options;
    http->calls = calls;
    http->model = session->model;
    http->listener = -1;
    http->created = (int64_t)time(NULL);
    calls->suspend = suspend;
    calls->wake = wake;
    eq_status status = open_listener(session, http);
    if (status == EQ_OK) status = start(session, http);
    if (status != EQ_OK) {
        eq_http_close(http, 0);
        *out = NULL;
    }
    return status;
}

const char *eq_http_url(const eq_http *http)
{
    return http->url;
}

int eq_http_port(const eq_http *http)
{
    return http->port;
}

static bool is_busy(eq_http *http)
{
    pthread_mutex_lock(&http->lock);
    bool busy = http->open > 0;
    pthread_mutex_unlock(&http->lock);
    return busy;
}

void eq_http_close(eq_http *http, double seconds)
{
    if (!http) return;
    const struct timespec nap = {.tv_nsec = NAP};
    double until = eq_clock() + seconds;
    if (http->daemon) {
        MHD_quiesce_daemon(http->daemon);
        while (is_busy(http) && eq_clock() < until)
            nanosleep(&nap, NULL);
        MHD_stop_daemon(http->daemon);
    }
    if (http->listener >= 0) close(http->listener);
    pthread_mutex_destroy(&http->lock);
    eq_ctx_free(http->ctx);
    free(http);
}
