/* Folders of linears packed as other programs pack them: the same codes, zero points and scales in
 * other words. */
#include "export/export.h"
#include "io/json_file.h"

#include <stdio.h>

enum { MOST_TENSORS = 4, TENSOR_NAME = 128, COPY_ROWS = 64 };

static eq_packing_kind kind_of(const eq_export_job *job)
{
    static const eq_packing_kind KINDS[] = {[EQ_EXPORT_AWQ] = EQ_PACKING_AWQ,
                                            [EQ_EXPORT_COMPRESSED] = EQ_PACKING_COMPRESSED,
                                            [EQ_EXPORT_EQAT] = EQ_PACKING_EFFICIENTQAT};
    return KINDS[job->options->format];
}

/* ---- the plan ------------------------------------------------------------------------------ */

static bool is_linear(const eq_weight *w)
{
    return w->linear && eq_weight_is_packed(w);
}

/* Columns of a group, -1 for whole rows. */
static int64_t group_of(const eq_qmatrix *q)
{
    return q->g == q->K ? -1 : q->g;
}

static eq_status refuse(eq_ctx *ctx, const eq_export_job *job, const eq_weight *w, const char *why)
{
    return eq_fail(ctx, EQ_EINVAL, "%s: %s: %s", eq_checkpoint_path(job->decoder->checkpoint),
                   w->module, why);
}

/* What the format cannot hold. `first` is a linear that all must be like, unless each has a scheme
 * of its own. */
static eq_status check_linear(eq_ctx *ctx, const eq_export_job *job, const eq_weight *w,
                              const eq_weight *first)
{
    const eq_qmatrix *q = &w->stored->matrix, *f = &first->stored->matrix;
    eq_packing_kind kind = kind_of(job);
    bool rows = group_of(q) == -1 && group_of(f) == -1;
    if (q->order) return refuse(ctx, job, w, "columns in activation order are only held by gptq");
    if (kind == EQ_PACKING_AWQ && (q->bits != 4 || q->N % 8))
        return refuse(ctx, job, w, "AWQ holds 4 bits, and rows by eights: eqat quantize --bits 4");
    if (kind != EQ_PACKING_COMPRESSED && (q->bits != f->bits || (q->g != f->g && !rows)))
        return refuse(ctx, job, w,
                      "has other bits or groups than the linears before, which the format cannot "
                      "hold; compressed-tensors can");
    return EQ_OK;
}

/* Scales are written as halves. */
static eq_status check_scales(eq_ctx *ctx, const eq_export_job *job, const eq_weight *w)
{
    const eq_qmatrix *q = &w->stored->matrix;
    int64_t groups = q->K / q->g, wrong = -1;
    float *s = eq_alloc(ctx, 2 * groups, sizeof *s);
    if (!s) return EQ_ENOMEM;
    for (int64_t n = 0; n < q->N && wrong < 0; n++) {
        eq_qmatrix_grid(s, s + groups, q, n);
        for (int64_t k = 0; k < groups; k++)
            if (eq_f16_f32(eq_f32_f16(s[k])) != s[k]) wrong = n;
    }
    eq_free(s);
    return wrong < 0 ? EQ_OK : refuse(ctx, job, w, "has a scale that is no half (F16)");
}

/* The element type of what stays in plain numbers. Codes of an embedding or a head, which these
 * formats have not, become F32, which holds their products exactly. */
static void plan_plain(eq_weight *w)
{
    eq_dtype type = eq_weight_is_packed(w) ? EQ_F32 : eq_weight_type(w);
    w->type = type == EQ_F32 || type == EQ_BF16 ? type : EQ_F16;
    if (type != w->type) w->relative = 0x1p-11f;
}

eq_status eq_packed_plan(eq_ctx *ctx, eq_export_job *job)
{
    const eq_weight *first = NULL;
    eq_status st = EQ_OK;
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++) {
        eq_weight *w = &job->weights[i];
        if (w->linear && !eq_weight_is_packed(w))
            return refuse(ctx, job, w, "is not quantized; eqat quantize comes first");
        if (!is_linear(w)) {
            plan_plain(w);
            continue;
        }
        if (!first) first = w;
        st = check_linear(ctx, job, w, first);
        if (st == EQ_OK) st = check_scales(ctx, job, w);
    }
    return st;
}

/* ---- tensors ------------------------------------------------------------------------------- */

/* A linear in plain numbers and in those of the file; owned. */
typedef struct room {
    uint8_t *codes, *zeros; /* [N, K], [N, K/g] */
    float *scales, *row;    /* [N, K/g], [K/g] */
    void *words, *zero_words, *halves;
    int32_t *order; /* [K] */
} room;

static void room_deinit(room *r)
{
    eq_free(r->codes);
    eq_free(r->zeros);
    eq_free(r->scales);
    eq_free(r->row);
    eq_free(r->words);
    eq_free(r->zero_words);
    eq_free(r->halves);
    eq_free(r->order);
}

static eq_status room_init(eq_ctx *ctx, room *r, const eq_qmatrix *q)
{
    const eq_qshapes s = eq_qmatrix_shapes(q);
    int64_t groups = q->K / q->g;
    *r = (room){.codes = eq_alloc(ctx, q->N * q->K, 1),
                .zeros = eq_alloc(ctx, q->N * groups, 1),
                .scales = eq_alloc(ctx, q->N * groups, sizeof(float)),
                .row = eq_alloc(ctx, groups, sizeof(float)),
                .words = eq_alloc(ctx, s.weight[0] * s.weight[1], 4),
                .zero_words = eq_alloc(ctx, s.zeros[0] * s.zeros[1], 4),
                .halves = eq_alloc(ctx, q->N * groups, 2),
                .order = eq_alloc(ctx, q->K, sizeof(int32_t))};
    bool ok = r->codes && r->zeros && r->scales && r->row && r->words && r->zero_words &&
              r->halves && r->order;
    return ok ? EQ_OK : EQ_ENOMEM;
}

/* Whether all zero points are the middle code, which compressed-tensors then does not store. */
static eq_status find_symmetric(eq_ctx *ctx, const eq_qmatrix *q, bool *symmetric)
{
    int64_t groups = q->K / q->g;
    float *s = eq_alloc(ctx, 2 * groups, sizeof *s), middle = (float)(1 << (q->bits - 1));
    if (!s) return EQ_ENOMEM;
    *symmetric = true;
    for (int64_t n = 0; n < q->N && *symmetric; n++) {
        eq_qmatrix_grid(s, s + groups, q, n);
        for (int64_t k = 0; k < groups; k++)
            *symmetric = *symmetric && s[groups + k] == middle;
    }
    eq_free(s);
    return EQ_OK;
}

/* The same linear in the layout of the file. */
static eq_status find_target(eq_ctx *ctx, const eq_export_job *job, const eq_weight *w,
                             eq_qmatrix *target)
{
    const eq_qmatrix *q = &w->stored->matrix;
    *target = (eq_qmatrix){.bits = q->bits,
                           .N = q->N,
                           .K = q->K,
                           .g = q->g,
                           .scale_type = EQ_F16,
                           .layout = eq_packing_format_get(kind_of(job))->layout};
    bool may_be = kind_of(job) == EQ_PACKING_COMPRESSED;
    return may_be ? find_symmetric(ctx, q, &target->symmetric) : EQ_OK;
}

/* Append an entry; its name goes to `name`. */
static void add_entry(eq_tensor_entry *entry, char name[TENSOR_NAME], const char *module,
                      const char *part, eq_tensor_entry as)
{
    snprintf(name, TENSOR_NAME, "%s.%s", module, part);
    *entry = as;
    entry->name = name;
}

/* The tensors of a linear, in the order in which write_linear writes them; returns how many. */
static int list_linear(eq_tensor_entry *entries, char (*names)[TENSOR_NAME], const char *module,
                       const eq_packing_format *f, const eq_qmatrix *q)
{
    const eq_qshapes s = eq_qmatrix_shapes(q);
    int n = 0;
    add_entry(&entries[n], names[n], module, f->weight,
              (eq_tensor_entry){NULL, EQ_I32, 2, {s.weight[0], s.weight[1]}});
    n++;
    if (!q->symmetric) {
        add_entry(&entries[n], names[n], module, f->zeros,
                  (eq_tensor_entry){NULL, EQ_I32, 2, {s.zeros[0], s.zeros[1]}});
        n++;
    }
    add_entry(&entries[n], names[n], module, f->scales,
              (eq_tensor_entry){NULL, EQ_F16, 2, {s.scales[0], s.scales[1]}});
    n++;
    if (f->shape) {
        add_entry(&entries[n], names[n], module, f->shape, (eq_tensor_entry){NULL, EQ_I64, 1, {2}});
        n++;
    } else if (!f->layout.across) {
        add_entry(&entries[n], names[n], module, f->order,
                  (eq_tensor_entry){NULL, EQ_I32, 1, {q->K}});
        n++;
    }
    return n;
}

static void read_linear(room *r, const eq_qmatrix *q)
{
    int64_t groups = q->K / q->g;
    for (int64_t n = 0; n < q->N; n++) {
        eq_qmatrix_codes(r->codes + n * q->K, q, n);
        eq_qmatrix_grid(r->scales + n * groups, r->row, q, n);
        for (int64_t k = 0; k < groups; k++)
            r->zeros[n * groups + k] = (uint8_t)r->row[k];
    }
    for (int64_t k = 0; k < q->K; k++)
        r->order[k] = (int32_t)(k / q->g);
}

static eq_status write_linear(eq_ctx *ctx, eq_safetensors_writer *writer, const eq_export_job *job,
                              const eq_weight *w)
{
    const eq_packing_format *f = eq_packing_format_get(kind_of(job));
    const int64_t shape[2] = {w->N, w->K};
    eq_qmatrix q;
    room r = {0};
    eq_status st = find_target(ctx, job, w, &q);
    if (st == EQ_OK) st = room_init(ctx, &r, &q);
    if (st != EQ_OK) goto done;
    read_linear(&r, &w->stored->matrix);
    eq_qmatrix_pack(r.words, r.zero_words, r.halves, r.codes, r.zeros, r.scales, &q);
    const eq_qshapes s = eq_qmatrix_shapes(&q);
    st = eq_safetensors_write(writer, r.words, eq_qmatrix_bytes(&q));
    if (st == EQ_OK && !q.symmetric)
        st = eq_safetensors_write(writer, r.zero_words, (size_t)(s.zeros[0] * s.zeros[1]) * 4);
    if (st == EQ_OK)
        st = eq_safetensors_write(writer, r.halves, eq_qmatrix_scale_bytes(q.N, q.K, q.g));
    if (st == EQ_OK && f->shape) st = eq_safetensors_write(writer, shape, sizeof shape);
    if (st == EQ_OK && !f->shape && !f->layout.across)
        st = eq_safetensors_write(writer, r.order, (size_t)q.K * sizeof *r.order);
done:
    room_deinit(&r);
    return st;
}

/* Plain numbers in the planned type. */
static eq_status write_plain(eq_ctx *ctx, eq_safetensors_writer *writer, const eq_weight *w)
{
    float *rows = eq_alloc(ctx, COPY_ROWS * w->K, sizeof *rows);
    uint16_t *halves = eq_alloc(ctx, COPY_ROWS * w->K, sizeof *halves);
    eq_status st = rows && halves ? EQ_OK : EQ_ENOMEM;
    for (int64_t row = 0; st == EQ_OK && row < w->N; row += COPY_ROWS) {
        int64_t n = w->N - row < COPY_ROWS ? w->N - row : COPY_ROWS;
        eq_weight_rows(rows, w, row, n);
        for (int64_t i = 0; w->type != EQ_F32 && i < n * w->K; i++)
            halves[i] = w->type == EQ_BF16 ? eq_f32_bf16(rows[i]) : eq_f32_f16(rows[i]);
        st = eq_safetensors_write(writer, w->type == EQ_F32 ? (void *)rows : halves,
                                  eq_dtype_bytes(w->type, n * w->K));
    }
    eq_free(rows);
    eq_free(halves);
    return st;
}

static eq_status list_entries(eq_ctx *ctx, const eq_export_job *job, eq_tensor_entry *entries,
                              char (*names)[TENSOR_NAME], int64_t *count)
{
    eq_status st = EQ_OK;
    int64_t n = 0;
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++) {
        const eq_weight *w = &job->weights[i];
        eq_qmatrix q;
        if (is_linear(w)) {
            st = find_target(ctx, job, w, &q);
            if (st == EQ_OK)
                n += list_linear(entries + n, names + n, w->module,
                                 eq_packing_format_get(kind_of(job)), &q);
            continue;
        }
        eq_tensor_entry plain = {NULL, w->type, 2, {w->N, w->K}};
        if (w->norm) plain = (eq_tensor_entry){NULL, w->type, 1, {w->K}};
        add_entry(&entries[n], names[n], w->module, "weight", plain);
        n++;
    }
    *count = n;
    return st;
}

static eq_status write_weights(eq_ctx *ctx, const eq_export_job *job, const char *folder)
{
    int64_t most = job->count * MOST_TENSORS, count = 0;
    eq_safetensors_writer writer = {0};
    eq_tensor_entry *entries = eq_alloc(ctx, most, sizeof *entries);
    char(*names)[TENSOR_NAME] = eq_alloc(ctx, most, TENSOR_NAME);
    char *path = eq_path_join(ctx, folder, "model.safetensors");
    eq_status st = entries && names && path ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) st = list_entries(ctx, job, entries, names, &count);
    if (st == EQ_OK) st = eq_safetensors_begin(ctx, &writer, path, entries, count);
    bool begun = st == EQ_OK;
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++) {
        const eq_weight *w = &job->weights[i];
        st = eq_export_progress(ctx, job, "writing", i);
        if (st == EQ_OK)
            st = is_linear(w) ? write_linear(ctx, &writer, job, w) : write_plain(ctx, &writer, w);
    }
    if (begun && st == EQ_OK)
        st = eq_safetensors_commit(&writer);
    else if (begun)
        eq_safetensors_abandon(&writer);
    eq_free(path);
    eq_free(names);
    eq_free(entries);
    return st;
}

/* ---- the configuration --------------------------------------------------------------------- */

static json_t *awq_settings(const eq_export_job *job)
{
    int64_t i = 0;
    while (!is_linear(&job->weights[i]))
        i++;
    return json_pack("{s:s, s:i, s:I, s:b, s:s, s:n}", "quant_method", "awq", "bits", 4,
                     "group_size", (json_int_t)group_of(&job->weights[i].stored->matrix),
                     "zero_point", 1, "version", "gemm", "modules_to_not_convert");
}

/* The scheme of a linear in compressed-tensors' words. */
static json_t *scheme_of(const eq_qmatrix *q)
{
    json_t *w = json_pack("{s:i, s:s, s:b, s:s, s:b, s:n}", "num_bits", q->bits, "type", "int",
                          "symmetric", (int)q->symmetric, "strategy",
                          group_of(q) == -1 ? "channel" : "group", "dynamic", 0, "actorder");
    if (group_of(q) != -1) json_object_set_new(w, "group_size", json_integer(q->g));
    return json_pack("{s:o, s:[], s:n, s:n, s:s}", "weights", w, "targets", "input_activations",
                     "output_activations", "format", "pack-quantized");
}

/* The group with this scheme, made if there is none. */
static json_t *find_group(json_t *groups, const eq_qmatrix *q)
{
    json_t *scheme = scheme_of(q), *group = NULL;
    const char *key = NULL;
    char name[32];
    json_object_foreach(groups, key, group)
    {
        if (!json_equal(json_object_get(group, "weights"), json_object_get(scheme, "weights")))
            continue;
        json_decref(scheme);
        return group;
    }
    snprintf(name, sizeof name, "group_%zu", json_object_size(groups));
    json_object_set_new(groups, name, scheme);
    return scheme;
}

/* One group of all linears by their class, or several by the names of their modules. */
static eq_status compressed_settings(eq_ctx *ctx, const eq_export_job *job, json_t **settings)
{
    json_t *groups = json_object();
    eq_status st = EQ_OK;
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++) {
        eq_qmatrix q;
        if (!is_linear(&job->weights[i])) continue;
        st = find_target(ctx, job, &job->weights[i], &q);
        if (st == EQ_OK)
            json_array_append_new(json_object_get(find_group(groups, &q), "targets"),
                                  json_string(job->weights[i].module));
    }
    if (json_object_size(groups) == 1)
        json_object_set_new(json_object_get(groups, "group_0"), "targets",
                            json_pack("[s]", "Linear"));
    *settings = json_pack("{s:s, s:s, s:s, s:[s], s:o}", "quant_method", "compressed-tensors",
                          "format", "pack-quantized", "quantization_status", "compressed", "ignore",
                          "lm_head", "config_groups", groups);
    return st;
}

/* That of the model, with the settings that the format's readers look for. They read scales in the
 * type of the model, which must therefore be that of the scales. */
static eq_status write_config(eq_ctx *ctx, const eq_export_job *job, const char *folder)
{
    json_t *config = json_deep_copy(eq_checkpoint_config(job->decoder->checkpoint)), *q = NULL;
    eq_packing_kind kind = kind_of(job);
    eq_status st = config ? EQ_OK : eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", folder);
    if (kind == EQ_PACKING_AWQ) q = awq_settings(job);
    if (st == EQ_OK && kind == EQ_PACKING_COMPRESSED) st = compressed_settings(ctx, job, &q);
    json_object_del(config, "quantization_config");
    if (q) json_object_set_new(config, "quantization_config", q);
    json_object_set_new(config, "torch_dtype", json_string("float16"));
    json_object_set_new(config, "dtype", json_string("float16"));
    if (st == EQ_OK) st = eq_json_save(ctx, folder, "config.json", config);
    json_decref(config);
    return st;
}

eq_status eq_packed_export(eq_ctx *ctx, const eq_export_job *job, const char *folder)
{
    eq_status st = write_weights(ctx, job, folder);
    return st == EQ_OK ? write_config(ctx, job, folder) : st;
}
