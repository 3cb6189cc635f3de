/* eqat tune: train a quantized model as a whole. */
#include "app/options.h"
#include "app/output.h"

typedef struct tune_args {
    eq_common common;
    const char *out, *reference;
    eq_finetune_options o;
} tune_args;

static const eq_option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(tune_args, out),
     .argument = "FOLDER",
     .required = true,
     .help = "where the trained model goes; a run that was cut short goes on there"},
    {.name = "reference",
     .letter = 'r',
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(tune_args, reference),
     .argument = "MODEL",
     .help =
         "the full-precision model, needed unless --kl is 0; it also writes the text of --calib "
         "self"},
    {.name = NULL}};

static const eq_section sections[] = {{eq_data_section, offsetof(tune_args, o.data)},
                                      {eq_examples_section, offsetof(tune_args, o.data.examples)},
                                      {eq_tune_section, offsetof(tune_args, o.tune)},
                                      {eq_run_section, offsetof(tune_args, o.run)},
                                      {NULL, 0}};

static void defaults(void *arguments)
{
    tune_args *args = arguments;
    args->o = eq_finetune_defaults();
}

static int run(const void *arguments)
{
    const tune_args *args = arguments;
    eq_quantize_result result = {0};
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, false);
    if (status == EQ_OK)
        status = eq_finetune(session.ctx, args->common.model, args->reference, args->out, &args->o,
                             &result);
    const eq_written written = {args->out, NULL};
    return eq_finish_run(&session, &written, &result, status, args->common.json);
}

const eq_command eq_cmd_tune = {
    .name = "tune",
    .summary = "Train a quantized model as a whole (E2E-QP), on any text",
    .details =
        "MODEL is a folder that quantize wrote, or one of GPTQ, AWQ, compressed-tensors, "
        "auto-round or\nEfficientQAT's own code; not with columns in activation order. Zero points "
        "stay as they are,\ncodes too unless every weight is trained; offsets of super-blocks go "
        "with their scales. The output\nis a folder as quantize writes it. Learning rates that are "
        "not given are those for the bits of\nMODEL.\n\n"
        "Examples:\n"
        "  eqat tune out/w2 -o out/w2-tuned --reference models/smollm2-135m-instruct.gguf \\\n"
        "      --calib train.jsonl --samples 64\n"
        "  eqat tune out/w3 -o out/w3-law --calib law.txt --kl 0 --ce 1\n"
        "  eqat tune gptq-folder -o out/tuned --reference full-folder --calib my.txt\n",
    .options = options,
    .sections = sections,
    .size = sizeof(tune_args),
    .defaults = defaults,
    .run = run};
