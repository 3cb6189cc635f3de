#include "train/parameters.h"

#include <math.h>

/* Elements of a task, and of a partial sum: fixed, so that sums do not depend on threads. */
enum { CHUNK = 1 << 14 };

/* A task of a loop over all elements. */
typedef void chunk_function(eq_ctx *ctx, const eq_parameter *p, int64_t first, int64_t n,
                            const void *argument);

static void for_chunks(eq_ctx *ctx, const eq_parameters *p, chunk_function *f, const void *argument)
{
    for (int64_t i = 0; i < p->count; i++) {
        const eq_parameter *one = &p->list[i];
        int64_t chunks = (one->n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) num_threads(ctx->threads) if (chunks > 1)
        for (int64_t c = 0; c < chunks; c++) {
            int64_t first = c * CHUNK, n = one->n - first < CHUNK ? one->n - first : CHUNK;
            f(ctx, one, first, n, argument);
        }
    }
}

static void zero_chunk(eq_ctx *ctx, const eq_parameter *p, int64_t first, int64_t n,
                       const void *unused)
{
    (void)ctx;
    (void)unused;
    memset(p->g + first, 0, (size_t)n * sizeof *p->g);
}

void eq_parameters_zero_gradients(eq_ctx *ctx, const eq_parameters *p)
{
    for_chunks(ctx, p, zero_chunk, NULL);
}

static void scale_chunk(eq_ctx *ctx, const eq_parameter *p, int64_t first, int64_t n,
                        const void *factor)
{
    (void)ctx;
    float f = *(const float *)factor;
    for (int64_t i = first; i < first + n; i++)
        p->g[i] *= f;
}

void eq_parameters_scale_gradients(eq_ctx *ctx, const eq_parameters *p, float factor)
{
    for_chunks(ctx, p, scale_chunk, &factor);
}

static void step_chunk(eq_ctx *ctx, const eq_parameter *p, int64_t first, int64_t n,
                       const void *steps)
{
    const eq_adamw *step = (const eq_adamw *)steps + p->group;
    ctx->kernels->adamw(p->w + first, p->m + first, p->v + first, p->g + first, n, step);
}

void eq_parameters_step(eq_ctx *ctx, const eq_parameters *p, const eq_adamw steps[3])
{
    for_chunks(ctx, p, step_chunk, steps);
}

double eq_parameters_gradient_norm(eq_ctx *ctx, const eq_parameters *p)
{
    enum { PARTS = 256 };
    double total = 0;
    for (int64_t i = 0; i < p->count; i++) {
        const eq_parameter *one = &p->list[i];
        for (int64_t start = 0; start < one->n; start += PARTS * CHUNK) {
            double sums[PARTS];
            int64_t left = one->n - start, parts = (left + CHUNK - 1) / CHUNK;
            if (parts > PARTS) parts = PARTS;
#pragma omp parallel for schedule(static) num_threads(ctx->threads) if (parts > 1)
            for (int64_t c = 0; c < parts; c++) {
                int64_t rest = left - c * CHUNK;
                sums[c] = (double)ctx->kernels->sum_squares(one->g + start + c * CHUNK,
                                                            rest < CHUNK ? rest : CHUNK, EQ_F32);
            }
            for (int64_t c = 0; c < parts; c++)
                total += sums[c];
        }
    }
    return sqrt(total);
}
