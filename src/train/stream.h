/* Activations between blocks: n windows of [T, C], in memory or in a file, in f32 or bf16. */
#ifndef EQ_TRAIN_STREAM_H
#define EQ_TRAIN_STREAM_H

#include "base/context.h"
#include "kernels/kernels.h"

typedef struct eq_stream_shape {
    int64_t n, T, C;
    eq_dtype type;
} eq_stream_shape;

typedef struct eq_stream {
    eq_stream_shape shape;
    char *ram;       /* owned; NULL for a file */
    int fd;          /* owned; -1 for memory */
    char *path;      /* owned; where a published file stands */
    char *temporary; /* owned; NULL once published */
} eq_stream;

size_t eq_stream_bytes(const eq_stream_shape *shape);
/* With path NULL in memory; else in a new file beside path, which eq_stream_publish moves there. */
eq_status eq_stream_create(eq_ctx *ctx, eq_stream *stream, const eq_stream_shape *shape,
                           const char *path);
/* A published file; EQ_EFORMAT when its size is not that of the shape. */
eq_status eq_stream_open(eq_ctx *ctx, eq_stream *stream, const eq_stream_shape *shape,
                         const char *path);
/* Sync and rename. Nothing to do in memory. */
eq_status eq_stream_publish(eq_ctx *ctx, eq_stream *stream);
/* Frees; removes a file that was never published. Harmless on zeroed storage with fd = -1. */
void eq_stream_close(eq_stream *stream);

/* Windows first .. first+count-1 as they are stored: a pointer into memory, or into `buffer` (room
 * for count windows of the stream's type) after reading the file; NULL after a failure. */
const void *eq_stream_raw(eq_ctx *ctx, eq_stream *stream, int64_t first, int64_t count,
                          void *buffer);
/* The same converted to x [count * T, C] f32; buffer as above. */
eq_status eq_stream_read(eq_ctx *ctx, eq_stream *stream, int64_t first, int64_t count, float *x,
                         void *buffer);
eq_status eq_stream_write(eq_ctx *ctx, eq_stream *stream, int64_t first, int64_t count,
                          const float *x, void *buffer);

#endif
