/* Text in whole characters and without stop strings, whatever pieces it comes in. */
#include "infer/text_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROOM = 256 };

static eq_ctx ctx;

static const eq_text stops[] = {{"STOP", 4}, {"STAR", 4}, {"\xC3\xA9!", 3}, {"TO", 2}};

/* Push text in pieces of `piece` bytes with the first `count` stops; what became ready, in out.
 * Nothing that is ready ends within a character. */
static bool stream(char *out, const char *text, size_t n, size_t piece, int64_t count)
{
    eq_text_stream s = {.stops = stops, .stop_count = count};
    size_t size = 0;
    for (size_t at = 0; at < n; at += piece) {
        size_t bytes = n - at < piece ? n - at : piece;
        assert_int_equal(eq_text_stream_push(&ctx, &s, text + at, bytes), EQ_OK);
        assert_true(size + s.ready < ROOM);
        memcpy(out + size, s.text, s.ready);
        size += s.ready;
        size_t whole = size;
        while (whole > 0 && ((uint8_t)out[whole - 1] & 0xC0) == 0x80)
            whole--;
        if (size > whole) assert_true(((uint8_t)out[whole - 1] & 0xC0) == 0xC0);
    }
    size_t shown = s.ready;
    assert_int_equal(eq_text_stream_end(&ctx, &s), EQ_OK);
    if (s.ready > shown) memcpy(out + size, s.text + shown, s.ready - shown);
    size += s.ready - shown;
    out[size] = 0;
    bool stopped = s.stopped;
    eq_text_stream_deinit(&s);
    return stopped;
}

static void check(const char *text, int64_t count, const char *want, bool stops_there)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        char out[ROOM];
        assert_int_equal(stream(out, text, strlen(text), piece, count), stops_there);
        assert_string_equal(out, want);
    }
}

static void characters(void **state)
{
    (void)state;
    check("plain", 0, "plain", false);
    check("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z", 0, "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z",
          false);
    check("a\xFF", 0, "a\xEF\xBF\xBD", false);
    check("\xC3(", 0, "\xEF\xBF\xBD(", false);
    check("x\xE2\x82", 0, "x\xEF\xBF\xBD", false);             /* cut at the end */
    check("\xE0\x80y", 0, "\xEF\xBF\xBD\xEF\xBF\xBDy", false); /* overlong */
    check("\xF4\x90", 0, "\xEF\xBF\xBD\xEF\xBF\xBD", false);   /* beyond U+10FFFF */
    check("\xED\xA0 ", 0, "\xEF\xBF\xBD\xEF\xBF\xBD ", false); /* a surrogate */
    check("\xF0\x9F\x98\xE2\x82\xAC", 0, "\xEF\xBF\xBD\xE2\x82\xAC", false);
}

static void stop_strings(void **state)
{
    (void)state;
    check("go on STOP here", 3, "go on ", true);
    check("STOP", 3, "", true);
    check("go on STO", 3, "go on STO", false); /* only the beginning of one */
    check("STSTSTOPSTOP", 3, "STST", true);
    check("SSTOSTARx", 3, "SSTO", true);
    check("caf\xC3\xA9! no", 3, "caf", true);
    check("caf\xC3\xA9 \xC3", 3, "caf\xC3\xA9 \xEF\xBF\xBD", false);
    check("aSTOz", 4, "aS", true); /* "TO" is whole before "STOP" can be */
    check("aSTOP", 4, "aS", true);
    check("stop", 4, "stop", false);
}

/* Text is held back only while it may become a stop string. */
static void nothing_waits_without_reason(void **state)
{
    (void)state;
    eq_text_stream s = {.stops = stops, .stop_count = 3};
    assert_int_equal(eq_text_stream_push(&ctx, &s, "a ST", 4), EQ_OK);
    assert_int_equal(s.ready, 2);
    assert_int_equal(eq_text_stream_push(&ctx, &s, "", 0), EQ_OK);
    assert_int_equal(s.ready, 0);
    assert_int_equal(eq_text_stream_push(&ctx, &s, "Ax", 2), EQ_OK);
    assert_int_equal(s.ready, 4);
    assert_memory_equal(s.text, "STAx", 4);
    assert_int_equal(eq_text_stream_push(&ctx, &s, "STOPmore", 8), EQ_OK);
    assert_true(s.stopped && s.ready == 0);
    assert_int_equal(eq_text_stream_push(&ctx, &s, "more", 4), EQ_OK);
    assert_int_equal(eq_text_stream_end(&ctx, &s), EQ_OK);
    assert_int_equal(s.ready, 0);
    eq_text_stream_deinit(&s);
}

static void memory_runs_out(void **state)
{
    (void)state;
    eq_text_stream s = {0};
    ctx.fail_allocation = ctx.allocations + 1;
    assert_int_equal(eq_text_stream_push(&ctx, &s, "abc", 3), EQ_ENOMEM);
    ctx.fail_allocation = 0;
    eq_ctx_clear(&ctx);
    eq_text_stream_deinit(&s);
}

int main(void)
{
    eq_ctx_init(&ctx, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters),
        cmocka_unit_test(stop_strings),
        cmocka_unit_test(nothing_waits_without_reason),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests_name("text_stream", tests, NULL, NULL);
}
