/* Checkpoints that are damaged, contradict themselves or ask for what eqat does not compute: each
 * is refused with a message that names the file, none is read wrongly or out of bounds. */
#include "base/rng.h"
#include "io/packing.h"
#include "support_bytes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROWS = 32, COLUMNS = 32 };

/* A folder of this test and the context of one case. */
typedef struct fixture {
    char folder[64];
    char path[96]; /* of the file written last */
    eq_ctx ctx;
} fixture;

static void put_tensor(bytes *b, const char *name, uint64_t rows, uint64_t offset)
{
    put_text(b, name);
    put_u32(b, 2);
    put_u64(b, COLUMNS);
    put_u64(b, rows);
    put_u32(b, 8); /* Q8_0 */
    put_u64(b, offset);
}

/* What differs between the GGUF files of the cases below. */
typedef struct variant {
    uint32_t head_size, turned;
    uint64_t q_rows;
    const char *scaling;
    const char *extra; /* name of the last tensor */
    float base;        /* of the rotary embedding */
    uint32_t base_type;
    const char *factor; /* key of a factor of 4 that scales positions */
} variant;

enum { U32 = 4, F32 = 6 }; /* types of metadata */

static const variant SOUND = {16, 16, ROWS, "none", "blk.0.attn_k.weight", 10000, F32, NULL};

static void make_gguf(bytes *b, const variant *v)
{
    const uint64_t step = ROWS * 34 + 32; /* offsets need only be multiples of the alignment */
    b->size = 0;
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, 3);
    put_u64(b, v->factor ? 11 : 10);
    put_string(b, "general.architecture", "llama");
    put_size(b, "llama.embedding_length", 32);
    put_size(b, "llama.feed_forward_length", 64);
    put_size(b, "llama.block_count", 1);
    put_size(b, "llama.attention.head_count", 2);
    put_size(b, "llama.context_length", 64);
    put_size(b, "llama.attention.key_length", v->head_size);
    put_size(b, "llama.rope.dimension_count", v->turned);
    put_string(b, "llama.rope.scaling.type", v->scaling);
    put_text(b, "llama.rope.freq_base");
    put_u32(b, v->base_type);
    put(b, &v->base, sizeof v->base);
    if (v->factor) {
        put_text(b, v->factor);
        put_u32(b, F32);
        put(b, &(float){4}, sizeof(float));
    }
    put_tensor(b, "token_embd.weight", 8, 0);
    put_tensor(b, "blk.0.attn_q.weight", v->q_rows, step);
    put_tensor(b, v->extra, ROWS, 2 * step);
    put_padding(b, 32);
    for (uint64_t i = 0; i < 3 * step; i++)
        put(b, &(uint8_t){(uint8_t)(i % 60)}, 1);
}

/* Write b to a file of the folder. */
static void save(fixture *f, const char *name, const bytes *b)
{
    snprintf(f->path, sizeof f->path, "%s/%s", f->folder, name);
    save_bytes(b, f->path);
}

static void save_text(fixture *f, const char *name, const char *text)
{
    bytes b = {.size = 0};
    put(&b, text, strlen(text));
    save(f, name, &b);
}

/* A safetensors file from the text of its header and `size` bytes, each the first letter of its
 * name. */
static void save_safetensors(fixture *f, const char *name, const char *header, size_t size)
{
    bytes b = {.size = 0};
    put_text(&b, header);
    for (size_t i = 0; i < size; i++)
        put(&b, name, 1);
    save(f, name, &b);
}

static int make_folder(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->folder, "/tmp/eqat-hostile-XXXXXX");
    eq_ctx_init(&f->ctx, 1);
    *state = f;
    return !mkdtemp(f->folder);
}

static int remove_folder(void **state)
{
    static const char *const NAMES[] = {
        "m.gguf",        "config.json",   "model.safetensors",
        "a.safetensors", "b.safetensors", "model.safetensors.index.json"};
    fixture *f = *state;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        snprintf(f->path, sizeof f->path, "%s/%s", f->folder, NAMES[i]);
        unlink(f->path);
    }
    int failed = rmdir(f->folder);
    free(f);
    return failed;
}

/* Open `path`, expecting a refusal whose message holds the path and `part`. */
static void refused(fixture *f, const char *path, const char *part)
{
    eq_checkpoint *ck = NULL;
    assert_int_equal(eq_checkpoint_open(&f->ctx, &ck, path), EQ_EFORMAT);
    assert_null(ck);
    assert_non_null(strstr(f->ctx.message, path));
    assert_non_null(strstr(f->ctx.message, part));
}

static void save_variant(fixture *f, const variant *v)
{
    bytes b;
    make_gguf(&b, v);
    save(f, "m.gguf", &b);
}

/* Rows of q come back in the order of halves, all of them, from where they are stored. */
static void rows_in_rotary_pairs(void **state)
{
    fixture *f = *state;
    eq_checkpoint *ck = NULL;
    eq_tensor t;
    float row[COLUMNS], stored[COLUMNS];
    save_variant(f, &SOUND);
    assert_int_equal(eq_checkpoint_open(&f->ctx, &ck, f->path), EQ_OK);
    const char *q = "model.layers.0.self_attn.q_proj.weight";
    assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, q, &t), EQ_OK);
    for (int head = 0; head < 2; head++)
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 2; j++) {
                int at = head * 16 + 2 * i + j;
                eq_tensor_rows_f32(row, COLUMNS, &t, head * 16 + j * 8 + i, 1);
                eq_dtype_to_f32(stored, (const char *)t.data + at * 34, EQ_Q8_0, COLUMNS);
                assert_memory_equal(row, stored, sizeof row);
            }
    eq_checkpoint_close(ck);
}

static void rows_that_are_no_whole_heads(void **state)
{
    fixture *f = *state;
    const uint32_t sizes[] = {16, 1, 15};
    const uint64_t rows[] = {24, 32, 30};
    for (int i = 0; i < 3; i++) {
        variant v = SOUND;
        v.head_size = v.turned = sizes[i];
        v.q_rows = rows[i];
        eq_checkpoint *ck = NULL;
        eq_tensor t;
        eq_ctx_init(&f->ctx, 1);
        save_variant(f, &v);
        assert_int_equal(eq_checkpoint_open(&f->ctx, &ck, f->path), EQ_OK);
        const char *q = "model.layers.0.self_attn.q_proj.weight";
        assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, q, &t), EQ_EFORMAT);
        assert_non_null(strstr(f->ctx.message, "whole heads"));
        eq_checkpoint_close(ck);
    }
}

static void rotary_embeddings_we_do_not_compute(void **state)
{
    fixture *f = *state;
    variant v = SOUND;
    v.scaling = "linear";
    save_variant(f, &v);
    refused(f, f->path, "rope scaling linear");
    v = SOUND;
    v.turned = 8;
    eq_ctx_init(&f->ctx, 1);
    save_variant(f, &v);
    refused(f, f->path, "dimension_count is 8");
    /* llama.cpp takes a factor without a type of scaling */
    static const char *const FACTORS[] = {"llama.rope.scaling.factor", "llama.rope.scale_linear"};
    for (int i = 0; i < 2; i++) {
        v = SOUND;
        v.factor = FACTORS[i];
        eq_ctx_init(&f->ctx, 1);
        save_variant(f, &v);
        refused(f, f->path, FACTORS[i]);
    }
    v = SOUND;
    v.base_type = U32;
    eq_ctx_init(&f->ctx, 1);
    save_variant(f, &v);
    refused(f, f->path, "freq_base is of another type");
}

/* JSON holds no infinity and no NaN, so the configuration would fall back to its default. */
static void rotary_base_that_is_no_number(void **state)
{
    fixture *f = *state;
    const float bases[] = {0, -1, 1e30f, INFINITY, NAN};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        variant v = SOUND;
        v.base = bases[i];
        eq_ctx_init(&f->ctx, 1);
        save_variant(f, &v);
        refused(f, f->path, "llama.rope.freq_base");
    }
}

/* A bias must reach the configuration, by which the model code looks for it, not be dropped. */
static void bias_is_announced(void **state)
{
    fixture *f = *state;
    static const char *const NAMES[] = {"blk.0.attn_k.bias", "blk.0.ffn_up.bias"};
    static const char *const KEYS[] = {"attention_bias", "mlp_bias"};
    for (int i = 0; i < 2; i++) {
        variant v = SOUND;
        v.extra = NAMES[i];
        eq_checkpoint *ck = NULL;
        save_variant(f, &v);
        assert_int_equal(eq_checkpoint_open(&f->ctx, &ck, f->path), EQ_OK);
        const json_t *config = eq_checkpoint_config(ck);
        assert_true(json_is_true(json_object_get(config, KEYS[i])));
        assert_true(json_is_false(json_object_get(config, KEYS[1 - i])));
        eq_checkpoint_close(ck);
    }
}

static void gguf_header_cut_anywhere(void **state)
{
    fixture *f = *state;
    bytes b;
    make_gguf(&b, &SOUND);
    size_t header = b.size - 3 * (ROWS * 34 + 32);
    for (size_t n = 0; n < header - 32; n++) {
        eq_ctx_init(&f->ctx, 1);
        b.size = n;
        save(f, "m.gguf", &b);
        refused(f, f->path, n ? "" : "is empty");
    }
}

/* Whatever the header says, nothing outside the file is touched (the sanitizers watch). */
static void gguf_header_with_wrong_bytes(void **state)
{
    fixture *f = *state;
    eq_rng rng;
    bytes b;
    int opened = 0;
    eq_rng_init(&rng, 1, 0);
    for (int i = 0; i < 1500; i++) {
        make_gguf(&b, &SOUND);
        size_t header = b.size - 3 * (ROWS * 34 + 32);
        uint64_t value = (uint64_t)1 << eq_rng_below(&rng, 64);
        memcpy(b.data + eq_rng_below(&rng, header - 8), &value, i % 2 ? 8 : 1);
        eq_ctx_init(&f->ctx, 1);
        save(f, "m.gguf", &b);
        eq_checkpoint *ck = NULL;
        eq_tensor t;
        float row[COLUMNS];
        const char *q = "model.layers.0.self_attn.q_proj.weight";
        if (eq_checkpoint_open(&f->ctx, &ck, f->path) == EQ_OK &&
            eq_checkpoint_tensor(&f->ctx, ck, q, &t) == EQ_OK && t.shape[1] == COLUMNS) {
            for (int64_t r = 0; r < t.shape[0]; r++)
                eq_tensor_rows_f32(row, COLUMNS, &t, r, 1);
            opened++;
        }
        eq_checkpoint_close(ck);
    }
    assert_in_range(opened, 1, 1499); /* both outcomes were met */
}

static const char LLAMA[] = "{\"model_type\":\"llama\"}";
static const char GPTQ[] = "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":2,"
                           "\"group_size\":32,\"checkpoint_format\":\"gptq_v2\"}}";

static void safetensors_cut_anywhere(void **state)
{
    fixture *f = *state;
    bytes b = {.size = 0};
    put_text(&b, "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}");
    put_u64(&b, 0);
    save_text(f, "config.json", LLAMA);
    for (size_t n = b.size; n-- > 0;) {
        eq_ctx_init(&f->ctx, 1);
        b.size = n;
        save(f, "model.safetensors", &b);
        refused(f, f->path, "");
    }
}

static void refuse_packed(fixture *f, const char *config, const char *header, size_t size,
                          const char *part)
{
    eq_checkpoint *ck = NULL;
    eq_packing packing = {0};
    eq_qmatrix q = {.N = 16, .K = 32};
    eq_ctx_init(&f->ctx, 1);
    save_text(f, "config.json", config);
    save_safetensors(f, "model.safetensors", header, size);
    assert_int_equal(eq_checkpoint_open(&f->ctx, &ck, f->folder), EQ_OK);
    assert_int_equal(eq_packing_linear(&f->ctx, &packing, ck, "a", &q), EQ_EFORMAT);
    assert_non_null(strstr(f->ctx.message, part));
    eq_checkpoint_close(ck);
}

static void packed_linear_that_does_not_fit(void **state)
{
    /* A tensor without elements may have any number of rows. */
    refuse_packed(*state, GPTQ,
                  "{\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[2305843009213693952,0],"
                  "\"data_offsets\":[0,0]},\"a.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,0],"
                  "\"data_offsets\":[0,0]},\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,0],"
                  "\"data_offsets\":[0,0]}}",
                  0, "a.qweight is 2-dimensional [2305843009213693952, 0], expected [2, 16]");
    /* Bits that are 2 only after being cut to 32 bits. */
    refuse_packed(*state,
                  "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4294967298,"
                  "\"group_size\":32}}",
                  "{\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[2,16],\"data_offsets\":[0,128]},"
                  "\"a.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[128,132]},"
                  "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,16],\"data_offsets\":[132,164]}}",
                  164, "bits is 4294967298");
    /* AWQ's order of codes is one of 4 bits. */
    refuse_packed(*state,
                  "{\"quantization_config\":{\"quant_method\":\"auto-round\",\"packing_format\":"
                  "\"auto_round:auto_awq\",\"bits\":4,\"group_size\":32,\"sym\":true,"
                  "\"extra_config\":{\"a\":{\"bits\":8}}}}",
                  "{\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[32,4],\"data_offsets\":[0,512]},"
                  "\"a.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,4],\"data_offsets\":[512,528]},"
                  "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,16],\"data_offsets\":[528,560]}}",
                  560, "8 bits");
}

static void config_that_is_too_large(void **state)
{
    fixture *f = *state;
    save_text(f, "config.json", LLAMA);
    assert_int_equal(truncate(f->path, (256 << 20) + 1), 0); /* sparse: takes no space */
    refused(f, f->folder, "at most 268435456 are read");
}

/* b.safetensors is what the index names; a.safetensors holds a tensor of the same name. */
static void index_decides_between_files(void **state)
{
    fixture *f = *state;
    static const char INDEX[] =
        "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}";
    eq_checkpoint *ck = NULL;
    eq_tensor t;
    save_text(f, "config.json", LLAMA);
    save_text(f, "model.safetensors.index.json", INDEX);
    save_safetensors(f, "a.safetensors",
                     "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                     "\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                     2);
    save_safetensors(f, "b.safetensors",
                     "{\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
    assert_int_equal(eq_checkpoint_open(&f->ctx, &ck, f->folder), EQ_OK);
    assert_int_equal(eq_checkpoint_tensor(&f->ctx, ck, "y", &t), EQ_OK);
    assert_int_equal(*(const uint8_t *)t.data, 'b');
    eq_checkpoint_close(ck);
}

static void writer_refuses_names_it_would_lose(void **state)
{
    fixture *f = *state;
    const eq_tensor_entry twice[] = {{"x", EQ_F32, 1, {1}}, {"x", EQ_F32, 1, {1}}};
    const eq_tensor_entry foreign[] = {{"\xff", EQ_F32, 1, {1}}};
    eq_safetensors_writer w;
    snprintf(f->path, sizeof f->path, "%s/model.safetensors", f->folder);
    assert_int_equal(eq_safetensors_begin(&f->ctx, &w, f->path, twice, 2), EQ_EINTERNAL);
    assert_int_equal(eq_safetensors_begin(&f->ctx, &w, f->path, foreign, 1), EQ_EINTERNAL);
    assert_false(eq_file_exists(f->path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_in_rotary_pairs, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(rows_that_are_no_whole_heads, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(rotary_embeddings_we_do_not_compute, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(rotary_base_that_is_no_number, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(bias_is_announced, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(gguf_header_cut_anywhere, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(gguf_header_with_wrong_bytes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(safetensors_cut_anywhere, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(packed_linear_that_does_not_fit, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(config_that_is_too_large, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(index_decides_between_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(writer_refuses_names_it_would_lose, make_folder,
                                        remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
