/* Windows of instructions, conversations and texts. */
#include "io/dialog_windows.h"

#include "base/file.h"
#include "support_chat.h"
#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static eq_ctx ctx;
static chat_vocab vocab;
static eq_tokenizer *tok;
static eq_chat chat;
static char *folder, *path;
static eq_window_source source;
static eq_dialog_options options;
static eq_token_windows windows;
static char warning[512];

static void keep_warning(void *user, eq_log_level level, const char *line)
{
    (void)user;
    assert_int_equal(level, EQ_LOG_WARNING);
    snprintf(warning, sizeof warning, "%s", line);
}

static void make_tokenizer(void)
{
    eq_chat_deinit(&chat);
    eq_tokenizer_free(tok);
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &tok, &vocab.vocab), EQ_OK);
    assert_int_equal(eq_chat_init(&ctx, &chat, tok, "chatml", "model"), EQ_OK);
    source.tok = tok;
}

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    ctx.callbacks.log = keep_warning;
    warning[0] = 0;
    chat_vocab_init(&vocab, NULL);
    tok = NULL;
    chat = (eq_chat){0};
    folder = folder_make();
    path = eq_path_join(&ctx, folder, "a.jsonl");
    source = (eq_window_source){.path = path, .separator = SMALL_END};
    make_tokenizer();
    options = (eq_dialog_options){.chat = &chat, .source_max = 384, .target_max = 128};
    windows = (eq_token_windows){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    eq_windows_deinit(&windows);
    eq_chat_deinit(&chat);
    eq_tokenizer_free(tok);
    eq_free(path);
    folder_remove(folder);
    return 0;
}

static eq_status make(const char *text, int64_t n, int64_t T)
{
    folder_write(folder, "a.jsonl", text);
    source.n = n;
    source.T = T;
    eq_windows_deinit(&windows);
    eq_ctx_clear(&ctx);
    warning[0] = 0;
    return eq_windows_dialogs(&ctx, &windows, &source, &options);
}

/* Windows of the file's text must be those, each with what counts in braces; NULL ends the list. */
static void expect(const char *text, int64_t n, int64_t T, const char *const *want)
{
    eq_status st = make(text, n, T);
    if (st != EQ_OK) print_error("%s\n", ctx.message);
    assert_int_equal(st, EQ_OK);
    assert_int_equal(windows.T, T);
    assert_non_null(windows.counts);
    int64_t i = 0;
    for (; want[i]; i++) {
        assert_true(i < windows.n);
        eq_marked one = {windows.ids + i * T, windows.counts + i * T, T, T};
        assert_true(marked_is(tok, &one, want[i]));
    }
    assert_int_equal(windows.n, i);
}

#define WINDOWS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The warning about the file must be this one, "" for none. */
static void expect_warning(const char *want)
{
    const char *colon = strstr(warning, "a.jsonl: ");
    assert_string_equal(colon ? colon + strlen("a.jsonl: ") : warning, want);
}

static void expect_failure(const char *text, int64_t n, int64_t T, eq_status status,
                           const char *part)
{
    assert_int_equal(make(text, n, T), status);
    assert_null(windows.ids);
    assert_null(windows.counts);
    if (!strstr(ctx.message, part)) print_error("'%s' lacks '%s'\n", ctx.message, part);
    assert_non_null(strstr(ctx.message, part));
}

static const char DO[] = "{\"instruction\": \"do\", \"output\": \"done\"}\n";
static const char DO_INPUT[] = "{\"instruction\": \"do\", \"input\": \"in\", \"output\": \"x\"}\n";
/* as a chat: */
static const char TALK[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, "
                           "{\"role\": \"assistant\", \"content\": \"yes\"}]}\n";

/* What an instruction without input looks like up to its answer. */
#define PROMPT                                                                                     \
    "This is a task. Answer with what it asks for.\n\n### Instruction:\ndo\n\n### Response:\n"

/* Of 26 tokens, and what fills the rest of a window that begins with it. */
#define A        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{yes<|im_end|>}\n"
#define AGAIN_3  "<|im_start|>us"
#define AGAIN_25 "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>"

static int64_t tokens_of(const char *text)
{
    eq_ids ids = {0};
    assert_int_equal(eq_tokenizer_append(&ctx, tok, text, strlen(text), false, &ids), EQ_OK);
    int64_t count = ids.count;
    eq_free(ids.data);
    return count;
}

static void instructions_with_headings(void **state)
{
    (void)state;
    expect(DO, 0, tokens_of(PROMPT) + 5, WINDOWS(PROMPT "{done<|end|>}"));
    const char *input = "This is a task, and an input that it is about. Answer with what the task "
                        "asks for.\n\n### Instruction:\ndo\n\n### Input:\nin\n\n### Response:\n"
                        "{x<|end|>}";
    expect(DO_INPUT, 0, tokens_of(input) - 2, WINDOWS(input)); /* without the braces */
    vocab.vocab.add_bos = true;
    make_tokenizer();
    expect(DO, 0, tokens_of(PROMPT) + 7, WINDOWS("<|start|>" PROMPT "{done<|end|>}<|start|>"));
}

static void instructions_as_chats(void **state)
{
    (void)state;
    options.style = EQ_DIALOG_CHAT;
    expect(
        DO, 0, 30,
        WINDOWS(
            "<|im_start|>user\ndo<|im_end|>\n<|im_start|>assistant\n{done<|im_end|>}\n" AGAIN_3));
    expect(DO_INPUT, 0, 28,
           WINDOWS("<|im_start|>user\ndo\n\nin<|im_end|>\n<|im_start|>assistant\n"
                   "{x<|im_end|>}\n"));
}

/* Prompts are cut before the heading of the answer, answers at their end. */
static void long_instructions(void **state)
{
    (void)state;
    options.source_max = tokens_of(PROMPT) - 3;
    options.target_max = 3;
    const char *cut = "This is a task. Answer with what it asks for.\n\n### Instruction:"
                      "\n\n### Response:\n{don}";
    expect(DO, 0, options.source_max + 3, WINDOWS(cut));
    expect_warning("of 1 examples: 1 prompts cut (--source-max); 1 answers cut (--target-max)");
    options.target_max = 5; /* with its end */
    cut = "This is a task. Answer with what it asks for.\n\n### Instruction:"
          "\n\n### Response:\n{done<|end|>}";
    expect(DO, 0, options.source_max + 5, WINDOWS(cut));
    expect_warning("of 1 examples: 1 prompts cut (--source-max)");
    options.source_max = 4; /* no room for the heading */
    expect(DO, 0, 9, WINDOWS("This{done<|end|>}"));
    options.source_max = options.target_max = 0;
    expect(DO, 0, tokens_of(PROMPT) + 5, WINDOWS(PROMPT "{done<|end|>}"));
    expect_warning("");
}

static void long_instructions_as_chats(void **state)
{
    (void)state;
    options.style = EQ_DIALOG_CHAT;
    options.source_max = 1;
    options.target_max = 3;
    expect(DO, 0, 26,
           WINDOWS("<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n{don}" AGAIN_3));
    expect_warning("of 1 examples: 1 prompts cut (--source-max); 1 answers cut (--target-max)");
    options.source_max = 4; /* within a character: it goes whole */
    expect("{\"instruction\": \"abc\u65e5\", \"output\": \"x\"}", 0, 25,
           WINDOWS("<|im_start|>user\nabc<|im_end|>\n<|im_start|>assistant\n{x<|im_end|>}\n"));
    expect_warning("of 1 examples: 1 prompts cut (--source-max)");
    options.target_max = 5; /* the answer and its end, so only what stands behind it is cut */
    expect(DO, 0, 26,
           WINDOWS("<|im_start|>user\ndo<|im_end|>\n<|im_start|>assistant\n{done<|im_end|>}"));
    expect_warning("");
}

/* Data sets have instructions that nobody answered. */
static void empty_outputs(void **state)
{
    (void)state;
    char text[1024];
    snprintf(text, sizeof text, "%s%s%s%s", "{\"instruction\": \"a\", \"output\": \"\"}\n", DO,
             TALK, "{\"instruction\": \"\", \"output\": \"b\"}\n");
    for (int style = 0; style < 2; style++) {
        options.style = style ? EQ_DIALOG_CHAT : EQ_DIALOG_ALPACA;
        assert_int_equal(make(text, 1, style ? 53 : tokens_of(PROMPT) + 5 + 26), EQ_OK);
        expect_warning("of 3 examples: 1 left out, the output is empty");
    }
    expect_failure(text, 3, 53, EQ_EFORMAT, "line 4: \"instruction\" is empty");
}

static void conversations(void **state)
{
    (void)state;
    expect(TALK, 0, 29, WINDOWS(A AGAIN_3));
    options.source_max = options.target_max = 1; /* not for conversations */
    expect(TALK, 0, 29, WINDOWS(A AGAIN_3));
}

static void examples_are_packed(void **state)
{
    (void)state;
    char text[2048];
    snprintf(text, sizeof text, "%s%s\n%s", TALK, TALK, TALK);
    expect(text, 0, 53, WINDOWS(A A "<|im_start|>", A AGAIN_25 "\n<|im_start|>"));
    expect(text, 0, 52, WINDOWS(A A, A AGAIN_25 "\n"));
    expect(text, 0, 51, WINDOWS(A AGAIN_25, A AGAIN_25, A AGAIN_25));
    expect(text, 0, 26, WINDOWS(A, A, A));
    expect(text, 1, 52, WINDOWS(A A));
    expect(text, 2, 26, WINDOWS(A, A));
    expect_warning("");
}

static void examples_longer_than_a_window(void **state)
{
    (void)state;
    expect(TALK, 0, 22, WINDOWS("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{y}"));
    expect_warning("of 1 examples: 1 cut to the length of a window (--seqlen)");
    char text[1024];
    snprintf(text, sizeof text, "%s%s", TALK,
             "{\"conversation\": [{\"from\": \"human\", \"value\": \"a long message for this\"}, "
             "{\"from\": \"gpt\", \"value\": \"no\"}]}\n");
    expect(text, 0, 26, WINDOWS(A)); /* the second one keeps no answer */
    expect_warning(
        "of 2 examples: 1 cut to the length of a window (--seqlen); 1 left out, no answer "
        "was left in the window");
    expect_failure(TALK, 0, 21, EQ_EINVAL, "has 0 windows of 21 tokens, 1 are needed");
}

static void kinds_of_one_file(void **state)
{
    (void)state;
    char text[2048];
    snprintf(text, sizeof text, "{\"text\": \"0123456789\"}\n%s%s%s", TALK,
             "{\"text\": \"abcdefghijklmno\"}\n", TALK);
    expect(text, 0, 26, WINDOWS(A, "{0123456789<|end|>abcdefghijklmno}", A));
    expect(text, 2, 26, WINDOWS(A, "{0123456789<|end|>abcdefghijklmno}"));
}

static void broken_files(void **state)
{
    (void)state;
    char text[1024];
    snprintf(text, sizeof text, "%s\n{\"messages\": 5}\n", TALK);
    expect_failure(text, 0, 26, EQ_EFORMAT, "a.jsonl: line 3: the conversation is not a list");
    expect(text, 1, 26, WINDOWS(A)); /* nothing is read in vain */
    expect_failure(text, 2, 26, EQ_EFORMAT, "line 3");
    expect_failure("{\"text\": \"a\"", 0, 26, EQ_EFORMAT, "line 1: ");
    expect_failure("", 0, 26, EQ_EINVAL, "has 0 windows of 26 tokens, 1 are needed");
    expect_failure(TALK, 2, 26, EQ_EINVAL, "a.jsonl: has 1 windows of 26 tokens, 2 are needed");
    expect_failure(TALK, 1, 0, EQ_EINVAL, "are not possible");
    expect_failure(TALK, INT64_MAX, 2, EQ_EINVAL, "are not possible");
    options.target_max = -1;
    expect_failure(TALK, 1, 26, EQ_EINVAL, "answers of -1 are not possible");
}

static void no_chat_format(void **state)
{
    (void)state;
    eq_chat none;
    assert_int_equal(eq_chat_init(&ctx, &none, tok, NULL, "m.gguf"), EQ_OK);
    options.chat = &none;
    expect_failure(TALK, 0, 26, EQ_EINVAL,
                   "a.jsonl: line 1: needs a chat format: m.gguf has no chat template; name its "
                   "format with --chat-format");
    options.chat = NULL;
    expect_failure(TALK, 0, 26, EQ_EINVAL,
                   "line 1: needs a chat format: name one with "
                   "--chat-format");
    options.style = EQ_DIALOG_CHAT;
    expect_failure(DO, 0, 26, EQ_EINVAL, "line 1: needs a chat format");
    options.style = EQ_DIALOG_ALPACA;
    assert_int_equal(make(DO, 0, 128), EQ_OK); /* needs none */
    vocab.vocab.eos = -1;
    make_tokenizer();
    expect_failure(DO, 0, 128, EQ_EINVAL, "line 1: the model has no eos token");
}

/* A text longer than buffers begin with, and one window larger than everything. */
static void huge_lines(void **state)
{
    (void)state;
    enum { N = 300000 };
    char *text = malloc(N + 256);
    assert_non_null(text);
    size_t size = (size_t)sprintf(text, "{\"instruction\": \"");
    memset(text + size, 'a', N);
    sprintf(text + size + N, "\", \"output\": \"x\"}");
    assert_int_equal(make(text, 0, 386), EQ_OK); /* 384 of the prompt, x, its end */
    assert_int_equal(windows.n, 1);
    assert_int_equal(windows.ids[385], SMALL_END);
    assert_int_equal(windows.counts[384] + windows.counts[385], 2);
    free(text);
    assert_int_equal(make(TALK, 0, 1000000), EQ_OK);
    assert_int_equal(windows.n, 1);
    for (int i = 26; i < 1000000; i++)
        assert_true(windows.ids[i] == windows.ids[i % 26] && !windows.counts[i]);
}

static void failing_allocations(void **state)
{
    (void)state;
    char text[1024];
    snprintf(text, sizeof text, "%s%s{\"text\": \"0123456789\"}\n%s", TALK, DO_INPUT, TALK);
    options.style = EQ_DIALOG_CHAT;
    options.source_max = 2;
    eq_status st = EQ_ENOMEM;
    int64_t n = 0;
    for (n = 1; st == EQ_ENOMEM; n++) {
        ctx.allocations = 0;
        ctx.fail_allocation = n;
        st = make(text, 0, 24);
    }
    ctx.fail_allocation = 0;
    assert_int_equal(st, EQ_OK);
    assert_in_range(n, 15, 200); /* there were allocations to fail */
}

static void real_model(void **state)
{
    (void)state;
    const char *model = "models/smollm2-135m-instruct.gguf";
    if (!eq_file_exists(model)) {
        print_message("skipped: %s is absent (make model)\n", model);
        skip();
    }
    eq_gguf *file = NULL;
    eq_chat_deinit(&chat);
    eq_tokenizer_free(tok);
    assert_int_equal(eq_gguf_open(&ctx, &file, model), EQ_OK);
    assert_int_equal(eq_tokenizer_from_gguf(&ctx, &tok, file), EQ_OK);
    eq_gguf_close(file);
    assert_int_equal(eq_chat_init(&ctx, &chat, tok, NULL, model), EQ_OK);
    source.tok = tok;
    expect(TALK, 0, 35,
           WINDOWS("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                   "Hugging Face<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
                   "<|im_start|>assistant\n{yes<|im_end|>}\n<|im_start|>"));
    expect(DO, 0, 29, WINDOWS(PROMPT "{done<|im_end|>}This is"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(instructions_with_headings, setup, teardown),
        cmocka_unit_test_setup_teardown(instructions_as_chats, setup, teardown),
        cmocka_unit_test_setup_teardown(long_instructions, setup, teardown),
        cmocka_unit_test_setup_teardown(long_instructions_as_chats, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_outputs, setup, teardown),
        cmocka_unit_test_setup_teardown(conversations, setup, teardown),
        cmocka_unit_test_setup_teardown(examples_are_packed, setup, teardown),
        cmocka_unit_test_setup_teardown(examples_longer_than_a_window, setup, teardown),
        cmocka_unit_test_setup_teardown(kinds_of_one_file, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_files, setup, teardown),
        cmocka_unit_test_setup_teardown(no_chat_format, setup, teardown),
        cmocka_unit_test_setup_teardown(huge_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(failing_allocations, setup, teardown),
        cmocka_unit_test_setup_teardown(real_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
