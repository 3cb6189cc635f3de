/* Writing a GGUF file, version 3: metadata first, then the list of tensors, then their bytes.
 *                                                                             [docs/formats.md] */
#ifndef EQ_IO_GGUF_WRITE_H
#define EQ_IO_GGUF_WRITE_H

#include "io/gguf.h"
#include <jansson.h>

enum { EQ_GGUF_ALIGNMENT = 32 }; /* of the tensors */

/* A file being written. Metadata is collected in memory; failures are reported by begin. */
typedef struct eq_gguf_writer {
    eq_ctx *ctx;
    const char *path; /* borrowed */
    FILE *metadata;   /* owned; a stream into `bytes` */
    char *bytes;      /* owned */
    size_t size;
    json_t *keys; /* owned; of the metadata, a set */
    eq_output out;
    const eq_tensor_entry *entries; /* borrowed; the tensors */
    int64_t count, next;            /* of them, and the one being written */
    size_t left;                    /* bytes that it still lacks */
} eq_gguf_writer;

/* path and later the entries are borrowed until commit or abandon. */
eq_status eq_gguf_writer_init(eq_ctx *ctx, eq_gguf_writer *writer, const char *path);

/* Metadata. A key that is there already is a programming error. */
void eq_gguf_put_u32(eq_gguf_writer *writer, const char *key, uint32_t value);
void eq_gguf_put_f32(eq_gguf_writer *writer, const char *key, float value);
void eq_gguf_put_bool(eq_gguf_writer *writer, const char *key, bool value);
void eq_gguf_put_text(eq_gguf_writer *writer, const char *key, eq_text value);
void eq_gguf_put_texts(eq_gguf_writer *writer, const char *key, const eq_text *values, int64_t n);
void eq_gguf_put_i32s(eq_gguf_writer *writer, const char *key, const int32_t *values, int64_t n);
/* All metadata of `file` whose keys are UTF-8 and not there yet, byte by byte. */
void eq_gguf_put_rest(eq_gguf_writer *writer, const eq_gguf *file);

/* Write the header for these tensors, whose bytes follow in this order. */
eq_status eq_gguf_begin(eq_gguf_writer *writer, const eq_tensor_entry *entries, int64_t count);
/* A piece of the tensor that is being written, or of the next one; padding is added. */
eq_status eq_gguf_write(eq_gguf_writer *writer, const void *data, size_t size);
/* The file appears; EQ_EINTERNAL if fewer bytes were written than declared. Frees. */
eq_status eq_gguf_commit(eq_gguf_writer *writer);
void eq_gguf_abandon(eq_gguf_writer *writer); /* frees; zeroed storage is fine */

#endif
