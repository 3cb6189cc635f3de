/* The tokens of a vocabulary: by id, by name, and those that are looked for in the text itself. */
#ifndef EQ_IO_TOKEN_TABLE_H
#define EQ_IO_TOKEN_TABLE_H

#include "io/tokenizer.h"

typedef struct eq_token {
    eq_text name;  /* as the vocabulary writes it, in the table's pool */
    eq_text bytes; /* what it stands for, in the table's pool */
    int32_t type;  /* EQ_TOKEN_* */
} eq_token;

typedef struct eq_token_table {
    eq_token *tokens; /* owned; [n] by id */
    int32_t n;
    char *pool;     /* owned; names and bytes of all tokens */
    int32_t *slots; /* owned; [mask + 1] open hash table of id + 1 by name, 0 is free */
    uint32_t mask;
    int32_t byte_ids[256];    /* token of each byte, -1 when there is none */
    int32_t *added;           /* owned; added tokens by first byte, the longest first */
    int32_t added_start[257]; /* those of first byte b are added[added_start[b] ..) */
} eq_token_table;

/* Fill the table from vocab->tokens and vocab->types. EQ_EFORMAT for an unknown type, a token that
 * is not UTF-8, two tokens of one name. */
eq_status eq_token_table_init(eq_ctx *ctx, eq_token_table *table, const eq_vocab *vocab);
void eq_token_table_deinit(eq_token_table *table);
/* The id of a name, -1 when there is none. */
int32_t eq_token_table_find(const eq_token_table *table, const char *name, size_t n);
/* The longest added token at the front of text [n], n >= 1; -1 when there is none. Unless `special`
 * is set, only added tokens that are text. */
int32_t eq_token_table_added(const eq_token_table *table, const char *text, size_t n, bool special);
/* Whether tokens of this type are looked for in the text. */
bool eq_token_type_added(int32_t type);

#endif
