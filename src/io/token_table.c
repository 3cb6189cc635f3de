#include "io/token_table.h"

#include "io/characters.h"

#include <stdlib.h>
#include <string.h>

/* Ids are i32 and tables have twice as many slots. */
static const int64_t MOST_TOKENS = 1 << 24;

bool eq_token_type_added(int32_t type)
{
    return type == EQ_TOKEN_UNKNOWN || type == EQ_TOKEN_CONTROL || type == EQ_TOKEN_USER;
}

static uint32_t hash_text(const char *text, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h ^ h >> 15;
}

/* The slot of a name: the one that holds it, or the free one where it belongs. */
static uint32_t find_slot(const eq_token_table *table, const char *name, size_t n)
{
    uint32_t slot = hash_text(name, n) & table->mask;
    for (;; slot = (slot + 1) & table->mask) {
        if (!table->slots[slot]) return slot;
        const eq_text *other = &table->tokens[table->slots[slot] - 1].name;
        if (other->size == n && !memcmp(other->data, name, n)) return slot;
    }
}

int32_t eq_token_table_find(const eq_token_table *table, const char *name, size_t n)
{
    return n ? table->slots[find_slot(table, name, n)] - 1 : -1;
}

/* Write the bytes that the letters of a name stand for to out, which has room for the name. Gives
 * their number, or 0 when a character stands for no byte. */
static size_t spell_bytes(const eq_text *name, char *out)
{
    size_t count = 0;
    int length = 0;
    uint32_t letter = 0;
    for (size_t at = 0; at < name->size; at += (size_t)length) {
        length = eq_utf8_decode(name->data + at, name->size - at, &letter);
        int byte = length ? eq_letter_byte(letter) : -1;
        if (byte < 0) return 0;
        out[count++] = (char)byte;
    }
    return count;
}

/* Fill in one token. Its name goes to *pool, which moves on; so do its bytes if they differ. */
static void fill_token(eq_token *token, const eq_text *source, int32_t type, char **pool)
{
    token->type = source->size ? type : EQ_TOKEN_UNUSED;
    token->name = (eq_text){*pool, source->size};
    if (source->size) memcpy(*pool, source->data, source->size);
    *pool += source->size;
    token->bytes = token->name;
    if (eq_token_type_added(token->type)) return;
    size_t size = spell_bytes(&token->name, *pool);
    if (!size) return; /* not in the alphabet of bytes: stands for itself */
    token->bytes = (eq_text){*pool, size};
    *pool += size;
}

/* Copy all tokens into the table and index their names. */
static eq_status fill_tokens(eq_ctx *ctx, eq_token_table *table, const eq_vocab *vocab)
{
    char *pool = table->pool;
    for (int32_t id = 0; id < table->n; id++) {
        const eq_text *text = &vocab->tokens[id];
        int32_t type = vocab->types ? vocab->types[id] : EQ_TOKEN_NORMAL;
        if (type < EQ_TOKEN_NORMAL || type > EQ_TOKEN_BYTE)
            return eq_fail(ctx, EQ_EFORMAT, "%s: token %d has type %d, types are 1 to 6",
                           vocab->source, (int)id, (int)type);
        if (!eq_utf8_valid(text->data, text->size))
            return eq_fail(ctx, EQ_EFORMAT, "%s: token %d is not UTF-8", vocab->source, (int)id);
        fill_token(&table->tokens[id], text, type, &pool);
        if (!text->size) continue;
        uint32_t slot = find_slot(table, text->data, text->size);
        if (table->slots[slot])
            return eq_fail(ctx, EQ_EFORMAT, "%s: tokens %d and %d are both '%.*s'", vocab->source,
                           (int)table->slots[slot] - 1, (int)id,
                           (int)(text->size < 80 ? text->size : 80), text->data);
        table->slots[slot] = id + 1;
    }
    return EQ_OK;
}

static void find_byte_tokens(eq_token_table *table)
{
    for (int byte = 0; byte < 256; byte++) {
        char letter[4];
        int n = eq_utf8_encode(letter, eq_byte_letter((uint8_t)byte));
        int32_t id = eq_token_table_find(table, letter, (size_t)n);
        table->byte_ids[byte] = id >= 0 && !eq_token_type_added(table->tokens[id].type) ? id : -1;
    }
}

/* An added token while they are sorted. */
typedef struct added_token {
    eq_text name;
    int32_t id;
} added_token;

/* By first byte, then the longest first. */
static int compare_added(const void *a, const void *b)
{
    const added_token *x = a, *y = b;
    int first = (uint8_t)x->name.data[0] - (uint8_t)y->name.data[0];
    if (first) return first;
    if (x->name.size != y->name.size) return x->name.size < y->name.size ? 1 : -1;
    return x->id - y->id;
}

static eq_status index_added(eq_ctx *ctx, eq_token_table *table)
{
    int32_t count = 0;
    for (int32_t id = 0; id < table->n; id++)
        count += eq_token_type_added(table->tokens[id].type);
    added_token *list = eq_alloc(ctx, count, sizeof *list);
    table->added = eq_alloc(ctx, count, sizeof *table->added);
    if (!list || !table->added) {
        eq_free(list);
        return EQ_ENOMEM;
    }
    count = 0;
    for (int32_t id = 0; id < table->n; id++)
        if (eq_token_type_added(table->tokens[id].type))
            list[count++] = (added_token){table->tokens[id].name, id};
    qsort(list, (size_t)count, sizeof *list, compare_added);
    int byte = 0;
    for (int32_t i = 0; i < count; i++) {
        table->added[i] = list[i].id;
        while (byte <= (uint8_t)list[i].name.data[0])
            table->added_start[byte++] = i;
    }
    while (byte < 257)
        table->added_start[byte++] = count;
    eq_free(list);
    return EQ_OK;
}

int32_t eq_token_table_added(const eq_token_table *table, const char *text, size_t n, bool special)
{
    uint8_t first = (uint8_t)text[0];
    for (int32_t i = table->added_start[first]; i < table->added_start[first + 1]; i++) {
        const eq_token *token = &table->tokens[table->added[i]];
        if (!special && token->type != EQ_TOKEN_USER) continue;
        if (token->name.size <= n && !memcmp(token->name.data, text, token->name.size))
            return table->added[i];
    }
    return -1;
}

eq_status eq_token_table_init(eq_ctx *ctx, eq_token_table *table, const eq_vocab *vocab)
{
    *table = (eq_token_table){0};
    if (vocab->n < 1 || vocab->n > MOST_TOKENS)
        return eq_fail(ctx, EQ_EFORMAT, "%s: a vocabulary of %lld tokens, 1 to %lld are supported",
                       vocab->source, (long long)vocab->n, (long long)MOST_TOKENS);
    int64_t bytes = 0;
    for (int64_t id = 0; id < vocab->n; id++) {
        if (vocab->tokens[id].size > 1 << 16)
            return eq_fail(ctx, EQ_EFORMAT,
                           "%s: token %lld has %zu bytes, at most %d are supported", vocab->source,
                           (long long)id, vocab->tokens[id].size, 1 << 16);
        bytes += (int64_t)vocab->tokens[id].size;
    }
    int64_t slots = 2;
    while (slots < 2 * vocab->n)
        slots *= 2;
    table->n = (int32_t)vocab->n;
    table->mask = (uint32_t)(slots - 1);
    table->tokens = eq_alloc(ctx, vocab->n, sizeof *table->tokens);
    table->pool = eq_alloc(ctx, bytes, 2);
    table->slots = eq_alloc(ctx, slots, sizeof *table->slots);
    eq_status st = EQ_ENOMEM;
    if (!table->tokens || !table->pool || !table->slots) goto done;
    st = fill_tokens(ctx, table, vocab);
    if (st != EQ_OK) goto done;
    find_byte_tokens(table);
    st = index_added(ctx, table);
done:
    if (st != EQ_OK) eq_token_table_deinit(table);
    return st;
}

void eq_token_table_deinit(eq_token_table *table)
{
    eq_free(table->tokens);
    eq_free(table->pool);
    eq_free(table->slots);
    eq_free(table->added);
    *table = (eq_token_table){0};
}
