/* GPTQ, version 2 or 1. */
#include "export/folder.h"
#include "io/gptq_config.h"

#include <stdio.h>

/* ---- the plan ------------------------------------------------------------------------------ */

/* What the two versions cannot hold. */
static eq_status check(eq_ctx *ctx, const eq_export_job *job, eq_weight *w)
{
    const eq_qmatrix *q = &w->stored->matrix;
    bool halves;
    int least;
    if (q->order)
        return eq_weight_refuse(ctx, job, w,
                                "has columns in activation order, which are not exported");
    if (!eq_qmatrix_fits(q->N, q->K, q->bits))
        return eq_weight_refuse(ctx, job, w, "does not fill whole words of 32 bits");
    eq_status st = eq_weight_check_grid(ctx, w, &halves, &least);
    if (st == EQ_OK && !halves)
        return eq_weight_refuse(ctx, job, w,
                                "has a scale that is no half; eqat tune writes halves");
    if (st == EQ_OK && job->options->gptq_version == 1 && least == 0)
        return eq_weight_refuse(ctx, job, w,
                                "has a zero point of 0, which version 1 cannot hold: use "
                                "--gptq-version 2, or eqat quantize --grid symmetric");
    return st;
}

eq_status eq_gptq_plan(eq_ctx *ctx, eq_export_job *job)
{
    eq_status st = EQ_OK;
    if (job->decoder->bits == 16)
        return eq_fail(ctx, EQ_EINVAL, "%s: is not quantized in codes that GPTQ holds",
                       eq_checkpoint_path(job->decoder->checkpoint));
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++) {
        eq_weight *w = &job->weights[i];
        st = eq_export_progress(ctx, job, "checking", i);
        w->packed = eq_weight_is_packed(w);
        w->type = w->packed ? EQ_I32 : eq_weight_type(w);
        if (st == EQ_OK && w->packed) st = check(ctx, job, w);
        if (st == EQ_OK && w->linear && eq_weight_is_blocks(w))
            st = eq_weight_refuse(ctx, job, w, "is in ggml's blocks, which gguf and dense hold");
    }
    return st;
}

/* ---- settings ------------------------------------------------------------------------------ */

/* An override for a module, and for the one that vLLM and SGLang make of it and others. */
static void add_module(json_t *dynamic, const eq_weight *w, const eq_override *own)
{
    static const char *const JOINED[][2] = {{".q_proj", ".qkv_proj"},
                                            {".gate_proj", ".gate_up_proj"}};
    eq_override_add(dynamic, w->module, own);
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(w->module), cut = strlen(JOINED[i][0]);
        char name[EQ_MODULE_NAME + 8];
        if (n < cut || strcmp(w->module + n - cut, JOINED[i][0])) continue;
        snprintf(name, sizeof name, "%.*s%s", (int)(n - cut), w->module, JOINED[i][1]);
        eq_override_add(dynamic, name, own);
    }
}

/* All block linears on the symmetric grid, or at least one that is not. */
static bool all_symmetric(const eq_export_job *job)
{
    for (int64_t i = 0; i < job->count; i++)
        if (job->weights[i].linear && job->weights[i].packed && !job->weights[i].symmetric)
            return false;
    return true;
}

static json_t *quantization(eq_ctx *ctx, const eq_export_job *job)
{
    const eq_decoder *d = job->decoder;
    const eq_override base = {d->bits, d->group, all_symmetric(job)};
    const eq_weight *last = &job->weights[job->count - 1];
    json_t *q = eq_gptq_config(&base, !d->config.tied && last->packed, job->options->gptq_version);
    json_t *dynamic = json_object();
    for (int64_t i = 0; i < job->count; i++) {
        const eq_weight *w = &job->weights[i];
        if (!w->packed) continue;
        const eq_qmatrix *m = &w->stored->matrix;
        const eq_override own = {m->bits, base.group == -1 && m->g == m->K ? -1 : m->g,
                                 w->symmetric};
        if (own.bits != base.bits || own.group != base.group ||
            (!w->linear && own.symmetric != base.symmetric))
            add_module(dynamic, w, &own);
    }
    if (json_object_size(dynamic)) json_object_set(q, "dynamic", dynamic);
    json_decref(dynamic);
    if (!q) eq_fail(ctx, EQ_ENOMEM, "out of memory for the settings");
    return q;
}

eq_status eq_gptq_export(eq_ctx *ctx, const eq_export_job *job, const char *folder)
{
    const eq_packing_kind kind =
        job->options->gptq_version == 1 ? EQ_PACKING_GPTQ_V1 : EQ_PACKING_GPTQ_V2;
    const eq_export_layout layout = {kind, quantization, true};
    return eq_folder_export(ctx, job, folder, &layout);
}
