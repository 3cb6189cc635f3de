#include "support_vocab.h"

#include "io/characters.h"

#include <string.h>

static eq_text text(const char *s)
{
    return (eq_text){s, strlen(s)};
}

void small_vocab_init(small_vocab *small)
{
    static const char *const merges[SMALL_MERGES] = {"h e",    "l l",           "he ll",
                                                     "hell o", "\u0120 hello",  "\u0120 \u0120",
                                                     "1 2",    "\u00c3 \u00a9", "e l"};
    static const char *const names[] = {
        "he", "ll",           "hell", "hello",   "\u0120hello", "\u0120\u0120",
        "12", "\u00c3\u00a9", "el",   "<|end|>", "<|end|>!",    "<|start|>",
        ""};
    memset(small, 0, sizeof *small);
    for (int byte = 0; byte < 256; byte++) {
        int n = eq_utf8_encode(small->letters[byte], eq_byte_letter((uint8_t)byte));
        small->tokens[byte] = (eq_text){small->letters[byte], (size_t)n};
    }
    for (int id = SMALL_HE; id < SMALL_COUNT; id++)
        small->tokens[id] = text(names[id - SMALL_HE]);
    for (int i = 0; i < SMALL_MERGES; i++)
        small->merges[i] = text(merges[i]);
    for (int id = 0; id < SMALL_COUNT; id++)
        small->types[id] = EQ_TOKEN_NORMAL;
    small->types[SMALL_END] = small->types[SMALL_START] = EQ_TOKEN_CONTROL;
    small->types[SMALL_END_MARK] = EQ_TOKEN_USER;
    eq_vocab *vocab = &small->vocab;
    *vocab = eq_vocab_none();
    vocab->source = "small vocabulary";
    vocab->pre = "smollm";
    vocab->tokens = small->tokens;
    vocab->types = small->types;
    vocab->n = SMALL_COUNT;
    vocab->merges = small->merges;
    vocab->m = SMALL_MERGES;
    vocab->bos = SMALL_START;
    vocab->eos = SMALL_END;
}
