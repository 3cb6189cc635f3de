#include "io/windows.h"

#include "base/rng.h"
#include "io/npy.h"

#include <jansson.h>

void eq_windows_free(eq_windows *w)
{
    eq_free(w->ids);
    *w = (eq_windows){0};
}

static bool ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && !strcmp(path + n - m, ending);
}

static eq_status too_few(eq_ctx *ctx, const eq_windows_source *s, int64_t there)
{
    return eq_fail(ctx, EQ_EINVAL, "%s: has %lld windows of %lld tokens, %lld are needed", s->path,
                   (long long)there, (long long)s->T, (long long)s->n);
}

static eq_status check_ids(eq_ctx *ctx, const eq_windows_source *s, const eq_windows *w)
{
    for (int64_t i = 0; i < w->n * w->T; i++)
        if (w->ids[i] < 0 || w->ids[i] >= s->vocabulary)
            return eq_fail(ctx, EQ_EINVAL,
                           "%s: window %lld holds the id %d, the vocabulary has %lld", s->path,
                           (long long)(i / w->T), w->ids[i], (long long)s->vocabulary);
    return EQ_OK;
}

static eq_status from_npy(eq_ctx *ctx, eq_windows *w, const eq_windows_source *s)
{
    int64_t shape[2] = {0, 0};
    eq_status st = eq_npy_read_i32(ctx, s->path, &w->ids, shape);
    if (st != EQ_OK) return st;
    if (shape[1] != s->T)
        return eq_fail(ctx, EQ_EINVAL, "%s: its windows have %lld tokens, --seqlen is %lld",
                       s->path, (long long)shape[1], (long long)s->T);
    return shape[0] < s->n ? too_few(ctx, s, shape[0]) : EQ_OK;
}

/* A .jsonl being walked. */
typedef struct lines {
    eq_ctx *ctx;
    const eq_windows_source *source;
    const char *at, *end;
    int64_t number;
} lines;

/* Tokens of the next document; *ids NULL at the end. */
static eq_status next_document(lines *l, int32_t **ids, int64_t *count)
{
    *ids = NULL;
    *count = 0;
    while (l->at < l->end) {
        const char *stop = memchr(l->at, '\n', (size_t)(l->end - l->at));
        const char *from = l->at;
        size_t n = (size_t)((stop ? stop : l->end) - from);
        l->at = stop ? stop + 1 : l->end;
        l->number++;
        if (!n || (n == 1 && *from == '\r')) continue;
        json_error_t error;
        json_t *object = json_loadb(from, n, JSON_ALLOW_NUL, &error);
        const json_t *text = json_object_get(object, "text");
        eq_status st;
        if (json_is_string(text))
            st = eq_tokenizer_encode(l->ctx, l->source->tokenizer, json_string_value(text),
                                     json_string_length(text), true, ids, count);
        else
            st = eq_fail(l->ctx, EQ_EFORMAT, "%s: line %lld: %s", l->source->path,
                         (long long)l->number, object ? "has no \"text\"" : error.text);
        json_decref(object);
        return st;
    }
    return EQ_OK;
}

static eq_status concatenate(lines *l, eq_windows *w, int64_t *filled)
{
    int64_t room = w->n * w->T;
    eq_status st = EQ_OK;
    while (st == EQ_OK && *filled < room) {
        int32_t *ids = NULL;
        int64_t count = 0;
        st = next_document(l, &ids, &count);
        if (!ids) break;
        for (int64_t i = 0; i < count && *filled < room; i++)
            w->ids[(*filled)++] = ids[i];
        if (l->source->separator >= 0 && *filled < room) w->ids[(*filled)++] = l->source->separator;
        eq_free(ids);
    }
    return st;
}

/* All documents tokenized, for drawing among them. */
typedef struct library {
    int32_t **documents; /* owned */
    int64_t *sizes;      /* owned */
    int64_t count, room;
} library;

static eq_status add_document(eq_ctx *ctx, library *b, int32_t *ids, int64_t size)
{
    if (b->count == b->room) {
        int64_t room = b->room ? 2 * b->room : 256;
        int32_t **documents = eq_alloc(ctx, room, sizeof *documents);
        int64_t *sizes = eq_alloc(ctx, room, sizeof *sizes);
        if (!documents || !sizes) {
            eq_free(documents);
            eq_free(sizes);
            return EQ_ENOMEM;
        }
        if (b->count) {
            memcpy(documents, b->documents, (size_t)b->count * sizeof *documents);
            memcpy(sizes, b->sizes, (size_t)b->count * sizeof *sizes);
        }
        eq_free(b->documents);
        eq_free(b->sizes);
        *b = (library){documents, sizes, b->count, room};
    }
    b->documents[b->count] = ids;
    b->sizes[b->count++] = size;
    return EQ_OK;
}

static eq_status draw(eq_ctx *ctx, const library *b, eq_windows *w, const eq_windows_source *s)
{
    eq_rng rng;
    int64_t longest = 0;
    eq_rng_init(&rng, s->seed, 0);
    for (int64_t i = 0; i < b->count; i++)
        longest = b->sizes[i] > longest ? b->sizes[i] : longest;
    if (longest <= w->T)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: the longest document has %lld tokens, more than %lld are needed",
                       s->path, (long long)longest, (long long)w->T);
    for (int64_t i = 0; i < w->n;) {
        int64_t d = (int64_t)eq_rng_below(&rng, (uint64_t)b->count);
        if (b->sizes[d] <= w->T) continue;
        int64_t from = (int64_t)eq_rng_below(&rng, (uint64_t)(b->sizes[d] - w->T));
        memcpy(w->ids + i++ * w->T, b->documents[d] + from, (size_t)w->T * sizeof *w->ids);
    }
    return EQ_OK;
}

static eq_status draw_documents(lines *l, eq_windows *w)
{
    library b = {0};
    eq_status st = EQ_OK;
    for (bool more = true; st == EQ_OK && more;) {
        int32_t *ids = NULL;
        int64_t count = 0;
        st = next_document(l, &ids, &count);
        more = ids != NULL;
        if (more) {
            st = add_document(l->ctx, &b, ids, count);
            if (st != EQ_OK) eq_free(ids);
        }
    }
    if (st == EQ_OK) st = draw(l->ctx, &b, w, l->source);
    for (int64_t i = 0; i < b.count; i++)
        eq_free(b.documents[i]);
    eq_free(b.documents);
    eq_free(b.sizes);
    return st;
}

static eq_status from_jsonl(eq_ctx *ctx, eq_windows *w, const eq_windows_source *s,
                            const eq_map *map)
{
    lines l = {ctx, s, (const char *)map->data, (const char *)map->data + map->size, 0};
    int64_t filled = 0;
    if (s->order == EQ_ORDER_RANDOM_DOC) return draw_documents(&l, w);
    eq_status st = concatenate(&l, w, &filled);
    if (st == EQ_OK && filled < w->n * w->T) st = too_few(ctx, s, filled / w->T);
    return st;
}

static eq_status from_text(eq_ctx *ctx, eq_windows *w, const eq_windows_source *s,
                           const eq_map *map)
{
    int32_t *ids = NULL;
    int64_t count = 0;
    eq_status st = eq_tokenizer_encode(ctx, s->tokenizer, (const char *)map->data, map->size, true,
                                       &ids, &count);
    if (st == EQ_OK && count < w->n * w->T) st = too_few(ctx, s, count / w->T);
    if (st == EQ_OK) memcpy(w->ids, ids, (size_t)(w->n * w->T) * sizeof *ids);
    eq_free(ids);
    return st;
}

static eq_status from_file(eq_ctx *ctx, eq_windows *w, const eq_windows_source *s)
{
    eq_map map;
    if (!s->tokenizer)
        return eq_fail(ctx, EQ_EINVAL, "%s: is text, and the model has no tokenizer", s->path);
    eq_status st = eq_map_open(ctx, &map, s->path);
    if (st != EQ_OK) return st;
    w->ids = eq_alloc(ctx, s->n * s->T, sizeof *w->ids);
    if (!w->ids)
        st = EQ_ENOMEM;
    else
        st =
            ends_with(s->path, ".jsonl") ? from_jsonl(ctx, w, s, &map) : from_text(ctx, w, s, &map);
    eq_map_close(&map);
    return st;
}

eq_status eq_windows_load(eq_ctx *ctx, eq_windows *out, const eq_windows_source *s)
{
    *out = (eq_windows){.n = s->n, .T = s->T};
    eq_status st = ends_with(s->path, ".npy") ? from_npy(ctx, out, s) : from_file(ctx, out, s);
    if (st == EQ_OK) st = check_ids(ctx, s, out);
    if (st != EQ_OK) eq_windows_free(out);
    return st;
}
