/* Byte-level BPE tokenizers, from the metadata of a GGUF file or from a Hugging Face folder.
 *
 * A text is cut at its added tokens (the longest match wins), what lies between them is cut into
 * pieces by the pre-tokenizer, and the bytes of a piece are merged pair by pair. A tokenizer does
 * not change once it is made, so threads may share one. */
#ifndef EQ_IO_TOKENIZER_H
#define EQ_IO_TOKENIZER_H

#include "io/gguf.h"

/* Kinds of tokens, numbered as in GGUF files. */
enum {
    EQ_TOKEN_NORMAL = 1,
    EQ_TOKEN_UNKNOWN = 2,
    EQ_TOKEN_CONTROL = 3, /* an added token that is no text */
    EQ_TOKEN_USER = 4,    /* an added token that is text */
    EQ_TOKEN_UNUSED = 5,  /* an id without a token */
    EQ_TOKEN_BYTE = 6
};

/* What a tokenizer is made from. Everything is borrowed and may go afterwards. */
typedef struct eq_vocab {
    const char *source;    /* name of the file, for messages */
    const char *pre;       /* name of the pre-tokenizer */
    const eq_text *tokens; /* [n], as written in the file; an empty one is an unused id */
    const int32_t *types;  /* [n], EQ_TOKEN_*; NULL: all normal */
    int64_t n;
    const eq_text *merges; /* [m], "left right" by rank */
    int64_t m;
    int32_t bos, eos, unk, pad; /* ids, -1 when absent */
    int32_t missing;            /* emitted for a byte that has no token; -1: it is dropped */
    bool add_bos;               /* bos goes before every text */
    bool normalized;            /* texts are read in Unicode's form C */
    eq_text chat_template;      /* .data NULL when absent */
    int64_t max_length;         /* tokens that the model can take, 0 when unknown */
} eq_vocab;

/* A vocabulary with every id absent; the rest is zero. */
eq_vocab eq_vocab_none(void);

typedef struct eq_tokenizer eq_tokenizer;

/* Make a tokenizer. EQ_EFORMAT, naming vocab->source and the piece, when something is not
 * supported or does not fit together (an unknown pre-tokenizer, two equal tokens, a merge of
 * tokens that are absent, an id out of range). Free with eq_tokenizer_free. */
eq_status eq_tokenizer_from_vocab(eq_ctx *ctx, eq_tokenizer **tok, const eq_vocab *vocab);
/* The tokenizer in the metadata of a GGUF file, which may be closed afterwards. EQ_EFORMAT when it
 * is of another kind than byte-level BPE ("gpt2"), or as above. */
eq_status eq_tokenizer_from_gguf(eq_ctx *ctx, eq_tokenizer **tok, const eq_gguf *file);
/* Read tokenizer.json and, if they are there, tokenizer_config.json and chat_template.jinja of a
 * folder. Anything that would make other ids and is not supported is refused by name. */
eq_status eq_tokenizer_from_folder(eq_ctx *ctx, eq_tokenizer **tok, const char *folder);
void eq_tokenizer_free(eq_tokenizer *tok); /* NULL is fine */

/* Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and, if there is a chat
 * template, chat_template.jinja into an existing folder, so that other programs get our ids. */
eq_status eq_tokenizer_write_folder(eq_ctx *ctx, const eq_tokenizer *tok, const char *folder);

/* EQ_EINVAL, naming `path`, when the tokenizer has more than the model's V tokens, or a
 * normalization that its GGUF file could not say. */
eq_status eq_tokenizer_fits_gguf(eq_ctx *ctx, const eq_tokenizer *tok, int64_t V, const char *path);
/* Put such a tokenizer into the metadata of a GGUF file, for a model of V tokens: ids that the
 * tokenizer has not become unused tokens. */
struct eq_gguf_writer;
eq_status eq_tokenizer_to_gguf(eq_ctx *ctx, const eq_tokenizer *tok, struct eq_gguf_writer *writer,
                               int64_t V);

/* A growing list of ids. Zeroed storage is an empty one. */
typedef struct eq_ids {
    int32_t *data; /* owned, eq_free */
    int64_t count, room;
} eq_ids;

/* Append one id. */
eq_status eq_ids_push(eq_ctx *ctx, eq_ids *ids, int32_t id);

/* Append the tokens of a text.
 *
 * text         in      n bytes; bytes that are not UTF-8 become the tokens of these bytes, merged
 *                      among themselves only. A byte that has no token is dropped, or becomes
 *                      the `missing` token of the vocabulary
 * add_special  in      put the bos token first, if the tokenizer is one that does
 * ids          in/out  what was appended before a failure stays */
eq_status eq_tokenizer_append(eq_ctx *ctx, const eq_tokenizer *tok, const char *text, size_t n,
                              bool add_special, eq_ids *ids);
/* The same into fresh memory: ids [count], freed with eq_free. */
eq_status eq_tokenizer_encode(eq_ctx *ctx, const eq_tokenizer *tok, const char *text, size_t n,
                              bool add_special, int32_t **ids, int64_t *count);

/* The same for a text that must not name special tokens, such as what a user says: their names
 * become the tokens of their letters. Added tokens that are text are found; no bos is put first. */
eq_status eq_tokenizer_append_content(eq_ctx *ctx, const eq_tokenizer *tok, eq_text text,
                                      eq_ids *ids);
/* The text as it is read: in form C where the tokenizer normalizes, so that its bytes are those of
 * its tokens.
 *
 * text   in/out
 * owned  out     for eq_free; NULL when text stays */
eq_status eq_tokenizer_normalize(eq_ctx *ctx, const eq_tokenizer *tok, eq_text *text, char **owned);
/* The special token whose name the text begins with, the longest one; -1 when there is none. */
int32_t eq_tokenizer_special(const eq_tokenizer *tok, eq_text text);
/* Where a token lies in the normalized text that eq_tokenizer_append_content made it from.
 *
 * at     in   where the token before it ends, 0 for the first one
 * start  out  its first byte; bytes before it were dropped
 * Gives its end, at most text.size. */
size_t eq_tokenizer_locate(const eq_tokenizer *tok, eq_text text, size_t at, int32_t id,
                           size_t *start);

/* The bytes that ids stand for, which need not be whole characters.
 *
 * ids           in   [count]; EQ_EINVAL for one outside the vocabulary
 * skip_special  in   leave out special tokens
 * text, size    out  freed with eq_free; a NUL, not counted in size, stands behind the text */
eq_status eq_tokenizer_decode(eq_ctx *ctx, const eq_tokenizer *tok, const int32_t *ids,
                              int64_t count, bool skip_special, char **text, size_t *size);
/* Bytes of one token, borrowed from the tokenizer; of size 0 for an id that has none. */
const char *eq_tokenizer_piece(const eq_tokenizer *tok, int32_t id, size_t *size);

/* The id of a token by its name in the vocabulary, -1 when there is none. */
int32_t eq_tokenizer_find(const eq_tokenizer *tok, const char *name, size_t n);
int64_t eq_tokenizer_vocab_size(const eq_tokenizer *tok);
int32_t eq_tokenizer_bos(const eq_tokenizer *tok); /* -1 when there is none; so below */
int32_t eq_tokenizer_eos(const eq_tokenizer *tok);
/* Between documents: <|endoftext|> where there is one, since then eos may end the turns of a chat
 * while models were trained on texts with this token between them; else eos. */
int32_t eq_tokenizer_separator(const eq_tokenizer *tok);
int32_t eq_tokenizer_unk(const eq_tokenizer *tok);
int32_t eq_tokenizer_pad(const eq_tokenizer *tok);
bool eq_tokenizer_add_bos(const eq_tokenizer *tok);
/* Whether an id is no text: a control, unknown or unused token, or out of range. */
bool eq_tokenizer_is_special(const eq_tokenizer *tok, int32_t id);
/* Text of the chat template (Jinja) with a NUL behind it, NULL when there is none. */
const char *eq_tokenizer_chat_template(const eq_tokenizer *tok);

#endif
