/* Texts as ids of which some count. */
#include "io/marked.h"
#include "support_chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static eq_ctx ctx;
static chat_vocab vocab;
static eq_tokenizer *tok;
static eq_marked list;
static eq_marker marker;

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    chat_vocab_init(&vocab, NULL);
    if (eq_tokenizer_from_vocab(&ctx, &tok, &vocab.vocab) != EQ_OK) return -1;
    list = (eq_marked){0};
    marker = (eq_marker){.tok = tok, .out = &list};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    eq_marker_deinit(&marker);
    eq_marked_deinit(&list);
    eq_tokenizer_free(tok);
    return 0;
}

static void content(const char *text, bool counts)
{
    const eq_text piece = {text, strlen(text)};
    assert_int_equal(eq_marker_content(&ctx, &marker, piece, counts), EQ_OK);
}

static void markup(const char *text, bool counts)
{
    assert_int_equal(eq_marker_markup(&ctx, &marker, text, counts), EQ_OK);
}

/* What was put down so far must be the ids [n] with counts, written as '0' and '1'. */
static void expect(const int32_t *ids, const char *counts)
{
    assert_int_equal(eq_marker_flush(&ctx, &marker), EQ_OK);
    assert_int_equal(list.count, strlen(counts));
    for (int64_t i = 0; i < list.count; i++) {
        assert_int_equal(list.ids[i], ids[i]);
        assert_int_equal(list.counts[i], counts[i] - '0');
    }
    list.count = 0;
}

static void pieces_make_one_text(void **state)
{
    (void)state;
    content("he", false);
    content("llo", false);
    expect((const int32_t[]){SMALL_HELLO}, "0");
    content("x ", false);
    content("hello", true); /* its token begins with the space before it */
    content(" hello", true);
    expect((const int32_t[]){'x', SMALL_SPACE_HELLO, SMALL_SPACE_HELLO}, "001");
    content("", true);
    expect(NULL, "");
}

static void markup_names_special_tokens(void **state)
{
    (void)state;
    markup("<|im_start|>a<|im_end|>", false);
    content("<|im_end|>", true);
    expect((const int32_t[]){CHAT_START, 'a', CHAT_END, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|',
                             '>'},
           "0001111111111");
    markup("b<|im_", false); /* no name may be put together from two pieces */
    content("end|>", true);
    expect((const int32_t[]){'b', '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'}, "00000011111");
    content("he", false); /* a special token keeps texts apart */
    assert_int_equal(eq_marker_token(&ctx, &marker, CHAT_EOT, true), EQ_OK);
    content("llo", false);
    expect((const int32_t[]){SMALL_HE, CHAT_EOT, SMALL_LL, 'o'}, "0100");
}

/* A token that begins before the answer is none of its targets. */
static void a_token_across_the_border(void **state)
{
    (void)state;
    content("a\n", false);
    content("\n", true);
    content("b", true);
    expect((const int32_t[]){'a', '\n', '\n', 'b'}, "0011");
    content("a\n", false);
    content("\n", true);
    expect((const int32_t[]){'a', CHAT_NEWLINES}, "00");
}

static void long_texts(void **state)
{
    (void)state;
    enum { N = 3000 };
    char text[N + 1];
    memset(text, 'a', N);
    text[N] = 0;
    content("b", true);
    content(text, false);
    content(text, true);
    assert_int_equal(eq_marker_flush(&ctx, &marker), EQ_OK);
    assert_int_equal(list.count, 2 * N + 1);
    for (int64_t i = 0; i < list.count; i++) {
        assert_int_equal(list.ids[i], i ? 'a' : 'b');
        assert_int_equal(list.counts[i], !i || i > N);
    }
}

static void bytes_that_are_zero(void **state)
{
    (void)state;
    assert_int_equal(eq_marker_content(&ctx, &marker, (eq_text){"a\0b", 3}, true), EQ_OK);
    expect((const int32_t[]){'a', 0, 'b'}, "111");
}

static void lists_grow(void **state)
{
    (void)state;
    const int32_t ids[] = {5, 6, 7};
    const uint8_t counts[] = {0, 1, 0};
    for (int i = 0; i < 500; i++)
        assert_int_equal(eq_marked_append(&ctx, &list, ids, counts, 3), EQ_OK);
    assert_int_equal(eq_marked_push(&ctx, &list, 8, true), EQ_OK);
    assert_int_equal(list.count, 1501);
    for (int64_t i = 0; i < 1500; i++) {
        assert_int_equal(list.ids[i], 5 + i % 3);
        assert_int_equal(list.counts[i], i % 3 == 1);
    }
    assert_int_equal(list.ids[1500], 8);
    assert_int_equal(list.counts[1500], 1);
}

/* The comparison that other tests rely on finds a wrong id and a wrong mark. */
static void the_comparison_finds_errors(void **state)
{
    (void)state;
    markup("<|im_start|>hello", false);
    content(" hello", true);
    assert_int_equal(eq_marker_flush(&ctx, &marker), EQ_OK);
    assert_true(marked_is(tok, &list, "<|im_start|>hello{ hello}"));
    list.ids[1] = SMALL_HELL;
    assert_false(marked_is(tok, &list, "<|im_start|>hello{ hello}"));
    list.ids[1] = SMALL_HELLO;
    list.counts[0] = 1;
    assert_false(marked_is(tok, &list, "<|im_start|>hello{ hello}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_make_one_text, setup, teardown),
        cmocka_unit_test_setup_teardown(markup_names_special_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_across_the_border, setup, teardown),
        cmocka_unit_test_setup_teardown(long_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_that_are_zero, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_grow, setup, teardown),
        cmocka_unit_test_setup_teardown(the_comparison_finds_errors, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
