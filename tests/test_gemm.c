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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_plans)};
    return cmocka_run_group_tests_name("gemm", tests, setup, teardown);
}
