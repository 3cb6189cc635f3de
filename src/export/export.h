/* Formats that a model is exported to. Each stores the same numbers again; nothing is quantized a
 * second time. */
#ifndef EQ_EXPORT_EXPORT_H
#define EQ_EXPORT_EXPORT_H

#include "export/weights.h"
#include "io/tokenizer.h"

typedef struct eq_export_job {
    const eq_decoder *decoder;     /* borrowed; so below */
    const eq_tokenizer *tokenizer; /* NULL when the model has none */
    const eq_export_options *options;
    const char *name;   /* of the model */
    eq_weight *weights; /* [count] */
    int64_t count;
} eq_export_job;

typedef struct eq_export_kind {
    bool folder; /* the output is a folder, to which tokenizer files belong; else one file */
    /* Decide how every weight is stored, or refuse naming the one that cannot be (EQ_EINVAL). */
    eq_status (*plan)(eq_ctx *ctx, eq_export_job *job);
    /* Write the file, or the weights and the configuration into the folder, which is there. */
    eq_status (*write)(eq_ctx *ctx, const eq_export_job *job, const char *path);
} eq_export_kind;

const eq_export_kind *eq_export_kind_of(eq_export_format format);

/* Compare what was written with the model: sizes and every weight, within what the plan allows.
 *
 * written  in   the output, opened
 * result   out  bits_per_weight, largest_error, error_bound
 * EQ_EINTERNAL names the first weight that is wrong. */
eq_status eq_export_verify(eq_ctx *ctx, const eq_export_job *job, const eq_decoder *written,
                           eq_export_result *result);

/* For the formats: say that weight i is being written, and stop when asked to. */
eq_status eq_export_progress(eq_ctx *ctx, const eq_export_job *job, const char *task, int64_t i);

/* EQ_EINVAL: the model's path, the weight, and why it cannot be stored ("has ..."). */
eq_status eq_weight_refuse(eq_ctx *ctx, const eq_export_job *job, const eq_weight *weight,
                           const char *why);

/* GGUF.                                                                       (to_gguf.c) */
eq_status eq_gguf_plan(eq_ctx *ctx, eq_export_job *job);
eq_status eq_gguf_export(eq_ctx *ctx, const eq_export_job *job, const char *path);
/* Full precision.                                                             (to_dense.c) */
eq_status eq_dense_plan(eq_ctx *ctx, eq_export_job *job);
eq_status eq_dense_export(eq_ctx *ctx, const eq_export_job *job, const char *folder);
/* GPTQ.                                                                       (to_gptq.c) */
eq_status eq_gptq_plan(eq_ctx *ctx, eq_export_job *job);
eq_status eq_gptq_export(eq_ctx *ctx, const eq_export_job *job, const char *folder);
/* Folders in the layouts of other programs.                                   (to_packed.c) */
eq_status eq_packed_plan(eq_ctx *ctx, eq_export_job *job);
eq_status eq_packed_export(eq_ctx *ctx, const eq_export_job *job, const char *path);

#endif
