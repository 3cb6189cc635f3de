#include "app/output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

json_t *eq_json_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

eq_status eq_json_print(eq_session *session, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_REAL_PRECISION(10)) : NULL;
    json_decref(object);
    if (!text)
        return eq_session_fail(session, EQ_ENOMEM,
                               "the result does not become JSON: out of "
                               "memory, or a name in it is not UTF-8");
    puts(text);
    free(text);
    return EQ_OK;
}

void eq_format_bytes(char *out, size_t size, int64_t bytes)
{
    double mebibytes = (double)bytes / (1024 * 1024);
    if (mebibytes >= 10240)
        snprintf(out, size, "%.1f GiB", mebibytes / 1024);
    else
        snprintf(out, size, "%.1f MiB", mebibytes);
}

/* Bytes that a character takes by its first byte, 0 when none starts so; `low` and `high` bound
 * the second byte, which keeps out overlong forms, surrogates and what is beyond U+10FFFF. */
static size_t character_size(unsigned char first, unsigned char *low, unsigned char *high)
{
    *low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    *high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

static void replace_held(eq_utf8 *utf8, eq_text_sink sink, void *user)
{
    utf8->count = 0;
    sink(user, "\xEF\xBF\xBD", 3);
}

static void push_byte(eq_utf8 *utf8, char byte, eq_text_sink sink, void *user)
{
    unsigned char low, high;
    if (utf8->count > 0) {
        character_size((unsigned char)utf8->held[0], &low, &high);
        if (utf8->count > 1) {
            low = 0x80;
            high = 0xBF;
        }
        if ((unsigned char)byte < low || (unsigned char)byte > high) replace_held(utf8, sink, user);
    }
    utf8->held[utf8->count++] = byte;
    size_t size = character_size((unsigned char)utf8->held[0], &low, &high);
    if (size == 0) {
        replace_held(utf8, sink, user);
    } else if (utf8->count == size) {
        sink(user, utf8->held, size);
        utf8->count = 0;
    }
}

void eq_utf8_push(eq_utf8 *utf8, const char *bytes, size_t n, eq_text_sink sink, void *user)
{
    for (size_t i = 0; i < n; i++)
        push_byte(utf8, bytes[i], sink, user);
}

void eq_utf8_end(eq_utf8 *utf8, eq_text_sink sink, void *user)
{
    if (utf8->count > 0) replace_held(utf8, sink, user);
}
