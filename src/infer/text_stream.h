/* Text as a reader may see it while it is made: in whole characters, without a stop string and
 * without what may yet become one. */
#ifndef EQ_INFER_TEXT_STREAM_H
#define EQ_INFER_TEXT_STREAM_H

#include "io/gguf.h"

/* Set stops and stop_count, zero the rest. */
typedef struct eq_text_stream {
    const eq_text *stops; /* borrowed, [stop_count]: texts that end it, none empty */
    int64_t stop_count;
    char *text;        /* owned; [room] */
    size_t size, room; /* of whole characters */
    size_t ready;      /* the first so many bytes of text can be shown */
    char held[4];      /* the beginning of a character */
    size_t held_count;
    bool stopped; /* a stop string came; nothing of it is in the text, nor what was behind */
} eq_text_stream;

/* Forget what was ready, because it was shown. */
void eq_text_stream_shown(eq_text_stream *stream);
/* The same, then append n bytes: those that complete no character wait, those that
 * never can become U+FFFD. Nothing happens after a stop. */
eq_status eq_text_stream_push(eq_ctx *ctx, eq_text_stream *stream, const char *bytes, size_t n);
/* There will be no more: all that waits is ready, an incomplete character as U+FFFD. What was
 * ready stays so. */
eq_status eq_text_stream_end(eq_ctx *ctx, eq_text_stream *stream);
void eq_text_stream_deinit(eq_text_stream *stream); /* zeroed storage is fine */

#endif
