/* Hugging Face folders: safetensors, sharded if large, and config.json. */
#ifndef EQ_EXPORT_FOLDER_H
#define EQ_EXPORT_FOLDER_H

#include "export/export.h"
#include "export/shards.h"
#include <jansson.h>

enum { EQ_LAYOUT_TENSORS = 6 }; /* most that a linear is stored in */

/* How a format stores the linears that stay packed, and what it says of them. */
typedef struct eq_export_layout {
    /* The tensors of a packed weight: type, dims and shape of each into entries, its suffix
     * ("qweight") into suffixes; gives how many. NULL: none stays packed. */
    int (*describe)(const eq_export_job *job, const eq_weight *weight, eq_tensor_entry *entries,
                    const char **suffixes);
    /* Their bytes, in that order. */
    eq_status (*write)(eq_ctx *ctx, const eq_export_job *job, const eq_weight *weight,
                       eq_shards *shards);
    /* What config.json says of them, a new reference; NULL after eq_fail. */
    json_t *(*quantization)(eq_ctx *ctx, const eq_export_job *job);
    bool own_file; /* quantize_config.json holds that too */
} eq_export_layout;

/* Write the folder's weights and configuration. A weight for which the plan says `packed` goes by
 * the layout, all others are written in their type, F32, F16 or BF16. */
eq_status eq_folder_export(eq_ctx *ctx, const eq_export_job *job, const char *folder,
                           const eq_export_layout *layout);

/* Codes [N, K], scales [N, K/g] and zero points [N, K/g] of a packed weight, unpacked. */
typedef struct eq_unpacked {
    uint8_t *codes, *zeros; /* owned */
    float *scales;          /* owned */
} eq_unpacked;
eq_status eq_unpacked_init(eq_ctx *ctx, eq_unpacked *unpacked, const eq_qmatrix *q);
void eq_unpacked_deinit(eq_unpacked *unpacked); /* zeroed storage is fine */

#endif
