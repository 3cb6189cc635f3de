/* Folders of linears packed as other programs pack them: the same codes, zero points and scales in
 * other words. */
#include "export/folder.h"

#include <stdio.h>

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

/* What the format cannot hold. `first` is a linear that all must be like, unless each has a scheme
 * of its own. */
static eq_status check_linear(eq_ctx *ctx, const eq_export_job *job, const eq_weight *w,
                              const eq_weight *first)
{
    const eq_qmatrix *q = &w->stored->matrix, *f = &first->stored->matrix;
    eq_packing_kind kind = kind_of(job);
    bool rows = group_of(q) == -1 && group_of(f) == -1;
    if (q->order)
        return eq_weight_refuse(ctx, job, w,
                                "has columns in activation order, which are not exported");
    if (kind == EQ_PACKING_AWQ && (q->bits != 4 || q->N % 8))
        return eq_weight_refuse(
            ctx, job, w,
            "does not fit AWQ, which holds 4 bits, and rows by eights: eqat quantize --bits 4");
    if (kind != EQ_PACKING_COMPRESSED && (q->bits != f->bits || (q->g != f->g && !rows)))
        return eq_weight_refuse(
            ctx, job, w,
            "has other bits or groups than the linears before, which the format cannot "
            "hold; compressed-tensors can");
    return EQ_OK;
}

/* Scales are written as halves. */
static eq_status check_grid(eq_ctx *ctx, const eq_export_job *job, eq_weight *w)
{
    bool halves;
    int least;
    eq_status st = eq_weight_check_grid(ctx, w, &halves, &least);
    return st != EQ_OK || halves
               ? st
               : eq_weight_refuse(ctx, job, w, "has a scale that is no half (F16)");
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
            return eq_weight_refuse(ctx, job, w,
                                    job->decoder->bits == 16
                                        ? "is not quantized; eqat quantize comes first"
                                        : "is in ggml's blocks, which gguf and dense hold");
        if (!is_linear(w)) {
            plan_plain(w);
            continue;
        }
        if (!first) first = w;
        st = check_linear(ctx, job, w, first);
        w->packed = true;
        if (st == EQ_OK) st = check_grid(ctx, job, w);
    }
    return st;
}

/* ---- the configuration --------------------------------------------------------------------- */

static json_t *awq_settings(eq_ctx *ctx, const eq_export_job *job)
{
    (void)ctx;
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
static json_t *compressed_settings(eq_ctx *ctx, const eq_export_job *job)
{
    json_t *groups = json_object();
    for (int64_t i = 0; i < job->count; i++) {
        if (!is_linear(&job->weights[i])) continue;
        const eq_qmatrix q = eq_layout_matrix(EQ_PACKING_COMPRESSED, &job->weights[i]);
        json_array_append_new(json_object_get(find_group(groups, &q), "targets"),
                              json_string(job->weights[i].module));
    }
    if (json_object_size(groups) == 1)
        json_object_set_new(json_object_get(groups, "group_0"), "targets",
                            json_pack("[s]", "Linear"));
    json_t *settings =
        json_pack("{s:s, s:s, s:s, s:[s], s:o}", "quant_method", "compressed-tensors", "format",
                  "pack-quantized", "quantization_status", "compressed", "ignore", "lm_head",
                  "config_groups", groups);
    if (!settings) eq_fail(ctx, EQ_ENOMEM, "out of memory for the settings");
    return settings;
}

/* EfficientQAT's programs are told bits and groups. */
static json_t *no_settings(eq_ctx *ctx, const eq_export_job *job)
{
    (void)ctx;
    (void)job;
    return NULL;
}

eq_status eq_packed_export(eq_ctx *ctx, const eq_export_job *job, const char *folder)
{
    static json_t *(*const SETTINGS[EQ_PACKINGS])(eq_ctx *, const eq_export_job *) = {
        [EQ_PACKING_AWQ] = awq_settings,
        [EQ_PACKING_COMPRESSED] = compressed_settings,
        [EQ_PACKING_EFFICIENTQAT] = no_settings};
    const eq_export_layout layout = {kind_of(job), SETTINGS[kind_of(job)], false};
    return eq_folder_export(ctx, job, folder, &layout);
}
