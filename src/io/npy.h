/* numpy's .npy files: two-dimensional arrays in C order, little-endian. */
#ifndef EQ_IO_NPY_H
#define EQ_IO_NPY_H

#include "base/file.h"

/* Read an array of int32, or of int64 whose values fit. *data [shape[0], shape[1]] is the caller's,
 * freed with eq_free. */
eq_status eq_npy_read_i32(eq_ctx *ctx, const char *path, int32_t **data, int64_t shape[2]);
eq_status eq_npy_write_i32(eq_ctx *ctx, const char *path, const int32_t *data, int64_t rows,
                           int64_t columns);
eq_status eq_npy_write_f32(eq_ctx *ctx, const char *path, const float *data, int64_t rows,
                           int64_t columns);

#endif
