#include "train/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 14 }; /* elements that one task converts */

static size_t window_bytes(const eq_stream_shape *s)
{
    return (size_t)(s->T * s->C) * (s->type == EQ_F32 ? 4 : 2);
}

size_t eq_stream_bytes(const eq_stream_shape *shape)
{
    return (size_t)shape->n * window_bytes(shape);
}

static eq_status fail_errno(eq_ctx *ctx, const eq_stream *s, const char *action)
{
    return eq_fail(ctx, EQ_EIO, "%s: cannot %s: %s", s->path, action, strerror(errno));
}

eq_status eq_stream_create(eq_ctx *ctx, eq_stream *s, const eq_stream_shape *shape,
                           const char *path)
{
    *s = (eq_stream){.shape = *shape, .fd = -1};
    if (!path) {
        s->ram = eq_alloc(ctx, (int64_t)eq_stream_bytes(shape), 1);
        return s->ram ? EQ_OK : EQ_ENOMEM;
    }
    s->path = eq_strndup(ctx, path, strlen(path));
    s->temporary = eq_format(ctx, "%s.tmp", path);
    eq_status st = s->path && s->temporary ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) {
        s->fd = open(s->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (s->fd < 0) st = fail_errno(ctx, s, "create");
    }
    if (st == EQ_OK) {
        /* Reserve the space now, so that a full disk is found before the work and not in the middle
         * of it. */
        errno = posix_fallocate(s->fd, 0, (off_t)eq_stream_bytes(shape));
        if (errno) st = fail_errno(ctx, s, "reserve space");
    }
    if (st != EQ_OK) eq_stream_close(s);
    return st;
}

eq_status eq_stream_open(eq_ctx *ctx, eq_stream *s, const eq_stream_shape *shape, const char *path)
{
    *s = (eq_stream){.shape = *shape, .fd = -1};
    struct stat info;
    s->path = eq_strndup(ctx, path, strlen(path));
    if (!s->path) return EQ_ENOMEM;
    eq_status st = EQ_OK;
    s->fd = open(path, O_RDWR | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &info))
        st = fail_errno(ctx, s, "open");
    else if ((size_t)info.st_size != eq_stream_bytes(shape))
        st = eq_fail(ctx, EQ_EFORMAT, "%s: has %lld bytes, expected %zu", path,
                     (long long)info.st_size, eq_stream_bytes(shape));
    if (st != EQ_OK) eq_stream_close(s);
    return st;
}

eq_status eq_stream_publish(eq_ctx *ctx, eq_stream *s)
{
    if (s->ram || !s->temporary) return EQ_OK;
    if (fdatasync(s->fd)) return fail_errno(ctx, s, "write");
    if (rename(s->temporary, s->path)) return fail_errno(ctx, s, "rename");
    eq_free(s->temporary);
    s->temporary = NULL;
    return EQ_OK;
}

void eq_stream_close(eq_stream *s)
{
    if (s->fd >= 0) close(s->fd);
    if (s->temporary) unlink(s->temporary);
    eq_free(s->temporary);
    eq_free(s->path);
    eq_free(s->ram);
    *s = (eq_stream){.fd = -1};
}

/* Move all of size bytes between the buffer and the file. */
static eq_status transfer(eq_ctx *ctx, eq_stream *s, char *buffer, size_t size, size_t offset,
                          bool write)
{
    while (size) {
        ssize_t n = write ? pwrite(s->fd, buffer, size, (off_t)offset)
                          : pread(s->fd, buffer, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(ctx, s, write ? "write" : "read");
        if (n == 0) return eq_fail(ctx, EQ_EIO, "%s: ends too early", s->path);
        buffer += n;
        offset += (size_t)n;
        size -= (size_t)n;
    }
    return EQ_OK;
}

const void *eq_stream_raw(eq_ctx *ctx, eq_stream *s, int64_t first, int64_t count, void *buffer)
{
    size_t window = window_bytes(&s->shape), offset = (size_t)first * window;
    if (s->ram) return s->ram + offset;
    eq_status st = transfer(ctx, s, buffer, (size_t)count * window, offset, false);
    return st == EQ_OK ? buffer : NULL;
}

eq_status eq_stream_read(eq_ctx *ctx, eq_stream *s, int64_t first, int64_t count, float *x,
                         void *buffer)
{
    const char *raw = eq_stream_raw(ctx, s, first, count, buffer);
    if (!raw) return eq_ctx_status(ctx);
    int64_t n = count * s->shape.T * s->shape.C;
    bool wide = s->shape.type == EQ_F32;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t size = n - i < CHUNK ? n - i : CHUNK;
        if (wide)
            memcpy(x + i, raw + (size_t)i * 4, (size_t)size * 4);
        else
            ctx->kernels->bf16_to_f32(x + i, (const uint16_t *)(const void *)(raw + (size_t)i * 2),
                                      size);
    }
    return EQ_OK;
}

eq_status eq_stream_write(eq_ctx *ctx, eq_stream *s, int64_t first, int64_t count, const float *x,
                          void *buffer)
{
    size_t window = window_bytes(&s->shape), offset = (size_t)first * window;
    char *raw = s->ram ? s->ram + offset : buffer;
    int64_t n = count * s->shape.T * s->shape.C;
    bool wide = s->shape.type == EQ_F32;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t size = n - i < CHUNK ? n - i : CHUNK;
        if (wide)
            memcpy(raw + (size_t)i * 4, x + i, (size_t)size * 4);
        else
            ctx->kernels->f32_to_bf16((uint16_t *)(void *)(raw + (size_t)i * 2), x + i, size);
    }
    return s->ram ? EQ_OK : transfer(ctx, s, raw, (size_t)count * window, offset, true);
}
