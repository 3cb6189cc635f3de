#include "model/norm.h"

/* Rows of a task; also the unit in which gradients of weights are summed, so it is fixed. */
enum { ROWS = 64 };

static int64_t chunks_of(int64_t rows)
{
    return (rows + ROWS - 1) / ROWS;
}

static int64_t rows_of(int64_t chunk, int64_t M)
{
    return M - chunk * ROWS < ROWS ? M - chunk * ROWS : ROWS;
}

void eq_norm_forward(eq_ctx *ctx, void *n, float *rstd, const float *x, const float *w,
                     const eq_norm_shape *s)
{
    size_t row_bytes = (size_t)s->C * eq_elem_bytes(s->type);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t k = 0; k < chunks_of(s->M); k++) {
        int64_t row = k * ROWS;
        ctx->kernels->rmsnorm_forward((char *)n + (size_t)row * row_bytes, rstd + row,
                                      x + row * s->C, w, rows_of(k, s->M), s->C, s->eps, s->type);
    }
}

int64_t eq_norm_scratch(int64_t M, int64_t C)
{
    return chunks_of(M) * C;
}

void eq_norm_backward(eq_ctx *ctx, float *dx, float *dw, const void *dn, const eq_norm_saved *saved,
                      const eq_norm_shape *s, float *scratch)
{
    int64_t chunks = chunks_of(s->M), C = s->C;
    size_t row_bytes = (size_t)C * eq_elem_bytes(s->type);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t row = k * ROWS;
        float *partial = scratch + k * C;
        memset(partial, 0, (size_t)C * sizeof *partial);
        ctx->kernels->rmsnorm_backward(
            dx + row * C, partial, (const char *)dn + (size_t)row * row_bytes, saved->x + row * C,
            saved->w, saved->rstd + row, rows_of(k, s->M), C, s->type);
    }
    for (int64_t k = 0; dw && k < chunks; k++)
        ctx->kernels->add(dw, scratch + k * C, C);
}
