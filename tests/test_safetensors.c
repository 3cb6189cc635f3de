/* The safetensors container: what the writer writes is read back, and headers that lie are refused.
 * */
#include "io/safetensors.h"

#include "support_bytes.h"
#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { LONGEST_HEADER = 100000000 };

/* A folder of this test, a file in it and the context of one case. */
typedef struct fixture {
    char *folder;
    char path[128];
    eq_ctx ctx;
} fixture;

static int make(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    f->folder = folder_make();
    snprintf(f->path, sizeof f->path, "%s/t.safetensors", f->folder);
    eq_ctx_init(&f->ctx, 1);
    *state = f;
    return 0;
}

static int destroy(void **state)
{
    fixture *f = *state;
    folder_remove(f->folder);
    free(f);
    return 0;
}

/* A file from the text of its header and `size` zeros. */
static void save(const fixture *f, const char *header, size_t size)
{
    bytes b = {.size = 0};
    put_text(&b, header);
    put_zeros(&b, size);
    save_bytes(&b, f->path);
}

/* The file at f->path is refused with a message that holds the path and `part`. */
static void refused(fixture *f, const char *part)
{
    eq_safetensors *file = NULL;
    eq_ctx_clear(&f->ctx);
    assert_int_equal(eq_safetensors_open(&f->ctx, &file, f->path), EQ_EFORMAT);
    assert_null(file);
    assert_non_null(strstr(f->ctx.message, f->path));
    assert_non_null(strstr(f->ctx.message, part));
}

static eq_safetensors *open_file(fixture *f)
{
    eq_safetensors *file = NULL;
    eq_ctx_clear(&f->ctx);
    assert_int_equal(eq_safetensors_open(&f->ctx, &file, f->path), EQ_OK);
    return file;
}

static const eq_tensor_entry ENTRIES[] = {
    {"w", EQ_F32, 2, {3, 5}},         {"half", EQ_F16, 1, {7}},
    {"brain", EQ_BF16, 3, {2, 3, 4}}, {"words", EQ_I32, 2, {4, 2}},
    {"scalar", EQ_F32, 0, {0}},       {"none", EQ_F32, 2, {0, 9}},
    {"long", EQ_I64, 1, {2}},         {"bytes", EQ_U8, 4, {1, 2, 3, 4}},
};
enum { ENTRY_COUNT = sizeof ENTRIES / sizeof *ENTRIES };

/* Byte i of tensor t: all of them differ from their neighbours. */
static uint8_t content(int t, size_t i)
{
    return (uint8_t)(31 * t + 7 * i + 1);
}

/* Each tensor in pieces of at most 5 bytes. */
static void write_entries(fixture *f)
{
    eq_safetensors_writer w;
    assert_int_equal(eq_safetensors_begin(&f->ctx, &w, f->path, ENTRIES, ENTRY_COUNT), EQ_OK);
    for (int t = 0; t < ENTRY_COUNT; t++) {
        size_t size = eq_tensor_entry_bytes(&ENTRIES[t]);
        for (size_t i = 0; i < size; i += 5) {
            uint8_t piece[5];
            size_t n = size - i < 5 ? size - i : 5;
            for (size_t j = 0; j < n; j++)
                piece[j] = content(t, i + j);
            assert_int_equal(eq_safetensors_write(&w, piece, n), EQ_OK);
        }
    }
    assert_int_equal(eq_safetensors_commit(&w), EQ_OK);
}

static void round_trip(void **state)
{
    fixture *f = *state;
    write_entries(f);
    eq_safetensors *file = open_file(f);
    assert_int_equal(eq_safetensors_count(file), ENTRY_COUNT);
    for (int64_t i = 1; i < ENTRY_COUNT; i++)
        assert_true(strcmp(eq_safetensors_name(file, i - 1), eq_safetensors_name(file, i)) < 0);
    for (int t = 0; t < ENTRY_COUNT; t++) {
        const eq_tensor_entry *e = &ENTRIES[t];
        eq_tensor got;
        assert_true(eq_safetensors_has(file, e->name));
        assert_int_equal(eq_safetensors_get(&f->ctx, file, e->name, &got), EQ_OK);
        assert_int_equal(got.type, e->type);
        assert_int_equal(got.dims, e->dims);
        assert_int_equal(got.rope_pairs, 0);
        for (int i = 0; i < EQ_MAX_DIMS; i++)
            assert_int_equal(got.shape[i], i < e->dims ? e->shape[i] : 1);
        for (size_t i = 0; i < eq_tensor_entry_bytes(e); i++)
            assert_int_equal(((const uint8_t *)got.data)[i], content(t, i));
    }
    eq_tensor got;
    assert_false(eq_safetensors_has(file, "wo"));
    assert_int_equal(eq_safetensors_get(&f->ctx, file, "wo", &got), EQ_EFORMAT);
    assert_non_null(strstr(f->ctx.message, "tensor wo"));
    eq_safetensors_close(file);
}

/* The data start at a multiple of 8 bytes, as readers that map the file want it. */
static void header_is_padded(void **state)
{
    fixture *f = *state;
    write_entries(f);
    eq_safetensors *file = open_file(f);
    uint64_t n = 0;
    const eq_map *map = eq_safetensors_map(file);
    memcpy(&n, map->data, sizeof n);
    assert_int_equal(n % 8, 0);
    assert_int_equal(map->data[8], '{');
    assert_non_null(memmem(map->data + 8, (size_t)n, "{\"format\":\"pt\"}", 15));
    eq_safetensors_close(file);
}

static void write_too_little_or_too_much(void **state)
{
    fixture *f = *state;
    const eq_tensor_entry one = {"x", EQ_F32, 1, {2}};
    for (size_t n = 0; n <= 16; n += 4) {
        eq_safetensors_writer w;
        eq_ctx_clear(&f->ctx);
        assert_int_equal(eq_safetensors_begin(&f->ctx, &w, f->path, &one, 1), EQ_OK);
        assert_int_equal(eq_safetensors_write(&w, "0123456789abcdef", n), EQ_OK);
        assert_false(eq_file_exists(f->path));
        assert_int_equal(eq_safetensors_commit(&w), n == 8 ? EQ_OK : EQ_EINTERNAL);
        assert_int_equal(eq_file_exists(f->path), n == 8);
        unlink(f->path);
    }
    eq_safetensors_writer w;
    assert_int_equal(eq_safetensors_begin(&f->ctx, &w, f->path, &one, 1), EQ_OK);
    eq_safetensors_abandon(&w);
    assert_int_equal(rmdir(f->folder), 0); /* nothing is left behind */
    folder_remove(f->folder);
    f->folder = folder_make();
}

static void write_where_there_is_no_folder(void **state)
{
    fixture *f = *state;
    const eq_tensor_entry one = {"x", EQ_F32, 1, {2}};
    eq_safetensors_writer w;
    assert_int_equal(eq_safetensors_begin(&f->ctx, &w, "/nowhere/x", &one, 1), EQ_EIO);
    assert_non_null(strstr(f->ctx.message, "/nowhere/x"));
}

#define ENTRY(dtype, shape, offsets)                                                               \
    "{\"x\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

/* Each header, with 16 bytes of data, is refused for one reason. */
static void headers_that_lie(void **state)
{
    static const char *const CASES[][2] = {
        {"", "not a JSON object"},
        {"[]", "not a JSON object"},
        {"{", "not a JSON object"},
        {"{\"x\":1}", "dtype or data_offsets is missing"},
        {"{\"x\":{\"shape\":[4],\"data_offsets\":[0,16]}}", "dtype or data_offsets is missing"},
        {"{\"x\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", "shape does not fit"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[4]}}", "dtype or data_offsets is missing"},
        {ENTRY("F32", "[4]", "[0]"), "dtype or data_offsets is missing"},
        {ENTRY("F32", "[4]", "[0,16,16]"), "dtype or data_offsets is missing"},
        {ENTRY("F32", "[4]", "[0.0,16.0]"), "dtype or data_offsets is missing"},
        {ENTRY("F32", "[4]", "[\"0\",\"16\"]"), "dtype or data_offsets is missing"},
        {ENTRY("F32", "[4]", "[0,17]"), "outside the file"},
        {ENTRY("F32", "[4]", "[1,17]"), "outside the file"},
        {ENTRY("F32", "[4]", "[-16,0]"), "outside the file"},
        {ENTRY("F32", "[4]", "[16,0]"), "outside the file"},
        {ENTRY("F32", "[4]", "[9223372036854775792,9223372036854775807]"), "outside the file"},
        {ENTRY("F32", "[4]", "[0,18446744073709551616]"), "not a JSON object"},
        {ENTRY("F32", "[3]", "[0,16]"), "shape does not fit"},
        {ENTRY("F32", "[5]", "[0,16]"), "shape does not fit"},
        {ENTRY("F16", "[4]", "[0,16]"), "shape does not fit"},
        {ENTRY("F64", "[4]", "[0,16]"), "shape does not fit"},
        {ENTRY("F32", "4", "[0,16]"), "shape does not fit"},
        {ENTRY("F32", "[-4]", "[0,16]"), "shape does not fit"},
        {ENTRY("F32", "[-2,-2]", "[0,16]"), "shape does not fit"},
        {ENTRY("F32", "[4.0]", "[0,16]"), "shape does not fit"},
        {ENTRY("F32", "[4611686018427387904,4]", "[0,0]"), "shape does not fit"},
        {ENTRY("F32", "[4611686018427387905]", "[0,4]"), "shape does not fit"},
        {ENTRY("F32", "[4294967296,4294967297]", "[0,0]"), "shape does not fit"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]},"
         "\"y\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[8,16]}}",
         "tensor y: overlaps"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]},"
         "\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]}}",
         "tensor y: overlaps"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         "duplicate"},
        {"{\"x\\u0000y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         "not a JSON object"},
        {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "not a JSON object"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        save(*state, CASES[i][0], 16);
        refused(*state, CASES[i][1]);
    }
    save(*state, ENTRY("F32", "[4]", "[0,16]"), 16); /* what the cases above are made from */
    eq_safetensors_close(open_file(*state));
}

static void header_lengths_that_lie(void **state)
{
    fixture *f = *state;
    const char *header = ENTRY("F32", "[4]", "[0,16]");
    const uint64_t lengths[] = {0,          1,         strlen(header) + 17, LONGEST_HEADER + 1,
                                UINT64_MAX, INT64_MAX, UINT64_MAX - 7,      (uint64_t)1 << 32};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        bytes b = {.size = 0};
        put_u64(&b, lengths[i]);
        put(&b, header, strlen(header));
        put_zeros(&b, 16);
        save_bytes(&b, f->path);
        refused(f, "header");
    }
}

static void nested_deeply(void **state)
{
    char header[20001];
    memset(header, '[', sizeof header - 1);
    header[sizeof header - 1] = 0;
    save(*state, header, 0);
    refused(*state, "not a JSON object");
}

/* A file may hold what we do not read; it is refused only when asked for. */
static void types_that_are_not_read(void **state)
{
    fixture *f = *state;
    eq_tensor t;
    static const char *const SKIPPED[] = {
        ENTRY("F64", "[2]", "[0,16]"), ENTRY("BOOL", "[16]", "[0,16]"),
        ENTRY("F4", "[32]", "[0,16]"), ENTRY("F32", "[1,1,1,1,4]", "[0,16]")};
    for (size_t i = 0; i < sizeof SKIPPED / sizeof *SKIPPED; i++) {
        save(f, SKIPPED[i], 16);
        eq_safetensors *file = open_file(f);
        assert_true(eq_safetensors_has(file, "x"));
        assert_int_equal(eq_safetensors_get(&f->ctx, file, "x", &t), EQ_EFORMAT);
        assert_non_null(strstr(f->ctx.message, "tensor x"));
        eq_safetensors_close(file);
    }
}

/* Metadata is no tensor, whatever it holds; spaces may follow the header. */
static void metadata_and_padding(void **state)
{
    save(*state,
         "{\"__metadata__\":{\"format\":\"pt\",\"dtype\":\"F32\"},"
         "\"x\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}     ",
         16);
    eq_safetensors *file = open_file(*state);
    assert_int_equal(eq_safetensors_count(file), 1);
    assert_false(eq_safetensors_has(file, "__metadata__"));
    eq_safetensors_close(file);
}

static void empty_and_absent(void **state)
{
    fixture *f = *state;
    eq_safetensors *file = NULL;
    bytes b = {.size = 0};
    save_bytes(&b, f->path);
    refused(f, "0 bytes");
    unlink(f->path);
    eq_ctx_clear(&f->ctx);
    assert_int_equal(eq_safetensors_open(&f->ctx, &file, f->path), EQ_EIO);
    assert_non_null(strstr(f->ctx.message, f->path));
    save(f, "{}", 0); /* no tensors at all are legal */
    eq_safetensors_close(open_file(f));
}

static void every_allocation_may_fail(void **state)
{
    fixture *f = *state;
    write_entries(f);
    for (int64_t n = 1;; n++) {
        eq_safetensors *file = NULL;
        eq_ctx_init(&f->ctx, 1);
        f->ctx.fail_allocation = n;
        eq_status st = eq_safetensors_open(&f->ctx, &file, f->path);
        eq_safetensors_close(file);
        if (st == EQ_OK) {
            assert_true(n > 3);
            break;
        }
        assert_int_equal(st, EQ_ENOMEM);
        assert_null(file);
    }
    for (int64_t n = 1;; n++) {
        eq_safetensors_writer w;
        eq_ctx_init(&f->ctx, 1);
        f->ctx.fail_allocation = n;
        eq_status st = eq_safetensors_begin(&f->ctx, &w, f->path, ENTRIES, ENTRY_COUNT);
        if (st == EQ_OK) {
            eq_safetensors_abandon(&w);
            break;
        }
        assert_int_equal(st, EQ_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trip, make, destroy),
        cmocka_unit_test_setup_teardown(header_is_padded, make, destroy),
        cmocka_unit_test_setup_teardown(write_too_little_or_too_much, make, destroy),
        cmocka_unit_test_setup_teardown(write_where_there_is_no_folder, make, destroy),
        cmocka_unit_test_setup_teardown(headers_that_lie, make, destroy),
        cmocka_unit_test_setup_teardown(header_lengths_that_lie, make, destroy),
        cmocka_unit_test_setup_teardown(nested_deeply, make, destroy),
        cmocka_unit_test_setup_teardown(types_that_are_not_read, make, destroy),
        cmocka_unit_test_setup_teardown(metadata_and_padding, make, destroy),
        cmocka_unit_test_setup_teardown(empty_and_absent, make, destroy),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, make, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
