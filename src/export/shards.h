/* A model's tensors in one safetensors file or in several with an index.      [docs/formats.md] */
#ifndef EQ_EXPORT_SHARDS_H
#define EQ_EXPORT_SHARDS_H

#include "io/safetensors.h"

/* Files being written one after the other. */
typedef struct eq_shards {
    eq_ctx *ctx;
    const char *folder;             /* borrowed; so the entries */
    const eq_tensor_entry *entries; /* [count] */
    int64_t count, next;            /* tensors, and the one being written */
    int64_t *first;                 /* owned, [files + 1]: first tensor of each file */
    int64_t files, file;
    size_t left; /* bytes that tensor `next` still lacks */
    eq_safetensors_writer writer;
} eq_shards;

/* Begin files of at most `most` bytes of tensors (a larger tensor has a file of its own; 0: one
 * file) for tensors whose bytes follow in this order. */
eq_status eq_shards_begin(eq_ctx *ctx, eq_shards *shards, const char *folder,
                          const eq_tensor_entry *entries, int64_t count, int64_t most);
/* A piece of the tensor that is being written, or of the next one. */
eq_status eq_shards_write(eq_shards *shards, const void *data, size_t size);
/* The last file appears, and model.safetensors.index.json if there are several. Frees. */
eq_status eq_shards_commit(eq_shards *shards);
void eq_shards_abandon(eq_shards *shards); /* frees; zeroed storage is fine */

#endif
