#include "io/tokenizer_parts.h"

#include <stdlib.h>

/* ---- making -------------------------------------------------------------------------------- */

static eq_status copy_merges(eq_ctx *ctx, eq_tokenizer *t, const eq_vocabulary *v)
{
    size_t total = 0;
    for (int64_t i = 0; i < v->merge_count; i++)
        total += v->merges[i].size;
    t->merge_count = v->merge_count;
    t->merges = eq_alloc(ctx, v->merge_count, sizeof *t->merges);
    t->strings = eq_alloc(ctx, (int64_t)total, 1);
    if (!t->merges || !t->strings) return EQ_ENOMEM;
    char *at = t->strings;
    for (int64_t i = 0; i < v->merge_count; i++) {
        memcpy(at, v->merges[i].data, v->merges[i].size);
        t->merges[i] = (eq_text){at, v->merges[i].size};
        at += v->merges[i].size;
    }
    return EQ_OK;
}

static eq_status add_merges(eq_ctx *ctx, eq_tokenizer *t, const eq_vocabulary *v)
{
    eq_status st = eq_bpe_reserve(ctx, &t->bpe, v->merge_count);
    for (int64_t i = 0; st == EQ_OK && i < v->merge_count; i++) {
        eq_text m = v->merges[i];
        const char *space = memchr(m.data, ' ', m.size);
        if (!space)
            return eq_fail(ctx, EQ_EFORMAT, "%s: merge %lld is not a pair", v->what, (long long)i);
        size_t left = (size_t)(space - m.data);
        st = eq_bpe_add_merge(ctx, &t->bpe, (eq_text){m.data, left},
                              (eq_text){space + 1, m.size - left - 1}, (int32_t)i, v->what);
    }
    return st;
}

static bool is_matched(uint8_t kind)
{
    return kind == EQ_TOKEN_SPECIAL || kind == EQ_TOKEN_ADDED;
}

/* List the tokens that are looked for in a text as they stand, longest first. */
static eq_status list_matched(eq_ctx *ctx, eq_tokenizer *t)
{
    t->matched = eq_alloc(ctx, t->bpe.size, sizeof *t->matched);
    if (!t->matched) return EQ_ENOMEM;
    for (int32_t id = 0; id < t->bpe.size; id++) {
        eq_text piece = t->bpe.pieces[id];
        if (!is_matched(t->kinds[id]) || !piece.size) continue;
        int64_t i = t->matched_count++;
        for (; i > 0 && t->bpe.pieces[t->matched[i - 1]].size < piece.size; i--)
            t->matched[i] = t->matched[i - 1];
        t->matched[i] = id;
        t->first_bytes[(uint8_t)piece.data[0]] = true;
    }
    return EQ_OK;
}

static eq_status make_bpe(eq_ctx *ctx, eq_tokenizer *t, const eq_vocabulary *v)
{
    bool *raw = eq_alloc(ctx, v->size, sizeof *raw);
    if (!raw) return EQ_ENOMEM;
    for (int64_t i = 0; i < v->size; i++)
        raw[i] = v->kinds[i] != EQ_TOKEN_NORMAL;
    eq_status st = eq_bpe_init(ctx, &t->bpe, v->tokens, raw, v->size, v->what);
    eq_free(raw);
    return st == EQ_OK ? add_merges(ctx, t, v) : st;
}

eq_status eq_tokenizer_make(eq_ctx *ctx, eq_tokenizer **out, const eq_vocabulary *v)
{
    *out = NULL;
    eq_tokenizer *t = eq_alloc(ctx, 1, sizeof *t);
    if (!t) return EQ_ENOMEM;
    t->single_digits = v->single_digits;
    t->add_bos = v->add_bos && v->bos >= 0;
    t->bos = v->bos;
    t->eos = v->eos;
    t->unk = v->unk;
    t->pad = v->pad;
    t->kinds = eq_alloc(ctx, v->size, 1);
    eq_status st = t->kinds ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) {
        memcpy(t->kinds, v->kinds, (size_t)v->size);
        st = make_bpe(ctx, t, v);
    }
    if (st == EQ_OK) st = copy_merges(ctx, t, v);
    if (st == EQ_OK) st = list_matched(ctx, t);
    if (st == EQ_OK) st = eq_pretokenizer_new(ctx, &t->pretokenizer, v->single_digits);
    if (st == EQ_OK && v->chat_template.size) {
        t->chat_template = eq_strndup(ctx, v->chat_template.data, v->chat_template.size);
        if (!t->chat_template) st = EQ_ENOMEM;
    }
    if (st != EQ_OK) {
        eq_tokenizer_free(t);
        return st;
    }
    *out = t;
    return EQ_OK;
}

void eq_tokenizer_free(eq_tokenizer *t)
{
    if (!t) return;
    eq_bpe_deinit(&t->bpe);
    eq_pretokenizer_free(t->pretokenizer);
    eq_free(t->kinds);
    eq_free(t->matched);
    eq_free(t->merges);
    eq_free(t->strings);
    eq_free(t->chat_template);
    eq_free(t);
}

/* ---- encoding ------------------------------------------------------------------------------ */

/* BPE of a piece looks at its neighbours only, so a very long one can be worked on in windows of this many bytes; real
 * words are far shorter, and the reference cuts none. */
enum { PIECE_LIMIT = 1 << 14, CACHE_SLOTS = 1 << 14, CACHE_IDS = 12 };

/* A word met before. Texts repeat their words: most pieces are found here. */
typedef struct cached {
    eq_text piece; /* borrowed from the text */
    int32_t count;
    int32_t ids[CACHE_IDS];
} cached;

typedef struct encoder {
    const eq_tokenizer *t;
    cached *cache; /* owned */
    int32_t *ids;  /* owned, grows */
    int64_t count, room;
} encoder;

static eq_status reserve_ids(eq_ctx *ctx, encoder *e, int64_t more)
{
    if (e->count + more <= e->room) return EQ_OK;
    int64_t room = 2 * (e->count + more);
    int32_t *ids = eq_alloc(ctx, room, sizeof *ids);
    if (!ids) return EQ_ENOMEM;
    memcpy(ids, e->ids, (size_t)e->count * sizeof *ids);
    eq_free(e->ids);
    e->ids = ids;
    e->room = room;
    return EQ_OK;
}

static uint64_t piece_hash(eq_text piece)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < piece.size; i++)
        h = (h ^ (uint8_t)piece.data[i]) * 1099511628211u;
    return h ^ (h >> 29);
}

/* Append the ids of one piece. */
static eq_status add_piece(eq_ctx *ctx, void *user, eq_text piece)
{
    encoder *e = user;
    const eq_bpe *bpe = &e->t->bpe;
    cached *c = &e->cache[piece_hash(piece) % CACHE_SLOTS];
    bool hit =
        c->count && c->piece.size == piece.size && !memcmp(c->piece.data, piece.data, piece.size);
    eq_status st = reserve_ids(ctx, e, (int64_t)piece.size);
    if (st != EQ_OK) return st;
    if (hit) {
        memcpy(e->ids + e->count, c->ids, (size_t)c->count * sizeof *c->ids);
        e->count += c->count;
        return EQ_OK;
    }
    int64_t start = e->count;
    for (size_t at = 0; at < piece.size; at += PIECE_LIMIT) {
        size_t n = piece.size - at < PIECE_LIMIT ? piece.size - at : PIECE_LIMIT;
        int32_t *ids = e->ids + e->count;
        for (size_t i = 0; i < n; i++) {
            ids[i] = bpe->byte_ids[(uint8_t)piece.data[at + i]];
            if (ids[i] < 0)
                return eq_fail(ctx, EQ_EFORMAT, "the vocabulary has no token for the byte %d",
                               (uint8_t)piece.data[at + i]);
        }
        e->count += eq_bpe_merge_all(bpe, ids, (int64_t)n);
    }
    if (e->count - start > CACHE_IDS) return EQ_OK;
    *c = (cached){.piece = piece, .count = (int32_t)(e->count - start)};
    memcpy(c->ids, e->ids + start, (size_t)c->count * sizeof *c->ids);
    return EQ_OK;
}

/* The longest special or added token at the start of text; -1 when there is none. */
static int32_t match_special(const eq_tokenizer *t, eq_text text)
{
    if (!t->first_bytes[(uint8_t)text.data[0]]) return -1;
    for (int64_t i = 0; i < t->matched_count; i++) {
        eq_text piece = t->bpe.pieces[t->matched[i]];
        if (piece.size <= text.size && !memcmp(piece.data, text.data, piece.size))
            return t->matched[i];
    }
    return -1;
}

static eq_status encode_text(eq_ctx *ctx, encoder *e, eq_text text)
{
    const eq_tokenizer *t = e->t;
    size_t start = 0, at = 0;
    eq_status st = EQ_OK;
    while (st == EQ_OK && at < text.size) {
        int32_t id = match_special(t, (eq_text){text.data + at, text.size - at});
        if (id < 0) {
            at++;
            continue;
        }
        st = eq_pretokenize(ctx, t->pretokenizer, (eq_text){text.data + start, at - start},
                            add_piece, e);
        if (st == EQ_OK) st = reserve_ids(ctx, e, 1);
        if (st == EQ_OK) e->ids[e->count++] = id;
        at += t->bpe.pieces[id].size;
        start = at;
    }
    if (st != EQ_OK) return st;
    return eq_pretokenize(ctx, t->pretokenizer, (eq_text){text.data + start, text.size - start},
                          add_piece, e);
}

eq_status eq_tokenizer_encode(eq_ctx *ctx, const eq_tokenizer *t, const char *text, size_t n,
                              bool add_special, int32_t **ids, int64_t *count)
{
    encoder e = {.t = t, .room = (int64_t)n / 3 + 16};
    *ids = NULL;
    *count = 0;
    e.cache = eq_alloc(ctx, CACHE_SLOTS, sizeof *e.cache);
    e.ids = eq_alloc(ctx, e.room, sizeof *e.ids);
    eq_status st = e.cache && e.ids ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK && add_special && t->add_bos) e.ids[e.count++] = t->bos;
    if (st == EQ_OK) st = encode_text(ctx, &e, (eq_text){text, n});
    eq_free(e.cache);
    if (st != EQ_OK) {
        eq_free(e.ids);
        return st;
    }
    *ids = e.ids;
    *count = e.count;
    return EQ_OK;
}

/* ---- decoding and questions ---------------------------------------------------------------- */

eq_status eq_tokenizer_decode(eq_ctx *ctx, const eq_tokenizer *t, const int32_t *ids, int64_t count,
                              bool skip_special, char **text, size_t *size)
{
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= t->bpe.size)
            return eq_fail(ctx, EQ_EINVAL, "token %lld is %d, the vocabulary has %lld",
                           (long long)i, ids[i], (long long)t->bpe.size);
        total += t->bpe.pieces[ids[i]].size;
    }
    char *out = eq_alloc(ctx, (int64_t)total + 1, 1);
    if (!out) return EQ_ENOMEM;
    size_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        if (skip_special && eq_tokenizer_is_special(t, ids[i])) continue;
        eq_text piece = t->bpe.pieces[ids[i]];
        memcpy(out + at, piece.data, piece.size);
        at += piece.size;
    }
    *text = out;
    *size = at;
    return EQ_OK;
}

const char *eq_tokenizer_piece(const eq_tokenizer *t, int32_t id, size_t *size)
{
    bool shown = id >= 0 && id < t->bpe.size && !eq_tokenizer_is_special(t, id);
    *size = shown ? t->bpe.pieces[id].size : 0;
    return shown ? t->bpe.pieces[id].data : "";
}

int64_t eq_tokenizer_size(const eq_tokenizer *t)
{
    return t->bpe.size;
}

int32_t eq_tokenizer_bos(const eq_tokenizer *t)
{
    return t->bos;
}

int32_t eq_tokenizer_eos(const eq_tokenizer *t)
{
    return t->eos;
}

int32_t eq_tokenizer_unk(const eq_tokenizer *t)
{
    return t->unk;
}

bool eq_tokenizer_add_bos(const eq_tokenizer *t)
{
    return t->add_bos;
}

bool eq_tokenizer_is_special(const eq_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->bpe.size &&
           (t->kinds[id] == EQ_TOKEN_SPECIAL || t->kinds[id] == EQ_TOKEN_UNUSED);
}

const char *eq_tokenizer_chat_template(const eq_tokenizer *t)
{
    return t->chat_template;
}
