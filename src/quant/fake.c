#include "quant/fake.h"

#include "tensor/super_block.h"

#include <math.h>

enum { CHUNK = 16 }; /* rows of a task */

eq_fake eq_fake_layout(eq_arena *arena, int64_t N, const eq_quant_shape *shape,
                       const eq_fake_kind *kind)
{
    int64_t weights = N * shape->K, groups = N * (shape->K / shape->g);
    eq_fake f = {.N = N, .shape = *shape, .type = kind->type};
    float **full[] = {&f.w, &f.w_m, &f.w_v};
    float **small[] = {&f.s, &f.z, &f.ds, &f.dz, &f.s_m, &f.s_v, &f.z_m, &f.z_v};
    for (int i = 0; i < (kind->keep_gradients || kind->rounds ? 1 : 3); i++)
        *full[i] = eq_arena_take(arena, weights, sizeof(float));
    for (int i = 0; i < (kind->rounds ? 2 : kind->keep_gradients ? 4 : 8); i++)
        *small[i] = eq_arena_take(arena, groups, sizeof(float));
    const bool as_they_are = kind->exact_scales && !shape->super;
    f.seen = as_they_are ? f.s : eq_arena_take(arena, groups, sizeof(float));
    f.seen_z = shape->super ? eq_arena_take(arena, groups, sizeof(float)) : f.z;
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

/* Scales of one row as the file will hold them. */
static void stored_scales(float *out, const eq_fake *f, int64_t row)
{
    int64_t groups = f->shape.K / f->shape.g;
    for (int64_t i = 0; i < groups; i++)
        out[i] = eq_f16_f32(eq_f32_f16(eq_clamp_scale(f->s[row * groups + i], &f->shape)));
}

static void refresh_row(const eq_linear *linear, eq_fake *f, int64_t row)
{
    int64_t K = f->shape.K, groups = K / f->shape.g, first = row * groups;
    if (f->shape.super)
        eq_super_row(f->seen + first, f->seen_z + first, f->s + first, f->z + first, f->shape.super,
                     K);
    else if (f->seen != f->s)
        stored_scales(f->seen + first, f, row);
    linear->kernels->fakequant_forward(effective_row(f, row), f->w + row * K, f->seen + first,
                                       f->seen_z + first, &f->shape, f->type);
}

static void fake_rows(const eq_linear *linear, void *out, eq_dtype type, int64_t row0, int64_t rows)
{
    const eq_fake *f = linear->state;
    int64_t K = f->shape.K, groups = K / f->shape.g;
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = row0 + r;
        char *to = (char *)out + (size_t)(r * K) * (type == EQ_F32 ? 4 : 2);
        linear->kernels->fakequant_forward(to, f->w + row * K, f->seen + row * groups,
                                           f->seen_z + row * groups, &f->shape, type);
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
                                            f->seen + s, f->seen_z + s, &f->shape);
        if (f->dw)
            linear->kernels->add(f->dw + row * K, dw + r * K, K);
        else
            apply_row(linear, f, dw + r * K, row);
    }
}

/* The grid of one row as the file will hold it. */
static void freeze_grid(float *s, float *z, const eq_fake *f, int64_t row)
{
    const int64_t K = f->shape.K, groups = K / f->shape.g, first = row * groups;
    const float top = (float)((1 << f->shape.bits) - 1);
    if (f->shape.super) {
        eq_super_row(s, z, f->s + first, f->z + first, f->shape.super, K);
        return;
    }
    stored_scales(s, f, row);
    for (int64_t i = 0; i < groups; i++)
        z[i] = fminf(fmaxf(nearbyintf(f->z[first + i]), 0.0f), top);
}

static void fake_freeze(eq_ctx *ctx, const eq_linear *linear, uint8_t *q, float *s, float *z)
{
    const eq_fake *fake = linear->state;
    int64_t K = fake->shape.K, groups = K / fake->shape.g;
#pragma omp parallel for schedule(dynamic, CHUNK) num_threads(ctx->threads)
    for (int64_t row = 0; row < fake->N; row++) {
        const int64_t first = row * groups;
        freeze_grid(s + first, z + first, fake, row);
        ctx->kernels->quantize_codes(q + row * K, fake->w + row * K, s + first, z + first,
                                     &fake->shape);
    }
}

static const eq_linear_form FAKE = {
    .rows = fake_rows, .whole = fake_whole, .gradient = fake_gradient, .freeze = fake_freeze};

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
