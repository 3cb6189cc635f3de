/* Hugging Face folders: safetensors, sharded if large, and config.json. */
#ifndef EQ_EXPORT_FOLDER_H
#define EQ_EXPORT_FOLDER_H

#include "export/export.h"
#include "export/shards.h"
#include <jansson.h>

enum { EQ_LAYOUT_TENSORS = 6 }; /* most that a linear is stored in */

/* How a format stores the linears that stay packed, and what it says of them. */
typedef struct eq_export_layout {
    eq_packing_kind kind;
    /* What config.json says of them, a new reference; NULL after eq_fail. */
    json_t *(*quantization)(eq_ctx *ctx, const eq_export_job *job);
    bool own_file; /* quantize_config.json holds that too */
} eq_export_layout;

/* Write the folder's weights and configuration. A weight for which the plan says `packed` goes by
 * the layout, all others are written in their type, F32, F16 or BF16. */
eq_status eq_folder_export(eq_ctx *ctx, const eq_export_job *job, const char *folder,
                           const eq_export_layout *layout);

/* A packed weight as the format stores it: no words, but sizes and layout.      (layout.c) */
eq_qmatrix eq_layout_matrix(eq_packing_kind kind, const eq_weight *weight);
/* Its tensors: type, dims and shape of each into entries [EQ_LAYOUT_TENSORS], its suffix
 * ("qweight") into suffixes; gives how many. */
int eq_layout_describe(eq_packing_kind kind, const eq_weight *weight, eq_tensor_entry *entries,
                       const char **suffixes);
/* Their bytes, in that order. */
eq_status eq_layout_write(eq_ctx *ctx, eq_packing_kind kind, const eq_weight *weight,
                          eq_shards *shards);

#endif
