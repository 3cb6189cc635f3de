/* Data from several files. */
#include "io/mix.h"

#include "base/file.h"
#include "support_files.h"
#include "support_vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static eq_ctx ctx;
static eq_mix mix;

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    mix = (eq_mix){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    eq_mix_deinit(&mix);
    return 0;
}

static void parse(const char *spec)
{
    assert_int_equal(eq_mix_parse(&ctx, &mix, spec), EQ_OK);
}

static void expect_source(int64_t i, const char *path, double weight)
{
    assert_true(i < mix.n);
    assert_string_equal(mix.sources[i].path, path);
    assert_true(mix.sources[i].weight == weight);
}

static void specs(void **state)
{
    (void)state;
    parse("a.jsonl:0.7,b.jsonl:0.3");
    parse("c.jsonl");
    parse("/x y/d:2e1,e:+.5");
    assert_int_equal(mix.n, 5);
    expect_source(0, "a.jsonl", 0.7);
    expect_source(1, "b.jsonl", 0.3);
    expect_source(2, "c.jsonl", 1);
    expect_source(3, "/x y/d", 20);
    expect_source(4, "e", 0.5);
}

/* A colon without a number behind it is a part of the path. */
static void paths_with_colons(void **state)
{
    (void)state;
    static const char *const paths[] = {"a:",   "a:b",  "a:1b", "a:nan", "a:inf", "a:0x1",  "a:1:b",
                                        "a: 1", "a:1e", "a:.",  "a:1,5", "a:--1", "a:1.2.3"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        bool comma = strchr(paths[i], ',') != NULL;
        parse(paths[i]);
        expect_source(0, comma ? "a" : paths[i], 1);
        if (comma) expect_source(1, "5", 1);
        eq_mix_deinit(&mix);
    }
    parse("a:b:2,a:3:4");
    expect_source(0, "a:b", 2);
    expect_source(1, "a:3", 4);
}

static void broken_specs(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"", "a path of the mix is empty"},
                                           {"a,", "a path of the mix is empty"},
                                           {"a,,b", "a path of the mix is empty"},
                                           {":2", "a path of the mix is empty"},
                                           {"a:0", "a:0: the weight must be above 0"},
                                           {"b,a:-1", "a:-1: the weight must be above 0"},
                                           {"a:1e999", "a:1e999: the weight must be above 0 and"},
                                           {"a:1,b,a:2", "a: is named twice"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        eq_ctx_clear(&ctx);
        assert_int_equal(eq_mix_parse(&ctx, &mix, cases[i][0]), EQ_EINVAL);
        if (!strstr(ctx.message, cases[i][1])) print_error("%s\n", ctx.message);
        assert_non_null(strstr(ctx.message, cases[i][1]));
        eq_mix_deinit(&mix);
    }
}

static void expect_owners(const char *spec, const char *want)
{
    int32_t owner[64];
    int64_t counts[8], seen[8] = {0}, n = (int64_t)strlen(want);
    eq_mix_deinit(&mix);
    parse(spec);
    eq_mix_assign(&mix, n, owner, counts);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(owner[i], want[i] - 'a');
        seen[owner[i]]++;
    }
    for (int64_t k = 0; k < mix.n; k++)
        assert_int_equal(counts[k], seen[k]);
}

/* Worked out by hand from the rule. */
static void owners_of_windows(void **state)
{
    (void)state;
    expect_owners("x:1,y:1", "abababab");
    expect_owners("x:0.7,y:0.3", "abaa");
    expect_owners("x:1,y:3", "babbbabb");
    expect_owners("x,y,z", "abcabc");
    expect_owners("x:1e300,y:1e300,z:1e-300", "ababab");
    expect_owners("x", "aaaa");
}

/* Every beginning has the shares of the whole. */
static void shares_of_every_beginning(void **state)
{
    (void)state;
    enum { N = 1000 };
    int32_t owner[N];
    int64_t counts[3], so_far[3] = {0};
    parse("x:5,y:3.5,z:1.5");
    eq_mix_assign(&mix, N, owner, counts);
    for (int i = 0; i < N; i++) {
        so_far[owner[i]]++;
        for (int k = 0; k < 3; k++) {
            double off = mix.sources[k].weight / 10 * (i + 1) - (double)so_far[k];
            assert_true(off < 1 && off > -1);
        }
    }
    assert_int_equal(counts[0], 500);
    assert_int_equal(counts[1], 350);
    assert_int_equal(counts[2], 150);
}

/* ---- windows of files ---------------------------------------------------------------------- */

static small_vocab small;
static eq_tokenizer *tok;
static char *folder, *a, *b;
static eq_window_source like;
static eq_dialog_options options;
static eq_token_windows windows;

static int setup_files(void **state)
{
    setup(state);
    small_vocab_init(&small);
    folder = folder_make();
    a = eq_path_join(&ctx, folder, "a.jsonl");
    b = eq_path_join(&ctx, folder, "b.jsonl");
    folder_write(folder, "a.jsonl", "{\"text\": \"abcdefgi\"}\n");
    folder_write(folder, "b.jsonl", "{\"text\": \"0123456789\"}\n");
    if (eq_tokenizer_from_vocab(&ctx, &tok, &small.vocab) != EQ_OK) return -1;
    like = (eq_window_source){.tok = tok, .separator = -1, .T = 2};
    options = (eq_dialog_options){.style = EQ_DIALOG_ALPACA, .target_max = 128};
    windows = (eq_token_windows){0};
    return 0;
}

static int teardown_files(void **state)
{
    eq_windows_deinit(&windows);
    eq_tokenizer_free(tok);
    eq_free(a);
    eq_free(b);
    folder_remove(folder);
    return teardown(state);
}

static eq_status make(int64_t n, const char *format)
{
    char spec[1024];
    snprintf(spec, sizeof spec, format, a, b);
    eq_mix_deinit(&mix);
    eq_windows_deinit(&windows);
    eq_ctx_clear(&ctx);
    eq_status st = eq_mix_parse(&ctx, &mix, spec);
    like.n = n;
    return st == EQ_OK ? eq_windows_mix(&ctx, &windows, &mix, &like, &options) : st;
}

static void expect(int64_t n, const char *format, const char *want)
{
    assert_int_equal(make(n, format), EQ_OK);
    assert_int_equal(windows.n * windows.T, strlen(want));
    for (size_t i = 0; i < strlen(want); i++)
        assert_int_equal(windows.ids[i], want[i]);
}

static void each_file_in_its_order(void **state)
{
    (void)state;
    expect(6, "%s,%s", "ab01cd23ef45");
    assert_null(windows.counts);
    expect(4, "%s:1,%s:3", "01ab2345");
    expect(3, "%s:1000,%s:1", "abcdef"); /* none of the second file */
    expect(0, "%s", "abcdefgi");
    expect(2, "%s:7", "abcd");
}

static void expect_failure(int64_t n, const char *format, eq_status status, const char *part)
{
    assert_int_equal(make(n, format), status);
    assert_null(windows.ids);
    if (!strstr(ctx.message, part)) print_error("'%s' lacks '%s'\n", ctx.message, part);
    assert_non_null(strstr(ctx.message, part));
}

static void files_that_run_short(void **state)
{
    (void)state;
    expect_failure(10, "%s,%s", EQ_EINVAL, "a.jsonl: has 4 windows of 2 tokens, 5 are needed");
    expect_failure(8, "%s:1,%s:3", EQ_EINVAL, "b.jsonl: has 5 windows of 2 tokens, 6 are needed");
    expect_failure(5, "%s", EQ_EINVAL, "a.jsonl: has 4 windows of 2 tokens, 5 are needed");
    expect_failure(0, "%s,%s", EQ_EINVAL, "and others: how many windows");
    expect_failure(INT64_MAX, "%s,%s", EQ_EINVAL, "are not possible");
    folder_write(folder, "b.jsonl", "{\"text\": 5}");
    expect_failure(2, "%s,%s", EQ_EFORMAT, "b.jsonl: line 1: ");
    expect_failure(2, "%s,%s.none", EQ_EIO, "b.jsonl.none");
    eq_mix_deinit(&mix);
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_windows_mix(&ctx, &windows, &mix, &like, &options), EQ_EINVAL);
    assert_string_equal(ctx.message, "a mix needs a file");
}

/* Marks go with their windows; those of plain text are all set. */
static void marks_of_windows(void **state)
{
    (void)state;
    folder_write(folder, "b.jsonl", "{\"instruction\": \"x\", \"output\": \"y\"}\n");
    options.source_max = 2;
    like.T = 4;
    assert_int_equal(make(2, "%s,%s"), EQ_OK);
    static const uint8_t counts[] = {1, 1, 1, 1, 0, 0, 1, 1};
    static const int32_t ids[] = {'a', 'b', 'c', 'd', 'T', 'h', 'y', SMALL_END};
    assert_non_null(windows.counts);
    assert_memory_equal(windows.counts, counts, sizeof counts);
    assert_memory_equal(windows.ids, ids, sizeof ids);
}

static void failing_allocations(void **state)
{
    (void)state;
    eq_status st = EQ_ENOMEM;
    int64_t n = 0;
    for (n = 1; st == EQ_ENOMEM; n++) {
        ctx.allocations = 0;
        ctx.fail_allocation = n;
        st = make(6, "%s,%s");
    }
    ctx.fail_allocation = 0;
    assert_int_equal(st, EQ_OK);
    assert_in_range(n, 15, 200); /* there were allocations to fail */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(specs, setup, teardown),
        cmocka_unit_test_setup_teardown(paths_with_colons, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_specs, setup, teardown),
        cmocka_unit_test_setup_teardown(owners_of_windows, setup, teardown),
        cmocka_unit_test_setup_teardown(shares_of_every_beginning, setup, teardown),
        cmocka_unit_test_setup_teardown(each_file_in_its_order, setup_files, teardown_files),
        cmocka_unit_test_setup_teardown(files_that_run_short, setup_files, teardown_files),
        cmocka_unit_test_setup_teardown(marks_of_windows, setup_files, teardown_files),
        cmocka_unit_test_setup_teardown(failing_allocations, setup_files, teardown_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
