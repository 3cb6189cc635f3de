/* Squares of the gradients of the next token's cross-entropy at the outputs of all blocks of the
 * full-precision model: which tokens and channels of a block's output matter at the end. */
#ifndef EQ_TRAIN_FISHER_H
#define EQ_TRAIN_FISHER_H

#include "model/decoder.h"

/* tokens out [L, n, T], mean 1 in each block; channels out [L, C], mean 1; freed with eq_free. */
eq_status eq_fisher(eq_ctx *ctx, const eq_decoder *decoder, const int32_t *ids, int64_t n,
                    int64_t T, eq_dtype type, float **tokens, float **channels);

#endif
