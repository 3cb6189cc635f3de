/* Windows for training on texts, instructions and conversations, of which only answers count. */
#ifndef EQ_IO_DIALOG_WINDOWS_H
#define EQ_IO_DIALOG_WINDOWS_H

#include "io/chat.h"
#include "io/tokens.h"

/* How instruction data are put. */
typedef enum eq_dialog_style {
    EQ_DIALOG_ALPACA, /* a fixed text with headings, whatever the model */
    EQ_DIALOG_CHAT    /* a conversation of two messages in the model's format */
} eq_dialog_style;

typedef struct eq_dialog_options {
    eq_dialog_style style;
    const eq_chat *chat; /* borrowed; NULL: no conversations */
    /* Of instructions, conversations stay whole; what is more is cut off; 0: any number. */
    int64_t source_max; /* tokens of a prompt: with EQ_DIALOG_ALPACA all of it, with EQ_DIALOG_CHAT
                           what the user says */
    int64_t target_max; /* tokens of an answer with its end token */
} eq_dialog_options;

/* The first windows of a file with lines of any kind (io/dialog.h). Reads no further than needed.
 *
 * Texts follow each other, a separator behind each that is a line, are cut into windows and count
 * whole. Instructions and conversations are examples: they are put into windows one after the
 * other, never across two; an example of more than T tokens is cut, one that has no answer, or none
 * any more, is left out. What is left of a window is filled with its own tokens, from its beginning
 * again, which do not count there. Texts and examples of one file fill windows of their own, which
 * follow each other in the order they are filled. A warning counts what was cut or left out.
 *
 * windows  out  freed with eq_windows_deinit; counts stays NULL when every token counts
 * EQ_EINVAL when there are too few windows, with their number, or a conversation needs a chat
 * format and there is none; EQ_EFORMAT with the number of a line that is of no kind. */
eq_status eq_windows_dialogs(eq_ctx *ctx, eq_token_windows *windows, const eq_window_source *source,
                             const eq_dialog_options *options);

#endif
