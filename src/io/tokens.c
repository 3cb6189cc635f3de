#include "io/tokens.h"

#include "io/characters.h"
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

/* Whether a letter or a number ends in front of text[at]. */
static bool behind_word(eq_text text, size_t at)
{
    uint32_t code = 0;
    for (size_t n = 1; n <= 4 && n <= at; n++)
        if (eq_utf8_decode(text.data + at - n, n, &code) == (int)n) {
            const eq_char_class class = eq_char_class_of(code);
            return class == EQ_CHAR_LETTER || class == EQ_CHAR_NUMBER;
        }
    return false;
}

/* The place is in front of white space (ASCII) behind a letter or a number. There every
 * pre-tokenizer ends a piece: one that has a letter goes on with letters only, a number with
 * numbers, none depends on what stands before it, and a run of either ends there as at the end of
 * the text (io/pretokenize.c). Form C joins marks with what stands before them, and white space is
 * none. An added token across it would have white space behind a letter in its name, which those of
 * known models have not. */
size_t eq_text_slice(eq_text text, size_t least)
{
    for (size_t at = least ? least : 1; at < text.size; at++)
        if (memchr(" \t\r\n", text.data[at], 4) && behind_word(text, at)) return at;
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
    if (!source->n) return there;
    if (there >= source->n) return source->n;
    return source->enough && there >= source->enough ? there : 0;
}

eq_status eq_windows_short(eq_ctx *ctx, const char *path, int64_t there, int64_t T, int64_t needed)
{
    return eq_fail(ctx, EQ_EINVAL, "%s: has %lld windows of %lld tokens, %lld are needed", path,
                   (long long)there, (long long)T, (long long)needed);
}

/* ---- windows at random --------------------------------------------------------------------- */

/* A document that can give a window. Its tokens are made again when it is known which of them are
 * drawn: those of all documents would take as much memory as the data set. */
typedef struct long_document {
    size_t at;     /* where it stands in the file */
    int64_t size;  /* in tokens, more than T */
    int64_t drawn; /* the window that was drawn from it last, -1: none */
} long_document;

typedef struct long_documents {
    const eq_window_source *source;
    eq_lines lines;
    eq_ids ids;          /* of one document */
    long_document *list; /* owned; [room] */
    int64_t n, room;
    int64_t all;     /* documents in the file */
    int64_t longest; /* tokens of the longest one */
} long_documents;

static void long_documents_deinit(long_documents *documents)
{
    eq_lines_close(&documents->lines);
    eq_free(documents->ids.data);
    eq_free(documents->list);
}

static eq_status push(eq_ctx *ctx, long_documents *documents, long_document document)
{
    if (documents->n == documents->room) {
        int64_t room = documents->room ? 2 * documents->room : 256;
        long_document *list = eq_grow(ctx, documents->list, documents->n, room, sizeof *list);
        if (!list) return EQ_ENOMEM;
        documents->list = list;
        documents->room = room;
    }
    documents->list[documents->n++] = document;
    return EQ_OK;
}

/* Tokenize the next document; *more is false when there is none. */
static eq_status read_document(eq_ctx *ctx, long_documents *documents, bool *more)
{
    eq_text text = {0};
    documents->ids.count = 0;
    eq_status st = next_document(&documents->lines, more, &text);
    if (st != EQ_OK || !*more) return st;
    st = eq_tokenizer_append(ctx, documents->source->tok, text.data, text.size, true,
                             &documents->ids);
    return st == EQ_OK ? eq_check_interrupt(ctx) : st;
}

static eq_status find_long(eq_ctx *ctx, long_documents *documents)
{
    const eq_window_source *source = documents->source;
    bool more = true;
    eq_status st = eq_lines_open(ctx, &documents->lines, source->path);
    while (st == EQ_OK) {
        const size_t at = documents->lines.at;
        st = read_document(ctx, documents, &more);
        if (st != EQ_OK || !more) break;
        const int64_t size = documents->ids.count;
        documents->all++;
        if (size > documents->longest) documents->longest = size;
        if (size > source->T) st = push(ctx, documents, (long_document){at, size, -1});
    }
    if (st != EQ_OK || documents->n) return st;
    return eq_fail(ctx, EQ_EINVAL,
                   "%s: the longest of %lld documents has %lld tokens, a window needs %lld",
                   source->path, (long long)documents->all, (long long)documents->longest,
                   (long long)source->T + 1);
}

/* Where windows begin. */
typedef struct draw {
    int64_t start; /* token of the document */
    int64_t next;  /* another window of the same document, -1: none */
} draw;

static void draw_windows(draw *draws, long_documents *documents, int64_t tail, eq_rng *rng)
{
    const int64_t n = documents->source->n, T = documents->source->T;
    const int64_t held = !tail ? 0 : documents->n < 10 ? 1 : documents->n / 10;
    for (int64_t i = 0; i < n; i++) {
        /* drawing again until the document is long enough is drawing from the long ones */
        const bool last = i >= n - tail;
        const int64_t among = last ? held : documents->n - held;
        long_document *from = documents->list + (last ? documents->n - held : 0);
        from += eq_rng_below(rng, (uint64_t)among);
        draws[i].start = (int64_t)eq_rng_below(rng, (uint64_t)(from->size - T));
        draws[i].next = from->drawn;
        from->drawn = i;
    }
}

/* Tokenize each document of which there are windows, in the order of the file. */
static eq_status copy_windows(eq_ctx *ctx, int32_t *out, const draw *draws,
                              long_documents *documents)
{
    const int64_t T = documents->source->T;
    eq_status st = EQ_OK;
    for (int64_t k = 0; k < documents->n && st == EQ_OK; k++) {
        const long_document *from = &documents->list[k];
        bool more = true;
        if (from->drawn < 0) continue;
        documents->lines.at = from->at;
        st = read_document(ctx, documents, &more);
        if (st == EQ_OK && documents->ids.count != from->size)
            st = eq_fail(ctx, EQ_EIO, "%s: changed while it was read", documents->source->path);
        for (int64_t i = from->drawn; i >= 0 && st == EQ_OK; i = draws[i].next)
            memcpy(out + i * T, documents->ids.data + draws[i].start, (size_t)T * sizeof *out);
    }
    return st;
}

eq_status eq_windows_random(eq_ctx *ctx, eq_token_windows *windows, const eq_window_source *source,
                            int64_t tail, eq_rng *rng)
{
    *windows = (eq_token_windows){0};
    const int64_t n = source->n, T = source->T;
    long_documents documents = {.source = source};
    int32_t *out = NULL;
    draw *draws = NULL;
    eq_status st = eq_windows_sizes(ctx, source, 1);
    if (st == EQ_OK) st = find_long(ctx, &documents);
    if (st == EQ_OK && tail && documents.n < 2)
        st = eq_fail(ctx, EQ_EINVAL,
                     "%s: has one document of more than %lld tokens and none for validation; name "
                     "a file for that with --val",
                     source->path, (long long)T);
    if (st != EQ_OK) goto done;
    out = eq_alloc(ctx, n * T, sizeof *out);
    draws = eq_alloc(ctx, n, sizeof *draws);
    if (!out || !draws) {
        st = EQ_ENOMEM;
        goto done;
    }
    draw_windows(draws, &documents, tail, rng);
    st = copy_windows(ctx, out, draws, &documents);
    if (st != EQ_OK) goto done;
    *windows = (eq_token_windows){.ids = out, .n = n, .T = T};
    out = NULL;
done:
    eq_free(out);
    eq_free(draws);
    long_documents_deinit(&documents);
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
