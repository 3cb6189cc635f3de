/* Inside of a tokenizer, shared by its files. */
#ifndef EQ_IO_TOKENIZER_PARTS_H
#define EQ_IO_TOKENIZER_PARTS_H

#include "io/bpe.h"
#include "io/pretokenize.h"
#include "io/tokenizer.h"

typedef enum eq_token_kind {
    EQ_TOKEN_NORMAL,
    EQ_TOKEN_SPECIAL,
    EQ_TOKEN_ADDED,
    EQ_TOKEN_UNUSED
} eq_token_kind;

struct eq_tokenizer {
    eq_bpe bpe;
    eq_pretokenizer *pretokenizer; /* owned */
    uint8_t *kinds;                /* owned, [size] eq_token_kind */
    int32_t *matched;              /* owned: ids of special and added tokens, longest text first */
    int64_t matched_count;
    bool first_bytes[256]; /* bytes that such a token begins with */
    eq_text *merges;       /* owned array, [merge_count]: "left right", for writing */
    int64_t merge_count;
    char *strings; /* owned: what merges point into */
    bool single_digits, add_bos;
    int32_t bos, eos, unk, pad; /* -1 when absent */
    char *chat_template;        /* owned; NULL when absent */
};

/* Where a tokenizer comes from. Borrowed while it is made. */
typedef struct eq_vocabulary {
    const char *what; /* for messages: the file */
    const eq_text *tokens;
    const uint8_t *kinds; /* eq_token_kind, [size] */
    int64_t size;
    const eq_text *merges; /* "left right", in order of rank */
    int64_t merge_count;
    bool single_digits, add_bos;
    int32_t bos, eos, unk, pad;
    eq_text chat_template; /* size 0 when absent */
} eq_vocabulary;

eq_status eq_tokenizer_make(eq_ctx *ctx, eq_tokenizer **out, const eq_vocabulary *vocabulary);

#endif
