/* A model's weights and configuration, whatever they are stored in: a Hugging Face folder
 * (safetensors, one file or shards, full precision or GPTQ) or a GGUF file. Tensors go by their
 * Hugging Face names. */
#ifndef EQ_IO_CHECKPOINT_H
#define EQ_IO_CHECKPOINT_H

#include "io/gguf.h"
#include "io/safetensors.h"
#include "tensor/qmatrix.h"
#include <jansson.h>

typedef struct eq_checkpoint eq_checkpoint;

eq_status eq_checkpoint_open(eq_ctx *ctx, eq_checkpoint **checkpoint, const char *path);
void eq_checkpoint_close(eq_checkpoint *checkpoint); /* NULL is fine */

const char *eq_checkpoint_path(const eq_checkpoint *checkpoint);
/* config.json, or its equivalent made from GGUF metadata; borrowed. */
const json_t *eq_checkpoint_config(const eq_checkpoint *checkpoint);
/* The GGUF file; NULL for a folder. */
const eq_gguf *eq_checkpoint_gguf(const eq_checkpoint *checkpoint);

bool eq_checkpoint_has(const eq_checkpoint *checkpoint, const char *name);
/* A tensor by its Hugging Face name, rows in Hugging Face order (see eq_tensor.rope_pairs). */
eq_status eq_checkpoint_tensor(eq_ctx *ctx, const eq_checkpoint *checkpoint, const char *name,
                               eq_tensor *tensor);
/* The key of quantization_config.dynamic that overrides its other keys for just this linear:
 * "+:^lm_head$", a regular expression in other programs, a name here. */
enum { EQ_DYNAMIC_KEY = 256 };
void eq_dynamic_key(char key[EQ_DYNAMIC_KEY], const char *prefix);
/* Whether quantization_config says that the zero points of this linear are the middle code. */
bool eq_checkpoint_symmetric(const eq_checkpoint *checkpoint, const char *prefix);
/* The GPTQ tensors prefix.qweight, .qzeros, .scales (and .g_idx, which must be k / group), checked
 * against each other and quantization_config. */
eq_status eq_checkpoint_qmatrix(eq_ctx *ctx, const eq_checkpoint *checkpoint, const char *prefix,
                                eq_qmatrix *matrix);
/* group_size of quantization_config: -1 for whole rows, 0 when there is none. */
int64_t eq_checkpoint_group(const eq_checkpoint *checkpoint);
/* Bytes of all tensors. */
int64_t eq_checkpoint_bytes(const eq_checkpoint *checkpoint);
/* Let the pages of [data, data + size), a piece of one of the mapped files, leave the resident set.
 * */
void eq_checkpoint_release(const eq_checkpoint *checkpoint, const void *data, size_t size);
/* A hash of the configuration and of a sample of every file's bytes: its size, its first and last
 * 64 KiB, and 4 KiB of every MiB between. */
uint64_t eq_checkpoint_fingerprint(const eq_checkpoint *checkpoint);

#endif
