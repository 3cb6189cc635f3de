/* eqat quantize: full precision in, a trained low-bit model out. */
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>
#include <unistd.h>

typedef enum target { TARGET_ANY, TARGET_GGUF } target;

typedef struct quantize_args {
    eq_common common;
    const char *out;
    eq_preset preset;
    target target;
    bool started; /* the first pass has set method, bits, grid, preset and target */
    eq_quantize_options q;
} quantize_args;

static const eq_choice methods[] = {
    {"block-ap", EQ_METHOD_BLOCK_AP}, {"rtn", EQ_METHOD_RTN}, {NULL, 0}};
static const eq_choice bits[] = {{"2", 2}, {"3", 3}, {"4", 4}, {"8", 8}, {NULL, 0}};
static const eq_choice end_bits[] = {{"16", 16}, {"8", 8}, {"4", 4}, {NULL, 0}};
static const eq_choice grids[] = {{"asymmetric", EQ_GRID_ASYMMETRIC},
                                  {"symmetric", EQ_GRID_SYMMETRIC},
                                  {"q2_k", EQ_GRID_Q2_K},
                                  {"q3_k", EQ_GRID_Q3_K},
                                  {"q4_k", EQ_GRID_Q4_K},
                                  {NULL, 0}};
static const eq_choice presets[] = {{"default", EQ_PRESET_DEFAULT},
                                    {"fast", EQ_PRESET_FAST},
                                    {"best", EQ_PRESET_BEST},
                                    {"paper", EQ_PRESET_PAPER},
                                    {NULL, 0}};
static const eq_choice targets[] = {{"any", TARGET_ANY}, {"gguf", TARGET_GGUF}, {NULL, 0}};
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
     .help = "each group's own zero point, or the middle code for all and scales of either sign; "
             "or the super-blocks of a ggml type, with its bits and groups, which model.gguf of "
             "--target gguf holds as they are; linears whose rows are no multiple of 256 get "
             "the grid of Q2_0 or Q4_0 instead"},
    {.name = "recipe",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(quantize_args, q.recipe),
     .argument = "FILE",
     .help = "bits, groups and grids of single layers and modules, see docs/formats.md"},
    {.name = "target-bpw",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.target_bpw),
     .argument = "X",
     .help =
         "choose each unit's bits by what its rounding does to the model, for a mean of at most "
         "X with scales and zero points; FOLDER/run/recipe.json gets the choice. 0: do not",
     .high = 16},
    {.name = "embed-bits",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.embed_bits),
     .choices = end_bits,
     .help = "bits of the embedding, in groups of 32; if not given 16, 8 with --target gguf, or "
             "what --head-bits says when both are one tensor"},
    {.name = "head-bits",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.head_bits),
     .choices = end_bits,
     .help = "the same of the head, the product that forms the logits"},
    {.name = "preset",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, preset),
     .choices = presets,
     .help = "how much is trained: fast, default and best take about 10, 60 and 150 minutes for a "
             "model of 135M weights on two cores with AVX-512 BF16, with AVX2 seven times as long; "
             "paper: the settings of EfficientQAT, which need --calib FILE with documents longer "
             "than a window"},
    {.name = "target",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, target),
     .choices = targets,
     .help =
         "gguf: train on the grid of a ggml type (2 bits Q2_0, 3 Q3_K, 4 Q4_0, 8 Q8_0, or that "
         "of --grid; embedding and head Q8_0) and write FOLDER/model.gguf as well, without loss"},

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
    {.name = "exact-scales",
     .kind = EQ_OPTION_FLAG,
     .offset = offsetof(quantize_args, q.train.exact_scales),
     .help = "train with scales in f32, not rounded to f16 as the file will hold them; not with "
             "super-blocks"},
    {.name = "block-samples",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.train.samples),
     .argument = "N",
     .help = "windows for the blocks, evenly spaced among --samples; 0: all of them",
     .high = 1e9},
    {.name = "epochs",
     .kind = EQ_OPTION_INT,
     .offset = offsetof(quantize_args, q.train.epochs),
     .argument = "N",
     .help = "passes over these windows for each block",
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
     .help = "AdamW in the blocks: decay of the first moment",
     .high = 1},
    {.name = "beta2",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.beta2),
     .argument = "X",
     .help = "AdamW in the blocks: decay of the second moment",
     .high = 1},
    {.name = "epsilon",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.epsilon),
     .argument = "X",
     .help = "AdamW in the blocks: added to the root of the second moment",
     .high = 1},
    {.name = "weight-decay",
     .kind = EQ_OPTION_DOUBLE,
     .offset = offsetof(quantize_args, q.train.weight_decay),
     .argument = "X",
     .help = "AdamW in the blocks: decay of the parameters",
     .high = 10},
    {.name = "early-stop",
     .kind = EQ_OPTION_INT,
     .offset = offsetof(quantize_args, q.train.early_stop),
     .argument = "N",
     .help = "leave a block after N epochs without a better validation loss, 0: never",
     .high = 1e6},

    {.name = "streams",
     .kind = EQ_OPTION_CHOICE,
     .offset = offsetof(quantize_args, q.run.streams),
     .choices = places,
     .help = "where the activations between blocks live"},
    {.name = "stop-after",
     .kind = EQ_OPTION_INT64,
     .offset = offsetof(quantize_args, q.run.stop_after),
     .argument = "N",
     .help = "stop after N blocks, to go on later; 0: never",
     .high = 1e6},
    {.name = NULL}};

static const eq_section sections[] = {
    {eq_data_section, offsetof(quantize_args, q.data)},
    {eq_examples_section, offsetof(quantize_args, q.data.examples)},
    {eq_tune_section, offsetof(quantize_args, q.tune)},
    {eq_run_section, offsetof(quantize_args, q.run)},
    {NULL, 0}};

/* What the first pass leaves where no grid and no group is asked for. */
enum { NO_GRID = EQ_GRID_Q4_K + 1, NO_GROUP = 0 };

/* Grid and group for a GGUF file. What was asked for is set again by the second pass; here it says
 * whether super-blocks, which have groups of their own, may be the default. */
static void aim_at_gguf(eq_quantize_options *q, const eq_quantize_options *asked)
{
    const bool plain =
        (int)asked->grid != NO_GRID || asked->group != NO_GROUP || asked->target_bpw > 0;
    eq_quantize_for_gguf(q);
    if (!plain) return;
    /* Where bits are chosen any linear may get 2, and Q2_0 has groups of 64. */
    q->group = q->bits == 2 || asked->target_bpw > 0 ? 64 : 32;
    eq_quantize_on_grid(q, EQ_GRID_SYMMETRIC);
}

/* The first pass starts from 4 bits and finds method, bits, grid, preset and target; the second
 * starts from the defaults that belong to those. */
static void defaults(void *arguments)
{
    quantize_args *args = arguments;
    const eq_quantize_options asked = args->q;
    if (!args->started) {
        args->q = eq_quantize_defaults(EQ_METHOD_BLOCK_AP, 4, args->preset);
        args->q.grid = (eq_grid)NO_GRID;
        args->q.group = NO_GROUP;
        args->started = true;
        return;
    }
    const int super = (int)asked.grid == NO_GRID ? 0 : eq_grid_bits(asked.grid);
    args->q = eq_quantize_defaults(asked.method, super ? super : asked.bits, args->preset);
    if (args->target == TARGET_GGUF) aim_at_gguf(&args->q, &asked);
    if (super) eq_quantize_on_grid(&args->q, asked.grid);
}

/* The finished folder as a GGUF file inside; one that is there is this one. */
static eq_status write_gguf(eq_session *session, const char *out, const char *path)
{
    eq_export_options gguf = eq_export_defaults(EQ_EXPORT_GGUF);
    gguf.exact = true;
    eq_export_result result;
    eq_model *model = NULL;
    if (access(path, F_OK) == 0) return EQ_OK;
    eq_status status = eq_model_open(session->ctx, &model, out);
    if (status == EQ_OK) status = eq_export(session->ctx, model, path, &gguf, &result);
    eq_model_close(model);
    return status;
}

static int run(const void *arguments)
{
    const quantize_args *args = arguments;
    eq_quantize_result result = {0};
    eq_session session;
    char path[4096];
    const eq_written written = {args->out, args->target == TARGET_GGUF ? path : NULL};
    eq_status status = eq_session_open(&session, &args->common, false);
    if ((size_t)snprintf(path, sizeof path, "%s/model.gguf", args->out) >= sizeof path &&
        status == EQ_OK)
        status = eq_session_fail(&session, EQ_EINVAL, "the path %s is too long", args->out);
    if (status == EQ_OK)
        status = eq_quantize(session.ctx, args->common.model, args->out, &args->q, &result);
    if (status == EQ_OK && written.gguf) status = write_gguf(&session, args->out, path);
    return eq_finish_run(&session, &written, &result, status, args->common.json);
}

const eq_command eq_cmd_quantize = {
    .name = "quantize",
    .summary = "Quantize a model, trained block by block (Block-AP) or by rounding",
    .details =
        "The output is a Hugging Face folder with GPTQ tensors, or the blocks of a --grid of "
        "super-blocks.\nFOLDER/run has the log and the state: a run that was interrupted or killed "
        "goes on with the same\ncommand and ends with the same bytes. Defaults depend on --method, "
        "--bits, --grid, --target and\n--preset: give them with --help to see them.\n\n"
        "Examples:\n"
        "  eqat quantize models/smollm2-135m-instruct.gguf -o out/w3-hour --bits 3\n"
        "  eqat quantize models/smollm2-135m-instruct.gguf -o out/rtn --method rtn -b 4 -g 64\n"
        "  eqat quantize models/smollm2-135m-instruct.gguf -o out/w2 -b 2 -g 64 --calib "
        "train.jsonl \\\n      --samples 64 --seqlen 1024 --memory 512M\n"
        "  eqat quantize models/smollm2-135m-instruct.gguf -o out/mixed -b 3 -g 64 --target-bpw 3\n"
        "  eqat quantize models/smollm2-135m-instruct.gguf -o out/small -b 2 --target gguf\n"
        "  eqat quantize --bits 2 --preset paper --help\n",
    .options = options,
    .sections = sections,
    .size = sizeof(quantize_args),
    .defaults = defaults,
    .run = run};
