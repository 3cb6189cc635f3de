/* eq_quantize: options, data, run folder, blocks, output. */
#include "eqat_internal.h"

#include "base/hash.h"
#include "infer/self.h"
#include "io/npy.h"
#include "io/tokens.h"
#include "train/output.h"

eq_quantize_options eq_quantize_defaults(eq_method method, int bits, eq_preset preset)
{
    bool paper = preset == EQ_PRESET_PAPER;
    eq_quantize_options o = {
        .method = method,
        .bits = bits,
        .group = 64,
        .data = {.calib = "self", .samples = 64, .val_samples = 8, .seqlen = 1024},
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
                  .min_lr_factor = 20,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .epsilon = 1e-8},
        .run = {.precision = EQ_PRECISION_AUTO},
    };
    if (!paper) return o;
    o.data = (eq_data_options){
        .samples = 4096, .val_samples = 64, .seqlen = 2048, .order = EQ_ORDER_RANDOM_DOC};
    o.train.start = EQ_START_MINMAX;
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
    eq_token_windows train, val;
    eq_run run;
    eq_quantize_job job;
} call;

static eq_status check_range(eq_ctx *ctx, bool fine, const char *what)
{
    return fine ? EQ_OK : eq_fail(ctx, EQ_EINVAL, "%s", what);
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
        st = check_range(ctx, !eq_quantize_needs_data(o) || d->calib,
                         "calibration data is needed: --calib FILE, or --calib self");
    return st;
}

static eq_status check_linears(eq_ctx *ctx, const call *c)
{
    const eq_scheme scheme = {c->options->bits, c->options->group};
    const eq_config *config = &c->decoder->config;
    if (c->decoder->bits != 16)
        return eq_fail(ctx, EQ_EFORMAT, "%s: is quantized to %d bits already",
                       eq_checkpoint_path(c->checkpoint), c->decoder->bits);
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
    return st == EQ_OK ? eq_checkpoint_tokenizer(ctx, &c->tokenizer, c->checkpoint) : st;
}

/* ---- data ---------------------------------------------------------------------------------- */

static bool ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && !strcmp(path + n - m, ending);
}

static eq_status text_windows(eq_ctx *ctx, const call *c, eq_token_windows *out, const char *path,
                              int64_t n)
{
    const eq_quantize_options *o = c->options;
    const eq_tokenizer *tok = c->tokenizer;
    if (!tok) return eq_fail(ctx, EQ_EINVAL, "%s: is text, and the model has no tokenizer", path);
    int32_t unk = eq_tokenizer_unk(tok);
    const eq_window_source source = {.path = path,
                                     .tok = tok,
                                     .separator = unk >= 0 ? unk : eq_tokenizer_eos(tok),
                                     .n = n,
                                     .T = o->data.seqlen};
    if (o->data.order != EQ_ORDER_RANDOM_DOC || !ends_with(path, ".jsonl"))
        return eq_windows_concat(ctx, out, &source);
    eq_rng rng;
    eq_rng_init(&rng, o->run.seed, 0);
    return eq_windows_random(ctx, out, &source, &rng);
}

static eq_status npy_windows(eq_ctx *ctx, eq_token_windows *out, const char *path)
{
    int64_t shape[2] = {0, 0};
    eq_status st = eq_npy_read_i32(ctx, path, &out->ids, shape);
    out->n = shape[0];
    out->T = shape[1];
    return st;
}

/* n windows of a file, whose ending tells its kind; freed by the caller even after a failure. */
static eq_status load_windows(eq_ctx *ctx, const call *c, eq_token_windows *out, const char *path,
                              int64_t n)
{
    bool npy = ends_with(path, ".npy");
    eq_status st = npy ? npy_windows(ctx, out, path) : text_windows(ctx, c, out, path, n);
    if (st != EQ_OK) return st;
    return eq_windows_check(ctx, out, path, n, c->options->data.seqlen, c->decoder->config.V);
}

/* Windows sampled from the model, kept in `path` for later calls. */
static eq_status self_windows(eq_ctx *ctx, const call *c, eq_token_windows *out, const char *path,
                              int64_t n)
{
    if (eq_file_exists(path)) return load_windows(ctx, c, out, path, n);
    const eq_quantize_options *o = c->options;
    int32_t ends[EQ_MAX_ENDS];
    bool *normal = eq_alloc(ctx, c->decoder->config.V, sizeof *normal);
    const eq_self_options self = {.n = n,
                                  .T = o->data.seqlen,
                                  .seed = o->run.seed,
                                  .type = c->job.type,
                                  .normal = normal,
                                  .ends = ends,
                                  .end_count = eq_end_tokens(c->checkpoint, ends)};
    *out =
        (eq_token_windows){.ids = eq_alloc(ctx, n * self.T, sizeof(int32_t)), .n = n, .T = self.T};
    eq_status st = normal && out->ids ? EQ_OK : EQ_ENOMEM;
    for (int32_t id = 0; st == EQ_OK && id < c->decoder->config.V; id++)
        normal[id] = !c->tokenizer || !eq_tokenizer_is_special(c->tokenizer, id);
    if (st == EQ_OK) {
        eq_log(ctx, EQ_LOG_INFO, "sampling %lld windows of %lld tokens from the model",
               (long long)n, (long long)self.T);
        st = eq_self_windows(ctx, c->decoder, &self, out->ids);
    }
    eq_free(normal);
    return st == EQ_OK ? eq_npy_write_i32(ctx, path, out->ids, n, self.T) : st;
}

static bool makes_data(const call *c)
{
    return eq_quantize_needs_data(c->options) && !strcmp(c->options->data.calib, "self");
}

static eq_status load_data(eq_ctx *ctx, call *c)
{
    const eq_data_options *d = &c->options->data;
    int64_t tail = c->options->method != EQ_METHOD_RTN && !d->val ? d->val_samples : 0;
    int64_t n = eq_quantize_samples(c->options) + tail;
    eq_status st = EQ_OK;
    if (makes_data(c)) {
        char *path = eq_path_join(ctx, c->run.folder, "calib.npy");
        st = path ? self_windows(ctx, c, &c->train, path, n) : EQ_ENOMEM;
        eq_free(path);
    } else {
        st = load_windows(ctx, c, &c->train, d->calib, n);
    }
    if (st != EQ_OK) return st;
    c->job.train = c->train.ids;
    c->job.val = c->train.ids + (n - tail) * d->seqlen;
    if (d->val && c->options->method != EQ_METHOD_RTN && d->val_samples) {
        st = load_windows(ctx, c, &c->val, d->val, d->val_samples);
        c->job.val = c->val.ids;
    }
    return st;
}

/* ---- plan ---------------------------------------------------------------------------------- */

static json_t *hash_text(uint64_t hash)
{
    char text[20];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return json_string(text);
}

static uint64_t hash_data(const call *c)
{
    uint64_t hash = EQ_HASH_START;
    hash = eq_hash(hash, c->train.ids, (size_t)(c->train.n * c->train.T) * sizeof(int32_t));
    return eq_hash(hash, c->val.ids, (size_t)(c->val.n * c->val.T) * sizeof(int32_t));
}

/* Everything that the result depends on. */
static json_t *describe_run(const call *c, const char *model)
{
    const eq_quantize_options *o = c->options;
    const eq_train_options *t = &o->train;
    json_t *options =
        json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:i, s:s}", "method", (int)o->method, "bits",
                  o->bits, "group", (json_int_t)o->group, "samples", (json_int_t)o->data.samples,
                  "val_samples", (json_int_t)o->data.val_samples, "seqlen",
                  (json_int_t)o->data.seqlen, "seed", (json_int_t)o->run.seed, "order",
                  (int)o->data.order, "precision", eq_dtype_get(c->job.type)->name);
    json_t *train = json_pack(
        "{s:i, s:I, s:i, s:i, s:i, s:I, s:f, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:i}", "start",
        (int)t->start, "start_windows", (json_int_t)t->start_windows, "loss", (int)t->loss, "edges",
        (int)t->edges, "epochs", t->epochs, "batch", (json_int_t)t->batch, "quant_lr", t->quant_lr,
        "weight_lr", t->weight_lr, "schedule", (int)t->schedule, "min_lr_factor", t->min_lr_factor,
        "beta1", t->beta1, "beta2", t->beta2, "epsilon", t->epsilon, "weight_decay",
        t->weight_decay, "early_stop", t->early_stop);
    json_t *inputs = json_object();
    json_object_set_new(inputs, "model", hash_text(eq_checkpoint_fingerprint(c->checkpoint)));
    json_object_set_new(inputs, "data", hash_text(hash_data(c)));
    json_t *info = json_pack("{s:s, s:s, s:s}", "eqat", EQAT_VERSION, "model", model, "calib",
                             o->data.calib ? o->data.calib : "");
    return json_pack("{s:o, s:o, s:o, s:o}", "info", info, "inputs", inputs, "options", options,
                     "training", train);
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
    bool early = makes_data(c);
    eq_status st = early ? enter_run(ctx, c, out) : EQ_OK;
    if (st == EQ_OK && eq_quantize_needs_data(c->options)) st = load_data(ctx, c);
    if (st == EQ_OK && !early) st = enter_run(ctx, c, out);
    if (st != EQ_OK) return st;
    json_t *plan = describe_run(c, model);
    if (!plan) return eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", out);
    return eq_run_open(ctx, &c->run, plan);
}

/* ---- the call ------------------------------------------------------------------------------ */

/* Tokenizer files: written from a GGUF, copied from a folder. */
static eq_status write_tokenizer(eq_ctx *ctx, const call *c, const char *out)
{
    static const char *const FILES[] = {
        "tokenizer.json",      "tokenizer_config.json",  "special_tokens_map.json",
        "chat_template.jinja", "generation_config.json", "vocab.json",
        "merges.txt",          "added_tokens.json"};
    if (eq_checkpoint_gguf(c->checkpoint)) return eq_tokenizer_write_folder(ctx, c->tokenizer, out);
    eq_status st = EQ_OK;
    for (size_t i = 0; st == EQ_OK && i < sizeof FILES / sizeof *FILES; i++) {
        char *from = eq_path_join(ctx, eq_checkpoint_path(c->checkpoint), FILES[i]);
        char *to = eq_path_join(ctx, out, FILES[i]);
        st = from && to ? EQ_OK : EQ_ENOMEM;
        if (st == EQ_OK && eq_file_exists(from)) st = eq_file_copy(ctx, to, from);
        eq_free(from);
        eq_free(to);
    }
    return st;
}

static eq_status finish(eq_ctx *ctx, call *c, const char *out)
{
    eq_status st = write_tokenizer(ctx, c, out);
    if (st == EQ_OK) st = eq_output_model(ctx, &c->job);
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
    if (st == EQ_OK) c->job.teacher = c->decoder;
    if (st == EQ_OK) st = eq_output_bytes(ctx, &c->job, &result->bytes);
    if (st == EQ_OK) st = eq_quantize_plan(ctx, &c->job, &in_file);
    if (st == EQ_OK) st = open_run(ctx, c, model, out);
    if (st != EQ_OK) return st;
    const eq_scheme scheme = {c->options->bits, c->options->group};
    result->bits_per_weight = eq_output_bits_per_weight(&c->decoder->config, &scheme);
    if (c->run.finished) {
        result->blocks_resumed = c->decoder->config.L;
        eq_output_finish(ctx, &c->job);
        eq_log(ctx, EQ_LOG_INFO, "%s: is finished already", out);
        return EQ_OK;
    }
    st = eq_quantize_blocks(ctx, &c->job, in_file, &result->blocks_resumed);
    return st == EQ_OK ? finish(ctx, c, out) : st;
}

eq_status eq_quantize(eq_ctx *ctx, const char *model, const char *out,
                      const eq_quantize_options *options, eq_quantize_result *result)
{
    double start = eq_seconds();
    call c = {.options = options, .run = {.lock = -1}};
    c.job.options = options;
    *result = (eq_quantize_result){0};
    eq_status st = check_options(ctx, options);
    if (st == EQ_OK) st = run(ctx, &c, model, out, result);
    result->seconds = eq_seconds() - start;
    eq_run_close(&c.run);
    eq_windows_deinit(&c.train);
    eq_windows_deinit(&c.val);
    eq_tokenizer_free(c.tokenizer);
    eq_decoder_close(c.decoder);
    eq_checkpoint_close(c.checkpoint);
    return st;
}
