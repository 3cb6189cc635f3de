/* Lists of ids of which some count as targets of a loss, and how texts become one. */
#ifndef EQ_IO_MARKED_H
#define EQ_IO_MARKED_H

#include "io/tokenizer.h"

/* A growing list. Zeroed storage is an empty one. */
typedef struct eq_marked {
    int32_t *ids;    /* owned; [room] */
    uint8_t *counts; /* owned; [room], 1 where the id counts */
    int64_t count, room;
} eq_marked;

void eq_marked_deinit(eq_marked *list);
eq_status eq_marked_push(eq_ctx *ctx, eq_marked *list, int32_t id, bool counts);
/* Append ids[n] and counts[n] of another list. */
eq_status eq_marked_append(eq_ctx *ctx, eq_marked *list, const int32_t *ids, const uint8_t *counts,
                           int64_t n);

/* Collects text and tokenizes what lies between two special tokens in one go, so that the ids do
 * not depend on the pieces it came in. A token counts if its first byte came in a piece that
 * does. Set tok and out, zero the rest. */
typedef struct eq_marker {
    const eq_tokenizer *tok; /* borrowed */
    eq_marked *out;          /* borrowed */
    char *text;              /* owned; [room], not tokenized yet */
    uint8_t *counts;         /* owned; [room] of each byte */
    size_t size, room;
    eq_ids ids; /* of the text */
} eq_marker;

void eq_marker_deinit(eq_marker *marker);
/* Text as a user wrote it: special tokens in it are letters. */
eq_status eq_marker_content(eq_ctx *ctx, eq_marker *marker, eq_text text, bool counts);
/* Text of our own: special tokens in it are tokens. */
eq_status eq_marker_markup(eq_ctx *ctx, eq_marker *marker, const char *text, bool counts);
eq_status eq_marker_token(eq_ctx *ctx, eq_marker *marker, int32_t id, bool counts);
/* Tokenize what was collected; to be called after the last piece. */
eq_status eq_marker_flush(eq_ctx *ctx, eq_marker *marker);

#endif
