#include "io/characters.h"

int eq_utf8_decode(const char *text, size_t n, uint32_t *code)
{
    if (!n) return 0;
    const uint8_t *s = (const uint8_t *)text;
    uint32_t c = s[0];
    if (c < 0x80) {
        *code = c;
        return 1;
    }
    int length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || n < (size_t)length) return 0;
    c &= 0x7fu >> length;
    for (int i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (length == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) return 0;
    if (length == 4 && (c < 0x10000 || c > 0x10ffff)) return 0;
    *code = c;
    return length;
}

int eq_utf8_encode(char out[4], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    int length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)(0xf00u >> length | code); /* as many high ones as there are bytes */
    return length;
}

bool eq_utf8_valid(const char *text, size_t n)
{
    uint32_t code;
    int length = 0;
    for (size_t at = 0; at < n; at += (size_t)length) {
        length = eq_utf8_decode(text + at, n - at, &code);
        if (!length) return false;
    }
    return true;
}

static bool is_space(uint32_t c)
{
    if (c < 0x100) return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0;
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

eq_char_class eq_char_class_of(uint32_t code)
{
    if (is_space(code)) return EQ_CHAR_SPACE;
    if (code < 0x80) {
        uint32_t lower = code | 0x20;
        if (lower >= 'a' && lower <= 'z') return EQ_CHAR_LETTER;
        return code >= '0' && code <= '9' ? EQ_CHAR_NUMBER : EQ_CHAR_OTHER;
    }
    int low = 0, high = EQ_CHAR_RANGES; /* the first range that ends at code or later */
    while (low < high) {
        int middle = (low + high) / 2;
        if (eq_char_ranges[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    bool inside = low < EQ_CHAR_RANGES && eq_char_ranges[low].first <= code;
    return inside ? (eq_char_class)eq_char_ranges[low].class : EQ_CHAR_OTHER;
}

uint32_t eq_byte_letter(uint8_t byte)
{
    if (byte <= 32) return 0x100u + byte;
    if (byte >= 127 && byte <= 160) return 0x100u + 33 + byte - 127;
    return byte == 173 ? 0x100u + 67 : byte;
}

int eq_letter_byte(uint32_t letter)
{
    if (letter < 0x100) return eq_byte_letter((uint8_t)letter) == letter ? (int)letter : -1;
    uint32_t k = letter - 0x100;
    if (k <= 32) return (int)k;
    if (k <= 66) return (int)(k - 33 + 127);
    return k == 67 ? 173 : -1;
}
