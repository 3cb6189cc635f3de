#include "io/pretokenize.h"

#include "io/characters.h"

#include <string.h>

const eq_pretokenizer *eq_pretokenizer_find(const char *name)
{
    static const eq_pretokenizer known[] = {
        {"gpt2", false}, {"gpt-2", false}, {"default", false}, {"smollm", true}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) return &known[i];
    return NULL;
}

/* Class of the character at the front of text [n], and its length (1 when it is no character). */
static eq_char_class peek(const char *text, size_t n, size_t *length)
{
    uint32_t code = 0;
    int bytes = eq_utf8_decode(text, n, &code);
    *length = bytes ? (size_t)bytes : 1;
    return bytes ? eq_char_class_of(code) : EQ_CHAR_INVALID;
}

/* Length of the run of characters of one class that starts at text[from]. */
static size_t run_length(const char *text, size_t n, size_t from, eq_char_class class)
{
    size_t at = from, length = 0;
    while (at < n && peek(text + at, n - at, &length) == class)
        at += length;
    return at - from;
}

/* Length of 's 't 're 've 'm 'll 'd at the front, else 0. */
static size_t contraction(const char *text, size_t n)
{
    if (n < 2 || text[0] != '\'') return 0;
    if (strchr("stmd", text[1]) && text[1]) return 2;
    if (n < 3) return 0;
    bool two = (text[1] == 'r' && text[2] == 'e') || (text[1] == 'v' && text[2] == 'e') ||
               (text[1] == 'l' && text[2] == 'l');
    return two ? 3 : 0;
}

/* \s+(?!\S)|\s+ : white space up to the end of the text or to a cut is one piece; before anything
 * else the last character is left for what follows, unless it is the only one. */
static size_t space_piece(const eq_pretokenizer *rule, const char *text, size_t n)
{
    size_t at = 0, last = 0, length = 0;
    eq_char_class class = EQ_CHAR_SPACE;
    while (at < n && (class = peek(text + at, n - at, &length)) == EQ_CHAR_SPACE) {
        last = at;
        at += length;
    }
    bool end =
        at == n || class == EQ_CHAR_INVALID || (rule->single_digits && class == EQ_CHAR_NUMBER);
    return end || last == 0 ? at : last;
}

size_t eq_pretokenize(const eq_pretokenizer *rule, const char *text, size_t n)
{
    size_t first = 0, second = 0;
    eq_char_class class = peek(text, n, &first);
    size_t short_form = contraction(text, n);
    if (short_form) return short_form;
    size_t space = 0;
    if (text[0] == ' ' && n > 1) { /* one space may belong to the piece after it */
        eq_char_class next = peek(text + 1, n - 1, &second);
        bool joins = next == EQ_CHAR_LETTER || next == EQ_CHAR_OTHER ||
                     (next == EQ_CHAR_NUMBER && !rule->single_digits);
        if (joins) {
            class = next;
            space = 1;
        }
    }
    if (class == EQ_CHAR_SPACE) return space_piece(rule, text, n);
    if (class == EQ_CHAR_NUMBER && rule->single_digits) return first;
    return space + run_length(text, n, space, class);
}
