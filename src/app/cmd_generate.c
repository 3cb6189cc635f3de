/* eqat generate: let a model continue a text. */
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct generate_args {
    eq_common common;
    const char *prompt;
    eq_generate_options generate;
} generate_args;

static const eq_option options[] = {
    {.name = "prompt",
     .letter = 'p',
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(generate_args, prompt),
     .argument = "TEXT",
     .required = true,
     .help = "text to continue"},
    {.name = "max-tokens",
     .letter = 'n',
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(generate_args, generate.max_tokens),
     .argument = "N",
     .help = "stop after N tokens",
     .high = 1 << 24},
    {.name = "temperature",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(generate_args, generate.temperature),
     .argument = "X",
     .help = "of sampling, 0: always the most likely token",
     .high = 100},
    {.name = "top-k",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(generate_args, generate.top_k),
     .argument = "N",
     .help = "sample from the N most likely tokens, 0: all",
     .high = 1 << 24},
    {.name = "top-p",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(generate_args, generate.top_p),
     .argument = "X",
     .help = "sample from the most likely tokens that together have this probability",
     .high = 1},
    {.name = "seed",
     .kind = EQ_OPTION_UINT64,
     .offset = offsetof(generate_args, generate.seed),
     .argument = "N",
     .help = "of the random numbers"},
    {.name = "precision",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(generate_args, generate.precision),
     .choices = eq_precision_choices,
     .help = "type of matrix products"},
    {.name = "activations",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(generate_args, generate.activations),
     .choices = eq_activation_choices,
     .help = "what multiplies quantized weights: rounded to 8 bits, which is faster, or exact"},
    {.name = NULL}};

static void defaults(void *arguments)
{
    generate_args *args = arguments;
    args->generate = eq_generate_defaults();
}

/* Where the text goes while it is made. */
typedef struct speech {
    const eq_model *model;
    eq_utf8 utf8;
    char *kept;  /* owned; the text so far, for --json */
    json_t *ids; /* owned; the tokens so far, for --json */
    size_t size, room;
    bool keep, failed;
} speech;

static void take_text(void *user, const char *text, size_t n)
{
    speech *s = user;
    if (!s->keep) {
        fwrite(text, 1, n, stdout);
        return;
    }
    if (s->failed) return;
    if (s->size + n > s->room) {
        size_t room = 2 * (s->size + n) + 256;
        char *larger = realloc(s->kept, room);
        s->failed = larger == NULL;
        if (s->failed) return;
        s->kept = larger;
        s->room = room;
    }
    memcpy(s->kept + s->size, text, n);
    s->size += n;
}

static bool take_token(void *user, int32_t id)
{
    speech *s = user;
    size_t n = 0;
    const char *bytes = eq_token_bytes(s->model, id, &n);
    if (s->keep && json_array_append_new(s->ids, json_integer(id))) s->failed = true;
    eq_utf8_push(&s->utf8, bytes, n, take_text, s);
    if (!s->keep) fflush(stdout);
    return !s->failed && !ferror(stdout) && !eq_console_interrupted();
}

static eq_status speak(eq_session *session, const generate_args *args, speech *s)
{
    int32_t *ids = NULL;
    int64_t count = 0;
    eq_status status = eq_tokenize(session->ctx, session->model, args->prompt, strlen(args->prompt),
                                   true, &ids, &count);
    if (status == EQ_OK)
        status =
            eq_generate(session->ctx, session->model, ids, count, &args->generate, take_token, s);
    eq_free(ids);
    eq_utf8_end(&s->utf8, take_text, s);
    if (!s->keep) putchar('\n');
    if (status == EQ_OK && s->failed) status = eq_session_fail(session, EQ_ENOMEM, "out of memory");
    if (status == EQ_OK && eq_console_interrupted())
        status = eq_session_fail(session, EQ_EINTERRUPTED, "interrupted");
    if (status != EQ_OK || !s->keep) return status;
    return eq_json_print(session, json_pack("{s:s, s:s%, s:I, s:O}", "prompt", args->prompt, "text",
                                            s->size ? s->kept : "", s->size, "tokens",
                                            (json_int_t)json_array_size(s->ids), "ids", s->ids));
}

static int run(const void *arguments)
{
    const generate_args *args = arguments;
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, true);
    speech s = {.model = session.model, .keep = args->common.json};
    if (s.keep) s.ids = json_array();
    if (status == EQ_OK) status = speak(&session, args, &s);
    json_decref(s.ids);
    free(s.kept);
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_generate = {
    .name = "generate",
    .summary = "Let a model continue a text",
    .details = "The continuation is printed as it comes, without the prompt.\n\n"
               "Examples:\n"
               "  eqat generate models/smollm2-135m-instruct.gguf -p 'The capital of France is'\n"
               "  eqat generate out/w3 -p 'Once upon a time' -n 100 --temperature 0.8 --seed 7\n",
    .options = options,
    .size = sizeof(generate_args),
    .defaults = defaults,
    .run = run};
