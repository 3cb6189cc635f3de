/* Form C of Unicode, against what the standard and its own tables say. */
#include "io/normalize.h"

#include "base/rng.h"
#include "io/characters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static eq_ctx ctx;

static void expect(const char *text, size_t n, const char *want, size_t wanted)
{
    eq_text got = {text, n};
    char *owned = NULL;
    assert_int_equal(eq_normalize(&ctx, &got, &owned), EQ_OK);
    if (got.size != wanted || memcmp(got.data, want, wanted))
        print_error("'%.*s' became '%.*s'\n", (int)n, text, (int)got.size, got.data);
    assert_int_equal(got.size, wanted);
    assert_memory_equal(got.data, want, wanted);
    eq_free(owned);
}

static void known_texts(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"plain \u00e9 \u02e5", "plain \u00e9 \u02e5"},
        {"e\u0301", "\u00e9"},
        {"\u0301", "\u0301"},
        {"e\u0301\u0301", "\u00e9\u0301"},
        {"a\u0323\u0307 a\u0307\u0323", "\u1ea1\u0307 \u1ea1\u0307"}, /* marks in order */
        {"s\u0323\u0307", "\u1e69"},                                  /* two steps */
        {"\u1e9b\u0323", "\u1e9b\u0323"},
        {"\u212b \u2126", "\u00c5 \u03a9"}, /* singletons */
        {"\u0958", "\u0915\u093c"},         /* never put together */
        {"\u0344", "\u0308\u0301"},
        {"\u1100\u1161\u11a8", "\uac01"}, /* Hangul */
        {"\uac00\u11a8 \uac00\u11a7", "\uac01 \uac00\u11a7"},
        {"\u09c7\u09be", "\u09cb"}, /* two characters without a class */
        {"a\u034f\u0301", "a\u034f\u0301"},
        {"\u0f71\u0f73", "\u0f71\u0f71\u0f72"}, /* takes part in order, itself of class 0 */
        {"\U0001d15e", "\U0001d157\U0001d165"},
        {"\xff\u0301e\xcc", "\xff\u0301e\xcc"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(cases[i][0], strlen(cases[i][0]), cases[i][1], strlen(cases[i][1]));
}

/* A composed pair comes back from its parts, all others stay apart; both are their own form C. */
static void pairs(void **state)
{
    (void)state;
    static bool composed[EQ_NORMAL_PAIRS];
    for (int i = 0; i < EQ_NORMAL_COMPOSED; i++)
        composed[eq_normal_composed[i]] = true;
    for (int i = 0; i < EQ_NORMAL_PAIRS; i++) {
        const uint32_t *pair = &eq_normal_pairs[3 * i];
        char whole[4], parts[8];
        if (i) assert_true(pair[-3] < pair[0]);
        size_t n = (size_t)eq_utf8_encode(whole, pair[0]),
               m = (size_t)eq_utf8_encode(parts, pair[1]);
        if (pair[2]) m += (size_t)eq_utf8_encode(parts + m, pair[2]);
        if (composed[i]) {
            expect(whole, n, whole, n);
            expect(parts, m, whole, n);
        }
        if (composed[i] || !pair[2]) continue;
        eq_text text = {whole, n};
        char *owned = NULL;
        assert_int_equal(eq_normalize(&ctx, &text, &owned), EQ_OK);
        assert_true(text.size != n || memcmp(text.data, whole, n));
        expect(text.data, text.size, text.data, text.size);
        eq_free(owned);
    }
}

/* Normalizing twice is normalizing once, and no byte that is no character is lost. */
static void random_texts(void **state)
{
    (void)state;
    eq_rng rng;
    eq_rng_init(&rng, 4, 0);
    for (int round = 0; round < 2000; round++) {
        char text[256];
        size_t n = 0;
        while (n < 200) {
            uint64_t kind = eq_rng_below(&rng, 5);
            uint32_t code = 'a' + (uint32_t)eq_rng_below(&rng, 26);
            if (kind == 1) code = 0x300 + (uint32_t)eq_rng_below(&rng, 0x70);
            if (kind == 2) code = 0x1100 + (uint32_t)eq_rng_below(&rng, 0x100);
            if (kind == 3) code = eq_normal_pairs[eq_rng_below(&rng, 3 * EQ_NORMAL_PAIRS)];
            if (kind == 4 && round % 2)
                text[n++] = (char)0xff;
            else
                n += (size_t)eq_utf8_encode(text + n, code ? code : 'z');
        }
        eq_text got = {text, n};
        char *owned = NULL;
        assert_int_equal(eq_normalize(&ctx, &got, &owned), EQ_OK);
        expect(got.data, got.size, got.data, got.size);
        eq_free(owned);
    }
}

/* A run of marks that is far longer than any text has comes to an end. */
static void many_marks(void **state)
{
    (void)state;
    static char text[1 + 2 * 200000];
    text[0] = 'e';
    for (int i = 0; i < 200000; i++)
        memcpy(text + 1 + 2 * i, i % 2 ? "\u0323" : "\u0301", 2);
    eq_text got = {text, sizeof text};
    char *owned = NULL;
    assert_int_equal(eq_normalize(&ctx, &got, &owned), EQ_OK);
    assert_true(got.size > sizeof text / 2 && got.size <= sizeof text);
    eq_free(owned);
}

static void failing_allocation(void **state)
{
    (void)state;
    eq_text got = {"e\u0301", 3};
    char *owned = NULL;
    for (int64_t n = 1; n <= 3; n++) {
        ctx.fail_allocation = ctx.allocations + n;
        assert_int_equal(eq_normalize(&ctx, &got, &owned), EQ_ENOMEM);
        assert_null(owned);
        eq_ctx_clear(&ctx);
    }
    ctx.fail_allocation = 0;
}

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_texts),        cmocka_unit_test(pairs),
        cmocka_unit_test(random_texts),       cmocka_unit_test(many_marks),
        cmocka_unit_test(failing_allocation),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
