/* Characters: UTF-8, the classes that pre-tokenizers ask for, and the letters that stand for bytes
 * in a byte-level vocabulary. */
#ifndef EQ_IO_CHARACTERS_H
#define EQ_IO_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum eq_char_class {
    EQ_CHAR_OTHER,
    EQ_CHAR_LETTER, /* Unicode category L */
    EQ_CHAR_NUMBER, /* category N */
    EQ_CHAR_SPACE,  /* property White_Space */
    EQ_CHAR_INVALID /* bytes that are not UTF-8; no class of a code point */
} eq_char_class;

/* A run of code points of one class. */
typedef struct eq_char_range {
    uint32_t first, last;
    uint8_t class;
} eq_char_range;

/* All letters and numbers of Unicode 16.0, in order (character_table.c). */
enum { EQ_CHAR_RANGES = 821 };
extern const eq_char_range eq_char_ranges[EQ_CHAR_RANGES];

/* Decode the character at the front of text [n].
 *
 * code  out  its code point; untouched on failure
 * Gives its length in bytes, or 0 when n is 0 or the bytes are not UTF-8 (truncated, overlong,
 * a surrogate, above U+10FFFF). */
int eq_utf8_decode(const char *text, size_t n, uint32_t *code);
/* Encode a code point up to U+10FFFF; gives the number of bytes written to out. */
int eq_utf8_encode(char out[4], uint32_t code);
/* Whether all n bytes are UTF-8. */
bool eq_utf8_valid(const char *text, size_t n);

/* The class of a code point. */
eq_char_class eq_char_class_of(uint32_t code);

/* The letter that stands for a byte: bytes 33-126, 161-172, 174-255 are themselves, the k-th of the
 * other 68 is U+0100 + k. */
uint32_t eq_byte_letter(uint8_t byte);
/* The byte that a letter stands for, -1 for every other code point. */
int eq_letter_byte(uint32_t letter);

#endif
