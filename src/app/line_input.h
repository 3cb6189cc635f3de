/* Lines that a person types, edited and remembered by libedit on a terminal, or plain ones from a
 * pipe or file. */
#ifndef EQ_APP_LINE_INPUT_H
#define EQ_APP_LINE_INPUT_H

#include <stdbool.h>
#include <stddef.h>

typedef enum eq_line { EQ_LINE_TEXT, EQ_LINE_END, EQ_LINE_INTERRUPTED } eq_line;

typedef struct eq_line_input {
    bool terminal;      /* both standard input and output are one */
    const char *prompt; /* borrowed; shown on a terminal */
    char *line;         /* owned; the last one, without its line feed */
    size_t room;
    struct editline *editor; /* owned; NULL: plain lines */
    struct history *history; /* owned */
} eq_line_input;

void eq_line_input_open(eq_line_input *input, const char *prompt);
void eq_line_input_close(eq_line_input *input);
/* Read the next line to input->line. EQ_LINE_INTERRUPTED after a signal that was caught, with the
 * line thrown away. */
eq_line eq_line_input_next(eq_line_input *input);

#endif
