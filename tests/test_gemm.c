/* Matrix products against their definition, and the table of their plans. */
#include "kernels/gemm.h"

#include "support_model.h"
#include "support_numbers.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MOST = 640, K = 24, N = 5 };

static eq_ctx ctx;
static float a[MOST * K], b[N * K];

static int setup(void **state)
{
    (void)state;
    context_init(&ctx, 2);
    fill_uniform(a, MOST * K, -1, 1, 1);
    fill_uniform(b, N * K, -1, 1, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    context_deinit(&ctx);
    return 0;
}

static const eq_gemm_plan *prepare(int64_t M)
{
    const eq_gemm shape = eq_gemm_forward(M, N, K, EQ_F32, EQ_F32);
    const eq_gemm_plan *plan = eq_gemm_prepare(&ctx, &shape);
    assert_non_null(plan);
    return plan;
}

/* Whether a plan is that of M rows: it writes so many, and the right ones. */
static bool is_plan_of(const eq_gemm_plan *plan, int64_t M)
{
    static float c[(MOST + 1) * N];
    float want[N];
    for (int i = 0; i < (MOST + 1) * N; i++)
        c[i] = 99;
    eq_gemm_serial(&ctx, plan, 0, c, a, b);
    for (int n = 0; n < N; n++)
        want[n] = (float)dot_f64(a + (M - 1) * K, b + n * K, K);
    return worst_error(c + (M - 1) * N, want, N, 1e-5, 1e-5) <= 1 && c[M * N] == 99;
}

/* More shapes than the table holds: plans that were asked for lately stay, others are made again. */
static void many_plans(void **state)
{
    enum { HELD = 64 };
    (void)state;
    const eq_gemm_plan *held[HELD];
    for (int64_t M = 1; M <= MOST; M++)
        assert_true(is_plan_of(prepare(M), M));
    for (int64_t i = 0; i < HELD; i++) /* those in the table, the oldest first, and new ones */
        held[i] = prepare(i % 2 ? i : MOST - 500 + i);
    for (int64_t i = 0; i < HELD; i++)
        assert_true(is_plan_of(held[i], i % 2 ? i : MOST - 500 + i));
    assert_false(is_plan_of(held[3], 4));
}

/* A product that is cut by columns too: C [M, N] against sums in f64 at places of all its tasks, the
 * same bytes on one thread. Sums of 9000 products of numbers in [-1, 1] stay below 200, and their
 * 9000 roundings of 2^-24 of that add up as a random walk does, to about 1e-3. */
static void check_large(const eq_gemm *g, const float *x, const float *y)
{
    const size_t size = (size_t)(g->M * g->N) * sizeof(float);
    float *c = test_malloc(size), *again = test_malloc(size);
    eq_ctx one;
    context_init(&one, 1);
    eq_gemm_run(&ctx, g, c, x, y);
    eq_gemm_run(&one, g, again, x, y);
    assert_int_equal(eq_ctx_status(&ctx), EQ_OK);
    assert_memory_equal(c, again, size);
    for (int64_t i = 0; i < g->M * g->N; i += 97) {
        const int64_t m = i / g->N, n = i % g->N;
        double want = 0;
        for (int64_t k = 0; k < g->K; k++)
            want += (double)x[g->trans_a ? k * g->lda + m : m * g->lda + k] *
                    (double)y[g->trans_b ? n * g->ldb + k : k * g->ldb + n];
        assert_true(fabs((double)c[i] - want) < 2e-3);
    }
    context_deinit(&one);
    test_free(c);
    test_free(again);
}

static void large_products(void **state)
{
    enum { ROWS = 40, WIDE = 1600, DEEP = 9000 };
    (void)state;
    float *x = test_malloc((size_t)ROWS * DEEP * sizeof *x);
    float *y = test_malloc((size_t)WIDE * DEEP * sizeof *y);
    fill_uniform(x, ROWS * DEEP, -1, 1, 3);
    fill_uniform(y, WIDE * DEEP, -1, 1, 4);
    const eq_gemm shapes[] = {eq_gemm_forward(ROWS, WIDE, DEEP, EQ_F32, EQ_F32),
                              eq_gemm_input_gradient(ROWS, DEEP, WIDE, EQ_F32, EQ_F32),
                              eq_gemm_weight_gradient(DEEP, ROWS, WIDE, ROWS, EQ_F32)};
    for (int i = 0; i < 3; i++)
        check_large(&shapes[i], x, y);
    test_free(x);
    test_free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_plans),
                                       cmocka_unit_test(large_products)};
    return cmocka_run_group_tests_name("gemm", tests, setup, teardown);
}
