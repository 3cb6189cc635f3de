#include "infer/text_stream.h"

#include <string.h>

static const char REPLACEMENT[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Bytes that a character takes by its first byte, 0 when none starts so; `low` and `high` bound
 * the second byte, which keeps out overlong forms, surrogates and what is beyond U+10FFFF. */
static size_t character_size(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    *high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* Room for n more bytes, each of which may become a replacement, and for the one that is held. */
static eq_status reserve(eq_ctx *ctx, eq_text_stream *s, size_t n)
{
    size_t need = s->size + 3 * (n + 1);
    if (need <= s->room) return EQ_OK;
    char *larger = eq_alloc(ctx, (int64_t)(2 * need), 1);
    if (!larger) return EQ_ENOMEM;
    if (s->size) memcpy(larger, s->text, s->size);
    eq_free(s->text);
    s->text = larger;
    s->room = 2 * need;
    return EQ_OK;
}

static void append(eq_text_stream *s, const char *bytes, size_t n)
{
    memcpy(s->text + s->size, bytes, n);
    s->size += n;
    s->held_count = 0;
}

static void push_byte(eq_text_stream *s, char byte)
{
    uint8_t low, high;
    if (s->held_count > 0) {
        character_size((uint8_t)s->held[0], &low, &high);
        if (s->held_count > 1) {
            low = 0x80;
            high = 0xBF;
        }
        if ((uint8_t)byte < low || (uint8_t)byte > high) append(s, REPLACEMENT, 3);
    }
    s->held[s->held_count++] = byte;
    size_t size = character_size((uint8_t)s->held[0], &low, &high);
    if (size == 0)
        append(s, REPLACEMENT, 3);
    else if (s->held_count == size)
        append(s, s->held, size);
}

/* Whether the text from `at` on begins with the stop string, or, when it is shorter, is its
 * beginning. */
static bool agrees(const eq_text_stream *s, size_t at, const eq_text *stop)
{
    size_t left = s->size - at;
    return !memcmp(s->text + at, stop->data, left < stop->size ? left : stop->size);
}

/* Where the text ends: before the stop string whose last byte comes first, so that it does not
 * matter in which pieces the text came; of those before the longest. Without one, size. */
static size_t find_stop(const eq_text_stream *s)
{
    size_t start = s->size, end = s->size + 1;
    for (int64_t i = 0; i < s->stop_count; i++) {
        const eq_text *stop = &s->stops[i];
        for (size_t at = 0; at + stop->size <= s->size && at + stop->size <= end; at++) {
            if (!agrees(s, at, stop)) continue;
            if (at + stop->size < end || at < start) start = at;
            end = at + stop->size;
            break;
        }
    }
    return start;
}

static bool may_stop_at(const eq_text_stream *s, size_t at)
{
    for (int64_t i = 0; i < s->stop_count; i++)
        if (agrees(s, at, &s->stops[i])) return true;
    return false;
}

static void cut_stops(eq_text_stream *s)
{
    size_t stop = find_stop(s);
    s->stopped = stop < s->size;
    s->size = stop;
    if (s->stopped) s->held_count = 0;
    while (s->ready < s->size && (s->stopped || !may_stop_at(s, s->ready)))
        s->ready++;
}

void eq_text_stream_shown(eq_text_stream *s)
{
    if (s->ready) memmove(s->text, s->text + s->ready, s->size - s->ready);
    s->size -= s->ready;
    s->ready = 0;
}

eq_status eq_text_stream_push(eq_ctx *ctx, eq_text_stream *s, const char *bytes, size_t n)
{
    eq_text_stream_shown(s);
    if (s->stopped) return EQ_OK;
    eq_status st = reserve(ctx, s, n);
    if (st != EQ_OK) return st;
    for (size_t i = 0; i < n; i++)
        push_byte(s, bytes[i]);
    cut_stops(s);
    return EQ_OK;
}

eq_status eq_text_stream_end(eq_ctx *ctx, eq_text_stream *s)
{
    eq_status st = reserve(ctx, s, 0);
    if (st != EQ_OK) return st;
    if (s->held_count) append(s, REPLACEMENT, 3);
    s->ready = s->size;
    return EQ_OK;
}

void eq_text_stream_deinit(eq_text_stream *s)
{
    eq_free(s->text);
    *s = (eq_text_stream){0};
}
