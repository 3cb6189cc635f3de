/* The GGUF container, versions 2 and 3: typed metadata, then tensors.          [docs/formats.md] */
#ifndef EQ_IO_GGUF_H
#define EQ_IO_GGUF_H

#include "base/file.h"
#include "base/text.h"
#include "tensor/tensor.h"

typedef struct eq_gguf eq_gguf;

/* Map a file and check all of its header: every count, length and offset lies inside the file. */
eq_status eq_gguf_open(eq_ctx *ctx, eq_gguf **file, const char *path);
void eq_gguf_close(eq_gguf *file); /* NULL is fine */
const eq_map *eq_gguf_map(const eq_gguf *file);

/* Metadata by key, texts in the mapping; false when absent or of another kind. Any integer type
 * counts as integer, f32 and f64 as real. */
bool eq_gguf_string(const eq_gguf *file, const char *key, eq_text *value);
bool eq_gguf_integer(const eq_gguf *file, const char *key, int64_t *value);
bool eq_gguf_real(const eq_gguf *file, const char *key, double *value);
bool eq_gguf_bool(const eq_gguf *file, const char *key, bool *value);
/* Elements of an array of strings or of integers; -1 when absent or of another kind. */
int64_t eq_gguf_array_size(const eq_gguf *file, const char *key);
/* Fill out [size] from an array of strings (walks it once). */
bool eq_gguf_strings(const eq_gguf *file, const char *key, eq_text *out);
/* Fill out [size] from an array of i32 or u32. */
bool eq_gguf_integers(const eq_gguf *file, const char *key, int32_t *out);

/* Number of metadata values, and value i as the file has it: key, type and value. */
int64_t eq_gguf_pairs(const eq_gguf *file);
eq_text eq_gguf_pair(const eq_gguf *file, int64_t i, eq_text *key);

bool eq_gguf_has(const eq_gguf *file, const char *name);
/* Whether there is metadata of this key, of any type. */
bool eq_gguf_has_key(const eq_gguf *file, const char *key);
int64_t eq_gguf_count(const eq_gguf *file);
/* Name and bytes' place of tensor i in file order; name is not terminated. */
eq_text eq_gguf_name(const eq_gguf *file, int64_t i);
/* View of a tensor, shape outermost first; EQ_EFORMAT when absent or of a ggml type that is not
 * read. */
eq_status eq_gguf_get(eq_ctx *ctx, const eq_gguf *file, const char *name, eq_tensor *tensor);

#endif
