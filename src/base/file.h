/* Files: read-only mappings with bounds, and output that appears whole or not at all. */
#ifndef EQ_BASE_FILE_H
#define EQ_BASE_FILE_H

#include "base/context.h"

/* A whole file mapped read-only. */
typedef struct eq_map {
    const uint8_t *data; /* owned mapping; NULL for an empty file */
    size_t size;
    char *path; /* owned copy, for messages */
} eq_map;

eq_status eq_map_open(eq_ctx *ctx, eq_map *map, const char *path);
void eq_map_close(eq_map *map);
/* Tell the kernel that [offset, offset + size) is not needed for now, so that its pages leave the
 * resident set. Reading it again is allowed and costs a page fault. */
void eq_map_release(const eq_map *map, size_t offset, size_t size);

/* A file being written: bytes go to PATH.tmp-<pid>; commit syncs it and renames it to PATH. Every
 * failure names PATH. A failed write is remembered and reported again by commit. */
typedef struct eq_output {
    eq_ctx *ctx;
    FILE *stream;    /* owned */
    char *path;      /* owned */
    char *temporary; /* owned */
    eq_status status;
} eq_output;

eq_status eq_output_open(eq_ctx *ctx, eq_output *out, const char *path);
eq_status eq_output_write(eq_output *out, const void *data, size_t size);
eq_status eq_output_printf(eq_output *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Flush, sync, rename. On failure the temporary is removed and PATH is as before. Frees. */
eq_status eq_output_commit(eq_output *out);
/* Drop what was written. Frees; harmless after commit or on zeroed storage. */
void eq_output_abandon(eq_output *out);

/* Write size bytes to path in one go, atomically. */
eq_status eq_file_write(eq_ctx *ctx, const char *path, const void *data, size_t size);
/* Read a whole file of at most `limit` bytes into fresh memory with a NUL after the last byte. */
eq_status eq_file_read(eq_ctx *ctx, const char *path, size_t limit, char **data, size_t *size);
/* Copy a file of any size, atomically. */
eq_status eq_file_copy(eq_ctx *ctx, const char *to, const char *from);

bool eq_file_exists(const char *path);
bool eq_folder_exists(const char *path);
/* Make a folder and its parents; fine if it is there. */
eq_status eq_folder_make(eq_ctx *ctx, const char *path);
/* Make a rename to `path` durable. */
void eq_folder_sync(const char *path);
/* The last part of a path, without slashes behind it, in fresh memory; NULL after eq_fail. */
char *eq_path_name(eq_ctx *ctx, const char *path);
/* A path without slashes behind it, in fresh memory; NULL after eq_fail. */
char *eq_path_trimmed(eq_ctx *ctx, const char *path);
/* folder + "/" + name in fresh memory; NULL after eq_fail. */
char *eq_path_join(eq_ctx *ctx, const char *folder, const char *name);
/* Whether a path has this ending, ".npy" (or ".NPY"). */
bool eq_path_ends(const char *path, const char *ending);

#endif
