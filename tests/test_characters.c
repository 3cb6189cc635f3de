#include "io/characters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Every code point that may be encoded survives, with the length its size asks for. */
static void utf8_round_trip(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        char text[4];
        int n = eq_utf8_encode(text, code);
        assert_int_equal(n, code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4);
        uint32_t back = 0;
        bool surrogate = code >= 0xd800 && code < 0xe000;
        assert_int_equal(eq_utf8_decode(text, (size_t)n, &back), surrogate ? 0 : n);
        if (!surrogate) assert_int_equal(back, code);
        assert_int_equal(eq_utf8_decode(text, (size_t)n - 1, &back), 0);
    }
}

static void utf8_refuses_broken_bytes(void **state)
{
    (void)state;
    static const char *const broken[] = {"\x80",
                                         "\xbf",
                                         "\xc0\x80",
                                         "\xc1\xbf",
                                         "\xc3(",
                                         "\xe0\x9f\xbf",
                                         "\xe2\x82",
                                         "\xed\xa0\x80",
                                         "\xe2(\xa1",
                                         "\xf0\x8f\xbf\xbf",
                                         "\xf0\x9f\x98",
                                         "\xf4\x90\x80\x80",
                                         "\xf5\x80\x80\x80",
                                         "\xf8\x88\x80\x80",
                                         "\xff"};
    uint32_t code;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_int_equal(eq_utf8_decode(broken[i], strlen(broken[i]), &code), 0);
        assert_false(eq_utf8_valid(broken[i], strlen(broken[i])));
    }
    assert_true(eq_utf8_valid("a\u00e9\u65e5\U0001f600", 10));
    assert_true(eq_utf8_valid("", 0));
}

static void table_is_in_order(void **state)
{
    (void)state;
    for (int i = 0; i < EQ_CHAR_RANGES; i++) {
        const eq_char_range *range = &eq_char_ranges[i];
        assert_true(range->first <= range->last && range->last < 0x110000);
        assert_true(range->class == EQ_CHAR_LETTER || range->class == EQ_CHAR_NUMBER);
        if (i) assert_true(range[-1].last < range->first);
    }
}

static void classes(void **state)
{
    (void)state;
    static const uint32_t letters[] = {'a',    'Z',    0xaa,   0xb5,    0x3b1,   0x5d0,
                                       0x65e5, 0xac00, 0x1c89, 0x20000, 0x2ebf0, 0x323af};
    static const uint32_t numbers[] = {'0', '9', 0xb2, 0xbd, 0x663, 0x2167, 0x3007, 0x1d7ff};
    static const uint32_t spaces[] = {9,      10,     13,     ' ',    0x85,   0xa0,   0x1680,
                                      0x2000, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
    static const uint32_t others[] = {0,      8,      14,     '!',    '@',     '[',
                                      '`',    '{',    0x7f,   0x301,  0x180e,  0x200b,
                                      0x200d, 0xfeff, 0xfffd, 0xe000, 0x1f600, 0x10ffff};
    for (size_t i = 0; i < sizeof letters / 4; i++)
        assert_int_equal(eq_char_class_of(letters[i]), EQ_CHAR_LETTER);
    for (size_t i = 0; i < sizeof numbers / 4; i++)
        assert_int_equal(eq_char_class_of(numbers[i]), EQ_CHAR_NUMBER);
    for (size_t i = 0; i < sizeof spaces / 4; i++)
        assert_int_equal(eq_char_class_of(spaces[i]), EQ_CHAR_SPACE);
    for (size_t i = 0; i < sizeof others / 4; i++)
        assert_int_equal(eq_char_class_of(others[i]), EQ_CHAR_OTHER);
}

/* The search finds every range, and the fast path for ASCII agrees with the table. */
static void classes_follow_the_table(void **state)
{
    (void)state;
    uint32_t code = 0;
    for (int i = 0; i < EQ_CHAR_RANGES; i++) {
        for (; code < eq_char_ranges[i].first; code++)
            assert_true(eq_char_class_of(code) == EQ_CHAR_OTHER ||
                        eq_char_class_of(code) == EQ_CHAR_SPACE);
        for (; code <= eq_char_ranges[i].last; code++)
            assert_int_equal(eq_char_class_of(code), eq_char_ranges[i].class);
    }
}

static void byte_letters_are_one_to_one(void **state)
{
    (void)state;
    int found = 0;
    for (uint32_t code = 0; code < 0x400; code++) {
        int byte = eq_letter_byte(code);
        if (byte < 0) continue;
        assert_int_equal(eq_byte_letter((uint8_t)byte), code);
        found++;
    }
    assert_int_equal(found, 256);
    assert_int_equal(eq_byte_letter(' '), 0x120);
    assert_int_equal(eq_byte_letter('\n'), 0x10a);
    assert_int_equal(eq_byte_letter(0xad), 0x143);
    assert_int_equal(eq_letter_byte(0x1f600), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_round_trip),          cmocka_unit_test(utf8_refuses_broken_bytes),
        cmocka_unit_test(table_is_in_order),        cmocka_unit_test(classes),
        cmocka_unit_test(classes_follow_the_table), cmocka_unit_test(byte_letters_are_one_to_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
