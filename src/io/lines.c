#include "io/lines.h"

#include <stdarg.h>
#include <string.h>

eq_status eq_lines_open(eq_ctx *ctx, eq_lines *lines, const char *path)
{
    *lines = (eq_lines){.ctx = ctx};
    size_t n = strlen(path);
    lines->json = n >= 6 && !strcmp(path + n - 6, ".jsonl");
    return eq_map_open(ctx, &lines->map, path);
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

eq_status eq_lines_fail(const eq_lines *lines, eq_status status, const char *format, ...)
{
    char message[640]; /* room for eq_chat.problem */
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return eq_fail(lines->ctx, status, "%s: line %lld: %s", lines->map.path, (long long)lines->line,
                   message);
}

/* Numbers are in fields that are not used, and may have more than 64 bits there. */
static eq_status parse(eq_lines *lines, const char *line, size_t n)
{
    const size_t flags = JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL;
    json_error_t error;
    json_decref(lines->value);
    lines->value = json_loadb(line, n, flags, &error);
    return lines->value ? EQ_OK : eq_lines_fail(lines, EQ_EFORMAT, "%s", error.text);
}

eq_status eq_lines_next(eq_lines *lines, bool *more)
{
    const char *data = (const char *)lines->map.data;
    *more = true;
    while (lines->json && lines->at < lines->map.size) {
        const char *line = data + lines->at;
        size_t n = lines->map.size - lines->at;
        const char *end = memchr(line, '\n', n);
        if (end) n = (size_t)(end - line);
        lines->at += n + (end != NULL);
        lines->line++;
        if (!blank(line, n)) return parse(lines, line, n);
    }
    if (lines->at < lines->map.size) {
        lines->text = (eq_text){data, lines->map.size};
        lines->at = lines->map.size;
        return EQ_OK;
    }
    *more = false;
    return EQ_OK;
}
