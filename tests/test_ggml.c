/* ggml's block types: what they stand for, against golden values of the `gguf` package, and the
 * packing of grids, against what the blocks then stand for. */
#include "export/ggml_grid.h"
#include "io/safetensors.h"
#include "support_files.h"
#include "support_numbers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 5, MOST = 256 * BLOCKS };

static eq_tensor golden(eq_ctx *ctx, const eq_safetensors *file, const char *type, const char *part)
{
    char name[32];
    eq_tensor t;
    snprintf(name, sizeof name, "%s.%s", type, part);
    assert_int_equal(eq_safetensors_get(ctx, file, name, &t), EQ_OK);
    return t;
}

/* The package computes in f32 in another order: two roundings of the largest term, which for the
 * types with a minimum is at most a few times 64. */
static void values_are_those_of_another_reader(void **state)
{
    folder_fixture *f = *state;
    eq_safetensors *file = NULL;
    assert_int_equal(eq_safetensors_open(&f->ctx, &file, "tests/golden/ggml.safetensors"), EQ_OK);
    for (eq_dtype type = EQ_Q8_0; type < EQ_DTYPES; type++) {
        const eq_dtype_info *info = eq_dtype_get(type);
        eq_tensor blocks = golden(&f->ctx, file, info->name, "blocks");
        eq_tensor values = golden(&f->ctx, file, info->name, "values");
        int64_t n = BLOCKS * info->block_elems;
        float got[MOST], want[MOST];
        uint8_t wrong[MOST];
        assert_int_equal(eq_tensor_elems(&blocks), BLOCKS * info->block_bytes);
        assert_int_equal(eq_tensor_elems(&values), n);
        memcpy(want, values.data, (size_t)n * sizeof *want);
        eq_dtype_to_f32(got, blocks.data, type, n);
        assert_true(worst_error(got, want, n, 1e-4, 1e-6) <= 1);
        memcpy(wrong, blocks.data, (size_t)(BLOCKS * info->block_bytes));
        wrong[info->block_bytes / 2] ^= 0x11; /* codes, in every type */
        eq_dtype_to_f32(got, wrong, type, n);
        assert_true(worst_error(got, want, n, 1e-4, 1e-6) > 1);
    }
    eq_safetensors_close(file);
}

/* A row of 512 columns on a grid: codes over all their range, scales of either sign. */
typedef struct grid_case {
    int bits;
    int64_t group;
    int zero; /* of all groups; -1: any */
    eq_dtype type;
    bool exact;
} grid_case;

enum { K = 512 };

static void fill_row(eq_grid_row *row, const grid_case *c, bool one_sign)
{
    static const float SCALES[] = {0x1.544p-7f, -0.25f, 3.0f, 6.103515625e-05f};
    row->K = K;
    for (int64_t k = 0; k < K; k++) {
        int64_t g = k / c->group;
        float s = SCALES[g % 4];
        row->s[k] = one_sign ? fabsf(s) : s;
        row->z[k] = (int16_t)(c->zero >= 0 ? c->zero : (5 * g + 3) % (1 << c->bits));
        row->q[k] = (int16_t)((k * 7 + k / 16) % (1 << c->bits));
    }
}

static eq_dtype smallest(const eq_grid_row *row, float *error)
{
    for (int t = 0; t < EQ_GGML_GRIDS; t++) {
        *error = 0;
        if (eq_ggml_grid_holds(&eq_ggml_grids[t], row, error)) return eq_ggml_grids[t].type;
    }
    return EQ_F32;
}

/* Packed by any type that holds it, the row stands for the same numbers. */
static void check_packing(const eq_grid_row *row)
{
    uint8_t packed[K * 2];
    float got[K];
    for (int t = 0; t < EQ_GGML_GRIDS; t++) {
        float error = 0;
        if (!eq_ggml_grid_holds(&eq_ggml_grids[t], row, &error)) continue;
        eq_ggml_grid_pack(packed, &eq_ggml_grids[t], row);
        eq_dtype_to_f32(got, packed, eq_ggml_grids[t].type, K);
        float most = 0;
        for (int64_t k = 0; k < K; k++)
            most = fmaxf(most, fabsf(got[k] - (float)(row->q[k] - row->z[k]) * row->s[k]));
        assert_true(most == error);
    }
}

static void grids_get_the_smallest_type(void **state)
{
    static const grid_case CASES[] = {
        {2, 64, 2, EQ_Q2_0, true},   {2, 64, 1, EQ_Q2_0, true},   {2, 128, 2, EQ_Q2_0, true},
        {2, 32, 2, EQ_Q4_0, true},   {2, 64, -1, EQ_Q4_0, true},  {2, 256, -1, EQ_Q2_K, true},
        {2, 512, 0, EQ_Q2_K, true},  {2, 512, 2, EQ_Q2_0, true},  {3, 64, 4, EQ_Q4_0, true},
        {3, 32, -1, EQ_Q4_0, true},  {3, 256, 4, EQ_Q3_K, true},  {3, 512, 0, EQ_Q4_0, true},
        {4, 32, 8, EQ_Q4_0, true},   {4, 64, -1, EQ_Q4_1, false}, {4, 256, -1, EQ_Q4_K, true},
        {4, 512, 15, EQ_Q4_K, true}, {8, 32, 128, EQ_Q8_0, true}, {8, 64, -1, EQ_F32, true},
        {4, 16, 8, EQ_F32, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        for (int one_sign = 0; one_sign < 2; one_sign++) {
            int16_t q[K], z[K];
            float s[K], error = 0;
            eq_grid_row row = {.q = q, .z = z, .s = s};
            fill_row(&row, &CASES[i], one_sign);
            assert_int_equal(smallest(&row, &error), CASES[i].type);
            assert_true((error == 0) == CASES[i].exact);
            check_packing(&row);
        }
}

static void ternary_codes_fit_fewer_bits(void **state)
{
    int16_t q[K], z[K];
    float s[K], error = 0;
    eq_grid_row row = {.K = K, .q = q, .z = z, .s = s};
    (void)state;
    for (int64_t k = 0; k < K; k++) {
        q[k] = (int16_t)(1 + k % 3);
        z[k] = 2;
        s[k] = -0.5f;
    }
    assert_int_equal(smallest(&row, &error), EQ_TQ2_0);
    check_packing(&row);
    q[300] = 0; /* -2 levels of one sign: Q2_0 turns that block around */
    assert_int_equal(smallest(&row, &error), EQ_Q2_0);
    check_packing(&row);
    s[300] = 0.5f; /* another scale inside of a block */
    assert_int_equal(smallest(&row, &error), EQ_F32);
    s[300] = -0.5f;
    for (int64_t k = 0; k < K; k++)
        s[k] = 0.1f; /* no half */
    assert_int_equal(smallest(&row, &error), EQ_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_are_those_of_another_reader, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test(grids_get_the_smallest_type),
        cmocka_unit_test(ternary_codes_fit_fewer_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
