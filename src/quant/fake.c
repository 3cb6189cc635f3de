#include "quant/fake.h"

#include <math.h>

enum { CHUNK = 16 }; /* rows of a task */

eq_fake eq_fake_layout(eq_arena *arena, int64_t N, const eq_quant_shape *shape,
                       const eq_fake_kind *kind)
{
    int64_t weights = N * shape->K, groups = N * (shape->K / shape->g);
    eq_fake f = {.N = N, .shape = *shape, .type = kind->type};
    float **full[] = {&f.w, &f.w_m, &f.w_v};
    float **small[] = {&f.s, &f.z, &f.ds, &f.dz, &f.s_m, &f.s_v, &f.z_m, &f.z_v};
    for (int i = 0; i < (kind->keep_gradients ? 1 : 3); i++)
        *full[i] = eq_arena_take(arena, weights, sizeof(float));
    for (int i = 0; i < (kind->keep_gradients ? 4 : 8); i++)
        *small[i] = eq_arena_take(arena, groups, sizeof(float));
    f.seen = kind->exact_scales ? f.s : eq_arena_take(arena, groups, sizeof(float));
    if (kind->keep_gradients)
        f.dw = eq_arena_take(arena, weights, sizeof(float));
    else
        f.effective = eq_arena_take(arena, weights, eq_elem_bytes(kind->type));
    return f;
}

static char *effective_row(const eq_fake *f, int64_t row)
{
    return (char *)f->effective + (size_t)(row * f->shape.K) * (f->type == EQ_F32 ? 4 : 2);
}

static void refresh_row(const eq_linear *linear, eq_fake *f, int64_t row)
{
    int64_t K = f->shape.K, groups = K / f->shape.g;
    for (int64_t i = row * groups; f->seen != f->s && i < (row + 1) * groups; i++)
        f->seen[i] = eq_f16_f32(eq_f32_f16(eq_clamp_scale(f->s[i], &f->shape)));
    linear->kernels->fakequant_forward(effective_row(f, row), f->w + row * K,
                                       f->seen + row * groups, f->z + row * groups, &f->shape,
                                       f->type);
}

static void fake_rows(const eq_linear *linear, void *out, eq_dtype type, int64_t row0, int64_t rows)
{
    const eq_fake *f = linear->state;
    int64_t K = f->shape.K, groups = K / f->shape.g;
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = row0 + r;
        char *to = (char *)out + (size_t)(r * K) * (type == EQ_F32 ? 4 : 2);
        linear->kernels->fakequant_forward(to, f->w + row * K, f->seen + row * groups,
                                           f->z + row * groups, &f->shape, type);
    }
}

static const void *fake_whole(const eq_linear *linear, eq_dtype type)
{
    const eq_fake *f = linear->state;
    return type == f->type ? f->effective : NULL;
}

/* Update one row with its gradients and form its new effective weights. */
static void apply_row(const eq_linear *linear, eq_fake *f, const float *dw, int64_t row)
{
    const eq_kernels *kernels = linear->kernels;
    int64_t K = f->shape.K, groups = K / f->shape.g, w = row * K, s = row * groups;
    if (f->step->train_weights)
        kernels->adamw(f->w + w, f->w_m + w, f->w_v + w, dw, K, &f->step->weights);
    if (f->step->train_quant) {
        kernels->adamw(f->s + s, f->s_m + s, f->s_v + s, f->ds + s, groups, &f->step->quant);
        if (!f->shape.symmetric)
            kernels->adamw(f->z + s, f->z_m + s, f->z_v + s, f->dz + s, groups, &f->step->quant);
    }
    refresh_row(linear, f, row);
}

static void fake_gradient(eq_linear *linear, float *dw, int64_t row0, int64_t rows)
{
    eq_fake *f = linear->state;
    int64_t K = f->shape.K, groups = K / f->shape.g;
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = row0 + r, s = row * groups;
        if (!f->dw) {
            memset(f->ds + s, 0, (size_t)groups * sizeof *f->ds);
            memset(f->dz + s, 0, (size_t)groups * sizeof *f->dz);
        }
        linear->kernels->fakequant_backward(dw + r * K, f->ds + s, f->dz + s, f->w + row * K,
                                            f->seen + s, f->z + s, &f->shape);
        if (f->dw)
            linear->kernels->add(f->dw + row * K, dw + r * K, K);
        else
            apply_row(linear, f, dw + r * K, row);
    }
}

static void fake_freeze(eq_ctx *ctx, const eq_linear *linear, uint8_t *q, float *s16, uint8_t *z8)
{
    const eq_fake *fake = linear->state;
    int64_t K = fake->shape.K, groups = K / fake->shape.g;
    float top = (float)((1 << fake->shape.bits) - 1);
#pragma omp parallel for schedule(dynamic, CHUNK) num_threads(ctx->threads)
    for (int64_t row = 0; row < fake->N; row++) {
        float *z = fake->dz + row * groups; /* free by now: holds the whole zero points */
        for (int64_t i = row * groups; i < (row + 1) * groups; i++) {
            s16[i] = eq_f16_f32(eq_f32_f16(eq_clamp_scale(fake->s[i], &fake->shape)));
            float whole = fminf(fmaxf(nearbyintf(fake->z[i]), 0.0f), top);
            fake->dz[i] = whole;
            z8[i] = (uint8_t)whole;
        }
        ctx->kernels->quantize_codes(q + row * K, fake->w + row * K, s16 + row * groups, z,
                                     &fake->shape);
    }
}

static const eq_linear_form FAKE = {.name = "fake",
                                    .rows = fake_rows,
                                    .whole = fake_whole,
                                    .gradient = fake_gradient,
                                    .freeze = fake_freeze};

eq_linear eq_linear_fake(const eq_kernels *kernels, eq_fake *fake)
{
    return (eq_linear){
        .form = &FAKE, .kernels = kernels, .N = fake->N, .K = fake->shape.K, .state = fake};
}

void eq_fake_refresh(eq_ctx *ctx, eq_fake *fake)
{
    eq_linear linear = eq_linear_fake(ctx->kernels, fake);
#pragma omp parallel for schedule(dynamic, CHUNK) num_threads(ctx->threads)
    for (int64_t row = 0; row < fake->N; row++)
        refresh_row(&linear, fake, row);
}
