/* Pre-tokenizers: where a text is cut before byte pairs are merged inside the pieces. */
#ifndef EQ_IO_PRETOKENIZE_H
#define EQ_IO_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct eq_pretokenizer {
    const char *name;       /* as GGUF files call it */
    bool single_digits;     /* every number character is a piece of its own */
    const char *expression; /* of a Split step of tokenizer.json; NULL: that of ByteLevel */
} eq_pretokenizer;

/* The pre-tokenizer of a name ("gpt2", "gpt-2", "default", "smollm", "qwen2"), NULL when there is
 * none. */
const eq_pretokenizer *eq_pretokenizer_find(const char *name);
/* The one that cuts by this expression, NULL when there is none. */
const eq_pretokenizer *eq_pretokenizer_by_expression(const char *expression);

/* Length in bytes, at least 1, of the first piece of text [n], n >= 1.
 *
 * "gpt2" cuts as the expression
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * does, "smollm" puts a cut on both sides of every \p{N} first and then does the same between the
 * cuts, "qwen2" cuts as
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 *   \s*[\r\n]+|\s+(?!\S)|\s+
 * does. Bytes that are not UTF-8 end what stands before them like the end of the text; a run of
 * them is one piece, so no byte is lost. */
size_t eq_pretokenize(const eq_pretokenizer *rule, const char *text, size_t n);

#endif
