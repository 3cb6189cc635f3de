/* One packed linear in a file of ours: PREFIX.qweight, .qzeros, .scales and .g_idx, in this order.
 */
#ifndef EQ_TRAIN_PACKED_H
#define EQ_TRAIN_PACKED_H

#include "io/safetensors.h"
#include "model/linear.h"

enum { EQ_PACKED_TENSORS = 4, EQ_TENSOR_NAME = 96 };

/* The tensors of a linear of this shape (bits, N, K, g). Names are written into `names`. */
void eq_packed_entries(eq_tensor_entry entries[EQ_PACKED_TENSORS],
                       char names[EQ_PACKED_TENSORS][EQ_TENSOR_NAME], const char *prefix,
                       const eq_qmatrix *shape);

/* What a linear freezes to, and room for its tensors. */
typedef struct eq_frozen {
    uint8_t *codes;        /* [N, K] */
    float *scales, *zeros; /* [N, K/g] */
    char *words, *zero_words, *halves;
    uint8_t *whole; /* zero points as whole numbers */
    int32_t *order; /* [K] */
} eq_frozen;

/* The largest linears that are to be frozen. */
typedef struct eq_frozen_size {
    int64_t weights, groups, columns;
} eq_frozen_size;

eq_status eq_frozen_init(eq_ctx *ctx, eq_frozen *frozen, const eq_frozen_size *size);
int64_t eq_frozen_bytes(const eq_frozen_size *size);
void eq_frozen_deinit(eq_frozen *frozen); /* zeroed storage is fine */

/* Write the tensors of rows row0 .. row0 + shape->N - 1 of what is frozen. */
eq_status eq_packed_write(eq_safetensors_writer *writer, const eq_qmatrix *shape, int64_t row0,
                          eq_frozen *frozen);
/* Write the tensors of a stored linear, which are those of gptq_v2 with f16 scales. */
eq_status eq_packed_copy(eq_ctx *ctx, eq_safetensors_writer *writer, const eq_qmatrix *stored);
/* Find tensors that eq_packed_entries described; stored out, with the same shape. */
eq_status eq_packed_find(eq_ctx *ctx, const eq_safetensors *file, eq_qmatrix *stored,
                         const eq_tensor_entry entries[EQ_PACKED_TENSORS], const eq_qmatrix *shape);

/* The same of a linear of super-blocks (tensor/super_block.h), which is one tensor. */
void eq_super_entry(eq_tensor_entry *entry, char name[EQ_TENSOR_NAME], const char *prefix,
                    eq_dtype type, int64_t N, int64_t K);
eq_status eq_super_write(eq_safetensors_writer *writer, eq_dtype type, const eq_qmatrix *shape,
                         int64_t row0, eq_frozen *frozen);
eq_status eq_super_find(eq_ctx *ctx, const eq_safetensors *file, eq_tensor *stored,
                        const eq_tensor_entry *entry, eq_dtype type, int64_t K);

#endif
