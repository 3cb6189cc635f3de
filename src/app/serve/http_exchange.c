/* One request and its response. */
#include "app/serve/chat_page.h"
#include "app/serve/guard.h"
#include "app/serve/http_state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { BLOCK = 16384, GONE = 499 };

typedef struct exchange exchange;

typedef struct route {
    const char *path;
    bool prefix; /* more may follow */
    bool post;
    bool open; /* without a token too */
    enum MHD_Result (*handle)(eq_http *http, struct MHD_Connection *connection, exchange *x);
} route;

struct exchange {
    eq_http_client *client;
    const route *route;
    bool head;      /* by the method HEAD: no body goes out */
    bool too_large; /* the rest of the body is thrown away */
    eq_bytes body;
    eq_api_error error; /* what the headers were found to be */
    eq_call *call;      /* the reference is ours */
    double started;
    int status;     /* of the response, 0: none */
    char line[128]; /* method and path, for the log */
    char path[128];
};

/* ---- responses ----------------------------------------------------------------------------- */

static void add_headers(struct MHD_Response *response, int status, const char *type)
{
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == 429 || status == 503) MHD_add_response_header(response, "Retry-After", "1");
    /* What took too long takes as long again; OpenAI's client heeds this. */
    if (status == 504) MHD_add_response_header(response, "x-should-retry", "false");
}

/* Queue a response, NULL for none, and let go of it. */
static enum MHD_Result queue(struct MHD_Connection *connection, exchange *x, int status,
                             struct MHD_Response *response)
{
    if (!response) return MHD_NO;
    x->status = status;
    enum MHD_Result result = MHD_queue_response(connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return result;
}

static struct MHD_Response *of_text(const char *text, size_t size)
{
    return MHD_create_response_from_buffer(size, (void *)text, MHD_RESPMEM_MUST_COPY);
}

/* Takes the object. */
static enum MHD_Result send_json(struct MHD_Connection *connection, exchange *x, int status,
                                 json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    struct MHD_Response *response = text ? of_text(text, strlen(text)) : NULL;
    json_decref(object);
    free(text);
    if (response) {
        add_headers(response, status, "application/json");
        if (status == 405)
            MHD_add_response_header(response, "Allow", x->route->post ? "POST" : "GET, HEAD");
    }
    return queue(connection, x, status, response);
}

static enum MHD_Result send_error(struct MHD_Connection *connection, exchange *x,
                                  const eq_api_error *error)
{
    return send_json(connection, x, error->status, eq_api_error_json(error));
}

/* ---- calls for text ------------------------------------------------------------------------ */

/* What a response reads its body from. */
typedef struct reading {
    eq_http *http;
    exchange *x;
    struct MHD_Connection *connection;
    bool done; /* the client has been told how much time it has for the rest */
} reading;

static ssize_t read_stream(void *user, uint64_t at, char *out, size_t n)
{
    reading *r = user;
    bool done;
    int64_t got =
        eq_call_read(r->http->calls, r->x->call, r->connection, (size_t)at, out, n, &done);
    if (done && !r->done) eq_http_extend(r->http, r->x->client, r->http->options->read_timeout);
    r->done = done;
    return got < 0 ? MHD_CONTENT_READER_END_OF_STREAM : (ssize_t)got;
}

static struct MHD_Response *of_stream(eq_http *http, struct MHD_Connection *connection, exchange *x)
{
    reading *r = malloc(sizeof *r);
    if (!r) return NULL;
    *r = (reading){.http = http, .x = x, .connection = connection};
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, r, free);
    if (!response) free(r);
    return response;
}

/* Send what there is, or wait for it. */
static enum MHD_Result send_call(eq_http *http, struct MHD_Connection *connection, exchange *x)
{
    eq_call *call = x->call;
    int status = eq_call_status(http->calls, call, connection);
    if (!status) return MHD_YES;
    if (!call->request.stream) eq_http_extend(http, x->client, http->options->read_timeout);
    bool stream = call->request.stream && status == 200;
    /* A body that is no stream is whole when its status is known, and nobody changes it. */
    struct MHD_Response *response =
        stream ? of_stream(http, connection, x) : of_text(call->output.data, call->output.size);
    if (response) add_headers(response, status, stream ? "text/event-stream" : "application/json");
    return queue(connection, x, status, response);
}

static void fill_head(eq_http *http, eq_call *call, int socket)
{
    uint64_t random[2] = {0};
    bool chat = call->request.kind == EQ_API_CHAT;
    if (getrandom(random, sizeof random, GRND_NONBLOCK) < 0) random[0] = http->requests;
    if (!call->request.seeded) call->request.options.seed = random[1];
    call->head = (eq_api_head){.created = (int64_t)time(NULL),
                               .model = http->options->limits.model,
                               .kind = call->request.kind};
    snprintf(call->head.id, sizeof call->head.id, "%s-%016llx%04llx", chat ? "chatcmpl" : "cmpl",
             (unsigned long long)random[0], (unsigned long long)(http->requests & 0xffff));
    call->socket = socket;
    call->started = eq_clock();
}

static enum MHD_Result handle_call(eq_http *http, struct MHD_Connection *connection, exchange *x,
                                   eq_api_kind kind)
{
    const eq_http_options *o = http->options;
    eq_api_request request;
    eq_api_error error;
    bool good = eq_api_parse(&request, &error, kind, x->body.data ? x->body.data : "", x->body.size,
                             &o->limits) &&
                eq_api_tokenize(http->ctx, http->model, o->format, &request, &error, &o->limits);
    eq_bytes_deinit(&x->body);
    if (!good) {
        eq_api_request_deinit(&request);
        return send_error(connection, x, &error);
    }
    x->call = eq_call_new(&request);
    if (!x->call) {
        eq_api_fail(&error, 500, NULL, NULL, "out of memory");
        return send_error(connection, x, &error);
    }
    fill_head(http, x->call, x->client->socket);
    /* The engine's side ends it in time; a client that reads a stream too slowly to notice has no
     * more than that. */
    eq_http_extend(http, x->client,
                   x->call->request.stream ? o->timeout + o->read_timeout : INFINITY);
    if (!eq_calls_put(http->calls, x->call, &error)) {
        eq_call_leave(http->calls, x->call);
        x->call = NULL;
        return send_error(connection, x, &error);
    }
    return send_call(http, connection, x);
}

/* ---- routes -------------------------------------------------------------------------------- */

static enum MHD_Result handle_completion(eq_http *http, struct MHD_Connection *connection,
                                         exchange *x)
{
    return handle_call(http, connection, x, EQ_API_COMPLETION);
}

static enum MHD_Result handle_chat(eq_http *http, struct MHD_Connection *connection, exchange *x)
{
    return handle_call(http, connection, x, EQ_API_CHAT);
}

static enum MHD_Result handle_health(eq_http *http, struct MHD_Connection *connection, exchange *x)
{
    (void)http;
    return send_json(connection, x, 200, json_pack("{s:s}", "status", "ok"));
}

static enum MHD_Result handle_models(eq_http *http, struct MHD_Connection *connection, exchange *x)
{
    return send_json(connection, x, 200,
                     eq_api_models_json(http->options->limits.model, http->created));
}

static enum MHD_Result handle_model(eq_http *http, struct MHD_Connection *connection, exchange *x)
{
    eq_api_error error;
    const char *name = x->path + strlen(x->route->path), *own = http->options->limits.model;
    if (strcmp(name, own) == 0)
        return send_json(connection, x, 200, eq_api_model_json(own, http->created));
    eq_api_fail(&error, 404, "model", "model_not_found",
                "the model '%.100s' is not here, this server has '%.100s'", name, own);
    return send_error(connection, x, &error);
}

/* The page needs nothing but itself and this server. */
static enum MHD_Result handle_page(eq_http *http, struct MHD_Connection *connection, exchange *x)
{
    (void)http;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        eq_chat_page_size, (void *)eq_chat_page, MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    add_headers(response, 200, "text/html; charset=utf-8");
    MHD_add_response_header(response, "Content-Security-Policy",
                            "default-src 'none'; script-src 'unsafe-inline'; style-src "
                            "'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
                            "form-action 'none'; frame-ancestors 'none'");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    return queue(connection, x, 200, response);
}

static const route routes[] = {
    {.path = "/", .open = true, .handle = handle_page},
    {.path = "/health", .open = true, .handle = handle_health},
    {.path = "/v1/models", .handle = handle_models},
    {.path = "/v1/models/", .prefix = true, .handle = handle_model},
    {.path = "/v1/completions", .post = true, .handle = handle_completion},
    {.path = "/v1/chat/completions", .post = true, .handle = handle_chat},
};

static const route *find_route(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const char *own = routes[i].path;
        if (routes[i].prefix ? strncmp(path, own, strlen(own)) == 0 : strcmp(path, own) == 0)
            return &routes[i];
    }
    return NULL;
}

/* ---- the request --------------------------------------------------------------------------- */

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* What the headers say is wrong, in x->error. */
static void check_headers(eq_http *http, struct MHD_Connection *connection, exchange *x,
                          const char *method)
{
    const eq_http_options *o = http->options;
    const char *length = header(connection, "Content-Length");
    eq_api_error *e = &x->error;
    bool fits = x->route && (x->route->post ? strcmp(method, "POST") == 0
                                            : x->head || strcmp(method, "GET") == 0);
    if (!o->token && !eq_guard_host(header(connection, "Host")))
        eq_api_fail(e, 403, NULL, NULL,
                    "without a token this server is reached by its address or as localhost only");
    else if (o->token && !(x->route && x->route->open) &&
             !eq_guard_token(header(connection, "Authorization"), o->token))
        eq_api_fail(e, 401, NULL, "invalid_api_key", "the token is missing or wrong");
    else if (!x->route)
        eq_api_fail(e, 404, NULL, NULL, "there is nothing at '%.100s'", x->path);
    else if (!fits)
        eq_api_fail(e, 405, NULL, NULL, "'%s' takes %s only", x->route->path,
                    x->route->post ? "POST" : "GET");
    else if (x->route->post && !eq_guard_json(header(connection, "Content-Type")))
        eq_api_fail(e, 415, NULL, NULL, "the Content-Type must be application/json");
    else if (length && strtoull(length, NULL, 10) > (unsigned long long)o->max_body)
        x->too_large = true;
}

/* Method and path as they can be printed. */
static void fill_line(exchange *x, const char *method, const char *url)
{
    snprintf(x->line, sizeof x->line, "%.10s %.100s", method, url);
    for (char *c = x->line; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?';
    snprintf(x->path, sizeof x->path, "%s", url);
}

static exchange *begin(eq_http *http, struct MHD_Connection *connection, const char *url,
                       const char *method)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    exchange *x = info && info->socket_context ? calloc(1, sizeof *x) : NULL;
    if (!x) return NULL;
    x->client = info->socket_context;
    x->started = eq_clock();
    x->head = strcmp(method, "HEAD") == 0;
    x->route = strlen(url) < sizeof x->path ? find_route(url) : NULL;
    fill_line(x, method, url);
    check_headers(http, connection, x, method);
    http->requests++;
    eq_http_extend(http, x->client, http->options->read_timeout);
    eq_http_count(http, 1);
    return x;
}

/* A piece of the body. Once it is too large, or will not be used, the rest is read all the same:
 * most clients read the response only when they have sent all. */
static void take_body(const eq_http *http, exchange *x, const char *data, size_t size)
{
    if (size > (size_t)http->options->max_body - x->body.size) x->too_large = true;
    if (x->error.status || x->too_large) {
        eq_bytes_deinit(&x->body);
        return;
    }
    if (!eq_bytes_add(&x->body, data, size))
        eq_api_fail(&x->error, 500, NULL, NULL, "out of memory");
}

enum MHD_Result eq_exchange_handle(void *user, struct MHD_Connection *connection, const char *url,
                                   const char *method, const char *version, const char *data,
                                   size_t *size, void **state)
{
    eq_http *http = user;
    exchange *x = *state;
    (void)version;
    bool first = x == NULL;
    if (first) {
        x = begin(http, connection, url, method);
        *state = x;
        if (!x) return MHD_NO;
    } else if (*size) {
        take_body(http, x, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (x->too_large && !x->error.status)
        eq_api_fail(&x->error, 413, NULL, NULL, "the body is larger than %lld bytes",
                    (long long)http->options->max_body);
    /* A client that asks first is answered first. */
    if (first && !(x->error.status && header(connection, "Expect"))) return MHD_YES;
    if (!x->call) eq_http_extend(http, x->client, http->options->read_timeout);
    if (x->error.status) return send_error(connection, x, &x->error);
    if (x->call) return send_call(http, connection, x);
    return x->route->handle(http, connection, x);
}

/* ---- the end ------------------------------------------------------------------------------- */

static void print_line(const exchange *x, int outcome, const eq_api_usage *usage)
{
    double seconds = eq_clock() - x->started;
    if (x->call)
        fprintf(stderr, "%s %d %lld+%lld tokens, %.2f s, %.1f tokens/s\n", x->line, outcome,
                (long long)usage->prompt_tokens, (long long)usage->new_tokens, seconds,
                seconds > 0 ? (double)usage->new_tokens / seconds : 0);
    else
        fprintf(stderr, "%s %d %.2f s\n", x->line, outcome, seconds);
}

void eq_exchange_completed(void *user, struct MHD_Connection *connection, void **state,
                           enum MHD_RequestTerminationCode why)
{
    eq_http *http = user;
    exchange *x = *state;
    (void)connection;
    if (!x) return;
    eq_api_usage usage = {0};
    int outcome = x->call ? eq_call_outcome(http->calls, x->call, &usage) : x->status;
    if (!outcome || why != MHD_REQUEST_TERMINATED_COMPLETED_OK) outcome = GONE;
    if (!http->options->quiet) print_line(x, outcome, &usage);
    if (x->call) eq_call_leave(http->calls, x->call);
    eq_bytes_deinit(&x->body);
    eq_http_extend(http, x->client, http->options->read_timeout);
    eq_http_count(http, -1);
    free(x);
    *state = NULL;
}
