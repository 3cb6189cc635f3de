/* eqat bench: the speed of this machine, of the kernels and of a training step. */
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>
#include <string.h>

typedef struct bench_args {
    eq_common common;
    int only; /* index of a group, 0: all */
    eq_bench_options options;
} bench_args;

static const eq_choice groups[] = {{"all", 0}, {"gemm", 1},   {"kernel", 2}, {"step", 3},
                                   {"e2e", 4}, {"decode", 5}, {NULL, 0}};

static const eq_option options[] = {{.name = "only",
                                     .kind = EQ_OPTION_CHOICE,
                                     .offset = offsetof(bench_args, only),
                                     .choices = groups,
                                     .help = "measure one group"},
                                    {.name = "prompt",
                                     .kind = EQ_OPTION_INT64,
                                     .offset = offsetof(bench_args, options.prompt),
                                     .argument = "N",
                                     .help = "decode: tokens before the 128 that are written",
                                     .low = 1,
                                     .high = 1 << 20},
                                    {.name = "texts",
                                     .kind = EQ_OPTION_INT64,
                                     .offset = offsetof(bench_args, options.texts),
                                     .argument = "N",
                                     .help = "decode: texts that are written at once",
                                     .low = 1,
                                     .high = 64},
                                    {.name = "kv-bits",
                                     .kind = EQ_OPTION_CHOICE,
                                     .offset = offsetof(bench_args, options.kv_bits),
                                     .choices = eq_kv_choices,
                                     .help = "decode: of keys and values; auto: 8, and 16 with "
                                             "exact activations"},
                                    {.name = NULL}};

static void print_row(void *user, const eq_bench_row *row)
{
    eq_session *session = user;
    eq_console_clear(&session->console);
    printf("%-7s %-32s %12.2f %-9s", row->group, row->name, row->value, row->unit);
    if (row->share >= 0) printf(" %5.1f %% of peak", 100 * row->share);
    putchar('\n');
    fflush(stdout);
}

/* {"step": {"tokens_per_second": 1234.5, "tokens_per_second_share": 0.6, ...}, ...} */
static void add_row(void *user, const eq_bench_row *row)
{
    json_t *object = user;
    json_t *group = json_object_get(object, row->group);
    if (!group) {
        group = json_object();
        json_object_set_new(object, row->group, group);
    }
    json_object_set_new(group, row->name, eq_json_real(row->value));
    if (row->share < 0) return;
    char name[128];
    snprintf(name, sizeof name, "%s_share", row->name);
    json_object_set_new(group, name, eq_json_real(row->share));
}

static void defaults(void *arguments)
{
    bench_args *args = arguments;
    args->options = eq_bench_defaults();
}

static int run(const void *arguments)
{
    const bench_args *args = arguments;
    eq_bench_options measured = args->options;
    measured.only = args->only ? groups[args->only].name : NULL;
    eq_session session;
    eq_status status = eq_session_open(&session, &args->common, args->common.model != NULL);
    if (status == EQ_OK && args->common.json) {
        json_t *object = json_object();
        status = eq_bench(session.ctx, session.model, &measured, add_row, object);
        if (status == EQ_OK)
            status = eq_json_print(&session, object);
        else
            json_decref(object);
    } else if (status == EQ_OK) {
        printf("%d threads, kernels for %s\n", eq_ctx_threads(session.ctx),
               eq_ctx_isa(session.ctx));
        status = eq_bench(session.ctx, session.model, &measured, print_row, &session);
    }
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_bench = {
    .name = "bench",
    .summary = "Measure products, kernels, training steps, reading and writing text",
    .details =
        "Without MODEL the shapes are those of SmolLM2-135M, and decode is left out. With --json "
        "each group\nis an object of name: value, and name_share: the share of the peak where "
        "there is one.\n\n"
        "Examples:\n"
        "  eqat bench\n"
        "  eqat bench models/smollm2-135m-instruct.gguf --only step --json\n"
        "  eqat bench out/small/model.gguf --only decode --prompt 2048 --texts 4\n",
    .options = options,
    .size = sizeof(bench_args),
    .defaults = defaults,
    .writes_tokens = true,
    .run = run,
    .model_optional = true};
