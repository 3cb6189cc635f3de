#include "quant/hessian.h"

#include "quant/start.h"

#include <math.h>
#include <stdlib.h>

enum { MOST = 8192 };

static float quantized(float w, float s, float z, float top)
{
    float q = nearbyintf(w / s) + z;
    return ((q < 0 ? 0 : q > top ? top : q) - z) * s;
}

typedef struct row_job {
    const float *w, *H;
    float *e, *v; /* [K] error of the row, and H e */
    const eq_quant_shape *shape;
} row_job;

static void times_rows(float *v, const float *H, const float *d, int64_t k0, int64_t g, int64_t K)
{
    for (int64_t i = 0; i < g; i++)
        for (int64_t j = 0; j < K; j++)
            v[j] += H[(k0 + i) * K + j] * d[i];
}

static void refine_group(const row_job *r, float *s, float z, int64_t k0)
{
    int64_t g = r->shape->g, K = r->shape->K;
    float top = (float)((1 << r->shape->bits) - 1), best = *s, d[MOST];
    double least = 0;
    for (int c = 0; c < 25; c++) {
        float t = eq_clamp_scale(*s * (0.76f + 0.02f * (float)c), r->shape);
        double change = 0;
        for (int64_t i = 0; i < g; i++)
            d[i] = quantized(r->w[k0 + i], t, z, top) - r->w[k0 + i] - r->e[k0 + i];
        for (int64_t i = 0; i < g; i++) {
            float sum = 0;
            for (int64_t j = 0; j < g; j++)
                sum += r->H[(k0 + i) * K + k0 + j] * d[j];
            change += (double)(d[i] * (2 * r->v[k0 + i] + sum));
        }
        if (change < least) {
            least = change;
            best = t;
        }
    }
    for (int64_t i = 0; i < g; i++) {
        d[i] = quantized(r->w[k0 + i], best, z, top) - r->w[k0 + i] - r->e[k0 + i];
        r->e[k0 + i] += d[i];
    }
    times_rows(r->v, r->H, d, k0, g, K);
    *s = best;
}

void eq_start_output(eq_ctx *ctx, eq_fake *fake, const float *H)
{
    int64_t K = fake->shape.K, g = fake->shape.g, groups = K / g;
    float top = (float)((1 << fake->shape.bits) - 1);
#pragma omp parallel for schedule(dynamic, 8) num_threads(ctx->threads)
    for (int64_t row = 0; row < fake->N; row++) {
        float e[MOST], v[MOST];
        float *s = fake->s + row * groups, *z = fake->z + row * groups;
        const row_job r = {fake->w + row * K, H, e, v, &fake->shape};
        for (int64_t k = 0; k < K; k++) {
            e[k] = quantized(r.w[k], s[k / g], z[k / g], top) - r.w[k];
            v[k] = 0;
        }
        times_rows(v, H, e, 0, K, K);
        for (int round = 0; round < 2; round++)
            for (int64_t k = 0; k < groups; k++)
                refine_group(&r, s + k, z[k], k * g);
    }
    eq_fake_refresh(ctx, fake);
}

/* H = (U + I) D (U + I)^T, U to the columns above the diagonal of u [K, K] (row j has U[j][k]). */
static void decompose(double *u, const float *H, int64_t K, int threads)
{
    double damp = 0;
    for (int64_t k = 0; k < K; k++)
        damp += 0.01 * (double)H[k * K + k] / (double)K;
    for (int64_t i = 0; i < K * K; i++)
        u[i] = (double)H[i] + (i % (K + 1) == 0 ? damp : 0);
    for (int64_t k = K - 1; k > 0; k--) {
        double d = u[k * K + k];
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t i = 0; i < k; i++) {
            double a = u[i * K + k] / d;
            for (int64_t j = 0; j < k; j++)
                u[i * K + j] -= a * u[k * K + j]; /* row k still has d U[j][k] */
        }
        for (int64_t i = 0; i < k; i++)
            u[i * K + k] /= d;
    }
}

void eq_start_feedback(eq_ctx *ctx, eq_fake *fake, const float *H, const float *importance)
{
    int64_t K = fake->shape.K, g = fake->shape.g, groups = K / g;
    float top = (float)((1 << fake->shape.bits) - 1);
    double *u = malloc((size_t)(K * K) * sizeof *u);
    float *U = malloc((size_t)(K * K) * sizeof *U);
    if (!u || !U) abort();
    decompose(u, H, K, ctx->threads);
    for (int64_t i = 0; i < K * K; i++)
        U[i] = (float)u[i];
    free(u);
#pragma omp parallel for schedule(dynamic, 8) num_threads(ctx->threads)
    for (int64_t row = 0; row < fake->N; row++) {
        float *w = fake->w + row * K, carry[MOST] = {0};
        for (int64_t b = 0; b < groups; b++) {
            float *s = fake->s + row * groups + b, *z = fake->z + row * groups + b;
            for (int64_t k = b * g; k < b * g + g; k++)
                w[k] += carry[k];
            eq_start_group(ctx, s, z, w + b * g, importance + b * g, &fake->shape);
            for (int64_t k = b * g; k < b * g + g; k++) {
                float e = w[k] - quantized(w[k], *s, *z, top); /* of the compensated weight */
                float fed = e - carry[k]; /* original - quantized */
                for (int64_t j = k + 1; j < K; j++) {
                    float add = fed * U[k * K + j];
                    if (j < b * g + g)
                        w[j] += add;
                    carry[j] += add;
                }
            }
        }
    }
    free(U);
    eq_fake_refresh(ctx, fake);
}
