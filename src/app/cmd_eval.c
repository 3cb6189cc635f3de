/* eqat eval: perplexity on a text, and divergence from a reference model. */
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>

typedef struct eval_args {
    eq_common common;
    const char *reference;
    eq_eval_options eval;
} eval_args;

static const eq_option options[] = {
    {.name = "text",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(eval_args, eval.text),
     .argument = "FILE",
     .required = true,
     .help =
         "text to predict; of .jsonl and .json of conversations or instructions the answers; or "
         "int32 .npy [windows, tokens]"},
    {.name = "reference",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(eval_args, reference),
     .argument = "MODEL",
     .help = "full-precision model: adds the mean KL(reference || model) in nats and the share of "
             "positions with the same most likely token"},
    {.name = "context",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(eval_args, eval.context),
     .argument = "N",
     .help = "tokens of a window; windows do not overlap",
     .low = 2,
     .high = 1 << 20},
    {.name = "windows",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(eval_args, eval.windows),
     .argument = "N",
     .help = "use the first N windows, 0: all",
     .high = 1e9},
    {.name = "precision",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(eval_args, eval.precision),
     .choices = eq_precision_choices,
     .help = "type of matrix products"},
    {.name = "activations",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(eval_args, eval.activations),
     .choices = eq_activation_choices,
     .help =
         "what multiplies quantized weights: 8 bits as in generate, which without --reference is "
         "compared with exact"},
    {.name = "kv-bits",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(eval_args, eval.kv_bits),
     .choices = eq_kv_choices + 1,
     .help = "keys and values rounded to 8 or 4 bits as in generate, which without --reference are "
             "compared with those of 16"},
    {.name = NULL}};

static const eq_section sections[] = {{eq_examples_section, offsetof(eval_args, eval.examples)},
                                      {NULL, 0}};

static void defaults(void *arguments)
{
    eval_args *args = arguments;
    args->eval = eq_eval_defaults();
}

static eq_status print_json(eq_session *session, const eval_args *args, const eq_eval_result *r)
{
    json_t *object = json_pack("{s:s, s:I, s:I, s:o}", "text", args->eval.text, "windows",
                               (json_int_t)r->windows, "tokens", (json_int_t)r->tokens,
                               "perplexity", eq_json_real(r->perplexity));
    if (object && r->kl >= 0) {
        json_object_set_new(object, "kl", eq_json_real(r->kl));
        json_object_set_new(object, "top1", eq_json_real(r->top1));
    }
    return eq_json_print(session, object);
}

static void print_table(const eval_args *args, const eq_eval_result *r)
{
    printf("text        %s\n", args->eval.text);
    printf("windows     %lld of %lld tokens\n", (long long)r->windows,
           (long long)args->eval.context);
    printf("perplexity  %.4f\n", r->perplexity);
    if (r->kl < 0) return;
    printf("reference   %.4f\n", r->reference_perplexity);
    printf("KL          %.4f nats\n", r->kl);
    printf("top-1       %.2f %% agree\n", 100 * r->top1);
}

static int run(const void *arguments)
{
    const eval_args *args = arguments;
    eq_model *reference = NULL;
    eq_eval_result result;
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, true);
    if (status == EQ_OK && args->reference)
        status = eq_model_open(session.ctx, &reference, args->reference);
    if (status == EQ_OK)
        status = eq_evaluate(session.ctx, session.model, reference, &args->eval, &result);
    if (status == EQ_OK) {
        eq_console_clear(&session.console);
        if (args->common.json)
            status = print_json(&session, args, &result);
        else
            print_table(args, &result);
    }
    eq_model_close(reference);
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_eval = {
    .name = "eval",
    .summary = "Measure perplexity on a text, and divergence from a reference model",
    .details = "The text is cut into windows that do not overlap; the first token of each is not "
               "predicted.\nWith --json: text, windows, tokens, perplexity; with a reference also "
               "kl and top1.\n\n"
               "Examples:\n"
               "  eqat eval models/smollm2-135m-instruct.gguf --text wiki.txt --windows 10\n"
               "  eqat eval out/w3 --reference models/smollm2-135m-instruct.gguf --text wiki.txt "
               "--json\n"
               "  eqat eval out/w3 --text wiki.txt --activations 8 --kv-bits 8\n",
    .options = options,
    .sections = sections,
    .size = sizeof(eval_args),
    .defaults = defaults,
    .run = run};
