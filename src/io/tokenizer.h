/* Byte-level BPE tokenizers: of GPT-2's kind, with or without SmolLM2's single digits.   [docs/math.md]
 *
 * A text is any bytes. Where they are not valid UTF-8, each bad byte becomes a piece of its own, so that decode(encode(x)) == x
 * for every x that holds no special token's text. */
#ifndef EQ_IO_TOKENIZER_H
#define EQ_IO_TOKENIZER_H

#include "io/gguf.h"
#include <jansson.h>

typedef struct eq_tokenizer eq_tokenizer;

/* From a GGUF file's metadata tokenizer.ggml.*. EQ_EFORMAT names what is missing or not supported. */
eq_status eq_tokenizer_from_gguf(eq_ctx *ctx, eq_tokenizer **out, const eq_gguf *file);
/* From tokenizer.json and tokenizer_config.json of a folder; *out = NULL and EQ_OK when it has no tokenizer.json. */
eq_status eq_tokenizer_from_folder(eq_ctx *ctx, eq_tokenizer **out, const char *folder);
void eq_tokenizer_free(eq_tokenizer *tokenizer); /* NULL is fine */

/* n bytes of text to ids [count], freed with eq_free. Special tokens in the text become their ids. add_special puts
 * a BOS in front if the tokenizer has that habit. */
eq_status eq_tokenizer_encode(eq_ctx *ctx, const eq_tokenizer *tokenizer, const char *text,
                              size_t n, bool add_special, int32_t **ids, int64_t *count);
/* ids [count] to bytes with a NUL behind, freed with eq_free. EQ_EINVAL for an id outside the vocabulary. */
eq_status eq_tokenizer_decode(eq_ctx *ctx, const eq_tokenizer *tokenizer, const int32_t *ids,
                              int64_t count, bool skip_special, char **text, size_t *size);
/* Decoded bytes of one token, borrowed; size 0 for special tokens and ids outside the vocabulary. */
const char *eq_tokenizer_piece(const eq_tokenizer *tokenizer, int32_t id, size_t *size);

int64_t eq_tokenizer_size(const eq_tokenizer *tokenizer);
int32_t eq_tokenizer_bos(const eq_tokenizer *tokenizer); /* -1 when absent, as the two below */
int32_t eq_tokenizer_eos(const eq_tokenizer *tokenizer);
int32_t eq_tokenizer_unk(const eq_tokenizer *tokenizer);
bool eq_tokenizer_add_bos(const eq_tokenizer *tokenizer);
bool eq_tokenizer_is_special(const eq_tokenizer *tokenizer, int32_t id);
const char *eq_tokenizer_chat_template(const eq_tokenizer *tokenizer); /* NULL when absent */

/* Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja. */
eq_status eq_tokenizer_write_folder(eq_ctx *ctx, const eq_tokenizer *tokenizer, const char *folder);

#endif
