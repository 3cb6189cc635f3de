/* Choose one of several variants for each of many items: least total loss within a budget. */
#ifndef EQ_QUANT_BUDGET_H
#define EQ_QUANT_BUDGET_H

#include "base/context.h"

enum { EQ_VARIANTS = 4 };

typedef struct eq_budget_item {
    int64_t cost[EQ_VARIANTS]; /* rising; negative: the variant cannot be chosen */
    double loss[EQ_VARIANTS];  /* finite */
} eq_budget_item;

/* What the cheapest variant costs. */
int64_t eq_budget_least(const eq_budget_item *item);
/* choice out [n]: the variants that minimize the sum of the losses while the costs sum up to at
 * most `budget`; of equal losses the cheaper. Found by dynamic programming over costs in their
 * greatest common divisor: exactly, unless there are more than 2^18 such steps; then costs are
 * rounded up to longer ones, which still keeps the budget.
 * EQ_EINVAL when the cheapest variants together are above the budget. */
eq_status eq_budget_choose(eq_ctx *ctx, int *choice, const eq_budget_item *items, int64_t n,
                           int64_t budget);

#endif
