/* Checkpoints as a whole: folders of one file and of shards, the real GGUF file. Packed
 * linears are in test_packing.c, damaged files in test_checkpoint_hostile.c. */
#include "io/checkpoint.h"

#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const char REAL[] = "models/smollm2-135m-instruct.gguf";
static const char GOLDEN[] = "../shared/golden/blockap-w2g32";

typedef folder_fixture fixture;

static eq_checkpoint *open_path(fixture *f, const char *path)
{
    eq_checkpoint *ck = NULL;
    eq_ctx_clear(&f->ctx);
    eq_status st = eq_checkpoint_open(&f->ctx, &ck, path);
    assert_string_equal(f->ctx.message, "");
    assert_int_equal(st, EQ_OK);
    return ck;
}

/* A file of the folder with tensors "<prefix>0" .. of 4 bytes, all of them `value`. */
static void write_shard(fixture *f, const char *file, const char *prefix, int count, float value)
{
    eq_tensor_entry entries[4];
    char names[4][32];
    eq_safetensors_writer w;
    for (int i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "%s%d", prefix, i);
        entries[i] = (eq_tensor_entry){names[i], EQ_F32, 1, {1}};
    }
    char *path = eq_path_join(&f->ctx, f->folder, file);
    assert_int_equal(eq_safetensors_begin(&f->ctx, &w, path, entries, count), EQ_OK);
    for (int i = 0; i < count; i++)
        assert_int_equal(eq_safetensors_write(&w, &value, sizeof value), EQ_OK);
    assert_int_equal(eq_safetensors_commit(&w), EQ_OK);
    eq_free(path);
}

static void expect_tensor(fixture *f, const eq_checkpoint *ck, const char *name, float want)
{
    eq_tensor t;
    float got = 0;
    assert_true(eq_checkpoint_has(ck, name));
    assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, name, &t), EQ_OK);
    eq_tensor_rows_f32(&got, 1, &t, 0, 1);
    assert_true(got == want);
}

static void write_sharded(fixture *f)
{
    folder_write(f->folder, "config.json", "{\"model_type\":\"llama\",\"answer\":42}");
    folder_write(f->folder, "model.safetensors.index.json",
                 "{\"metadata\":{},\"weight_map\":{\"a0\":\"1.safetensors\",\"a1\":"
                 "\"1.safetensors\",\"b0\":\"2.safetensors\"}}");
    write_shard(f, "1.safetensors", "a", 2, 1.5f);
    write_shard(f, "2.safetensors", "b", 1, 2.5f);
}

static void folder_of_shards(void **state)
{
    fixture *f = *state;
    write_sharded(f);
    eq_checkpoint *ck = open_path(f, f->folder);
    assert_string_equal(eq_checkpoint_path(ck), f->folder);
    assert_null(eq_checkpoint_gguf(ck));
    assert_int_equal(json_integer_value(json_object_get(eq_checkpoint_config(ck), "answer")), 42);
    expect_tensor(f, ck, "a0", 1.5f);
    expect_tensor(f, ck, "a1", 1.5f);
    expect_tensor(f, ck, "b0", 2.5f);
    eq_tensor t;
    assert_false(eq_checkpoint_has(ck, "b1"));
    assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, "b1", &t), EQ_EFORMAT);
    assert_non_null(strstr(f->ctx.message, "b1"));
    eq_checkpoint_close(ck);
}

/* One file goes before an index, and needs none. */
static void folder_of_one_file(void **state)
{
    fixture *f = *state;
    write_sharded(f);
    write_shard(f, "model.safetensors", "c", 3, -3);
    eq_checkpoint *ck = open_path(f, f->folder);
    expect_tensor(f, ck, "c2", -3);
    assert_false(eq_checkpoint_has(ck, "a0"));
    eq_checkpoint_close(ck);
}

static void release_keeps_the_values(void **state)
{
    fixture *f = *state;
    eq_tensor t;
    write_sharded(f);
    eq_checkpoint *ck = open_path(f, f->folder);
    assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, "b0", &t), EQ_OK);
    eq_checkpoint_release(ck, t.data, 4);
    eq_checkpoint_release(ck, (const uint8_t *)t.data - 8, 1 << 20); /* past the end */
    eq_checkpoint_release(ck, &t, sizeof t);                         /* no part of a file */
    expect_tensor(f, ck, "b0", 2.5f);
    eq_checkpoint_close(ck);
}

static uint64_t fingerprint(fixture *f)
{
    eq_checkpoint *ck = open_path(f, f->folder);
    uint64_t hash = eq_checkpoint_fingerprint(ck);
    eq_checkpoint_close(ck);
    return hash;
}

static void fingerprint_notices_changes(void **state)
{
    fixture *f = *state;
    write_sharded(f);
    uint64_t first = fingerprint(f);
    assert_true(fingerprint(f) == first);
    write_shard(f, "2.safetensors", "b", 1, 2.25f);
    uint64_t weights = fingerprint(f);
    assert_true(weights != first);
    folder_write(f->folder, "config.json", "{\"model_type\":\"llama\",\"answer\":43}");
    assert_true(fingerprint(f) != weights);
    write_shard(f, "2.safetensors", "b", 1, 2.5f);
    folder_write(f->folder, "config.json", "{ \"answer\": 42,\n\"model_type\":\"llama\"}");
    assert_true(fingerprint(f) == first); /* the same object in other words */
}

/* Names of shards that would leave the folder, or name nothing. */
static void indexes_that_are_refused(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *index;
        eq_status status;
    } CASES[] = {{"{\"weight_map\":{\"a0\":\"../1.safetensors\"}}", EQ_EFORMAT},
                 {"{\"weight_map\":{\"a0\":\"/etc/passwd\"}}", EQ_EFORMAT},
                 {"{\"weight_map\":{\"a0\":7}}", EQ_EFORMAT},
                 {"{\"weight_map\":{}}", EQ_EFORMAT},
                 {"{\"weight_map\":[]}", EQ_EFORMAT},
                 {"{}", EQ_EFORMAT},
                 {"[]", EQ_EFORMAT},
                 {"{\"weight_map\":{\"a0\":\"..\"}}", EQ_EIO},
                 {"{\"weight_map\":{\"a0\":\"\"}}", EQ_EIO},
                 {"{\"weight_map\":{\"a0\":\"absent.safetensors\"}}", EQ_EIO},
                 {"{\"weight_map\":{\"a0\":\"config.json\"}}", EQ_EFORMAT}};
    write_sharded(f);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        eq_checkpoint *ck = NULL;
        eq_ctx_clear(&f->ctx);
        folder_write(f->folder, "model.safetensors.index.json", CASES[i].index);
        assert_int_equal(eq_checkpoint_open(&f->ctx, &ck, f->folder), CASES[i].status);
        assert_null(ck);
        assert_non_null(strstr(f->ctx.message, f->folder));
    }
}

/* Open, take a tensor, close, with each allocation failing in turn. */
static void fail_each_allocation(fixture *f, const char *path)
{
    for (int64_t n = 1;; n++) {
        eq_checkpoint *ck = NULL;
        eq_ctx_init(&f->ctx, 1);
        f->ctx.fail_allocation = n;
        eq_status st = eq_checkpoint_open(&f->ctx, &ck, path);
        eq_checkpoint_close(ck);
        if (st == EQ_OK) {
            assert_true(n > 5);
            break;
        }
        assert_int_equal(st, EQ_ENOMEM);
        assert_null(ck);
    }
    eq_ctx_init(&f->ctx, 1);
}

static void every_allocation_may_fail(void **state)
{
    fixture *f = *state;
    write_sharded(f);
    fail_each_allocation(f, f->folder);
    write_shard(f, "model.safetensors", "c", 3, -3);
    fail_each_allocation(f, f->folder);
    if (eq_file_exists(REAL)) fail_each_allocation(f, REAL);
}

/* The real model, against values that another program read from the file. */
static void real_model(void **state)
{
    fixture *f = *state;
    if (!eq_file_exists(REAL)) {
        print_message("%s is not there; make model fetches it\n", REAL);
        skip();
    }
    static const struct {
        const char *name;
        int64_t rows, columns, row, column;
        float value;
    } CASES[] = {
        {"model.embed_tokens.weight", 49152, 576, 7, 1, -0x1.478p-5f},
        {"model.layers.3.self_attn.q_proj.weight", 576, 576, 133, 0, -0x1.36p-4f},
        {"model.layers.3.self_attn.q_proj.weight", 576, 576, 165, 0, 0x1.fb4p-3f},
        {"model.layers.3.self_attn.q_proj.weight", 576, 576, 165, 575, -0x1.0d8p-3f},
        {"model.layers.29.mlp.down_proj.weight", 576, 1536, 575, 1, -0x1.408p-5f},
        {"model.layers.29.mlp.down_proj.weight", 576, 1536, 575, 1535, 0x1.dp-5f},
    };
    eq_checkpoint *ck = open_path(f, REAL);
    float row[1536];
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        eq_tensor t;
        assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, CASES[i].name, &t), EQ_OK);
        assert_true(t.dims == 2 && t.shape[0] == CASES[i].rows && t.shape[1] == CASES[i].columns);
        eq_tensor_rows_f32(row, 1536, &t, CASES[i].row, 1);
        if (row[CASES[i].column] != CASES[i].value)
            fail_msg("%s: %a, expected %a", CASES[i].name, (double)row[CASES[i].column],
                     (double)CASES[i].value);
    }
    eq_tensor t;
    assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, "model.norm.weight", &t), EQ_OK);
    assert_true(t.dims == 1 && t.shape[0] == 576 && t.type == EQ_F32);
    assert_int_equal(eq_gguf_count(eq_checkpoint_gguf(ck)), 272);
    assert_false(eq_checkpoint_has(ck, "lm_head.weight"));
    assert_false(eq_checkpoint_has(ck, "model.layers.30.mlp.up_proj.weight"));
    assert_int_equal(eq_checkpoint_bytes(ck), 98362432);
    eq_checkpoint_close(ck);
}

static void real_configuration(void **state)
{
    fixture *f = *state;
    if (!eq_file_exists(REAL)) {
        print_message("%s is not there; make model fetches it\n", REAL);
        skip();
    }
    static const struct {
        const char *key;
        double value;
    } NUMBERS[] = {{"hidden_size", 576},       {"intermediate_size", 1536},
                   {"num_hidden_layers", 30},  {"num_attention_heads", 9},
                   {"num_key_value_heads", 3}, {"head_dim", 64},
                   {"vocab_size", 49152},      {"max_position_embeddings", 8192},
                   {"rms_norm_eps", 1e-5},     {"rope_theta", 100000},
                   {"bos_token_id", 1},        {"eos_token_id", 2}};
    eq_checkpoint *ck = open_path(f, REAL);
    const json_t *config = eq_checkpoint_config(ck);
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        const json_t *value = json_object_get(config, NUMBERS[i].key);
        assert_true(json_is_number(value) && json_number_value(value) == NUMBERS[i].value);
    }
    assert_true(json_is_true(json_object_get(config, "tie_word_embeddings")));
    assert_string_equal(json_string_value(json_object_get(config, "model_type")), "llama");
    eq_checkpoint_close(ck);
}

/* What transformers wrote; its rows need no reordering. */
static void golden_folder(void **state)
{
    fixture *f = *state;
    if (!eq_folder_exists(GOLDEN)) {
        print_message("%s is not there\n", GOLDEN);
        skip();
    }
    eq_tensor t;
    eq_checkpoint *ck = open_path(f, GOLDEN);
    assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, "model.layers.1.mlp.down_proj.weight", &t),
                     EQ_OK);
    assert_true(t.dims == 2 && t.shape[0] == 64 && t.shape[1] == 160);
    assert_int_equal(t.rope_pairs, 0);
    assert_int_equal(
        eq_checkpoint_tensor(&f->ctx, ck, "model.layers.0.self_attn.k_proj.weight", &t), EQ_OK);
    assert_true(t.shape[0] == 32 && t.shape[1] == 64);
    assert_int_equal(t.rope_pairs, 0);
    float row[64];
    assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, "lm_head.weight", &t), EQ_OK);
    eq_tensor_rows_f32(row, 64, &t, 2, 1);
    assert_true(row[33] == -0x1.5c99cep-3f);
    eq_checkpoint_close(ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(folder_of_shards, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(folder_of_one_file, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(release_keeps_the_values, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(fingerprint_notices_changes, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(indexes_that_are_refused, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(real_model, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(real_configuration, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(golden_folder, folder_fixture_make, folder_fixture_destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
