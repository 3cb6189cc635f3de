#include "train/reconstruction.h"

double eq_reconstruction_loss(eq_ctx *ctx, float *dy, const float *y, const void *target,
                              float *rows, const eq_reconstruction *r)
{
    const eq_kernels *k = ctx->kernels;
    int64_t M = r->M, C = r->C;
    size_t row_bytes = (size_t)C * (r->type == EQ_F32 ? 4 : 2);
    float mean = 1.0f / (float)(M * C);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t t = 0; t < M; t++) {
        const void *g = (const char *)target + (size_t)t * row_bytes;
        float share = mean;
        if (r->loss != EQ_LOSS_MSE) {
            float size = k->sum_squares(g, C, r->type) + 1e-6f * (float)C;
            if (r->loss == EQ_LOSS_BOUNDED)
                size += k->error_row(dy + t * C, y + t * C, g, 1.0f, C, r->type);
            share = 1.0f / ((float)M * size);
        }
        rows[t] = share * k->error_row(dy + t * C, y + t * C, g, 2.0f * share, C, r->type);
    }
    double sum = 0;
    for (int64_t t = 0; t < M; t++)
        sum += (double)rows[t];
    return sum;
}
