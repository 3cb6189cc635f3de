/* Tokenizers from GGUF metadata: a file made here, and the real model if it is there. */
#include "io/tokenizer.h"
#include "support_files.h"
#include "support_vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KIND_U32 = 4, KIND_I32 = 5, KIND_BOOL = 7, KIND_STRING = 8, KIND_ARRAY = 9 };

/* A metadata block being written. */
typedef struct metadata {
    char bytes[1 << 16];
    size_t size;
    uint64_t pairs;
} metadata;

static eq_ctx ctx;
static small_vocab small;
static char *folder;

static void put(metadata *m, const void *data, size_t size)
{
    assert_true(m->size + size <= sizeof m->bytes);
    memcpy(m->bytes + m->size, data, size);
    m->size += size;
}

static void put_text(metadata *m, const char *text, size_t size)
{
    uint64_t n = size;
    put(m, &n, sizeof n);
    put(m, text, size);
}

static void put_key(metadata *m, const char *key, uint32_t kind)
{
    put_text(m, key, strlen(key));
    put(m, &kind, sizeof kind);
    m->pairs++;
}

static void put_string(metadata *m, const char *key, const char *value)
{
    put_key(m, key, KIND_STRING);
    put_text(m, value, strlen(value));
}

static void put_number(metadata *m, const char *key, uint32_t value)
{
    put_key(m, key, KIND_U32);
    put(m, &value, sizeof value);
}

static void put_bool(metadata *m, const char *key, bool value)
{
    put_key(m, key, KIND_BOOL);
    put(m, &value, 1);
}

static void put_strings(metadata *m, const char *key, const eq_text *list, uint64_t n)
{
    const uint32_t kind = KIND_STRING;
    put_key(m, key, KIND_ARRAY);
    put(m, &kind, sizeof kind);
    put(m, &n, sizeof n);
    for (uint64_t i = 0; i < n; i++)
        put_text(m, list[i].data, list[i].size);
}

static void put_integers(metadata *m, const char *key, const int32_t *list, uint64_t n)
{
    const uint32_t kind = KIND_I32;
    put_key(m, key, KIND_ARRAY);
    put(m, &kind, sizeof kind);
    put(m, &n, sizeof n);
    put(m, list, n * sizeof *list);
}

/* Which of the pairs of the small vocabulary are left out. */
enum { NO_MODEL = 1, NO_PRE = 2, NO_MERGES = 4, NO_TYPES = 8, NO_TOKENS = 16 };

static void put_small(metadata *m, int without)
{
    if (!(without & NO_MODEL)) put_string(m, "tokenizer.ggml.model", "gpt2");
    if (!(without & NO_PRE)) put_string(m, "tokenizer.ggml.pre", "smollm");
    if (!(without & NO_TOKENS)) put_strings(m, "tokenizer.ggml.tokens", small.tokens, SMALL_COUNT);
    if (!(without & NO_TYPES))
        put_integers(m, "tokenizer.ggml.token_type", small.types, SMALL_COUNT);
    if (!(without & NO_MERGES)) put_strings(m, "tokenizer.ggml.merges", small.merges, SMALL_MERGES);
    put_number(m, "tokenizer.ggml.eos_token_id", SMALL_END);
}

/* Write a file of metadata alone and read the tokenizer from it. */
static eq_status read_back(const metadata *m, eq_tokenizer **tok)
{
    const uint32_t version = 3;
    const uint64_t tensors = 0;
    char path[512];
    snprintf(path, sizeof path, "%s/small.gguf", folder);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    fwrite("GGUF", 1, 4, out);
    fwrite(&version, sizeof version, 1, out);
    fwrite(&tensors, sizeof tensors, 1, out);
    fwrite(&m->pairs, sizeof m->pairs, 1, out);
    fwrite(m->bytes, 1, m->size, out);
    assert_int_equal(fclose(out), 0);
    eq_gguf *file = NULL;
    eq_ctx_clear(&ctx);
    eq_status st = eq_gguf_open(&ctx, &file, path);
    if (st != EQ_OK) print_error("%s\n", ctx.message);
    assert_int_equal(st, EQ_OK);
    st = eq_tokenizer_from_gguf(&ctx, tok, file);
    eq_gguf_close(file);
    return st;
}

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    small_vocab_init(&small);
    folder = folder_make();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static void expect_ids(const eq_tokenizer *tok, const char *text, const int32_t *want)
{
    int32_t *ids = NULL;
    int64_t count = 0;
    assert_int_equal(eq_tokenizer_encode(&ctx, tok, text, strlen(text), false, &ids, &count),
                     EQ_OK);
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(ids[i], want[i]);
    assert_int_equal(want[count], -1);
    eq_free(ids);
}

#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

static void everything_is_read(void **state)
{
    (void)state;
    metadata m = {.size = 0};
    put_small(&m, 0);
    put_number(&m, "tokenizer.ggml.bos_token_id", SMALL_START);
    put_number(&m, "tokenizer.ggml.unknown_token_id", 1);
    put_number(&m, "tokenizer.ggml.padding_token_id", 2);
    put_bool(&m, "tokenizer.ggml.add_bos_token", true);
    put_string(&m, "tokenizer.chat_template", "{{ x }}");
    eq_tokenizer *tok = NULL;
    assert_int_equal(read_back(&m, &tok), EQ_OK);
    expect_ids(tok, "hello  1<|end|>!", IDS(SMALL_HELLO, SMALL_TWO_SPACES, '1', SMALL_END_MARK));
    assert_int_equal(eq_tokenizer_bos(tok), SMALL_START);
    assert_int_equal(eq_tokenizer_eos(tok), SMALL_END);
    assert_int_equal(eq_tokenizer_unk(tok), 1);
    assert_int_equal(eq_tokenizer_pad(tok), 2);
    assert_true(eq_tokenizer_add_bos(tok));
    assert_string_equal(eq_tokenizer_chat_template(tok), "{{ x }}");
    eq_tokenizer_free(tok);
}

static void what_may_be_absent(void **state)
{
    (void)state;
    metadata m = {.size = 0};
    put_small(&m, NO_PRE | NO_TYPES);
    eq_tokenizer *tok = NULL;
    assert_int_equal(read_back(&m, &tok), EQ_OK);
    expect_ids(tok, "12<", IDS(SMALL_12, '<')); /* digits stay together without smollm */
    assert_int_equal(eq_tokenizer_bos(tok), -1);
    assert_false(eq_tokenizer_add_bos(tok));
    assert_false(eq_tokenizer_is_special(tok, SMALL_END));
    assert_null(eq_tokenizer_chat_template(tok));
    eq_tokenizer_free(tok);
}

static void expect_refused(const metadata *m, const char *part)
{
    eq_tokenizer *tok = NULL;
    assert_int_equal(read_back(m, &tok), EQ_EFORMAT);
    assert_null(tok);
    if (!strstr(ctx.message, part)) print_error("'%s' lacks '%s'\n", ctx.message, part);
    assert_non_null(strstr(ctx.message, part));
    assert_non_null(strstr(ctx.message, "small.gguf: "));
}

static void what_is_refused(void **state)
{
    (void)state;
    const char *message[] = {"a tokenizer of model '' is not supported",
                             "tokenizer.ggml.merges is absent",
                             "tokenizer.ggml.tokens is absent",
                             "tokenizer.ggml.tokens is absent or of another type",
                             "token_type has 5 elements, there are 269 tokens",
                             "tokenizer.ggml.token_type is absent or of another type",
                             "a tokenizer of model 'llama' is not supported",
                             "pre-tokenizer 'llama-bpe' is not supported",
                             "the bos token is 2147483647, the vocabulary has 269 tokens",
                             "tokenizer.ggml.add_eos_token is not supported",
                             "tokenizer.ggml.add_space_prefix is not supported"};
    const int without[] = {NO_MODEL, NO_MERGES, NO_TOKENS, NO_TOKENS, NO_TYPES, NO_TYPES,
                           NO_MODEL, NO_PRE,    0,         0,         0};
    for (int i = 0; i < 11; i++) {
        metadata m = {.size = 0};
        put_small(&m, without[i]);
        if (i == 3) put_integers(&m, "tokenizer.ggml.tokens", small.types, 5);
        if (i == 4) put_integers(&m, "tokenizer.ggml.token_type", small.types, 5);
        if (i == 5) put_strings(&m, "tokenizer.ggml.token_type", small.tokens, SMALL_COUNT);
        if (i == 6) put_string(&m, "tokenizer.ggml.model", "llama");
        if (i == 7) put_string(&m, "tokenizer.ggml.pre", "llama-bpe");
        if (i == 8) put_number(&m, "tokenizer.ggml.bos_token_id", 4294967295u);
        if (i == 9) put_bool(&m, "tokenizer.ggml.add_eos_token", true);
        if (i == 10) put_bool(&m, "tokenizer.ggml.add_space_prefix", true);
        expect_refused(&m, message[i]);
    }
}

/* Whichever allocation fails, the call says so and leaks nothing. */
static void failing_allocations(void **state)
{
    (void)state;
    metadata m = {.size = 0};
    put_small(&m, 0);
    eq_tokenizer *tok = NULL;
    assert_int_equal(read_back(&m, &tok), EQ_OK); /* leaves the file */
    eq_tokenizer_free(tok);
    char path[512];
    snprintf(path, sizeof path, "%s/small.gguf", folder);
    eq_gguf *file = NULL;
    assert_int_equal(eq_gguf_open(&ctx, &file, path), EQ_OK);
    eq_status st = EQ_ENOMEM;
    int64_t n = 0;
    for (n = 1; st == EQ_ENOMEM; n++) {
        eq_ctx_clear(&ctx);
        ctx.allocations = 0;
        ctx.fail_allocation = n;
        st = eq_tokenizer_from_gguf(&ctx, &tok, file);
        if (st != EQ_OK) assert_null(tok);
    }
    ctx.fail_allocation = 0;
    assert_int_equal(st, EQ_OK);
    assert_in_range(n, 10, 100); /* there were allocations to fail */
    eq_tokenizer_free(tok);
    eq_gguf_close(file);
}

/* Ids by the tokenizers package (0.23): BPE of this vocabulary after Digits and ByteLevel. */
static void real_model(void **state)
{
    (void)state;
    const char *path = "models/smollm2-135m-instruct.gguf";
    if (!eq_file_exists(path)) {
        print_message("skipped: %s is absent (make model)\n", path);
        skip();
    }
    eq_gguf *file = NULL;
    eq_tokenizer *tok = NULL;
    assert_int_equal(eq_gguf_open(&ctx, &file, path), EQ_OK);
    assert_int_equal(eq_tokenizer_from_gguf(&ctx, &tok, file), EQ_OK);
    eq_gguf_close(file);
    assert_int_equal(eq_tokenizer_vocab_size(tok), 49152);
    assert_int_equal(eq_tokenizer_bos(tok), 1);
    assert_int_equal(eq_tokenizer_eos(tok), 2);
    assert_false(eq_tokenizer_add_bos(tok));
    assert_true(eq_tokenizer_is_special(tok, 16));
    assert_false(eq_tokenizer_is_special(tok, 17));
    assert_memory_equal(eq_tokenizer_chat_template(tok), "{% for", 6);
    expect_ids(tok, "Hello world", IDS(19556, 905));
    expect_ids(tok, "  12 a  3\n\n\tx  ", IDS(256, 33, 34, 253, 256, 35, 1116, 197, 104, 256));
    expect_ids(tok, "I'll we've 'S", IDS(57, 3060, 392, 3543, 637, 67));
    expect_ids(tok, "<|im_start|>user\nhi<|im_end|>\n", IDS(1, 4093, 198, 6004, 2, 198));
    expect_ids(
        tok, "caf\u00e9 e\u0301 \u65e5\u672c\u8a9e \U0001f600",
        IDS(83, 1939, 2756, 297, 151, 219, 17097, 241, 115, 40993, 179, 120, 248, 40303, 218));
    expect_ids(tok, "def f(x):\n    return x**2\n",
               IDS(1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 198));
    expect_ids(tok, "\u00bd \u0663\u0664 x\u00b2 \u3000y",
               IDS(16738, 216, 164, 113, 164, 114, 1792, 19133, 216, 12109, 218, 105));
    expect_ids(tok,
               "a\x04"
               "b\u00c0",
               IDS(81, 82, 142, 218)); /* no token for byte 4: dropped */
    eq_tokenizer *copy = NULL;
    assert_int_equal(eq_tokenizer_write_folder(&ctx, tok, folder), EQ_OK);
    assert_int_equal(eq_tokenizer_from_folder(&ctx, &copy, folder), EQ_OK);
    expect_ids(copy, "  12 a  3\n\n\tx  ", IDS(256, 33, 34, 253, 256, 35, 1116, 197, 104, 256));
    assert_string_equal(eq_tokenizer_chat_template(copy), eq_tokenizer_chat_template(tok));
    eq_tokenizer_free(copy);
    eq_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(what_may_be_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(failing_allocations, setup, teardown),
        cmocka_unit_test_setup_teardown(real_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
