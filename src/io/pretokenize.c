#include "io/pretokenize.h"

#include "io/characters.h"

#include <string.h>

static const eq_pretokenizer KNOWN[] = {
    {"gpt2", false, NULL},
    {"gpt-2", false, NULL},
    {"default", false, NULL},
    {"smollm", true, NULL},
    {"qwen2", true,
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
};
enum { COUNT = sizeof KNOWN / sizeof *KNOWN };

const eq_pretokenizer *eq_pretokenizer_find(const char *name)
{
    for (size_t i = 0; i < COUNT; i++)
        if (!strcmp(KNOWN[i].name, name)) return &KNOWN[i];
    return NULL;
}

const eq_pretokenizer *eq_pretokenizer_by_expression(const char *expression)
{
    for (size_t i = 0; i < COUNT; i++)
        if (KNOWN[i].expression && !strcmp(KNOWN[i].expression, expression)) return &KNOWN[i];
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
    bool cut = rule->single_digits && !rule->expression && class == EQ_CHAR_NUMBER;
    bool end = at == n || class == EQ_CHAR_INVALID || cut;
    return end || last == 0 ? at : last;
}

/* ---- qwen2 --------------------------------------------------------------------------------- */

/* As contraction, in letters of any case; U+017F is a small s. */
static size_t contraction_any_case(const char *text, size_t n)
{
    char lower[3] = {0};
    if (n >= 3 && !memcmp(text, "'\u017f", 3)) return 3;
    for (size_t i = 0; i < n && i < 3; i++)
        lower[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 0x20) : text[i];
    return contraction(lower, n < 3 ? n : 3);
}

static bool is_line_end(char c)
{
    return c == '\r' || c == '\n';
}

/* White space: up to its last line end, if there is one. */
static size_t space_or_lines(const eq_pretokenizer *rule, const char *text, size_t n)
{
    size_t run = run_length(text, n, 0, EQ_CHAR_SPACE), lines = run;
    while (lines && !is_line_end(text[lines - 1]))
        lines--;
    return lines ? lines : space_piece(rule, text, n);
}

static size_t qwen2_piece(const eq_pretokenizer *rule, const char *text, size_t n)
{
    size_t first = 0, second = 0;
    eq_char_class class = peek(text, n, &first);
    size_t short_form = contraction_any_case(text, n);
    if (short_form) return short_form;
    if (class == EQ_CHAR_LETTER || class == EQ_CHAR_INVALID) return run_length(text, n, 0, class);
    if (class == EQ_CHAR_NUMBER) return first;
    eq_char_class next = first < n ? peek(text + first, n - first, &second) : EQ_CHAR_INVALID;
    if (next == EQ_CHAR_LETTER && !is_line_end(*text))
        return first + run_length(text, n, first, EQ_CHAR_LETTER);
    size_t space = *text == ' ' && next == EQ_CHAR_OTHER ? 1 : 0;
    if (class == EQ_CHAR_SPACE && !space) return space_or_lines(rule, text, n);
    size_t end = space + run_length(text, n, space, EQ_CHAR_OTHER);
    while (end < n && is_line_end(text[end]))
        end++;
    return end;
}

size_t eq_pretokenize(const eq_pretokenizer *rule, const char *text, size_t n)
{
    if (rule->expression) return qwen2_piece(rule, text, n);
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
