/* The weights of a decoder as generation reads them, every one for every token: repacked into
 * panels where they are quantized, dense copies in the activation type, or the stored ones,
 * unpacked each time. */
#ifndef EQ_INFER_DENSE_H
#define EQ_INFER_DENSE_H

#include "model/decoder.h"
#include "model/panel_linear.h"

typedef struct eq_dense_weight {
    const eq_linear *source; /* borrowed: the decoder's */
    eq_dtype type;
    char *data;     /* [N, K] of type, packed, or panels; in the arena of its eq_dense */
    bool packed;    /* by eq_gemm_pack */
    bool in_panels; /* data are these */
    eq_panel_linear panels;
} eq_dense_weight;

/* How weights are kept. */
typedef enum eq_dense_kind {
    EQ_DENSE_STORED, /* not: they are unpacked when used */
    EQ_DENSE_ROWS,   /* copies row by row, best for one token at a time */
    EQ_DENSE_PACKED, /* copies as products of many tokens read them */
    EQ_DENSE_FAST,   /* panels that take activations in 8 bits; what they do not hold, row by row */
    EQ_DENSE_EXACT   /* the same that take activations as they are */
} eq_dense_kind;

typedef struct eq_dense {
    eq_block *blocks; /* owned, [L]; norms are the decoder's */
    eq_linear head;
    /* The decoder's, or the head where both are one tensor in panels: these hold the same numbers,
     * and the file's pages stay away. */
    eq_linear embedding;
    eq_dense_weight *weights; /* owned, one per linear; NULL when the stored weights are used */
    eq_arena arena;           /* owned */
} eq_dense;

/* Bytes of all block linears and the head, and of those that are copies: not stored, nor in panels,
 * in whose place the file's pages leave. */
typedef struct eq_dense_size {
    int64_t bytes, copies;
} eq_dense_size;
eq_dense_size eq_dense_measure(const eq_ctx *ctx, const eq_decoder *decoder, eq_dtype type,
                               eq_dense_kind kind);
/* Linears of `decoder` (borrowed) in `type`. Where products do not pack, EQ_DENSE_PACKED is
 * EQ_DENSE_ROWS. Pages of the files that were copied leave the resident set. */
eq_status eq_dense_init(eq_ctx *ctx, eq_dense *dense, const eq_decoder *decoder, eq_dtype type,
                        eq_dense_kind kind);
void eq_dense_deinit(eq_dense *dense); /* zeroed storage is fine */

/* Give `blocks` [L], copies of the decoder's, and `decoder`, a copy of the struct, these linears:
 * what works on a decoder then works with them. Both are borrowed and must outlive the copy. */
void eq_dense_lend(const eq_dense *dense, eq_decoder *decoder, eq_decoder_block *blocks);

#endif
