/* Choosing variants within a budget, against all possibilities tried one by one. */
#include "base/rng.h"
#include "quant/budget.h"
#include "support_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { N = 6, ALL = 4096 /* EQ_VARIANTS to the N */ };

static eq_ctx ctx;

/* Costs that rise and losses that mostly fall, in multiples of `unit`; a few variants are barred. */
static void make_items(eq_budget_item items[N], eq_rng *rng, int64_t unit)
{
    for (int i = 0; i < N; i++) {
        int64_t cost = 0;
        for (int v = 0; v < EQ_VARIANTS; v++) {
            cost += 1 + (int64_t)eq_rng_below(rng, 9);
            bool barred = v > 0 && eq_rng_below(rng, 8) == 0;
            items[i].cost[v] = barred ? -1 : cost * unit;
            items[i].loss[v] = (double)eq_rng_below(rng, 1000) / (double)(1 + v * v);
        }
    }
}

/* Variant of item i in possibility number `code`. */
static int variant_of(int code, int i)
{
    return code >> 2 * i & 3;
}

/* Loss and cost of a choice; false when a variant is barred. */
static bool total(const eq_budget_item items[N], const int choice[N], int64_t *cost, double *loss)
{
    *cost = 0;
    *loss = 0;
    for (int i = 0; i < N; i++) {
        if (items[i].cost[choice[i]] < 0) return false;
        *cost += items[i].cost[choice[i]];
        *loss += items[i].loss[choice[i]];
    }
    return true;
}

static double best_of_all(const eq_budget_item items[N], int64_t budget)
{
    double best = -1;
    for (int code = 0; code < ALL; code++) {
        int choice[N];
        int64_t cost;
        double loss;
        for (int i = 0; i < N; i++)
            choice[i] = variant_of(code, i);
        if (total(items, choice, &cost, &loss) && cost <= budget && (best < 0 || loss < best))
            best = loss;
    }
    return best;
}

/* Sums of the same losses in two orders. */
static const double ROUNDING = 1e-9;

static double chosen_loss(const eq_budget_item items[N], int64_t budget)
{
    int choice[N];
    int64_t cost = 0;
    double loss = 0;
    assert_int_equal(eq_budget_choose(&ctx, choice, items, N, budget), EQ_OK);
    assert_true(total(items, choice, &cost, &loss));
    assert_true(cost <= budget);
    return loss;
}

static void is_the_best_there_is(void **state)
{
    (void)state;
    eq_rng rng;
    eq_rng_init(&rng, 7, 0);
    for (int round = 0; round < 40; round++) {
        eq_budget_item items[N];
        int64_t unit = round % 2 ? 1728 : 1, least = 0;
        make_items(items, &rng, unit);
        for (int i = 0; i < N; i++)
            least += eq_budget_least(&items[i]);
        double before = -1;
        for (int64_t budget = least; budget < least + 60 * unit; budget += 7 * unit + 1) {
            double loss = chosen_loss(items, budget), best = best_of_all(items, budget);
            assert_true(loss >= best - ROUNDING && loss <= best + ROUNDING);
            assert_true(before < 0 || loss <= before + ROUNDING); /* more is never worse */
            before = loss;
        }
    }
}

/* A loss that grows with the cost does not make it spend what it may. */
static void equal_losses_take_the_cheaper(void **state)
{
    (void)state;
    eq_budget_item items[N];
    int choice[N];
    for (int i = 0; i < N; i++)
        items[i] = (eq_budget_item){{10, 20, 30, 40}, {1, 1, 1, 2}};
    assert_int_equal(eq_budget_choose(&ctx, choice, items, N, 1000), EQ_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(choice[i], 0);
}

static void too_small_a_budget_is_refused(void **state)
{
    (void)state;
    eq_budget_item items[N];
    int choice[N];
    for (int i = 0; i < N; i++)
        items[i] = (eq_budget_item){{-1, 20, 30, -1}, {2, 1, 0, 0}};
    assert_int_equal(eq_budget_least(&items[0]), 20);
    assert_int_equal(eq_budget_choose(&ctx, choice, items, N, 20 * N - 1), EQ_EINVAL);
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_budget_choose(&ctx, choice, items, N, 20 * N), EQ_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(choice[i], 1);
}

/* Costs without a common divisor, of a sum far above the number of steps: the budget still holds,
 * and the loss is that of a budget that is hardly smaller. */
static void long_costs_keep_the_budget(void **state)
{
    (void)state;
    enum { MANY = 64 };
    static eq_budget_item items[MANY];
    static int choice[MANY];
    eq_rng rng;
    eq_rng_init(&rng, 9, 0);
    int64_t least = 0, most = 0;
    for (int i = 0; i < MANY; i++) {
        int64_t cost = 1;
        for (int v = 0; v < EQ_VARIANTS; v++) {
            cost += 1000003 + (int64_t)eq_rng_below(&rng, 1 << 20);
            items[i].cost[v] = cost;
            items[i].loss[v] = 1.0 / (double)cost;
        }
        least += items[i].cost[0];
        most += cost;
    }
    int64_t budget = (least + most) / 2, cost = 0;
    assert_int_equal(eq_budget_choose(&ctx, choice, items, MANY, budget), EQ_OK);
    for (int i = 0; i < MANY; i++)
        cost += items[i].cost[choice[i]];
    assert_true(cost <= budget);
    /* What is left is less than the cheapest step up, 1000003, and what rounding took. */
    assert_true(budget - cost < 1000003 + MANY * ((budget - least) >> 18) + 2 * MANY);
}

static int setup(void **state)
{
    (void)state;
    context_init(&ctx, 1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_best_there_is),
        cmocka_unit_test(equal_losses_take_the_cheaper),
        cmocka_unit_test(too_small_a_budget_is_refused),
        cmocka_unit_test(long_costs_keep_the_budget),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
