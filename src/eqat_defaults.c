/* Defaults of all options: what docs/results.md found to be best. */
#include "eqat_internal.h"

#include "quant/scheme.h"

eq_tune_options eq_tune_defaults(int bits, eq_preset preset)
{
    double scale_lr = bits == 2 ? 1e-3 : bits == 3 ? 2e-4 : 1e-4;
    eq_tune_options o = {.epochs = preset == EQ_PRESET_PAPER ? 1 : EQ_EPOCHS_BY_WORK,
                         .train = EQ_TRAIN_NORMS,
                         .kl = 1,
                         .ce = 0.3,
                         .temperature = 1,
                         .batch = 1,
                         .scale_lr = scale_lr,
                         .norm_lr = bits == 2 ? 5e-4 : scale_lr,
                         .weight_lr = 1e-5,
                         .warmup = 0.03,
                         .min_lr_factor = 0,
                         .clip = 1,
                         .beta1 = 0.9,
                         .beta2 = 0.999,
                         .epsilon = 1e-8,
                         .save_minutes = 3};
    if (preset != EQ_PRESET_PAPER) return o;
    o.train = EQ_TRAIN_SCALES;
    o.kl = 0;
    o.ce = 1;
    o.batch = 32;
    o.scale_lr = bits == 2 ? 2e-5 : 1e-5;
    o.clip = 0.3;
    return o;
}

eq_example_options eq_example_defaults(void)
{
    return (eq_example_options){.source_max = 384, .target_max = 128};
}

/* Blocks learn as much from the same windows again as from new ones, the whole model does not
 * (docs/results.md). */
static void set_effort(eq_quantize_options *o, eq_preset preset)
{
    static const struct {
        int64_t samples, block_samples;
        int epochs;
    } EFFORTS[] = {[EQ_PRESET_DEFAULT] = {768, 256, 3},
                   [EQ_PRESET_FAST] = {128, 64, 3},
                   [EQ_PRESET_BEST] = {1600, 640, 3},
                   [EQ_PRESET_PAPER] = {4096, 4096, 2}};
    bool rounds = o->method == EQ_METHOD_RTN || o->bits == 8; /* 8 bits are as good as full */
    o->data.samples = o->data.work = EFFORTS[preset].samples;
    o->train.samples = EFFORTS[preset].block_samples;
    o->train.epochs = EFFORTS[preset].epochs;
    if (rounds) o->tune.epochs = 0;
}

eq_quantize_options eq_quantize_defaults(eq_method method, int bits, eq_preset preset)
{
    bool paper = preset == EQ_PRESET_PAPER;
    eq_quantize_options o = {
        .method = method,
        .bits = bits,
        .group = 64,
        /* at 2 bits as good when trained (docs/results.md), and more file formats hold it */
        .grid = bits == 2 && method == EQ_METHOD_BLOCK_AP && !paper ? EQ_GRID_SYMMETRIC
                                                                    : EQ_GRID_ASYMMETRIC,
        .data = {.calib = "self",
                 .val_samples = 8,
                 .seqlen = 1024,
                 .examples = eq_example_defaults()},
        .train = {.start = EQ_START_WEIGHTED,
                  .start_windows = 16,
                  .loss = EQ_LOSS_BOUNDED,
                  .edges = EQ_EDGES_INSIDE,
                  .batch = paper ? 2 : 1,
                  .quant_lr = 5e-4,
                  .weight_lr = bits == 2   ? 2e-3
                               : bits == 3 ? 1e-3
                                           : 5e-4,
                  .min_lr_factor = paper ? 20 : 1000,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .epsilon = 1e-8},
        .tune = eq_tune_defaults(bits, preset),
        .run = {.precision = EQ_PRECISION_AUTO},
    };
    set_effort(&o, preset);
    if (!paper) return o;
    o.data.calib = NULL;
    o.data.val_samples = 64;
    o.data.seqlen = 2048;
    o.data.order = EQ_ORDER_RANDOM_DOC;
    o.train.start = EQ_START_MINMAX;
    o.train.exact_scales = true;
    o.train.loss = EQ_LOSS_MSE;
    o.train.schedule = EQ_SCHEDULE_COSINE;
    o.train.quant_lr = 1e-4;
    o.train.weight_lr = bits == 2 ? 2e-5 : 1e-5;
    o.run.seed = 2;
    return o;
}

int eq_grid_bits(eq_grid grid)
{
    eq_scheme scheme = {.grid = grid};
    eq_scheme_complete(&scheme);
    return scheme.bits;
}

void eq_quantize_on_grid(eq_quantize_options *o, eq_grid grid)
{
    eq_scheme scheme = {o->bits, o->group, grid};
    eq_scheme_complete(&scheme);
    o->bits = scheme.bits;
    o->group = scheme.group;
    o->grid = grid;
}

void eq_quantize_for_gguf(eq_quantize_options *o)
{
    o->group = o->bits == 2 ? 64 : 32;
    eq_quantize_on_grid(o, o->bits == 3 ? EQ_GRID_Q3_K : EQ_GRID_SYMMETRIC);
    o->gguf = true;
}

eq_finetune_options eq_finetune_defaults(void)
{
    const eq_quantize_options q = eq_quantize_defaults(EQ_METHOD_BLOCK_AP, 3, EQ_PRESET_DEFAULT);
    eq_finetune_options o = {q.data, q.tune, q.run};
    o.tune.scale_lr = o.tune.norm_lr = o.tune.weight_lr = EQ_RATE_BY_BITS;
    return o;
}
