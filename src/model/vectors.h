/* The vectors of a block besides its weights: norms, and biases of its linears. They lie in one
 * buffer, norms first. */
#ifndef EQ_MODEL_VECTORS_H
#define EQ_MODEL_VECTORS_H

#include "model/block.h"

/* One vector; its name in a Hugging Face checkpoint is "model.layers.<i>.<module>.<suffix>". */
typedef struct eq_vector {
    const char *module; /* "self_attn.q_norm" */
    const char *suffix; /* "weight" of a norm, "bias" */
    int64_t offset, n;  /* elements before it in the buffer, and its own */
    int head_size;      /* D of the biases of q and k, which are rotated by heads; else 0 */
} eq_vector;

enum { EQ_MOST_VECTORS = 4 + 7 };
/* The vectors of every block of such a model in order; returns how many. */
int eq_vectors(const eq_config *config, eq_vector list[EQ_MOST_VECTORS]);
/* Whether the linears of a unit have biases: all or none have. */
bool eq_unit_has_bias(const eq_config *config, eq_unit unit);
/* Elements of the norms of a block, and of all of its vectors. */
int64_t eq_norm_elems(const eq_config *config);
int64_t eq_vector_elems(const eq_config *config);

/* Let a block's norms lie in `norms` [eq_norm_elems], and their gradients in `dnorms`, which may be
 * NULL; borrowed. block->config is set. */
void eq_block_set_norms(eq_block *block, float *norms, float *dnorms);
/* Let its biases lie in `biases`, all vectors behind the norms; borrowed. */
void eq_block_set_biases(eq_block *block, const float *biases);
/* y[m][n] += bias[n]; y in/out [M, N] of `type`, rounded once more where that is bf16. */
void eq_bias_add(eq_ctx *ctx, void *y, const float *bias, int64_t M, int64_t N, eq_dtype type);
/* Copy the norms of a block to out [eq_norm_elems], and all of its vectors to out
 * [eq_vector_elems]. */
void eq_block_copy_norms(float *out, const eq_block *block);
void eq_block_copy_vectors(float *out, const eq_block *block);

#endif
