#include "io/tokens.h"

#include "io/lines.h"

#include <string.h>

int64_t eq_windows_bytes(int64_t n, int64_t T)
{
    return n * T * (int64_t)(sizeof(int32_t) + sizeof(uint8_t));
}

void eq_windows_deinit(eq_token_windows *windows)
{
    eq_free(windows->ids);
    eq_free(windows->counts);
    *windows = (eq_token_windows){0};
}

/* ---- documents of a file ------------------------------------------------------------------- */

/* The next document; *more is false when there is none. The text is valid until the next call. */
static eq_status next_document(eq_lines *lines, bool *more, eq_text *text)
{
    eq_status st = eq_lines_next(lines, more);
    *text = lines->text;
    if (st != EQ_OK || !*more || !lines->json) return st;
    const json_t *value = json_object_get(lines->value, "text");
    if (!json_is_string(value)) return eq_lines_fail(lines, EQ_EFORMAT, "has no string \"text\"");
    *text = (eq_text){json_string_value(value), json_string_length(value)};
    return EQ_OK;
}

/* The place is in front of white space behind a letter, both ASCII. There every pre-tokenizer ends
 * a piece: one that has a letter goes on with letters only, none depends on what stands before it,
 * and a run of letters ends there as at the end of the text (io/pretokenize.c). Form C joins marks
 * with what stands before them, and neither is one. An added token across it would have white space
 * behind a letter in its name, which those of known models have not. */
size_t eq_text_slice(eq_text text, size_t least)
{
    for (size_t at = least ? least : 1; at < text.size; at++) {
        const int before = (uint8_t)text.data[at - 1] | 0x20;
        if (before >= 'a' && before <= 'z' && memchr(" \t\r\n", text.data[at], 4)) return at;
    }
    return text.size;
}

/* ---- windows ------------------------------------------------------------------------------- */

eq_status eq_windows_sizes(eq_ctx *ctx, const eq_window_source *source, int64_t least)
{
    const int64_t n = source->n, T = source->T;
    if (n >= least && T >= 1 && T <= INT32_MAX && n <= INT64_MAX / T) return EQ_OK;
    return eq_fail(ctx, EQ_EINVAL, "%s: %lld windows of %lld tokens are not possible", source->path,
                   (long long)n, (long long)T);
}

int64_t eq_windows_take(const eq_window_source *source, int64_t there)
{
    if (!source->n || (source->fewer && there < source->n)) return there;
    return there < source->n ? 0 : source->n;
}

eq_status eq_windows_short(eq_ctx *ctx, const char *path, int64_t there, int64_t T, int64_t needed)
{
    return eq_fail(ctx, EQ_EINVAL, "%s: has %lld windows of %lld tokens, %lld are needed", path,
                   (long long)there, (long long)T, (long long)needed);
}

/* All documents that can give a window. */
typedef struct long_documents {
    eq_ids ids;      /* one after the other */
    int64_t *starts; /* owned; [room] */
    int64_t *sizes;  /* owned; [room] */
    int64_t n, room; /* of documents with more than T tokens */
    int64_t all;     /* documents in the file */
    int64_t longest; /* tokens of the longest one */
} long_documents;

static void long_documents_deinit(long_documents *list)
{
    eq_free(list->ids.data);
    eq_free(list->starts);
    eq_free(list->sizes);
}

/* Room for one more document. */
static eq_status grow(eq_ctx *ctx, long_documents *list)
{
    if (list->n < list->room) return EQ_OK;
    int64_t room = list->room ? 2 * list->room : 256;
    int64_t *starts = eq_alloc(ctx, room, sizeof *starts);
    int64_t *sizes = eq_alloc(ctx, room, sizeof *sizes);
    if (!starts || !sizes) {
        eq_free(starts);
        eq_free(sizes);
        return EQ_ENOMEM;
    }
    if (list->n) {
        memcpy(starts, list->starts, (size_t)list->n * sizeof *starts);
        memcpy(sizes, list->sizes, (size_t)list->n * sizeof *sizes);
    }
    eq_free(list->starts);
    eq_free(list->sizes);
    list->starts = starts;
    list->sizes = sizes;
    list->room = room;
    return EQ_OK;
}

static eq_status read_long(eq_ctx *ctx, long_documents *list, const eq_window_source *source)
{
    eq_lines lines;
    eq_text text = {0};
    bool more = true;
    eq_status st = eq_lines_open(ctx, &lines, source->path);
    while (st == EQ_OK) {
        st = next_document(&lines, &more, &text);
        if (st != EQ_OK || !more) break;
        int64_t start = list->ids.count;
        st = eq_tokenizer_append(ctx, source->tok, text.data, text.size, true, &list->ids);
        if (st == EQ_OK) st = grow(ctx, list);
        if (st != EQ_OK) break;
        int64_t size = list->ids.count - start;
        list->all++;
        if (size > list->longest) list->longest = size;
        if (size > source->T) {
            list->starts[list->n] = start;
            list->sizes[list->n++] = size;
        } else {
            list->ids.count = start; /* never drawn: drop it */
        }
        st = eq_check_interrupt(ctx);
    }
    eq_lines_close(&lines);
    return st;
}

eq_status eq_windows_random(eq_ctx *ctx, eq_token_windows *windows, const eq_window_source *source,
                            eq_rng *rng)
{
    *windows = (eq_token_windows){0};
    const int64_t n = source->n, T = source->T;
    long_documents list = {0};
    int32_t *out = NULL;
    eq_status st = eq_windows_sizes(ctx, source, 1);
    if (st == EQ_OK) st = read_long(ctx, &list, source);
    if (st == EQ_OK && !list.n)
        st = eq_fail(ctx, EQ_EINVAL,
                     "%s: the longest of %lld documents has %lld tokens, a window needs %lld",
                     source->path, (long long)list.all, (long long)list.longest, (long long)T + 1);
    if (st != EQ_OK) goto done;
    out = eq_alloc(ctx, n * T, sizeof *out);
    if (!out) {
        st = EQ_ENOMEM;
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        /* drawing again until the document is long enough is drawing from the long ones */
        uint64_t k = eq_rng_below(rng, (uint64_t)list.n);
        uint64_t start = eq_rng_below(rng, (uint64_t)(list.sizes[k] - T));
        memcpy(out + i * T, list.ids.data + list.starts[k] + (int64_t)start,
               (size_t)T * sizeof *out);
    }
    *windows = (eq_token_windows){.ids = out, .n = n, .T = T};
done:
    long_documents_deinit(&list);
    return st;
}

eq_status eq_windows_check(eq_ctx *ctx, eq_token_windows *windows, const char *path, int64_t n,
                           int64_t T, int64_t vocabulary)
{
    if (windows->T != T)
        return eq_fail(ctx, EQ_EINVAL, "%s: has windows of %lld tokens, %lld are wanted", path,
                       (long long)windows->T, (long long)T);
    int64_t wanted = n ? n : windows->n;
    if (windows->n < wanted || wanted < 1)
        return eq_windows_short(ctx, path, windows->n, T, n ? n : 1);
    for (int64_t i = 0; i < wanted * T; i++)
        if (windows->ids[i] < 0 || windows->ids[i] >= vocabulary)
            return eq_fail(ctx, EQ_EINVAL,
                           "%s: window %lld, token %lld is %d, the vocabulary has %lld tokens",
                           path, (long long)(i / T), (long long)(i % T), (int)windows->ids[i],
                           (long long)vocabulary);
    windows->n = wanted;
    return EQ_OK;
}
