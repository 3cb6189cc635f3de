/* eqat export: the same model in another format. */
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>

typedef struct export_args {
    eq_common common;
    const char *out;
    eq_export_options o;
} export_args;

static const eq_choice formats[] = {{"gguf", EQ_EXPORT_GGUF},
                                    {"dense", EQ_EXPORT_DENSE},
                                    {"gptq", EQ_EXPORT_GPTQ},
                                    {"awq", EQ_EXPORT_AWQ},
                                    {"compressed-tensors", EQ_EXPORT_COMPRESSED},
                                    {"eqat", EQ_EXPORT_EQAT},
                                    {NULL, 0}};
static const eq_choice types[] = {
    {"f16", EQ_EXPORT_F16}, {"bf16", EQ_EXPORT_BF16}, {"f32", EQ_EXPORT_F32}, {NULL, 0}};
static const eq_choice versions[] = {{"2", 2}, {"1", 1}, {NULL, 0}};

static const eq_option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(export_args, out),
     .argument = "PATH",
     .required = true,
     .help = "the file or folder to make; it must not be there yet"},
    {.name = "format",
     .letter = 'f',
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(export_args, o.format),
     .choices = formats,
     .help = "what to write"},
    {.name = "allow-larger",
     .kind = EQ_OPTION_FLAG,
     .offset = offsetof(export_args, o.allow_larger),
     .help = "gguf: where only a type of more than 1.5 times its bits holds a linear, take that"},
    {.name = "exact",
     .kind = EQ_OPTION_FLAG,
     .offset = offsetof(export_args, o.exact),
     .help = "gguf: no rounded offsets: 4 bits with zero points become Q5_0 instead of Q4_1"},
    {.name = "dtype",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(export_args, o.dtype),
     .choices = types,
     .help = "dense: type of the weights"},
    {.name = "gptq-version",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(export_args, o.gptq_version),
     .choices = versions,
     .help = "gptq: version of the format; 1 holds no zero point of 0"},
    {.name = "shard-size",
     .kind = EQ_OPTION_BYTES,
     .offset = offsetof(export_args, o.shard_bytes),
     .argument = "SIZE",
     .help = "folders: most bytes of tensors in one file, 0: all in one",
     .high = 1e15},
    {.name = NULL}};

static void defaults(void *arguments)
{
    export_args *args = arguments;
    args->o = eq_export_defaults(args->o.format);
}

static eq_status print_json(eq_session *session, const export_args *args, const eq_export_result *r)
{
    return eq_json_print(session,
                         json_pack("{s:s, s:I, s:o, s:o, s:o, s:I}", "output", args->out, "bytes",
                                   (json_int_t)r->bytes, "bits_per_weight",
                                   eq_json_real(r->bits_per_weight), "largest_error",
                                   eq_json_real(r->largest_error), "error_bound",
                                   eq_json_real(r->error_bound), "tokens", (json_int_t)r->tokens));
}

static void print_table(const export_args *args, const eq_export_result *r)
{
    char size[32];
    eq_format_bytes(size, sizeof size, r->bytes);
    printf("output      %s, %s\n", args->out, size);
    printf("linears     %.3f bits per weight\n", r->bits_per_weight);
    if (r->error_bound > 0)
        printf("difference  %.3g at most, %.3g allowed\n", r->largest_error, r->error_bound);
    else
        printf("difference  none: every weight reads back as it was\n");
    printf("check       read back, compared, %lld tokens generated\n", (long long)r->tokens);
}

static int run(const void *arguments)
{
    const export_args *args = arguments;
    eq_export_result result;
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, true);
    if (status == EQ_OK)
        status = eq_export(session.ctx, session.model, args->out, &args->o, &result);
    if (status == EQ_OK) {
        eq_console_clear(&session.console);
        if (args->common.json)
            status = print_json(&session, args, &result);
        else
            print_table(args, &result);
    }
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_export = {
    .name = "export",
    .summary = "Write a model in the format of another program",
    .details = "Nothing is quantized a second time: codes and scales stay what they are. Only Q4_1 "
               "rounds an offset\nof each group (not with --exact), and dense to its --dtype. What "
               "was written is read back, compared\nwith the model weight by weight and made to "
               "generate before it appears under its name.\n"
               "gguf takes for each linear the smallest ggml type that holds it: Q2_0 for 2 bits "
               "on the symmetric\ngrid, Q4_0 (4.5 bits a weight) for 3 bits and for 4 on the "
               "symmetric one, Q4_1 for 4 with zero\npoints, Q8_0 for 8, and Q2_K, Q3_K, Q4_K for "
               "linears trained on these and for groups of 256 or\nwhole rows of a multiple of "
               "that. dense dequantizes every weight; gptq, awq, compressed-tensors and\neqat "
               "(EfficientQAT's own) pack the codes as those programs do.\n\n"
               "Examples:\n"
               "  eqat export out/w2 -o w2.gguf --format gguf\n"
               "  eqat export out/w3 -o out/w3-bf16 --format dense --dtype bf16\n"
               "  eqat export out/w4 -o out/w4-v1 --format gptq --gptq-version 1\n",
    .options = options,
    .size = sizeof(export_args),
    .defaults = defaults,
    .run = run};
