/* Panels: what they hold against what they were made from, and the kernels on them in every table
 * against the reference. */
#include "kernels/kernels.h"
#include "support_kernels.h"
#include "support_numbers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { MOST_M = 17 };
static const int BITS[] = {2, 3, 4, 8};
static const int64_t GROUPS[] = {32, 64, 192, 576, 1536, 24, 40, 100};
enum { GROUP_COUNT = sizeof GROUPS / sizeof *GROUPS };

/* A matrix of `groups` groups of g columns with random codes, scales of either sign and zero
 * points. The data begin at a multiple of 64. */
typedef struct random_panels {
    eq_panels w;
    char *memory;
} random_panels;

static uint8_t *aligned_memory(char **memory, size_t size)
{
    *memory = test_malloc(size + 64);
    return (uint8_t *)(((uintptr_t)*memory + 63) / 64 * 64);
}

static random_panels make_panels(int bits, int64_t N, int64_t g, int64_t groups, eq_panel_zero zero,
                                 eq_dtype scale_type)
{
    random_panels p = {.w = {.bits = bits, .N = N, .K = g * groups, .g = g}};
    eq_panels *w = &p.w;
    w->zero = zero;
    w->scale_type = scale_type;
    w->same = zero == EQ_ZERO_SAME ? 1 << (bits - 1) : 0;
    eq_panels_set_places(w);
    const size_t size = eq_panels_bytes(w), stride = w->stride;
    w->data = aligned_memory(&p.memory, size);
    float *noise = test_malloc(size * sizeof *noise);
    fill_uniform(noise, (int64_t)size, 0, 255.99f, 7);
    for (size_t i = 0; i < size; i++)
        w->data[i] = (uint8_t)noise[i];
    for (int64_t i = 0; i < eq_panels_count(w) * groups * EQ_PANEL_ROWS; i++) {
        const int64_t each = groups * EQ_PANEL_ROWS, at = i % each;
        uint8_t *panel = w->data + (size_t)(i / each) * stride;
        const float s = (noise[(size_t)i % size] - 128) / 1000, m = s / 2;
        uint16_t half = eq_f32_f16(s), least = eq_f32_f16(m);
        uint8_t *zeros = panel + w->zeros_at;
        if (scale_type == EQ_F16) memcpy(panel + 2 * at, &half, 2);
        if (scale_type == EQ_F32) memcpy(panel + 4 * at, &s, 4);
        if (zero == EQ_ZERO_EACH) zeros[at] &= (uint8_t)((1 << bits) - 1);
        if (zero == EQ_ZERO_MINIMUM && scale_type == EQ_F16) memcpy(zeros + 2 * at, &least, 2);
        if (zero == EQ_ZERO_MINIMUM && scale_type == EQ_F32) memcpy(zeros + 4 * at, &m, 4);
    }
    test_free(noise);
    return p;
}

/* X in memory that is not aligned, and inputs of M rows. */
typedef struct random_inputs {
    eq_panel_inputs x;
    char *memory[4];
    float *values;
} random_inputs;

static random_inputs make_inputs(const eq_kernels *k, const eq_panels *w, const void *x,
                                 eq_dtype type, bool exact)
{
    random_inputs r = {.x = {.segments = eq_panels_segments(w), .groups = w->groups}};
    r.x.columns = r.x.segments * EQ_SEGMENT;
    const size_t n = (size_t)(MOST_M * r.x.columns) + 16;
    for (int i = 0; i < 4; i++)
        r.memory[i] = test_calloc(n, sizeof(float));
    r.x.sums = (float *)(void *)r.memory[0];
    if (exact) {
        r.x.values = (float *)(void *)r.memory[1];
    } else {
        r.x.codes = (int8_t *)r.memory[2] + 1;
        r.x.scales = (float *)(void *)r.memory[3];
    }
    for (int64_t m = 0; m < MOST_M; m++)
        k->panel_inputs(&r.x, m, (const char *)x + (size_t)(m * w->K) * eq_elem_bytes(type), w,
                        type);
    return r;
}

static void free_inputs(random_inputs *r)
{
    for (int i = 0; i < 4; i++)
        test_free(r->memory[i]);
}

/* Values of very different size by segment, as activations have. */
static char *random_rows(int64_t K, eq_dtype type)
{
    float *x = test_malloc((size_t)(MOST_M * K) * sizeof *x);
    fill_uniform(x, MOST_M * K, -1, 1, 9);
    for (int64_t i = 0; i < MOST_M * K; i++)
        x[i] *= i / 32 % 5 == 0 ? 100.0f : i / 32 % 7 == 0 ? 0.0f : 1.0f;
    if (type == EQ_F32) return (char *)x;
    char *half = test_malloc((size_t)(MOST_M * K) * 2);
    for (int64_t i = 0; i < MOST_M * K; i++)
        ((uint16_t *)(void *)half)[i] = eq_f32_bf16(x[i]);
    test_free(x);
    return half;
}

static float *product(const eq_kernels *k, const random_panels *p, const random_inputs *x,
                      int64_t ldy, int64_t rows)
{
    float *y = test_calloc((size_t)(ldy * rows), sizeof *y);
    k->panel_product(y, ldy, &p->w, 0, eq_panels_count(&p->w), &x->x, 0, rows);
    return y;
}

/* Inputs and products in 8 bits: the same bits as the reference's. */
static void check_fast(const eq_kernels *k, const random_panels *p, eq_dtype type)
{
    const eq_kernels *ref = eq_kernels_get("ref");
    const eq_panels *w = &p->w;
    const int64_t ldy = eq_panels_count(w) * EQ_PANEL_ROWS + 3;
    char *rows = random_rows(w->K, type);
    random_inputs expected = make_inputs(ref, w, rows, type, false);
    random_inputs found = make_inputs(k, w, rows, type, false);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(found.memory[i], expected.memory[i],
                            (size_t)(MOST_M * found.x.columns) * 4);
    float *all = product(ref, p, &expected, ldy, MOST_M);
    for (int64_t M = 1; M <= MOST_M; M++) {
        float *y = product(k, p, &found, ldy, M);
        assert_memory_equal(y, all, (size_t)(ldy * M) * sizeof *y);
        test_free(y);
    }
    test_free(all);
    test_free(rows);
    free_inputs(&expected);
    free_inputs(&found);
}

/* Inputs in f32: K terms of at most 100 2^bits 0.15, in another order. */
static void check_exact(const eq_kernels *k, const random_panels *p, eq_dtype type)
{
    const eq_kernels *ref = eq_kernels_get("ref");
    const eq_panels *w = &p->w;
    const int64_t ldy = eq_panels_count(w) * EQ_PANEL_ROWS;
    const double bound = (double)w->K * 15 * (1 << w->bits) * 0x1p-24;
    char *rows = random_rows(w->K, type);
    random_inputs expected = make_inputs(ref, w, rows, type, true);
    random_inputs found = make_inputs(k, w, rows, type, true);
    assert_memory_equal(found.x.values, expected.x.values, (size_t)(MOST_M * found.x.columns) * 4);
    float *all = product(ref, p, &expected, ldy, MOST_M);
    for (int64_t M = 1; M <= MOST_M; M++) {
        float *y = product(k, p, &found, ldy, M);
        assert_true(worst_error(y, all, ldy * M, bound, 0) <= 1);
        y[0] += (float)(4 * bound); /* a wrong value is seen */
        assert_false(worst_error(y, all, ldy * M, bound, 0) <= 1);
        test_free(y);
    }
    test_free(all);
    test_free(rows);
    free_inputs(&expected);
    free_inputs(&found);
}

/* Rows as the reference has them, from any row on. */
static void check_rows(const eq_kernels *k, const random_panels *p, eq_dtype type)
{
    const eq_panels *w = &p->w;
    const size_t row = (size_t)w->K * eq_elem_bytes(type);
    char *expected = test_malloc(row * (size_t)w->N), *found = test_malloc(row * (size_t)w->N);
    eq_kernels_get("ref")->panel_rows(expected, type, w, 0, w->N);
    for (int64_t first = 0; first < w->N; first += 7) {
        k->panel_rows(found, type, w, first, w->N - first);
        assert_memory_equal(found, expected + (size_t)first * row, row * (size_t)(w->N - first));
    }
    test_free(expected);
    test_free(found);
}

static void check_all(const eq_kernels *k, int bits, int64_t g, eq_panel_zero zero)
{
    const eq_dtype scale_type = g % 64 ? EQ_F32 : EQ_F16, type = g % 3 ? EQ_BF16 : EQ_F32;
    const int64_t groups = g < 100 ? 3 : 1 + (g == 192), N = 16 + g % 31;
    random_panels p = make_panels(bits, N, g, groups, zero, scale_type);
    check_fast(k, &p, type);
    check_exact(k, &p, type);
    check_rows(k, &p, type);
    test_free(p.memory);
}

static void kernels(void **state)
{
    for (int b = 0; b < 4; b++)
        for (int i = 0; i < GROUP_COUNT; i++)
            for (int zero = EQ_ZERO_SAME; zero <= EQ_ZERO_MINIMUM; zero++)
                check_all(*state, BITS[b], GROUPS[i], (eq_panel_zero)zero);
}

/* All codes and values at their bounds: nothing saturates. */
static void extremes(void **state)
{
    for (int b = 0; b < 4; b++) {
        random_panels p = make_panels(BITS[b], 16, 64, 1, EQ_ZERO_SAME, EQ_F16);
        float x[MOST_M * 64];
        memset(p.w.data + p.w.codes_at, 255, p.w.stride - p.w.codes_at);
        for (int i = 0; i < MOST_M * 64; i++)
            x[i] = i / 64 % 2 ? -3 : 3;
        random_inputs inputs = make_inputs(*state, &p.w, x, EQ_F32, false);
        float *y = product(*state, &p, &inputs, 16, 2);
        for (int64_t r = 0; r < 16; r++) {
            const float z = (float)(1 << (BITS[b] - 1)), s = eq_panels_grid(&p.w, r, 0).s;
            /* 127 x scale is 3 but for one rounding. */
            assert_float_equal(y[r], s * 64 * 3 * (2 * z - 1 - z), 1e-5 * 64 * 3 * 128);
            assert_float_equal(y[16 + r], -y[r], 0);
        }
        test_free(y);
        free_inputs(&inputs);
        test_free(p.memory);
    }
}

static void not_finite(void **state)
{
    random_panels p = make_panels(4, 16, 32, 2, EQ_ZERO_EACH, EQ_F16);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 6; i++) {
        float x[MOST_M * 64] = {0};
        x[7] = bad[i % 3];
        random_inputs inputs = make_inputs(*state, &p.w, x, EQ_F32, i >= 3);
        float *y = product(*state, &p, &inputs, 16, 2);
        for (int r = 0; r < 16; r++) {
            assert_false(isfinite(y[r]));
            assert_true(y[16 + r] == 0);
        }
        test_free(y);
        free_inputs(&inputs);
    }
    test_free(p.memory);
}

/* Values whose scale has no inverse are as good as 0, not infinite. */
static void tiny(void **state)
{
    random_panels p = make_panels(4, 16, 32, 2, EQ_ZERO_EACH, EQ_F16);
    const float values[] = {1e-45f, 1e-40f, 1e-38f, 3e-37f, 1e-36f, 1e-30f};
    for (int i = 0; i < 6; i++) {
        float x[MOST_M * 64] = {0};
        x[7] = values[i];
        random_inputs inputs = make_inputs(*state, &p.w, x, EQ_F32, false);
        float *y = product(*state, &p, &inputs, 16, 1);
        for (int r = 0; r < 16; r++)
            assert_true(fabsf(y[r]) <= 16 * 0.13f * values[i]);
        test_free(y);
        free_inputs(&inputs);
    }
    test_free(p.memory);
}

/* ---- packing ------------------------------------------------------------------------------- */

/* Every weight, against its row in f32. */
static void check_panels(const eq_panels *w, const float *expected)
{
    for (int64_t n = 0; n < w->N; n++) {
        for (int64_t k = 0; k < w->K; k++) {
            const float found = eq_panels_get(w, n, k);
            assert_memory_equal(&found, &expected[n * w->K + k], sizeof found);
        }
    }
    for (int64_t n = w->N; n < eq_panels_count(w) * EQ_PANEL_ROWS; n++)
        assert_true(eq_panels_get(w, n, 0) == 0);
}

static void check_qmatrix(int bits, int64_t N, int64_t K, int64_t g, bool same)
{
    eq_qmatrix q = {.bits = bits, .N = N, .K = K, .g = g, .scale_type = EQ_F16};
    const int64_t groups = K / g, n = N * K;
    float *noise = test_malloc((size_t)n * sizeof *noise), *scales = noise;
    uint8_t *codes = test_malloc((size_t)n), *zeros = test_malloc((size_t)(N * groups));
    fill_uniform(noise, n, 0, (float)(1 << bits) - 0.01f, 11);
    for (int64_t i = 0; i < n; i++)
        codes[i] = (uint8_t)noise[i];
    for (int64_t i = 0; i < N * groups; i++)
        zeros[i] = same ? 1 : (uint8_t)noise[n - 1 - i];
    for (int64_t i = 0; i < N * groups; i++)
        scales[i] = eq_f16_f32(eq_f32_f16((noise[i] - 1) / 50));
    void *weight = test_malloc(eq_qmatrix_weight_bytes(N, K, bits));
    void *zero = test_malloc(eq_qmatrix_zero_bytes(N, K, g, bits));
    void *scale = test_malloc(eq_qmatrix_scale_bytes(N, K, g));
    eq_qmatrix_pack(weight, zero, scale, codes, zeros, scales, &q);
    q.qweight = weight;
    q.qzeros = zero;
    q.scales = scale;
    eq_panels w;
    assert_true(eq_panels_for_qmatrix(&w, &q));
    assert_int_equal(w.zero, same ? EQ_ZERO_SAME : EQ_ZERO_EACH);
    char *memory;
    w.data = aligned_memory(&memory, eq_panels_bytes(&w));
    for (int64_t p = 0; p < eq_panels_count(&w); p++)
        eq_panels_fill_qmatrix(&w, &q, p);
    float *expected = test_malloc((size_t)n * sizeof *expected);
    eq_qmatrix_unpack(expected, EQ_F32, &q, 0, N);
    check_panels(&w, expected);
    test_free(expected);
    test_free(memory);
    test_free(weight);
    test_free(zero);
    test_free(scale);
    test_free(codes);
    test_free(zeros);
    test_free(noise);
}

static void from_qmatrix(void **state)
{
    (void)state;
    for (int b = 0; b < 4; b++) {
        check_qmatrix(BITS[b], 32, 192, 64, false);
        check_qmatrix(BITS[b], 64, 192, 192, true);
        check_qmatrix(BITS[b], 32, 96, 24, false);
        check_qmatrix(BITS[b], 32, 96, 48, true);
        if (BITS[b] != 3) check_qmatrix(BITS[b], 48, 64, 32, false);
    }
    const eq_qmatrix narrow = {.bits = 2, .N = 16, .K = 64, .g = 8, .scale_type = EQ_F16};
    eq_panels w;
    assert_false(eq_panels_for_qmatrix(&w, &narrow));
}

/* A ggml type, and where in its blocks a half lies that may be followed by another one. */
typedef struct ggml_case {
    eq_dtype type;
    size_t half;
} ggml_case;

/* Random bytes are blocks of a ggml type, but halves must be numbers. */
static void check_tensor(const ggml_case *c, int64_t N, int64_t K, int rope_pairs)
{
    const eq_dtype type = c->type;
    const size_t row = eq_dtype_bytes(type, K), size = row * (size_t)N;
    const size_t block = (size_t)eq_dtype_get(type)->block_bytes;
    uint8_t *bytes = test_malloc(size);
    float *noise = test_malloc(size * sizeof *noise);
    fill_uniform(noise, (int64_t)size, 0, 255.99f, 13);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)noise[i];
    for (size_t i = c->half + 1; i < size; i += block) {
        bytes[i] = 0x20 + bytes[i] / 16;
        if (i % block + 2 < block) bytes[i + 2] = 0x20 + bytes[i + 2] / 16;
    }
    const eq_tensor t = {bytes, type, 2, {N, K, 1, 1}, rope_pairs};
    eq_panels w;
    assert_true(eq_panels_for_tensor(&w, &t));
    char *memory;
    w.data = aligned_memory(&memory, eq_panels_bytes(&w));
    for (int64_t p = 0; p < eq_panels_count(&w); p++)
        eq_panels_fill_tensor(&w, &t, p);
    float *expected = test_malloc((size_t)(N * K) * sizeof *expected);
    eq_tensor_rows_f32(expected, K, &t, 0, N);
    check_panels(&w, expected);
    test_free(expected);
    test_free(memory);
    test_free(noise);
    test_free(bytes);
}

static void from_tensor(void **state)
{
    (void)state;
    const ggml_case cases[] = {{EQ_Q8_0, 0}, {EQ_Q4_0, 0},   {EQ_Q4_1, 0},   {EQ_Q5_0, 0},
                               {EQ_Q5_1, 0}, {EQ_Q2_0, 0},   {EQ_TQ2_0, 64}, {EQ_Q2_K, 80},
                               {EQ_Q4_K, 0}, {EQ_Q3_K, 108}, {EQ_Q5_K, 0},   {EQ_Q6_K, 208}};
    for (size_t t = 0; t < sizeof cases / sizeof *cases; t++) {
        const int64_t block = eq_dtype_get(cases[t].type)->block_elems;
        check_tensor(&cases[t], 17, 3 * block, 0);
        check_tensor(&cases[t], 48, 2 * block, 24);
    }
    const eq_tensor plain = {NULL, EQ_F16, 2, {32, 32, 1, 1}, 0};
    eq_panels w;
    assert_false(eq_panels_for_tensor(&w, &plain));
}

int main(void)
{
    const struct CMUnitTest packing[] = {
        cmocka_unit_test(from_qmatrix), cmocka_unit_test(from_tensor), cmocka_unit_test(extremes),
        cmocka_unit_test(not_finite),   cmocka_unit_test(tiny),
    };
    const struct CMUnitTest tables[] = {
        cmocka_unit_test(kernels),
        cmocka_unit_test(extremes),
        cmocka_unit_test(not_finite),
        cmocka_unit_test(tiny),
    };
    int failed = cmocka_run_group_tests_name("ref", packing, use_kernels_ref, NULL);
    failed += cmocka_run_group_tests_name("avx2", tables, use_kernels_avx2, NULL);
    failed += cmocka_run_group_tests_name("avx512", tables, use_kernels_avx512, NULL);
    failed += cmocka_run_group_tests_name("vnni", tables, use_kernels_vnni, NULL);
    return failed;
}
