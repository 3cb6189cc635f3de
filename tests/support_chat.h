/* The small vocabulary with the special tokens of chats behind it. */
#ifndef SUPPORT_CHAT_H
#define SUPPORT_CHAT_H

#include "io/marked.h"
#include "support_vocab.h"

enum {
    CHAT_START = SMALL_COUNT, /* <|im_start|> */
    CHAT_END,                 /* <|im_end|> */
    CHAT_HEADER,              /* <|start_header_id|> */
    CHAT_HEADER_END,          /* <|end_header_id|> */
    CHAT_EOT,                 /* <|eot_id|> */
    CHAT_PAD,                 /* <pad>, which no id of the vocabulary names as such */
    CHAT_NEWLINES,            /* two line feeds, a token that is text */
    CHAT_COUNT
};

typedef struct chat_vocab {
    small_vocab small;
    eq_text tokens[CHAT_COUNT];
    int32_t types[CHAT_COUNT];
    eq_text merges[SMALL_MERGES + 1];
    eq_vocab vocab; /* points to the arrays; template NULL: none */
} chat_vocab;

void chat_vocab_init(chat_vocab *chat, const char *template);

/* The text of a list, each stretch that counts in braces, as in "user {yes<|end|>}"; the caller
 * frees it. */
char *marked_text(const eq_tokenizer *tok, const int32_t *ids, const uint8_t *counts, int64_t n);
/* Whether the list has that text; prints both when it does not. */
bool marked_is(const eq_tokenizer *tok, const eq_marked *list, const char *want);

#endif
