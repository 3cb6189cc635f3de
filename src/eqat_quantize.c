/* eq_quantize: options, data, run folder, blocks, output. */
#include "eqat_internal.h"

#include "base/hash.h"
#include "quant/recipe.h"
#include "train/block_file.h"
#include "train/choose_bits.h"
#include "train/output.h"
#include "train/tune.h"

/* One call of eq_quantize. */
typedef struct call {
    const eq_quantize_options *asked;
    eq_quantize_options own; /* the same with as many windows as there are */
    const eq_quantize_options *options;
    eq_checkpoint *checkpoint;
    eq_decoder *decoder;
    eq_tokenizer *tokenizer;
    eq_data data;
    int32_t *block_ids; /* owned, [train.samples, seqlen] of data.train; NULL: all of these */
    eq_run run;
    eq_block_scheme *schemes; /* owned, [L] */
    eq_ends ends;             /* owned */
    float *norm; /* owned, [C]; the final norm as the end-to-end phase leaves it, or NULL */
    eq_quantize_job job;
} call;

/* The data has so many windows. */
static void set_samples(call *c, int64_t samples, int64_t val_samples)
{
    const eq_quantize_options *asked = c->asked;
    c->own.data.samples = samples;
    c->own.data.val_samples = val_samples;
    c->own.train.samples = asked->train.samples;
    if (asked->train.samples == 0 || asked->train.samples > samples) c->own.train.samples = samples;
    c->own.tune.epochs = eq_data_passes(&asked->data, asked->tune.epochs, samples);
}

static bool needs_data(const eq_quantize_options *o)
{
    return eq_quantize_needs_data(o) || o->tune.epochs > 0 || o->target_bpw > 0;
}

static eq_status check_range(eq_ctx *ctx, bool fine, const char *what)
{
    return fine ? EQ_OK : eq_fail(ctx, EQ_EINVAL, "%s", what);
}

static bool is_end_bits(int bits)
{
    return bits == 0 || bits == 16 || bits == 8 || bits == 4;
}

/* Super-blocks have bits and groups of their own. */
static eq_status check_super(eq_ctx *ctx, const eq_quantize_options *o)
{
    eq_scheme scheme = eq_scheme_of(o);
    eq_scheme_complete(&scheme);
    if (scheme.bits != o->bits || scheme.group != o->group)
        return eq_fail(ctx, EQ_EINVAL, "the grid %s has %d bits in groups of %lld, not %d and %lld",
                       eq_grid_name(o->grid), scheme.bits, (long long)scheme.group, o->bits,
                       (long long)o->group);
    return check_range(ctx, !(eq_scheme_super(&scheme) && o->target_bpw > 0),
                       "target-bpw chooses among plain grids, not super-blocks");
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
        st = check_range(
            ctx, t->epochs >= 0 && t->samples >= 1 && t->batch >= 1 && t->start_windows >= 1,
            "epochs, batch and start-windows must be positive");
    if (st == EQ_OK)
        st = check_range(ctx, t->quant_lr >= 0 && t->weight_lr >= 0 && t->min_lr_factor >= 1,
                         "learning rates must not be negative, min-lr-factor not below 1");
    if (st == EQ_OK)
        st = check_range(ctx,
                         o->method == EQ_METHOD_RTN || !t->epochs || t->quant_lr + t->weight_lr > 0,
                         "both learning rates are 0: nothing would be trained");
    if (st == EQ_OK)
        st = check_range(ctx, eq_adam_fine(t->beta1, t->beta2, t->epsilon, t->weight_decay),
                         "beta1 and beta2 must be from 0 to below 1, epsilon above 0, weight-decay "
                         "not negative");
    if (st == EQ_OK)
        st = check_range(ctx, !t->early_stop || d->val_samples > 0,
                         "early-stop needs validation windows");
    if (st == EQ_OK)
        st = check_range(ctx, is_end_bits(o->embed_bits) && is_end_bits(o->head_bits),
                         "embed-bits and head-bits must be 16, 8 or 4");
    if (st == EQ_OK) st = eq_tune_check(ctx, &o->tune);
    if (st == EQ_OK)
        st = check_range(ctx, o->target_bpw >= 0 && !(o->target_bpw > 0 && o->recipe),
                         "target-bpw must not be negative, and goes without a recipe");
    if (st == EQ_OK) st = check_super(ctx, o);
    if (st == EQ_OK)
        st = check_range(ctx, !needs_data(o) || d->calib,
                         "calibration data is needed: --calib FILE, or --calib self");
    return st;
}

/* Plain blocks where rows are no super-blocks; if they are so everywhere, that is what was asked.
 */
static void replace_super(eq_ctx *ctx, call *c)
{
    const eq_config *config = &c->decoder->config;
    const eq_scheme asked = eq_scheme_of(c->options), *first = &c->schemes[0].units[0];
    if (!eq_schemes_plain(c->schemes, config)) return;
    eq_log(ctx, EQ_LOG_WARNING,
           "where rows are no whole super-blocks of 256 weights, linears are %s instead of %s",
           asked.bits == 2 ? "Q2_0 or Q4_0" : "Q4_0", eq_grid_name(asked.grid));
    if (eq_schemes_have_super(c->schemes, config->L)) return;
    c->own.bits = first->bits;
    c->own.group = first->group;
    c->own.grid = first->grid;
}

/* The grid of every unit; the bits of --target-bpw are chosen later. */
static eq_status make_schemes(eq_ctx *ctx, call *c)
{
    const eq_scheme scheme = eq_scheme_of(c->options);
    const char *recipe = c->options->recipe;
    const eq_config *config = &c->decoder->config;
    c->schemes = eq_schemes_uniform(ctx, &scheme, config->L);
    c->job.schemes = c->schemes;
    if (!c->schemes) return EQ_ENOMEM;
    replace_super(ctx, c);
    eq_status st = recipe ? eq_recipe_read(ctx, c->schemes, config, recipe)
                          : eq_schemes_check(ctx, c->schemes, config, NULL);
    if (st != EQ_OK || !c->options->gguf) return st;
    return eq_schemes_check_ggml(ctx, c->schemes, config, c->options->target_bpw > 0);
}

/* Bits of the embedding and the head of this model. */
static eq_status choose_ends(eq_ctx *ctx, call *c)
{
    const eq_config *config = &c->decoder->config;
    int embedding = c->options->embed_bits, head = c->options->head_bits;
    const int as_it_is = c->options->gguf ? 8 : 16;
    if (config->tied && embedding && head && embedding != head)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: embedding and head are one tensor: --embed-bits %d and --head-bits %d "
                       "contradict each other",
                       eq_checkpoint_path(c->checkpoint), embedding, head);
    if (config->tied && !embedding) embedding = head;
    if (config->tied && !head) head = embedding;
    c->job.ends[EQ_EMBEDDING] = eq_end_scheme(embedding ? embedding : as_it_is);
    c->job.ends[EQ_HEAD] = eq_end_scheme(head ? head : as_it_is);
    return eq_ends_check(ctx, config, c->job.ends);
}

static eq_status check_unquantized(eq_ctx *ctx, const call *c)
{
    int bits = c->decoder->bits;
    if (bits == 16) bits = eq_stored_bits(&c->decoder->embedding_stored);
    if (bits == 16) bits = eq_stored_bits(&c->decoder->head_stored);
    if (bits != 16)
        return eq_fail(ctx, EQ_EFORMAT, "%s: is quantized to %d bits already",
                       eq_checkpoint_path(c->checkpoint), bits);
    return EQ_OK;
}

static eq_status open_model(eq_ctx *ctx, call *c, const char *path)
{
    eq_status st = eq_checkpoint_open(ctx, &c->checkpoint, path);
    if (st == EQ_OK) st = eq_decoder_open(ctx, &c->decoder, c->checkpoint);
    if (st == EQ_OK) st = check_unquantized(ctx, c);
    if (st == EQ_OK) st = make_schemes(ctx, c);
    if (st == EQ_OK) st = choose_ends(ctx, c);
    return st == EQ_OK ? eq_checkpoint_tokenizer(ctx, &c->tokenizer, c->checkpoint) : st;
}

/* ---- data ---------------------------------------------------------------------------------- */

static eq_data_job data_job(const call *c)
{
    const eq_quantize_options *o = c->options;
    bool trains = o->method != EQ_METHOD_RTN || o->tune.epochs > 0;
    return (eq_data_job){.options = &o->data,
                         .decoder = c->decoder,
                         .tokenizer = c->tokenizer,
                         .samples = trains ? o->data.samples : eq_quantize_samples(o),
                         .val_samples = trains ? o->data.val_samples : 0,
                         .seed = o->run.seed,
                         .type = c->job.type,
                         .memory = o->run.memory,
                         .folder = c->run.folder};
}

/* The windows of the blocks: of one file evenly spaced among all; of a mix the first ones, since
 * every so many-th window may be of one file alone. */
static eq_status choose_windows(eq_ctx *ctx, call *c)
{
    int64_t n = c->own.train.samples, all = c->own.data.samples, T = c->own.data.seqlen;
    c->job.train = c->data.train;
    if (n == all || c->data.calib.mixed) return EQ_OK;
    c->job.train = c->block_ids = eq_alloc(ctx, n * T, sizeof *c->block_ids);
    for (int64_t i = 0; c->block_ids && i < n; i++)
        memcpy(c->block_ids + i * T, c->data.train + i * all / n * T, (size_t)T * sizeof(int32_t));
    return c->block_ids ? EQ_OK : EQ_ENOMEM;
}

static eq_status load_data(eq_ctx *ctx, call *c)
{
    const eq_data_job job = data_job(c);
    eq_status st = eq_data_load(ctx, &job, &c->data);
    if (st != EQ_OK) return st;
    set_samples(c, c->data.train_windows, c->data.val_windows);
    c->job.val = c->data.val;
    return choose_windows(ctx, c);
}

/* ---- plan ---------------------------------------------------------------------------------- */

json_t *eq_hash_text(uint64_t hash)
{
    char text[20];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return json_string(text);
}

const char *eq_group_words(char out[EQ_GROUP_WORDS], int64_t group)
{
    snprintf(out, EQ_GROUP_WORDS, "whole rows");
    if (group > 0) snprintf(out, EQ_GROUP_WORDS, "groups of %lld", (long long)group);
    return out;
}

/* Names of the enumerations of eqat.h, in their order. */
static const char *const METHODS[] = {"rtn", "block-ap"};
static const char *const STARTS[] = {"minmax", "mse", "weighted"};
static const char *const LOSSES[] = {"mse", "relative", "bounded"};
static const char *const EDGES[] = {"inside", "clipped"};
static const char *const SCHEDULES[] = {"cosine", "ahead"};

/* Of the grids of all units, however the recipe words them. A unit without a kind of its own adds
 * nothing of it, as in the plans of runs from before there were any. */
static uint64_t hash_schemes(const eq_block_scheme *schemes, int64_t L, eq_grid base)
{
    uint64_t hash = EQ_HASH_START;
    for (int64_t i = 0; i < L * EQ_UNITS; i++) {
        const eq_scheme *s = &schemes[i / EQ_UNITS].units[i % EQ_UNITS];
        const int64_t values[3] = {s->bits, s->group, s->grid};
        hash = eq_hash(hash, values, s->grid != base ? sizeof values : 2 * sizeof *values);
    }
    return hash;
}

/* What rounding takes from the options of the blocks, some of it only when the whole model is
 * trained after it. */
static void describe_rounding(json_t *start, const eq_quantize_options *o)
{
    const eq_train_options *t = &o->train;
    if (t->start == EQ_START_WEIGHTED) json_object_set_new(start, "batch", json_integer(t->batch));
    if (!o->tune.epochs) return;
    if (t->start == EQ_START_WEIGHTED)
        json_object_set_new(start, "samples", json_integer(t->samples));
    if (o->tune.train == EQ_TRAIN_ALL)
        json_object_set_new(start, "edges", json_string(EDGES[t->edges]));
}

/* Options of the starts, and of the training if there is one. */
static json_t *describe_training(const eq_quantize_options *o)
{
    const eq_train_options *t = &o->train;
    json_t *start =
        json_pack("{s:s, s:b}", "start", STARTS[t->start], "exact_scales", t->exact_scales);
    if (t->start == EQ_START_WEIGHTED)
        json_object_set_new(start, "start_windows", json_integer(t->start_windows));
    if (o->method == EQ_METHOD_RTN) {
        describe_rounding(start, o);
        return start;
    }
    json_t *train =
        json_pack("{s:s, s:s, s:I, s:i, s:I, s:f, s:f, s:s, s:f, s:f, s:f, s:f, s:f, s:i}", "loss",
                  LOSSES[t->loss], "edges", EDGES[t->edges], "samples", (json_int_t)t->samples,
                  "epochs", t->epochs, "batch", (json_int_t)t->batch, "quant_lr", t->quant_lr,
                  "weight_lr", t->weight_lr, "schedule", SCHEDULES[t->schedule], "min_lr_factor",
                  t->min_lr_factor, "beta1", t->beta1, "beta2", t->beta2, "epsilon", t->epsilon,
                  "weight_decay", t->weight_decay, "early_stop", t->early_stop);
    json_object_update(start, train);
    json_decref(train);
    return start;
}

/* 16 bits are left out, as in the plans of runs from before there were others. */
static void describe_ends(json_t *options, const eq_scheme ends[EQ_ENDS])
{
    static const char *const KEYS[EQ_ENDS] = {"embed_bits", "head_bits"};
    for (int i = 0; i < EQ_ENDS; i++)
        if (ends[i].bits != 16) json_object_set_new(options, KEYS[i], json_integer(ends[i].bits));
}

/* Everything that the result depends on, and nothing else but "info"; what the options of the data
 * change is in the fingerprint of the windows. It is left out before they are there. */
static json_t *describe_run(const eq_ctx *ctx, const call *c, const char *model)
{
    const eq_quantize_options *o = c->options;
    json_t *options =
        json_pack("{s:s, s:i, s:I, s:s}", "method", METHODS[o->method], "bits", o->bits, "group",
                  (json_int_t)o->group, "grid", eq_grid_name(o->grid));
    json_t *inputs =
        json_pack("{s:o}", "model", eq_hash_text(eq_checkpoint_fingerprint(c->checkpoint)));
    if (needs_data(o)) {
        const char *type = eq_dtype_get(c->job.type)->name;
        json_object_set_new(options, "precision", json_string(type));
        eq_data_describe(options, &c->asked->data, o->run.seed);
    }
    if (o->target_bpw > 0) {
        json_object_set_new(options, "target_bpw", json_real(o->target_bpw));
        if (o->gguf) json_object_set_new(options, "gguf", json_true());
    }
    describe_ends(options, c->job.ends);
    if (o->recipe)
        json_object_set_new(inputs, "recipe",
                            eq_hash_text(hash_schemes(c->schemes, c->decoder->config.L, o->grid)));
    if (c->data.calib.ids)
        json_object_set_new(inputs, "data", eq_hash_text(eq_data_hash(&c->data)));
    json_t *info = json_pack("{s:s, s:s, s:s}", "eqat", EQAT_VERSION, "model", model, "kernels",
                             eq_ctx_isa(ctx));
    if (needs_data(o)) eq_data_inform(info, &o->data, &c->data);
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "info", info, "inputs", inputs, "options",
                     options, "training", describe_training(o), "end-to-end",
                     eq_tune_describe(&o->tune));
}

static eq_status enter_run(eq_ctx *ctx, call *c, const char *out)
{
    eq_status st = eq_run_enter(ctx, &c->run, out);
    c->job.run = &c->run;
    return st;
}

/* The folder is entered before windows are made for it, but after files that may be wrong. Nothing
 * is written or removed before its plan agrees. */
static eq_status open_run(eq_ctx *ctx, call *c, const char *model, const char *out)
{
    bool early = needs_data(c->options) && eq_data_is_made(&c->options->data);
    eq_status st = early ? enter_run(ctx, c, out) : EQ_OK;
    if (st == EQ_OK && early) st = eq_run_check(ctx, &c->run, describe_run(ctx, c, model));
    if (st == EQ_OK && needs_data(c->options)) st = load_data(ctx, c);
    if (st == EQ_OK && !early) st = enter_run(ctx, c, out);
    if (st != EQ_OK) return st;
    st = eq_run_open(ctx, &c->run, describe_run(ctx, c, model));
    if (st != EQ_OK) return st;
    const eq_data_job job = data_job(c);
    st = early ? eq_data_keep(ctx, &job, &c->data) : EQ_OK;
    if (st == EQ_OK) eq_output_clean(ctx, &c->job);
    return st;
}

/* ---- the call ------------------------------------------------------------------------------ */

/* Tokenizer files: written from a GGUF, copied from a folder. */
eq_status eq_tokenizer_files(eq_ctx *ctx, const eq_checkpoint *checkpoint,
                             const eq_tokenizer *tokenizer, const char *out)
{
    static const char *const FILES[] = {
        "tokenizer.json",      "tokenizer_config.json",  "special_tokens_map.json",
        "chat_template.jinja", "generation_config.json", "vocab.json",
        "merges.txt",          "added_tokens.json",      "tokenizer.model",
        "chat_template.json"};
    if (eq_checkpoint_gguf(checkpoint))
        return tokenizer ? eq_tokenizer_write_folder(ctx, tokenizer, out) : EQ_OK;
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
    eq_block_file_close(&f->file);
    if (i < 0) return EQ_OK;
    char *path = eq_run_block_path(ctx, &f->call->run, i);
    eq_status st = path ? eq_block_file_open(ctx, &f->file, &f->call->decoder->config,
                                             &f->call->schemes[i], i, path)
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
                         .schemes = c->schemes,
                         .T = o->data.seqlen,
                         .type = c->job.type,
                         .memory = o->run.memory,
                         .masters = true,
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
    job.edges_clipped = c->options->train.edges == EQ_EDGES_CLIPPED;
    job.exact_scales = c->options->train.exact_scales;
    job.block = next_block;
    job.self = &files;
    return eq_tune(ctx, &job, c->norm);
}

static eq_status write_card(eq_ctx *ctx, const call *c, const char *model, const char *out,
                            eq_quantize_result *result)
{
    const eq_eval_windows val = {.ids = c->data.val,
                                 .counts = c->data.val_counts,
                                 .n = c->data.val ? c->data.val_windows : 0,
                                 .T = c->options->data.seqlen};
    const eq_card card = {.out = out,
                          .model = model,
                          .plan = c->run.plan,
                          .reference = c->decoder,
                          .val = val,
                          .type = c->job.type,
                          .result = result,
                          .super = eq_schemes_have_super(c->schemes, c->decoder->config.L)};
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

/* "30 units at 2 bits, 90 at 3, in groups of 64" */
static void log_schemes(eq_ctx *ctx, const call *c, double bits_per_weight)
{
    static const int BITS[] = {2, 3, 4, 8};
    const int64_t group = c->schemes[0].units[0].group;
    char text[128] = "", words[EQ_GROUP_WORDS] = "several groups";
    bool same = true;
    for (size_t b = 0; b < sizeof BITS / sizeof *BITS; b++) {
        int64_t count = 0;
        for (int64_t i = 0; i < c->decoder->config.L * EQ_UNITS; i++)
            count += c->schemes[i / EQ_UNITS].units[i % EQ_UNITS].bits == BITS[b];
        size_t n = strlen(text);
        if (count)
            snprintf(text + n, sizeof text - n, n ? ", %lld at %d" : "%lld units at %d bits",
                     (long long)count, BITS[b]);
    }
    for (int64_t i = 0; i < c->decoder->config.L * EQ_UNITS; i++)
        same = same && c->schemes[i / EQ_UNITS].units[i % EQ_UNITS].group == group;
    if (same) eq_group_words(words, group);
    eq_log(ctx, EQ_LOG_INFO, "plan: %s, in %s: %.3f bits per weight with scales and zero points",
           text, words, bits_per_weight);
}

/* Room for the final norm of the end-to-end phase, which is written if it is trained. */
static eq_status make_norm(eq_ctx *ctx, call *c)
{
    const eq_tune_options *o = &c->options->tune;
    if (!o->epochs) return EQ_OK;
    c->norm = eq_alloc(ctx, c->decoder->config.C, sizeof *c->norm);
    if (o->train != EQ_TRAIN_SCALES) c->job.final_norm = c->norm;
    return c->norm ? EQ_OK : EQ_ENOMEM;
}

/* What depends on the grids: sizes, and the memory of the end-to-end phase. */
static eq_status plan_grids(eq_ctx *ctx, call *c, eq_quantize_result *result)
{
    const eq_scheme base = eq_scheme_of(c->options);
    result->bits = base.bits;
    result->group = base.group;
    result->bits_per_weight = eq_output_bits_per_weight(&c->decoder->config, c->schemes);
    result->embed_bits = c->job.ends[EQ_EMBEDDING].bits;
    result->head_bits = c->job.ends[EQ_HEAD].bits;
    result->mixed = !eq_schemes_are(c->schemes, c->decoder->config.L, &base);
    log_schemes(ctx, c, result->bits_per_weight);
    eq_status st = make_norm(ctx, c);
    if (st == EQ_OK) st = eq_output_bytes(ctx, &c->job, &result->bytes);
    if (st != EQ_OK || !c->options->tune.epochs) return st;
    const eq_tune_job job = tune_job(c);
    return eq_tune_plan(ctx, &job, eq_memory_limit(c->options->run.memory));
}

/* Before bits are chosen, which takes long: whether the least of them leave room for the end-to-end
 * phase. */
static eq_status check_least_bits(eq_ctx *ctx, const call *c)
{
    const int64_t L = c->decoder->config.L;
    if (!c->options->tune.epochs) return EQ_OK;
    eq_block_scheme *schemes = eq_alloc(ctx, L, sizeof *schemes);
    if (!schemes) return EQ_ENOMEM;
    memcpy(schemes, c->schemes, (size_t)L * sizeof *schemes);
    for (int64_t i = 0; i < L * EQ_UNITS; i++)
        schemes[i / EQ_UNITS].units[i % EQ_UNITS].bits = 2;
    eq_tune_job job = tune_job(c);
    job.schemes = schemes;
    eq_status st = eq_tune_fits(ctx, &job, eq_memory_limit(c->options->run.memory));
    eq_free(schemes);
    return st;
}

/* Log what the blocks and the measuring of the result will need, and check that they may have it.
 */
static eq_status plan(eq_ctx *ctx, call *c, bool *in_file)
{
    const eq_quantize_options *o = c->options;
    bool trains = o->method != EQ_METHOD_RTN || o->tune.epochs > 0;
    eq_status st = eq_quantize_plan(ctx, &c->job, in_file);
    if (st != EQ_OK || !trains || !o->data.val_samples) return st;
    int64_t windows = eq_windows_bytes(o->data.samples + o->data.val_samples, o->data.seqlen);
    return eq_card_plan(ctx, c->decoder, true, o->data.seqlen, c->job.type, windows,
                        eq_memory_limit(c->options->run.memory));
}

static eq_status run(eq_ctx *ctx, call *c, const char *model, const char *out,
                     eq_quantize_result *result)
{
    bool in_file = false, choose = c->options->target_bpw > 0;
    eq_status st = open_model(ctx, c, model);
    if (st == EQ_OK) st = eq_precision_type(ctx, &c->job.type, c->options->run.precision);
    if (st == EQ_OK) c->job.teacher = c->job.model = c->decoder;
    if (st == EQ_OK && choose) st = eq_choose_bits_check(ctx, &c->job);
    if (st == EQ_OK) st = plan(ctx, c, &in_file);
    if (st == EQ_OK) st = choose ? check_least_bits(ctx, c) : plan_grids(ctx, c, result);
    if (st == EQ_OK) st = open_run(ctx, c, model, out);
    if (st == EQ_OK && choose) st = eq_choose_bits(ctx, c->schemes, &c->job);
    if (st == EQ_OK && choose) st = plan_grids(ctx, c, result);
    if (st != EQ_OK) return st;
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
    call c = {.asked = options, .own = *options, .run = {.lock = -1}};
    c.options = c.job.options = &c.own;
    *result = (eq_quantize_result){0};
    if (options->data.samples > 0)
        set_samples(&c, options->data.samples, options->data.val_samples);
    eq_status st = check_options(ctx, &c.own);
    if (st == EQ_OK) st = run(ctx, &c, model, out, result);
    result->seconds = eq_seconds() - start;
    eq_run_close(&c.run);
    eq_data_deinit(&c.data);
    eq_free(c.block_ids);
    eq_free(c.norm);
    eq_free(c.schemes);
    eq_ends_close(&c.ends);
    eq_tokenizer_free(c.tokenizer);
    eq_decoder_close(c.decoder);
    eq_checkpoint_close(c.checkpoint);
    return st;
}
