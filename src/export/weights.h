/* The weights of a model one by one, as files store them. */
#ifndef EQ_EXPORT_WEIGHTS_H
#define EQ_EXPORT_WEIGHTS_H

#include "model/decoder.h"

enum { EQ_MODULE_NAME = 80 };

/* A matrix, or the vector of a norm or a bias. */
typedef struct eq_weight {
    char module[EQ_MODULE_NAME];  /* "model.layers.0.mlp.up_proj", without the suffix */
    const char *suffix;           /* "weight" or "bias" */
    int64_t N, K;                 /* N is 1 for a vector */
    const eq_stored_part *stored; /* of a matrix; borrowed from the decoder */
    const float *vector;          /* [K] of a vector, else NULL; borrowed from the decoder */
    bool linear;                  /* the matrix of one of a block's linears */
    int head_size;                /* D for q and k, whose rows are rotated by heads; else 0 */
    /* Set by the plan of a format: */
    bool packed;                     /* it goes by the layout of its format */
    bool symmetric;                  /* packed, and all zero points are the middle code */
    eq_dtype type;                   /* of its elements in the file, unless it stays packed */
    const struct eq_ggml_grid *grid; /* that its codes become, or NULL */
    float relative, absolute;        /* most that |w| of the file may be off, of |w| and besides */
} eq_weight;

/* All of them in the order of a Hugging Face file: embedding, blocks, final norm, head unless it is
 * tied. weights out [*count], freed with eq_free. */
eq_status eq_weights_list(eq_ctx *ctx, const eq_decoder *decoder, eq_weight **weights,
                          int64_t *count);
/* Whether it is stored as codes. */
bool eq_weight_is_packed(const eq_weight *weight);
/* The type of a weight that is not packed. */
eq_dtype eq_weight_type(const eq_weight *weight);
/* Whether that is one of ggml's blocks, which no format of codes holds. */
bool eq_weight_is_blocks(const eq_weight *weight);
/* Look at all scales and zero points of a packed weight, and set its `symmetric`.
 * halves out: all scales are finite halves; least out: the lowest zero point. */
eq_status eq_weight_check_grid(eq_ctx *ctx, eq_weight *weight, bool *halves, int *least);
/* Bits that it takes where it is stored now, scales and zero points included. */
double eq_weight_bits(const eq_weight *weight);
/* Rows row0 .. row0+rows-1 to out [rows, K] f32, in the order of Hugging Face. */
void eq_weight_rows(float *out, const eq_weight *weight, int64_t row0, int64_t rows);

#endif
