#include "quant/budget.h"

enum { MOST_STEPS = 1 << 18 };

int64_t eq_budget_least(const eq_budget_item *item)
{
    int64_t least = -1;
    for (int v = 0; v < EQ_VARIANTS; v++)
        if (item->cost[v] >= 0 && (least < 0 || item->cost[v] < least)) least = item->cost[v];
    return least;
}

static int64_t divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The problem in what variants cost beyond the cheapest, in steps. */
typedef struct problem {
    const eq_budget_item *items;
    int64_t n;
    int64_t slack; /* what the budget leaves beyond the cheapest variants of all */
    int64_t step;  /* costs are rounded up to multiples of it */
    int64_t cells; /* sums of 0 .. cells - 1 steps are possible */
} problem;

/* Steps of a variant beyond the cheapest one; negative when it cannot be chosen. */
static int64_t extra(const problem *p, int64_t i, int v)
{
    int64_t cost = p->items[i].cost[v];
    return cost < 0 ? -1 : (cost - eq_budget_least(&p->items[i]) + p->step - 1) / p->step;
}

static eq_status set_up(eq_ctx *ctx, problem *p, int64_t budget)
{
    int64_t least = 0, most = 0;
    for (int64_t i = 0; i < p->n; i++) {
        int64_t first = eq_budget_least(&p->items[i]), last = first;
        for (int v = 0; v < EQ_VARIANTS; v++) {
            int64_t cost = p->items[i].cost[v];
            if (cost < 0) continue;
            p->step = divisor(cost - first, p->step);
            last = cost > last ? cost : last;
        }
        least += first;
        most += last - first;
    }
    if (least > budget)
        return eq_fail(ctx, EQ_EINVAL, "the least that can be chosen is above the budget");
    p->slack = budget - least < most ? budget - least : most;
    if (!p->step) p->step = 1;
    if (p->slack / p->step >= MOST_STEPS) p->step = p->slack / (MOST_STEPS - 1) + 1;
    p->cells = p->slack / p->step + 1;
    return EQ_OK;
}

/* Take item i in: best[c], the least loss of the items so far for at most c steps, and the variant
 * of this one in it. From the top down, so that best[] below c is still without the item. */
static void take_in(const problem *p, int64_t i, double *best, uint8_t *variant)
{
    int64_t steps[EQ_VARIANTS];
    for (int v = 0; v < EQ_VARIANTS; v++)
        steps[v] = extra(p, i, v);
    for (int64_t c = p->cells - 1; c >= 0; c--) {
        double least = 0;
        int chosen = -1;
        for (int v = 0; v < EQ_VARIANTS; v++) {
            if (steps[v] < 0 || steps[v] > c) continue;
            double loss = best[c - steps[v]] + p->items[i].loss[v];
            if (chosen >= 0 && !(loss < least)) continue;
            least = loss;
            chosen = v;
        }
        best[c] = least;
        variant[c] = (uint8_t)chosen;
    }
}

eq_status eq_budget_choose(eq_ctx *ctx, int *choice, const eq_budget_item *items, int64_t n,
                           int64_t budget)
{
    problem p = {.items = items, .n = n};
    eq_status st = set_up(ctx, &p, budget);
    if (st != EQ_OK) return st;
    double *best = eq_alloc(ctx, p.cells, sizeof *best);
    uint8_t *variants = eq_alloc(ctx, n, (size_t)p.cells);
    st = best && variants ? EQ_OK : EQ_ENOMEM;
    for (int64_t i = 0; st == EQ_OK && i < n; i++)
        take_in(&p, i, best, variants + i * p.cells);
    int64_t left = p.cells - 1;
    for (int64_t i = n - 1; st == EQ_OK && i >= 0; i--) {
        choice[i] = variants[i * p.cells + left];
        left -= extra(&p, i, choice[i]);
    }
    eq_free(best);
    eq_free(variants);
    return st;
}
