#include "train/output.h"

#include "io/gptq_config.h"
#include "io/json_file.h"
#include "train/block_file.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BEFORE = 3, MOST_BEFORE = 1 + EQ_ENDS * EQ_PACKED_TENSORS, COPY_ROWS = 256 };

/* What stands before the blocks, in the order of the file. */
typedef struct before {
    int end;          /* EQ_EMBEDDING, EQ_HEAD, or -1 for the final norm */
    eq_tensor tensor; /* of the source, unless packed */
    eq_qmatrix shape; /* when packed */
    bool packed;
} before;

static eq_status find_before(eq_ctx *ctx, const eq_quantize_job *job, before *b)
{
    const eq_decoder *d = job->teacher;
    const eq_config *c = &d->config;
    char name[EQ_TENSOR_NAME];
    if (b->end >= 0 && eq_end_is_packed(c, job->ends, b->end)) {
        const eq_scheme *s = &job->ends[b->end];
        b->packed = true;
        b->shape =
            (eq_qmatrix){.bits = s->bits, .N = c->V, .K = c->C, .g = eq_scheme_group(s, c->C)};
        return EQ_OK;
    }
    if (b->end < 0 && job->final_norm) {
        b->tensor = (eq_tensor){
            .data = job->final_norm, .type = EQ_F32, .dims = 1, .shape = {c->C, 1, 1, 1}};
        return EQ_OK;
    }
    snprintf(name, sizeof name, "%s.weight", b->end < 0 ? "model.norm" : eq_end_names[b->end]);
    return eq_checkpoint_tensor(ctx, d->checkpoint, name, &b->tensor);
}

/* The type in which a tensor of the source is written. */
static eq_dtype written_type(eq_dtype type)
{
    return type == EQ_F32 || type == EQ_BF16 ? type : EQ_F16;
}

static eq_status write_tensor(eq_ctx *ctx, eq_safetensors_writer *w, const eq_tensor *t)
{
    int64_t K = t->dims > 1 ? t->shape[1] : t->shape[0], N = t->dims > 1 ? t->shape[0] : 1;
    if (written_type(t->type) == t->type)
        return eq_safetensors_write(w, t->data, eq_dtype_bytes(t->type, N * K));
    float *rows = eq_alloc(ctx, COPY_ROWS * K, sizeof *rows);
    uint16_t *halves = eq_alloc(ctx, COPY_ROWS * K, sizeof *halves);
    eq_status st = rows && halves ? EQ_OK : EQ_ENOMEM;
    for (int64_t r = 0; st == EQ_OK && r < N; r += COPY_ROWS) {
        int64_t n = N - r < COPY_ROWS ? N - r : COPY_ROWS;
        eq_tensor_rows_f32(rows, K, t, r, n);
        for (int64_t i = 0; i < n * K; i++)
            halves[i] = eq_f32_f16(rows[i]);
        st = eq_safetensors_write(w, halves, (size_t)(n * K) * sizeof *halves);
    }
    eq_free(rows);
    eq_free(halves);
    return st;
}

/* Append the tensors' bytes of one block file, which are in the order declared. */
static eq_status copy_block(eq_ctx *ctx, eq_safetensors_writer *w, const eq_quantize_job *job,
                            int64_t block)
{
    eq_tensor_entry entries[EQ_BLOCK_TENSORS];
    char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME];
    int64_t count =
        eq_block_file_entries(&job->teacher->config, &job->schemes[block], block, entries, names);
    eq_safetensors *file = NULL;
    char *path = eq_run_block_path(ctx, job->run, block);
    eq_status st = path ? eq_safetensors_open(ctx, &file, path) : EQ_ENOMEM;
    for (int64_t i = 0; st == EQ_OK && i < count; i++) {
        eq_tensor t;
        st = eq_safetensors_expect(ctx, file, &entries[i], &t);
        if (st == EQ_OK) st = eq_safetensors_write(w, t.data, eq_tensor_entry_bytes(&entries[i]));
    }
    eq_safetensors_close(file);
    eq_free(path);
    return st;
}

/* What model.safetensors holds, in the order of the file. */
typedef struct contents {
    before before[BEFORE];
    int count_before;              /* members of `before` */
    eq_tensor_entry *entries;      /* owned, [count] */
    char (*names)[EQ_TENSOR_NAME]; /* owned, of the entries */
    int64_t count;
} contents;

static void contents_free(contents *m)
{
    eq_free(m->entries);
    eq_free(m->names);
}

static void list_before(contents *m, const before *b)
{
    eq_tensor_entry *e = &m->entries[m->count];
    const char *prefix = b->end < 0 ? "model.norm" : eq_end_names[b->end];
    if (b->packed) {
        eq_packed_entries(e, &m->names[m->count], prefix, &b->shape);
        m->count += EQ_PACKED_TENSORS;
        return;
    }
    snprintf(m->names[m->count], EQ_TENSOR_NAME, "%s.weight", prefix);
    *e = (eq_tensor_entry){m->names[m->count++], written_type(b->tensor.type), b->tensor.dims, {0}};
    memcpy(e->shape, b->tensor.shape, sizeof e->shape);
}

static eq_status list_contents(eq_ctx *ctx, contents *m, const eq_quantize_job *job)
{
    static const int ORDER[BEFORE] = {EQ_EMBEDDING, -1, EQ_HEAD};
    const eq_config *c = &job->teacher->config;
    int64_t most = c->L * EQ_BLOCK_TENSORS + MOST_BEFORE;
    *m = (contents){.entries = eq_alloc(ctx, most, sizeof *m->entries),
                    .names = eq_alloc(ctx, most, sizeof *m->names),
                    .count_before = c->tied ? BEFORE - 1 : BEFORE};
    eq_status st = m->entries && m->names ? EQ_OK : EQ_ENOMEM;
    for (int i = 0; st == EQ_OK && i < m->count_before; i++) {
        m->before[i].end = ORDER[i];
        st = find_before(ctx, job, &m->before[i]);
        if (st == EQ_OK) list_before(m, &m->before[i]);
    }
    for (int64_t b = 0; st == EQ_OK && b < c->L; b++)
        m->count += eq_block_file_entries(c, &job->schemes[b], b, m->entries + m->count,
                                          m->names + m->count);
    return st;
}

eq_status eq_output_bytes(eq_ctx *ctx, const eq_quantize_job *job, int64_t *bytes)
{
    contents m;
    eq_status st = list_contents(ctx, &m, job);
    *bytes = 0;
    for (int64_t i = 0; st == EQ_OK && i < m.count; i++)
        *bytes += (int64_t)eq_tensor_entry_bytes(&m.entries[i]);
    contents_free(&m);
    return st;
}

static eq_status write_before(eq_ctx *ctx, eq_safetensors_writer *w, const before *b,
                              const eq_decoder *model)
{
    const eq_stored *stored = b->end == EQ_HEAD ? &model->head_stored : &model->embedding_stored;
    return b->packed ? eq_packed_copy(ctx, w, &stored->parts[0].matrix)
                     : write_tensor(ctx, w, &b->tensor);
}

static eq_status write_model(eq_ctx *ctx, const eq_quantize_job *job, const char *path)
{
    contents m;
    eq_safetensors_writer w = {0};
    eq_status st = list_contents(ctx, &m, job);
    if (st == EQ_OK) st = eq_safetensors_begin(ctx, &w, path, m.entries, m.count);
    if (st != EQ_OK) goto done;
    for (int i = 0; st == EQ_OK && i < m.count_before; i++)
        st = write_before(ctx, &w, &m.before[i], job->model);
    for (int64_t b = 0; st == EQ_OK && b < job->teacher->config.L; b++)
        st = copy_block(ctx, &w, job, b);
    if (st == EQ_OK)
        st = eq_safetensors_commit(&w);
    else
        eq_safetensors_abandon(&w);
done:
    contents_free(&m);
    return st;
}

/* Names of one unit's modules, and of the one that vLLM and SGLang make of several. */
static int unit_modules(const eq_config *c, eq_unit unit, const char *names[EQ_MAX_PARTS + 1])
{
    eq_part parts[EQ_MAX_PARTS];
    int count = eq_unit_parts(c, unit, parts);
    for (int p = 0; p < count; p++)
        names[p] = parts[p].name;
    if (unit == EQ_QKV) names[count++] = "self_attn.qkv_proj";
    if (unit == EQ_GATE_UP) names[count++] = "mlp.gate_up_proj";
    return count;
}

/* Add a module, unless it has the model's own grid. */
static bool add_override(json_t *dynamic, const eq_quantize_job *job, const char *module,
                         const eq_scheme *scheme)
{
    const eq_scheme base = eq_scheme_of(job->options);
    const eq_override value = {scheme->bits, scheme->group, eq_scheme_symmetric(scheme)};
    return eq_scheme_equal(scheme, &base) || eq_override_add(dynamic, module, &value);
}

/* Add the modules of unit i, counted through all blocks. */
static bool add_unit(json_t *dynamic, const eq_quantize_job *job, int64_t i)
{
    const char *names[EQ_MAX_PARTS + 1];
    int count = unit_modules(&job->teacher->config, (eq_unit)(i % EQ_UNITS), names);
    bool good = true;
    for (int p = 0; good && p < count; p++) {
        char module[EQ_TENSOR_NAME];
        snprintf(module, sizeof module, "model.layers.%lld.%s", (long long)(i / EQ_UNITS),
                 names[p]);
        good = add_override(dynamic, job, module, &job->schemes[i / EQ_UNITS].units[i % EQ_UNITS]);
    }
    return good;
}

/* Give `quantization` the modules whose grid is not the model's. */
static bool add_overrides(json_t *quantization, const eq_quantize_job *job)
{
    const eq_config *c = &job->teacher->config;
    json_t *dynamic = json_object();
    bool good = dynamic != NULL;
    for (int64_t i = 0; good && i < c->L * EQ_UNITS; i++)
        good = add_unit(dynamic, job, i);
    for (int i = 0; good && i < EQ_ENDS; i++)
        if (eq_end_is_packed(c, job->ends, i))
            good = add_override(dynamic, job, eq_end_names[i], &job->ends[i]);
    if (good && json_object_size(dynamic))
        good = !json_object_set(quantization, "dynamic", dynamic);
    json_decref(dynamic);
    return good;
}

/* With super-blocks, which other programs do not read in folders, the method is ours. */
static json_t *quantization_config(const eq_quantize_job *job)
{
    const eq_scheme scheme = eq_scheme_of(job->options);
    const eq_config *c = &job->teacher->config;
    const eq_override base = {scheme.bits, scheme.group, eq_scheme_symmetric(&scheme)};
    json_t *q = eq_gptq_config(&base, eq_end_is_packed(c, job->ends, EQ_HEAD), 2);
    if (eq_schemes_have_super(job->schemes, c->L))
        json_object_set_new(q, "quant_method", json_string("eqat"));
    return q;
}

static eq_status write_configs(eq_ctx *ctx, const eq_quantize_job *job)
{
    const char *out = job->run->out;
    json_t *quantization = quantization_config(job);
    json_t *config = json_deep_copy(eq_checkpoint_config(job->teacher->checkpoint));
    bool made = quantization && config && add_overrides(quantization, job);
    eq_status st = made ? EQ_OK : eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", out);
    if (st == EQ_OK) st = eq_json_save(ctx, out, "quantize_config.json", quantization);
    json_object_set(config, "quantization_config", quantization);
    if (st == EQ_OK) st = eq_json_save(ctx, out, "config.json", config);
    json_decref(quantization);
    json_decref(config);
    return st;
}

eq_status eq_output_model(eq_ctx *ctx, const eq_quantize_job *job)
{
    char *path = eq_path_join(ctx, job->run->out, "model.safetensors");
    eq_status st = path ? write_model(ctx, job, path) : EQ_ENOMEM;
    if (st == EQ_OK) st = write_configs(ctx, job);
    eq_free(path);
    return st;
}

/* Whether a file of the run serves only until the model is written. */
static bool is_done_with(const char *name)
{
    static const char *const DONE[] = {"block-", "stream-", "masters-",
                                       "tune-",  "ends-",   "sensitivity."};
    for (size_t i = 0; i < sizeof DONE / sizeof *DONE; i++)
        if (!strncmp(name, DONE[i], strlen(DONE[i]))) return true;
    return false;
}

/* Remove the files of a folder that are `unwanted`. */
static void remove_files(eq_ctx *ctx, const char *folder, bool (*unwanted)(const char *name))
{
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char *path = unwanted(e->d_name) ? eq_path_join(ctx, folder, e->d_name) : NULL;
        if (path) unlink(path);
        eq_free(path);
    }
    closedir(dir);
}

void eq_output_clean(eq_ctx *ctx, const eq_quantize_job *job)
{
    remove_files(ctx, job->run->out, eq_run_temporary);
    remove_files(ctx, job->run->folder, eq_run_temporary);
}

void eq_output_finish(eq_ctx *ctx, const eq_quantize_job *job)
{
    remove_files(ctx, job->run->folder, is_done_with);
}

double eq_output_bits_per_weight(const eq_config *c, const eq_block_scheme *schemes)
{
    double bits = 0, weights = 0;
    for (int64_t i = 0; i < c->L * EQ_UNITS; i++) {
        eq_unit unit = (eq_unit)(i % EQ_UNITS);
        int64_t N = eq_unit_rows(c, unit), K = eq_unit_columns(c, unit);
        weights += (double)(N * K);
        bits += (double)eq_scheme_stored_bits(&schemes[i / EQ_UNITS].units[unit], N, K);
    }
    return bits / weights;
}
