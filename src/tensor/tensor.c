#include "tensor/tensor.h"

#include <math.h>

int64_t eq_tensor_elems(const eq_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->dims; i++)
        n *= t->shape[i];
    return n;
}

int64_t eq_tensor_file_row(int rope_pairs, int64_t row)
{
    if (!rope_pairs) return row;
    int64_t D = rope_pairs, head = row / D, r = row % D, half = D / 2;
    return head * D + 2 * (r % half) + r / half;
}

int64_t eq_tensor_row_at(int rope_pairs, int64_t file_row)
{
    if (!rope_pairs) return file_row;
    int64_t D = rope_pairs, head = file_row / D, r = file_row % D;
    return head * D + r % 2 * (D / 2) + r / 2;
}

size_t eq_tensor_entry_bytes(const eq_tensor_entry *e)
{
    int64_t n = 1;
    for (int i = 0; i < e->dims; i++)
        n *= e->shape[i];
    return eq_dtype_bytes(e->type, n);
}

void eq_tensor_rows_f32(float *out, int64_t ld, const eq_tensor *t, int64_t row0, int64_t rows)
{
    int64_t K = t->dims > 1 ? t->shape[t->dims - 1] : t->shape[0];
    size_t row_bytes = eq_dtype_bytes(t->type, K);
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = eq_tensor_file_row(t->rope_pairs, row0 + r);
        eq_dtype_to_f32(out + r * ld, (const char *)t->data + (size_t)row * row_bytes, t->type, K);
    }
}

int64_t eq_first_not_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return i;
    return n;
}
