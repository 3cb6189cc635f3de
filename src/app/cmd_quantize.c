/* eqat quantize: full precision in, a trained low-bit model out. */
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>

typedef struct quantize_args {
    eq_common common;
    const char *out;
    eq_preset preset;
    bool started; /* the first pass has set method, bits and preset */
    eq_quantize_options q;
} quantize_args;

static const eq_choice methods[] = {
    {"block-ap", EQ_METHOD_BLOCK_AP}, {"rtn", EQ_METHOD_RTN}, {NULL, 0}};
static const eq_choice bits[] = {{"2", 2}, {"3", 3}, {"4", 4}, {"8", 8}, {NULL, 0}};
static const eq_choice grids[] = {
    {"asymmetric", EQ_GRID_ASYMMETRIC}, {"symmetric", EQ_GRID_SYMMETRIC}, {NULL, 0}};
static const eq_choice presets[] = {
    {"default", EQ_PRESET_DEFAULT}, {"paper", EQ_PRESET_PAPER}, {NULL, 0}};
static const eq_choice orders[] = {
    {"concat", EQ_ORDER_CONCAT}, {"random-doc", EQ_ORDER_RANDOM_DOC}, {NULL, 0}};
static const eq_choice starts[] = {
    {"minmax", EQ_START_MINMAX}, {"mse", EQ_START_MSE}, {"weighted", EQ_START_WEIGHTED}, {NULL, 0}};
static const eq_choice losses[] = {
    {"mse", EQ_LOSS_MSE}, {"relative", EQ_LOSS_RELATIVE}, {"bounded", EQ_LOSS_BOUNDED}, {NULL, 0}};
static const eq_choice edges[] = {
    {"inside", EQ_EDGES_INSIDE}, {"clipped", EQ_EDGES_CLIPPED}, {NULL, 0}};
static const eq_choice schedules[] = {
    {"cosine", EQ_SCHEDULE_COSINE}, {"ahead", EQ_SCHEDULE_AHEAD}, {NULL, 0}};
static const eq_choice places[] = {
    {"auto", EQ_STREAMS_AUTO}, {"ram", EQ_STREAMS_RAM}, {"file", EQ_STREAMS_FILE}, {NULL, 0}};

static const eq_option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(quantize_args, out),
     .argument = "FOLDER",
     .required = true,
     .help = "where the quantized model goes; a run that was cut short goes on there"},
    {.name = "method",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.method),
     .choices = methods,
     .help = "train block by block, or only round to nearest"},
    {.name = "bits",
     .letter = 'b',
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.bits),
     .choices = bits,
     .help = "bits of a weight"},
    {.name = "group",
     .letter = 'g',
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.group),
     .argument = "N",
     .help = "weights that share a scale and zero point, -1: a whole row",
     .low = -1,
     .high = 1 << 24},
    {.name = "grid",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.grid),
     .choices = grids,
     .help = "each group's own zero point, or the middle code for all and scales of either sign"},
    {.name = "preset",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, preset),
     .choices = presets,
     .help = "defaults of everything below: ours, or those of the EfficientQAT paper"},

    {.kind = EQ_OPTION_HEADING, .name = "", .help = "Calibration data"},
    {.name = "calib",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(quantize_args, q.data.calib),
     .argument = "FILE",
     .help = "text, .jsonl with a \"text\" each line, int32 .npy [windows, tokens], or self: text "
             "that the model samples itself"},
    {.name = "val",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(quantize_args, q.data.val),
     .argument = "FILE",
     .help = "the same for validation; without it the last windows of --calib"},
    {.name = "samples",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.data.samples),
     .argument = "N",
     .help = "training windows",
     .low = 1,
     .high = 1e9},
    {.name = "val-samples",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.data.val_samples),
     .argument = "N",
     .help = "validation windows",
     .high = 1e9},
    {.name = "seqlen",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.data.seqlen),
     .argument = "N",
     .help = "tokens of a window",
     .low = 2,
     .high = 1 << 20},
    {.name = "order",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.data.order),
     .choices = orders,
     .help = "documents one after the other, or a random piece of a random document each time"},

    {.kind = EQ_OPTION_HEADING, .name = "", .help = "Start and training"},
    {.name = "init",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.train.start),
     .choices = starts,
     .help = "first scales and zero points: the range of the group, least error, or least error "
             "weighted by the mean square of each input"},
    {.name = "init-windows",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.train.start_windows),
     .argument = "N",
     .help = "windows that weigh the inputs for --init weighted",
     .low = 1,
     .high = 1e9},
    {.name = "loss",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.train.loss),
     .choices = losses,
     .help =
         "squared error: mean, relative to each token's own size, or that with at most 1 a token"},
    {.name = "edges",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.train.edges),
     .choices = edges,
     .help = "gradients of weights at the lowest and highest code: as of any other, or none"},
    {.name = "epochs",
     .kind = EQ_OPTION_INT,
     .offset = offsetof(quantize_args, q.train.epochs),
     .argument = "N",
     .help = "passes over the samples for each block",
     .high = 1e6},
    {.name = "batch",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.train.batch),
     .argument = "N",
     .help = "windows of a step",
     .low = 1,
     .high = 1e6},
    {.name = "quant-lr",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.quant_lr),
     .argument = "X",
     .help = "learning rate of scales and zero points, 0: not trained",
     .high = 10},
    {.name = "weight-lr",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.weight_lr),
     .argument = "X",
     .help = "learning rate of weights and norm weights, 0: not trained",
     .high = 10},
    {.name = "schedule",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.train.schedule),
     .choices = schedules,
     .help = "of the rates: a cosine, or the same a step ahead as EfficientQAT's code has it"},
    {.name = "min-lr-factor",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.min_lr_factor),
     .argument = "X",
     .help = "rates fall along a cosine to rate / X",
     .low = 1,
     .high = 1e9},
    {.name = "beta1",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.beta1),
     .argument = "X",
     .help = "AdamW: decay of the first moment",
     .high = 1},
    {.name = "beta2",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.beta2),
     .argument = "X",
     .help = "AdamW: decay of the second moment",
     .high = 1},
    {.name = "epsilon",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.epsilon),
     .argument = "X",
     .help = "AdamW: added to the root of the second moment",
     .high = 1},
    {.name = "weight-decay",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.weight_decay),
     .argument = "X",
     .help = "AdamW: decay of the parameters",
     .high = 10},
    {.name = "early-stop",
     .kind = EQ_OPTION_INT,
     .offset = offsetof(quantize_args, q.train.early_stop),
     .argument = "N",
     .help = "leave a block after N epochs without a better validation loss, 0: never",
     .high = 1e6},

    {.kind = EQ_OPTION_HEADING, .name = "", .help = "The run"},
    {.name = "precision",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.run.precision),
     .choices = eq_precision_choices,
     .help = "type of matrix products and of the activations between blocks"},
    {.name = "streams",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.run.streams),
     .choices = places,
     .help = "where the activations between blocks live"},
    {.name = "memory",
     .letter = 'm',
     .kind = EQ_OPTION_BYTES,
     .offset = offsetof(quantize_args, q.run.memory),
     .argument = "SIZE",
     .help = "memory the run may use, as 512M or 1.5G; 0: what the machine has free",
     .high = 1e15},
    {.name = "seed",
     .kind = EQ_OPTION_UINT64,
     .offset = offsetof(quantize_args, q.run.seed),
     .argument = "N",
     .help = "of the random numbers"},
    {.name = "stop-after",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.run.stop_after),
     .argument = "N",
     .help = "stop after N blocks, to go on later; 0: never",
     .high = 1e6},
    {.name = NULL}};

/* The first pass starts from 4 bits and finds method, bits and preset; the second starts from the
 * defaults that belong to those. */
static void defaults(void *arguments)
{
    quantize_args *args = arguments;
    if (!args->started) {
        args->q.method = EQ_METHOD_BLOCK_AP;
        args->q.bits = 4;
        args->started = true;
    }
    args->q = eq_quantize_defaults(args->q.method, args->q.bits, args->preset);
}

static eq_status print_json(eq_session *session, const quantize_args *args,
                            const eq_quantize_result *r)
{
    return eq_json_print(
        session, json_pack("{s:s, s:i, s:I, s:o, s:I, s:I, s:o, s:I}", "output", args->out, "bits",
                           args->q.bits, "group", (json_int_t)args->q.group, "bits_per_weight",
                           eq_json_real(r->bits_per_weight), "bytes", (json_int_t)r->bytes,
                           "blocks_resumed", (json_int_t)r->blocks_resumed, "seconds",
                           eq_json_real(r->seconds), "peak_memory", (json_int_t)eq_peak_memory()));
}

static void print_summary(const quantize_args *args, const eq_quantize_result *r)
{
    char size[32], memory[32];
    eq_format_bytes(size, sizeof size, r->bytes);
    eq_format_bytes(memory, sizeof memory, eq_peak_memory());
    printf("output           %s\n", args->out);
    printf("size             %s, %.3f bits per quantized weight\n", size, r->bits_per_weight);
    if (r->blocks_resumed > 0)
        printf("resumed          %lld blocks were there already\n", (long long)r->blocks_resumed);
    printf("time             %.1f s\n", r->seconds);
    printf("peak memory      %s\n", memory);
}

static int run(const void *arguments)
{
    const quantize_args *args = arguments;
    eq_quantize_result result = {0};
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, false);
    if (status == EQ_OK)
        status = eq_quantize(session.ctx, args->common.model, args->out, &args->q, &result);
    if (status == EQ_EINTERRUPTED)
        eq_session_fail(&session, status,
                        "interrupted; the same command goes on where it stopped, from %s",
                        args->out);
    if (status == EQ_OK) {
        eq_console_clear(&session.console);
        if (args->common.json)
            status = print_json(&session, args, &result);
        else
            print_summary(args, &result);
    }
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_quantize = {
    .name = "quantize",
    .summary = "Quantize a model, trained block by block (Block-AP) or by rounding",
    .details =
        "The output is a Hugging Face folder with GPTQ tensors. FOLDER/run has the log and the "
        "state:\na run that was interrupted or killed goes on with the same command and ends with "
        "the same bytes.\nDefaults depend on --method, --bits and --preset: give them with --help "
        "to see them.\n\n"
        "Examples:\n"
        "  eqat quantize models/smollm2-135m-instruct.gguf -o out/w3 --bits 3 --group 64\n"
        "  eqat quantize models/smollm2-135m-instruct.gguf -o out/rtn --method rtn -b 4 -g 64\n"
        "  eqat quantize models/smollm2-135m-instruct.gguf -o out/w2 -b 2 -g 64 --calib "
        "train.jsonl \\\n      --samples 64 --seqlen 1024 --memory 512M\n"
        "  eqat quantize --bits 2 --preset paper --help\n",
    .options = options,
    .size = sizeof(quantize_args),
    .defaults = defaults,
    .run = run};
