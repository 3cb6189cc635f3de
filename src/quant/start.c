#include "quant/start.h"

#include <math.h>

/* The search tries SCALES scales from SHRINK to GROW times the min-max one; see docs/results.md. */
enum { SCALES = 33, CHUNK = 8 };
static const float SHRINK = 0.4f, GROW = 1.05f;

static void minmax_group(float *s, float *z, const float *w, int64_t g, float top, float least)
{
    float low = 0.0f, high = 0.0f;
    for (int64_t i = 0; i < g; i++) {
        low = fminf(low, w[i]);
        high = fmaxf(high, w[i]);
    }
    *s = fminf(fmaxf((high - low) / top, least), 1e4f);
    *z = fminf(fmaxf(nearbyintf(-low / *s), 0.0f), top);
}

void eq_start_values(eq_ctx *ctx, eq_fake *fake, const eq_scheme *scheme, eq_start start,
                     const float *importance)
{
    int64_t K = fake->shape.K, g = fake->shape.g, groups = K / g;
    float least = eq_least_scale(scheme->bits), top = (float)((1 << scheme->bits) - 1);
    const eq_start_search search = {fake->shape, SCALES, SHRINK, GROW, least};
#pragma omp parallel for schedule(dynamic, CHUNK) num_threads(ctx->threads)
    for (int64_t row = 0; row < fake->N; row++) {
        for (int64_t k = 0; k < groups; k++) {
            const float *w = fake->w + row * K + k * g;
            float *s = fake->s + row * groups + k, *z = fake->z + row * groups + k;
            if (start == EQ_START_MINMAX)
                minmax_group(s, z, w, g, top, least);
            else
                ctx->kernels->start_search(s, z, w, importance + k * g, &search);
        }
    }
    eq_fake_refresh(ctx, fake);
}
