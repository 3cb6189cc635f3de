#include "io/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct eq_pretokenizer {
    pcre2_code *code; /* owned */
};

/* GPT-2's alternatives. With single digits no run may hold a numeric character but alone and without its space; a space
 * before it then ends a run of white space, as the end of a text does: hence the extra alternative in the look-ahead. */
static const char GPT2[] =
    "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char GPT2_DIGITS[] = "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
                                  "|\\s+(?=\\p{N})|\\s+(?!\\S)|\\s+";

eq_status eq_pretokenizer_new(eq_ctx *ctx, eq_pretokenizer **out, bool single_digits)
{
    *out = NULL;
    eq_pretokenizer *p = eq_alloc(ctx, 1, sizeof *p);
    if (!p) return EQ_ENOMEM;
    int error = 0;
    PCRE2_SIZE at = 0;
    const char *pattern = single_digits ? GPT2_DIGITS : GPT2;
    p->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                            &error, &at, NULL);
    if (!p->code) {
        eq_free(p);
        return eq_fail(ctx, EQ_EINTERNAL, "pre-tokenizer: PCRE2 error %d at %zu", error, at);
    }
    pcre2_jit_compile(p->code,
                      PCRE2_JIT_COMPLETE); /* only speed: without it the interpreter runs */
    *out = p;
    return EQ_OK;
}

void eq_pretokenizer_free(eq_pretokenizer *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    eq_free(p);
}

/* Length of the valid UTF-8 character at p, 0 when there is none. */
static size_t character(const uint8_t *p, size_t left)
{
    size_t n = p[0] < 0x80   ? 1
               : p[0] < 0xc2 ? 0
               : p[0] < 0xe0 ? 2
               : p[0] < 0xf0 ? 3
               : p[0] < 0xf5 ? 4
                             : 0;
    if (!n || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (p[0] == 0xe0 && p[1] < 0xa0) return 0; /* longer than needed */
    if (p[0] == 0xed && p[1] > 0x9f) return 0; /* surrogates */
    if (p[0] == 0xf0 && p[1] < 0x90) return 0;
    if (p[0] == 0xf4 && p[1] > 0x8f) return 0; /* beyond U+10FFFF */
    return n;
}

/* Length of the valid stretch at the start of a text. */
static size_t valid_stretch(eq_text text)
{
    size_t at = 0;
    while (at < text.size) {
        size_t n = character((const uint8_t *)text.data + at, text.size - at);
        if (!n) break;
        at += n;
    }
    return at;
}

/* The pieces of a valid stretch. */
static eq_status cut(eq_ctx *ctx, const eq_pretokenizer *p, pcre2_match_data *match, eq_text text,
                     eq_piece_fn piece, void *user)
{
    size_t at = 0;
    while (at < text.size) {
        int found = pcre2_match(p->code, (PCRE2_SPTR)text.data, text.size, at, PCRE2_NO_UTF_CHECK,
                                match, NULL);
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
        if (found < 0 || range[0] != at || range[1] <= at)
            return eq_fail(ctx, EQ_EINTERNAL, "pre-tokenizer: no piece at byte %zu (PCRE2 says %d)",
                           at, found);
        eq_status st = piece(ctx, user, (eq_text){text.data + at, range[1] - at});
        if (st != EQ_OK) return st;
        at = range[1];
    }
    return EQ_OK;
}

eq_status eq_pretokenize(eq_ctx *ctx, const eq_pretokenizer *p, eq_text text, eq_piece_fn piece,
                         void *user)
{
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(p->code, NULL);
    if (!match) return eq_fail(ctx, EQ_ENOMEM, "pre-tokenizer: out of memory");
    eq_status st = EQ_OK;
    while (st == EQ_OK && text.size) {
        size_t n = valid_stretch(text);
        if (n)
            st = cut(ctx, p, match, (eq_text){text.data, n}, piece, user);
        else
            st = piece(ctx, user, (eq_text){text.data, n = 1});
        text = (eq_text){text.data + n, text.size - n};
    }
    pcre2_match_data_free(match);
    return st;
}
