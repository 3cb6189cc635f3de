#include "base/machine.h"

#include "eqat.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_ROOM = 4096 };

/* The first number of the line that begins with `key`, or of the first line for ""; -1: there is
 * none, as in "max". */
static int64_t number_in(const char *path, const char *key)
{
    char line[256];
    int64_t found = -1;
    const size_t n = strlen(key);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    while (found < 0 && fgets(line, sizeof line, file)) {
        char *end;
        if (strncmp(line, key, n)) continue;
        const long long value = strtoll(line + n, &end, 10);
        if (end == line + n) break;
        found = value;
    }
    fclose(file);
    return found;
}

static int64_t number_of(const char *folder, const char *name, const char *key)
{
    char path[PATH_ROOM + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return number_in(path, key);
}

/* ---- control groups ------------------------------------------------------------------------ */

static void lower(int64_t *limit, int64_t value)
{
    if (value < *limit) *limit = value;
}

static void limit_memory(eq_limits *limits, int64_t most, int64_t used, int64_t cached)
{
    if (most < 0 || used < 0) return;
    const int64_t left = most - used + (cached > 0 ? cached : 0);
    lower(&limits->memory, left > 0 ? left : 1);
}

static void limit_processors(eq_limits *limits, int64_t quota, int64_t period)
{
    if (quota > 0 && period > 0) lower(&limits->processors, (quota + period - 1) / period);
}

/* Version 2: one folder for everything. */
static void read_unified(eq_limits *limits, const char *folder)
{
    char text[64] = "", path[PATH_ROOM + 64];
    long long quota = -1, period = -1;
    limit_memory(limits, number_of(folder, "memory.max", ""),
                 number_of(folder, "memory.current", ""),
                 number_of(folder, "memory.stat", "inactive_file "));
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    FILE *file = fopen(path, "r");
    if (!file) return;
    if (fgets(text, sizeof text, file) && sscanf(text, "%lld %lld", &quota, &period) == 2)
        limit_processors(limits, quota, period);
    fclose(file);
}

static void read_memory(eq_limits *limits, const char *folder)
{
    limit_memory(limits, number_of(folder, "memory.limit_in_bytes", ""),
                 number_of(folder, "memory.usage_in_bytes", ""),
                 number_of(folder, "memory.stat", "total_inactive_file "));
}

static void read_cpu(eq_limits *limits, const char *folder)
{
    limit_processors(limits, number_of(folder, "cpu.cfs_quota_us", ""),
                     number_of(folder, "cpu.cfs_period_us", ""));
}

/* Whether "a,b,c" [n] has a name. */
static bool lists(const char *names, size_t n, const char *name)
{
    const size_t size = strlen(name);
    for (size_t at = 0; at + size <= n; at++) {
        const bool starts = at == 0 || names[at - 1] == ',';
        const bool ends = at + size == n || names[at + size] == ',';
        if (starts && ends && !memcmp(names + at, name, size)) return true;
    }
    return false;
}

/* A group and all above it, up to the file system's root. */
static void visit(eq_limits *limits, const char *root, const char *mount, const char *group,
                  size_t n, void (*read)(eq_limits *limits, const char *folder))
{
    char folder[PATH_ROOM];
    const int top = snprintf(folder, sizeof folder, "%s%s", root, mount);
    if (top < 0 || (size_t)top + n >= sizeof folder) return;
    memcpy(folder + top, group, n);
    folder[(size_t)top + n] = 0;
    for (char *end = folder + (size_t)top + n; end; end = strrchr(folder + top, '/')) {
        *end = 0;
        read(limits, folder);
    }
}

eq_limits eq_group_limits(const char *root, const char *groups)
{
    eq_limits limits = {INT64_MAX, INT64_MAX};
    for (const char *line = groups; *line;) {
        const size_t size = strcspn(line, "\n");
        const char *names = memchr(line, ':', size), *group = NULL;
        if (names) group = memchr(names + 1, ':', size - (size_t)(names + 1 - line));
        if (group) {
            const size_t n = size - (size_t)(group + 1 - line);
            const size_t named = (size_t)(group - names) - 1;
            if (!named) visit(&limits, root, "", group + 1, n, read_unified);
            if (lists(names + 1, named, "memory"))
                visit(&limits, root, "/memory", group + 1, n, read_memory);
            if (lists(names + 1, named, "cpu"))
                visit(&limits, root, "/cpu", group + 1, n, read_cpu);
        }
        line += size + (line[size] == '\n');
    }
    return limits;
}

static eq_limits own_limits(void)
{
    char text[8192] = "";
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (!file) return (eq_limits){INT64_MAX, INT64_MAX};
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return eq_group_limits("/sys/fs/cgroup", text);
}

/* ---- the process --------------------------------------------------------------------------- */

int eq_processors(void)
{
    cpu_set_t set;
    int64_t count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                                : sysconf(_SC_NPROCESSORS_ONLN);
    lower(&count, own_limits().processors);
    return count > 0 ? (int)count : 1;
}

int64_t eq_available_memory(void)
{
    const int64_t kb = number_in("/proc/meminfo", "MemAvailable:");
    if (kb < 0) return 0;
    int64_t bytes = kb * 1024;
    lower(&bytes, own_limits().memory);
    return bytes;
}

int64_t eq_memory_limit(int64_t asked)
{
    return asked ? asked : eq_available_memory();
}

int64_t eq_peak_memory(void)
{
    const int64_t kb = number_in("/proc/self/status", "VmHWM:");
    return kb < 0 ? 0 : kb * 1024;
}
