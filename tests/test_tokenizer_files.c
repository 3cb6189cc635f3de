/* Tokenizers in folders: what is written is read back, and what is not supported is refused. */
#include "base/file.h"
#include "io/tokenizer.h"
#include "support_files.h"
#include "support_vocab.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char TEXT[] = "<|start|>hello \xc3\xa9 12  34<|end|>!\n\t ell\"\\ <|end|>  hell";
static const char CHAT[] = "{% for m in messages %}\"\\\n\t\x01\xc3\xa9{% endfor %}";

static eq_ctx ctx;
static small_vocab small;
static char *folder;

/* Write the small vocabulary into the folder. */
static void write_small(void)
{
    eq_tokenizer *tok = NULL;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &tok, &small.vocab), EQ_OK);
    assert_int_equal(eq_tokenizer_write_folder(&ctx, tok, folder), EQ_OK);
    eq_tokenizer_free(tok);
}

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    small_vocab_init(&small);
    small.vocab.chat_template = (eq_text){CHAT, strlen(CHAT)};
    small.vocab.max_length = 2048;
    folder = folder_make();
    write_small();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static json_t *load(const char *name)
{
    char *path = eq_path_join(&ctx, folder, name);
    json_t *json = json_load_file(path, 0, NULL);
    assert_non_null(json);
    eq_free(path);
    return json;
}

static void store(const char *name, json_t *json)
{
    char *text = json_dumps(json, JSON_ENSURE_ASCII);
    assert_non_null(text);
    folder_write(folder, name, text);
    free(text);
    json_decref(json);
}

/* Set what a path of keys and indices with dots between them leads to. */
static void set_part(json_t *root, const char *path, json_t *value)
{
    char copy[128], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", path);
    json_t *at = root;
    char *key = strtok_r(copy, ".", &rest);
    for (char *next; (next = strtok_r(NULL, ".", &rest)); key = next)
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
    if (json_is_array(at))
        assert_int_equal(json_array_set_new(at, (size_t)atoi(key), value), 0);
    else
        assert_int_equal(json_object_set_new(at, key, value), 0);
}

static void change(const char *name, const char *path, const char *value)
{
    json_t *root = load(name), *part = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(part);
    set_part(root, path, part);
    store(name, root);
}

/* The folder holds a tokenizer with the ids of the small vocabulary. */
static eq_tokenizer *expect_same(void)
{
    eq_tokenizer *want = NULL, *got = NULL;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &want, &small.vocab), EQ_OK);
    eq_status st = eq_tokenizer_from_folder(&ctx, &got, folder);
    if (st != EQ_OK) print_error("%s\n", ctx.message);
    assert_int_equal(st, EQ_OK);
    int32_t *a = NULL, *b = NULL;
    int64_t na = 0, nb = 0;
    assert_int_equal(eq_tokenizer_encode(&ctx, want, TEXT, strlen(TEXT), true, &a, &na), EQ_OK);
    assert_int_equal(eq_tokenizer_encode(&ctx, got, TEXT, strlen(TEXT), true, &b, &nb), EQ_OK);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, (size_t)na * sizeof *a);
    for (int32_t id = 0; id < SMALL_COUNT; id++)
        assert_int_equal(eq_tokenizer_is_special(want, id), eq_tokenizer_is_special(got, id));
    assert_int_equal(eq_tokenizer_add_bos(want), eq_tokenizer_add_bos(got));
    eq_free(a);
    eq_free(b);
    eq_tokenizer_free(want);
    return got;
}

static void written_and_read(void **state)
{
    (void)state;
    eq_tokenizer *tok = expect_same();
    assert_int_equal(eq_tokenizer_bos(tok), SMALL_START);
    assert_int_equal(eq_tokenizer_eos(tok), SMALL_END);
    assert_int_equal(eq_tokenizer_unk(tok), -1);
    assert_int_equal(eq_tokenizer_pad(tok), -1);
    assert_string_equal(eq_tokenizer_chat_template(tok), CHAT);
    eq_tokenizer_free(tok);
}

/* Every combination of what changes the files, and again from what was read. */
static void variants(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++) {
        small.vocab.pre = i & 1 ? "gpt2" : "smollm";
        small.vocab.add_bos = i & 2;
        small.vocab.chat_template.data = i & 4 ? CHAT : NULL;
        small.vocab.missing = i & 8 ? SMALL_START : -1;
        small.tokens['\t'].size = i & 8 ? 0 : 2;
        folder_remove(folder);
        folder = folder_make();
        write_small();
        eq_tokenizer *tok = expect_same();
        assert_int_equal(!eq_tokenizer_chat_template(tok), !(i & 4));
        assert_int_equal(eq_tokenizer_write_folder(&ctx, tok, folder), EQ_OK);
        eq_tokenizer_free(tok);
        eq_tokenizer_free(expect_same());
    }
}

static void config_as_others_read_it(void **state)
{
    (void)state;
    json_t *config = load("tokenizer_config.json"), *map = load("special_tokens_map.json");
    assert_string_equal(json_string_value(json_object_get(config, "bos_token")), "<|start|>");
    assert_string_equal(json_string_value(json_object_get(config, "eos_token")), "<|end|>");
    assert_null(json_object_get(config, "pad_token"));
    assert_string_equal(json_string_value(json_object_get(config, "chat_template")), CHAT);
    assert_true(json_is_false(json_object_get(config, "add_bos_token")));
    assert_true(json_is_false(json_object_get(config, "clean_up_tokenization_spaces")));
    assert_int_equal(json_integer_value(json_object_get(config, "model_max_length")), 2048);
    assert_int_equal(json_object_size(map), 2);
    json_decref(config);
    json_decref(map);
    json_t *root = load("tokenizer.json");
    const json_t *step =
        json_array_get(json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers"), 0);
    assert_string_equal(json_string_value(json_object_get(step, "type")), "Digits");
    assert_true(json_is_true(json_object_get(step, "individual_digits")));
    assert_int_equal(json_array_size(json_object_get(root, "added_tokens")), 3);
    json_decref(root);
}

static void merges_as_strings(void **state)
{
    (void)state;
    json_t *root = load("tokenizer.json");
    json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *pair = json_array_get(merges, i);
        json_array_set_new(merges, i,
                           json_sprintf("%s %s", json_string_value(json_array_get(pair, 0)),
                                        json_string_value(json_array_get(pair, 1))));
    }
    store("tokenizer.json", root);
    eq_tokenizer_free(expect_same());
}

/* Other ways to say the same. */
static void equal_forms(void **state)
{
    (void)state;
    change("tokenizer.json", "post_processor",
           "{\"type\": \"ByteLevel\", \"trim_offsets\": false}");
    change("tokenizer.json", "model.continuing_subword_prefix", "\"\"");
    folder_write(folder, "tokenizer_config.json",
                 "{\"bos_token\": \"<|start|>\", \"pad_token\": null,"
                 "\"eos_token\": {\"content\": \"<|end|>\", \"lstrip\": false},"
                 "\"model_max_length\": 1000000000000000019884624838656,"
                 "\"chat_template\": [{\"name\": \"tool\", \"template\": \"x\"},"
                 "{\"name\": \"default\", \"template\": \"y\"}]}");
    eq_tokenizer *tok = expect_same();
    assert_int_equal(eq_tokenizer_eos(tok), SMALL_END);
    assert_string_equal(eq_tokenizer_chat_template(tok), CHAT); /* the .jinja file goes first */
    eq_tokenizer_free(tok);
    char *path = eq_path_join(&ctx, folder, "chat_template.jinja");
    remove(path);
    eq_free(path);
    tok = expect_same();
    assert_string_equal(eq_tokenizer_chat_template(tok), "y");
    eq_tokenizer_free(tok);
    change("tokenizer.json", "pre_tokenizer",
           "{\"type\": \"Sequence\", \"pretokenizers\": "
           "[{\"type\": \"ByteLevel\", \"add_prefix_space\": false}]}");
    small.vocab.pre = "gpt2";
    eq_tokenizer_free(expect_same());
}

static void no_config(void **state)
{
    (void)state;
    static const char *const names[] = {"tokenizer_config.json", "chat_template.jinja"};
    for (int i = 0; i < 2; i++) {
        char *path = eq_path_join(&ctx, folder, names[i]);
        remove(path);
        eq_free(path);
    }
    eq_tokenizer *tok = expect_same();
    assert_int_equal(eq_tokenizer_bos(tok), -1);
    assert_null(eq_tokenizer_chat_template(tok));
    eq_tokenizer_free(tok);
}

static void a_template_adds_bos(void **state)
{
    (void)state;
    change("tokenizer.json", "post_processor",
           "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, "
           "{\"type\": \"TemplateProcessing\", \"single\": "
           "[{\"SpecialToken\": {\"id\": \"<|start|>\", \"type_id\": 0}}, "
           "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}]}]}");
    small.vocab.add_bos = true;
    eq_tokenizer_free(expect_same());
}

/* qwen2: its expression, and texts in form C; both are written and read again. */
static void qwen2_folder(void **state)
{
    (void)state;
    small.vocab.pre = "qwen2";
    small.vocab.normalized = true;
    write_small();
    eq_tokenizer *tok = expect_same();
    int32_t *ids = NULL;
    int64_t n = 0;
    assert_int_equal(eq_tokenizer_encode(&ctx, tok, "e\u0301", 3, false, &ids, &n), EQ_OK);
    assert_true(n == 1 && ids[0] == SMALL_E_ACUTE);
    eq_free(ids);
    eq_tokenizer_free(tok);
    change("tokenizer.json", "normalizer", "null");
    assert_int_equal(eq_tokenizer_from_folder(&ctx, &tok, folder), EQ_OK);
    assert_int_equal(eq_tokenizer_encode(&ctx, tok, "e\u0301", 3, false, &ids, &n), EQ_OK);
    assert_int_equal(n, 3);
    eq_free(ids);
    eq_tokenizer_free(tok);
    change("tokenizer.json", "pre_tokenizer.pretokenizers.1.use_regex", "true");
    tok = NULL;
    assert_int_equal(eq_tokenizer_from_folder(&ctx, &tok, folder), EQ_EFORMAT);
    assert_non_null(strstr(ctx.message, "Split, ByteLevel with its own"));
    eq_ctx_clear(&ctx);
}

/* The folder must be refused with a message that holds `part`. */
static void expect_refused(const char *file, const char *part)
{
    eq_tokenizer *tok = NULL;
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_tokenizer_from_folder(&ctx, &tok, folder), EQ_EFORMAT);
    assert_null(tok);
    if (!strstr(ctx.message, part)) print_error("'%s' lacks '%s'\n", ctx.message, part);
    assert_non_null(strstr(ctx.message, part));
    assert_non_null(strstr(ctx.message, file));
    assert_non_null(strstr(ctx.message, folder));
}

typedef struct broken_part {
    const char *path, *value, *message;
} broken_part;

static void refused_parts(void **state)
{
    (void)state;
    static const broken_part cases[] = {
        {"normalizer", "{\"type\": \"NFKC\"}", "normalizer NFKC is not supported"},
        {"pre_tokenizer", "null", "pre_tokenizer without a type"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\"}", "pre_tokenizer Metaspace"},
        {"pre_tokenizer", "{\"type\": \"ByteLevel\"}", "ByteLevel with add_prefix_space"},
        {"pre_tokenizer.pretokenizers.0", "{\"type\": \"Split\"}",
         "pre_tokenizer: Split by no expression is not supported"},
        {"pre_tokenizer.pretokenizers.0", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a+\"}}",
         "pre_tokenizer: Split by a+ is not supported"},
        {"pre_tokenizer.pretokenizers.0.individual_digits", "false", "Digits without individual"},
        {"pre_tokenizer.pretokenizers.1.use_regex", "false", "ByteLevel without its expression"},
        {"pre_tokenizer.pretokenizers", "[]", "pre_tokenizer without a type"},
        {"post_processor", "{\"type\": \"BertProcessing\"}", "post_processor BertProcessing"},
        {"post_processor", "{\"type\": \"TemplateProcessing\"}", "TemplateProcessing with"},
        {"post_processor",
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<no>\"}}, "
         "{\"Sequence\": {\"id\": \"A\"}}]}",
         "token '<no>' is not in the vocabulary"},
        {"post_processor",
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
         "\"<|end|>\"}}, {\"Sequence\": {\"id\": \"A\"}}]}",
         "the post_processor adds token 265, bos_token of tokenizer_config.json is token 267"},
        {"decoder", "{\"type\": \"Metaspace\"}", "decoder Metaspace"},
        {"decoder", "null", "decoder without a type"},
        {"model", "null", "model without a type"},
        {"model.type", "\"WordPiece\"", "model WordPiece"},
        {"model.dropout", "0.1", "model BPE with dropout"},
        {"model.byte_fallback", "true", "model BPE with byte_fallback"},
        {"model.ignore_merges", "true", "model BPE with ignore_merges"},
        {"model.end_of_word_suffix", "\"</w>\"", "model BPE with end_of_word_suffix"},
        {"model.vocab", "[]", "model has no object vocab"},
        {"model.vocab", "{}", "merge 0, 'h e'"},
        {"model.vocab.hello", "\"x\"", "token 'hello' has id -1"},
        {"model.vocab.hello", "-5", "token 'hello' has id -5"},
        {"model.vocab.hello", "4000000000", "token 'hello' has id 4000000000"},
        {"model.vocab.hello", "97", "id 97 is both 'a' and 'hello'"},
        {"model.merges.3", "[\"hell\", \"x\"]", "merge 3, 'hell x'"},
        {"model.merges.3", "[\"hell\"]", "merge 3 must be two tokens"},
        {"model.merges.3", "[\"h e\", \"x\"]", "merge 3 must be two tokens"},
        {"model.merges.3", "7", "merge 3 must be two tokens"},
        {"added_tokens.1.content", "\"\"", "added token 1 has no content"},
        {"added_tokens.1.content", "5", "added token 1 has no content"},
        {"added_tokens.1.id", "null", "added token 1 has id -1"},
        {"added_tokens.1.id", "300", "are both '<|end|>!'"},
        {"added_tokens.1.lstrip", "true", "added token '<|end|>!': lstrip is not supported"},
        {"added_tokens.1.single_word", "true", "single_word is not supported"},
    };
    json_t *right = load("tokenizer.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        store("tokenizer.json", json_deep_copy(right));
        change("tokenizer.json", cases[i].path, cases[i].value);
        expect_refused("tokenizer.json", cases[i].message);
    }
    json_decref(right);
}

static void refused_files(void **state)
{
    (void)state;
    change("tokenizer_config.json", "bos_token", "\"<no>\"");
    expect_refused("tokenizer_config.json", "bos_token of tokenizer_config.json, '<no>'");
    folder_write(folder, "tokenizer_config.json", "{\n\n\"bos_token\": }");
    expect_refused("tokenizer_config.json", "line 3: ");
    write_small();
    folder_write(folder, "tokenizer.json", "[1]");
    expect_refused("tokenizer.json", "is not a JSON object");
    folder_write(folder, "tokenizer.json", "{\"model\": {}, \"model\": {}}");
    expect_refused("tokenizer.json", "duplicate");
    folder_write(folder, "tokenizer.json", "");
    expect_refused("tokenizer.json", "line ");
    char *path = eq_path_join(&ctx, folder, "tokenizer.json");
    remove(path);
    eq_free(path);
    eq_tokenizer *tok = NULL;
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_tokenizer_from_folder(&ctx, &tok, folder), EQ_EIO);
}

/* A tokenizer.json cut off after any number of bytes. */
static void truncated(void **state)
{
    (void)state;
    char *path = eq_path_join(&ctx, folder, "tokenizer.json"), *data = NULL;
    size_t size = 0;
    assert_int_equal(eq_file_read(&ctx, path, 1 << 20, &data, &size), EQ_OK);
    for (size_t n = 0; n + 2 < size; n += n < 1500 ? 1 : 97) {
        char kept = data[n];
        data[n] = 0;
        folder_write(folder, "tokenizer.json", data);
        data[n] = kept;
        expect_refused("tokenizer.json", "line ");
    }
    eq_free(data);
    eq_free(path);
}

static void writing_to_nowhere(void **state)
{
    (void)state;
    eq_tokenizer *tok = NULL;
    assert_int_equal(eq_tokenizer_from_vocab(&ctx, &tok, &small.vocab), EQ_OK);
    assert_int_equal(eq_tokenizer_write_folder(&ctx, tok, "/nonexistent/folder"), EQ_EIO);
    assert_non_null(strstr(ctx.message, "/nonexistent/folder/tokenizer.json"));
    eq_tokenizer_free(tok);
}

/* Whichever allocation fails, reading and writing say so and leak nothing. */
static void failing_allocations(void **state)
{
    (void)state;
    eq_status st = EQ_ENOMEM;
    int64_t n = 0;
    for (n = 1; st == EQ_ENOMEM; n++) {
        eq_tokenizer *tok = NULL;
        eq_ctx_clear(&ctx);
        ctx.allocations = 0;
        ctx.fail_allocation = n;
        st = eq_tokenizer_from_folder(&ctx, &tok, folder);
        if (st == EQ_OK)
            st = eq_tokenizer_write_folder(&ctx, tok, folder);
        else
            assert_null(tok);
        eq_tokenizer_free(tok);
    }
    ctx.fail_allocation = 0;
    assert_int_equal(st, EQ_OK);
    assert_in_range(n, 20, 200); /* there were allocations to fail */
    eq_tokenizer_free(expect_same());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(variants, setup, teardown),
        cmocka_unit_test_setup_teardown(qwen2_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(config_as_others_read_it, setup, teardown),
        cmocka_unit_test_setup_teardown(merges_as_strings, setup, teardown),
        cmocka_unit_test_setup_teardown(equal_forms, setup, teardown),
        cmocka_unit_test_setup_teardown(no_config, setup, teardown),
        cmocka_unit_test_setup_teardown(a_template_adds_bos, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_files, setup, teardown),
        cmocka_unit_test_setup_teardown(truncated, setup, teardown),
        cmocka_unit_test_setup_teardown(writing_to_nowhere, setup, teardown),
        cmocka_unit_test_setup_teardown(failing_allocations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
