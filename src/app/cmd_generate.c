/* eqat generate: let a model continue a text. */
#include "app/answer.h"
#include "app/input.h"
#include "app/options.h"
#include "app/output.h"

#include <stdlib.h>
#include <string.h>

typedef struct generate_args {
    eq_common common;
    const char *prompt, *file;
    eq_string_list stops;
    eq_generate_options generate;
    eq_engine_options engine;
} generate_args;

static const eq_option options[] = {{.name = "prompt",
                                     .letter = 'p',
                                     .kind = EQ_OPTION_STRING,
                                     .offset = offsetof(generate_args, prompt),
                                     .argument = "TEXT",
                                     .help = "text to continue; -: read it from standard input"},
                                    {.name = "prompt-file",
                                     .kind = EQ_OPTION_STRING,
                                     .offset = offsetof(generate_args, file),
                                     .argument = "FILE",
                                     .help = "read the text to continue from a file"},
                                    {.name = "stop",
                                     .kind = EQ_OPTION_LIST,
                                     .offset = offsetof(generate_args, stops),
                                     .argument = "STRING",
                                     .help = "stop before this text; may be given several times"},
                                    {.name = NULL}};

static const eq_section sections[] = {{eq_sampling_section, offsetof(generate_args, generate)},
                                      {eq_engine_section, offsetof(generate_args, engine)},
                                      {NULL, 0}};

static void defaults(void *arguments)
{
    generate_args *args = arguments;
    args->generate = eq_generate_defaults();
    args->engine = eq_engine_defaults();
}

/* What goes in and what comes out. */
typedef struct generation {
    char *read;       /* owned; a prompt from a file, else NULL */
    const char *text; /* [size] */
    size_t size;
    int32_t *ids; /* owned, eq_free; [count] */
    int64_t count;
    eq_engine *engine; /* owned */
    eq_answer answer;
} generation;

/* Read the prompt and make its ids. */
static eq_status prepare(eq_session *session, const generate_args *args, generation *g)
{
    const char *path = args->file;
    eq_status status = EQ_OK;
    if (!path && strcmp(args->prompt, "-") == 0) path = args->prompt;
    if (path) status = eq_input_read(session, path, &g->read, &g->size);
    g->text = path ? g->read : args->prompt;
    if (!path) g->size = strlen(args->prompt);
    if (status != EQ_OK) return status;
    return eq_tokenize(session->ctx, session->model, g->text, g->size, true, &g->ids, &g->count);
}

/* The model's context, or as much of it as this text can use. */
static eq_engine_options engine_options(const eq_session *session, const generate_args *args,
                                        int64_t count)
{
    eq_engine_options o = args->engine;
    int64_t most = eq_model_get_info(session->model)->context, more = args->generate.max_tokens;
    if (!o.context && more && count > 0 && more < most - count) o.context = count + more;
    return o;
}

static eq_status speak(eq_session *session, const generate_args *args, generation *g)
{
    const eq_engine_options o = engine_options(session, args, g->count);
    const eq_request request = {.ids = g->ids,
                                .count = g->count,
                                .options = args->generate,
                                .stops = args->stops.items,
                                .stop_count = args->stops.count};
    FILE *stream = args->common.json ? NULL : stdout;
    eq_status status = eq_engine_new(session->ctx, &g->engine, session->model, &o);
    if (status == EQ_OK) status = eq_answer_run(session, g->engine, &request, stream, &g->answer);
    if (stream && g->answer.event.new_tokens) putchar('\n');
    if (status == EQ_OK && !args->common.quiet) eq_answer_report(&g->answer);
    return status;
}

static eq_status print_json(eq_session *session, const generation *g)
{
    const eq_answer *a = &g->answer;
    json_t *ids = json_array();
    for (int64_t i = 0; i < a->event.new_tokens; i++)
        json_array_append_new(ids, json_integer(a->ids[i]));
    json_t *object =
        json_pack("{s:s%, s:s%, s:I, s:I, s:o, s:s, s:o, s:o}", "prompt", g->text, g->size, "text",
                  a->text, a->size, "prompt_tokens", (json_int_t)g->count, "tokens",
                  (json_int_t)a->event.new_tokens, "ids", ids, "finish_reason", eq_answer_reason(a),
                  "prompt_tokens_per_second", eq_answer_number(eq_answer_prompt_speed(a)),
                  "tokens_per_second", eq_answer_number(eq_answer_speed(a)));
    return eq_json_print(session, object);
}

static int run(const void *arguments)
{
    const generate_args *args = arguments;
    if ((args->prompt != NULL) + (args->file != NULL) != 1) {
        fputs("eqat generate: give one of --prompt and --prompt-file (see eqat generate --help)\n",
              stderr);
        return EQ_EXIT_USAGE;
    }
    generation g = {0};
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, true);
    if (status == EQ_OK) status = prepare(&session, args, &g);
    if (status == EQ_OK) status = speak(&session, args, &g);
    if (status == EQ_OK && args->common.json) status = print_json(&session, &g);
    eq_answer_deinit(&g.answer);
    eq_engine_free(g.engine);
    eq_free(g.ids);
    free(g.read);
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_generate = {
    .name = "generate",
    .summary = "Let a model continue a text",
    .details =
        "The continuation is printed as it comes, without the prompt. It ends with a token of the\n"
        "model that says so, before a --stop text, or after --max-tokens. Counts and speed go to\n"
        "stderr. With --json: prompt, text, prompt_tokens, tokens, ids, finish_reason (stop or\n"
        "length), prompt_tokens_per_second, tokens_per_second.\n\n"
        "Examples:\n"
        "  eqat generate models/smollm2-135m-instruct.gguf -p 'The capital of France is'\n"
        "  eqat generate out/w3 -p 'Once upon a time' -n 100 --temperature 0.8 --min-p 0.1\n"
        "  eqat generate out/w3 --prompt-file README.md --stop '##' --stop 'The end' -n 0\n"
        "  eqat generate out/w3 -p - --repetition-penalty 1.1 --json < README.md\n",
    .options = options,
    .sections = sections,
    .size = sizeof(generate_args),
    .defaults = defaults,
    .writes_tokens = true,
    .run = run};
