#include "io/tokenizer.h"

#include "base/rng.h"
#include "io/characters.h"
#include "support_vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static eq_ctx ctx;
static small_vocab small;
static eq_tokenizer *tok;

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    small_vocab_init(&small);
    return eq_tokenizer_from_vocab(&ctx, &tok, &small.vocab) == EQ_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    eq_tokenizer_free(tok);
    tok = NULL;
    return 0;
}

/* Encode a text; the ids, ended by -1, must be the ones given. */
static void expect_ids(const eq_tokenizer *t, const char *text, const int32_t *want)
{
    int32_t *ids = NULL;
    int64_t count = -1, n = 0;
    assert_int_equal(eq_tokenizer_encode(&ctx, t, text, strlen(text), false, &ids, &count), EQ_OK);
    while (want[n] >= 0)
        n++;
    assert_int_equal(count, n);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(ids[i], want[i]);
    eq_free(ids);
}

#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

static void merges_by_rank(void **state)
{
    (void)state;
    expect_ids(tok, "hello", IDS(SMALL_HELLO));
    expect_ids(tok, " hello", IDS(SMALL_SPACE_HELLO));
    expect_ids(tok, "hell", IDS(SMALL_HELL));
    expect_ids(tok, "ell", IDS('e', SMALL_LL)); /* "l l" goes before "e l" */
    expect_ids(tok, "el", IDS(SMALL_EL));
    expect_ids(tok, "helhe", IDS(SMALL_HE, 'l', SMALL_HE));
    expect_ids(tok, "lll", IDS(SMALL_LL, 'l')); /* the leftmost of equal ranks */
    expect_ids(tok, "\u00e9", IDS(SMALL_E_ACUTE));
    expect_ids(tok, "", IDS(-1));
}

static void pieces_are_merged_alone(void **state)
{
    (void)state;
    expect_ids(tok, "12", IDS('1', '2'));
    expect_ids(tok, "   hello", IDS(SMALL_TWO_SPACES, SMALL_SPACE_HELLO));
    expect_ids(tok, "  1", IDS(SMALL_TWO_SPACES, '1'));
    small.vocab.pre = "gpt2";
    eq_tokenizer *gpt2 = NULL;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &gpt2, &small.vocab), EQ_OK);
    expect_ids(gpt2, "12", IDS(SMALL_12));
    expect_ids(gpt2, "  1", IDS(' ', ' ', '1'));
    eq_tokenizer_free(gpt2);
}

static void added_tokens_in_the_text(void **state)
{
    (void)state;
    expect_ids(tok, "<|end|>", IDS(SMALL_END));
    expect_ids(tok, "a<|end|>hello", IDS('a', SMALL_END, SMALL_HELLO));
    expect_ids(tok, "<|end|>!", IDS(SMALL_END_MARK)); /* the longest wins */
    expect_ids(tok, "<|end|><|end|>!!", IDS(SMALL_END, SMALL_END_MARK, '!'));
    expect_ids(tok, "<<|start|>", IDS('<', SMALL_START));
    expect_ids(tok, "<|end|", IDS('<', '|', 'e', 'n', 'd', '|'));
    expect_ids(tok, "  <|end|>  ", IDS(SMALL_TWO_SPACES, SMALL_END, SMALL_TWO_SPACES));
}

/* Names of special tokens in a content are letters; those of other added tokens are tokens. */
static void contents_name_no_special_tokens(void **state)
{
    (void)state;
    const eq_text text = {"hello<|end|><|end|>!", 20};
    const int32_t want[] = {SMALL_HELLO, '<', '|', 'e', 'n', 'd', '|', '>', SMALL_END_MARK};
    eq_ids ids = {0};
    assert_int_equal(eq_tokenizer_append_content(&ctx, tok, text, &ids), EQ_OK);
    assert_int_equal(ids.count, 9);
    assert_memory_equal(ids.data, want, sizeof want);
    eq_free(ids.data);
    assert_int_equal(eq_tokenizer_special(tok, (eq_text){"<|end|>x", 8}), SMALL_END);
    assert_int_equal(eq_tokenizer_special(tok, (eq_text){"<|end|>!", 8}), -1); /* this is text */
    assert_int_equal(eq_tokenizer_special(tok, (eq_text){"x<|end|>", 8}), -1);
    assert_int_equal(eq_tokenizer_special(tok, (eq_text){"", 0}), -1);
}

/* The tokens of a content must lie at `starts` of it. */
static void expect_starts(const eq_tokenizer *t, eq_text text, const size_t *starts, int64_t n)
{
    eq_ids ids = {0};
    size_t at = 0, start = 0;
    assert_int_equal(eq_tokenizer_append_content(&ctx, t, text, &ids), EQ_OK);
    assert_int_equal(ids.count, n);
    for (int64_t i = 0; i < n; i++) {
        at = eq_tokenizer_locate(t, text, at, ids.data[i], &start);
        assert_int_equal(start, starts[i]);
    }
    assert_int_equal(at, text.size);
    eq_free(ids.data);
}

static void places_of_tokens(void **state)
{
    (void)state;
    const eq_text text = {"xhe\x04llo<|end|>! hello", 21};
    expect_starts(tok, text, (const size_t[]){0, 1, 3, 4, 6, 7, 15}, 7);
    small.tokens[4] = (eq_text){"other", 5}; /* byte 4 has no token now */
    eq_tokenizer *t = NULL;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &t, &small.vocab), EQ_OK);
    expect_starts(t, (eq_text){"\x04<|end|>!", 9}, (const size_t[]){1}, 1);
    eq_tokenizer_free(t);
    small.vocab.missing = SMALL_START;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &t, &small.vocab), EQ_OK);
    expect_starts(t, text, (const size_t[]){0, 1, 3, 4, 6, 7, 15}, 7);
    eq_tokenizer_free(t);
}

/* A byte that is dropped does not keep its neighbours apart. */
static void places_of_tokens_around_a_dropped_byte(void **state)
{
    (void)state;
    eq_tokenizer *t = NULL;
    small.tokens['q'] = (eq_text){"other", 5};
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &t, &small.vocab), EQ_OK);
    expect_starts(t, (eq_text){"heqlloqx", 8}, (const size_t[]){0, 7}, 2);
    eq_tokenizer_free(t);
}

static void bytes_that_are_no_characters(void **state)
{
    (void)state;
    expect_ids(tok, "\xff", IDS(0xff));
    expect_ids(tok, "he\xc3he", IDS(SMALL_HE, 0xc3, SMALL_HE));
    expect_ids(tok, "\xa9\xc3", IDS(0xa9, 0xc3));
    expect_ids(tok, "\xe6\x97hello", IDS(0xe6, 0x97, SMALL_HELLO));
}

static void bytes_without_a_token(void **state)
{
    (void)state;
    small.tokens['q'] = (eq_text){"", 0};
    eq_tokenizer *t = NULL;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &t, &small.vocab), EQ_OK);
    expect_ids(t, "aqb", IDS('a', 'b'));
    expect_ids(t, "hqe", IDS(SMALL_HE)); /* dropped before merging, as other programs do */
    expect_ids(t, "q", IDS(-1));
    eq_tokenizer_free(t);
    small.vocab.missing = SMALL_START;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &t, &small.vocab), EQ_OK);
    expect_ids(t, "aqb", IDS('a', SMALL_START, 'b'));
    eq_tokenizer_free(t);
}

static void bos_only_when_asked(void **state)
{
    (void)state;
    int32_t *ids = NULL;
    int64_t count = 0;
    assert_int_equal(eq_tokenizer_encode(&ctx, tok, "a", 1, true, &ids, &count), EQ_OK);
    assert_int_equal(count, 1); /* this tokenizer adds none */
    eq_free(ids);
    small.vocab.add_bos = true;
    eq_tokenizer *t = NULL;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &t, &small.vocab), EQ_OK);
    assert_true(eq_tokenizer_add_bos(t));
    expect_ids(t, "a", IDS('a'));
    assert_int_equal(eq_tokenizer_encode(&ctx, t, "a", 1, true, &ids, &count), EQ_OK);
    assert_int_equal(count, 2);
    assert_int_equal(ids[0], SMALL_START);
    eq_free(ids);
    eq_tokenizer_free(t);
}

static void expect_text(const int32_t *ids, int64_t count, bool skip, const char *want)
{
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(eq_tokenizer_decode(&ctx, tok, ids, count, skip, &text, &size), EQ_OK);
    assert_int_equal(size, strlen(want));
    assert_string_equal(text, want);
    eq_free(text);
}

static void decode(void **state)
{
    (void)state;
    const int32_t ids[] = {SMALL_START, SMALL_SPACE_HELLO, SMALL_UNUSED, SMALL_END_MARK,
                           0xc3,        SMALL_E_ACUTE,     SMALL_END};
    expect_text(ids, 7, false, "<|start|> hello<|end|>!\xc3\u00e9<|end|>");
    expect_text(ids, 7, true, " hello<|end|>!\xc3\u00e9");
    expect_text(ids, 0, true, "");
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(eq_tokenizer_decode(&ctx, tok, IDS('a', SMALL_COUNT), 2, false, &text, &size),
                     EQ_EINVAL);
    assert_non_null(strstr(ctx.message, "token 269 is outside the vocabulary of 269 tokens"));
    assert_int_equal(eq_tokenizer_decode(&ctx, tok, IDS('a'), 2, false, &text, &size), EQ_EINVAL);
}

static void getters(void **state)
{
    (void)state;
    assert_int_equal(eq_tokenizer_vocab_size(tok), SMALL_COUNT);
    assert_int_equal(eq_tokenizer_bos(tok), SMALL_START);
    assert_int_equal(eq_tokenizer_eos(tok), SMALL_END);
    assert_int_equal(eq_tokenizer_unk(tok), -1);
    assert_int_equal(eq_tokenizer_pad(tok), -1);
    assert_null(eq_tokenizer_chat_template(tok));
    assert_int_equal(eq_tokenizer_find(tok, "<|end|>", 7), SMALL_END);
    assert_int_equal(eq_tokenizer_find(tok, "\u0120hello", 7), SMALL_SPACE_HELLO);
    assert_int_equal(eq_tokenizer_find(tok, " hello", 6), -1);
    assert_int_equal(eq_tokenizer_find(tok, "", 0), -1);
    assert_true(eq_tokenizer_is_special(tok, SMALL_END));
    assert_true(eq_tokenizer_is_special(tok, SMALL_UNUSED));
    assert_true(eq_tokenizer_is_special(tok, SMALL_COUNT));
    assert_true(eq_tokenizer_is_special(tok, -1));
    assert_false(eq_tokenizer_is_special(tok, SMALL_END_MARK));
    assert_false(eq_tokenizer_is_special(tok, 'a'));
    size_t size = 9;
    assert_memory_equal(eq_tokenizer_piece(tok, SMALL_SPACE_HELLO, &size), " hello", 6);
    assert_int_equal(size, 6);
    eq_tokenizer_piece(tok, SMALL_COUNT, &size);
    assert_int_equal(size, 0);
}

/* Encoding and decoding gives any bytes back; so do the pieces one after the other. */
static void round_trip(const char *text, size_t n)
{
    int32_t *ids = NULL;
    int64_t count = 0;
    char *back = NULL;
    size_t size = 0;
    assert_int_equal(eq_tokenizer_encode(&ctx, tok, text, n, false, &ids, &count), EQ_OK);
    assert_int_equal(eq_tokenizer_decode(&ctx, tok, ids, count, false, &back, &size), EQ_OK);
    assert_int_equal(size, n);
    assert_memory_equal(back, text, n);
    assert_int_equal(back[n], 0);
    size_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const char *piece = eq_tokenizer_piece(tok, ids[i], &size);
        assert_true(at + size <= n);
        assert_memory_equal(piece, text + at, size);
        at += size;
    }
    assert_int_equal(at, n);
    eq_free(ids);
    eq_free(back);
}

static void round_trip_of_random_bytes(void **state)
{
    (void)state;
    eq_rng rng;
    eq_rng_init(&rng, 3, 0);
    char text[600];
    for (int round = 0; round < 3000; round++) {
        size_t n = eq_rng_below(&rng, sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)eq_rng_next(&rng);
        round_trip(text, n);
    }
}

static void round_trip_of_random_characters(void **state)
{
    (void)state;
    static const uint32_t ends[] = {0x80, 0x100, 0x800, 0x3100, 0x10000, 0x110000};
    eq_rng rng;
    eq_rng_init(&rng, 4, 0);
    char text[804];
    for (int round = 0; round < 3000; round++) {
        size_t n = 0;
        for (uint64_t i = eq_rng_below(&rng, 200); i > 0; i--) {
            uint32_t code = (uint32_t)eq_rng_below(&rng, ends[eq_rng_below(&rng, 6)]);
            if (code >= 0xd800 && code < 0xe000) continue;
            n += (size_t)eq_utf8_encode(text + n, code);
        }
        round_trip(text, n);
    }
}

/* A vocabulary that must be refused with a message that holds `part`. */
static void expect_refused(const char *part)
{
    eq_tokenizer *t = NULL;
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &t, &small.vocab), EQ_EFORMAT);
    assert_null(t);
    assert_non_null(strstr(ctx.message, "small vocabulary: "));
    if (!strstr(ctx.message, part)) print_error("'%s' lacks '%s'\n", ctx.message, part);
    assert_non_null(strstr(ctx.message, part));
    small_vocab_init(&small);
}

static void broken_vocabularies(void **state)
{
    (void)state;
    small.vocab.pre = "llama-bpe";
    expect_refused("pre-tokenizer 'llama-bpe' is not supported");
    small.vocab.pre = NULL;
    expect_refused("pre-tokenizer ''");
    small.vocab.n = 0;
    expect_refused("a vocabulary of 0 tokens");
    small.vocab.n = (int64_t)1 << 40;
    expect_refused("a vocabulary of 1099511627776 tokens");
    small.tokens[SMALL_12] = small.tokens[SMALL_EL];
    expect_refused("tokens 262 and 264 are both 'el'");
    small.tokens[7] = (eq_text){"\xc3", 1};
    expect_refused("token 7 is not UTF-8");
    small.tokens[7].size = (size_t)1 << 40;
    expect_refused("token 7 has 1099511627776 bytes");
    small.types[8] = 0;
    expect_refused("token 8 has type 0");
    small.types[8] = 7;
    expect_refused("token 8 has type 7");
    small.vocab.eos = SMALL_COUNT;
    expect_refused("the eos token is 269, the vocabulary has 269 tokens");
    small.vocab.bos = -2;
    expect_refused("the bos token is -2");
    small.vocab.bos = -1;
    small.vocab.add_bos = true;
    expect_refused("a bos token is to be added");
    small.vocab.chat_template = (eq_text){"\xff", 1};
    expect_refused("the chat template is not UTF-8");
}

static void broken_merges(void **state)
{
    (void)state;
    static const char *const broken[] = {"",    " ",    "a",      "ab",    "a ",    " b",
                                         "a b", "he x", "x hell", "h e l", "he  ll"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        small.merges[5] = (eq_text){broken[i], strlen(broken[i])};
        expect_refused("merge 5, '");
    }
    small.vocab.m = (int64_t)1 << 40;
    expect_refused("1099511627776 merges");
    small.vocab.m = -1;
    expect_refused("-1 merges");
}

/* Whichever allocation fails, the call says so, leaks nothing and leaves nothing behind. */
static void failing_allocations(void **state)
{
    (void)state;
    const char *text = "hello 12  <|end|>! \xff";
    small.vocab.chat_template = (eq_text){"{{ x }}", 7};
    eq_status st = EQ_ENOMEM;
    int64_t n = 0;
    for (n = 1; st == EQ_ENOMEM; n++) {
        eq_tokenizer *t = NULL;
        int32_t *ids = NULL;
        int64_t count = 0;
        char *back = NULL;
        size_t size = 0;
        eq_ctx_clear(&ctx);
        ctx.allocations = 0;
        ctx.fail_allocation = n;
        st = eq_tokenizer_from_vocab(&ctx, &t, &small.vocab);
        if (st != EQ_OK) assert_null(t);
        if (st == EQ_OK) st = eq_tokenizer_encode(&ctx, t, text, strlen(text), true, &ids, &count);
        if (st != EQ_OK) assert_null(ids);
        if (st == EQ_OK) st = eq_tokenizer_decode(&ctx, t, ids, count, false, &back, &size);
        if (st == EQ_OK)
            assert_string_equal(back, text);
        else
            assert_int_equal(ctx.status, EQ_ENOMEM);
        eq_free(back);
        eq_free(ids);
        eq_tokenizer_free(t);
    }
    ctx.fail_allocation = 0;
    assert_int_equal(st, EQ_OK);
    assert_in_range(n, 10, 100); /* there were allocations to fail */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(merges_by_rank, setup, teardown),
        cmocka_unit_test_setup_teardown(pieces_are_merged_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(added_tokens_in_the_text, setup, teardown),
        cmocka_unit_test_setup_teardown(contents_name_no_special_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(places_of_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(places_of_tokens_around_a_dropped_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_without_a_token, setup, teardown),
        cmocka_unit_test_setup_teardown(bos_only_when_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(decode, setup, teardown),
        cmocka_unit_test_setup_teardown(getters, setup, teardown),
        cmocka_unit_test_setup_teardown(round_trip_of_random_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(round_trip_of_random_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_vocabularies, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_merges, setup, teardown),
        cmocka_unit_test_setup_teardown(failing_allocations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
