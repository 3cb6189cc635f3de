#include "io/lines.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

eq_status eq_lines_fail(const eq_lines *lines, eq_status status, const char *format, ...)
{
    char message[640]; /* room for eq_chat.problem */
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return eq_fail(lines->ctx, status, "%s: %s %lld: %s", lines->map.path,
                   lines->list ? "entry" : "line", (long long)lines->line, message);
}

/* ---- entries of a list --------------------------------------------------------------------- */

/* The character at `at`, behind white space; 0 at the end of the file. */
static char peek(eq_lines *lines)
{
    const char *data = (const char *)lines->map.data;
    while (lines->at < lines->map.size && memchr(" \t\r\n", data[lines->at], 4))
        lines->at++;
    return (char)(lines->at < lines->map.size ? data[lines->at] : 0);
}

/* Go to the entry behind the one that was read last, or to the end of the file. */
static eq_status leave_entry(eq_lines *lines)
{
    const char c = peek(lines);
    lines->at += c == ']' || c == ',';
    const bool more = peek(lines) != 0;
    if (c == ']' ? !more : c == ',' && more) return EQ_OK;
    return eq_lines_fail(lines, EQ_EFORMAT,
                         c == ']' ? "there is more behind the list"
                                  : "neither another entry nor the end of the list is behind it");
}

static eq_status open_list(eq_lines *lines)
{
    if (peek(lines) != '[')
        return eq_fail(lines->ctx, EQ_EFORMAT,
                       "%s: is no JSON list of objects; an object on each line is read from files "
                       "whose name ends in .jsonl",
                       lines->map.path);
    lines->at++;
    return peek(lines) && peek(lines) != ']' ? EQ_OK : leave_entry(lines);
}

/* ---- files --------------------------------------------------------------------------------- */

/* A file that is compressed or in UTF-16 has a NUL soon; a plain text would be taken as it is. */
static eq_status check_text(const eq_lines *lines, const char *path)
{
    enum { BEGINNING = 1 << 16 };
    const size_t n = lines->map.size < BEGINNING ? lines->map.size : BEGINNING;
    if (lines->json || !n || !memchr(lines->map.data, 0, n)) return EQ_OK;
    return eq_fail(lines->ctx, EQ_EFORMAT,
                   "%s: is no text: its beginning has a NUL (compressed, or in UTF-16?)", path);
}

eq_status eq_lines_open(eq_ctx *ctx, eq_lines *lines, const char *path)
{
    static const char *const others[] = {".parquet", ".arrow", ".gz", ".zst", ".zip", ".npy"};
    *lines = (eq_lines){.ctx = ctx, .list = eq_path_ends(path, ".json")};
    lines->json = lines->list || eq_path_ends(path, ".jsonl") || eq_path_ends(path, ".ndjson");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (eq_path_ends(path, others[i]))
            return eq_fail(
                ctx, EQ_EFORMAT,
                "%s: is no text; what is read here is text, .jsonl, or .json with a list "
                "of objects",
                path);
    eq_status st = eq_map_open(ctx, &lines->map, path);
    if (st != EQ_OK) return st;
    const bool marked = lines->map.size >= 3 && !memcmp(lines->map.data, "\xef\xbb\xbf", 3);
    lines->at = marked ? 3 : 0; /* a mark of UTF-8 is no text */
    return lines->list ? open_list(lines) : check_text(lines, path);
}

void eq_lines_close(eq_lines *lines)
{
    json_decref(lines->value);
    eq_map_close(&lines->map);
    *lines = (eq_lines){0};
}

/* Whether a line holds nothing but white space. */
static bool blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!memchr(" \t\r", line[i], 3)) return false;
    return true;
}

/* Read a value from the front of text [n], or from all of it; gives its bytes in *n. Numbers are in
 * fields that are not used, and may have more than 64 bits there. */
static eq_status parse(eq_lines *lines, const char *text, size_t *n)
{
    const size_t flags = JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL |
                         (lines->list ? JSON_DISABLE_EOF_CHECK : 0);
    json_error_t error;
    json_decref(lines->value);
    lines->value = json_loadb(text, *n < INT_MAX ? *n : INT_MAX, flags, &error);
    if (!lines->value) return eq_lines_fail(lines, EQ_EFORMAT, "%s", error.text);
    *n = (size_t)error.position;
    return EQ_OK;
}

static eq_status next_entry(eq_lines *lines)
{
    size_t n = lines->map.size - lines->at;
    lines->line++;
    eq_status st = parse(lines, (const char *)lines->map.data + lines->at, &n);
    lines->at += n;
    return st == EQ_OK ? leave_entry(lines) : st;
}

static eq_status next_line(eq_lines *lines, bool *more)
{
    while (lines->at < lines->map.size) {
        const char *line = (const char *)lines->map.data + lines->at;
        size_t n = lines->map.size - lines->at;
        const char *end = memchr(line, '\n', n);
        if (end) n = (size_t)(end - line);
        lines->at += n + (end != NULL);
        lines->line++;
        if (!blank(line, n)) return parse(lines, line, &n);
    }
    *more = false;
    return EQ_OK;
}

eq_status eq_lines_next(eq_lines *lines, bool *more)
{
    *more = lines->at < lines->map.size;
    if (!*more) return EQ_OK;
    if (lines->list) return next_entry(lines);
    if (lines->json) return next_line(lines, more);
    lines->text = (eq_text){(const char *)lines->map.data + lines->at, lines->map.size - lines->at};
    lines->at = lines->map.size;
    return EQ_OK;
}
