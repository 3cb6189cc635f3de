#include "io/tokens.h"

#include "base/file.h"
#include "base/rng.h"
#include "io/dialog_windows.h"
#include "io/normalize.h"
#include "io/pretokenize.h"
#include "support_files.h"
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
static char *folder, *path;
static eq_window_source source;
static const eq_dialog_options no_chat = {.style = EQ_DIALOG_ALPACA};

/* Put the text into folder/name and make it the source. */
static void use_file(const char *name, const char *text)
{
    eq_free(path);
    folder_write(folder, name, text);
    path = eq_path_join(&ctx, folder, name);
    source.path = path;
}

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    small_vocab_init(&small);
    folder = folder_make();
    path = NULL;
    if (eq_tokenizer_from_vocab(&ctx, &tok, &small.vocab) != EQ_OK) return -1;
    source = (eq_window_source){.tok = tok, .separator = SMALL_END};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    eq_tokenizer_free(tok);
    eq_free(path);
    folder_remove(folder);
    return 0;
}

/* The windows of the source in file order must be the ids given, n * T of them. */
static void expect_windows(int64_t n, int64_t T, const int32_t *want, int64_t count)
{
    eq_token_windows windows;
    source.n = n;
    source.T = T;
    eq_status st = eq_windows_dialogs(&ctx, &windows, &source, &no_chat);
    if (st != EQ_OK) print_error("%s\n", ctx.message);
    assert_int_equal(st, EQ_OK);
    assert_int_equal(windows.n * windows.T, count);
    assert_int_equal(windows.T, T);
    assert_null(windows.counts); /* every token counts */
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(windows.ids[i], want[i]);
    eq_windows_deinit(&windows);
    assert_null(windows.ids);
}

static void expect_failure(eq_status status, const char *part)
{
    eq_token_windows windows;
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_windows_dialogs(&ctx, &windows, &source, &no_chat), status);
    assert_null(windows.ids);
    if (!strstr(ctx.message, part)) print_error("'%s' lacks '%s'\n", ctx.message, part);
    assert_non_null(strstr(ctx.message, part));
    assert_non_null(strstr(ctx.message, path));
}

static void a_text_file_is_one_document(void **state)
{
    (void)state;
    const int32_t ids[] = {SMALL_HELLO, '\n', SMALL_HELLO, '\n', 'x', 0xff};
    use_file("a.txt", "hello\nhello\nx\xff");
    expect_windows(0, 2, ids, 6);
    expect_windows(0, 4, ids, 4);
    expect_windows(1, 5, ids, 5);
    expect_windows(2, 3, ids, 6);
}

static void documents_of_lines(void **state)
{
    (void)state;
    const int32_t ids[] = {'a', 'b', SMALL_END, SMALL_END, SMALL_HELLO, '\n', 'c', SMALL_END};
    use_file("a.jsonl", "{\"text\": \"ab\"}\n\n  \r\n{\"id\": 3, \"text\": \"\"}\r\n"
                        "{\"text\": \"hello\\nc\"}");
    expect_windows(0, 4, ids, 8);
    expect_windows(2, 3, ids, 6);
    expect_windows(1, 7, ids, 7); /* a window ends inside a document */
    source.separator = -1;
    const int32_t bare[] = {'a', 'b', SMALL_HELLO, '\n', 'c'};
    expect_windows(0, 5, bare, 5);
    use_file("b.jsonl", "{\"text\": \"a<|end|>12\"}"); /* a special token is one here */
    expect_windows(0, 3, (const int32_t[]){'a', SMALL_END, '1'}, 3);
}

static void bos_before_each_document(void **state)
{
    (void)state;
    small.vocab.add_bos = true;
    eq_tokenizer_free(tok);
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &tok, &small.vocab), EQ_OK);
    source.tok = tok;
    const int32_t ids[] = {SMALL_START, 'a', SMALL_END, SMALL_START, 'b', SMALL_END};
    use_file("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
    expect_windows(0, 6, ids, 6);
    use_file("a.txt", "ab");
    expect_windows(0, 3, (const int32_t[]){SMALL_START, 'a', 'b'}, 3);
}

/* Put the lengths of all pieces of a text behind the others. */
static int add_pieces(size_t *pieces, int count, const eq_pretokenizer *rule, eq_text text)
{
    for (size_t at = 0; at < text.size; at += pieces[count++])
        pieces[count] = eq_pretokenize(rule, text.data + at, text.size - at);
    return count;
}

/* Whether the parts before and behind `cut` have the pieces of the whole, also in form C. */
static bool is_border(const eq_pretokenizer *rule, eq_text whole, size_t cut, bool normalized)
{
    eq_text texts[] = {whole, {whole.data, cut}, {whole.data + cut, whole.size - cut}};
    char *owned[3] = {NULL};
    size_t want[512], got[512];
    for (int i = 0; i < 3 && normalized; i++)
        assert_int_equal(eq_normalize(&ctx, &texts[i], &owned[i]), EQ_OK);
    int n = add_pieces(want, 0, rule, texts[0]);
    int parts = add_pieces(got, add_pieces(got, 0, rule, texts[1]), rule, texts[2]);
    bool same = texts[1].size + texts[2].size == texts[0].size &&
                !memcmp(texts[0].data, texts[1].data, texts[1].size) &&
                !memcmp(texts[0].data + texts[1].size, texts[2].data, texts[2].size);
    same = same && n == parts && !memcmp(want, got, (size_t)n * sizeof *want);
    for (int i = 0; i < 3; i++)
        eq_free(owned[i]);
    return same;
}

/* Random texts of what could join over a border. */
static void slices_of_a_text(void **state)
{
    (void)state;
    static const char *const parts[] = {"a",    "He", "'s", "'",   " ", "  ", "\n",
                                        "\r\n", "\t", ".",  "!\n", "1", "23", "é",
                                        "́",     " ",  "日", "　",  "ÿ", "é",  "̈"};
    static const char *const names[] = {"gpt2", "smollm", "qwen2"};
    enum { PARTS = sizeof parts / sizeof *parts, TEXTS = 20000 };
    int64_t cuts = 0, wrong = 0;
    eq_rng rng;
    eq_rng_init(&rng, 3, 0);
    for (int i = 0; i < TEXTS; i++) {
        char text[256] = "";
        for (int k = 0; k < 40; k++)
            strcat(text, parts[eq_rng_below(&rng, PARTS)]);
        const eq_text whole = {text, strlen(text)};
        const size_t least = eq_rng_below(&rng, 40), cut = eq_text_slice(whole, least);
        assert_true(cut >= least && cut > 0 && cut <= whole.size);
        const eq_pretokenizer *rule = eq_pretokenizer_find(names[i % 3]);
        assert_true(is_border(rule, whole, cut, i % 2));
        if (cut == whole.size) continue;
        cuts++;
        wrong += !is_border(rule, whole, cut + 1, i % 2); /* not one where a space is cut off */
    }
    assert_in_range(cuts, TEXTS / 2, TEXTS);
    assert_in_range(wrong, cuts / 4, cuts);
    assert_int_equal(eq_text_slice((eq_text){"ab cd", 5}, 0), 2);
    assert_int_equal(eq_text_slice((eq_text){"ab cd", 5}, 2), 2);
    assert_int_equal(eq_text_slice((eq_text){"ab cd", 5}, 3), 5);
    assert_int_equal(eq_text_slice((eq_text){"12 3", 4}, 0), 2);
    assert_int_equal(eq_text_slice((eq_text){"\u0434\u0430 \u0434", 7}, 0), 4);
    assert_int_equal(eq_text_slice((eq_text){". .", 3}, 0), 3);
    assert_int_equal(eq_text_slice((eq_text){"ab", 2}, 9), 2);
    assert_int_equal(eq_text_slice((eq_text){"", 0}, 0), 0);
}

static bool count_calls(void *user)
{
    ++*(int *)user;
    return false;
}

/* A text of several slices has the ids of the whole, bos once; the first windows need the first
 * slice, which is told from how often the caller is asked whether to stop. */
static void a_text_in_slices(void **state)
{
    (void)state;
    enum { SIZE = 3 << 20 };
    static const char *const parts[] = {"hello", " hello", "12", " ", "\n", "he", "<|end|>", "  "};
    char *text = malloc(SIZE + 16);
    assert_non_null(text);
    eq_rng rng;
    eq_rng_init(&rng, 3, 0);
    size_t size = 0;
    while (size < SIZE)
        size += (size_t)sprintf(text + size, "%s", parts[eq_rng_below(&rng, 8)]);
    memset(text + (1 << 20) - 10, '1', 300000); /* nowhere to cut */
    use_file("a.txt", text);
    small.vocab.add_bos = true;
    eq_tokenizer_free(tok);
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &tok, &small.vocab), EQ_OK);
    source.tok = tok;
    int32_t *ids = NULL;
    int64_t count = 0;
    assert_int_equal(eq_tokenizer_encode(&ctx, tok, text, size, true, &ids, &count), EQ_OK);
    int calls = 0;
    ctx.callbacks.should_stop = count_calls;
    ctx.callbacks.user = &calls;
    expect_windows(0, 1, ids, count);
    assert_in_range(calls, 3, 4);
    calls = 0;
    expect_windows(100, 100, ids, 10000);
    assert_in_range(calls, 1, 2); /* behind the slice, behind the document */
    eq_free(ids);
    free(text);
}

static void too_few_tokens(void **state)
{
    (void)state;
    use_file("a.txt", "abcdefg");
    source.n = 2;
    source.T = 4;
    expect_failure(EQ_EINVAL, "has 1 windows of 4 tokens, 2 are needed");
    source.n = 0;
    source.T = 8;
    expect_failure(EQ_EINVAL, "has 0 windows of 8 tokens, 1 are needed");
    use_file("empty.txt", "");
    source.T = 1;
    expect_failure(EQ_EINVAL, "has 0 windows of 1 tokens, 1 are needed");
    use_file("empty.jsonl", "\n\n");
    expect_failure(EQ_EINVAL, "has 0 windows of 1 tokens, 1 are needed");
}

static void impossible_sizes(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 0},         {1, -1},        {-1, 1},
                                       {INT64_MAX, 2}, {1, INT64_MAX}, {INT64_MIN, 1}};
    use_file("a.txt", "abcdefg");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        source.n = sizes[i][0];
        source.T = sizes[i][1];
        expect_failure(EQ_EINVAL, "are not possible");
        eq_rng rng;
        eq_token_windows windows;
        eq_rng_init(&rng, 1, 0);
        assert_int_equal(eq_windows_random(&ctx, &windows, &source, 0, &rng), EQ_EINVAL);
    }
}

static void broken_lines(void **state)
{
    (void)state;
    static const char *const lines[] = {"{\"text\": 5}", "{\"texts\": \"\"}", "[\"text\"]",
                                        "{\"text\": null}"};
    source.n = 0;
    source.T = 1;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[128] = "{\"text\": \"a\"}\n\n";
        use_file("a.jsonl", strcat(text, lines[i]));
        expect_failure(EQ_EFORMAT, "line 3: has no string \"text\"");
    }
    use_file("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n");
    expect_failure(EQ_EFORMAT, "line 2: ");
    use_file("a.jsonl", "{\"text\": \"\xff\"}");
    expect_failure(EQ_EFORMAT, "line 1: ");
    use_file("a.jsonl", "{\"text\": \"abc\"}\nnonsense");
    expect_windows(1, 3, (const int32_t[]){'a', 'b', 'c'}, 3); /* nothing is read in vain */
}

static void no_such_file(void **state)
{
    (void)state;
    use_file("a.txt", "a");
    eq_free(path);
    path = eq_path_join(&ctx, folder, "none.jsonl");
    source.path = path;
    source.T = 1;
    expect_failure(EQ_EIO, "cannot open");
}

/* Documents of 1, 8, 4 and 6 letters that are all different. */
static const char LETTERS[] = "{\"text\": \"a\"}\n{\"text\": \"bcdfgijk\"}\n"
                              "{\"text\": \"mnop\"}\n{\"text\": \"qrstuv\"}\n";

/* Windows of 4: only the second and the last document are long enough, they have the same chance,
 * and so has each place in them but the one at the end. */
static void random_windows(void **state)
{
    (void)state;
    enum { DRAWS = 24000 };
    use_file("a.jsonl", LETTERS);
    source.n = DRAWS;
    source.T = 4;
    eq_rng rng;
    eq_rng_init(&rng, 5, 0);
    eq_token_windows windows;
    assert_int_equal(eq_windows_random(&ctx, &windows, &source, 0, &rng), EQ_OK);
    assert_int_equal(windows.n, DRAWS);
    int64_t seen[256] = {0};
    eq_rng same;
    eq_rng_init(&same, 5, 0);
    for (int64_t i = 0; i < DRAWS; i++) {
        const int32_t *w = windows.ids + 4 * i;
        const char *document = w[0] < 'm' ? "bcdfgijk" : "qrstuv";
        const char *drawn = eq_rng_below(&same, 2) ? "qrstuv" : "bcdfgijk";
        assert_int_equal(w[0], drawn[eq_rng_below(&same, strlen(drawn) - 4)]);
        const char *at = strchr(document, w[0]);
        assert_non_null(at);
        for (int k = 0; k < 4; k++)
            assert_int_equal(w[k], at[k]);
        seen[w[0]]++;
    }
    /* 4 places in one document, 2 in the other; five standard deviations */
    for (const char *c = "bcdf"; *c; c++)
        assert_in_range(seen[(int)*c], DRAWS / 8 - 256, DRAWS / 8 + 256);
    for (const char *c = "qr"; *c; c++)
        assert_in_range(seen[(int)*c], DRAWS / 4 - 336, DRAWS / 4 + 336);
    assert_int_equal(seen['g'] + seen['s'], 0);
    eq_token_windows again;
    eq_rng_init(&rng, 5, 0);
    assert_int_equal(eq_windows_random(&ctx, &again, &source, 0, &rng), EQ_OK);
    assert_memory_equal(windows.ids, again.ids, DRAWS * 4 * sizeof *windows.ids);
    eq_windows_deinit(&windows);
    eq_windows_deinit(&again);
}

/* Windows of 4 tokens of a file, the last `tail` for validation. */
static eq_status draw(int64_t n, int64_t tail, eq_token_windows *windows)
{
    eq_rng rng;
    eq_rng_init(&rng, 5, 0);
    source.n = n;
    source.T = 4;
    eq_ctx_clear(&ctx);
    return eq_windows_random(&ctx, windows, &source, tail, &rng);
}

/* Of 26 documents that are long enough the last two are for validation, of five the last one. */
static void random_windows_for_validation(void **state)
{
    (void)state;
    for (int few = 0; few < 2; few++) {
        char text[2048] = "";
        size_t size = 0;
        for (int c = few ? 'V' : 'A'; c <= 'Z'; c++)
            size +=
                (size_t)sprintf(text + size, "{\"text\": \"%c%c%c%c%c%c\"}\n{\"text\": \"ab\"}\n",
                                c, c, c, c, c, c);
        use_file("a.jsonl", text);
        eq_token_windows windows;
        assert_int_equal(draw(1000, 200, &windows), EQ_OK);
        int64_t seen[256][2] = {{0}};
        for (int64_t i = 0; i < 1000; i++)
            seen[windows.ids[4 * i]][i >= 800]++;
        for (int c = few ? 'V' : 'A'; c <= 'Z'; c++) {
            const bool held = c == 'Z' || (c == 'Y' && !few);
            assert_int_equal(seen[c][!held], 0);
            assert_in_range(seen[c][held], 10, 300);
        }
        eq_windows_deinit(&windows);
    }
}

static void random_windows_of_one_document(void **state)
{
    (void)state;
    static const char *const names[] = {"a.txt", "a.json", "a.jsonl"};
    static const char *const texts[] = {"0123456789", "[{\"text\": \"0123456789\"}]",
                                        "{\"text\": \"0123456789\"}\n{\"text\": \"abcd\"}\n"};
    for (int i = 0; i < 3; i++) {
        eq_token_windows windows;
        use_file(names[i], texts[i]);
        assert_int_equal(draw(40, 0, &windows), EQ_OK);
        bool seen[10] = {false};
        for (int64_t w = 0; w < 40; w++) {
            const int32_t first = windows.ids[4 * w] - '0';
            assert_in_range(first, 0, 5);
            seen[first] = true;
            for (int k = 1; k < 4; k++)
                assert_int_equal(windows.ids[4 * w + k], '0' + first + k);
        }
        for (int first = 0; first < 6; first++)
            assert_true(seen[first]);
        eq_windows_deinit(&windows);
        assert_int_equal(draw(40, 1, &windows), EQ_EINVAL);
        assert_null(windows.ids);
        assert_non_null(strstr(ctx.message, names[i]));
        assert_non_null(strstr(ctx.message, "has one document of more than 4 tokens"));
        assert_non_null(strstr(ctx.message, "--val"));
    }
}

static void random_windows_need_a_long_document(void **state)
{
    (void)state;
    use_file("a.jsonl", LETTERS);
    source.n = 3;
    source.T = 8;
    eq_rng rng;
    eq_rng_init(&rng, 5, 0);
    eq_token_windows windows;
    assert_int_equal(eq_windows_random(&ctx, &windows, &source, 0, &rng), EQ_EINVAL);
    assert_null(windows.ids);
    assert_non_null(
        strstr(ctx.message, "the longest of 4 documents has 8 tokens, a window needs 9"));
}

static void windows_from_elsewhere(void **state)
{
    (void)state;
    int32_t ids[] = {0, 1, 2, 3, 4, 9};
    eq_token_windows windows = {.ids = ids, .n = 3, .T = 2};
    assert_int_equal(eq_windows_check(&ctx, &windows, "w.npy", 0, 2, 10), EQ_OK);
    assert_int_equal(windows.n, 3);
    assert_int_equal(eq_windows_check(&ctx, &windows, "w.npy", 0, 2, 9), EQ_EINVAL);
    assert_string_equal(ctx.message, "w.npy: window 2, token 1 is 9, the vocabulary has 9 tokens");
    ids[1] = -1;
    assert_int_equal(eq_windows_check(&ctx, &windows, "w.npy", 2, 2, 10), EQ_EINVAL);
    assert_int_equal(eq_windows_check(&ctx, &windows, "w.npy", 0, 3, 10), EQ_EINVAL);
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_windows_check(&ctx, &windows, "w.npy", 4, 2, 10), EQ_EINVAL);
    assert_string_equal(ctx.message, "w.npy: has 3 windows of 2 tokens, 4 are needed");
    ids[1] = 1;
    assert_int_equal(eq_windows_check(&ctx, &windows, "w.npy", 2, 2, 9), EQ_OK);
    assert_int_equal(windows.n, 2); /* the id that is too large stands behind them */
    windows.n = 0;
    assert_int_equal(eq_windows_check(&ctx, &windows, "w.npy", 0, 2, 9), EQ_EINVAL);
}

static void failing_allocations(void **state)
{
    (void)state;
    use_file("a.jsonl", LETTERS);
    source.n = 2;
    source.T = 4;
    eq_status st = EQ_ENOMEM;
    int64_t n = 0;
    for (n = 1; st == EQ_ENOMEM; n++) {
        eq_rng rng;
        eq_rng_init(&rng, 5, 0);
        eq_token_windows concat = {0}, random = {0};
        eq_ctx_clear(&ctx);
        ctx.allocations = 0;
        ctx.fail_allocation = n;
        st = eq_windows_dialogs(&ctx, &concat, &source, &no_chat);
        if (st == EQ_OK) st = eq_windows_random(&ctx, &random, &source, 0, &rng);
        eq_windows_deinit(&concat);
        eq_windows_deinit(&random);
    }
    ctx.fail_allocation = 0;
    assert_int_equal(st, EQ_OK);
    assert_in_range(n, 8, 100); /* there were allocations to fail */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_text_file_is_one_document, setup, teardown),
        cmocka_unit_test_setup_teardown(documents_of_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(bos_before_each_document, setup, teardown),
        cmocka_unit_test_setup_teardown(slices_of_a_text, setup, teardown),
        cmocka_unit_test_setup_teardown(a_text_in_slices, setup, teardown),
        cmocka_unit_test_setup_teardown(too_few_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(impossible_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(no_such_file, setup, teardown),
        cmocka_unit_test_setup_teardown(random_windows, setup, teardown),
        cmocka_unit_test_setup_teardown(random_windows_for_validation, setup, teardown),
        cmocka_unit_test_setup_teardown(random_windows_of_one_document, setup, teardown),
        cmocka_unit_test_setup_teardown(random_windows_need_a_long_document, setup, teardown),
        cmocka_unit_test_setup_teardown(windows_from_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(failing_allocations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
