/* eqat tokenize: text to ids and back. */
#include "app/input.h"
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tokenize_args {
    eq_common common;
    const char *text, *decode;
    bool from_stdin, special;
} tokenize_args;

static const eq_option options[] = {
    {.name = "text",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(tokenize_args, text),
     .argument = "S",
     .help = "the text"},
    {.name = "stdin",
     .kind = EQ_OPTION_FLAG,
     .offset = offsetof(tokenize_args, from_stdin),
     .help = "read the text from standard input, bytes as they come"},
    {.name = "special",
     .kind = EQ_OPTION_FLAG,
     .offset = offsetof(tokenize_args, special),
     .help = "add the tokens that the tokenizer puts around a text"},
    {.name = "decode",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(tokenize_args, decode),
     .argument = "IDS",
     .help = "the other way: print the text of these ids (separated by commas or spaces)"},
    {.name = NULL}};

static eq_status print_ids(eq_session *session, const tokenize_args *args, const int32_t *ids,
                           int64_t count)
{
    if (!args->common.json) {
        for (int64_t i = 0; i < count; i++)
            printf("%s%d", i ? " " : "", (int)ids[i]);
        putchar('\n');
        return EQ_OK;
    }
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return eq_json_print(session, json_pack("{s:I, s:o}", "count", (json_int_t)count, "ids", list));
}

static eq_status encode(eq_session *session, const tokenize_args *args, const char *text, size_t n)
{
    int32_t *ids = NULL;
    int64_t count = 0;
    eq_status status =
        eq_tokenize(session->ctx, session->model, text, n, args->special, &ids, &count);
    if (status == EQ_OK) status = print_ids(session, args, ids, count);
    eq_free(ids);
    return status;
}

static eq_status decode(eq_session *session, const tokenize_args *args)
{
    char *text = NULL;
    size_t size = 0;
    int64_t count = 0;
    int32_t *ids = eq_parse_ids(args->decode, &count);
    if (!ids)
        return eq_session_fail(session, EQ_EINVAL, "--decode is '%s', must be a list of ids",
                               args->decode);
    eq_status status = eq_detokenize(session->ctx, session->model, ids, count, &text, &size);
    if (status == EQ_OK && args->common.json)
        status = eq_json_print(session, json_pack("{s:s%}", "text", text, size));
    else if (status == EQ_OK)
        fwrite(text, 1, size, stdout);
    eq_free(text);
    free(ids);
    return status;
}

static int run(const void *arguments)
{
    const tokenize_args *args = arguments;
    if ((args->text != NULL) + args->from_stdin + (args->decode != NULL) != 1) {
        fputs("eqat tokenize: give one of --text, --stdin and --decode (see eqat tokenize "
              "--help)\n",
              stderr);
        return EQ_EXIT_USAGE;
    }
    char *input = NULL;
    size_t n = args->text ? strlen(args->text) : 0;
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, true);
    if (status == EQ_OK && args->from_stdin) status = eq_input_read(&session, "-", &input, &n);
    if (status == EQ_OK)
        status = args->decode ? decode(&session, args)
                              : encode(&session, args, input ? input : args->text, n);
    free(input);
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_tokenize = {
    .name = "tokenize",
    .summary = "Print the token ids of a text, or the text of token ids",
    .details = "The ids come on one line, separated by spaces.\n\n"
               "Examples:\n"
               "  eqat tokenize models/smollm2-135m-instruct.gguf --text 'Hello world'\n"
               "  eqat tokenize models/smollm2-135m-instruct.gguf --stdin < README.md | wc -w\n"
               "  eqat tokenize models/smollm2-135m-instruct.gguf --decode 19556,905\n",
    .options = options,
    .size = sizeof(tokenize_args),
    .run = run};
