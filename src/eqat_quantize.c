/* eq_quantize: options, data, run folder, blocks, output. */
#include "eqat_internal.h"

#include "train/block_file.h"
#include "train/output.h"
#include "train/tune.h"

eq_quantize_options eq_quantize_defaults(eq_method method, int bits, eq_preset preset)
{
    bool paper = preset == EQ_PRESET_PAPER;
    eq_quantize_options o = {
        .method = method,
        .bits = bits,
        .group = 64,
        .data = {.calib = "self",
                 .samples = 64,
                 .val_samples = 8,
                 .seqlen = 1024,
                 .source_max = 384,
                 .target_max = 128},
        .train = {.start = EQ_START_WEIGHTED,
                  .start_windows = 16,
                  .loss = EQ_LOSS_BOUNDED,
                  .edges = EQ_EDGES_INSIDE,
                  .epochs = 3,
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
    if (method == EQ_METHOD_RTN || bits == 8) o.tune.epochs = 0; /* 8 bits are as good as full */
    if (!paper) return o;
    o.data.calib = NULL;
    o.data.samples = 4096;
    o.data.val_samples = 64;
    o.data.seqlen = 2048;
    o.data.order = EQ_ORDER_RANDOM_DOC;
    o.train.start = EQ_START_MINMAX;
    o.train.exact_scales = true;
    o.train.loss = EQ_LOSS_MSE;
    o.train.epochs = 2;
    o.train.schedule = EQ_SCHEDULE_COSINE;
    o.train.quant_lr = 1e-4;
    o.train.weight_lr = bits == 2 ? 2e-5 : 1e-5;
    o.run.seed = 2;
    return o;
}

/* One call of eq_quantize. */
typedef struct call {
    const eq_quantize_options *options;
    eq_checkpoint *checkpoint;
    eq_decoder *decoder;
    eq_tokenizer *tokenizer;
    eq_data data;
    eq_run run;
    eq_ends ends; /* owned */
    float *norm;  /* owned, [C]; the final norm as the end-to-end phase leaves it, or NULL */
    eq_quantize_job job;
} call;

static bool needs_data(const eq_quantize_options *o)
{
    return eq_quantize_needs_data(o) || o->tune.epochs > 0;
}

static eq_status check_range(eq_ctx *ctx, bool fine, const char *what)
{
    return fine ? EQ_OK : eq_fail(ctx, EQ_EINVAL, "%s", what);
}

static bool is_end_bits(int bits)
{
    return bits == 0 || bits == 16 || bits == 8 || bits == 4;
}

static eq_status check_options(eq_ctx *ctx, const eq_quantize_options *o)
{
    const eq_data_options *d = &o->data;
    const eq_train_options *t = &o->train;
    eq_status st =
        check_range(ctx, d->samples >= 1 && d->val_samples >= 0, "samples must be at least 1");
    if (st == EQ_OK)
        st = check_range(ctx, d->seqlen >= 2 && d->seqlen <= 1 << 20,
                         "seqlen must be from 2 to 1048576");
    if (st == EQ_OK)
        st = check_range(ctx, t->epochs >= 0 && t->batch >= 1 && t->start_windows >= 1,
                         "epochs, batch and start-windows must be positive");
    if (st == EQ_OK)
        st = check_range(ctx, t->quant_lr >= 0 && t->weight_lr >= 0 && t->min_lr_factor >= 1,
                         "learning rates must not be negative, min-lr-factor not below 1");
    if (st == EQ_OK)
        st = check_range(ctx,
                         o->method == EQ_METHOD_RTN || !t->epochs || t->quant_lr + t->weight_lr > 0,
                         "both learning rates are 0: nothing would be trained");
    if (st == EQ_OK)
        st = check_range(ctx, is_end_bits(o->embed_bits) && is_end_bits(o->head_bits),
                         "embed-bits and head-bits must be 16, 8 or 4");
    if (st == EQ_OK) st = eq_tune_check(ctx, &o->tune);
    if (st == EQ_OK)
        st = check_range(ctx, !needs_data(o) || d->calib,
                         "calibration data is needed: --calib FILE, or --calib self");
    return st;
}

/* Bits of the embedding and the head of this model. */
static eq_status choose_ends(eq_ctx *ctx, call *c)
{
    const eq_config *config = &c->decoder->config;
    int embedding = c->options->embed_bits, head = c->options->head_bits;
    if (config->tied && embedding && head && embedding != head)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: embedding and head are one tensor: --embed-bits %d and --head-bits %d "
                       "contradict each other",
                       eq_checkpoint_path(c->checkpoint), embedding, head);
    if (config->tied && !embedding) embedding = head;
    if (config->tied && !head) head = embedding;
    c->job.ends[EQ_EMBEDDING] = eq_end_scheme(embedding ? embedding : 16);
    c->job.ends[EQ_HEAD] = eq_end_scheme(head ? head : 16);
    return eq_ends_check(ctx, config, c->job.ends);
}

static eq_status check_linears(eq_ctx *ctx, const call *c)
{
    const eq_scheme scheme = eq_scheme_of(c->options);
    const eq_config *config = &c->decoder->config;
    int bits = c->decoder->bits;
    if (bits == 16) bits = eq_stored_bits(&c->decoder->embedding_stored);
    if (bits == 16) bits = eq_stored_bits(&c->decoder->head_stored);
    if (bits != 16)
        return eq_fail(ctx, EQ_EFORMAT, "%s: is quantized to %d bits already",
                       eq_checkpoint_path(c->checkpoint), bits);
    for (int u = 0; u < EQ_UNITS; u++) {
        eq_part parts[EQ_MAX_PARTS];
        int count = eq_unit_parts(config, (eq_unit)u, parts);
        int64_t K = eq_unit_columns(config, (eq_unit)u);
        for (int p = 0; p < count; p++) {
            eq_status st = eq_scheme_check(ctx, &scheme, parts[p].name, K);
            if (st != EQ_OK) return st;
            if (!eq_qmatrix_fits(parts[p].rows, K, scheme.bits))
                return eq_fail(ctx, EQ_EINVAL,
                               "%s: [%lld, %lld] at %d bits does not fill whole words of the GPTQ "
                               "layout",
                               parts[p].name, (long long)parts[p].rows, (long long)K, scheme.bits);
        }
    }
    return EQ_OK;
}

static eq_status open_model(eq_ctx *ctx, call *c, const char *path)
{
    eq_status st = eq_checkpoint_open(ctx, &c->checkpoint, path);
    if (st == EQ_OK) st = eq_decoder_open(ctx, &c->decoder, c->checkpoint);
    if (st == EQ_OK) st = check_linears(ctx, c);
    if (st == EQ_OK) st = choose_ends(ctx, c);
    return st == EQ_OK ? eq_checkpoint_tokenizer(ctx, &c->tokenizer, c->checkpoint) : st;
}

/* ---- data ---------------------------------------------------------------------------------- */

static eq_status load_data(eq_ctx *ctx, call *c)
{
    const eq_quantize_options *o = c->options;
    bool trains = o->method != EQ_METHOD_RTN || o->tune.epochs > 0;
    const eq_data_job job = {.options = &o->data,
                             .decoder = c->decoder,
                             .tokenizer = c->tokenizer,
                             .samples = trains ? o->data.samples : eq_quantize_samples(o),
                             .val_samples = trains ? o->data.val_samples : 0,
                             .seed = o->run.seed,
                             .type = c->job.type,
                             .folder = c->run.folder};
    eq_status st = eq_data_load(ctx, &job, &c->data);
    c->job.train = c->data.train;
    c->job.val = c->data.val;
    return st;
}

/* ---- plan ---------------------------------------------------------------------------------- */

json_t *eq_hash_text(uint64_t hash)
{
    char text[20];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return json_string(text);
}

/* Names of the enumerations of eqat.h, in their order. */
static const char *const METHODS[] = {"rtn", "block-ap"};
static const char *const GRIDS[] = {"asymmetric", "symmetric"};
static const char *const STARTS[] = {"minmax", "mse", "weighted"};
static const char *const LOSSES[] = {"mse", "relative", "bounded"};
static const char *const EDGES[] = {"inside", "clipped"};
static const char *const SCHEDULES[] = {"cosine", "ahead"};

/* Everything that the result depends on. */
static json_t *describe_run(const eq_ctx *ctx, const call *c, const char *model)
{
    const eq_quantize_options *o = c->options;
    const eq_train_options *t = &o->train;
    json_t *options = json_pack(
        "{s:s, s:i, s:I, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:s, s:s}", "method",
        METHODS[o->method], "bits", o->bits, "group", (json_int_t)o->group, "grid", GRIDS[o->grid],
        "embed_bits", c->job.ends[EQ_EMBEDDING].bits, "head_bits", c->job.ends[EQ_HEAD].bits,
        "samples", (json_int_t)o->data.samples, "val_samples", (json_int_t)o->data.val_samples,
        "seqlen", (json_int_t)o->data.seqlen, "seed", (json_int_t)o->run.seed, "order",
        eq_order_name(o->data.order), "precision", eq_dtype_get(c->job.type)->name);
    json_t *train = json_pack(
        "{s:s, s:I, s:s, s:s, s:b, s:i, s:I, s:f, s:f, s:s, s:f, s:f, s:f, s:f, s:f, s:i}", "start",
        STARTS[t->start], "start_windows", (json_int_t)t->start_windows, "loss", LOSSES[t->loss],
        "edges", EDGES[t->edges], "exact_scales", t->exact_scales, "epochs", t->epochs, "batch",
        (json_int_t)t->batch, "quant_lr", t->quant_lr, "weight_lr", t->weight_lr, "schedule",
        SCHEDULES[t->schedule], "min_lr_factor", t->min_lr_factor, "beta1", t->beta1, "beta2",
        t->beta2, "epsilon", t->epsilon, "weight_decay", t->weight_decay, "early_stop",
        t->early_stop);
    json_t *tune = eq_tune_describe(&o->tune);
    json_t *inputs = json_object();
    json_object_set_new(inputs, "model", eq_hash_text(eq_checkpoint_fingerprint(c->checkpoint)));
    json_object_set_new(inputs, "data", eq_hash_text(eq_data_hash(&c->data)));
    json_t *info = json_pack("{s:s, s:s, s:s, s:s}", "eqat", EQAT_VERSION, "model", model, "calib",
                             o->data.calib ? o->data.calib : "", "kernels", eq_ctx_isa(ctx));
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "info", info, "inputs", inputs, "options",
                     options, "training", train, "end-to-end", tune);
}

static eq_status enter_run(eq_ctx *ctx, call *c, const char *out)
{
    eq_status st = eq_run_enter(ctx, &c->run, out);
    c->job.run = &c->run;
    if (st == EQ_OK) eq_output_clean(ctx, &c->job);
    return st;
}

/* The folder is entered before anything is made in it, but after files that may be wrong. */
static eq_status open_run(eq_ctx *ctx, call *c, const char *model, const char *out)
{
    bool early = needs_data(c->options) && eq_data_is_made(&c->options->data);
    eq_status st = early ? enter_run(ctx, c, out) : EQ_OK;
    if (st == EQ_OK && needs_data(c->options)) st = load_data(ctx, c);
    if (st == EQ_OK && !early) st = enter_run(ctx, c, out);
    if (st != EQ_OK) return st;
    json_t *plan = describe_run(ctx, c, model);
    if (!plan) return eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", out);
    return eq_run_open(ctx, &c->run, plan);
}

/* ---- the call ------------------------------------------------------------------------------ */

/* Tokenizer files: written from a GGUF, copied from a folder. */
eq_status eq_tokenizer_files(eq_ctx *ctx, const eq_checkpoint *checkpoint,
                             const eq_tokenizer *tokenizer, const char *out)
{
    static const char *const FILES[] = {
        "tokenizer.json",      "tokenizer_config.json",  "special_tokens_map.json",
        "chat_template.jinja", "generation_config.json", "vocab.json",
        "merges.txt",          "added_tokens.json"};
    if (eq_checkpoint_gguf(checkpoint)) return eq_tokenizer_write_folder(ctx, tokenizer, out);
    eq_status st = EQ_OK;
    for (size_t i = 0; st == EQ_OK && i < sizeof FILES / sizeof *FILES; i++) {
        char *from = eq_path_join(ctx, eq_checkpoint_path(checkpoint), FILES[i]);
        char *to = eq_path_join(ctx, out, FILES[i]);
        st = from && to ? EQ_OK : EQ_ENOMEM;
        if (st == EQ_OK && eq_file_exists(from)) st = eq_file_copy(ctx, to, from);
        eq_free(from);
        eq_free(to);
    }
    return st;
}

/* The blocks of the run, one open at a time. */
typedef struct block_files {
    const call *call;
    eq_block_file file;
} block_files;

static eq_status next_block(eq_ctx *ctx, void *self, int64_t i, const eq_block **block)
{
    block_files *f = self;
    const eq_scheme scheme = eq_scheme_of(f->call->options);
    eq_block_file_close(&f->file);
    if (i < 0) return EQ_OK;
    char *path = eq_run_block_path(ctx, &f->call->run, i);
    eq_status st =
        path ? eq_block_file_open(ctx, &f->file, &f->call->decoder->config, &scheme, i, path)
             : EQ_ENOMEM;
    eq_free(path);
    *block = &f->file.block;
    return st;
}

static eq_tune_job tune_job(const call *c)
{
    const eq_quantize_options *o = c->options;
    return (eq_tune_job){.base = c->job.model,
                         .teacher = c->decoder,
                         .options = &o->tune,
                         .scheme = eq_scheme_of(o),
                         .T = o->data.seqlen,
                         .type = c->job.type,
                         .train = {c->data.train, c->data.train_counts, o->data.samples},
                         .val = {c->data.val, c->data.val_counts, o->data.val_samples}};
}

/* The end-to-end phase on the blocks of the run. */
static eq_status tune(eq_ctx *ctx, call *c)
{
    if (!c->options->tune.epochs) return EQ_OK;
    block_files files = {.call = c};
    eq_tune_job job = tune_job(c);
    job.run = &c->run;
    job.masters = true;
    job.block = next_block;
    job.self = &files;
    c->norm = eq_alloc(ctx, c->decoder->config.C, sizeof *c->norm);
    if (c->options->tune.train != EQ_TRAIN_SCALES) c->job.final_norm = c->norm;
    return c->norm ? eq_tune(ctx, &job, c->norm) : EQ_ENOMEM;
}

static eq_status write_card(eq_ctx *ctx, const call *c, const char *model, const char *out,
                            eq_quantize_result *result)
{
    bool data = c->data.val != NULL;
    const eq_card card = {.out = out,
                          .model = model,
                          .plan = c->run.plan,
                          .reference = c->decoder,
                          .val = c->data.val,
                          .windows = data ? c->data.val_windows : 0,
                          .T = c->options->data.seqlen,
                          .type = c->job.type,
                          .result = result};
    return eq_card_write(ctx, &card);
}

static eq_status finish(eq_ctx *ctx, call *c, const char *model, const char *out,
                        eq_quantize_result *result)
{
    eq_status st = eq_tokenizer_files(ctx, c->checkpoint, c->tokenizer, out);
    if (st == EQ_OK) st = eq_output_model(ctx, &c->job);
    if (st == EQ_OK) st = write_card(ctx, c, model, out, result);
    if (st == EQ_OK) st = eq_run_finish(ctx, &c->run);
    if (st == EQ_OK) eq_output_finish(ctx, &c->job);
    return st;
}

static eq_status run(eq_ctx *ctx, call *c, const char *model, const char *out,
                     eq_quantize_result *result)
{
    bool in_file = false;
    eq_status st = open_model(ctx, c, model);
    if (st == EQ_OK) st = eq_precision_type(ctx, &c->job.type, c->options->run.precision);
    if (st == EQ_OK) c->job.teacher = c->job.model = c->decoder;
    if (st == EQ_OK) st = eq_output_bytes(ctx, &c->job, &result->bytes);
    if (st == EQ_OK) st = eq_quantize_plan(ctx, &c->job, &in_file);
    if (st == EQ_OK && c->options->tune.epochs) {
        const eq_tune_job job = tune_job(c);
        const eq_run_options *r = &c->options->run;
        st = eq_tune_plan(ctx, &job, r->memory ? r->memory : eq_available_memory());
    }
    if (st == EQ_OK) st = open_run(ctx, c, model, out);
    if (st != EQ_OK) return st;
    const eq_scheme scheme = eq_scheme_of(c->options);
    result->bits_per_weight = eq_output_bits_per_weight(&c->decoder->config, &scheme);
    result->embed_bits = c->job.ends[EQ_EMBEDDING].bits;
    result->head_bits = c->job.ends[EQ_HEAD].bits;
    if (c->run.finished) {
        result->blocks_resumed = c->decoder->config.L;
        eq_output_finish(ctx, &c->job);
        eq_log(ctx, EQ_LOG_INFO, "%s: is finished already", out);
        return EQ_OK;
    }
    st = eq_ends_make(ctx, &c->ends, c->decoder, c->job.ends, &c->run);
    c->job.model = &c->ends.decoder;
    if (st == EQ_OK) st = eq_quantize_blocks(ctx, &c->job, in_file, &result->blocks_resumed);
    if (st == EQ_OK) st = tune(ctx, c);
    return st == EQ_OK ? finish(ctx, c, model, out, result) : st;
}

eq_status eq_quantize(eq_ctx *ctx, const char *model, const char *out,
                      const eq_quantize_options *options, eq_quantize_result *result)
{
    double start = eq_seconds();
    call c = {.options = options, .run = {.lock = -1}};
    c.job.options = options;
    *result = (eq_quantize_result){.bits = options->bits, .group = options->group};
    eq_status st = check_options(ctx, options);
    if (st == EQ_OK) st = run(ctx, &c, model, out, result);
    result->seconds = eq_seconds() - start;
    eq_run_close(&c.run);
    eq_data_deinit(&c.data);
    eq_free(c.norm);
    eq_ends_close(&c.ends);
    eq_tokenizer_free(c.tokenizer);
    eq_decoder_close(c.decoder);
    eq_checkpoint_close(c.checkpoint);
    return st;
}
