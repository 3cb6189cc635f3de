/* The safetensors container: a JSON header, then the tensors' bytes.          [docs/formats.md] */
#ifndef EQ_IO_SAFETENSORS_H
#define EQ_IO_SAFETENSORS_H

#include "base/file.h"
#include "tensor/tensor.h"

/* A mapped file. */
typedef struct eq_safetensors eq_safetensors;

/* Map a file and check its header: offsets in range and as large as type and shape say, no overlap,
 * no duplicate names. */
eq_status eq_safetensors_open(eq_ctx *ctx, eq_safetensors **file, const char *path);
void eq_safetensors_close(eq_safetensors *file); /* NULL is fine */

int64_t eq_safetensors_count(const eq_safetensors *file);
/* Name of tensor i, in order of names; borrowed. */
const char *eq_safetensors_name(const eq_safetensors *file, int64_t i);
const eq_map *eq_safetensors_map(const eq_safetensors *file);
bool eq_safetensors_has(const eq_safetensors *file, const char *name);
/* View of a tensor; EQ_EFORMAT when it is absent or of a type or rank that eqat does not read. */
eq_status eq_safetensors_get(eq_ctx *ctx, const eq_safetensors *file, const char *name,
                             eq_tensor *tensor);

/* A file being written: begin declares all tensors, then their bytes follow in that order in any
 * number of pieces. */
typedef struct eq_safetensors_writer {
    eq_output out;
    size_t expected; /* bytes of all tensors */
    size_t written;
} eq_safetensors_writer;

eq_status eq_safetensors_begin(eq_ctx *ctx, eq_safetensors_writer *writer, const char *path,
                               const eq_tensor_entry *entries, int64_t count);
eq_status eq_safetensors_write(eq_safetensors_writer *writer, const void *data, size_t size);
/* The file appears; EQ_EINTERNAL if fewer or more bytes were written than declared. Frees. */
eq_status eq_safetensors_commit(eq_safetensors_writer *writer);
void eq_safetensors_abandon(eq_safetensors_writer *writer);

/* A tensor of a file that we wrote ourselves: EQ_EFORMAT unless it is there with the entry's type
 * and shape. */
eq_status eq_safetensors_expect(eq_ctx *ctx, const eq_safetensors *file,
                                const eq_tensor_entry *entry, eq_tensor *tensor);
/* The same, its bytes copied to out. */
eq_status eq_safetensors_copy(eq_ctx *ctx, const eq_safetensors *file, const eq_tensor_entry *entry,
                              void *out);

#endif
