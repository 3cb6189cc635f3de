/* Data sets: text files as windows of token ids.
 *
 * A file whose name ends in .jsonl has a document {"text": "..."} on each line, empty lines are
 * skipped; one in .json is a list of such documents. Any other file is one document as it stands,
 * UTF-8 or not. If the tokenizer puts a bos token before a text, it does so before each document.
 */
#ifndef EQ_IO_TOKENS_H
#define EQ_IO_TOKENS_H

#include "base/rng.h"
#include "io/tokenizer.h"

typedef struct eq_token_windows {
    int32_t *ids; /* owned; [n, T] */
    int64_t n, T;
    uint8_t *counts; /* owned; [n, T], 1 where the token at this position counts as a target of the
                        loss; NULL: every token counts */
    bool mixed;      /* of several files in turn: every beginning has their weights */
} eq_token_windows;

/* Bytes of n windows of T tokens with their mask. */
int64_t eq_windows_bytes(int64_t n, int64_t T);
void eq_windows_deinit(eq_token_windows *windows);

/* Where windows come from and how many. */
typedef struct eq_window_source {
    const char *path;
    const eq_tokenizer *tok;
    int32_t separator; /* id put after each document of .jsonl and .json, -1: none */
    int64_t n;         /* windows wanted; 0: all that fit, at least one */
    int64_t T;         /* tokens of each, >= 1 */
    int64_t enough;    /* so many will do where there are fewer than n; 0: they will not */
} eq_window_source;

/* How many of `there` windows to take, 0 when they are too few. */
int64_t eq_windows_take(const eq_window_source *source, int64_t there);

/* source->n >= 1 windows at random: a document, drawn again until it has more than T tokens, then a
 * place in it that leaves out its last token, each of equal probability, with replacement.
 *                                                  [sampler of EfficientQAT's calibration data]
 * tail  in      so many of the windows, those at the end, are for validation: they come from the
 *               last tenth of the documents of more than T tokens (at least one), the others from
 *               the rest. 0: all from all
 * rng   in/out  state of the generator
 * Separators are not used. EQ_EINVAL when no document is long enough, or only one and there is a
 * tail; EQ_EFORMAT with the number of a line that is no document. */
eq_status eq_windows_random(eq_ctx *ctx, eq_token_windows *windows, const eq_window_source *source,
                            int64_t tail, eq_rng *rng);

/* Bytes of a text up to a place behind the first `least` where it can be cut: the tokens of both
 * parts are those of the whole. All of it when there is none. */
size_t eq_text_slice(eq_text text, size_t least);

/* For producers of windows. EQ_EINVAL unless n >= least and T >= 1 windows can be addressed. */
eq_status eq_windows_sizes(eq_ctx *ctx, const eq_window_source *source, int64_t least);
/* EQ_EINVAL: `there` windows of T tokens where more are needed. */
eq_status eq_windows_short(eq_ctx *ctx, const char *path, int64_t there, int64_t T, int64_t needed);

/* Accept windows that were read from a file of ids.
 *
 * windows     in/out  all rows of the file; n becomes the number wanted
 * path        in      of the file, for messages
 * n, T        in      windows wanted (0: all there are, at least one), tokens of each
 * vocabulary  in      ids must be below it
 * EQ_EINVAL when the windows are of another length or too few, or an id is outside of the
 * vocabulary. */
eq_status eq_windows_check(eq_ctx *ctx, eq_token_windows *windows, const char *path, int64_t n,
                           int64_t T, int64_t vocabulary);

#endif
