/* Files appear whole or not at all, and what cannot be read is refused with its name. */
#include "base/file.h"

#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct fixture {
    char *folder;
    char path[128]; /* folder/file, which is not there yet */
    eq_ctx ctx;
} fixture;

static int make(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    f->folder = folder_make();
    snprintf(f->path, sizeof f->path, "%s/file", f->folder);
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

static void expect_content(fixture *f, const char *path, const char *want)
{
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(eq_file_read(&f->ctx, path, 1 << 20, &data, &size), EQ_OK);
    assert_int_equal(size, strlen(want));
    assert_string_equal(data, want);
    eq_free(data);
}

/* The file at f->path is the only one: no temporary is left. */
static void expect_alone(fixture *f, bool there)
{
    assert_int_equal(eq_file_exists(f->path), there);
    if (there) assert_int_equal(unlink(f->path), 0);
    assert_int_equal(rmdir(f->folder), 0);
    assert_int_equal(mkdir(f->folder, 0700), 0);
}

static void written_in_pieces(void **state)
{
    fixture *f = *state;
    eq_output out;
    assert_int_equal(eq_output_open(&f->ctx, &out, f->path), EQ_OK);
    assert_int_equal(eq_output_write(&out, "one ", 4), EQ_OK);
    assert_int_equal(eq_output_write(&out, NULL, 0), EQ_OK);
    assert_int_equal(eq_output_printf(&out, "%d %s", 2, "three"), EQ_OK);
    assert_false(eq_file_exists(f->path));
    assert_int_equal(eq_output_commit(&out), EQ_OK);
    expect_content(f, f->path, "one 2 three");
    eq_output_abandon(&out); /* harmless now */
    expect_alone(f, true);
}

static void abandoned(void **state)
{
    fixture *f = *state;
    eq_output out;
    assert_int_equal(eq_file_write(&f->ctx, f->path, "old", 3), EQ_OK);
    assert_int_equal(eq_output_open(&f->ctx, &out, f->path), EQ_OK);
    assert_int_equal(eq_output_write(&out, "new", 3), EQ_OK);
    eq_output_abandon(&out);
    expect_content(f, f->path, "old");
    expect_alone(f, true);
}

static void no_folder_to_write_to(void **state)
{
    fixture *f = *state;
    eq_output out;
    char path[160];
    snprintf(path, sizeof path, "%s/absent/x", f->folder);
    assert_int_equal(eq_output_open(&f->ctx, &out, path), EQ_EIO);
    assert_non_null(strstr(f->ctx.message, path));
    eq_output_abandon(&out);
}

/* A folder stands where the file should go: only the rename notices. */
static void rename_fails(void **state)
{
    fixture *f = *state;
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_int_equal(eq_file_write(&f->ctx, f->path, "x", 1), EQ_EIO);
    assert_non_null(strstr(f->ctx.message, f->path));
    assert_int_equal(rmdir(f->path), 0);
    expect_alone(f, false);
}

/* A write that does not fit is remembered, and the file of before stays. */
static void disk_is_full(void **state)
{
    fixture *f = *state;
    FILE *full = fopen("/dev/full", "wb");
    if (!full) {
        print_message("no /dev/full here\n");
        skip();
    }
    eq_output out;
    assert_int_equal(eq_file_write(&f->ctx, f->path, "old", 3), EQ_OK);
    assert_int_equal(eq_output_open(&f->ctx, &out, f->path), EQ_OK);
    fclose(out.stream);
    out.stream = full;
    assert_int_equal(eq_output_write(&out, "new", 3), EQ_OK); /* into the buffer */
    assert_int_equal(eq_output_commit(&out), EQ_EIO);
    assert_non_null(strstr(f->ctx.message, f->path));
    expect_content(f, f->path, "old");
    expect_alone(f, true);
}

static void write_error_is_sticky(void **state)
{
    fixture *f = *state;
    FILE *full = fopen("/dev/full", "wb");
    if (!full) {
        print_message("no /dev/full here\n");
        skip();
    }
    eq_output out;
    assert_int_equal(eq_output_open(&f->ctx, &out, f->path), EQ_OK);
    fclose(out.stream);
    out.stream = full;
    setvbuf(full, NULL, _IONBF, 0);
    assert_int_equal(eq_output_write(&out, "x", 1), EQ_EIO);
    assert_int_equal(eq_output_printf(&out, "x"), EQ_EIO);
    assert_int_equal(eq_output_commit(&out), EQ_EIO);
    expect_alone(f, false);
}

static void mapping(void **state)
{
    fixture *f = *state;
    eq_map map;
    enum { SIZE = 3 * 4096 + 5 };
    char *data = malloc(SIZE);
    for (int i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7 / 5);
    assert_int_equal(eq_file_write(&f->ctx, f->path, data, SIZE), EQ_OK);
    assert_int_equal(eq_map_open(&f->ctx, &map, f->path), EQ_OK);
    assert_int_equal(map.size, SIZE);
    assert_string_equal(map.path, f->path);
    assert_memory_equal(map.data, data, SIZE);
    eq_map_release(&map, 0, SIZE);
    eq_map_release(&map, 100, 8000);
    eq_map_release(&map, SIZE, 0);
    eq_map_release(&map, 1, SIZE_MAX); /* out of range: nothing happens */
    eq_map_release(&map, SIZE_MAX, 1);
    assert_memory_equal(map.data, data, SIZE);
    eq_map_close(&map);
    assert_null(map.data);
    eq_map_close(&map);
    free(data);
}

static void empty_file(void **state)
{
    fixture *f = *state;
    eq_map map;
    assert_int_equal(eq_file_write(&f->ctx, f->path, NULL, 0), EQ_OK);
    assert_int_equal(eq_map_open(&f->ctx, &map, f->path), EQ_OK);
    assert_int_equal(map.size, 0);
    eq_map_release(&map, 0, 0);
    eq_map_close(&map);
    expect_content(f, f->path, "");
}

/* A named pipe would keep the program waiting for a writer. */
static void what_is_no_file(void **state)
{
    fixture *f = *state;
    eq_map map;
    assert_int_equal(mkfifo(f->path, 0600), 0);
    const char *const paths[] = {f->folder, f->path, "/dev/null", "/nowhere/x", ""};
    alarm(20);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        eq_ctx_clear(&f->ctx);
        assert_int_equal(eq_map_open(&f->ctx, &map, paths[i]), EQ_EIO);
        assert_non_null(strstr(f->ctx.message, paths[i]));
        assert_false(eq_file_exists(paths[i]));
        eq_map_close(&map);
    }
    alarm(0);
}

static void read_limit(void **state)
{
    fixture *f = *state;
    char *data = (char *)f;
    size_t size = 0;
    assert_int_equal(eq_file_write(&f->ctx, f->path, "12345", 5), EQ_OK);
    assert_int_equal(eq_file_read(&f->ctx, f->path, 4, &data, &size), EQ_EFORMAT);
    assert_null(data);
    assert_non_null(strstr(f->ctx.message, "5 bytes"));
    assert_int_equal(eq_file_read(&f->ctx, f->path, 5, &data, &size), EQ_OK);
    assert_int_equal(data[5], 0);
    eq_free(data);
}

static void copying(void **state)
{
    fixture *f = *state;
    char *to = eq_path_join(&f->ctx, f->folder, "copy");
    assert_int_equal(eq_file_write(&f->ctx, f->path, "a\0b", 3), EQ_OK);
    assert_int_equal(eq_file_copy(&f->ctx, to, f->path), EQ_OK);
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(eq_file_read(&f->ctx, to, 3, &data, &size), EQ_OK);
    assert_int_equal(size, 3);
    assert_memory_equal(data, "a\0b", 4);
    assert_int_equal(eq_file_copy(&f->ctx, f->path, f->path), EQ_OK); /* onto itself */
    assert_int_equal(eq_file_copy(&f->ctx, to, "/nowhere/x"), EQ_EIO);
    eq_free(data);
    eq_free(to);
}

static void folders(void **state)
{
    fixture *f = *state;
    static const char *const MADE[] = {"a", "a/b/c", "a//b/d/", "a"};
    char path[192];
    for (size_t i = 0; i < sizeof MADE / sizeof *MADE; i++) {
        snprintf(path, sizeof path, "%s/%s", f->folder, MADE[i]);
        assert_int_equal(eq_folder_make(&f->ctx, path), EQ_OK);
        assert_true(eq_folder_exists(path));
        assert_false(eq_file_exists(path));
    }
    static const char *const REMOVED[] = {"a/b/c", "a/b/d", "a/b", "a"};
    for (size_t i = 0; i < sizeof REMOVED / sizeof *REMOVED; i++) {
        snprintf(path, sizeof path, "%s/%s", f->folder, REMOVED[i]);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(eq_folder_make(&f->ctx, "/"), EQ_OK);
}

static void folders_that_cannot_be(void **state)
{
    fixture *f = *state;
    char below[160];
    snprintf(below, sizeof below, "%s/x", f->path);
    assert_int_equal(eq_file_write(&f->ctx, f->path, "x", 1), EQ_OK);
    const char *const paths[] = {f->path, below, ""};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        eq_ctx_clear(&f->ctx);
        assert_int_equal(eq_folder_make(&f->ctx, paths[i]), EQ_EIO);
        assert_non_null(strstr(f->ctx.message, paths[i]));
    }
}

/* One function after the other, with the n-th allocation failing. */
static eq_status use_everything(fixture *f)
{
    char *data = NULL;
    size_t size = 0;
    eq_status st = eq_file_write(&f->ctx, f->path, "12345", 5);
    if (st == EQ_OK) st = eq_file_read(&f->ctx, f->path, 5, &data, &size);
    if (st == EQ_OK) st = eq_folder_make(&f->ctx, f->folder);
    if (st == EQ_OK) st = eq_file_copy(&f->ctx, f->path, f->path);
    eq_free(data);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    fixture *f = *state;
    for (int64_t n = 1;; n++) {
        eq_ctx_init(&f->ctx, 1);
        f->ctx.fail_allocation = n;
        eq_status st = use_everything(f);
        if (st == EQ_OK) {
            assert_true(n > 7);
            break;
        }
        assert_int_equal(st, EQ_ENOMEM);
        expect_alone(f, n > 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written_in_pieces, make, destroy),
        cmocka_unit_test_setup_teardown(abandoned, make, destroy),
        cmocka_unit_test_setup_teardown(no_folder_to_write_to, make, destroy),
        cmocka_unit_test_setup_teardown(rename_fails, make, destroy),
        cmocka_unit_test_setup_teardown(disk_is_full, make, destroy),
        cmocka_unit_test_setup_teardown(write_error_is_sticky, make, destroy),
        cmocka_unit_test_setup_teardown(mapping, make, destroy),
        cmocka_unit_test_setup_teardown(empty_file, make, destroy),
        cmocka_unit_test_setup_teardown(what_is_no_file, make, destroy),
        cmocka_unit_test_setup_teardown(read_limit, make, destroy),
        cmocka_unit_test_setup_teardown(copying, make, destroy),
        cmocka_unit_test_setup_teardown(folders, make, destroy),
        cmocka_unit_test_setup_teardown(folders_that_cannot_be, make, destroy),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, make, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
