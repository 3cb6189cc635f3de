#include "train/reconstruction.h"

#include <stdlib.h>
#include <string.h>

/* sum over channels of weight (y - g)^2; dy gets 2 factor weight (y - g). */
static float weighted_row(float *dy, const float *y, const void *g, float factor, const float *wc,
                          int64_t C, eq_dtype type)
{
    float sum = 0;
    for (int64_t c = 0; c < C; c++) {
        float t = type == EQ_F32 ? ((const float *)g)[c] : eq_bf16_f32(((const uint16_t *)g)[c]);
        float d = y[c] - t;
        sum += wc[c] * d * d;
        dy[c] = factor * wc[c] * d;
    }
    return sum;
}

static float row_error(const eq_kernels *k, float *dy, const float *y, const void *g, float factor,
                       const eq_reconstruction *r)
{
    return r->channels ? weighted_row(dy, y, g, factor, r->channels, r->C, r->type)
                       : k->error_row(dy, y, g, factor, r->C, r->type);
}

static float row_size(const eq_kernels *k, const void *g, const eq_reconstruction *r)
{
    if (!r->channels) return k->sum_squares(g, r->C, r->type);
    float sum = 0;
    for (int64_t c = 0; c < r->C; c++) {
        float t = r->type == EQ_F32 ? ((const float *)g)[c] : eq_bf16_f32(((const uint16_t *)g)[c]);
        sum += r->channels[c] * t * t;
    }
    return sum;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void trim_rows(float *dy, float *rows, const eq_reconstruction *r)
{
    float *sorted = malloc((size_t)r->M * sizeof *sorted);
    if (!sorted) return;
    memcpy(sorted, rows, (size_t)r->M * sizeof *sorted);
    qsort(sorted, (size_t)r->M, sizeof *sorted, by_value);
    float limit = sorted[(int64_t)((1 - r->trim) * (double)(r->M - 1))];
    for (int64_t t = 0; t < r->M; t++)
        if (rows[t] > limit) memset(dy + t * r->C, 0, (size_t)r->C * sizeof *dy);
    free(sorted);
}

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
            float size = row_size(k, g, r) + 1e-6f * (float)C;
            if (r->loss == EQ_LOSS_BOUNDED)
                size += row_error(k, dy + t * C, y + t * C, g, 1.0f, r);
            share = 1.0f / ((float)M * size);
        }
        if (r->tokens) share *= r->tokens[t];
        rows[t] = share * row_error(k, dy + t * C, y + t * C, g, 2.0f * share, r);
    }
    double sum = 0;
    for (int64_t t = 0; t < M; t++)
        sum += (double)rows[t];
    if (r->trim > 0) trim_rows(dy, rows, r);
    return sum;
}
