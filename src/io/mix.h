/* Training data from several files in fixed proportions. */
#ifndef EQ_IO_MIX_H
#define EQ_IO_MIX_H

#include "io/dialog_windows.h"

typedef struct eq_mix_source {
    char *path;    /* owned */
    double weight; /* > 0; its share of the windows is weight / sum of weights */
} eq_mix_source;

/* Zeroed storage is an empty mix. */
typedef struct eq_mix {
    eq_mix_source *sources; /* owned; [n] */
    int64_t n;
} eq_mix;

void eq_mix_deinit(eq_mix *mix);

/* Append the files of "path[:weight],path[:weight]...". A path without a weight weighs 1; a colon
 * without a decimal number behind it is a part of the path.
 *
 * EQ_EINVAL for an empty path, a weight that is not above 0, a file that is there already. What was
 * appended before a failure stays. */
eq_status eq_mix_parse(eq_ctx *ctx, eq_mix *mix, const char *spec);

/* How many of n windows come from each source, and which window comes from which: window i is of
 * the source for which share (i + 1) - (windows of it so far) is the largest, the first of equals.
 * So every beginning has the shares of the whole, to less than one window for two sources.
 *
 * owner   out  [n], number of the source of each window
 * counts  out  [mix->n] */
void eq_mix_assign(const eq_mix *mix, int64_t n, int32_t *owner, int64_t *counts);

/* like->n windows (0 only with one source) of all files, each read in its order by
 * eq_windows_dialogs.
 *
 * like  in  the tokenizer, sizes and separator; its path is not used
 * Errors as there; a file that runs short is named with the number of windows it has. */
eq_status eq_windows_mix(eq_ctx *ctx, eq_token_windows *windows, const eq_mix *mix,
                         const eq_window_source *like, const eq_dialog_options *options);

#endif
