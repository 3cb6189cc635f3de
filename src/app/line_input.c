#include "app/line_input.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#ifdef EQAT_EDITLINE

#include <histedit.h>

enum { REMEMBERED = 500, CTRL_D = 4 };

static char *prompt_of(EditLine *editor)
{
    eq_line_input *input = NULL;
    el_get(editor, EL_CLIENTDATA, &input);
    return (char *)input->prompt;
}

/* One character of standard input; -1 when a signal came between. libedit's own function would read
 * on. A Ctrl-D that came before the editor set up the terminal arrives as 0, which libedit would
 * take for the order to insert the next key as it is. */
static int read_character(EditLine *editor, wchar_t *out)
{
    mbstate_t state = {0};
    char byte;
    (void)editor;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n <= 0) return (int)n;
        if (byte == 0) byte = CTRL_D;
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used <= 1) return 1;
        if (used == (size_t)-1) memset(&state, 0, sizeof state); /* skip what is no character */
    }
}

static void open_editor(eq_line_input *input)
{
    HistEvent event;
    /* Only the classes of characters: numbers keep their form. */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
    input->history = history_init();
    input->editor = input->history ? el_init("eqat", stdin, stdout, stderr) : NULL;
    if (!input->editor) return;
    history(input->history, &event, H_SETSIZE, REMEMBERED);
    el_set(input->editor, EL_CLIENTDATA, input);
    el_set(input->editor, EL_PROMPT, prompt_of);
    el_set(input->editor, EL_EDITOR, "emacs");
    el_set(input->editor, EL_HIST, history, input->history);
    el_set(input->editor, EL_GETCFN, read_character);
    el_source(input->editor, NULL);
}

static void close_editor(eq_line_input *input)
{
    if (input->editor) el_end(input->editor);
    if (input->history) history_end(input->history);
}

static eq_line next_edited(eq_line_input *input)
{
    int count = 0;
    HistEvent event;
    el_resize(input->editor);
    errno = 0;
    const char *text = el_gets(input->editor, &count);
    if (!text || count <= 0) {
        bool signal = count < 0 && errno == EINTR;
        putchar('\n');
        return signal ? EQ_LINE_INTERRUPTED : EQ_LINE_END;
    }
    if (*text != '\n') history(input->history, &event, H_ENTER, text);
    free(input->line);
    input->line = strndup(text, strcspn(text, "\n"));
    return input->line ? EQ_LINE_TEXT : EQ_LINE_END;
}

#else

static void open_editor(eq_line_input *input)
{
    (void)input;
}

static void close_editor(eq_line_input *input)
{
    (void)input;
}

static eq_line next_edited(eq_line_input *input)
{
    (void)input;
    return EQ_LINE_END;
}

#endif

void eq_line_input_open(eq_line_input *input, const char *prompt)
{
    *input = (eq_line_input){.prompt = prompt};
    input->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (input->terminal) open_editor(input);
}

void eq_line_input_close(eq_line_input *input)
{
    close_editor(input);
    free(input->line);
    *input = (eq_line_input){0};
}

eq_line eq_line_input_next(eq_line_input *input)
{
    if (input->editor) return next_edited(input);
    if (input->terminal) {
        fputs(input->prompt, stdout);
        fflush(stdout);
    }
    errno = 0;
    ssize_t n = getline(&input->line, &input->room, stdin);
    if (n < 0) {
        bool signal = errno == EINTR;
        clearerr(stdin);
        return signal ? EQ_LINE_INTERRUPTED : EQ_LINE_END;
    }
    if (n > 0 && input->line[n - 1] == '\n') input->line[--n] = 0;
    if (n > 0 && input->line[n - 1] == '\r') input->line[--n] = 0;
    return EQ_LINE_TEXT;
}
