/* eqat logits: the logits of a list of tokens, for comparison with other programs. */
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct logits_args {
    eq_common common;
    const char *tokens, *out;
    eq_precision precision;
} logits_args;

static const eq_option options[] = {
    {.name = "tokens",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(logits_args, tokens),
     .argument = "IDS",
     .required = true,
     .help = "token ids, separated by commas or spaces"},
    {.name = "output",
     .letter = 'o',
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(logits_args, out),
     .argument = "FILE",
     .required = true,
     .help = "where to write the logits, [tokens, vocabulary] f32 in numpy's format"},
    {.name = "precision",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(logits_args, precision),
     .choices = eq_precision_choices,
     .help = "type of matrix products"},
    {.name = NULL}};

static eq_status write_logits(eq_session *session, const logits_args *args, const int32_t *ids,
                              int64_t count)
{
    float *logits = NULL;
    int64_t vocabulary = eq_model_get_info(session->model)->vocabulary;
    eq_status status =
        eq_logits(session->ctx, session->model, ids, count, args->precision, &logits);
    if (status == EQ_OK) status = eq_write_npy(session->ctx, args->out, logits, count, vocabulary);
    eq_free(logits);
    if (status != EQ_OK) return status;
    if (args->common.json)
        return eq_json_print(session,
                             json_pack("{s:s, s:I, s:I}", "output", args->out, "tokens",
                                       (json_int_t)count, "vocabulary", (json_int_t)vocabulary));
    printf("%s: %lld x %lld f32\n", args->out, (long long)count, (long long)vocabulary);
    return EQ_OK;
}

static int run(const void *arguments)
{
    const logits_args *args = arguments;
    int64_t count = 0;
    int32_t *ids = eq_parse_ids(args->tokens, &count);
    if (!ids || count == 0) {
        fprintf(stderr, "eqat logits: --tokens is '%s', must be a list of ids as 1,2,3\n",
                args->tokens);
        free(ids);
        return EQ_EXIT_USAGE;
    }
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, true);
    if (status == EQ_OK) status = write_logits(&session, args, ids, count);
    free(ids);
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_logits = {
    .name = "logits",
    .summary = "Write the logits of a list of tokens to a file of numpy's format",
    .details = "Examples:\n"
               "  eqat logits models/smollm2-135m-instruct.gguf --tokens 1,2,3 -o out.npy\n"
               "  eqat logits out/w3 --tokens '504 2443' --precision f32 -o out.npy\n",
    .options = options,
    .size = sizeof(logits_args),
    .run = run};
