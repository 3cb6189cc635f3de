/* Normalization form C of Unicode (NFC): characters are taken apart canonically, their marks put in
 * order, and what has a character of its own is put together again. */
#ifndef EQ_IO_NORMALIZE_H
#define EQ_IO_NORMALIZE_H

#include "base/context.h"
#include "io/gguf.h"

/* Canonical decompositions: a code point, its first part, its second part or 0; by code point.
 * Hangul syllables follow a formula. */
enum { EQ_NORMAL_PAIRS = 2081, EQ_NORMAL_COMPOSED = 961, EQ_NORMAL_CLASSES = 393 };
extern const uint32_t eq_normal_pairs[3 * EQ_NORMAL_PAIRS];
/* Those that are put together again, by second, then first part. */
extern const uint16_t eq_normal_composed[EQ_NORMAL_COMPOSED];
/* Combining classes other than 0: first and last code point of a run, its class. */
extern const uint32_t eq_normal_classes[3 * EQ_NORMAL_CLASSES];

/* The normalized text: `text` itself where nothing can change (no code point from U+0300 on), else
 * in fresh memory. Bytes that are not UTF-8 stay what they are, and
 * marks beyond 1024 of one character are not joined with it.
 *
 * text   in/out
 * owned  out     for eq_free; NULL when text stays */
eq_status eq_normalize(eq_ctx *ctx, eq_text *text, char **owned);

#endif
