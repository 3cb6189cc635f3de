/* Blocks of ggml's types.                                                     [docs/formats.md] */
#ifndef EQ_TENSOR_GGML_H
#define EQ_TENSOR_GGML_H

#include "tensor/dtype.h"

/* A type as a grid of codes: w = (q - zero) s + m, with s and m for each group of columns. */
typedef struct eq_ggml_form {
    int bits, zero, group;
    bool minimum; /* else m = 0 */
    bool halves;  /* s and m are halves; else products of halves and whole numbers, exact as f32 */
} eq_ggml_form;

/* NULL for a type that has no blocks. */
const eq_ggml_form *eq_ggml_form_of(eq_dtype type);

enum { EQ_GGML_MOST_ELEMS = 256, EQ_GGML_MOST_GROUPS = 16 };

/* One block, taken apart. */
typedef struct eq_ggml_block {
    uint8_t q[EQ_GGML_MOST_ELEMS]; /* in order of columns */
    float s[EQ_GGML_MOST_GROUPS], m[EQ_GGML_MOST_GROUPS];
} eq_ggml_block;

/* m stays as it is where the type has none. */
void eq_ggml_block_read(eq_ggml_block *out, const void *block, eq_dtype type);

/* n elements (a multiple of the block) of a ggml block type to f32. */
void eq_ggml_to_f32(float *out, const void *in, eq_dtype type, int64_t n);

#endif
