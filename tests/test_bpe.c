#include "io/bpe.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static eq_ctx ctx;

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    return 0;
}

/* The definition: scan for the leftmost pair of lowest rank, again and again. */
static int merge_by_scanning(const eq_merges *merges, int32_t *ids, int n)
{
    for (;;) {
        int best = -1;
        int32_t best_rank = INT32_MAX;
        for (int i = 0; i + 1 < n; i++) {
            int32_t rank = eq_merges_find(merges, ids[i], ids[i + 1]);
            if (rank >= 0 && rank < best_rank) {
                best = i;
                best_rank = rank;
            }
        }
        if (best < 0) return n;
        ids[best] = merges->list[best_rank].merged;
        for (int i = best + 1; i + 1 < n; i++)
            ids[i] = ids[i + 1];
        n--;
    }
}

/* Random merges over tokens 0 to 3, each new token the next number. */
static void random_merges(eq_merges *merges, eq_rng *rng, int count)
{
    assert_int_equal(eq_merges_init(&ctx, merges, count), EQ_OK);
    int32_t next = 4;
    while (merges->count < count) {
        int32_t left = (int32_t)eq_rng_below(rng, (uint64_t)next);
        int32_t right = (int32_t)eq_rng_below(rng, (uint64_t)next);
        if (eq_merges_find(merges, left, right) >= 0) continue;
        eq_merges_add(merges, (eq_merge){left, right, next++});
    }
}

static void same_as_scanning(void **state)
{
    (void)state;
    eq_rng rng;
    eq_rng_init(&rng, 1, 0);
    eq_word word = {0};
    int64_t merged = 0;
    for (int round = 0; round < 2000; round++) {
        eq_merges merges;
        random_merges(&merges, &rng, 1 + (int)eq_rng_below(&rng, 40));
        int n = (int)eq_rng_below(&rng, 60);
        int32_t want[64];
        assert_int_equal(eq_word_reserve(&ctx, &word, n), EQ_OK);
        for (int i = 0; i < n; i++)
            want[i] = word.symbols[i].id = (int32_t)eq_rng_below(&rng, 4);
        int count = merge_by_scanning(&merges, want, n);
        assert_int_equal(eq_bpe_merge(&merges, &word, n), count);
        for (int i = 0; i < count; i++)
            assert_int_equal(word.symbols[i].id, want[i]);
        merged += n - count;
        eq_merges_deinit(&merges);
    }
    assert_true(merged > 10000); /* the rounds did merge something */
    eq_word_deinit(&word);
}

static void later_of_equal_pairs_counts(void **state)
{
    (void)state;
    eq_merges merges;
    assert_int_equal(eq_merges_init(&ctx, &merges, 2), EQ_OK);
    eq_merges_add(&merges, (eq_merge){1, 2, 3});
    assert_int_equal(eq_merges_find(&merges, 1, 2), 0);
    eq_merges_add(&merges, (eq_merge){1, 2, 4});
    assert_int_equal(eq_merges_find(&merges, 1, 2), 1);
    assert_int_equal(eq_merges_find(&merges, 2, 1), -1);
    eq_merges_deinit(&merges);
}

/* A million equal letters: doubling merges leave one token for each bit of the length. Time must
 * not grow with the square of the length; scanning would take hours. */
static void long_piece(void **state)
{
    (void)state;
    enum { LENGTH = 1000000, LEVELS = 25 };
    eq_merges merges;
    eq_word word = {0};
    assert_int_equal(eq_merges_init(&ctx, &merges, LEVELS), EQ_OK);
    for (int32_t i = 0; i < LEVELS; i++)
        eq_merges_add(&merges, (eq_merge){i, i, i + 1});
    assert_int_equal(eq_word_reserve(&ctx, &word, LENGTH), EQ_OK);
    for (int i = 0; i < LENGTH; i++)
        word.symbols[i].id = 0;
    int32_t count = eq_bpe_merge(&merges, &word, LENGTH);
    assert_int_equal(count, __builtin_popcount(LENGTH));
    int64_t length = 0;
    for (int32_t i = 0; i < count; i++)
        length += (int64_t)1 << word.symbols[i].id;
    assert_int_equal(length, LENGTH);
    eq_word_deinit(&word);
    eq_merges_deinit(&merges);
}

static void impossible_length_is_refused(void **state)
{
    (void)state;
    eq_word word = {0};
    assert_int_equal(eq_word_reserve(&ctx, &word, (int64_t)1 << 31), EQ_EINVAL);
    assert_int_equal(word.room, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_scanning),
        cmocka_unit_test(later_of_equal_pairs_counts),
        cmocka_unit_test(long_piece),
        cmocka_unit_test(impossible_length_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
