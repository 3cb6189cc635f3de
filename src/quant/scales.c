#include "quant/scales.h"

#include "tensor/super_block.h"

#include <assert.h>
#include <math.h>

enum { CHUNK = 16 }; /* rows of a task */

eq_scales eq_scales_layout(eq_arena *arena, int64_t N, const eq_quant_shape *shape)
{
    int64_t groups = N * (shape->K / shape->g);
    eq_scales f = {.N = N, .shape = *shape};
    int64_t bytes = N * (int64_t)eq_codes_bytes(shape->K, shape->bits);
    f.codes = eq_arena_take(arena, bytes + EQ_CODES_PAD, 1);
    if (shape->super)
        f.real_z = eq_arena_take(arena, groups, sizeof(float));
    else
        f.z = eq_arena_take(arena, groups, 1);
    f.s = eq_arena_take(arena, groups, sizeof(float));
    f.ds = eq_arena_take(arena, groups, sizeof(float));
    return f;
}

static uint8_t *codes_row(const eq_scales *f, int64_t row)
{
    return f->codes + (size_t)row * eq_codes_bytes(f->shape.K, f->shape.bits);
}

/* Rows of one part; `codes` is scratch [K]. */
static void load_row(eq_scales *f, const eq_stored_part *part, int64_t row, uint8_t *codes)
{
    int64_t K = f->shape.K, groups = K / f->shape.g, first = row * groups;
    float *z = f->ds + first; /* free until there are gradients */
    eq_stored_grid(part, row - part->row0, K, codes, f->s + first, z);
    eq_codes_pack(codes_row(f, row), codes, K, f->shape.bits);
    for (int64_t i = 0; i < groups; i++) {
        if (f->z)
            f->z[first + i] = (uint8_t)z[i];
        else
            f->real_z[first + i] = z[i];
    }
}

void eq_scales_load(eq_ctx *ctx, eq_scales *f, const eq_linear *source)
{
    const eq_stored *stored = source->state;
    uint8_t *codes = eq_alloc(ctx, ctx->threads, (size_t)f->shape.K);
    for (int p = 0; codes && p < stored->count; p++) {
        const eq_stored_part *part = &stored->parts[p];
        assert(part->packed ? part->matrix.bits == f->shape.bits && part->matrix.g == f->shape.g
                            : part->tensor.type == f->shape.super);
#pragma omp parallel for schedule(dynamic, CHUNK) num_threads(ctx->threads)
        for (int64_t row = part->row0; row < part->row0 + part->rows; row++)
            load_row(f, part, row, codes + eq_this_thread() * f->shape.K);
    }
    eq_free(codes);
}

/* One row of super-blocks, one after the other on the grid that it will have in the file. */
static void super_row(const eq_linear *linear, char *out, eq_dtype type, int64_t row)
{
    const eq_scales *f = linear->state;
    const int64_t each = eq_super_groups(f->shape.super), first = row * (f->shape.K / f->shape.g);
    const size_t bytes = eq_codes_bytes(EQ_SUPER_BLOCK, f->shape.bits);
    eq_quant_shape shape = f->shape;
    shape.K = EQ_SUPER_BLOCK;
    for (int64_t b = 0; b < f->shape.K / EQ_SUPER_BLOCK; b++) {
        float s[EQ_GGML_MOST_GROUPS], z[EQ_GGML_MOST_GROUPS];
        eq_super_row(s, z, f->s + first + b * each, f->real_z + first + b * each, shape.super,
                     EQ_SUPER_BLOCK);
        linear->kernels->dequantize(out + (size_t)(b * EQ_SUPER_BLOCK) * eq_elem_bytes(type),
                                    codes_row(f, row) + (size_t)b * bytes, s, z, &shape, type);
    }
}

static void scales_rows(const eq_linear *linear, void *out, eq_dtype type, int64_t row0,
                        int64_t rows)
{
    const eq_scales *f = linear->state;
    int64_t K = f->shape.K, groups = K / f->shape.g;
    for (int64_t row = row0; row < row0 + rows; row++) {
        char *to = (char *)out + (size_t)((row - row0) * K) * eq_elem_bytes(type);
        if (f->shape.super)
            super_row(linear, to, type, row);
        else
            linear->kernels->dequantize(to, codes_row(f, row), f->s + row * groups,
                                        f->z + row * groups, &f->shape, type);
    }
}

static const void *scales_whole(const eq_linear *linear, eq_dtype type)
{
    const eq_scales *f = linear->state;
    return type == f->type ? f->effective : NULL;
}

static void scales_take_gradient(eq_linear *linear, float *dw, int64_t row0, int64_t rows)
{
    eq_scales *f = linear->state;
    int64_t K = f->shape.K, groups = K / f->shape.g;
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = row0 + r, first = row * groups;
        const void *z = f->z ? (const void *)(f->z + first) : f->real_z + first;
        linear->kernels->scale_gradient(f->ds + first, dw + r * K, codes_row(f, row), z, &f->shape);
    }
}

/* The grid of one row as the file will hold it. */
static void freeze_grid(float *s, float *z, const eq_scales *f, int64_t row)
{
    const int64_t groups = f->shape.K / f->shape.g, first = row * groups;
    if (f->shape.super) {
        eq_super_row(s, z, f->s + first, f->real_z + first, f->shape.super, f->shape.K);
        return;
    }
    for (int64_t i = 0; i < groups; i++) {
        s[i] = eq_f16_f32(eq_f32_f16(fminf(fmaxf(f->s[first + i], -65504.0f), 65504.0f)));
        z[i] = f->z[first + i];
    }
}

static void scales_freeze(eq_ctx *ctx, const eq_linear *linear, uint8_t *q, float *s, float *z)
{
    const eq_scales *f = linear->state;
    int64_t K = f->shape.K, groups = K / f->shape.g;
#pragma omp parallel for schedule(dynamic, CHUNK) num_threads(ctx->threads)
    for (int64_t row = 0; row < f->N; row++) {
        for (int64_t k = 0; k < K; k++)
            q[row * K + k] = (uint8_t)eq_codes_get(codes_row(f, row), k, f->shape.bits);
        freeze_grid(s + row * groups, z + row * groups, f, row);
    }
}

static const eq_linear_form SCALES = {.rows = scales_rows,
                                      .whole = scales_whole,
                                      .gradient = scales_take_gradient,
                                      .freeze = scales_freeze};

eq_linear eq_linear_scales(const eq_kernels *kernels, eq_scales *scales)
{
    return (eq_linear){
        .form = &SCALES, .kernels = kernels, .N = scales->N, .K = scales->shape.K, .state = scales};
}

void eq_scales_refresh(eq_ctx *ctx, const eq_scales *f)
{
    const eq_linear linear = eq_linear_scales(ctx->kernels, (eq_scales *)(uintptr_t)f);
    size_t row_bytes = (size_t)f->shape.K * eq_elem_bytes(f->type);
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t c = 0; c < (f->N + CHUNK - 1) / CHUNK; c++) {
        int64_t row = c * CHUNK, rows = f->N - row < CHUNK ? f->N - row : CHUNK;
        scales_rows(&linear, (char *)f->effective + (size_t)row * row_bytes, f->type, row, rows);
    }
}
