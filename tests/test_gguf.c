/* The GGUF container: values and tensors of every kind that is read, and headers that lie. */
#include "io/gguf.h"

#include "support_bytes.h"
#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Numbers that the format gives to kinds of values. */
enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, KINDS };

typedef struct fixture {
    char *folder;
    char path[128];
    eq_ctx ctx;
    bytes b; /* the file being made */
} fixture;

static int make(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    f->folder = folder_make();
    snprintf(f->path, sizeof f->path, "%s/t.gguf", f->folder);
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

static void begin(bytes *b, uint32_t version, uint64_t tensors, uint64_t values)
{
    b->size = 0;
    put(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, tensors);
    put_u64(b, values);
}

static void put_value(bytes *b, const char *key, uint32_t kind, const void *value, size_t size)
{
    put_text(b, key);
    put_u32(b, kind);
    put(b, value, size);
}

static void put_array(bytes *b, const char *key, uint32_t element, uint64_t count)
{
    put_text(b, key);
    put_u32(b, ARRAY);
    put_u32(b, element);
    put_u64(b, count);
}

/* Shape innermost first, as in the file. */
static void put_tensor(bytes *b, const char *name, int dims, const uint64_t *shape, uint32_t type,
                       uint64_t offset)
{
    put_text(b, name);
    put_u32(b, (uint32_t)dims);
    for (int i = 0; i < dims; i++)
        put_u64(b, shape[i]);
    put_u32(b, type);
    put_u64(b, offset);
}

static eq_gguf *open_file(fixture *f)
{
    eq_gguf *file = NULL;
    eq_ctx_clear(&f->ctx);
    save_bytes(&f->b, f->path);
    eq_status st = eq_gguf_open(&f->ctx, &file, f->path);
    assert_string_equal(f->ctx.message, "");
    assert_int_equal(st, EQ_OK);
    return file;
}

/* The file in f->b is refused with a message that holds its path and `part`. */
static void refused(fixture *f, const char *part)
{
    eq_gguf *file = NULL;
    eq_ctx_clear(&f->ctx);
    save_bytes(&f->b, f->path);
    assert_int_equal(eq_gguf_open(&f->ctx, &file, f->path), EQ_EFORMAT);
    assert_null(file);
    assert_non_null(strstr(f->ctx.message, f->path));
    if (!strstr(f->ctx.message, part)) fail_msg("%s: expected: %s", f->ctx.message, part);
}

static void integers_of_every_width(void **state)
{
    fixture *f = *state;
    static const int KIND[] = {U8, I8, U16, I16, U32, I32, U64, I64};
    static const int WIDTH[] = {1, 1, 2, 2, 4, 4, 8, 8};
    const int64_t low = -2, high = INT64_MAX;
    begin(&f->b, 3, 0, 17);
    for (int i = 0; i < 8; i++) {
        char key[8];
        snprintf(key, sizeof key, "low%d", i);
        put_value(&f->b, key, (uint32_t)KIND[i], &low, (size_t)WIDTH[i]);
        snprintf(key, sizeof key, "high%d", i);
        put_value(&f->b, key, (uint32_t)KIND[i], &high, (size_t)WIDTH[i]);
    }
    put_value(&f->b, "real", F32, &(float){1}, 4);
    eq_gguf *file = open_file(f);
    for (int i = 0; i < 8; i++) {
        char key[8];
        int64_t v = 0;
        bool is_signed = i % 2;
        int bits = 8 * WIDTH[i];
        snprintf(key, sizeof key, "low%d", i);
        bool fits = KIND[i] != U64; /* 2^64 - 2 is no int64 */
        assert_int_equal(eq_gguf_integer(file, key, &v), fits);
        if (fits) assert_true(v == (is_signed ? low : ((int64_t)1 << bits) - 2));
        snprintf(key, sizeof key, "high%d", i);
        assert_true(eq_gguf_integer(file, key, &v));
        if (bits < 64) assert_true(v == (is_signed ? -1 : ((int64_t)1 << bits) - 1));
        if (bits == 64) assert_true(v == INT64_MAX);
    }
    int64_t v = 5;
    assert_false(eq_gguf_integer(file, "real", &v));
    assert_false(eq_gguf_integer(file, "absent", &v));
    assert_int_equal(v, 5);
    eq_gguf_close(file);
}

static void put_strings(bytes *b)
{
    put_array(b, "strings", STRING, 3);
    put_text(b, "");
    put_text(b, "one");
    put_text(b, "\xff two");
}

static void values_of_every_kind(void **state)
{
    fixture *f = *state;
    bytes *b = &f->b;
    begin(b, 2, 0, 9);
    put_string(b, "text", "words");
    put_string(b, "none", "");
    put_value(b, "f32", F32, &(float){0.5f}, 4);
    put_value(b, "f64", F64, &(double){0.1}, 8);
    put_value(b, "yes", BOOL, &(uint8_t){1}, 1);
    put_value(b, "no", BOOL, &(uint8_t){0}, 1);
    put_strings(b);
    put_array(b, "ids", I32, 3);
    put(b, (const int32_t[]){-1, 2, 2000000000}, 12);
    put_array(b, "empty", U32, 0);
    eq_gguf *file = open_file(f);
    eq_text text, texts[3];
    double real = 0;
    bool flag = false;
    int32_t ids[3];
    assert_true(eq_gguf_string(file, "text", &text));
    assert_int_equal(text.size, 5);
    assert_memory_equal(text.data, "words", 5);
    assert_true(eq_gguf_string(file, "none", &text));
    assert_int_equal(text.size, 0);
    assert_true(eq_gguf_real(file, "f32", &real) && real == 0.5);
    assert_true(eq_gguf_real(file, "f64", &real) && real == 0.1);
    assert_true(eq_gguf_bool(file, "yes", &flag) && flag);
    assert_true(eq_gguf_bool(file, "no", &flag) && !flag);
    assert_int_equal(eq_gguf_array_size(file, "strings"), 3);
    assert_true(eq_gguf_strings(file, "strings", texts));
    assert_int_equal(texts[0].size, 0);
    assert_memory_equal(texts[1].data, "one", 3);
    assert_int_equal(texts[2].size, 5);
    assert_int_equal(eq_gguf_array_size(file, "ids"), 3);
    assert_true(eq_gguf_integers(file, "ids", ids));
    assert_int_equal(ids[0], -1);
    assert_int_equal(ids[2], 2000000000);
    assert_int_equal(eq_gguf_array_size(file, "empty"), 0);
    assert_true(eq_gguf_integers(file, "empty", ids));
    /* Asked for as another kind, or by a part of the key. */
    assert_false(eq_gguf_string(file, "ids", &text) || eq_gguf_string(file, "tex", &text));
    assert_false(eq_gguf_real(file, "text", &real) || eq_gguf_bool(file, "f32", &flag));
    assert_false(eq_gguf_strings(file, "ids", texts) || eq_gguf_strings(file, "text", texts));
    assert_false(eq_gguf_integers(file, "strings", ids) || eq_gguf_integers(file, "f64", ids));
    assert_int_equal(eq_gguf_array_size(file, "text"), -1);
    eq_gguf_close(file);
}

/* One tensor of a type with ggml's number, 2 x 32 x 3 (innermost 32), bytes 1, 2, 3, ... */
static void make_tensor(bytes *b, uint32_t type, uint32_t alignment, uint64_t offset, size_t size)
{
    begin(b, 3, 1, alignment ? 1 : 0);
    if (alignment) put_size(b, "general.alignment", alignment);
    put_tensor(b, "t", 3, (const uint64_t[]){32, 3, 2}, type, offset);
    put_padding(b, alignment ? alignment : 32);
    put_zeros(b, (size_t)offset);
    for (size_t i = 0; i < size; i++)
        put(b, &(uint8_t){(uint8_t)(i + 1)}, 1);
}

static void tensors_of_every_type(void **state)
{
    fixture *f = *state;
    static const struct {
        uint32_t number;
        eq_dtype type;
        size_t size; /* of 192 elements */
    } TYPES[] = {{0, EQ_F32, 768},  {1, EQ_F16, 384},   {2, EQ_Q4_0, 108}, {3, EQ_Q4_1, 120},
                 {8, EQ_Q8_0, 204}, {30, EQ_BF16, 384}, {26, EQ_I32, 768}, {6, EQ_Q5_0, 132}};
    static const uint32_t ALIGNMENTS[] = {0, 8, 64, 4096};
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        for (size_t a = 0; a < sizeof ALIGNMENTS / sizeof *ALIGNMENTS; a++) {
            eq_tensor t;
            make_tensor(&f->b, TYPES[i].number, ALIGNMENTS[a], 64, TYPES[i].size);
            eq_gguf *file = open_file(f);
            assert_int_equal(eq_gguf_count(file), 1);
            assert_int_equal(eq_gguf_name(file, 0).size, 1);
            assert_true(eq_gguf_has(file, "t") && !eq_gguf_has(file, "tt"));
            assert_int_equal(eq_gguf_get(&f->ctx, file, "t", &t), EQ_OK);
            assert_int_equal(t.type, TYPES[i].type);
            assert_int_equal(t.dims, 3);
            assert_true(t.shape[0] == 2 && t.shape[1] == 3 && t.shape[2] == 32 && t.shape[3] == 1);
            assert_int_equal(*(const uint8_t *)t.data, 1);
            eq_gguf_close(file);
            f->b.size--; /* the last byte of the tensor is gone */
            file = open_file(f);
            assert_int_equal(eq_gguf_get(&f->ctx, file, "t", &t), EQ_EFORMAT);
            assert_non_null(strstr(f->ctx.message, "tensor t"));
            eq_gguf_close(file);
        }
}

static void tensors_that_are_not_read(void **state)
{
    fixture *f = *state;
    static const struct {
        uint64_t shape[3], offset;
        uint32_t type;
        const char *part;
    } CASES[] = {
        {{256, 1, 1}, 0, 16, "ggml type 16"},
        {{32, 1, 1}, 0, UINT32_MAX, "ggml type 4294967295"},
        {{33, 1, 1}, 0, 8, "does not lie inside"},
        {{0, 1, 1}, 0, 0, "does not lie inside"},
        {{32, 1, 1}, UINT64_MAX, 0, "does not lie inside"},
        {{32, 1, 1}, UINT64_MAX - 127, 0, "does not lie inside"},
        {{32, 1, 1}, (uint64_t)1 << 63, 0, "does not lie inside"},
        {{32, 1, 1}, 4096, 0, "does not lie inside"},
        {{INT32_MAX, INT32_MAX, INT32_MAX}, 0, 0, "does not lie inside"},
        {{1 << 30, 1 << 30, 4}, 0, 0, "does not lie inside"},
        {{1 << 30, 1 << 30, 16}, 0, 8, "does not lie inside"},
        /* 2^62 + 16 elements: 64 bytes, if their number overflowed. */
        {{80, 107367629, 536903681}, 0, 0, "does not lie inside"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        eq_tensor t;
        begin(&f->b, 3, 1, 0);
        put_tensor(&f->b, "t", 3, CASES[i].shape, CASES[i].type, CASES[i].offset);
        put_padding(&f->b, 32);
        put_zeros(&f->b, 256);
        eq_gguf *file = open_file(f);
        assert_int_equal(eq_gguf_get(&f->ctx, file, "t", &t), EQ_EFORMAT);
        assert_non_null(strstr(f->ctx.message, CASES[i].part));
        eq_gguf_close(file);
    }
}

static void versions_and_counts(void **state)
{
    fixture *f = *state;
    static const struct {
        uint32_t version;
        uint64_t tensors, values;
        const char *part;
    } CASES[] = {
        {0, 0, 0, "version 0"},
        {1, 0, 0, "version 1"},
        {4, 0, 0, "version 4"},
        {0x03000000, 0, 0, "version 50331648"}, /* big-endian */
        {3, UINT64_MAX, 0, "does not fit"},
        {3, 0, UINT64_MAX, "does not fit"},
        {3, 1 << 24, 0, "does not fit"},
        {3, 0, (uint64_t)1 << 60, "does not fit"},
        {3, 0, 1, "metadata value 0"},
        {3, 1, 0, "description of tensor 0"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        begin(&f->b, CASES[i].version, CASES[i].tensors, CASES[i].values);
        refused(f, CASES[i].part);
    }
    begin(&f->b, 3, 0, 0);
    eq_gguf_close(open_file(f));
    memcpy(f->b.data, "GGML", 4);
    refused(f, "not a GGUF file");
    f->b.size = 0;
    refused(f, "is empty");
}

static void values_that_lie(void **state)
{
    fixture *f = *state;
    bytes *b = &f->b;
    static const uint64_t LENGTHS[] = {1, UINT64_MAX, INT64_MAX, UINT64_MAX - 32};
    for (size_t i = 0; i < 4; i++) { /* lengths of a key, a string, an array, a string in one */
        begin(b, 3, 0, 1);
        put_u64(b, LENGTHS[i]);
        refused(f, "metadata value 0");
        begin(b, 3, 0, 1);
        put_value(b, "k", STRING, &LENGTHS[i], 8);
        refused(f, "metadata value 0");
        begin(b, 3, 0, 1);
        put_array(b, "k", U64, LENGTHS[i]);
        refused(f, "metadata value 0");
        begin(b, 3, 0, 1);
        put_array(b, "k", STRING, LENGTHS[i]);
        refused(f, "metadata value 0");
        begin(b, 3, 0, 1);
        put_array(b, "k", STRING, 1);
        put_u64(b, LENGTHS[i]);
        refused(f, "metadata value 0");
    }
    static const uint32_t UNKNOWN[] = {KINDS, 255, UINT32_MAX};
    for (int i = 0; i < 3; i++) {
        begin(b, 3, 0, 1);
        put_value(b, "k", UNKNOWN[i], "01234567", 8);
        refused(f, "metadata value 0");
        begin(b, 3, 0, 1);
        put_array(b, "k", UNKNOWN[i], 0);
        refused(f, "metadata value 0");
    }
    begin(b, 3, 0, 1);
    put_array(b, "k", ARRAY, 0); /* an array of arrays */
    refused(f, "metadata value 0");
    /* 2^61 elements of 8 bytes: their size overflows to 0. */
    begin(b, 3, 0, 1);
    put_array(b, "k", U64, (uint64_t)1 << 61);
    refused(f, "metadata value 0");
}

static void alignments_that_lie(void **state)
{
    fixture *f = *state;
    static const uint32_t ALIGNMENTS[] = {0, 1, 4, 24, 33, 1 << 17, UINT32_MAX};
    for (size_t i = 0; i < sizeof ALIGNMENTS / sizeof *ALIGNMENTS; i++) {
        begin(&f->b, 3, 0, 1);
        put_size(&f->b, "general.alignment", ALIGNMENTS[i]);
        refused(f, "general.alignment");
    }
    /* The data would start behind the end of the file. */
    eq_tensor t;
    begin(&f->b, 3, 1, 1);
    put_size(&f->b, "general.alignment", 1 << 16);
    put_tensor(&f->b, "t", 1, (const uint64_t[]){1}, 0, 0);
    eq_gguf *file = open_file(f);
    assert_int_equal(eq_gguf_get(&f->ctx, file, "t", &t), EQ_EFORMAT);
    eq_gguf_close(file);
}

static void descriptions_that_lie(void **state)
{
    fixture *f = *state;
    const uint64_t shape[5] = {1, 1, 1, 1, 1}, huge[1] = {(uint64_t)INT32_MAX + 1};
    begin(&f->b, 3, 1, 0);
    put_tensor(&f->b, "t", 0, shape, 0, 0);
    put_zeros(&f->b, 64);
    refused(f, "description of tensor 0");
    begin(&f->b, 3, 1, 0);
    put_tensor(&f->b, "t", 5, shape, 0, 0);
    put_zeros(&f->b, 64);
    refused(f, "description of tensor 0");
    begin(&f->b, 3, 1, 0);
    put_tensor(&f->b, "t", 1, huge, 0, 0);
    put_zeros(&f->b, 64);
    refused(f, "description of tensor 0");
}

static void names_that_are_there_twice(void **state)
{
    fixture *f = *state;
    const uint64_t shape[1] = {1};
    begin(&f->b, 3, 3, 0);
    put_tensor(&f->b, "t", 1, shape, 0, 0);
    put_tensor(&f->b, "u", 1, shape, 0, 0);
    put_tensor(&f->b, "t", 1, shape, 0, 0);
    refused(f, "t is there twice");
    begin(&f->b, 3, 0, 3);
    put_size(&f->b, "key", 1);
    put_size(&f->b, "ke", 1);
    put_string(&f->b, "key", "1");
    refused(f, "key is there twice");
}

/* The header of a file with all kinds of things, cut after each of its bytes. */
static void header_cut_anywhere(void **state)
{
    fixture *f = *state;
    begin(&f->b, 3, 2, 4);
    put_string(&f->b, "text", "words");
    put_strings(&f->b);
    put_value(&f->b, "f64", F64, "01234567", 8);
    put_array(&f->b, "ids", I32, 2);
    put_zeros(&f->b, 8);
    put_tensor(&f->b, "a", 2, (const uint64_t[]){4, 4}, 0, 0);
    put_tensor(&f->b, "b", 1, (const uint64_t[]){4}, 1, 64);
    size_t size = f->b.size;
    eq_gguf_close(open_file(f));
    for (size_t n = size; n-- > 0;) {
        f->b.size = n;
        refused(f, "");
    }
}

static void every_allocation_may_fail(void **state)
{
    fixture *f = *state;
    make_tensor(&f->b, 0, 32, 0, 768);
    save_bytes(&f->b, f->path);
    for (int64_t n = 1;; n++) {
        eq_gguf *file = NULL;
        eq_ctx_init(&f->ctx, 1);
        f->ctx.fail_allocation = n;
        eq_status st = eq_gguf_open(&f->ctx, &file, f->path);
        eq_gguf_close(file);
        if (st == EQ_OK) {
            assert_true(n > 4);
            break;
        }
        assert_int_equal(st, EQ_ENOMEM);
        assert_null(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(integers_of_every_width, make, destroy),
        cmocka_unit_test_setup_teardown(values_of_every_kind, make, destroy),
        cmocka_unit_test_setup_teardown(tensors_of_every_type, make, destroy),
        cmocka_unit_test_setup_teardown(tensors_that_are_not_read, make, destroy),
        cmocka_unit_test_setup_teardown(versions_and_counts, make, destroy),
        cmocka_unit_test_setup_teardown(values_that_lie, make, destroy),
        cmocka_unit_test_setup_teardown(alignments_that_lie, make, destroy),
        cmocka_unit_test_setup_teardown(descriptions_that_lie, make, destroy),
        cmocka_unit_test_setup_teardown(names_that_are_there_twice, make, destroy),
        cmocka_unit_test_setup_teardown(header_cut_anywhere, make, destroy),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, make, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
