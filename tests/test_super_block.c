/* Super-blocks: what is written is what ggml's reader finds, fitting and its bounds; and the forms
 * of linears that are trained on them. */
#include "quant/fake.h"
#include "quant/scales.h"
#include "quant/start.h"
#include "support_model.h"
#include "support_numbers.h"
#include "tensor/super_block.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { N = 5, K = 512, MOST_GROUPS = K / 16, ROUNDS = 40 };

static eq_ctx ctx;

static int setup(void **state)
{
    (void)state;
    context_init(&ctx, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    context_deinit(&ctx);
    return 0;
}

static int groups_of(eq_dtype type)
{
    return EQ_SUPER_BLOCK / eq_ggml_form_of(type)->group;
}

/* Any scales and mins that the type has, one of each of the largest size. */
static void random_block(eq_super_block *b, eq_dtype type, uint64_t stream)
{
    const int most = type == EQ_Q2_K ? 15 : 63, groups = groups_of(type);
    float noise[2 * EQ_GGML_MOST_GROUPS];
    *b = (eq_super_block){.d = stream % 2 ? 0x1.554p-9f : 0x1.8p-20f};
    fill_uniform(noise, 2 * groups, 0, 1, stream);
    for (int i = 0; i < groups; i++) {
        b->scale[i] = (int8_t)(1 + noise[i] * (float)(most - 1));
        if (type == EQ_Q3_K)
            b->scale[i] = (int8_t)(noise[i] < 0.5f ? -1 - 60 * noise[i] : 31 * noise[i]);
        if (type != EQ_Q3_K) b->min[i] = (uint8_t)(noise[groups + i] * (float)most);
    }
    b->scale[stream % (uint64_t)groups] = (int8_t)(type == EQ_Q3_K ? -32 : most);
    if (type == EQ_Q3_K) {
        b->d *= stream % 3 ? -1.0f : 1.0f;
        return;
    }
    b->dmin = 0x1.23p-8f;
    b->min[(stream + 3) % (uint64_t)groups] = (uint8_t)most;
    if (stream % 5) return;
    b->dmin = 0; /* without offsets at all */
    memset(b->min, 0, sizeof b->min);
}

static void written_blocks_are_read_and_fitted_again(void **state)
{
    (void)state;
    for (int t = 0; t < EQ_SUPER_TYPES; t++) {
        const eq_dtype type = eq_super_types[t];
        const eq_ggml_form *form = eq_ggml_form_of(type);
        for (uint64_t stream = 0; stream < ROUNDS; stream++) {
            eq_super_block block, again;
            uint8_t bytes[EQ_SUPER_BLOCK], q[EQ_SUPER_BLOCK];
            eq_ggml_block read;
            float s[EQ_GGML_MOST_GROUPS], z[EQ_GGML_MOST_GROUPS];
            random_block(&block, type, stream);
            for (int e = 0; e < EQ_SUPER_BLOCK; e++)
                q[e] = (uint8_t)((e * 7 + e / 16 + (int)stream) % (1 << form->bits));
            eq_super_block_write(bytes, type, &block, q);
            eq_ggml_block_read(&read, bytes, type);
            assert_memory_equal(read.q, q, sizeof q);
            eq_super_block_grid(s, z, &block, type);
            for (int i = 0; i < groups_of(type); i++) {
                assert_true(read.s[i] == s[i]);
                assert_true(!form->minimum || read.m[i] == -(block.dmin * (float)block.min[i]));
            }
            eq_super_block_fit(&again, type, s, z);
            assert_memory_equal(&again, &block, sizeof block);
        }
    }
}

/* Half a step of the scales and of the offsets, and the rounding of the units to halves, which
 * moves the largest by its share; a scale below half a step becomes one step, and so far off is
 * also one of 32 steps with the sign of which Q3_K has only 31. */
static void fits_are_near(void **state)
{
    (void)state;
    for (int t = 0; t < EQ_SUPER_TYPES; t++) {
        const eq_dtype type = eq_super_types[t];
        const float most = type == EQ_Q2_K ? 15 : type == EQ_Q3_K ? 32 : 63;
        for (uint64_t stream = 0; stream < ROUNDS; stream++) {
            const int groups = groups_of(type);
            float s[EQ_GGML_MOST_GROUPS], z[EQ_GGML_MOST_GROUPS];
            float s_fit[EQ_GGML_MOST_GROUPS], z_fit[EQ_GGML_MOST_GROUPS], largest = 0, deepest = 0;
            fill_uniform(s, groups, type == EQ_Q3_K ? -0.02f : 0.002f, 0.02f, 100 + stream);
            fill_uniform(z, groups, 0, 9, 200 + stream);
            for (int i = 0; i < groups; i++) {
                largest = fmaxf(largest, fabsf(s[i]));
                deepest = fmaxf(deepest, s[i] * z[i]);
            }
            eq_super_row(s_fit, z_fit, s, z, type, EQ_SUPER_BLOCK);
            for (int i = 0; i < groups; i++) {
                const float step = largest / most * 1.001f, low = deepest / most * 1.06f;
                assert_true(s_fit[i] != 0 && (s_fit[i] < 0) == (s[i] < 0));
                const bool edge =
                    fabsf(s[i]) < step || (type == EQ_Q3_K && fabsf(s[i]) > 31 * step);
                assert_true(fabsf(s_fit[i] - s[i]) <= (edge ? step : 0.52f * step));
                if (type == EQ_Q3_K)
                    assert_true(z_fit[i] == 4);
                else /* the offset is that of the fitted scale */
                    assert_true(fabsf(s_fit[i] * (z_fit[i] - z[i])) <= 0.6f * low);
            }
        }
    }
}

/* Of small weights, whose units are halves with few digits, too. */
static void fits_stay(void **state)
{
    (void)state;
    for (int t = 0; t < EQ_SUPER_TYPES; t++) {
        const eq_dtype type = eq_super_types[t];
        for (uint64_t stream = 0; stream < 50 * ROUNDS; stream++) {
            const float most = 0x1p-2f / (float)(1 << stream % 22);
            float s[EQ_GGML_MOST_GROUPS], z[EQ_GGML_MOST_GROUPS];
            eq_super_block once, again;
            fill_uniform(s, EQ_GGML_MOST_GROUPS, type == EQ_Q3_K ? -most : most / 10, most,
                         300 + stream);
            fill_uniform(z, EQ_GGML_MOST_GROUPS, 0, 15, 9000 + stream);
            eq_super_block_fit(&once, type, s, z);
            eq_super_block_grid(s, z, &once, type);
            eq_super_block_fit(&again, type, s, z);
            assert_memory_equal(&again, &once, sizeof once);
        }
    }
}

static void what_is_not_finite_is_seen(void **state)
{
    (void)state;
    for (int t = 0; t < EQ_SUPER_TYPES; t++) {
        const int groups = groups_of(eq_super_types[t]);
        float s[EQ_GGML_MOST_GROUPS], z[EQ_GGML_MOST_GROUPS], out[EQ_GGML_MOST_GROUPS], unused[16];
        for (int bad = 0; bad < 2; bad++) {
            fill_uniform(s, groups, 0.1f, 1, 7);
            fill_uniform(z, groups, 0, 1, 8);
            (bad ? z : s)[3] = bad ? INFINITY : NAN;
            eq_super_row(out, unused, s, z, eq_super_types[t], EQ_SUPER_BLOCK);
            for (int i = 0; i < groups; i++)
                assert_true(isnan(out[i]));
        }
        for (int i = 0; i < groups; i++)
            s[i] = z[i] = 0;
        eq_super_row(out, unused, s, z, eq_super_types[t], EQ_SUPER_BLOCK);
        for (int i = 0; i < groups; i++)
            assert_true(out[i] != 0);
    }
}

/* ---- linears ------------------------------------------------------------------------------- */

static eq_quant_shape shape_of(eq_dtype type)
{
    const eq_ggml_form *form = eq_ggml_form_of(type);
    return (eq_quant_shape){
        .K = K, .g = form->group, .bits = form->bits, .symmetric = !form->minimum, .super = type};
}

static void fake_init(eq_arena *arena, eq_fake *fake, eq_dtype type)
{
    const eq_quant_shape shape = shape_of(type);
    const eq_fake_kind kind = {.type = EQ_F32, .exact_scales = true};
    *arena = eq_arena_measure();
    eq_fake_layout(arena, N, &shape, &kind);
    assert_int_equal(eq_arena_reserve(&ctx, arena, arena->used), EQ_OK);
    *fake = eq_fake_layout(arena, N, &shape, &kind);
    fill_uniform(fake->w, N * K, -0.1f, 0.08f, 11);
}

static double squared_error(const eq_fake *fake)
{
    double sum = 0;
    for (int i = 0; i < N * K; i++)
        sum += pow(((const float *)fake->effective)[i] - fake->w[i], 2);
    return sum;
}

/* The search must beat the range of the groups, and both be near. */
static void starts_lie_on_the_blocks(void **state)
{
    (void)state;
    float ones[K];
    for (int k = 0; k < K; k++)
        ones[k] = 1;
    for (int t = 0; t < EQ_SUPER_TYPES; t++) {
        eq_arena arena;
        eq_fake fake;
        fake_init(&arena, &fake, eq_super_types[t]);
        eq_start_values(&ctx, &fake, EQ_START_MINMAX, ones);
        const double range = squared_error(&fake);
        eq_start_values(&ctx, &fake, EQ_START_MSE, ones);
        const double step = 0.18 / ((1 << fake.shape.bits) - 1);
        assert_true(squared_error(&fake) < 0.99 * range);
        assert_true(range < N * K * step * step / 4);
        eq_arena_release(&arena);
    }
}

static void pack_rows(uint8_t *bytes, eq_dtype type, const uint8_t *q, const float *s,
                      const float *z)
{
    const int groups = groups_of(type);
    for (int i = 0; i < N * K / EQ_SUPER_BLOCK; i++) {
        eq_super_block block;
        eq_super_block_fit(&block, type, s + i * groups, z + i * groups);
        eq_super_block_write(bytes + i * eq_dtype_get(type)->block_bytes, type, &block,
                             q + i * EQ_SUPER_BLOCK);
    }
}

/* What a trained linear freezes to reads, as bytes, as the weights that it had: to the rounding of
 * (q - z) s and q s - m, two of f32. The form "scales" over these bytes has them too, and the
 * gradients of its scales are the sums that they should be. */
static void frozen_weights_are_the_trained_ones(void **state)
{
    (void)state;
    for (int t = 0; t < EQ_SUPER_TYPES; t++) {
        const eq_dtype type = eq_super_types[t];
        const eq_quant_shape shape = shape_of(type);
        static uint8_t q[N * K], bytes[N * K], again[N * K];
        static float s[N * MOST_GROUPS], z[N * MOST_GROUPS], read[N * K], rows[N * K], dw[N * K];
        eq_arena arena, other = eq_arena_measure();
        eq_fake fake;
        fake_init(&arena, &fake, type);
        eq_start_values(&ctx, &fake, EQ_START_MINMAX, NULL);
        for (int64_t i = 0; i < N * K / shape.g; i++)
            fake.s[i] *= 1 + 0.1f * (float)(i % 5); /* as training might leave them */
        eq_fake_refresh(&ctx, &fake);
        const eq_linear linear = eq_linear_fake(ctx.kernels, &fake);
        linear.form->freeze(&ctx, &linear, q, s, z);
        pack_rows(bytes, type, q, s, z);
        eq_dtype_to_f32(read, bytes, type, N * K);
        assert_true(worst_error(read, fake.effective, N * K, 1e-7, 1e-6) <= 1);

        eq_stored stored = {
            .count = 1,
            .parts = {{.rows = N,
                       .tensor = {.data = bytes, .type = type, .dims = 2, .shape = {N, K, 1, 1}}}}};
        const eq_linear source = eq_linear_stored(ctx.kernels, &stored, K);
        eq_scales_layout(&other, N, &shape);
        assert_int_equal(eq_arena_reserve(&ctx, &other, other.used), EQ_OK);
        eq_scales scales = eq_scales_layout(&other, N, &shape);
        eq_scales_load(&ctx, &scales, &source);
        eq_linear trained = eq_linear_scales(ctx.kernels, &scales);
        trained.form->rows(&trained, rows, EQ_F32, 0, N);
        assert_true(worst_error(rows, read, N * K, 1e-7, 1e-6) <= 1);
        trained.form->freeze(&ctx, &trained, q, s, z);
        pack_rows(again, type, q, s, z);
        assert_memory_equal(again, bytes, eq_dtype_bytes(type, N * K));

        const int64_t groups = N * K / shape.g;
        memset(scales.ds, 0, (size_t)groups * sizeof *scales.ds);
        fill_uniform(dw, N * K, -1, 1, 12);
        trained.form->gradient(&trained, dw, 0, N);
        for (int64_t i = 0; i < groups; i++) {
            double sum = 0, terms = 0;
            for (int64_t k = i * shape.g; k < (i + 1) * shape.g; k++) {
                sum += (double)(dw[k] * rows[k] / s[i]);
                terms += fabs((double)(dw[k] * rows[k] / s[i]));
            }
            assert_true(fabs((double)scales.ds[i] - sum) <= 1e-5 * terms);
        }
        eq_arena_release(&arena);
        eq_arena_release(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_blocks_are_read_and_fitted_again),
        cmocka_unit_test(fits_are_near),
        cmocka_unit_test(fits_stay),
        cmocka_unit_test(what_is_not_finite_is_seen),
        cmocka_unit_test(starts_lie_on_the_blocks),
        cmocka_unit_test(frozen_weights_are_the_trained_ones),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
