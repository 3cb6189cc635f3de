/* eq_finetune: the end-to-end phase on a quantized model. */
#include "eqat_internal.h"

#include "train/output.h"
#include "train/tune.h"

eq_tune_options eq_tune_defaults(int bits, eq_preset preset)
{
    double scale_lr = bits == 2 ? 1e-3 : bits == 3 ? 2e-4 : 1e-4;
    eq_tune_options o = {.epochs = 3,
                         .train = EQ_TRAIN_NORMS,
                         .kl = 1,
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
    o.epochs = 1;
    o.train = EQ_TRAIN_SCALES;
    o.kl = 0;
    o.ce = 1;
    o.batch = 32;
    o.scale_lr = bits == 2 ? 2e-5 : 1e-5;
    o.clip = 0.3;
    return o;
}

eq_status eq_tune_check(eq_ctx *ctx, const eq_tune_options *o)
{
    if (!o->epochs) return EQ_OK;
    bool sizes = o->epochs > 0 && o->batch >= 1 && o->teacher_top >= 0;
    bool rates = o->scale_lr >= 0 && o->norm_lr >= 0 && o->weight_lr >= 0 && o->clip >= 0;
    if (!sizes || !rates || !(o->min_lr_factor >= 1 || o->min_lr_factor == 0))
        return eq_fail(ctx, EQ_EINVAL,
                       "end to end: batch must be at least 1, rates and clip not negative, "
                       "min-lr-factor 0 or at least 1");
    double used = o->scale_lr + (o->train != EQ_TRAIN_SCALES ? o->norm_lr : 0) +
                  (o->train == EQ_TRAIN_ALL ? o->weight_lr : 0);
    if (!(used > 0))
        return eq_fail(ctx, EQ_EINVAL, "end to end: all rates are 0: nothing would be trained");
    bool adam = o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->epsilon >= 0;
    if (!adam || !(o->weight_decay >= 0) || !(o->save_minutes >= 0))
        return eq_fail(ctx, EQ_EINVAL,
                       "end to end: betas must be from 0 to below 1, epsilon, weight decay and "
                       "save-minutes not negative");
    if (!(o->warmup >= 0 && o->warmup < 1) || !(o->temperature > 0))
        return eq_fail(ctx, EQ_EINVAL,
                       "end to end: warmup must be from 0 to below 1, temperature above 0");
    if (!(o->kl >= 0 && o->ce >= 0 && o->kl + o->ce > 0))
        return eq_fail(ctx, EQ_EINVAL,
                       "end to end: the weights of the losses must not be negative, nor both 0");
    return EQ_OK;
}

json_t *eq_tune_describe(const eq_tune_options *o)
{
    if (!o->epochs) return json_pack("{s:i}", "epochs", 0);
    static const char *const WHAT[] = {"scales", "norms", "all"};
    return json_pack("{s:i, s:s, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
                     "s:f, s:I}",
                     "epochs", o->epochs, "train", WHAT[o->train], "kl", o->kl, "ce", o->ce,
                     "temperature", o->temperature, "batch", (json_int_t)o->batch, "scale_lr",
                     o->scale_lr, "norm_lr", o->norm_lr, "weight_lr", o->weight_lr, "warmup",
                     o->warmup, "min_lr_factor", o->min_lr_factor, "clip", o->clip, "beta1",
                     o->beta1, "beta2", o->beta2, "epsilon", o->epsilon, "weight_decay",
                     o->weight_decay, "teacher_top", (json_int_t)o->teacher_top);
}

/* One call of eq_finetune. */
typedef struct call {
    const eq_finetune_options *options;
    eq_model *model, *reference; /* owned */
    eq_data data;                /* owned */
    eq_run run;                  /* owned */
    float *norm;                 /* owned, [C] */
    eq_quantize_options scheme;  /* bits and group, for the output */
    eq_quantize_job output;
    eq_tune_job job;
    eq_quantize_result *result; /* borrowed */
} call;

static eq_status stored_block(eq_ctx *ctx, void *self, int64_t i, const eq_block **block)
{
    const eq_decoder *d = self;
    if (i < 0) return EQ_OK;
    if (i > 0) eq_decoder_release_block(d, i - 1);
    *block = &d->blocks[i].block;
    return eq_check_interrupt(ctx);
}

/* Format 1 adds one to a stored zero point, which may then be beyond the codes. */
static eq_status check_zeros(eq_ctx *ctx, const eq_decoder *d, int64_t block, const eq_qmatrix *q)
{
    int64_t groups = q->K / q->g;
    float *grid = q->zero_offset ? eq_alloc(ctx, 2 * groups, sizeof *grid) : NULL;
    eq_status st = grid || !q->zero_offset ? EQ_OK : EQ_ENOMEM;
    for (int64_t row = 0; st == EQ_OK && grid && row < q->N; row++) {
        eq_qmatrix_grid(grid, grid + groups, q, row);
        for (int64_t k = 0; st == EQ_OK && k < groups; k++)
            if (grid[groups + k] > (float)((1 << q->bits) - 1))
                st = eq_fail(ctx, EQ_EFORMAT,
                             "%s: block %lld: a zero point is %g, the largest code is %d",
                             eq_checkpoint_path(d->checkpoint), (long long)block,
                             (double)grid[groups + k], (1 << q->bits) - 1);
    }
    eq_free(grid);
    return st;
}

/* The tensors of an embedding and a head go to the output as they are. */
static eq_status check_ends(eq_ctx *ctx, const eq_decoder *d)
{
    const eq_stored *ends[EQ_ENDS] = {&d->embedding_stored, &d->head_stored};
    for (int i = 0; i < EQ_ENDS; i++)
        if (ends[i]->parts[0].packed && ends[i]->parts[0].matrix.zero_offset)
            return eq_fail(ctx, EQ_EINVAL, "%s: %s in version 1 of the GPTQ format is not written",
                           eq_checkpoint_path(d->checkpoint), eq_end_names[i]);
    return EQ_OK;
}

/* All linears packed, with the same bits and groups. */
static eq_status check_packed(eq_ctx *ctx, const eq_decoder *d)
{
    const char *path = eq_checkpoint_path(d->checkpoint);
    if (d->bits == 16)
        return eq_fail(ctx, EQ_EINVAL, "%s: is not quantized; eqat quantize comes first", path);
    for (int64_t i = 0; i < d->config.L * EQ_UNITS; i++) {
        const eq_stored *s = &d->blocks[i / EQ_UNITS].stored[i % EQ_UNITS];
        for (int p = 0; p < s->count; p++) {
            const eq_qmatrix *q = &s->parts[p].matrix;
            if (!s->parts[p].packed || q->bits != d->bits ||
                q->g != (d->group == -1 ? q->K : d->group))
                return eq_fail(ctx, EQ_EFORMAT,
                               "%s: block %lld: linears of different bits or groups are not "
                               "trained",
                               path, (long long)(i / EQ_UNITS));
            eq_status st = check_zeros(ctx, d, i / EQ_UNITS, q);
            if (st != EQ_OK) return st;
        }
    }
    return check_ends(ctx, d);
}

static eq_status check_options(eq_ctx *ctx, const eq_finetune_options *o, bool reference)
{
    if (o->tune.epochs < 1 || o->data.samples < 1 || o->data.val_samples < 0 || o->data.seqlen < 2)
        return eq_fail(ctx, EQ_EINVAL, "tune-epochs and samples must be at least 1, seqlen 2");
    eq_status st = eq_tune_check(ctx, &o->tune);
    if (st != EQ_OK) return st;
    if (o->tune.kl > 0 && !reference)
        return eq_fail(ctx, EQ_EINVAL,
                       "a divergence needs the full-precision model: --reference MODEL, or --kl 0 "
                       "--ce 1");
    if (!o->data.calib)
        return eq_fail(ctx, EQ_EINVAL, "calibration data is needed: --calib FILE, or --calib self");
    return EQ_OK;
}

static eq_status open_models(eq_ctx *ctx, call *c, const char *model, const char *reference)
{
    eq_status st = eq_model_open(ctx, &c->model, model);
    if (st == EQ_OK) st = check_packed(ctx, c->model->decoder);
    if (st == EQ_OK && reference) st = eq_model_open(ctx, &c->reference, reference);
    if (st != EQ_OK || !reference) return st;
    const eq_config *a = &c->model->decoder->config, *b = &c->reference->decoder->config;
    if (a->V != b->V || a->C != b->C || a->L != b->L || a->F != b->F || a->H != b->H ||
        a->Hkv != b->Hkv || a->D != b->D)
        return eq_fail(ctx, EQ_EINVAL, "%s: has another shape than %s", reference, model);
    return EQ_OK;
}

static eq_status load_data(eq_ctx *ctx, call *c)
{
    const eq_finetune_options *o = c->options;
    const eq_model *source = c->reference ? c->reference : c->model;
    const eq_data_job job = {.options = &o->data,
                             .decoder = source->decoder,
                             .tokenizer = c->model->tokenizer,
                             .samples = o->data.samples,
                             .val_samples = o->data.val_samples,
                             .seed = o->run.seed,
                             .type = c->job.type,
                             .folder = c->run.folder};
    return eq_data_load(ctx, &job, &c->data);
}

static json_t *describe_run(const eq_ctx *ctx, const call *c, const char *model)
{
    const eq_finetune_options *o = c->options;
    const eq_model *reference = c->reference;
    json_t *options =
        json_pack("{s:I, s:I, s:I, s:I, s:s, s:s}", "samples", (json_int_t)o->data.samples,
                  "val_samples", (json_int_t)o->data.val_samples, "seqlen",
                  (json_int_t)o->data.seqlen, "seed", (json_int_t)o->run.seed, "order",
                  eq_order_name(o->data.order), "precision", eq_dtype_get(c->job.type)->name);
    json_t *inputs = json_object();
    json_object_set_new(inputs, "model",
                        eq_hash_text(eq_checkpoint_fingerprint(c->model->checkpoint)));
    if (reference)
        json_object_set_new(inputs, "reference",
                            eq_hash_text(eq_checkpoint_fingerprint(reference->checkpoint)));
    json_object_set_new(inputs, "data", eq_hash_text(eq_data_hash(&c->data)));
    json_t *info = json_pack("{s:s, s:s, s:s, s:s}", "eqat", EQAT_VERSION, "model", model, "calib",
                             o->data.calib, "kernels", eq_ctx_isa(ctx));
    return json_pack("{s:o, s:o, s:o, s:o}", "info", info, "inputs", inputs, "options", options,
                     "end-to-end", eq_tune_describe(&o->tune));
}

/* The grid that the model's own configuration names for a linear. */
static eq_grid grid_of(const eq_checkpoint *checkpoint, const char *name)
{
    return eq_checkpoint_symmetric(checkpoint, name) ? EQ_GRID_SYMMETRIC : EQ_GRID_ASYMMETRIC;
}

static eq_scheme end_scheme(const eq_decoder *d, const eq_stored *stored, int which)
{
    return (eq_scheme){eq_stored_bits(stored), stored->parts[0].matrix.g,
                       grid_of(d->checkpoint, eq_end_names[which])};
}

static void make_jobs(call *c)
{
    const eq_decoder *d = c->model->decoder;
    const eq_finetune_options *o = c->options;
    c->scheme = (eq_quantize_options){
        .bits = d->bits, .group = d->group, .grid = grid_of(d->checkpoint, "")};
    c->job.base = d;
    c->job.teacher = c->reference ? c->reference->decoder : NULL;
    c->job.options = &o->tune;
    c->job.scheme = eq_scheme_of(&c->scheme);
    c->job.T = o->data.seqlen;
    c->job.run = &c->run;
    c->job.block = stored_block;
    c->job.self = c->model->decoder;
    c->job.train = (eq_tune_windows){c->data.train, c->data.train_counts, o->data.samples};
    c->job.val = (eq_tune_windows){c->data.val, c->data.val_counts, o->data.val_samples};
    c->output = (eq_quantize_job){.teacher = d,
                                  .model = d,
                                  .options = &c->scheme,
                                  .run = &c->run,
                                  .ends = {end_scheme(d, &d->embedding_stored, EQ_EMBEDDING),
                                           end_scheme(d, &d->head_stored, EQ_HEAD)}};
}

/* The folder is entered before anything is made in it, but after files that may be wrong. */
static eq_status open_run(eq_ctx *ctx, call *c, const char *model, const char *out)
{
    bool early = eq_data_is_made(&c->options->data);
    eq_status st = early ? eq_run_enter(ctx, &c->run, out) : EQ_OK;
    if (st == EQ_OK) st = load_data(ctx, c);
    if (st == EQ_OK && !early) st = eq_run_enter(ctx, &c->run, out);
    if (st != EQ_OK) return st;
    make_jobs(c);
    eq_output_clean(ctx, &c->output);
    json_t *plan = describe_run(ctx, c, model);
    if (!plan) return eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", out);
    return eq_run_open(ctx, &c->run, plan);
}

static eq_status write_card(eq_ctx *ctx, call *c, const char *model, const char *out)
{
    const eq_card card = {.out = out,
                          .model =
                              c->reference ? eq_checkpoint_path(c->reference->checkpoint) : model,
                          .plan = c->run.plan,
                          .reference = c->job.teacher,
                          .val = c->data.val,
                          .windows = c->data.val_windows,
                          .T = c->options->data.seqlen,
                          .type = c->job.type,
                          .result = c->result};
    return eq_card_write(ctx, &card);
}

static eq_status fill_result(eq_ctx *ctx, call *c)
{
    c->result->embed_bits = c->output.ends[EQ_EMBEDDING].bits;
    c->result->head_bits = c->output.ends[EQ_HEAD].bits;
    c->result->bits = c->scheme.bits;
    c->result->group = c->scheme.group;
    c->result->bits_per_weight =
        eq_output_bits_per_weight(&c->model->decoder->config, &c->job.scheme);
    return eq_output_bytes(ctx, &c->output, &c->result->bytes);
}

static eq_status train_and_write(eq_ctx *ctx, call *c, const char *model, const char *out)
{
    const eq_decoder *d = c->model->decoder;
    c->norm = eq_alloc(ctx, d->config.C, sizeof *c->norm);
    eq_status st = c->norm ? eq_tune(ctx, &c->job, c->norm) : EQ_ENOMEM;
    if (c->options->tune.train != EQ_TRAIN_SCALES) c->output.final_norm = c->norm;
    if (st == EQ_OK) st = eq_tokenizer_files(ctx, d->checkpoint, c->model->tokenizer, out);
    if (st == EQ_OK) st = eq_output_model(ctx, &c->output);
    if (st == EQ_OK) st = write_card(ctx, c, model, out);
    if (st == EQ_OK) st = eq_run_finish(ctx, &c->run);
    if (st == EQ_OK) eq_output_finish(ctx, &c->output);
    return st;
}

static eq_status run(eq_ctx *ctx, call *c, const char *model, const char *reference,
                     const char *out)
{
    const eq_run_options *r = &c->options->run;
    eq_status st = check_options(ctx, c->options, reference != NULL);
    if (st == EQ_OK) st = open_models(ctx, c, model, reference);
    if (st == EQ_OK) st = eq_precision_type(ctx, &c->job.type, r->precision);
    if (st == EQ_OK) make_jobs(c);
    if (st == EQ_OK) st = eq_tune_plan(ctx, &c->job, r->memory ? r->memory : eq_available_memory());
    if (st == EQ_OK) st = open_run(ctx, c, model, out);
    if (st == EQ_OK) st = fill_result(ctx, c);
    if (st != EQ_OK) return st;
    if (!c->run.finished) return train_and_write(ctx, c, model, out);
    eq_output_finish(ctx, &c->output);
    eq_log(ctx, EQ_LOG_INFO, "%s: is finished already", out);
    return EQ_OK;
}

eq_finetune_options eq_finetune_defaults(void)
{
    const eq_quantize_options q = eq_quantize_defaults(EQ_METHOD_BLOCK_AP, 3, EQ_PRESET_DEFAULT);
    eq_finetune_options o = {q.data, q.tune, q.run};
    return o;
}

eq_status eq_finetune(eq_ctx *ctx, const char *model, const char *reference, const char *out,
                      const eq_finetune_options *options, eq_quantize_result *result)
{
    double start = eq_seconds();
    call c = {.options = options, .result = result, .run = {.lock = -1}};
    *result = (eq_quantize_result){0};
    eq_status st = run(ctx, &c, model, reference, out);
    result->seconds = eq_seconds() - start;
    eq_data_deinit(&c.data);
    eq_run_close(&c.run);
    eq_model_close(c.reference);
    eq_model_close(c.model);
    eq_free(c.norm);
    return st;
}
