/* Windows of tokens for calibration, from a text file, a .jsonl of documents, or an .npy of ids. */
#ifndef EQ_IO_WINDOWS_H
#define EQ_IO_WINDOWS_H

#include "io/tokenizer.h"

typedef struct eq_windows {
    int32_t *ids; /* owned, [n, T] */
    int64_t n, T;
} eq_windows;

typedef struct eq_windows_source {
    const char *path;              /* its ending tells the kind: .jsonl, .npy, else text */
    const eq_tokenizer *tokenizer; /* NULL will do for .npy */
    int32_t separator;             /* token after each document; -1 for none */
    int64_t n, T;                  /* windows wanted */
    eq_order order;                /* of the documents of a .jsonl */
    uint64_t seed;                 /* of EQ_ORDER_RANDOM_DOC */
    int64_t vocabulary;            /* ids must be below it */
} eq_windows_source;

/* concat: the documents in file order, the separator after each, cut into windows, the first n.
 * random-doc: n times a document drawn uniformly, again until it has more than T tokens, and of it a window drawn uniformly.
 * EQ_EINVAL when there is not enough text (says how much there is) or an id is out of range. */
eq_status eq_windows_load(eq_ctx *ctx, eq_windows *out, const eq_windows_source *source);
void eq_windows_free(eq_windows *windows);

#endif
