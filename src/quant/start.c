#include "quant/start.h"

#include <math.h>

/* The search tries SCALES scales from SHRINK to GROW times the min-max one; see docs/results.md. */
enum { SCALES = 33, STEPS = 3, CHUNK = 8 };
static const float SHRINK = 0.4f, GROW = 1.05f, ROUND = 0x1.8p23f;

static float top_code(const eq_quant_shape *shape)
{
    return (float)((1 << shape->bits) - 1);
}

static float middle_code(const eq_quant_shape *shape)
{
    return (float)(1 << (shape->bits - 1));
}

/* The side with one code more goes to the weight of the largest magnitude, the first of equals. */
static void symmetric_group(float *s, float *z, const float *w, const eq_quant_shape *shape)
{
    float largest = 0.0f;
    for (int64_t i = 0; i < shape->g; i++)
        if (fabsf(w[i]) > fabsf(largest)) largest = w[i];
    *z = middle_code(shape);
    *s = eq_clamp_scale(-largest / *z, shape);
}

static void minmax_group(float *s, float *z, const float *w, const eq_quant_shape *shape)
{
    float low = 0.0f, high = 0.0f, top = top_code(shape);
    for (int64_t i = 0; i < shape->g; i++) {
        low = fminf(low, w[i]);
        high = fmaxf(high, w[i]);
    }
    *s = eq_clamp_scale((high - low) / top, shape);
    *z = shape->super ? -low / *s : fminf(fmaxf(nearbyintf(-low / *s), 0.0f), top);
}

/* sum h (w^ - w)^2 of a group on the grid (s, z), and the best scale for its codes:
 * argmin_t sum h ((q - z) t - w)^2 = sum h w (q - z) / sum h (q - z)^2. */
static double grid_error(double *best, const float *w, const float *h, int64_t g, float s, float z,
                         float top)
{
    double error = 0, cross = 0, square = 0;
    for (int64_t i = 0; i < g; i++) {
        float u = w[i] / s, q = u < -z ? -z : u > top - z ? top - z : u;
        q = (q + ROUND) -
            ROUND; /* half to even, as q is small; a call of nearbyintf is 5 times slower */
        float d = q * s - w[i];
        error += (double)(h[i] * d * d);
        cross += (double)(h[i] * w[i] * q);
        square += (double)(h[i] * q * q);
    }
    *best = square > 0 ? cross / square : (double)s;
    return error;
}

/* Between two scales of the search lies a better one: alternate codes and scale while that helps.
 * */
static void refine_scale(float *s, float z, const float *w, const float *h,
                         const eq_quant_shape *shape)
{
    const float top = top_code(shape);
    double next = 0, unused = 0, error = grid_error(&next, w, h, shape->g, *s, z, top);
    for (int step = 0; step < STEPS; step++) {
        float t = eq_clamp_scale((float)next, shape);
        double lower = grid_error(&unused, w, h, shape->g, t, z, top);
        if (!(lower < error)) break;
        *s = t;
        error = lower;
        next = unused;
    }
}

/* Sums over the codes of a group on the grid (s, z) with a zero point of any size. */
typedef struct grid_sums {
    double error, h, q, qq, w, qw; /* sum h (w^ - w)^2; sums of h, h q, h q^2, h w, h q w */
} grid_sums;

static grid_sums real_sums(const float *w, const float *h, int64_t g, float s, float z, float top)
{
    grid_sums sums = {0};
    for (int64_t i = 0; i < g; i++) {
        const float u = w[i] / s + z, bound = u < 0 ? 0 : u > top ? top : u;
        const float q = (bound + ROUND) - ROUND, d = (q - z) * s - w[i];
        sums.error += (double)(h[i] * d * d);
        sums.h += (double)h[i];
        sums.q += (double)(h[i] * q);
        sums.qq += (double)(h[i] * q * q);
        sums.w += (double)(h[i] * w[i]);
        sums.qw += (double)(h[i] * q * w[i]);
    }
    return sums;
}

/* The same with a zero point that is a real number, 0 or more: the line through the codes. */
static void refine_line(float *s, float *z, const float *w, const float *h,
                        const eq_quant_shape *shape)
{
    const float top = top_code(shape);
    grid_sums now = real_sums(w, h, shape->g, *s, *z, top);
    for (int step = 0; step < STEPS; step++) {
        const double spread = now.h * now.qq - now.q * now.q;
        if (!(spread > 0)) break;
        const double slope = (now.h * now.qw - now.q * now.w) / spread;
        const float t = eq_clamp_scale((float)slope, shape);
        const float zero = fmaxf((float)((slope * now.q - now.w) / now.h) / t, 0.0f);
        const grid_sums next = real_sums(w, h, shape->g, t, zero, top);
        if (!(next.error < now.error)) break;
        *s = t;
        *z = zero;
        now = next;
    }
}

/* Weights that come from blocks of 8 bits (ggml's Q8_0) lie on the grid of largest / 127, which no
 * step of the search hits: they keep their codes, and every other group is as well off. */
static void try_block_scale(float *s, float z, const float *w, const float *h,
                            const eq_quant_shape *shape)
{
    float largest = 0.0f;
    for (int64_t i = 0; i < shape->g; i++)
        largest = fmaxf(largest, fabsf(w[i]));
    double unused = 0;
    const float top = top_code(shape), t = eq_clamp_scale(largest / (z - 1), shape);
    double error = grid_error(&unused, w, h, shape->g, *s, z, top);
    if (grid_error(&unused, w, h, shape->g, t, z, top) < error) *s = t;
}

/* A symmetric grid must reach as far with its short side as with its long one: at 2 bits that is
 * twice the scale, and the grid of weights -a, 0 and a. */
static eq_start_search search_of(const eq_quant_shape *shape)
{
    const float middle = middle_code(shape);
    const float grow = shape->symmetric ? GROW * middle / (middle - 1) : GROW;
    return (eq_start_search){*shape, SCALES, SHRINK, grow, eq_least_scale(shape)};
}

void eq_start_values(eq_ctx *ctx, eq_fake *fake, eq_start start, const float *importance)
{
    const eq_quant_shape *shape = &fake->shape;
    const eq_start_search search = search_of(shape);
    int64_t K = shape->K, g = shape->g, groups = K / g;
#pragma omp parallel for schedule(dynamic, CHUNK) num_threads(ctx->threads)
    for (int64_t row = 0; row < fake->N; row++) {
        for (int64_t k = 0; k < groups; k++) {
            const float *w = fake->w + row * K + k * g;
            float *s = fake->s + row * groups + k, *z = fake->z + row * groups + k;
            if (start == EQ_START_MINMAX) {
                if (shape->symmetric)
                    symmetric_group(s, z, w, shape);
                else
                    minmax_group(s, z, w, shape);
                continue;
            }
            ctx->kernels->start_search(s, z, w, importance + k * g, &search);
            if (shape->super && !shape->symmetric)
                refine_line(s, z, w, importance + k * g, shape);
            else
                refine_scale(s, *z, w, importance + k * g, shape);
            if (shape->symmetric && shape->bits == 8)
                try_block_scale(s, *z, w, importance + k * g, shape);
        }
    }
    eq_fake_refresh(ctx, fake);
}
