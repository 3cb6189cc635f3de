/* A small byte-level vocabulary. */
#ifndef SUPPORT_VOCAB_H
#define SUPPORT_VOCAB_H

#include "io/tokenizer.h"

/* Ids: 0 to 255 are the bytes, then come the tokens below. */
enum {
    SMALL_HE = 256,
    SMALL_LL,
    SMALL_HELL,
    SMALL_HELLO,
    SMALL_SPACE_HELLO,
    SMALL_TWO_SPACES,
    SMALL_12,
    SMALL_E_ACUTE,  /* the two bytes of U+00E9 */
    SMALL_EL,       /* of a later rank than "he" and "ll" */
    SMALL_END,      /* <|end|>, control */
    SMALL_END_MARK, /* <|end|>!, an added token that is text */
    SMALL_START,    /* <|start|>, control */
    SMALL_UNUSED,   /* an id without a token */
    SMALL_COUNT
};

enum { SMALL_MERGES = 9 };

typedef struct small_vocab {
    char letters[256][5]; /* names of the byte tokens */
    eq_text tokens[SMALL_COUNT];
    int32_t types[SMALL_COUNT];
    eq_text merges[SMALL_MERGES];
    eq_vocab vocab; /* points to the arrays; pre-tokenizer smollm, bos <|start|>, eos <|end|> */
} small_vocab;

void small_vocab_init(small_vocab *small);

#endif
