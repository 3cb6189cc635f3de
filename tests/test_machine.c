/* What control groups leave to a process, from files as Linux has them. */
#include "eqat.h"
#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* Make root/path with its parents and write text to it. */
static void put(const char *root, const char *path, const char *text)
{
    char folder[512];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(folder, sizeof folder, "%s/%.*s", root, (int)(slash - path), path);
        mkdir(folder, 0700);
    }
    folder_write(root, path, text);
}

static void expect(const char *root, const char *groups, int64_t processors, int64_t memory)
{
    const eq_limits limits = eq_group_limits(root, groups);
    assert_int_equal(limits.processors, processors);
    assert_int_equal(limits.memory, memory);
}

static void remove_all(const char *root)
{
    char command[512];
    snprintf(command, sizeof command, "rm -r '%s'/*", root);
    assert_int_equal(system(command), 0);
}

/* Version 2: the tightest of a group and those above it; what is cached counts as left. */
static void one_folder_for_all(void **state)
{
    const folder_fixture *f = *state;
    expect(f->folder, "0::/a/b\n", INT64_MAX, INT64_MAX);
    put(f->folder, "a/b/memory.max", "max\n");
    put(f->folder, "a/b/memory.current", "500\n");
    put(f->folder, "a/b/cpu.max", "max 100000\n");
    expect(f->folder, "0::/a/b\n", INT64_MAX, INT64_MAX);
    put(f->folder, "a/memory.max", "10000\n");
    put(f->folder, "a/memory.current", "7000\n");
    put(f->folder, "a/memory.stat", "anon 6000\ninactive_file 600\nactive_file 300\n");
    put(f->folder, "a/cpu.max", "250000 100000\n");
    expect(f->folder, "0::/a/b\n", 3, 3600);
    expect(f->folder, "0::/a/b/not/seen/from/here\n", 3, 3600);
    expect(f->folder, "0::/b\n", INT64_MAX, INT64_MAX);
    put(f->folder, "a/b/memory.max", "400\n"); /* less than it has */
    expect(f->folder, "0::/a/b\n", 3, 1);
    remove_all(f->folder);
}

/* Version 1: folders for memory and processors, also in a list; a group that is seen as the root. */
static void folder_for_each(void **state)
{
    const folder_fixture *f = *state;
    const char *groups = "12:memory:/docker/1f\n5:cpu,cpuacct:/x\n1:name=systemd:/x\n0::/\n";
    put(f->folder, "memory/memory.limit_in_bytes", "9223372036854771712\n");
    put(f->folder, "memory/memory.usage_in_bytes", "1000\n");
    expect(f->folder, groups, INT64_MAX, 9223372036854770712);
    put(f->folder, "memory/memory.limit_in_bytes", "5000\n");
    put(f->folder, "memory/memory.stat", "cache 7\ntotal_inactive_file 100\n");
    put(f->folder, "cpu/x/cpu.cfs_quota_us", "-1\n");
    put(f->folder, "cpu/x/cpu.cfs_period_us", "100000\n");
    expect(f->folder, groups, INT64_MAX, 4100);
    put(f->folder, "cpu/x/cpu.cfs_quota_us", "400000\n");
    expect(f->folder, groups, 4, 4100);
    expect(f->folder, "12:memory", INT64_MAX, INT64_MAX);
    expect(f->folder, "", INT64_MAX, INT64_MAX);
    remove_all(f->folder);
}

static void this_process(void **state)
{
    (void)state;
    assert_true(eq_processors() >= 1);
    assert_true(eq_available_memory() > 1000000);
    assert_int_equal(eq_memory_limit(5), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_folder_for_all, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(folder_for_each, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test(this_process)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
