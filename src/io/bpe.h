/* The vocabulary and merges of a byte-level BPE. */
#ifndef EQ_IO_BPE_H
#define EQ_IO_BPE_H

#include "base/context.h"
#include "io/gguf.h"

/* Two neighbours that merge: found by (left, right). */
typedef struct eq_bpe_merge {
    int32_t left, right; /* left -1: an empty slot */
    int32_t rank, merged;
} eq_bpe_merge;

typedef struct eq_bpe {
    int64_t size;          /* of the vocabulary */
    eq_text *pieces;       /* owned, [size]: decoded bytes of each token */
    char *bytes;           /* owned: what they point into */
    int32_t byte_ids[256]; /* token of each single byte, -1 when there is none */
    int32_t *slots;        /* owned: hash of pieces to ids, -1 empty */
    int64_t slot_count;    /* a power of two */
    eq_bpe_merge *merges;  /* owned: hash of pairs */
    int64_t merge_slots;   /* a power of two */
} eq_bpe;

/* tokens [size]: as written in the vocabulary. raw[i] marks tokens that stand for their own text (added and special ones), the
 * others are in the byte alphabet. Borrows nothing. what is for messages. */
eq_status eq_bpe_init(eq_ctx *ctx, eq_bpe *bpe, const eq_text *tokens, const bool *raw,
                      int64_t size, const char *what);
void eq_bpe_deinit(eq_bpe *bpe);
/* Merge number `rank`: "left right" in the byte alphabet. */
eq_status eq_bpe_reserve(eq_ctx *ctx, eq_bpe *bpe, int64_t merges);
eq_status eq_bpe_add_merge(eq_ctx *ctx, eq_bpe *bpe, eq_text left, eq_text right, int32_t rank,
                           const char *what);

/* Merge ids [n] (one per byte at first) in place, lowest rank first; returns how many are left. next: scratch [n]. */
int64_t eq_bpe_merge_all(const eq_bpe *bpe, int32_t *ids, int64_t n);

/* A token written in the byte alphabet: each byte as one character. out holds 2 * size bytes; returns the length. */
size_t eq_bpe_to_alphabet(char *out, eq_text bytes);

#endif
