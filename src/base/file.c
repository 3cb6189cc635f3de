#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static eq_status fail_errno(eq_ctx *ctx, const char *action, const char *path)
{
    return eq_fail(ctx, EQ_EIO, "%s: cannot %s: %s", path, action, strerror(errno));
}

eq_status eq_map_open(eq_ctx *ctx, eq_map *map, const char *path)
{
    *map = (eq_map){0};
    eq_status st = EQ_OK;
    struct stat info;
    /* Without O_NONBLOCK, opening a named pipe would wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_errno(ctx, "open", path);
    if (fstat(fd, &info)) {
        st = fail_errno(ctx, "stat", path);
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        st = eq_fail(ctx, EQ_EIO, "%s: not a regular file", path);
        goto done;
    }
    if (info.st_size > 0) {
        void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            st = fail_errno(ctx, "map", path);
            goto done;
        }
        map->data = p;
        map->size = (size_t)info.st_size;
    }
    map->path = eq_strndup(ctx, path, strlen(path));
    if (!map->path) {
        st = EQ_ENOMEM;
        eq_map_close(map);
    }
done:
    close(fd);
    return st;
}

void eq_map_close(eq_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    eq_free(map->path);
    *map = (eq_map){0};
}

void eq_map_release(const eq_map *map, size_t offset, size_t size)
{
    if (!map->data || offset > map->size || size > map->size - offset) return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (offset + page - 1) / page * page;
    size_t last = (offset + size) / page * page;
    if (last > first) madvise((void *)(uintptr_t)(map->data + first), last - first, MADV_DONTNEED);
}

/* The file that a path stands for, in fresh memory: what a link leads to. A device or a pipe would
 * be replaced by a file. */
static eq_status find_file(eq_ctx *ctx, char **file, const char *path)
{
    struct stat info;
    *file = NULL;
    if (!stat(path, &info) && !S_ISREG(info.st_mode))
        return eq_fail(ctx, EQ_EIO, "%s: cannot write: not a regular file", path);
    const bool link = !lstat(path, &info) && S_ISLNK(info.st_mode);
    char *real = link ? realpath(path, NULL) : NULL; /* NULL where it leads to nothing yet */
    const char *name = real ? real : path;
    *file = eq_strndup(ctx, name, strlen(name));
    free(real);
    return *file ? EQ_OK : EQ_ENOMEM;
}

eq_status eq_output_open(eq_ctx *ctx, eq_output *out, const char *path)
{
    *out = (eq_output){.ctx = ctx};
    eq_status found = find_file(ctx, &out->path, path);
    if (found != EQ_OK) return found;
    out->temporary = eq_format(ctx, "%s.tmp-%ld", out->path, (long)getpid());
    if (!out->temporary) {
        eq_output_abandon(out);
        return EQ_ENOMEM;
    }
    out->stream = fopen(out->temporary, "wb");
    if (!out->stream) {
        eq_status st = fail_errno(ctx, "create", path);
        eq_output_abandon(out);
        return st;
    }
    return EQ_OK;
}

eq_status eq_output_write(eq_output *out, const void *data, size_t size)
{
    if (out->status == EQ_OK && size && fwrite(data, 1, size, out->stream) != size)
        out->status = fail_errno(out->ctx, "write", out->path);
    return out->status;
}

eq_status eq_output_printf(eq_output *out, const char *format, ...)
{
    if (out->status != EQ_OK) return out->status;
    va_list args;
    va_start(args, format);
    if (vfprintf(out->stream, format, args) < 0)
        out->status = fail_errno(out->ctx, "write", out->path);
    va_end(args);
    return out->status;
}

void eq_folder_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[4096] = ".";
    if (slash && (size_t)(slash - path) < sizeof folder) {
        size_t n = slash == path ? 1 : (size_t)(slash - path);
        memcpy(folder, path, n);
        folder[n] = 0;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

eq_status eq_output_commit(eq_output *out)
{
    if (out->status == EQ_OK && (fflush(out->stream) || fsync(fileno(out->stream))))
        out->status = fail_errno(out->ctx, "write", out->path);
    if (out->stream && fclose(out->stream) && out->status == EQ_OK)
        out->status = fail_errno(out->ctx, "close", out->path);
    out->stream = NULL;
    if (out->status == EQ_OK && rename(out->temporary, out->path))
        out->status = fail_errno(out->ctx, "rename to", out->path);
    if (out->status == EQ_OK) {
        eq_folder_sync(out->path);
        eq_free(out->temporary);
        out->temporary = NULL;
    }
    eq_status st = out->status;
    eq_output_abandon(out);
    return st;
}

void eq_output_abandon(eq_output *out)
{
    if (out->stream) fclose(out->stream);
    if (out->temporary) unlink(out->temporary);
    eq_free(out->temporary);
    eq_free(out->path);
    *out = (eq_output){0};
}

eq_status eq_file_write(eq_ctx *ctx, const char *path, const void *data, size_t size)
{
    eq_output out;
    eq_status st = eq_output_open(ctx, &out, path);
    if (st != EQ_OK) return st;
    eq_output_write(&out, data, size);
    return eq_output_commit(&out);
}

eq_status eq_file_read(eq_ctx *ctx, const char *path, size_t limit, char **data, size_t *size)
{
    eq_map map;
    *data = NULL;
    eq_status st = eq_map_open(ctx, &map, path);
    if (st != EQ_OK) return st;
    if (map.size > limit) {
        st = eq_fail(ctx, EQ_EFORMAT, "%s: has %zu bytes, at most %zu are read", path, map.size,
                     limit);
        goto done;
    }
    *data = eq_strndup(ctx, (const char *)map.data, map.size);
    *size = map.size;
    if (!*data) st = EQ_ENOMEM;
done:
    eq_map_close(&map);
    return st;
}

eq_status eq_file_copy(eq_ctx *ctx, const char *to, const char *from)
{
    eq_map map;
    eq_status st = eq_map_open(ctx, &map, from);
    if (st != EQ_OK) return st;
    st = eq_file_write(ctx, to, map.data, map.size);
    eq_map_close(&map);
    return st;
}

bool eq_file_exists(const char *path)
{
    struct stat info;
    return !stat(path, &info) && S_ISREG(info.st_mode);
}

bool eq_folder_exists(const char *path)
{
    struct stat info;
    return !stat(path, &info) && S_ISDIR(info.st_mode);
}

eq_status eq_folder_make(eq_ctx *ctx, const char *path)
{
    char *copy = eq_strndup(ctx, path, strlen(path));
    if (!copy) return EQ_ENOMEM;
    eq_status st = EQ_OK;
    for (char *p = *copy ? copy + 1 : copy; st == EQ_OK; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = 0;
        if (mkdir(copy, 0777) && errno != EEXIST) st = fail_errno(ctx, "make folder", path);
        if (!end) break;
        *p = end;
    }
    if (st == EQ_OK && !eq_folder_exists(path))
        st = eq_fail(ctx, EQ_EIO, "%s: is not a folder", path);
    eq_free(copy);
    return st;
}

/* Bytes of a path without slashes behind it; "/" stays. */
static size_t trimmed_length(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    return end;
}

char *eq_path_trimmed(eq_ctx *ctx, const char *path)
{
    return eq_strndup(ctx, path, trimmed_length(path));
}

char *eq_path_name(eq_ctx *ctx, const char *path)
{
    size_t end = trimmed_length(path), start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return eq_strndup(ctx, path + start, end - start);
}

char *eq_path_join(eq_ctx *ctx, const char *folder, const char *name)
{
    return eq_format(ctx, "%s/%s", folder, name);
}

bool eq_path_ends(const char *path, const char *ending)
{
    const size_t n = strlen(path), m = strlen(ending);
    return n >= m && !strcasecmp(path + n - m, ending);
}
