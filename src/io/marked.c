#include "io/marked.h"

#include <string.h>

/* ---- lists --------------------------------------------------------------------------------- */

void eq_marked_deinit(eq_marked *list)
{
    eq_free(list->ids);
    eq_free(list->counts);
    *list = (eq_marked){0};
}

static eq_status reserve(eq_ctx *ctx, eq_marked *list, int64_t more)
{
    if (list->room - list->count >= more) return EQ_OK;
    int64_t room = 2 * list->count + more + 64;
    int32_t *ids = eq_grow(ctx, list->ids, list->count, room, sizeof *ids);
    if (!ids) return EQ_ENOMEM;
    list->ids = ids;
    uint8_t *counts = eq_grow(ctx, list->counts, list->count, room, sizeof *counts);
    if (!counts) return EQ_ENOMEM;
    list->counts = counts;
    list->room = room;
    return EQ_OK;
}

eq_status eq_marked_push(eq_ctx *ctx, eq_marked *list, int32_t id, bool counts)
{
    const uint8_t mark = counts;
    return eq_marked_append(ctx, list, &id, &mark, 1);
}

eq_status eq_marked_append(eq_ctx *ctx, eq_marked *list, const int32_t *ids, const uint8_t *counts,
                           int64_t n)
{
    eq_status st = reserve(ctx, list, n);
    if (st != EQ_OK || !n) return st;
    memcpy(list->ids + list->count, ids, (size_t)n * sizeof *ids);
    memcpy(list->counts + list->count, counts, (size_t)n);
    list->count += n;
    return EQ_OK;
}

/* ---- from texts ---------------------------------------------------------------------------- */

void eq_marker_deinit(eq_marker *marker)
{
    eq_free(marker->text);
    eq_free(marker->counts);
    eq_free(marker->ids.data);
    *marker = (eq_marker){0};
}

static eq_status reserve_text(eq_ctx *ctx, eq_marker *marker, size_t more)
{
    if (marker->room - marker->size >= more) return EQ_OK;
    const int64_t count = (int64_t)marker->size, room = 2 * count + (int64_t)more + 256;
    char *bytes = eq_grow(ctx, marker->text, count, room, 1);
    if (!bytes) return EQ_ENOMEM;
    marker->text = bytes;
    uint8_t *marks = eq_grow(ctx, marker->counts, count, room, 1);
    if (!marks) return EQ_ENOMEM;
    marker->counts = marks;
    marker->room = (size_t)room;
    return EQ_OK;
}

static eq_status append_text(eq_ctx *ctx, eq_marker *marker, eq_text text, bool counts)
{
    if (!text.size) return EQ_OK;
    eq_status st = reserve_text(ctx, marker, text.size);
    if (st != EQ_OK) return st;
    memcpy(marker->text + marker->size, text.data, text.size);
    memset(marker->counts + marker->size, counts, text.size);
    marker->size += text.size;
    return EQ_OK;
}

/* Each piece is normalized by itself, so that its bytes are known: marks at the start of one do not
 * join what stands before it. */
eq_status eq_marker_content(eq_ctx *ctx, eq_marker *marker, eq_text text, bool counts)
{
    char *owned = NULL;
    eq_status st = eq_tokenizer_normalize(ctx, marker->tok, &text, &owned);
    if (st == EQ_OK) st = append_text(ctx, marker, text, counts);
    eq_free(owned);
    return st;
}

eq_status eq_marker_markup(eq_ctx *ctx, eq_marker *marker, const char *text, bool counts)
{
    eq_status st = EQ_OK;
    size_t n = strlen(text), start = 0, at = 0;
    while (at < n && st == EQ_OK) {
        /* within this piece only: what a user says must not complete a name */
        int32_t id = eq_tokenizer_special(marker->tok, (eq_text){text + at, n - at});
        if (id < 0) {
            at++;
            continue;
        }
        st = eq_marker_content(ctx, marker, (eq_text){text + start, at - start}, counts);
        if (st == EQ_OK) st = eq_marker_token(ctx, marker, id, counts);
        size_t size = 0;
        eq_tokenizer_piece(marker->tok, id, &size);
        start = at += size;
    }
    if (st != EQ_OK) return st;
    return eq_marker_content(ctx, marker, (eq_text){text + start, n - start}, counts);
}

eq_status eq_marker_token(eq_ctx *ctx, eq_marker *marker, int32_t id, bool counts)
{
    eq_status st = eq_marker_flush(ctx, marker);
    return st == EQ_OK ? eq_marked_push(ctx, marker->out, id, counts) : st;
}

eq_status eq_marker_flush(eq_ctx *ctx, eq_marker *marker)
{
    const eq_text text = {marker->text, marker->size};
    marker->size = 0;
    marker->ids.count = 0;
    if (!text.size) return EQ_OK;
    eq_status st = eq_tokenizer_append_content(ctx, marker->tok, text, &marker->ids);
    if (st == EQ_OK) st = reserve(ctx, marker->out, marker->ids.count);
    size_t at = 0, start = 0;
    for (int64_t i = 0; i < marker->ids.count && st == EQ_OK; i++) {
        at = eq_tokenizer_locate(marker->tok, text, at, marker->ids.data[i], &start);
        st = eq_marked_push(ctx, marker->out, marker->ids.data[i],
                            start < text.size && marker->counts[start]);
    }
    return st;
}
