/* One finished block on disk: its linears in the GPTQ layout, its norms and its biases, by their
 * Hugging Face names. */
#ifndef EQ_TRAIN_BLOCK_FILE_H
#define EQ_TRAIN_BLOCK_FILE_H

#include "model/decoder.h"
#include "quant/scheme.h"
#include "train/packed.h"

/* Freeze the linears of `block`, all of one trained form, and write them and the vectors to `path`
 * as block number `index`. */
eq_status eq_block_file_write(eq_ctx *ctx, const eq_block *block, const eq_block_scheme *scheme,
                              int64_t index, const char *path);

/* The most bytes that this takes for one of the model's blocks. */
int64_t eq_block_file_bytes(const eq_config *config, const eq_block_scheme *schemes);

/* A written block, mapped, as a block of stored weights. */
typedef struct eq_block_file {
    eq_safetensors *file; /* owned */
    eq_block block;
    eq_stored stored[EQ_UNITS];
    float *vectors; /* owned: norms, then biases */
} eq_block_file;

eq_status eq_block_file_open(eq_ctx *ctx, eq_block_file *file, const eq_config *config,
                             const eq_block_scheme *scheme, int64_t block, const char *path);
void eq_block_file_close(eq_block_file *file);

/* The tensors of a block file in order, so many at most. Names are written into `names`. Returns
 * their number, which is the same for all blocks. */
enum { EQ_BLOCK_TENSORS = 7 * EQ_PACKED_TENSORS + EQ_MOST_VECTORS };
int64_t eq_block_file_entries(const eq_config *config, const eq_block_scheme *scheme, int64_t block,
                              eq_tensor_entry entries[EQ_BLOCK_TENSORS],
                              char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME]);

#endif
