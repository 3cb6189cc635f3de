/* Cutting a text into the pieces that BPE works on, by a regular expression. */
#ifndef EQ_IO_PRETOKENIZE_H
#define EQ_IO_PRETOKENIZE_H

#include "base/context.h"
#include "io/gguf.h"

typedef struct eq_pretokenizer eq_pretokenizer;

/* GPT-2's expression; single_digits cuts every numeric character off first, as SmolLM2 does.   [spec formats.md 3] */
eq_status eq_pretokenizer_new(eq_ctx *ctx, eq_pretokenizer **out, bool single_digits);
void eq_pretokenizer_free(eq_pretokenizer *pretokenizer);

/* Call `piece` for each piece of the text, in order, until it fails. Together the pieces are the text. Bytes that are no valid
 * UTF-8 come one by one. */
typedef eq_status (*eq_piece_fn)(eq_ctx *ctx, void *user, eq_text piece);
eq_status eq_pretokenize(eq_ctx *ctx, const eq_pretokenizer *pretokenizer, eq_text text,
                         eq_piece_fn piece, void *user);

#endif
