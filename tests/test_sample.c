#include "infer/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { V = 1500, DRAWS = 12000 };

typedef struct bag {
    const eq_kernels *kernels;
    float logits[V], work[V];
    eq_candidate scratch[V];
    int64_t counts[V];
} bag;

static int setup(void **state)
{
    bag *b = calloc(1, sizeof *b);
    *state = b;
    b->kernels = eq_kernels_get(NULL);
    return b ? 0 : -1;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static int32_t draw(bag *b, const eq_sampling *s, eq_rng *rng)
{
    memcpy(b->work, b->logits, sizeof b->work);
    return eq_sample(b->kernels, b->work, V, s, rng, eq_sampling_ranks(s) ? b->scratch : NULL);
}

static void count_draws(bag *b, const eq_sampling *s)
{
    eq_rng rng;
    eq_rng_init(&rng, 11, 3);
    memset(b->counts, 0, sizeof b->counts);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = draw(b, s, &rng);
        assert_in_range(id, 0, V - 1);
        b->counts[id]++;
    }
}

/* Pearson's chi-square of the counts against p [V]; *freedom: tokens that can occur, less one. */
static double chi_square(const bag *b, const double *p, int64_t *freedom)
{
    double sum = 0;
    *freedom = -1;
    for (int i = 0; i < V; i++) {
        if (p[i] == 0) assert_int_equal(b->counts[i], 0);
        if (p[i] == 0) continue;
        double d = (double)b->counts[i] - DRAWS * p[i];
        sum += d * d / (DRAWS * p[i]);
        ++*freedom;
    }
    return sum;
}

/* Chi-square has mean f and variance 2f: five deviations either way. */
static bool plausible(const bag *b, const double *p)
{
    int64_t f = 0;
    double x = chi_square(b, p, &f);
    return fabs(x - (double)f) < 5 * sqrt(2 * (double)f) + 5;
}

/* Probabilities proportional to exp(logit / temperature) of the tokens with keep[i]. */
static void expected(const bag *b, double *p, double temperature, const bool *keep)
{
    double sum = 0;
    for (int i = 0; i < V; i++)
        sum += p[i] = !keep || keep[i] ? exp((double)b->logits[i] / temperature) : 0;
    for (int i = 0; i < V; i++)
        p[i] /= sum;
}

/* Logits in a mixed order: 0.002 * (i * 7 mod V). */
static void mixed_logits(bag *b)
{
    for (int i = 0; i < V; i++)
        b->logits[i] = 0.002f * (float)(i * 7 % V);
}

static void whole_distribution(void **state)
{
    bag *b = *state;
    double p[V];
    mixed_logits(b);
    expected(b, p, 1, NULL);
    count_draws(b, &(eq_sampling){1, 0, 1, 0});
    assert_true(plausible(b, p));
    expected(b, p, 0.8, NULL);
    assert_false(plausible(b, p)); /* the test would notice */
    count_draws(b, &(eq_sampling){0.8, 0, 1, 0});
    assert_true(plausible(b, p));
}

static void only_possible_tokens(void **state)
{
    bag *b = *state;
    double p[V] = {0};
    for (int i = 0; i < V; i++)
        b->logits[i] = -INFINITY;
    b->logits[3] = b->logits[1100] = -200; /* a whole chunk between them is impossible */
    p[3] = p[1100] = 0.5;
    count_draws(b, &(eq_sampling){1, 0, 1, 0});
    assert_true(plausible(b, p));
    count_draws(b, &(eq_sampling){1, 40, 1, 0});
    assert_true(plausible(b, p));
}

static void greedy_takes_the_first_largest(void **state)
{
    bag *b = *state;
    mixed_logits(b);
    b->logits[777] = b->logits[778] = 50;
    assert_int_equal(draw(b, &(eq_sampling){0, 5, 0.5, 0}, NULL), 777);
}

static void cold_is_greedy(void **state)
{
    bag *b = *state;
    mixed_logits(b);
    const double temperatures[] = {1e-4, 1e-30, 1e-300};
    for (int i = 0; i < 3; i++) {
        count_draws(b, &(eq_sampling){temperatures[i], 0, 1, 0});
        assert_int_equal(b->counts[857], DRAWS); /* 857 * 7 mod V = V - 1 */
    }
}

static void top_k_keeps_the_k_largest(void **state)
{
    bag *b = *state;
    double p[V];
    bool keep[V];
    mixed_logits(b);
    for (int i = 0; i < V; i++)
        keep[i] = i * 7 % V >= V - 5;
    expected(b, p, 2, keep);
    count_draws(b, &(eq_sampling){2, 5, 1, 0});
    assert_true(plausible(b, p));
    count_draws(b, &(eq_sampling){2, 1, 1, 0});
    for (int i = 0; i < V; i++)
        assert_int_equal(b->counts[i], i * 7 % V == V - 1 ? DRAWS : 0);
}

static void top_p_keeps_the_least_set(void **state)
{
    bag *b = *state;
    double p[V] = {0};
    for (int i = 0; i < V; i++)
        b->logits[i] = -INFINITY;
    b->logits[900] = logf(0.5f);
    b->logits[10] = logf(0.3f);
    b->logits[1200] = logf(0.15f);
    b->logits[40] = logf(0.05f);
    p[900] = 0.5 / 0.8;
    p[10] = 0.3 / 0.8;
    count_draws(b, &(eq_sampling){1, 0, 0.7, 0}); /* 0.5 is too little, 0.8 is enough */
    assert_true(plausible(b, p));
    count_draws(b, &(eq_sampling){1, 3, 0.83, 0}); /* of the three: 0.526, 0.842, 1 */
    assert_true(plausible(b, p));
    count_draws(b, &(eq_sampling){1, 0, 0.4, 0});
    assert_int_equal(b->counts[900], DRAWS);
}

/* p = 0.4, 0.24, 0.2, 0.16: with a share of 0.55 the least is 0.22, with 0.5 exactly 0.2. */
static void min_p_keeps_a_share_of_the_largest(void **state)
{
    bag *b = *state;
    double two[V] = {[900] = 0.4 / 0.64, [10] = 0.24 / 0.64};
    double three[V] = {[900] = 0.4 / 0.84, [10] = 0.24 / 0.84, [1200] = 0.2 / 0.84};
    for (int i = 0; i < V; i++)
        b->logits[i] = -INFINITY;
    b->logits[900] = logf(0.4f);
    b->logits[10] = logf(0.24f);
    b->logits[1200] = logf(0.2f);
    b->logits[40] = logf(0.16f);
    count_draws(b, &(eq_sampling){1, 0, 1, 0.55});
    assert_true(plausible(b, two));
    assert_false(plausible(b, three));
    count_draws(b, &(eq_sampling){1, 0, 1, 0.49});
    assert_true(plausible(b, three));
    count_draws(b, &(eq_sampling){1, 2, 1, 0.49}); /* top-k is stricter */
    assert_true(plausible(b, two));
    count_draws(b, &(eq_sampling){1, 0, 0.6, 0.1}); /* top-p is */
    assert_true(plausible(b, two));
    count_draws(b, &(eq_sampling){1, 0, 1, 1});
    assert_int_equal(b->counts[900], DRAWS);
    /* The temperature comes first: squares, 0.16, 0.0576, 0.04 and 0.0256, and the least is 0.048. */
    double cold[V] = {[900] = 0.16 / 0.2176, [10] = 0.0576 / 0.2176};
    count_draws(b, &(eq_sampling){0.5, 0, 1, 0.3});
    assert_true(plausible(b, cold));
}

static void penalties(void **state)
{
    (void)state;
    float x[6] = {3, -3, 0, 3, -3, 1};
    const float want[6] = {2, -4.5f, 0, 3, -3, 1};
    const uint8_t seen[6] = {1, 1, 1, 0, 0, 0};
    eq_penalize(x, seen, 6, 1.5);
    assert_memory_equal(x, want, sizeof x);
    eq_penalize(x, seen, 6, 1);
    assert_memory_equal(x, want, sizeof x);
    eq_penalize(x, seen, 6, 0.5); /* below 1: more likely */
    assert_true(x[0] == 4 && x[1] == -2.25f);
}

static void the_most_likely(void **state)
{
    (void)state;
    const float x[7] = {1, 5, -2, 5, 9, 1, -INFINITY};
    const int32_t want[7] = {4, 1, 3, 0, 5, 2, 6};
    for (int64_t n = 0; n <= 7; n++) {
        eq_candidate out[8] = {{0}};
        out[n].id = -7;
        eq_most_likely(out, n, x, 7);
        for (int64_t i = 0; i < n; i++)
            assert_true(out[i].id == want[i] && out[i].logit == x[want[i]]);
        assert_int_equal(out[n].id, -7);
    }
}

static void not_finite(void **state)
{
    bag *b = *state;
    eq_rng rng;
    eq_rng_init(&rng, 1, 1);
    const float bad[] = {NAN, INFINITY};
    const eq_sampling ways[] = {{0, 0, 1, 0}, {1, 0, 1, 0}, {1, 5, 1, 0}};
    for (int i = 0; i < 6; i++) {
        mixed_logits(b);
        b->logits[700] = bad[i % 2];
        assert_int_equal(draw(b, &ways[i / 2], &rng), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_distribution),
        cmocka_unit_test(only_possible_tokens),
        cmocka_unit_test(greedy_takes_the_first_largest),
        cmocka_unit_test(cold_is_greedy),
        cmocka_unit_test(top_k_keeps_the_k_largest),
        cmocka_unit_test(top_p_keeps_the_least_set),
        cmocka_unit_test(min_p_keeps_a_share_of_the_largest),
        cmocka_unit_test(penalties),
        cmocka_unit_test(the_most_likely),
        cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests_name("sample", tests, setup, teardown);
}
