/* What a tokenizer consists of. Only the tokenizer's own files look inside. */
#ifndef EQ_IO_TOKENIZER_PARTS_H
#define EQ_IO_TOKENIZER_PARTS_H

#include "io/bpe.h"
#include "io/pretokenize.h"
#include "io/token_table.h"
#include "io/tokenizer.h"

struct eq_tokenizer {
    eq_token_table table;
    eq_merges merges;
    const eq_pretokenizer *pre; /* borrowed from a constant table */
    int32_t bos, eos, unk, pad; /* -1 when absent */
    int32_t missing;            /* for a byte without a token; -1: dropped */
    bool add_bos, normalized;
    char *chat_template; /* owned; NULL when absent */
    size_t chat_template_size;
    int64_t max_length; /* 0 when unknown */
};

#endif
