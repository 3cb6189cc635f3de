/* eqat serve: a server of OpenAI's interface. */
#include "app/options.h"
#include "app/session.h"

#include <stdio.h>

#ifdef EQAT_SERVE
#include "app/input.h"
#include "app/serve/server.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#endif

enum { USUAL_SLOTS = 4, MOST_SLOTS = 256 };

typedef struct serve_args {
    eq_common common;
    const char *host, *name, *token, *format;
    int port;
    int64_t max_body, max_waiting;
    double timeout, read_timeout;
    eq_engine_options engine;
} serve_args;

static const eq_option options[] = {
    {.name = "host",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(serve_args, host),
     .argument = "ADDRESS",
     .help = "address to listen on; 0.0.0.0 or :: to accept other machines"},
    {.name = "port",
     .kind = EQ_OPTION_INT,
     .offset = offsetof(serve_args, port),
     .argument = "N",
     .help = "0: any that is free",
     .high = 65535},
    {.name = "token",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(serve_args, token),
     .argument = "FILE",
     .help = "clients must show the token in this file; without it the one in the variable "
             "EQAT_TOKEN, if any"},
    {.name = "name",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(serve_args, name),
     .argument = "NAME",
     .help = "what requests call the model; without it the last part of its path"},
    {.name = "chat-format",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(serve_args, format),
     .argument = "NAME",
     .help = "chatml, llama2, llama3 or mistral; without it that of the model's template"},
    {.kind = EQ_OPTION_HEADING, .name = "", .help = "Limits"},
    {.name = "slots",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(serve_args, engine.slots),
     .argument = "N",
     .help = "texts that are written at once; others wait",
     .low = 1,
     .high = MOST_SLOTS},
    {.name = "max-waiting",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(serve_args, max_waiting),
     .argument = "N",
     .help = "texts that may wait; further requests are refused",
     .high = 1 << 16},
    {.name = "max-body",
     .kind = EQ_OPTION_BYTES,
     .offset = offsetof(serve_args, max_body),
     .argument = "BYTES",
     .help = "most bytes of a request (as 512K or 4M)",
     .low = 1,
     .high = 1 << 30},
    {.name = "timeout",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(serve_args, timeout),
     .argument = "SECONDS",
     .help = "time for an answer, waiting included",
     .low = 0.1,
     .high = 1e6},
    {.name = "read-timeout",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(serve_args, read_timeout),
     .argument = "SECONDS",
     .help =
         "time for a client to send a request, to begin the next one, or to read what is left of "
         "an answer",
     .low = 0.1,
     .high = 1e6},
    {.name = NULL}};

static const eq_section sections[] = {{eq_engine_section, offsetof(serve_args, engine)}, {NULL, 0}};

static void defaults(void *arguments)
{
    serve_args *args = arguments;
    args->host = "127.0.0.1";
    args->port = 8080;
    args->max_waiting = 64;
    args->max_body = 1 << 20;
    args->timeout = 600;
    args->read_timeout = 30;
    args->engine = eq_engine_defaults();
    args->engine.slots = USUAL_SLOTS;
}

#ifdef EQAT_SERVE

/* The token of the file or of the environment in fresh memory (free), NULL when there is none. */
static eq_status read_token(eq_session *session, const char *path, char **out)
{
    const char *given = getenv("EQAT_TOKEN");
    size_t size;
    *out = NULL;
    if (!path && !given) return EQ_OK;
    if (path) {
        eq_status status = eq_input_read(session, path, out, &size);
        if (status != EQ_OK) return status;
    } else if (!(*out = strdup(given))) {
        return eq_session_fail(session, EQ_ENOMEM, "out of memory");
    }
    (*out)[strcspn(*out, "\r\n")] = 0;
    bool good = **out != 0;
    for (const char *c = *out; *c; c++)
        good = good && *c > ' ' && *c <= '~';
    if (good) return EQ_OK;
    return eq_session_fail(session, EQ_EINVAL,
                           "%s: the token must be one line of printable characters without spaces",
                           path ? path : "EQAT_TOKEN");
}

/* The last part of a path, in fresh memory (free). */
static char *name_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t start = n;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return strndup(path + start, n - start);
}

/* It goes into every answer. */
static eq_status check_name(eq_session *session, const char *name)
{
    json_t *text = json_string(name);
    json_decref(text);
    if (text) return EQ_OK;
    return eq_session_fail(session, EQ_EINVAL,
                           "the name of the model is not UTF-8; --name gives it another");
}

static eq_status serve(eq_session *session, const serve_args *args, const char *name,
                       const char *token)
{
    char port[16];
    snprintf(port, sizeof port, "%d", args->port);
    eq_server_options o = {.http = {.host = args->host,
                                    .port = port,
                                    .token = token,
                                    .format = args->format,
                                    .max_body = args->max_body,
                                    .timeout = args->timeout,
                                    .read_timeout = args->read_timeout,
                                    .quiet = args->common.quiet,
                                    .limits = {.model = name}},
                           .engine = args->engine,
                           .max_waiting = args->max_waiting,
                           .json = args->common.json};
    o.engine.context = eq_session_context(session, o.engine.context);
    return eq_server_run(session, &o);
}

static int run(const void *arguments)
{
    const serve_args *args = arguments;
    eq_session session;
    char *token = NULL, *name = args->name ? strdup(args->name) : name_of(args->common.model);
    eq_status status = eq_session_open(&session, &args->common, true);
    if (status == EQ_OK) status = read_token(&session, args->token, &token);
    if (status == EQ_OK && !name) status = eq_session_fail(&session, EQ_ENOMEM, "out of memory");
    if (status == EQ_OK) status = check_name(&session, name);
    if (status == EQ_OK) status = serve(&session, args, name, token);
    if (status == EQ_EINTERRUPTED) status = EQ_OK; /* before it was ready */
    free(token);
    free(name);
    return eq_session_close(&session, status);
}

#else

static int run(const void *arguments)
{
    (void)arguments;
    fputs("eqat serve: this build has no server (it was made with EQAT_SERVE=OFF)\n", stderr);
    return EQ_EXIT_FAILED;
}

#endif

const eq_command eq_cmd_serve = {
    .name = "serve",
    .summary = "Serve a model with OpenAI's interface",
    .details =
        "GET /v1/models, POST /v1/completions and POST /v1/chat/completions, with streams; a page\n"
        "to chat at GET /; GET /health. Requests that come together are answered in one pass over\n"
        "the weights. Prints a line when it listens, then one for each request on stderr: method,\n"
        "path, status, tokens of prompt and answer, seconds, tokens per second. Ctrl-C or SIGTERM\n"
        "ends the requests that run, and the program with exit code 0. docs/serve.md has the\n"
        "parameters of a request.\n\n"
        "Without a token, only requests to an address or to localhost are answered, so that web\n"
        "pages cannot reach the server under a name of theirs.\n\n"
        "Examples:\n"
        "  eqat serve models/smollm2-135m-instruct.gguf\n"
        "  eqat serve out/w3 --host 0.0.0.0 --port 8000 --token token.txt --slots 8\n"
        "  eqat serve out/w3 --port 0 --context 2048 --max-waiting 16 --timeout 120\n",
    .options = options,
    .sections = sections,
    .size = sizeof(serve_args),
    .defaults = defaults,
    .writes_tokens = true,
    .run = run};
