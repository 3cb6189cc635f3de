/* Lines of training data by their fields:
 *
 *   {"text": "..."}                                               plain text
 *   {"instruction": "...", "input": "...", "output": "..."}       an instruction; input may be
 *                                                                 absent, null or ""
 *   {"messages": [{"role": "...", "content": "..."}, ...]}        a conversation, also under
 *   {"conversations": [{"from": "...", "value": "..."}, ...]}     "conversation"
 *
 * Other fields are ignored. A line with fields of several kinds is a conversation before it is an
 * instruction, and that before it is text: instruction data often come with a rendered text. */
#ifndef EQ_IO_DIALOG_H
#define EQ_IO_DIALOG_H

#include "io/chat.h"
#include "io/lines.h"

typedef enum eq_sample_kind {
    EQ_SAMPLE_TEXT,
    EQ_SAMPLE_INSTRUCTION,
    EQ_SAMPLE_CONVERSATION
} eq_sample_kind;

/* One line. Zeroed storage is an empty one; it may be read into again and again. Texts are borrowed
 * from the line. */
typedef struct eq_sample {
    eq_sample_kind kind;
    eq_text text;
    eq_text instruction, input, output; /* input.size is 0 when there is none */
    eq_message *messages;               /* owned; [n], in the order of eq_messages_wrong */
    int64_t n, room;
} eq_sample;

void eq_sample_deinit(eq_sample *sample);

/* Read the line that eq_lines_next read last, or the whole text.
 *
 * EQ_EFORMAT names file, line and what is wrong: fields of no kind, values of other types, roles
 * that are unknown or out of order, a conversation without an answer, empty contents (a system
 * message and the output of an instruction may be empty: data sets have such outputs). */
eq_status eq_sample_read(eq_sample *sample, const eq_lines *lines);

#endif
