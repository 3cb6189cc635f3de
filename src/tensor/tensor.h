/* A view of a stored tensor. Owns nothing. */
#ifndef EQ_TENSOR_TENSOR_H
#define EQ_TENSOR_TENSOR_H

#include "tensor/dtype.h"

enum { EQ_MAX_DIMS = 4 };

typedef struct eq_tensor {
    const void *data; /* borrowed from a mapping; row-major, may be unaligned */
    eq_dtype type;
    int dims;
    int64_t shape[EQ_MAX_DIMS]; /* outermost first; unused entries are 1 */
    /* GGUF files of llama models store the rows of q and k so that the two halves of a rotary pair
     * are neighbours. For such a tensor this is the head size D and the readers below give rows in
     * Hugging Face order; else 0.                                            [spec formats.md 7] */
    int rope_pairs;
} eq_tensor;

/* Rows of a [N, K] tensor (or the single row of a 1-D one): row0 .. row0+rows-1 to out, f32,
 * [rows, ld] with ld >= K. The caller has checked the bounds. */
void eq_tensor_rows_f32(float *out, int64_t ld, const eq_tensor *t, int64_t row0, int64_t rows);
int64_t eq_tensor_elems(const eq_tensor *t);
/* Position of the row that Hugging Face calls `row` in the file, for rope_pairs = D (0: itself);
 * and the way back. */
int64_t eq_tensor_file_row(int rope_pairs, int64_t row);
int64_t eq_tensor_row_at(int rope_pairs, int64_t file_row);

/* What a file will hold. */
typedef struct eq_tensor_entry {
    const char *name; /* borrowed until the writer has begun */
    eq_dtype type;
    int dims;
    int64_t shape[EQ_MAX_DIMS]; /* outermost first */
} eq_tensor_entry;

size_t eq_tensor_entry_bytes(const eq_tensor_entry *entry);
/* The first of x [n] that is not finite; n when all are. */
int64_t eq_first_not_finite(const float *x, int64_t n);

#endif
