#include "io/pretokenize.h"

#include "base/rng.h"
#include "io/characters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The pieces of a text with | between them. */
static void cut(const char *rule, const char *text, char *out)
{
    const eq_pretokenizer *pre = eq_pretokenizer_find(rule);
    assert_non_null(pre);
    size_t n = strlen(text);
    for (size_t at = 0; at < n;) {
        size_t size = eq_pretokenize(pre, text + at, n - at);
        assert_true(size >= 1 && size <= n - at);
        if (at) *out++ = '|';
        memcpy(out, text + at, size);
        out += size;
        at += size;
    }
    *out = 0;
}

static void expect_cut(const char *rule, const char *text, const char *want)
{
    char got[256];
    cut(rule, text, got);
    if (strcmp(got, want)) print_error("%s, '%s'\n", rule, text);
    assert_string_equal(got, want);
}

static void both_rules(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a", "a"},
        {"Hello world", "Hello| world"},
        {"a  b", "a| | b"},
        {"a   b", "a|  | b"},
        {"a  ", "a|  "},
        {" ", " "},
        {"a\nb", "a|\n|b"},
        {"a\n\nb", "a|\n|\n|b"},
        {"a \n b", "a| \n| b"},
        {"a\t b", "a|\t| b"},
        {"\t\tx", "\t|\t|x"},
        {"I'll we've don't 's", "I|'ll| we|'ve| don|'t| '|s"},
        {"it''s 'S", "it|''|s| '|S"},
        {"'r 'v 'l 'lx", "'|r| '|v| '|l| '|lx"},
        {"'re!'re", "'re|!'|re"},
        {"x, y. (z)", "x|,| y|.| (|z|)"},
        {"e\u0301", "e|\u0301"},
        {"\u65e5\u672c \u4e2d", "\u65e5\u672c| \u4e2d"},
        {"a\u00a0b", "a|\u00a0|b"},
        {"a\u3000\u3000b", "a|\u3000|\u3000|b"},
        {"\U0001f600\U0001f600 \U0001f600", "\U0001f600\U0001f600| \U0001f600"},
        {"a\u200bb", "a|\u200b|b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_cut("gpt2", cases[i][0], cases[i][1]);
        expect_cut("smollm", cases[i][0], cases[i][1]);
    }
}

static void digits(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a123", "a|123", "a|1|2|3"},
        {"a 12", "a| 12", "a| |1|2"},
        {"a  1", "a| | 1", "a|  |1"},
        {"\n1", "\n|1", "\n|1"},
        {" \n 1", " \n| 1", " \n |1"},
        {"1 a", "1| a", "1| a"},
        {"1.5", "1|.|5", "1|.|5"},
        {"5's", "5|'s", "5|'s"},
        {"x\u00b2\u00bd", "x|\u00b2\u00bd", "x|\u00b2|\u00bd"},
        {" \u0663\u0664", " \u0663\u0664", " |\u0663|\u0664"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_cut("gpt2", cases[i][0], cases[i][1]);
        expect_cut("smollm", cases[i][0], cases[i][2]);
    }
}

static void qwen2(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"Hello world", "Hello| world"},
        {"a  b", "a| | b"},
        {"a\tb!c", "a|\tb|!c"},
        {"\u00a0a \u3000b", "\u00a0a| |\u3000b"},
        {"I'll WE'VE don'T 's", "I|'ll| WE|'VE| don|'T| '|s"},
        {"it''s 'Sx '\u017f", "it|''|s| '|Sx| '|\u017f"},
        {"a'\u017fb", "a|'\u017f|b"},
        {"x123 45", "x|1|2|3| |4|5"},
        {"x, y. (z)", "x|,| y|.| (|z|)"},
        {" ?!\n\nb", " ?!\n\n|b"},
        {"a \n \n  b", "a| \n \n| | b"},
        {"a\r\n\r\nb", "a|\r\n\r\n|b"},
        {"\n\ta", "\n|\ta"},
        {"a \n", "a| \n"},
        {"a   ", "a|   "},
        {"  1", " | |1"},
        {"e\u0301x", "e|\u0301x"},
        {"\u65e5\u672c \u4e2d\uff0c", "\u65e5\u672c| \u4e2d|\uff0c"},
        {"a\xff\xfe z", "a|\xff\xfe| z"},
        {" \xff", " |\xff"},
        {"!\xff", "!|\xff"},
        {"'", "'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_cut("qwen2", cases[i][0], cases[i][1]);
    const eq_pretokenizer *pre = eq_pretokenizer_find("qwen2");
    assert_ptr_equal(eq_pretokenizer_by_expression(pre->expression), pre);
    assert_null(eq_pretokenizer_by_expression("\\s+"));
}

static void bytes_that_are_no_characters(void **state)
{
    (void)state;
    expect_cut("gpt2", "a\xff\xfe z", "a|\xff\xfe| z");
    expect_cut("gpt2", " \xff", " |\xff");
    expect_cut("gpt2", "a  \xff", "a|  |\xff");
    expect_cut("gpt2", "\xe6\x97\xe6\x97\xa5", "\xe6\x97|\u65e5");
    expect_cut("gpt2", "'\xff", "'|\xff");
}

static void names(void **state)
{
    (void)state;
    assert_false(eq_pretokenizer_find("gpt-2")->single_digits);
    assert_false(eq_pretokenizer_find("default")->single_digits);
    assert_true(eq_pretokenizer_find("smollm")->single_digits);
    assert_null(eq_pretokenizer_find("llama-bpe"));
    assert_null(eq_pretokenizer_find(""));
}

/* Pieces are never empty, never reach behind the text, and end where a character does. */
static void random_bytes(void **state)
{
    (void)state;
    static const char *const parts[] = {" ",    "  ",   "\n",     "1",     "a",      "'",
                                        "s",    "ll",   "\u00e9", "!",     "\u65e5", "\xff",
                                        "\xe6", "\x97", "\u3000", "\u00bd"};
    static const char *const rules[] = {"gpt2", "smollm", "qwen2"};
    eq_rng rng;
    eq_rng_init(&rng, 2, 0);
    for (int round = 0; round < 5000; round++) {
        char text[64] = "";
        for (uint64_t i = eq_rng_below(&rng, 14); i > 0; i--)
            strcat(text, parts[eq_rng_below(&rng, sizeof parts / sizeof *parts)]);
        const eq_pretokenizer *pre = eq_pretokenizer_find(rules[round % 3]);
        size_t n = strlen(text), size = 0;
        for (size_t at = 0; at < n; at += size) {
            size = eq_pretokenize(pre, text + at, n - at);
            assert_true(size >= 1 && size <= n - at);
            uint32_t code;
            for (size_t i = at; i < at + size;) {
                int length = eq_utf8_decode(text + i, n - i, &code);
                i += length ? (size_t)length : 1;
                assert_true(i <= at + size);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_rules), cmocka_unit_test(digits),
        cmocka_unit_test(qwen2),      cmocka_unit_test(bytes_that_are_no_characters),
        cmocka_unit_test(names),      cmocka_unit_test(random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
