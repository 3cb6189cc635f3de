#include "io/tokenizer.h"

#include "io/characters.h"
#include "io/normalize.h"
#include "io/tokenizer_parts.h"

#include <string.h>

eq_vocab eq_vocab_none(void)
{
    return (eq_vocab){.bos = -1, .eos = -1, .unk = -1, .pad = -1, .missing = -1};
}

/* ---- making one ---------------------------------------------------------------------------- */

/* Length of a text for "%.*s" in a message. */
static int shown(const eq_text *text)
{
    return (int)(text->size < 80 ? text->size : 80);
}

/* Ids of the two sides of "left right", and of both together. A token may start with a space, so
 * the one between them is looked for behind the first byte. */
static bool resolve_merge(const eq_token_table *table, const eq_text *text, char *joined,
                          eq_merge *merge)
{
    if (text->size < 3) return false;
    const char *space = memchr(text->data + 1, ' ', text->size - 2);
    if (!space) return false;
    size_t left = (size_t)(space - text->data), right = text->size - left - 1;
    memcpy(joined, text->data, left);
    memcpy(joined + left, space + 1, right);
    merge->left = eq_token_table_find(table, joined, left);
    merge->right = eq_token_table_find(table, space + 1, right);
    merge->merged = eq_token_table_find(table, joined, left + right);
    return merge->left >= 0 && merge->right >= 0 && merge->merged >= 0;
}

static eq_status fill_merges(eq_ctx *ctx, eq_tokenizer *tok, const eq_vocab *vocab)
{
    if (vocab->m < 0 || vocab->m > EQ_MERGES_MOST)
        return eq_fail(ctx, EQ_EFORMAT, "%s: %lld merges, at most %d are supported", vocab->source,
                       (long long)vocab->m, EQ_MERGES_MOST);
    size_t longest = 1;
    for (int64_t i = 0; i < vocab->m; i++)
        if (vocab->merges[i].size > longest) longest = vocab->merges[i].size;
    eq_status st = eq_merges_init(ctx, &tok->merges, vocab->m);
    char *joined = eq_alloc(ctx, (int64_t)longest, 1);
    if (st != EQ_OK || !joined) {
        eq_free(joined);
        return st != EQ_OK ? st : EQ_ENOMEM;
    }
    for (int64_t i = 0; i < vocab->m && st == EQ_OK; i++) {
        eq_merge merge;
        const eq_text *text = &vocab->merges[i];
        if (resolve_merge(&tok->table, text, joined, &merge))
            eq_merges_add(&tok->merges, merge);
        else
            st = eq_fail(ctx, EQ_EFORMAT,
                         "%s: merge %lld, '%.*s', must be two tokens with a space between them "
                         "that make a third",
                         vocab->source, (long long)i, shown(text), text->data);
    }
    eq_free(joined);
    return st;
}

/* EQ_EFORMAT when an id is neither absent (-1) nor in the vocabulary. */
static eq_status check_id(eq_ctx *ctx, const eq_vocab *vocab, const char *name, int32_t id)
{
    if (id >= -1 && id < vocab->n) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: the %s token is %d, the vocabulary has %lld tokens",
                   vocab->source, name, (int)id, (long long)vocab->n);
}

static eq_status fill_settings(eq_ctx *ctx, eq_tokenizer *tok, const eq_vocab *vocab)
{
    const char *pre = vocab->pre ? vocab->pre : "";
    tok->pre = eq_pretokenizer_find(pre);
    if (!tok->pre)
        return eq_fail(ctx, EQ_EFORMAT,
                       "%s: pre-tokenizer '%s' is not supported (gpt2, smollm, qwen2)",
                       vocab->source, pre);
    const char *names[] = {"bos", "eos", "unk", "pad", "missing"};
    const int32_t ids[] = {vocab->bos, vocab->eos, vocab->unk, vocab->pad, vocab->missing};
    for (int i = 0; i < 5; i++) {
        eq_status st = check_id(ctx, vocab, names[i], ids[i]);
        if (st != EQ_OK) return st;
    }
    if (vocab->add_bos && vocab->bos < 0)
        return eq_fail(ctx, EQ_EFORMAT, "%s: a bos token is to be added, but there is none",
                       vocab->source);
    tok->bos = vocab->bos;
    tok->eos = vocab->eos;
    tok->unk = vocab->unk;
    tok->pad = vocab->pad;
    tok->missing = vocab->missing;
    tok->add_bos = vocab->add_bos;
    tok->normalized = vocab->normalized;
    tok->max_length = vocab->max_length;
    const eq_text *chat = &vocab->chat_template;
    if (!chat->data) return EQ_OK;
    if (!eq_utf8_valid(chat->data, chat->size))
        return eq_fail(ctx, EQ_EFORMAT, "%s: the chat template is not UTF-8", vocab->source);
    tok->chat_template = eq_strndup(ctx, chat->data, chat->size);
    tok->chat_template_size = chat->size;
    return tok->chat_template ? EQ_OK : EQ_ENOMEM;
}

eq_status eq_tokenizer_from_vocab(eq_ctx *ctx, eq_tokenizer **tok, const eq_vocab *vocab)
{
    *tok = NULL;
    eq_tokenizer *t = eq_alloc(ctx, 1, sizeof *t);
    if (!t) return EQ_ENOMEM;
    eq_status st = eq_token_table_init(ctx, &t->table, vocab);
    if (st == EQ_OK) st = fill_settings(ctx, t, vocab);
    if (st == EQ_OK) st = fill_merges(ctx, t, vocab);
    if (st != EQ_OK) {
        eq_tokenizer_free(t);
        return st;
    }
    *tok = t;
    return EQ_OK;
}

void eq_tokenizer_free(eq_tokenizer *tok)
{
    if (!tok) return;
    eq_token_table_deinit(&tok->table);
    eq_merges_deinit(&tok->merges);
    eq_free(tok->chat_template);
    eq_free(tok);
}

/* ---- text to ids --------------------------------------------------------------------------- */

eq_status eq_ids_push(eq_ctx *ctx, eq_ids *ids, int32_t id)
{
    if (ids->count == ids->room) {
        int64_t room = ids->room ? 2 * ids->room : 256;
        int32_t *data = eq_grow(ctx, ids->data, ids->count, room, sizeof *data);
        if (!data) return EQ_ENOMEM;
        ids->data = data;
        ids->room = room;
    }
    ids->data[ids->count++] = id;
    return EQ_OK;
}

/* Append the tokens of one piece. */
static eq_status append_piece(eq_ctx *ctx, const eq_tokenizer *tok, eq_text piece, eq_word *word,
                              eq_ids *ids)
{
    eq_status st = eq_word_reserve(ctx, word, (int64_t)piece.size);
    if (st != EQ_OK) return st;
    int32_t count = 0;
    for (size_t i = 0; i < piece.size; i++) {
        int32_t id = tok->table.byte_ids[(uint8_t)piece.data[i]];
        if (id < 0) id = tok->missing;
        if (id >= 0) word->symbols[count++].id = id;
    }
    count = eq_bpe_merge(&tok->merges, word, count);
    for (int32_t i = 0; i < count && st == EQ_OK; i++)
        st = eq_ids_push(ctx, ids, word->symbols[i].id);
    return st;
}

eq_status eq_tokenizer_normalize(eq_ctx *ctx, const eq_tokenizer *tok, eq_text *text, char **owned)
{
    *owned = NULL;
    return tok->normalized ? eq_normalize(ctx, text, owned) : EQ_OK;
}

/* Append the tokens of text [n] without added tokens in it. */
static eq_status append_plain(eq_ctx *ctx, const eq_tokenizer *tok, eq_text text, eq_word *word,
                              eq_ids *ids)
{
    char *owned = NULL;
    eq_status st = eq_tokenizer_normalize(ctx, tok, &text, &owned);
    for (size_t at = 0; at < text.size && st == EQ_OK;) {
        size_t size = eq_pretokenize(tok->pre, text.data + at, text.size - at);
        st = append_piece(ctx, tok, (eq_text){text.data + at, size}, word, ids);
        at += size;
    }
    eq_free(owned);
    return st;
}

/* Cut the text at its added tokens, special ones or not, and append everything. */
static eq_status append_all(eq_ctx *ctx, const eq_tokenizer *tok, eq_text text, bool special,
                            eq_ids *ids)
{
    eq_word word = {0};
    eq_status st = EQ_OK;
    size_t start = 0; /* of the text since the last added token */
    for (size_t at = 0; at < text.size && st == EQ_OK;) {
        int32_t id = eq_token_table_added(&tok->table, text.data + at, text.size - at, special);
        if (id < 0) {
            at++;
            continue;
        }
        st = append_plain(ctx, tok, (eq_text){text.data + start, at - start}, &word, ids);
        if (st == EQ_OK) st = eq_ids_push(ctx, ids, id);
        at += tok->table.tokens[id].name.size;
        start = at;
    }
    if (st == EQ_OK && start < text.size)
        st = append_plain(ctx, tok, (eq_text){text.data + start, text.size - start}, &word, ids);
    eq_word_deinit(&word);
    return st;
}

eq_status eq_tokenizer_append(eq_ctx *ctx, const eq_tokenizer *tok, const char *text, size_t n,
                              bool add_special, eq_ids *ids)
{
    eq_status st = EQ_OK;
    if (add_special && tok->add_bos) st = eq_ids_push(ctx, ids, tok->bos);
    return st == EQ_OK ? append_all(ctx, tok, (eq_text){text, n}, true, ids) : st;
}

eq_status eq_tokenizer_append_content(eq_ctx *ctx, const eq_tokenizer *tok, eq_text text,
                                      eq_ids *ids)
{
    return append_all(ctx, tok, text, false, ids);
}

int32_t eq_tokenizer_special(const eq_tokenizer *tok, eq_text text)
{
    int32_t id = text.size ? eq_token_table_added(&tok->table, text.data, text.size, true) : -1;
    return id >= 0 && eq_tokenizer_is_special(tok, id) ? id : -1;
}

/* Whether a byte of a text is left out of the ids. */
static bool dropped(const eq_tokenizer *tok, char byte)
{
    return tok->missing < 0 && tok->table.byte_ids[(uint8_t)byte] < 0;
}

size_t eq_tokenizer_locate(const eq_tokenizer *tok, eq_text text, size_t at, int32_t id,
                           size_t *start)
{
    const eq_token *token = &tok->table.tokens[id];
    const bool added = eq_token_type_added(token->type) && id != tok->missing;
    size_t left = token->bytes.size;
    while (at < text.size && dropped(tok, text.data[at]) &&
           !(added && text.size - at >= left && !memcmp(text.data + at, token->bytes.data, left)))
        at++;
    *start = at;
    if (added) return text.size - at < left ? text.size : at + left;
    if (at < text.size && tok->table.byte_ids[(uint8_t)text.data[at]] < 0) left = 1; /* missing */
    for (; at < text.size && left; at++)
        left -= !dropped(tok, text.data[at]); /* neighbours of a dropped byte may be merged */
    return at;
}

eq_status eq_tokenizer_encode(eq_ctx *ctx, const eq_tokenizer *tok, const char *text, size_t n,
                              bool add_special, int32_t **ids, int64_t *count)
{
    eq_ids list = {0};
    *ids = NULL;
    *count = 0;
    eq_status st = eq_tokenizer_append(ctx, tok, text, n, add_special, &list);
    if (st == EQ_OK && !list.data && !(list.data = eq_alloc(ctx, 0, sizeof *list.data)))
        st = EQ_ENOMEM;
    if (st != EQ_OK) {
        eq_free(list.data);
        return st;
    }
    *ids = list.data;
    *count = list.count;
    return EQ_OK;
}

/* ---- ids to text --------------------------------------------------------------------------- */

eq_status eq_tokenizer_decode(eq_ctx *ctx, const eq_tokenizer *tok, const int32_t *ids,
                              int64_t count, bool skip_special, char **text, size_t *size)
{
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tok->table.n)
            return eq_fail(ctx, EQ_EINVAL, "token %d is outside the vocabulary of %d tokens",
                           (int)ids[i], (int)tok->table.n);
        total += tok->table.tokens[ids[i]].bytes.size; /* at most 2^16 each */
    }
    char *out = eq_alloc(ctx, (int64_t)total + 1, 1);
    if (!out) return EQ_ENOMEM;
    total = 0;
    for (int64_t i = 0; i < count; i++) {
        if (skip_special && eq_tokenizer_is_special(tok, ids[i])) continue;
        const eq_text *bytes = &tok->table.tokens[ids[i]].bytes;
        memcpy(out + total, bytes->data, bytes->size);
        total += bytes->size;
    }
    *text = out;
    *size = total;
    return EQ_OK;
}

const char *eq_tokenizer_piece(const eq_tokenizer *tok, int32_t id, size_t *size)
{
    *size = 0;
    if (id < 0 || id >= tok->table.n) return "";
    *size = tok->table.tokens[id].bytes.size;
    return tok->table.tokens[id].bytes.data;
}

/* ---- getters ------------------------------------------------------------------------------- */

int32_t eq_tokenizer_find(const eq_tokenizer *tok, const char *name, size_t n)
{
    return eq_token_table_find(&tok->table, name, n);
}

int64_t eq_tokenizer_vocab_size(const eq_tokenizer *tok)
{
    return tok->table.n;
}

int32_t eq_tokenizer_bos(const eq_tokenizer *tok)
{
    return tok->bos;
}

int32_t eq_tokenizer_eos(const eq_tokenizer *tok)
{
    return tok->eos;
}

int32_t eq_tokenizer_separator(const eq_tokenizer *tok)
{
    static const char NAME[] = "<|endoftext|>";
    const int32_t id = eq_tokenizer_find(tok, NAME, strlen(NAME));
    return id >= 0 ? id : tok->eos;
}

int32_t eq_tokenizer_unk(const eq_tokenizer *tok)
{
    return tok->unk;
}

int32_t eq_tokenizer_pad(const eq_tokenizer *tok)
{
    return tok->pad;
}

bool eq_tokenizer_add_bos(const eq_tokenizer *tok)
{
    return tok->add_bos;
}

bool eq_tokenizer_is_special(const eq_tokenizer *tok, int32_t id)
{
    if (id < 0 || id >= tok->table.n) return true;
    int32_t type = tok->table.tokens[id].type;
    return type == EQ_TOKEN_UNKNOWN || type == EQ_TOKEN_CONTROL || type == EQ_TOKEN_UNUSED;
}

const char *eq_tokenizer_chat_template(const eq_tokenizer *tok)
{
    return tok->chat_template;
}
