#include "app/serve/server.h"

#include "app/output.h"
#include "app/serve/engine_loop.h"

#include <stdio.h>

enum { SPARE_CONNECTIONS = 64 };
static const double tick = 0.1;     /* seconds between two looks at clocks and clients */
static const double last_words = 5; /* seconds for clients to take the end of their answers */

static eq_status say_ready(eq_session *session, const eq_server_options *o, const eq_http *http)
{
    if (o->json)
        return eq_json_print(session, json_pack("{s:s, s:s, s:i, s:s}", "url", eq_http_url(http),
                                                "host", o->http.host, "port", eq_http_port(http),
                                                "model", o->http.limits.model));
    printf("listening on %s\n", eq_http_url(http));
    return EQ_OK;
}

/* What goes on between the first request and the wish to stop. */
static eq_status serve(eq_engine_loop *loop, eq_http *http)
{
    eq_status status = EQ_OK;
    double checked = eq_clock();
    while (status == EQ_OK && !eq_console_interrupted()) {
        status = eq_engine_loop_turn(loop, tick);
        double now = eq_clock();
        if (now - checked < tick) continue;
        checked = now;
        eq_engine_loop_check(loop);
        eq_http_check(http);
    }
    return status;
}

static void close_loop(eq_engine_loop *loop, eq_status status)
{
    eq_api_error error;
    eq_api_fail(&error, status == EQ_OK ? 503 : 500, NULL, NULL, "%s",
                status == EQ_OK ? "the server is shutting down" : "the engine has failed");
    eq_engine_loop_close(loop, &error);
}

static eq_status listen_and_serve(eq_session *session, eq_server_options *o, eq_engine *engine)
{
    eq_calls calls;
    eq_http *http = NULL;
    eq_engine_loop loop = {.ctx = session->ctx,
                           .engine = engine,
                           .model = session->model,
                           .calls = &calls,
                           .timeout = o->http.timeout};
    if (eq_calls_init(&calls, o->http.limits.texts) != EQ_OK)
        return eq_session_fail(session, EQ_EINTERNAL, "no more locks");
    eq_status status = eq_http_open(session, &http, &o->http, &calls);
    if (status == EQ_OK) status = say_ready(session, o, http);
    fflush(stdout);
    if (status == EQ_OK) status = serve(&loop, http);
    if (status == EQ_EINTERRUPTED) { /* the step noticed it first */
        eq_ctx_clear(session->ctx);
        status = EQ_OK;
    }
    close_loop(&loop, status);
    eq_http_close(http, last_words);
    eq_calls_deinit(&calls);
    return status;
}

/* Whether the model has a chat format. One that the user names must be right; without one the
 * server says so once, with the model's path, which is not for clients. */
static eq_status check_chats(eq_session *session, const eq_server_options *o, bool *there)
{
    eq_status status = eq_session_check_chat(session, o->http.format);
    *there = status == EQ_OK;
    if (status != EQ_EINVAL || o->http.format) return status;
    if (!o->http.quiet) fprintf(stderr, "chats are refused: %s\n", eq_ctx_message(session->ctx));
    eq_ctx_clear(session->ctx);
    return EQ_OK;
}

eq_status eq_server_run(eq_session *session, eq_server_options *o)
{
    const eq_model_info *info = eq_model_get_info(session->model);
    eq_api_limits *limits = &o->http.limits;
    eq_engine *engine = NULL;
    if (!info->has_tokenizer)
        return eq_session_fail(session, EQ_EINVAL, "%s has no tokenizer, which requests need",
                               limits->model);
    eq_status status = check_chats(session, o, &limits->chats);
    if (status == EQ_OK) status = eq_engine_new(session->ctx, &engine, session->model, &o->engine);
    if (status != EQ_OK) return status;
    limits->slots = o->engine.slots;
    limits->texts = o->engine.slots + o->max_waiting;
    limits->context = eq_engine_context(engine);
    limits->vocabulary = info->vocabulary;
    o->http.connections = limits->texts + SPARE_CONNECTIONS;
    status = listen_and_serve(session, o, engine);
    eq_engine_free(engine);
    return status;
}
