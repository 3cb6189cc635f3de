/* Full precision: every weight dequantized. */
#include "export/folder.h"

eq_status eq_dense_plan(eq_ctx *ctx, eq_export_job *job)
{
    /* Half of the last bit, and of the smallest number, at most. */
    static const struct {
        eq_dtype type;
        float relative, absolute;
    } TYPES[] = {[EQ_EXPORT_F16] = {EQ_F16, 0x1p-11f, 0x1p-25f},
                 [EQ_EXPORT_BF16] = {EQ_BF16, 0x1p-8f, 0x1p-134f},
                 [EQ_EXPORT_F32] = {EQ_F32, 0, 0}};
    for (int64_t i = 0; i < job->count; i++) {
        job->weights[i].type = TYPES[job->options->dtype].type;
        job->weights[i].relative = TYPES[job->options->dtype].relative;
        job->weights[i].absolute = TYPES[job->options->dtype].absolute;
    }
    return eq_ctx_status(ctx);
}

eq_status eq_dense_export(eq_ctx *ctx, const eq_export_job *job, const char *folder)
{
    const eq_export_layout layout = {0};
    return eq_folder_export(ctx, job, folder, &layout);
}
