/* Calibration and validation windows: from files, or sampled from the model. */
#include "eqat_internal.h"

#include "base/hash.h"
#include "infer/self.h"
#include "io/mix.h"
#include "io/npy.h"

/* A name that is a file's is that file; else it may be a list of files. */
static eq_status parse_mix(eq_ctx *ctx, eq_mix *mix, const char *path)
{
    if (!eq_file_exists(path)) return eq_mix_parse(ctx, mix, path);
    mix->sources = eq_alloc(ctx, 1, sizeof *mix->sources);
    if (!mix->sources) return EQ_ENOMEM;
    mix->sources[0] = (eq_mix_source){eq_strndup(ctx, path, strlen(path)), 1};
    mix->n = 1;
    return mix->sources[0].path ? EQ_OK : EQ_ENOMEM;
}

static eq_status mixed_windows(eq_ctx *ctx, const eq_data_job *job, eq_token_windows *out,
                               const eq_mix *mix, const eq_window_source *source)
{
    const eq_example_options *o = &job->options->examples;
    eq_chat chat = {0};
    eq_dialog_options dialogs = {
        .style = o->instructions == EQ_INSTRUCTIONS_CHAT ? EQ_DIALOG_CHAT : EQ_DIALOG_ALPACA,
        .chat = &chat,
        .source_max = o->source_max,
        .target_max = o->target_max};
    eq_status st = eq_chat_init(ctx, &chat, source->tok, o->chat_format,
                                eq_checkpoint_path(job->decoder->checkpoint));
    if (st == EQ_OK) st = eq_windows_mix(ctx, out, mix, source, &dialogs);
    eq_chat_deinit(&chat);
    return st;
}

static eq_status random_windows(eq_ctx *ctx, const eq_data_job *job, eq_token_windows *out,
                                const eq_mix *mix, eq_window_source source, int64_t tail)
{
    if (mix->n > 1)
        return eq_fail(ctx, EQ_EINVAL, "%s: --order random-doc takes one file, not a mix",
                       source.path);
    const eq_example_options *examples = &job->options->examples;
    if (examples->chat_format || examples->instructions == EQ_INSTRUCTIONS_CHAT)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: --order random-doc takes texts alone, without --instructions and "
                       "--chat-format",
                       source.path);
    eq_rng rng;
    eq_rng_init(&rng, job->seed, 0);
    source.path = mix->sources[0].path;
    return eq_windows_random(ctx, out, &source, tail, &rng);
}

static eq_status text_windows(eq_ctx *ctx, const eq_data_job *job, eq_token_windows *out,
                              const char *path, const eq_mix *mix, int64_t n, int64_t tail)
{
    const eq_data_options *o = job->options;
    const eq_tokenizer *tok = job->tokenizer;
    if (!tok) return eq_fail(ctx, EQ_EINVAL, "%s: is text, and the model has no tokenizer", path);
    const eq_window_source source = {.path = path,
                                     .tok = tok,
                                     .separator = eq_tokenizer_separator(tok),
                                     .n = n,
                                     .T = o->seqlen,
                                     .enough = job->all ? 0 : tail + 1};
    if (o->order == EQ_ORDER_RANDOM_DOC) return random_windows(ctx, job, out, mix, source, tail);
    return mixed_windows(ctx, job, out, mix, &source);
}

static eq_status npy_windows(eq_ctx *ctx, eq_token_windows *out, const char *path)
{
    int64_t shape[2] = {0, 0};
    eq_status st = eq_npy_read_i32(ctx, path, &out->ids, shape);
    out->n = shape[0];
    out->T = shape[1];
    return st;
}

/* At most n windows of a file, whose ending tells its kind, the last `tail` of them for validation;
 * freed by the caller even after a failure. */
static eq_status load_windows(eq_ctx *ctx, const eq_data_job *job, eq_token_windows *out,
                              const char *path, int64_t n, int64_t tail)
{
    eq_mix mix = {0};
    eq_status st = parse_mix(ctx, &mix, path);
    if (st == EQ_OK)
        st = mix.n == 1 && eq_path_ends(mix.sources[0].path, ".npy")
                 ? npy_windows(ctx, out, mix.sources[0].path)
                 : text_windows(ctx, job, out, path, &mix, n, tail);
    eq_mix_deinit(&mix);
    if (st != EQ_OK) return st;
    if (out->n < n && !job->all) n = out->n;
    return eq_windows_check(ctx, out, path, n, job->options->seqlen, job->decoder->config.V);
}

/* ---- text of the model --------------------------------------------------------------------- */

/* The windows written so far stand in a file whose name has all that they depend on: there may be
 * no plan yet that would say whose they are. */
static char *part_path(eq_ctx *ctx, const eq_data_job *job)
{
    const uint64_t what[] = {eq_checkpoint_fingerprint(job->decoder->checkpoint), job->seed,
                             (uint64_t)job->options->seqlen, (uint64_t)job->type};
    const uint64_t hash = eq_hash(EQ_HASH_START, what, sizeof what);
    const char *isa = eq_ctx_isa(ctx);
    return eq_format(ctx, "%s/calib.tmp-%016llx.npy", job->folder,
                     (unsigned long long)eq_hash(hash, isa, strlen(isa)));
}

/* What writing needs to keep its windows. */
typedef struct part {
    char *path; /* owned */
    int64_t T;
} part;

static eq_status keep_part(eq_ctx *ctx, void *user, const int32_t *ids, int64_t n)
{
    const part *p = user;
    return eq_npy_write_i32(ctx, p->path, ids, n, p->T);
}

/* Windows of an earlier call, fewer than `out` has room for; *there is how many. */
static eq_status load_part(eq_ctx *ctx, const eq_data_job *job, const part *p,
                           const eq_token_windows *out, int64_t *there)
{
    eq_token_windows old = {0};
    if (!eq_file_exists(p->path)) return EQ_OK;
    eq_status st = npy_windows(ctx, &old, p->path);
    if (st == EQ_OK) st = eq_windows_check(ctx, &old, p->path, 0, out->T, job->decoder->config.V);
    if (st == EQ_OK) {
        *there = old.n < out->n ? old.n : out->n - 1;
        memcpy(out->ids, old.ids, (size_t)(*there * out->T) * sizeof *out->ids);
        eq_log(ctx, EQ_LOG_INFO, "%lld windows are there already", (long long)*there);
    }
    eq_windows_deinit(&old);
    return st;
}

static eq_status write_windows(eq_ctx *ctx, const eq_data_job *job, eq_token_windows *out,
                               eq_self_options *self, part *p)
{
    const double start = eq_seconds();
    eq_log(ctx, EQ_LOG_INFO, "sampling %lld windows of %lld tokens from the model",
           (long long)out->n, (long long)out->T);
    eq_status st = load_part(ctx, job, p, out, &self->there);
    self->keep = keep_part;
    self->user = p;
    if (st == EQ_OK) st = eq_self_windows(ctx, job->decoder, self, out->ids);
    if (st != EQ_OK) return st;
    const double seconds = eq_seconds() - start;
    eq_log(ctx, EQ_LOG_INFO, "sampled in %.1f s, %.0f tokens/s", seconds,
           (double)((out->n - self->there) * out->T) / seconds);
    return EQ_OK;
}

/* Windows sampled from the model, or those of `path`, which an earlier call kept. */
static eq_status self_windows(eq_ctx *ctx, const eq_data_job *job, eq_token_windows *out,
                              const char *path, int64_t n)
{
    if (eq_file_exists(path)) return load_windows(ctx, job, out, path, n, 0);
    const int64_t T = job->options->seqlen, V = job->decoder->config.V;
    int32_t ends[EQ_MAX_ENDS];
    bool *normal = eq_alloc(ctx, V, sizeof *normal);
    part p = {part_path(ctx, job), T};
    eq_self_options self = {.n = n,
                            .T = T,
                            .seed = job->seed,
                            .type = job->type,
                            .normal = normal,
                            .ends = ends,
                            .end_count = eq_end_tokens(job->decoder->checkpoint, ends),
                            .memory = job->memory};
    *out = (eq_token_windows){.ids = eq_alloc(ctx, n * T, sizeof(int32_t)), .n = n, .T = T};
    eq_status st = normal && out->ids && p.path ? EQ_OK : EQ_ENOMEM;
    for (int32_t id = 0; st == EQ_OK && id < V; id++)
        normal[id] = !job->tokenizer || !eq_tokenizer_is_special(job->tokenizer, id);
    if (st == EQ_OK) st = write_windows(ctx, job, out, &self, &p);
    eq_free(p.path);
    eq_free(normal);
    return st;
}

/* ---- the windows of a run ------------------------------------------------------------------ */

int eq_data_passes(const eq_data_options *o, int epochs, int64_t windows)
{
    enum { MOST = 3 };
    if (epochs != EQ_EPOCHS_BY_WORK) return epochs;
    int64_t nearest = (o->work + windows / 2) / windows;
    return nearest < 1 ? 1 : nearest > MOST ? MOST : (int)nearest;
}

bool eq_data_is_made(const eq_data_options *options)
{
    return !strcmp(options->calib, "self");
}

static void warn_of_length(eq_ctx *ctx, const eq_data_job *job)
{
    const int64_t T = job->options->seqlen, made_for = job->decoder->config.positions;
    if (T > made_for)
        eq_log(ctx, EQ_LOG_WARNING,
               "%s: windows of %lld tokens are longer than the %lld that the model was made for",
               eq_checkpoint_path(job->decoder->checkpoint), (long long)T, (long long)made_for);
}

static void warn_of_few(eq_ctx *ctx, const char *path, int64_t there, int64_t wanted)
{
    if (there < wanted)
        eq_log(ctx, EQ_LOG_WARNING, "%s: gives %lld of the %lld windows asked for", path,
               (long long)there, (long long)wanted);
}

void eq_data_describe(json_t *options, const eq_data_options *o, uint64_t seed)
{
    json_object_set_new(options, "samples", json_integer(o->samples));
    json_object_set_new(options, "val_samples", json_integer(o->val_samples));
    json_object_set_new(options, "seqlen", json_integer(o->seqlen));
    if (eq_data_is_made(o)) json_object_set_new(options, "seed", json_integer((json_int_t)seed));
}

void eq_data_inform(json_t *info, const eq_data_options *o, const eq_data *data)
{
    static const char *const ORDERS[] = {"concat", "random-doc"};
    static const char *const INSTRUCTIONS[] = {"alpaca", "chat"};
    json_object_set_new(info, "calib", json_string(o->calib));
    if (data->calib.ids) {
        json_object_set_new(info, "windows", json_integer(data->train_windows));
        json_object_set_new(info, "val_windows", json_integer(data->val_windows));
    }
    if (data->own_val.ids) json_object_set_new(info, "val", json_string(o->val));
    if (eq_data_is_made(o) || eq_path_ends(o->calib, ".npy")) return;
    json_object_set_new(info, "order", json_string(ORDERS[o->order]));
    if (o->order == EQ_ORDER_RANDOM_DOC) return;
    const eq_example_options *e = &o->examples;
    json_object_set_new(info, "instructions", json_string(INSTRUCTIONS[e->instructions]));
    if (e->chat_format) json_object_set_new(info, "chat_format", json_string(e->chat_format));
    json_object_set_new(info, "source_max", json_integer(e->source_max));
    json_object_set_new(info, "target_max", json_integer(e->target_max));
}

eq_status eq_data_keep(eq_ctx *ctx, const eq_data_job *job, const eq_data *data)
{
    char *path = eq_path_join(ctx, job->folder, "calib.npy");
    eq_status st = path ? EQ_OK : EQ_ENOMEM;
    if (path && !eq_file_exists(path))
        st = eq_npy_write_i32(ctx, path, data->calib.ids, data->calib.n, data->calib.T);
    eq_free(path);
    return st;
}

eq_status eq_data_text(eq_ctx *ctx, const eq_data_job *job, eq_token_windows *out)
{
    *out = (eq_token_windows){0};
    eq_status st = load_windows(ctx, job, out, job->options->calib, job->samples, 0);
    if (st == EQ_OK) warn_of_length(ctx, job);
    return st;
}

eq_status eq_data_load(eq_ctx *ctx, const eq_data_job *job, eq_data *data)
{
    const eq_data_options *o = job->options;
    *data = (eq_data){0};
    int64_t tail = o->val ? 0 : job->val_samples, n = job->samples + tail;
    eq_status st = EQ_OK;
    if (eq_data_is_made(o)) {
        char *path = eq_path_join(ctx, job->folder, "calib.npy");
        st = path ? self_windows(ctx, job, &data->calib, path, n) : EQ_ENOMEM;
        eq_free(path);
    } else {
        st = load_windows(ctx, job, &data->calib, o->calib, n, tail);
    }
    if (st == EQ_OK && data->calib.n <= tail)
        st = eq_windows_short(ctx, o->calib, data->calib.n, o->seqlen, tail + 1);
    if (st != EQ_OK) return st;
    data->train_windows = data->calib.n - tail;
    data->val_windows = tail;
    warn_of_few(ctx, o->calib, data->train_windows, job->samples);
    warn_of_length(ctx, job);
    int64_t behind = data->train_windows * o->seqlen;
    data->train = data->calib.ids;
    data->val = data->calib.ids + behind;
    data->train_counts = data->calib.counts;
    data->val_counts = data->calib.counts ? data->calib.counts + behind : NULL;
    if (!o->val || !job->val_samples) return EQ_OK;
    st = load_windows(ctx, job, &data->own_val, o->val, job->val_samples, 0);
    if (st != EQ_OK) return st;
    data->val = data->own_val.ids;
    data->val_counts = data->own_val.counts;
    data->val_windows = data->own_val.n;
    warn_of_few(ctx, o->val, data->val_windows, job->val_samples);
    return EQ_OK;
}

void eq_data_deinit(eq_data *data)
{
    eq_windows_deinit(&data->calib);
    eq_windows_deinit(&data->own_val);
    *data = (eq_data){0};
}

uint64_t eq_data_hash(const eq_data *data)
{
    const eq_token_windows *sets[] = {&data->calib, &data->own_val};
    uint64_t hash = EQ_HASH_START;
    for (int i = 0; i < 2; i++) {
        size_t tokens = (size_t)(sets[i]->n * sets[i]->T);
        hash = eq_hash(hash, sets[i]->ids, tokens * sizeof(int32_t));
        if (sets[i]->counts) hash = eq_hash(hash, sets[i]->counts, tokens);
    }
    return hash;
}
