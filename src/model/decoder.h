/* A decoder on a checkpoint: embedding, blocks of stored weights, final norm, head. Weights stay in
 * the mapped files and are unpacked when used. */
#ifndef EQ_MODEL_DECODER_H
#define EQ_MODEL_DECODER_H

#include "model/vectors.h"

typedef struct eq_decoder_block {
    eq_block block;
    eq_stored stored[EQ_UNITS];
} eq_decoder_block;

typedef struct eq_decoder {
    eq_config config;
    eq_checkpoint *checkpoint; /* borrowed */
    eq_decoder_block *blocks;  /* owned, [L] */
    float *vectors;            /* owned: those of each block, then the final norm [C] */
    float *final_norm;         /* the last of them */
    eq_stored embedding_stored, head_stored;
    eq_linear embedding, head; /* [V, C] over these; the same weight when tied */
    eq_packing packing;
    /* Of the block linears: */
    int bits;      /* that the configuration has for them; 16 when none is quantized */
    int64_t group; /* of the same; 0 when none is quantized */
    bool mixed;    /* some have other bits or groups */
} eq_decoder;

/* One linear of a block: its name in a Hugging Face checkpoint below "model.layers.<i>.", and its
 * rows within a unit. */
typedef struct eq_part {
    const char *name;
    int64_t row0, rows;
} eq_part;

/* The parts of a unit in order; returns how many (at most EQ_MAX_PARTS). */
int eq_unit_parts(const eq_config *config, eq_unit unit, eq_part parts[EQ_MAX_PARTS]);
/* Columns and rows of a unit's weight. */
int64_t eq_unit_columns(const eq_config *config, eq_unit unit);
int64_t eq_unit_rows(const eq_config *config, eq_unit unit);
/* The most bytes that a product of a block of M rows, forward or backward, takes besides its
 * operands. */
int64_t eq_block_product_bytes(const eq_ctx *ctx, const eq_config *config, int64_t M,
                               eq_dtype type);

/* Find and check all tensors. checkpoint must outlive the decoder. */
eq_status eq_decoder_open(eq_ctx *ctx, eq_decoder **decoder, eq_checkpoint *checkpoint);
void eq_decoder_close(eq_decoder *decoder);
/* Mean stored bits of the weights of all blocks' linears: codes, scales and zero points. */
double eq_decoder_bits_per_weight(const eq_decoder *decoder);
/* Make the embedding and the head linears over the decoder's own embedding_stored and head_stored;
 * when they are tied the latter becomes the former. */
void eq_decoder_link_ends(eq_decoder *decoder, const eq_kernels *kernels);
/* Bytes of scratch for the products of any of its linears. */
size_t eq_decoder_scratch(const eq_decoder *decoder);
/* Let the pages of block i, or of the head, leave the resident set. */
void eq_decoder_release_block(const eq_decoder *decoder, int64_t i);
void eq_decoder_release_head(const eq_decoder *decoder);

/* x [n, C] f32 = rows of an embedding [V, C], each unpacked by itself. ids are in 0 .. V-1
 * (EQ_EINVAL otherwise). */
eq_status eq_embed(eq_ctx *ctx, const eq_linear *embedding, float *x, const int32_t *ids,
                   int64_t n);

/* Buffers for whole-decoder forward passes of up to B windows of T tokens. */
typedef struct eq_decoder_pass {
    eq_activations acts;
    eq_rope rope;
    float *logits;  /* [slice, V] */
    int64_t slice;  /* tokens whose logits are formed at a time */
    eq_arena arena; /* owned */
} eq_decoder_pass;

/* Bytes that such a pass takes. */
int64_t eq_decoder_pass_bytes(const eq_ctx *ctx, const eq_decoder *decoder, int64_t B, int64_t T,
                              eq_dtype type);
eq_status eq_decoder_pass_init(eq_ctx *ctx, eq_decoder_pass *pass, const eq_decoder *decoder,
                               int64_t B, int64_t T, eq_dtype type);
void eq_decoder_pass_deinit(eq_decoder_pass *pass);
/* Embed ids [B*T] and run all blocks; the result is in pass->acts.x. Stops between blocks when
 * asked to. */
eq_status eq_decoder_forward(eq_ctx *ctx, const eq_decoder *decoder, eq_decoder_pass *pass,
                             const int32_t *ids);
/* Logits of rows row0 .. row0+rows-1 (rows <= slice) of acts.x to pass->logits [rows, V]: final
 * norm, then head. */
void eq_decoder_logits(eq_ctx *ctx, const eq_decoder *decoder, eq_decoder_pass *pass, int64_t row0,
                       int64_t rows);

/* The element type of products for a precision: EQ_PRECISION_AUTO is bf16 where the CPU has it.
 * EQ_EINVAL when bf16 is asked for and missing. */
eq_status eq_precision_type(eq_ctx *ctx, eq_dtype *type, eq_precision precision);

#endif
