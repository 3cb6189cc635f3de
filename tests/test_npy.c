/* Arrays in numpy's format: what is written is read, hostile files are refused. */
#include "io/npy.h"
#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static eq_ctx ctx;
static char *folder, *path;

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 1);
    folder = folder_make();
    path = eq_path_join(&ctx, folder, "a.npy");
    return path ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    eq_free(path);
    folder_remove(folder);
    return 0;
}

/* Write magic, version, a header of `length` bytes as announced, and `size` bytes of data. */
static void write_file(int version, uint32_t length, const char *header, const void *data,
                       size_t size)
{
    const uint8_t head[12] = {0x93,
                              'N',
                              'U',
                              'M',
                              'P',
                              'Y',
                              (uint8_t)version,
                              0,
                              length & 255,
                              length >> 8 & 255,
                              length >> 16 & 255,
                              length >> 24};
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    fwrite(head, 1, version > 1 ? 12 : 10, out);
    fwrite(header, 1, strlen(header), out);
    if (size) fwrite(data, 1, size, out);
    assert_int_equal(fclose(out), 0);
}

static void write_array(const char *header, const void *data, size_t size)
{
    write_file(1, (uint32_t)strlen(header), header, data, size);
}

static void expect_array(const int32_t *want, int64_t rows, int64_t columns)
{
    int64_t shape[2] = {-1, -1};
    int32_t *data = NULL;
    eq_ctx_clear(&ctx);
    eq_status st = eq_npy_read_i32(&ctx, path, &data, shape);
    if (st != EQ_OK) print_error("%s\n", ctx.message);
    assert_int_equal(st, EQ_OK);
    assert_int_equal(shape[0], rows);
    assert_int_equal(shape[1], columns);
    for (int64_t i = 0; i < rows * columns; i++)
        assert_int_equal(data[i], want[i]);
    eq_free(data);
}

static void expect_refused(const char *part)
{
    int64_t shape[2] = {0, 0};
    int32_t *data = NULL;
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_npy_read_i32(&ctx, path, &data, shape), EQ_EFORMAT);
    assert_null(data);
    if (!strstr(ctx.message, part)) print_error("'%s' lacks '%s'\n", ctx.message, part);
    assert_non_null(strstr(ctx.message, part));
    assert_non_null(strstr(ctx.message, path));
}

static const int32_t SIX[] = {0, 1, -1, INT32_MAX, INT32_MIN, 49151};

static void round_trip(void **state)
{
    (void)state;
    assert_int_equal(eq_npy_write_i32(&ctx, path, SIX, 2, 3), EQ_OK);
    expect_array(SIX, 2, 3);
    assert_int_equal(eq_npy_write_i32(&ctx, path, SIX, 6, 1), EQ_OK);
    expect_array(SIX, 6, 1);
    assert_int_equal(eq_npy_write_i32(&ctx, path, SIX, 0, 3), EQ_OK);
    expect_array(SIX, 0, 3);
}

/* The bytes of a file as numpy writes it: the data starts at a multiple of 64. */
static void written_bytes(void **state)
{
    (void)state;
    const float values[] = {1.5F, -2, 0, 4};
    char *bytes = NULL;
    size_t size = 0;
    assert_int_equal(eq_npy_write_f32(&ctx, path, values, 2, 2), EQ_OK);
    assert_int_equal(eq_file_read(&ctx, path, 1 << 16, &bytes, &size), EQ_OK);
    assert_int_equal(size, 128 + sizeof values);
    assert_memory_equal(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    const char *header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
    assert_memory_equal(bytes + 10, header, strlen(header));
    assert_int_equal(bytes[127], '\n');
    assert_memory_equal(bytes + 128, values, sizeof values);
    eq_free(bytes);
    expect_refused("int32"); /* floats are no ids */
}

static void other_forms(void **state)
{
    (void)state;
    const int64_t wide[] = {7, INT32_MIN, INT32_MAX, -3};
    const int32_t narrow[] = {7, INT32_MIN, INT32_MAX, -3};
    const char *header = "{'shape': (2, 2), 'fortran_order': False, 'descr': '<i8'}\n";
    write_array(header, wide, sizeof wide);
    expect_array(narrow, 2, 2);
    header = "{'descr':'<i4','fortran_order':False,'shape':(1,4)}";
    write_array(header, narrow, sizeof narrow);
    expect_array(narrow, 1, 4);
    write_file(2, (uint32_t)strlen(header), header, narrow, sizeof narrow); /* long lengths */
    expect_array(narrow, 1, 4);
}

static void what_is_refused(void **state)
{
    (void)state;
    const char *headers[] = {
        "{'descr': '>i4', 'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': '<u4', 'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }",
        "{'descr': '<i4', 'shape': (2, 3), }",
        "{'fortran_order': False, 'shape': (2, 3), }",
        "{'descr': '<i4', 'fortran_order': False, }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (6,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2, 3), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (,3), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (-2, -3), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2.5, 3), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999, 1), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3",
        "{'descr': '<i4', 'fortran_order': False, 'shape'",
        "{'descr'",
        ""};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        write_array(headers[i], SIX, sizeof SIX);
        expect_refused("is not a two-dimensional little-endian int32 array");
    }
}

static void wrong_amounts(void **state)
{
    (void)state;
    const char *header = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }";
    write_array(header, SIX, sizeof SIX - 1);
    expect_refused("has 23 bytes of data, its shape needs 24");
    write_array(header, SIX, 0);
    expect_refused("has 0 bytes of data");
    write_array("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), }", SIX, sizeof SIX);
    expect_refused("has 24 bytes of data, its shape needs 16");
    write_array("{'descr': '<i8', 'fortran_order': False, 'shape': (1073741823, 1073741823), }",
                SIX, sizeof SIX);
    expect_refused("its shape needs 9223372019674906632");
    const int64_t large[] = {0, (int64_t)INT32_MAX + 1};
    write_array("{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2), }", large, sizeof large);
    expect_refused("value 2147483648 does not fit 32 bits");
}

/* The length of the header, and files that end inside of it. */
static void broken_lengths(void **state)
{
    (void)state;
    const char *header = "{'descr': '<i4', 'fortran_order': False, 'shape': (0, 3), }";
    const char *part = "is not a two-dimensional";
    write_file(1, 65535, header, SIX, sizeof SIX);
    expect_refused(part);
    write_file(2, UINT32_MAX, header, SIX, sizeof SIX);
    expect_refused(part);
    write_file(1, (uint32_t)strlen(header) + 1, header, NULL, 0);
    expect_refused(part);
    assert_int_equal(eq_file_write(&ctx, path, "not an array", 12), EQ_OK);
    expect_refused(part);
    for (size_t n = 0; n < 12; n++) {
        assert_int_equal(eq_file_write(&ctx, path, "\x93NUMPY\x02\x00\x00\x00\x00", n), EQ_OK);
        expect_refused(part);
    }
}

static void absent_and_out_of_memory(void **state)
{
    (void)state;
    int64_t shape[2] = {0, 0};
    int32_t *data = NULL;
    assert_int_equal(eq_npy_read_i32(&ctx, path, &data, shape), EQ_EIO);
    assert_null(data);
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_npy_write_i32(&ctx, path, SIX, 2, 3), EQ_OK);
    eq_status st = EQ_ENOMEM;
    int64_t n = 0;
    for (n = 1; st == EQ_ENOMEM; n++) {
        eq_ctx_clear(&ctx);
        ctx.allocations = 0;
        ctx.fail_allocation = n;
        st = eq_npy_read_i32(&ctx, path, &data, shape);
        if (st != EQ_OK) assert_null(data);
    }
    ctx.fail_allocation = 0;
    assert_int_equal(st, EQ_OK);
    assert_in_range(n, 3, 20);
    eq_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(written_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(other_forms, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_amounts, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_lengths, setup, teardown),
        cmocka_unit_test_setup_teardown(absent_and_out_of_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
