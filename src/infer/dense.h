/* The weights of a decoder as generation reads them, every one for every token: dense copies in
 * the activation type where memory allows, else the stored ones, unpacked each time. */
#ifndef EQ_INFER_DENSE_H
#define EQ_INFER_DENSE_H

#include "model/decoder.h"

typedef struct eq_dense_weight {
    eq_dtype type;
    char *data; /* [N, K] of type, in the arena of its eq_dense */
} eq_dense_weight;

typedef struct eq_dense {
    eq_block *blocks; /* owned, [L]; norms are the decoder's */
    eq_linear head;
    eq_dense_weight *weights; /* owned, one per linear; NULL when the stored weights are used */
    eq_arena arena;           /* owned */
} eq_dense;

/* Bytes of the copies of all block linears and the head. */
int64_t eq_dense_bytes(const eq_decoder *decoder, eq_dtype type);
/* Linears of `decoder` (borrowed) in `type`: copied if `copy`, which takes eq_dense_bytes, else
 * unpacked when used. */
eq_status eq_dense_init(eq_ctx *ctx, eq_dense *dense, const eq_decoder *decoder, eq_dtype type,
                        bool copy);
void eq_dense_deinit(eq_dense *dense); /* zeroed storage is fine */

#endif
