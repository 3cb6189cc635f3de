/* Byte pair encoding: a ranked list of merges and its application to one piece of text. */
#ifndef EQ_IO_BPE_H
#define EQ_IO_BPE_H

#include "base/context.h"

/* Two neighbouring tokens become one. */
typedef struct eq_merge {
    int32_t left, right, merged;
} eq_merge;

typedef struct eq_merges {
    eq_merge *list; /* owned; [count] by rank */
    int32_t count;
    int32_t *slots; /* owned; [mask + 1] open hash table of rank + 1, 0 is free */
    uint32_t mask;
} eq_merges;

enum { EQ_MERGES_MOST = 1 << 28 };

/* An empty list with room for `room` merges, 0 to EQ_MERGES_MOST. */
eq_status eq_merges_init(eq_ctx *ctx, eq_merges *merges, int64_t room);
void eq_merges_deinit(eq_merges *merges);
/* Append a merge with the next rank; there must be room. Of two merges of one pair the later one
 * counts. */
void eq_merges_add(eq_merges *merges, eq_merge merge);
/* Rank of the merge of a pair, -1 when there is none. */
int32_t eq_merges_find(const eq_merges *merges, int32_t left, int32_t right);

/* One token of the piece that is being merged; the tokens are a list. */
typedef struct eq_symbol {
    int32_t id;
    int32_t previous, next; /* places in the list, -1 at its ends */
    int32_t rank;           /* of the merge with the next one; -1 when there is none */
} eq_symbol;

/* Work space for pieces, grown as needed. Zeroed storage is an empty one. */
typedef struct eq_word {
    eq_symbol *symbols; /* owned; [room] */
    uint64_t *heap;     /* owned; [3 room] of rank << 32 | place */
    int64_t room;
} eq_word;

/* Make room for a piece of n tokens; what was there is lost. */
eq_status eq_word_reserve(eq_ctx *ctx, eq_word *word, int64_t n);
void eq_word_deinit(eq_word *word);
/* Merge until no pair of neighbours has a merge, always the pair of lowest rank, of equal ones the
 * leftmost, in O(n log n).
 *
 * word  in/out  .symbols[0..n).id are the tokens of the piece; merged in place
 * Gives the number of tokens left. */
int32_t eq_bpe_merge(const eq_merges *merges, eq_word *word, int32_t n);

#endif
