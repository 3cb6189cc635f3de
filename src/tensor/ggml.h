/* Blocks of ggml's types.                                                     [docs/formats.md] */
#ifndef EQ_TENSOR_GGML_H
#define EQ_TENSOR_GGML_H

#include "tensor/dtype.h"

/* n elements (a multiple of the block) of a ggml block type to f32. */
void eq_ggml_to_f32(float *out, const void *in, eq_dtype type, int64_t n);

#endif
