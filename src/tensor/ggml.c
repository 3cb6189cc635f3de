#include "tensor/ggml.h"

#include <assert.h>

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return eq_f16_f32(h);
}

static void q8_0(eq_ggml_block *t, const uint8_t *b)
{
    t->s[0] = half_at(b);
    for (int e = 0; e < 32; e++)
        t->q[e] = b[2 + e] ^ 0x80; /* a number with a sign, and 128 more */
}

/* Codes of 4 bits: the low half bytes, then the high ones. */
static void half_bytes(eq_ggml_block *t, const uint8_t *qs)
{
    for (int j = 0; j < 16; j++) {
        t->q[j] = qs[j] & 15;
        t->q[j + 16] = qs[j] >> 4;
    }
}

static void q4_0(eq_ggml_block *t, const uint8_t *b)
{
    t->s[0] = half_at(b);
    half_bytes(t, b + 2);
}

static void q4_1(eq_ggml_block *t, const uint8_t *b)
{
    t->s[0] = half_at(b);
    t->m[0] = half_at(b + 2);
    half_bytes(t, b + 4);
}

/* Bit e of the word at qh is the fifth of code e. */
static void fifth_bits(eq_ggml_block *t, const uint8_t *qh)
{
    for (int e = 0; e < 32; e++)
        t->q[e] |= (qh[e / 8] >> (e % 8) & 1) << 4;
}

static void q5_0(eq_ggml_block *t, const uint8_t *b)
{
    t->s[0] = half_at(b);
    half_bytes(t, b + 6);
    fifth_bits(t, b + 2);
}

static void q5_1(eq_ggml_block *t, const uint8_t *b)
{
    t->s[0] = half_at(b);
    t->m[0] = half_at(b + 2);
    half_bytes(t, b + 8);
    fifth_bits(t, b + 4);
}

static void q2_0(eq_ggml_block *t, const uint8_t *b)
{
    t->s[0] = half_at(b);
    for (int j = 0; j < 16; j++) {
        const uint32_t byte = b[2 + j]; /* four codes, the first in the lowest bits */
        const uint32_t four = (byte | byte << 6 | byte << 12 | byte << 18) & 0x03030303u;
        memcpy(t->q + 4 * j, &four, sizeof four);
    }
}

/* Codes of 2 bits, as all types with blocks of 256 have them: four rounds of 32 in 32 bytes. */
static void rounds_of_2(eq_ggml_block *t, const uint8_t *qs)
{
    for (int i = 0; i < 8; i++)
        for (int l = 0; l < 32; l++)
            t->q[32 * i + l] = qs[i / 4 * 32 + l] >> 2 * (i % 4) & 3;
}

static void tq2_0(eq_ggml_block *t, const uint8_t *b)
{
    t->s[0] = half_at(b + 64);
    rounds_of_2(t, b);
}

static void q2_k(eq_ggml_block *t, const uint8_t *b)
{
    float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int i = 0; i < 16; i++) {
        t->s[i] = d * (float)(b[i] & 15);
        t->m[i] = -(dmin * (float)(b[i] >> 4));
    }
    rounds_of_2(t, b + 16);
}

/* Bit i of byte l becomes bit `to` of code 32 i + l. */
static void add_bits(eq_ggml_block *t, const uint8_t *bits, int to)
{
    for (int i = 0; i < 8; i++)
        for (int l = 0; l < 32; l++)
            t->q[32 * i + l] |= (uint8_t)((bits[l] >> i & 1) << to);
}

/* Scale i of 16, each of 6 bits. */
static int q3_k_scale(const uint8_t *s, int i)
{
    int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
    return (low | (s[8 + i % 4] >> i / 4 * 2 & 3) << 4) - 32;
}

static void q3_k(eq_ggml_block *t, const uint8_t *b)
{
    float d = half_at(b + 108);
    for (int i = 0; i < 16; i++)
        t->s[i] = d * (float)q3_k_scale(b + 96, i);
    rounds_of_2(t, b + 32);
    add_bits(t, b, 2);
}

/* Scale and minimum i of 8, each of 6 bits, in the 12 bytes at s. */
static void q4_k_scale(const uint8_t *s, int i, int *scale, int *min)
{
    *scale = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | s[i - 4] >> 6 << 4;
    *min = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | s[i] >> 6 << 4;
}

/* What Q4_K and Q5_K share; codes of 4 bits in half bytes of 32 bytes, first the low ones. */
static void q45_k(eq_ggml_block *t, const uint8_t *b, const uint8_t *qs)
{
    float d = half_at(b), dmin = half_at(b + 2);
    for (int i = 0; i < 8; i++) {
        int scale, min;
        q4_k_scale(b + 4, i, &scale, &min);
        t->s[i] = d * (float)scale;
        t->m[i] = -(dmin * (float)min);
    }
    for (int i = 0; i < 8; i++)
        for (int l = 0; l < 32; l++)
            t->q[32 * i + l] = qs[i / 2 * 32 + l] >> 4 * (i % 2) & 15;
}

static void q4_k(eq_ggml_block *t, const uint8_t *b)
{
    q45_k(t, b, b + 16);
}

static void q5_k(eq_ggml_block *t, const uint8_t *b)
{
    q45_k(t, b, b + 48);
    add_bits(t, b + 16, 4);
}

static void q6_k(eq_ggml_block *t, const uint8_t *b)
{
    float d = half_at(b + 208);
    for (int i = 0; i < 16; i++)
        t->s[i] = d * (float)(int8_t)b[192 + i];
    for (int i = 0; i < 8; i++) {
        const int half = i / 4, round = i % 4;
        const uint8_t *low = b + 64 * half + round % 2 * 32, *high = b + 128 + 32 * half;
        for (int l = 0; l < 32; l++)
            t->q[32 * i + l] =
                (uint8_t)((low[l] >> round / 2 * 4 & 15) | (high[l] >> 2 * round & 3) << 4);
    }
}

typedef struct ggml_type {
    void (*read)(eq_ggml_block *, const uint8_t *);
    eq_ggml_form form;
} ggml_type;

static const ggml_type TYPES[EQ_DTYPES] = {
    [EQ_Q8_0] = {q8_0, {.bits = 8, .zero = 128, .group = 32, .halves = true}},
    [EQ_Q4_0] = {q4_0, {.bits = 4, .zero = 8, .group = 32, .halves = true}},
    [EQ_Q4_1] = {q4_1, {.bits = 4, .group = 32, .minimum = true, .halves = true}},
    [EQ_Q5_0] = {q5_0, {.bits = 5, .zero = 16, .group = 32, .halves = true}},
    [EQ_Q5_1] = {q5_1, {.bits = 5, .group = 32, .minimum = true, .halves = true}},
    [EQ_Q2_0] = {q2_0, {.bits = 2, .zero = 1, .group = 64, .halves = true}},
    [EQ_TQ2_0] = {tq2_0, {.bits = 2, .zero = 1, .group = 256, .halves = true}},
    [EQ_Q2_K] = {q2_k, {.bits = 2, .group = 16, .minimum = true}},
    [EQ_Q3_K] = {q3_k, {.bits = 3, .zero = 4, .group = 16}},
    [EQ_Q4_K] = {q4_k, {.bits = 4, .group = 32, .minimum = true}},
    [EQ_Q5_K] = {q5_k, {.bits = 5, .group = 32, .minimum = true}},
    [EQ_Q6_K] = {q6_k, {.bits = 6, .zero = 32, .group = 16}},
};

const eq_ggml_form *eq_ggml_form_of(eq_dtype type)
{
    return TYPES[type].read ? &TYPES[type].form : NULL;
}

void eq_ggml_block_read(eq_ggml_block *out, const void *block, eq_dtype type)
{
    assert(TYPES[type].read);
    TYPES[type].read(out, block);
}

void eq_ggml_to_f32(float *out, const void *in, eq_dtype type, int64_t n)
{
    const eq_dtype_info *info = eq_dtype_get(type);
    const eq_ggml_form *form = eq_ggml_form_of(type);
    eq_ggml_block t;
    assert(form);
    for (const uint8_t *b = in; n > 0; n -= info->block_elems, b += info->block_bytes) {
        eq_ggml_block_read(&t, b, type);
        for (int e = 0; e < info->block_elems; e++) {
            const int i = e / form->group;
            const float w = (float)(t.q[e] - form->zero) * t.s[i];
            *out++ = form->minimum ? w + t.m[i] : w;
        }
    }
}
