/* Lines of training data, sound ones and broken ones. */
#include "io/dialog.h"

#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static eq_ctx ctx;
static char *folder, *path;
static eq_lines lines;
static eq_sample sample;

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    folder = folder_make();
    path = eq_path_join(&ctx, folder, "a.jsonl");
    lines = (eq_lines){0};
    sample = (eq_sample){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    eq_lines_close(&lines);
    eq_sample_deinit(&sample);
    eq_free(path);
    folder_remove(folder);
    return 0;
}

/* Make a file with another name the one that is read. */
static eq_status open_file(const char *name, const char *text)
{
    eq_lines_close(&lines);
    eq_free(path);
    path = eq_path_join(&ctx, folder, name);
    folder_write(folder, name, text);
    eq_ctx_clear(&ctx);
    return eq_lines_open(&ctx, &lines, path);
}

/* Read the one line of a file. */
static eq_status read_line(const char *text)
{
    bool more = false;
    folder_write(folder, "a.jsonl", text);
    eq_lines_close(&lines);
    assert_int_equal(eq_lines_open(&ctx, &lines, path), EQ_OK);
    eq_status st = eq_lines_next(&lines, &more);
    if (st != EQ_OK) return st;
    assert_true(more);
    return eq_sample_read(&sample, &lines);
}

static void expect_text(eq_text got, const char *want, size_t n)
{
    assert_int_equal(got.size, n);
    assert_memory_equal(got.data, want, n);
}

static void expect_message(int64_t i, eq_role role, const char *content)
{
    assert_true(i < sample.n);
    assert_int_equal(sample.messages[i].role, role);
    expect_text(sample.messages[i].content, content, strlen(content));
}

static void texts(void **state)
{
    (void)state;
    assert_int_equal(read_line("{\"id\": 1, \"text\": \"a\\u0000b\"}"), EQ_OK);
    assert_int_equal(sample.kind, EQ_SAMPLE_TEXT);
    expect_text(sample.text, "a\0b", 3);
    assert_int_equal(read_line("{\"text\": \"\"}"), EQ_OK);
    expect_text(sample.text, "", 0);
    assert_int_equal(read_line("{\"id\": 18446744073709551615, \"text\": \"a\"}"), EQ_OK);
}

static void a_whole_file(void **state)
{
    (void)state;
    bool more = false;
    assert_int_equal(open_file("a.txt", "{\"text\": 1}"), EQ_OK);
    assert_int_equal(eq_lines_next(&lines, &more), EQ_OK);
    assert_int_equal(eq_sample_read(&sample, &lines), EQ_OK);
    assert_int_equal(sample.kind, EQ_SAMPLE_TEXT);
    expect_text(sample.text, "{\"text\": 1}", 11);
}

/* Read a .json file to its end; gives the number of texts in it. */
static eq_status read_list(const char *text, int *count)
{
    bool more = true;
    *count = 0;
    eq_status st = open_file("a.json", text);
    while (st == EQ_OK) {
        st = eq_lines_next(&lines, &more);
        if (st != EQ_OK || !more) break;
        st = eq_sample_read(&sample, &lines);
        *count += st == EQ_OK && sample.kind == EQ_SAMPLE_TEXT;
    }
    return st;
}

static void lists(void **state)
{
    (void)state;
    static const char *const sound[] = {
        "[]", " [\n]\r\n", "[{\"text\": \"a\"}]",
        "\n[ {\"text\": \"]\"} ,{\"text\": \"[\", \"n\": 18446744073709551615}\n]\t"};
    static const int counts[] = {0, 0, 1, 2};
    int count = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(read_list(sound[i], &count), EQ_OK);
        assert_int_equal(count, counts[i]);
    }
    const char *whole = sound[3]; /* cut at any byte it is no list */
    for (size_t n = 0; n + 1 < strlen(whole); n++) {
        char cut[128] = "";
        memcpy(cut, whole, n);
        assert_int_equal(read_list(cut, &count), EQ_EFORMAT);
    }
}

static void broken_lists(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"text\": \"a\"}\n{\"text\": \"b\"}\n",
         "a.json: is no JSON list of objects; an object on"},
        {"[[]]", "a.json: entry 1: has no string \"text\""},
        {"[{\"text\": \"a\"}, {\"text\": \"b\"}, {\"messages\": 5}]",
         "a.json: entry 3: the conversation is not a list"},
        {"[{\"text\": \"a\"}, 5]", "a.json: entry 2: "},
        {"[{\"text\": \"a\"},]", "a.json: entry 2: "},
        {"[{\"text\": \"a\"}{\"text\": \"b\"}]",
         "a.json: entry 1: neither another entry nor the end"},
        {"[{\"text\": \"a\"}],", "a.json: entry 1: there is more behind the list"},
        {"[]5", "there is more behind the list"},
    };
    int count = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(read_list(cases[i][0], &count), EQ_EFORMAT);
        if (!strstr(ctx.message, cases[i][1])) print_error("%s\n", ctx.message);
        assert_non_null(strstr(ctx.message, cases[i][1]));
    }
}

static void files_that_are_no_text(void **state)
{
    (void)state;
    static const char *const names[] = {"a.parquet",   "a.arrow",     "a.json.gz",
                                        "a.jsonl.zst", "a.jsonl.zip", "a.npy"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(open_file(names[i], "a"), EQ_EFORMAT);
        assert_non_null(strstr(ctx.message, names[i]));
        assert_non_null(strstr(ctx.message, "is no text; what is read here is text, .jsonl"));
    }
    assert_int_equal(open_file("parquet", "a"), EQ_OK);
}

static void instructions(void **state)
{
    (void)state;
    static const char *const without[] = {"", ", \"input\": \"\"", ", \"input\": null"};
    char text[256];
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, "{\"instruction\": \"do\"%s, \"output\": \"done\"}",
                 without[i]);
        assert_int_equal(read_line(text), EQ_OK);
        assert_int_equal(sample.kind, EQ_SAMPLE_INSTRUCTION);
        expect_text(sample.instruction, "do", 2);
        expect_text(sample.output, "done", 4);
        assert_int_equal(sample.input.size, 0);
    }
    assert_int_equal(read_line("{\"text\": \"all\", \"output\": \"done\", \"input\": \"in\", "
                               "\"instruction\": \"do\"}"),
                     EQ_OK);
    assert_int_equal(sample.kind, EQ_SAMPLE_INSTRUCTION);
    expect_text(sample.input, "in", 2);
    assert_int_equal(read_line("{\"instruction\": \"do\", \"output\": \"\"}"), EQ_OK);
    expect_text(sample.output, "", 0);
}

static void conversations(void **state)
{
    (void)state;
    static const char *const same[] = {
        "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
        "\"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}",
        "{\"conversations\": [{\"from\": \"system\", \"value\": \"s\"}, {\"from\": \"human\", "
        "\"value\": \"u\"}, {\"from\": \"gpt\", \"value\": \"a\", \"weight\": 0}], \"text\": 1}",
        "{\"instruction\": 1, \"conversation\": [{\"role\": \"system\", \"content\": \"s\"}, "
        "{\"from\": \"user\", \"value\": \"u\"}, {\"role\": \"gpt\", \"content\": \"a\"}]}"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(read_line(same[i]), EQ_OK);
        assert_int_equal(sample.kind, EQ_SAMPLE_CONVERSATION);
        assert_int_equal(sample.n, 3);
        expect_message(0, EQ_ROLE_SYSTEM, "s");
        expect_message(1, EQ_ROLE_USER, "u");
        expect_message(2, EQ_ROLE_ASSISTANT, "a");
    }
    assert_int_equal(read_line("{\"messages\": [{\"role\": \"user\", \"content\": \"1\"}, "
                               "{\"role\": \"assistant\", \"content\": \"2\"}, "
                               "{\"role\": \"user\", \"content\": \"3\"}, "
                               "{\"role\": \"assistant\", \"content\": \"4\"}, "
                               "{\"role\": \"user\", \"content\": \"5\"}]}"),
                     EQ_OK);
    assert_int_equal(sample.n, 5);
    expect_message(4, EQ_ROLE_USER, "5");
    assert_int_equal(read_line("{\"messages\": [{\"role\": \"system\", \"content\": \"\"}, "
                               "{\"role\": \"user\", \"content\": \"\\u0000\"}, "
                               "{\"role\": \"assistant\", \"content\": \" \"}]}"),
                     EQ_OK);
    expect_text(sample.messages[1].content, "\0", 1);
}

/* A broken line stands behind a good one and an empty one: file and line are named. */
static void expect_refused(const char *line, const char *part)
{
    bool more = false;
    char *text = eq_format(&ctx, "{\"text\": \"\"}\n\n%s\n", line);
    folder_write(folder, "a.jsonl", text);
    eq_free(text);
    eq_lines_close(&lines);
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_lines_open(&ctx, &lines, path), EQ_OK);
    assert_int_equal(eq_lines_next(&lines, &more), EQ_OK);
    eq_status st = eq_lines_next(&lines, &more);
    if (st == EQ_OK) st = eq_sample_read(&sample, &lines);
    if (st != EQ_EFORMAT) print_error("accepted: %s\n", line);
    assert_int_equal(st, EQ_EFORMAT);
    char *want = eq_format(&ctx, "%s: line 3: %s", path, part);
    if (strncmp(ctx.message, want, strlen(want)) != 0)
        print_error("'%s' does not begin with '%s'\n", ctx.message, want);
    assert_memory_equal(ctx.message, want, strlen(want));
    eq_free(want);
}

static void broken_lines(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"text\": \"a\"", ""},
        {"{\"text\": \"a\", \"text\": \"b\"}", ""},
        {"[]", "has no string \"text\", no \"instruction\" and no"},
        {"5", ""}, /* some versions of jansson refuse a bare number */
        {"{}", "has no string \"text\""},
        {"{\"text\": null}", "has no string \"text\""},
        {"{\"messages\": null, \"instruction\": null}", "has no string \"text\""},
        {"{\"Messages\": []}", "has no string \"text\""},
        {"{\"instruction\": 5, \"output\": \"a\"}", "\"instruction\" is not a string"},
        {"{\"instruction\": \"\", \"output\": \"a\"}", "\"instruction\" is empty"},
        {"{\"instruction\": \"a\", \"output\": []}", "\"output\" is not a string"},
        {"{\"instruction\": \"a\", \"text\": \"b\"}", "\"output\" is missing"},
        {"{\"instruction\": \"a\", \"input\": 5, \"output\": \"b\"}", "\"input\" is not a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(cases[i][0], cases[i][1]);
}

#define USER      "{\"role\": \"user\", \"content\": \"a\"}"
#define ASSISTANT "{\"from\": \"gpt\", \"value\": \"b\"}"
#define SYSTEM    "{\"role\": \"system\", \"content\": \"c\"}"

static void broken_conversations(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"messages\": \"a\"}", "the conversation is not a list"},
        {"{\"messages\": {}}", "the conversation is not a list"},
        {"{\"conversation\": []}", "the conversation is empty"},
        {"{\"messages\": [5]}", "message 1 is not an object"},
        {"{\"messages\": [" USER ", [\"b\"]]}", "message 2 is not an object"},
        {"{\"messages\": [{\"content\": \"a\"}]}", "message 1 has no string \"role\" or \"from\""},
        {"{\"messages\": [{\"role\": 1, \"content\": \"a\"}]}", "message 1 has no string \"role\""},
        {"{\"messages\": [{\"role\": \"tool\", \"content\": \"a\"}]}", "message 1 is of no role"},
        {"{\"messages\": [{\"role\": \"user\\u0000\", \"content\": \"a\"}]}",
         "message 1 is of no role"},
        {"{\"messages\": [{\"role\": \"user\", \"value\": \"a\"}]}",
         "message 1 has no string \"content\""},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"a\"}]}]}",
         "message 1 has no string \"content\""},
        {"{\"messages\": [" USER ", {\"role\": \"assistant\", \"content\": \"\"}]}",
         "message 2 is empty"},
        {"{\"messages\": [" ASSISTANT "]}", "message 1 should be the user's"},
        {"{\"messages\": [" USER ", " USER "]}", "message 2 should be the assistant's"},
        {"{\"messages\": [" USER ", " ASSISTANT ", " SYSTEM "]}", "message 3 should be the user's"},
        {"{\"messages\": [" SYSTEM "]}", "message 2 should be the user's"},
        {"{\"messages\": [" SYSTEM ", " ASSISTANT "]}", "message 2 should be the user's"},
        {"{\"messages\": [" USER "]}", "the conversation has no answer"},
        {"{\"messages\": [" SYSTEM ", " USER "]}", "the conversation has no answer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(cases[i][0], cases[i][1]);
}

/* A good line cut at any byte is refused and read past nothing. */
static void lines_cut_short(void **state)
{
    (void)state;
    const char *whole = "{\"messages\": [" SYSTEM ", " USER ", " ASSISTANT "], \"x\": [1, 2.5e3]}";
    char cut[512];
    assert_int_equal(read_line(whole), EQ_OK);
    for (size_t n = 1; n < strlen(whole); n++) {
        memcpy(cut, whole, n);
        cut[n] = 0;
        eq_ctx_clear(&ctx);
        assert_int_equal(read_line(cut), EQ_EFORMAT);
    }
}

static void many_messages(void **state)
{
    (void)state;
    enum { N = 5000 };
    size_t room = N * (sizeof USER + sizeof ASSISTANT) + 64, size = 0;
    char *text = malloc(room);
    assert_non_null(text);
    size += (size_t)snprintf(text, room, "{\"messages\": [");
    for (int i = 0; i < N; i++)
        size += (size_t)snprintf(text + size, room - size, "%s%s", i ? "," : "",
                                 i % 2 ? ASSISTANT : USER);
    snprintf(text + size, room - size, "]}");
    assert_int_equal(read_line(text), EQ_OK);
    assert_int_equal(sample.n, N);
    expect_message(N - 1, EQ_ROLE_ASSISTANT, "b");
    free(text);
    char *deep = malloc(200001); /* nesting without end */
    assert_non_null(deep);
    memset(deep, '[', 200000);
    deep[200000] = 0;
    assert_int_equal(read_line(deep), EQ_EFORMAT);
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(texts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_whole_file, setup, teardown),
        cmocka_unit_test_setup_teardown(lists, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(files_that_are_no_text, setup, teardown),
        cmocka_unit_test_setup_teardown(instructions, setup, teardown),
        cmocka_unit_test_setup_teardown(conversations, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_conversations, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_cut_short, setup, teardown),
        cmocka_unit_test_setup_teardown(many_messages, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
