/* The form "panels" of a linear against the stored weights that it was made from. */
#include "model/panel_linear.h"

#include "support_model.h"
#include "support_numbers.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { K = 192, N0 = 64, N1 = 32, N2 = 40, N = N0 + N1 + N2, MOST_M = 150 };

/* Three parts: 2 bits in groups of 64, 3 bits in groups of 96, Q8_0; the last two share nothing,
 * so that inputs are prepared for each of the three. */
typedef struct fixture {
    eq_ctx ctx;
    eq_stored stored;
    eq_linear source, linear;
    eq_panel_linear panels;
    void *memory[10]; /* owned */
    int used;
    float *x, *w; /* [MOST_M, K], and the weight [N, K] in f32 */
    char *scratch;
} fixture;

static void *keep(fixture *f, size_t size)
{
    void *p = aligned_alloc(64, (size + 63) / 64 * 64);
    assert_non_null(p);
    f->memory[f->used++] = memset(p, 0, size);
    return p;
}

static void make_matrix(fixture *f, eq_stored_part *part, int bits, int64_t g)
{
    eq_qmatrix *q = &part->matrix;
    *q = (eq_qmatrix){.bits = bits, .N = part->rows, .K = K, .g = g, .scale_type = EQ_F16};
    uint8_t codes[N0 * K], zeros[N0 * K / 64];
    float s[N0 * K / 64], noise[N0 * K];
    fill_uniform(noise, part->rows * K, 0, (float)(1 << bits) - 0.01f, (uint64_t)bits);
    for (int64_t i = 0; i < part->rows * K; i++)
        codes[i] = (uint8_t)noise[i];
    for (int64_t i = 0; i < part->rows * K / g; i++) {
        zeros[i] = codes[2 * i];
        s[i] = eq_f16_f32(eq_f32_f16(0.01f + noise[i] / 100));
    }
    void *weight = keep(f, eq_qmatrix_weight_bytes(q->N, K, bits));
    void *zero = keep(f, eq_qmatrix_zero_bytes(q->N, K, g, bits));
    void *scale = keep(f, eq_qmatrix_scale_bytes(q->N, K, g));
    eq_qmatrix_pack(weight, zero, scale, codes, zeros, s, q);
    q->qweight = weight;
    q->qzeros = zero;
    q->scales = scale;
    part->packed = true;
}

static void make_tensor(fixture *f, eq_stored_part *part)
{
    const size_t size = eq_dtype_bytes(EQ_Q8_0, part->rows * K);
    uint8_t *bytes = keep(f, size);
    float noise[N2 * K * 34 / 32];
    fill_uniform(noise, (int64_t)size, 0, 255.99f, 5);
    for (size_t i = 0; i < size; i++)
        bytes[i] = i % 34 == 1 ? 0x18 : (uint8_t)noise[i]; /* scales near 0.002 */
    part->tensor = (eq_tensor){bytes, EQ_Q8_0, 2, {part->rows, K, 1, 1}, 0};
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    context_init(&f->ctx, 2);
    f->stored = (eq_stored){.count = 3,
                            .parts = {{.row0 = 0, .rows = N0},
                                      {.row0 = N0, .rows = N1},
                                      {.row0 = N0 + N1, .rows = N2}}};
    make_matrix(f, &f->stored.parts[0], 2, 64);
    make_matrix(f, &f->stored.parts[1], 3, 96);
    make_tensor(f, &f->stored.parts[2]);
    f->source = eq_linear_stored(f->ctx.kernels, &f->stored, K);
    assert_true(eq_panel_linear_describe(&f->panels, &f->stored));
    void *data = keep(f, eq_panel_linear_bytes(&f->panels));
    eq_panel_linear_fill(&f->ctx, &f->panels, &f->stored, data);
    f->linear = eq_linear_panels(f->ctx.kernels, &f->panels);
    f->scratch = keep(f, eq_linear_scratch(N, K));
    f->x = keep(f, MOST_M * K * sizeof *f->x);
    fill_uniform(f->x, MOST_M * K, -1, 1, 6);
    f->w = malloc(N * K * sizeof *f->w);
    f->source.form->rows(&f->source, f->w, EQ_F32, 0, N);
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < f->used; i++)
        free(f->memory[i]);
    free(f->w);
    context_deinit(&f->ctx);
    free(f);
    return 0;
}

static void same_rows(void **state)
{
    fixture *f = *state;
    const eq_dtype types[] = {EQ_F32, EQ_BF16};
    char want[N * K * 4], found[N * K * 4];
    assert_int_equal(f->linear.N, N);
    for (int t = 0; t < 2; t++) {
        for (int64_t row = 0; row < N; row += 13) {
            const size_t size = (size_t)((N - row) * K) * eq_elem_bytes(types[t]);
            f->source.form->rows(&f->source, want, types[t], row, N - row);
            f->linear.form->rows(&f->linear, found, types[t], row, N - row);
            assert_memory_equal(found, want, size);
        }
    }
}

/* A row of X as 8 bits have it: by segments of 32, which here no group cuts. */
static void round_row(float *to, const float *from)
{
    for (int s = 0; s < K; s += 32) {
        float most = 0;
        for (int k = s; k < s + 32; k++)
            most = fmaxf(most, fabsf(from[k]));
        for (int k = s; k < s + 32; k++)
            to[k] = rintf(from[k] * (127 / most)) * (most / 127);
    }
}

/* y = start + X W^T for M rows by the form, against the sums in f64 with the inputs that it should
 * have taken. K terms of at most 3: the order of the sums, and scales that multiply afterwards. */
static void check(fixture *f, int64_t M, bool exact, bool accumulate)
{
    const double bound = 3 * K * 0x1p-22;
    float *y = malloc((size_t)(M * N) * sizeof *y), *want = malloc((size_t)(M * N) * sizeof *y);
    const eq_linear_call call = {M, EQ_F32, EQ_F32, accumulate, f->scratch};
    for (int64_t i = 0; i < M * N; i++)
        y[i] = 0.5f;
    f->panels.exact = exact;
    eq_linear_forward(&f->ctx, &f->linear, y, f->x, &call);
    for (int64_t m = 0; m < M; m++) {
        float x[K];
        memcpy(x, f->x + m * K, sizeof x);
        if (!exact) round_row(x, f->x + m * K);
        for (int64_t n = 0; n < N; n++)
            want[m * N + n] = (float)(dot_f64(x, f->w + n * K, K) + (accumulate ? 0.5 : 0));
    }
    assert_true(worst_error(y, want, M * N, bound, bound) <= 1);
    y[M * N - 1] += 0.01f; /* a wrong value is seen */
    assert_false(worst_error(y, want, M * N, bound, bound) <= 1);
    free(y);
    free(want);
}

static void products(void **state)
{
    const int64_t rows[] = {1, 2, 4, 5, 16, 17, 64, 65, MOST_M};
    for (int i = 0; i < 9; i++) {
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            check(*state, rows[i], false, accumulate);
            check(*state, rows[i], true, accumulate);
        }
    }
}

/* The same bytes for any number of threads, and for a row alone or among others. */
static void threads_and_rows(void **state)
{
    enum { M = 70 };
    fixture *f = *state;
    uint16_t *want = malloc(M * N * sizeof *want), *found = malloc(M * N * sizeof *want);
    for (int exact = 0; exact < 2; exact++) {
        const int64_t rows = exact ? 16 : M;
        eq_linear_call call = {rows, EQ_F32, EQ_BF16, false, f->scratch};
        f->panels.exact = exact;
        f->ctx.threads = 1;
        eq_linear_forward(&f->ctx, &f->linear, want, f->x, &call);
        f->ctx.threads = 2;
        eq_linear_forward(&f->ctx, &f->linear, found, f->x, &call);
        assert_memory_equal(found, want, (size_t)(rows * N) * sizeof *want);
        call.M = 1;
        for (int64_t m = 0; m < rows; m++)
            eq_linear_forward(&f->ctx, &f->linear, found + m * N, f->x + m * K, &call);
        assert_memory_equal(found, want, (size_t)(rows * N) * sizeof *want);
    }
    free(want);
    free(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(products, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_and_rows, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
