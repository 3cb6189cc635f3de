/* eq_finetune: the end-to-end phase on a quantized model. */
#include "eqat_internal.h"

#include "tensor/super_block.h"
#include "train/output.h"
#include "train/tune.h"

#include <math.h>

bool eq_adam_fine(double beta1, double beta2, double epsilon, double weight_decay)
{
    return beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1 && epsilon > 0 && weight_decay >= 0;
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
    if (!eq_adam_fine(o->beta1, o->beta2, o->epsilon, o->weight_decay) || !(o->save_minutes >= 0))
        return eq_fail(
            ctx, EQ_EINVAL,
            "end to end: betas must be from 0 to below 1, epsilon above 0, weight decay and "
            "save-minutes not negative");
    if (!(o->warmup >= 0 && o->warmup < 1) || !(o->temperature > 0))
        return eq_fail(ctx, EQ_EINVAL,
                       "end to end: warmup must be from 0 to below 1, temperature above 0");
    if (!(o->kl >= 0 && o->ce >= 0 && o->kl + o->ce > 0))
        return eq_fail(ctx, EQ_EINVAL,
                       "end to end: the weights of the losses must not be negative, nor both 0");
    if (o->kl == 0 && (o->teacher_top || o->temperature != 1))
        return eq_fail(
            ctx, EQ_EINVAL,
            "end to end: teacher-top and temperature are of the divergence, whose weight "
            "is 0");
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
    const eq_finetune_options *asked;
    eq_finetune_options own; /* the same with rates, and as many windows as there are */
    const eq_finetune_options *options;
    eq_model *model, *reference; /* owned */
    eq_data data;                /* owned */
    eq_run run;                  /* owned */
    float *norm;                 /* owned, [C] */
    eq_quantize_options scheme;  /* bits and group, for the output */
    eq_block_scheme *schemes;    /* owned, [L] */
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

/* The packed tensors of an embedding and a head go to the output as they are. */
static eq_status check_ends(eq_ctx *ctx, const eq_decoder *d)
{
    const eq_stored *ends[EQ_ENDS] = {&d->embedding_stored, &d->head_stored};
    for (int i = 0; i < EQ_ENDS; i++) {
        const eq_qmatrix *q = &ends[i]->parts[0].matrix;
        bool written = d->packing.kind == EQ_PACKING_GPTQ_V2 && q->scale_type == EQ_F16 &&
                       !q->order && eq_qmatrix_fits(q->N, q->K, q->bits);
        if (ends[i]->parts[0].packed && !written)
            return eq_fail(ctx, EQ_EINVAL,
                           "%s: %s is not in version 2 of the GPTQ format with F16 scales, in "
                           "which it would be written",
                           eq_checkpoint_path(d->checkpoint), eq_end_names[i]);
    }
    return EQ_OK;
}

/* The type of a part's super-blocks; EQ_F32 when it has none. */
static eq_dtype super_type(const eq_stored_part *part)
{
    const eq_dtype type = part->packed ? EQ_F32 : part->tensor.type;
    for (int i = 0; i < EQ_SUPER_TYPES; i++)
        if (type == eq_super_types[i]) return type;
    return EQ_F32;
}

/* Scales of 0 leave nothing to train, and no zero point. */
static eq_status check_super(eq_ctx *ctx, const eq_decoder *d, const eq_stored_part *part,
                             int64_t block)
{
    const eq_tensor *t = &part->tensor;
    const int64_t each = eq_dtype_get(t->type)->block_bytes;
    const int64_t count = part->rows * t->shape[1] / EQ_SUPER_BLOCK;
    const int groups = eq_super_groups(t->type);
    for (int64_t i = 0; i < count; i++) {
        eq_ggml_block b = {0};
        eq_ggml_block_read(&b, (const uint8_t *)t->data + i * each, t->type);
        for (int g = 0; g < groups; g++)
            if (b.s[g] == 0 || !isfinite(b.s[g]) || !isfinite(b.m[g]))
                return eq_fail(ctx, EQ_EFORMAT,
                               "%s: block %lld: a scale in the super-blocks of a linear is 0 or "
                               "not finite, which is not trained",
                               eq_checkpoint_path(d->checkpoint), (long long)block);
    }
    return EQ_OK;
}

/* All linears packed or in super-blocks, those of a unit with the same bits and groups. */
static eq_status check_packed(eq_ctx *ctx, const eq_decoder *d)
{
    const char *path = eq_checkpoint_path(d->checkpoint);
    if (d->bits == 16)
        return eq_fail(ctx, EQ_EINVAL, "%s: is not quantized; eqat quantize comes first", path);
    for (int64_t i = 0; i < d->config.L * EQ_UNITS; i++) {
        const eq_stored *s = &d->blocks[i / EQ_UNITS].stored[i % EQ_UNITS];
        for (int p = 0; p < s->count; p++) {
            const eq_qmatrix *q = &s->parts[p].matrix, *first = &s->parts[0].matrix;
            if (super_type(&s->parts[p]) && super_type(&s->parts[p]) == super_type(&s->parts[0])) {
                eq_status st = check_super(ctx, d, &s->parts[p], i / EQ_UNITS);
                if (st != EQ_OK) return st;
                continue;
            }
            if (q->order)
                return eq_fail(ctx, EQ_EFORMAT,
                               "%s: block %lld: columns in activation order (desc_act) are not "
                               "trained",
                               path, (long long)(i / EQ_UNITS));
            if (!s->parts[p].packed || q->bits != first->bits || q->g != first->g)
                return eq_fail(ctx, EQ_EFORMAT,
                               "%s: block %lld: linears with the same input but different bits or "
                               "groups are not trained",
                               path, (long long)(i / EQ_UNITS));
        }
    }
    return check_ends(ctx, d);
}

/* The data has so many windows. */
static void set_samples(call *c, int64_t samples, int64_t val_samples)
{
    c->own.data.samples = samples;
    c->own.data.val_samples = val_samples;
    c->own.tune.epochs = eq_data_passes(&c->asked->data, c->asked->tune.epochs, samples);
}

static eq_status check_options(eq_ctx *ctx, const eq_finetune_options *o, bool reference)
{
    if (o->tune.epochs < 1 || o->data.samples < 1 || o->data.val_samples < 0 || o->data.seqlen < 2)
        return eq_fail(ctx, EQ_EINVAL, "tune-epochs and samples must be at least 1, seqlen 2");
    if (o->tune.kl > 0 && !reference)
        return eq_fail(ctx, EQ_EINVAL,
                       "a divergence needs the full-precision model: --reference MODEL, or --kl 0 "
                       "--ce 1");
    if (!o->data.calib)
        return eq_fail(ctx, EQ_EINVAL, "calibration data is needed: --calib FILE, or --calib self");
    return EQ_OK;
}

/* Rates that were left open, by the bits of the model. */
static void set_rates(eq_tune_options *o, int bits)
{
    const eq_tune_options d = eq_tune_defaults(bits, EQ_PRESET_DEFAULT);
    if (o->scale_lr < 0) o->scale_lr = d.scale_lr;
    if (o->norm_lr < 0) o->norm_lr = d.norm_lr;
    if (o->weight_lr < 0) o->weight_lr = d.weight_lr;
}

/* Of EfficientQAT's layout these were found, not read. */
static void log_model(eq_ctx *ctx, const eq_decoder *d)
{
    char words[EQ_GROUP_WORDS];
    eq_log(ctx, EQ_LOG_INFO, "plan: %s has %d bits in %s, %s", eq_checkpoint_path(d->checkpoint),
           d->bits, eq_group_words(words, d->group),
           d->packing.format ? d->packing.format->name : "super-blocks");
}

static eq_status open_models(eq_ctx *ctx, call *c, const char *model, const char *reference)
{
    eq_status st = eq_model_open(ctx, &c->model, model);
    if (st == EQ_OK) st = check_packed(ctx, c->model->decoder);
    if (st == EQ_OK && reference) st = eq_model_open(ctx, &c->reference, reference);
    if (st != EQ_OK || !reference) return st;
    const eq_config *a = &c->model->decoder->config, *b = &c->reference->decoder->config;
    if (a->V != b->V || a->C != b->C || a->L != b->L || a->F != b->F || a->H != b->H ||
        a->Hkv != b->Hkv || a->D != b->D || a->theta != b->theta || a->qk_norm != b->qk_norm)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: has another shape, rotary base or norms of heads than %s", reference,
                       model);
    return EQ_OK;
}

static eq_data_job data_job(const call *c)
{
    const eq_finetune_options *o = c->options;
    const eq_model *source = c->reference ? c->reference : c->model;
    const eq_model *words = c->model->tokenizer ? c->model : source;
    return (eq_data_job){.options = &o->data,
                         .decoder = source->decoder,
                         .tokenizer = words->tokenizer,
                         .samples = o->data.samples,
                         .val_samples = o->data.val_samples,
                         .seed = o->run.seed,
                         .type = c->job.type,
                         .memory = o->run.memory,
                         .folder = c->run.folder};
}

/* Everything that the result depends on, and nothing else but "info"; what the options of the data
 * change is in the fingerprint of the windows. It is left out before they are there. */
static json_t *describe_run(const eq_ctx *ctx, const call *c, const char *model)
{
    const eq_finetune_options *o = c->options;
    const eq_model *reference = c->reference;
    json_t *options = json_pack("{s:s}", "precision", eq_dtype_get(c->job.type)->name);
    eq_data_describe(options, &c->asked->data, o->run.seed);
    json_t *inputs = json_object();
    json_object_set_new(inputs, "model",
                        eq_hash_text(eq_checkpoint_fingerprint(c->model->checkpoint)));
    if (reference)
        json_object_set_new(inputs, "reference",
                            eq_hash_text(eq_checkpoint_fingerprint(reference->checkpoint)));
    if (c->data.calib.ids)
        json_object_set_new(inputs, "data", eq_hash_text(eq_data_hash(&c->data)));
    json_t *info = json_pack("{s:s, s:s, s:s}", "eqat", EQAT_VERSION, "model", model, "kernels",
                             eq_ctx_isa(ctx));
    if (reference)
        json_object_set_new(info, "reference",
                            json_string(eq_checkpoint_path(reference->checkpoint)));
    eq_data_inform(info, &o->data, &c->data);
    return json_pack("{s:o, s:o, s:o, s:o}", "info", info, "inputs", inputs, "options", options,
                     "end-to-end", eq_tune_describe(&c->own.tune));
}

static eq_grid grid_of(bool symmetric)
{
    return symmetric ? EQ_GRID_SYMMETRIC : EQ_GRID_ASYMMETRIC;
}

/* Not every layout says so. Scales of either sign go with the zero point in the middle alone. */
static bool is_symmetric(const eq_qmatrix *q)
{
    float z;
    return q->symmetric || (eq_qmatrix_one_zero(q, &z) && z == (float)(1 << (q->bits - 1)));
}

/* The grid of a unit; symmetric if all its parts are. */
static eq_scheme unit_scheme(const eq_stored *s, int64_t group)
{
    const eq_stored_part *first = &s->parts[0];
    eq_scheme scheme = {.grid = EQ_GRID_SYMMETRIC};
    if (super_type(first)) {
        scheme.grid = eq_grid_of_super(first->tensor.type);
        eq_scheme_complete(&scheme);
        return scheme;
    }
    for (int p = 0; p < s->count; p++)
        if (!is_symmetric(&s->parts[p].matrix)) scheme.grid = EQ_GRID_ASYMMETRIC;
    const eq_qmatrix *q = &first->matrix;
    scheme.bits = q->bits;
    scheme.group = group == -1 && q->g == q->K ? -1 : q->g;
    return scheme;
}

/* What an embedding or a head has. */
static eq_scheme end_scheme(const eq_stored *stored)
{
    const eq_qmatrix *q = &stored->parts[0].matrix;
    return (eq_scheme){eq_stored_bits(stored), q->g, grid_of(q->symmetric)};
}

/* What the model says of its linears as a whole: of the packed ones, or all super-blocks. */
static eq_quantize_options whole_scheme(const eq_decoder *d, const eq_block_scheme *schemes)
{
    eq_quantize_options o = {.bits = d->bits, .group = d->group, .grid = EQ_GRID_SYMMETRIC};
    bool packed = false;
    for (int64_t i = 0; i < d->config.L * EQ_UNITS; i++) {
        const eq_scheme *s = &schemes[i / EQ_UNITS].units[i % EQ_UNITS];
        if (eq_scheme_super(s)) continue;
        packed = true;
        if (s->grid == EQ_GRID_ASYMMETRIC) o.grid = EQ_GRID_ASYMMETRIC;
    }
    if (!packed) o.grid = schemes[0].units[0].grid;
    return o;
}

/* The grids that the model has, which the written layout must hold. */
static eq_status make_schemes(eq_ctx *ctx, call *c)
{
    const eq_decoder *d = c->model->decoder;
    c->schemes = eq_alloc(ctx, d->config.L, sizeof *c->schemes);
    for (int64_t i = 0; c->schemes && i < d->config.L * EQ_UNITS; i++)
        c->schemes[i / EQ_UNITS].units[i % EQ_UNITS] =
            unit_scheme(&d->blocks[i / EQ_UNITS].stored[i % EQ_UNITS], d->group);
    if (c->schemes) c->scheme = whole_scheme(d, c->schemes);
    return c->schemes
               ? eq_schemes_check(ctx, c->schemes, &d->config, eq_checkpoint_path(d->checkpoint))
               : EQ_ENOMEM;
}

static void make_jobs(call *c)
{
    const eq_decoder *d = c->model->decoder;
    const eq_finetune_options *o = c->options;
    c->job.base = d;
    c->job.teacher = c->reference ? c->reference->decoder : NULL;
    c->job.options = &c->own.tune;
    c->job.schemes = c->schemes;
    c->job.T = o->data.seqlen;
    c->job.memory = o->run.memory;
    c->job.run = &c->run;
    c->job.block = stored_block;
    c->job.self = c->model->decoder;
    c->job.train = (eq_tune_windows){c->data.train, c->data.train_counts, o->data.samples};
    c->job.val = (eq_tune_windows){c->data.val, c->data.val_counts, o->data.val_samples};
    c->output =
        (eq_quantize_job){.teacher = d,
                          .model = d,
                          .options = &c->scheme,
                          .schemes = c->schemes,
                          .run = &c->run,
                          .ends = {end_scheme(&d->embedding_stored), end_scheme(&d->head_stored)}};
}

/* The folder is entered before windows are made for it, but after files that may be wrong. Nothing
 * is written or removed before its plan agrees. */
static eq_status open_run(eq_ctx *ctx, call *c, const char *model, const char *out)
{
    bool early = eq_data_is_made(&c->options->data);
    eq_status st = early ? eq_run_enter(ctx, &c->run, out) : EQ_OK;
    if (st == EQ_OK && early) st = eq_run_check(ctx, &c->run, describe_run(ctx, c, model));
    eq_data_job job = data_job(c);
    if (st == EQ_OK) st = eq_data_load(ctx, &job, &c->data);
    if (st == EQ_OK) set_samples(c, c->data.train_windows, c->data.val_windows);
    if (st == EQ_OK && !early) st = eq_run_enter(ctx, &c->run, out);
    if (st != EQ_OK) return st;
    make_jobs(c);
    st = eq_run_open(ctx, &c->run, describe_run(ctx, c, model));
    if (st != EQ_OK) return st;
    st = early ? eq_data_keep(ctx, &job, &c->data) : EQ_OK;
    if (st == EQ_OK) eq_output_clean(ctx, &c->output);
    return st;
}

static eq_status write_card(eq_ctx *ctx, call *c, const char *model, const char *out)
{
    const eq_eval_windows val = {.ids = c->data.val,
                                 .counts = c->data.val_counts,
                                 .n = c->data.val_windows,
                                 .T = c->options->data.seqlen};
    const eq_card card = {.out = out,
                          .model =
                              c->reference ? eq_checkpoint_path(c->reference->checkpoint) : model,
                          .plan = c->run.plan,
                          .reference = c->job.teacher,
                          .val = val,
                          .type = c->job.type,
                          .result = c->result,
                          .super = eq_schemes_have_super(c->schemes, c->model->decoder->config.L)};
    return eq_card_write(ctx, &card);
}

static eq_status fill_result(eq_ctx *ctx, call *c)
{
    c->result->embed_bits = c->output.ends[EQ_EMBEDDING].bits;
    c->result->head_bits = c->output.ends[EQ_HEAD].bits;
    c->result->bits = c->scheme.bits;
    c->result->group = c->scheme.group;
    c->result->mixed = c->model->decoder->mixed;
    c->norm = eq_alloc(ctx, c->model->decoder->config.C, sizeof *c->norm);
    if (!c->norm) return EQ_ENOMEM;
    if (c->own.tune.train != EQ_TRAIN_SCALES) c->output.final_norm = c->norm;
    c->result->bits_per_weight = eq_output_bits_per_weight(&c->model->decoder->config, c->schemes);
    return eq_output_bytes(ctx, &c->output, &c->result->bytes);
}

static eq_status train_and_write(eq_ctx *ctx, call *c, const char *model, const char *out)
{
    const eq_decoder *d = c->model->decoder;
    eq_status st = eq_tune(ctx, &c->job, c->norm);
    if (st == EQ_OK) st = eq_tokenizer_files(ctx, d->checkpoint, c->model->tokenizer, out);
    if (st == EQ_OK) st = eq_output_model(ctx, &c->output);
    if (st == EQ_OK) st = write_card(ctx, c, model, out);
    if (st == EQ_OK) st = eq_run_finish(ctx, &c->run);
    if (st == EQ_OK) eq_output_finish(ctx, &c->output);
    return st;
}

static eq_status plan_card(eq_ctx *ctx, const call *c, int64_t limit)
{
    const eq_data_options *d = &c->options->data;
    return eq_card_plan(ctx, c->job.base, c->job.teacher != NULL, d->seqlen, c->job.type,
                        eq_windows_bytes(d->samples + d->val_samples, d->seqlen), limit);
}

static eq_status run(eq_ctx *ctx, call *c, const char *model, const char *reference,
                     const char *out)
{
    const eq_run_options *r = &c->options->run;
    eq_status st = check_options(ctx, c->options, reference != NULL);
    if (st == EQ_OK) st = open_models(ctx, c, model, reference);
    if (st == EQ_OK) set_rates(&c->own.tune, c->model->decoder->bits);
    if (st == EQ_OK) st = eq_tune_check(ctx, &c->own.tune);
    if (st == EQ_OK) st = eq_precision_type(ctx, &c->job.type, r->precision);
    if (st == EQ_OK) st = make_schemes(ctx, c);
    if (st == EQ_OK) make_jobs(c);
    if (st == EQ_OK) log_model(ctx, c->model->decoder);
    int64_t limit = eq_memory_limit(r->memory);
    if (st == EQ_OK) st = eq_tune_plan(ctx, &c->job, limit);
    if (st == EQ_OK && c->options->data.val_samples) st = plan_card(ctx, c, limit);
    if (st == EQ_OK) st = open_run(ctx, c, model, out);
    if (st == EQ_OK) st = fill_result(ctx, c);
    if (st != EQ_OK) return st;
    if (!c->run.finished) return train_and_write(ctx, c, model, out);
    eq_output_finish(ctx, &c->output);
    eq_log(ctx, EQ_LOG_INFO, "%s: is finished already", out);
    return EQ_OK;
}

eq_status eq_finetune(eq_ctx *ctx, const char *model, const char *reference, const char *out,
                      const eq_finetune_options *options, eq_quantize_result *result)
{
    double start = eq_seconds();
    call c = {.asked = options, .own = *options, .result = result, .run = {.lock = -1}};
    c.options = &c.own;
    *result = (eq_quantize_result){0};
    if (options->data.samples > 0)
        set_samples(&c, options->data.samples, options->data.val_samples);
    eq_status st = run(ctx, &c, model, reference, out);
    result->seconds = eq_seconds() - start;
    eq_data_deinit(&c.data);
    eq_run_close(&c.run);
    eq_model_close(c.reference);
    eq_model_close(c.model);
    eq_free(c.norm);
    eq_free(c.schemes);
    return st;
}
