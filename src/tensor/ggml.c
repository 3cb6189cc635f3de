#include "tensor/ggml.h"

#include <assert.h>

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return eq_f16_f32(h);
}

static void q8_0(float *out, const uint8_t *b)
{
    float d = half_at(b);
    for (int j = 0; j < 32; j++)
        out[j] = (float)(int8_t)b[2 + j] * d;
}

static void q4_0(float *out, const uint8_t *b)
{
    float d = half_at(b);
    for (int j = 0; j < 16; j++) {
        out[j] = (float)((b[2 + j] & 15) - 8) * d;
        out[j + 16] = (float)((b[2 + j] >> 4) - 8) * d;
    }
}

static void q4_1(float *out, const uint8_t *b)
{
    float d = half_at(b), m = half_at(b + 2);
    for (int j = 0; j < 16; j++) {
        out[j] = (float)(b[4 + j] & 15) * d + m;
        out[j + 16] = (float)(b[4 + j] >> 4) * d + m;
    }
}

/* Code e of 5 bits: 4 in the half bytes at qs, the fifth is bit e of the word at qh. */
static int code_5(const uint8_t *qh, const uint8_t *qs, int e)
{
    int low = e < 16 ? qs[e] & 15 : qs[e - 16] >> 4;
    return low | (qh[e / 8] >> (e % 8) & 1) << 4;
}

static void q5_0(float *out, const uint8_t *b)
{
    float d = half_at(b);
    for (int e = 0; e < 32; e++)
        out[e] = (float)(code_5(b + 2, b + 6, e) - 16) * d;
}

static void q5_1(float *out, const uint8_t *b)
{
    float d = half_at(b), m = half_at(b + 2);
    for (int e = 0; e < 32; e++)
        out[e] = (float)code_5(b + 4, b + 8, e) * d + m;
}

static void q2_0(float *out, const uint8_t *b)
{
    float d = half_at(b);
    for (int e = 0; e < 64; e++)
        out[e] = (float)((b[2 + e / 4] >> 2 * (e % 4) & 3) - 1) * d;
}

/* Code e of 2 bits, as all types with blocks of 256 have them: four rounds of 32 in 32 bytes. */
static int code_2(const uint8_t *qs, int e)
{
    return qs[e / 128 * 32 + e % 32] >> e % 128 / 32 * 2 & 3;
}

static void tq2_0(float *out, const uint8_t *b)
{
    float d = half_at(b + 64);
    for (int e = 0; e < 256; e++)
        out[e] = (float)(code_2(b, e) - 1) * d;
}

static void q2_k(float *out, const uint8_t *b)
{
    float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int e = 0; e < 256; e++) {
        int scale = b[e / 16] & 15, min = b[e / 16] >> 4;
        out[e] = d * (float)scale * (float)code_2(b + 16, e) - dmin * (float)min;
    }
}

/* Scale i of 16, each of 6 bits. */
static int q3_k_scale(const uint8_t *s, int i)
{
    int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
    return (low | (s[8 + i % 4] >> i / 4 * 2 & 3) << 4) - 32;
}

static void q3_k(float *out, const uint8_t *b)
{
    float d = half_at(b + 108);
    for (int e = 0; e < 256; e++) {
        int q = code_2(b + 32, e) | (b[e % 32] >> e / 32 & 1) << 2;
        out[e] = d * (float)q3_k_scale(b + 96, e / 16) * (float)(q - 4);
    }
}

/* Scale and minimum i of 8, each of 6 bits, in the 12 bytes at s. */
static void q4_k_scale(const uint8_t *s, int i, int *scale, int *min)
{
    *scale = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | s[i - 4] >> 6 << 4;
    *min = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | s[i] >> 6 << 4;
}

/* Code e of 4 bits: half bytes of 32 bytes, first the low ones. */
static int code_4(const uint8_t *qs, int e)
{
    return qs[e / 64 * 32 + e % 32] >> e % 64 / 32 * 4 & 15;
}

/* Q4_K, and Q5_K with its fifth bits at qh. */
static void q45_k(float *out, const uint8_t *b, const uint8_t *qh, const uint8_t *qs)
{
    float d = half_at(b), dmin = half_at(b + 2);
    for (int e = 0; e < 256; e++) {
        int scale, min, q = code_4(qs, e);
        q4_k_scale(b + 4, e / 32, &scale, &min);
        if (qh) q |= (qh[e % 32] >> e / 32 & 1) << 4;
        out[e] = d * (float)scale * (float)q - dmin * (float)min;
    }
}

static void q4_k(float *out, const uint8_t *b)
{
    q45_k(out, b, NULL, b + 16);
}

static void q5_k(float *out, const uint8_t *b)
{
    q45_k(out, b, b + 16, b + 48);
}

static void q6_k(float *out, const uint8_t *b)
{
    float d = half_at(b + 208);
    for (int e = 0; e < 256; e++) {
        int half = e / 128, round = e % 128 / 32, l = e % 32;
        int low = b[64 * half + round % 2 * 32 + l] >> round / 2 * 4 & 15;
        int high = b[128 + 32 * half + l] >> 2 * round & 3;
        float scale = (float)(int8_t)b[192 + e / 16];
        out[e] = d * scale * (float)((low | high << 4) - 32);
    }
}

void eq_ggml_to_f32(float *out, const void *in, eq_dtype type, int64_t n)
{
    static void (*const BLOCK[EQ_DTYPES])(float *, const uint8_t *) = {
        [EQ_Q8_0] = q8_0, [EQ_Q4_0] = q4_0, [EQ_Q4_1] = q4_1,   [EQ_Q5_0] = q5_0,
        [EQ_Q5_1] = q5_1, [EQ_Q2_0] = q2_0, [EQ_TQ2_0] = tq2_0, [EQ_Q2_K] = q2_k,
        [EQ_Q3_K] = q3_k, [EQ_Q4_K] = q4_k, [EQ_Q5_K] = q5_k,   [EQ_Q6_K] = q6_k,
    };
    const eq_dtype_info *info = eq_dtype_get(type);
    assert(BLOCK[type]);
    for (const uint8_t *b = in; n > 0; n -= info->block_elems, b += info->block_bytes) {
        BLOCK[type](out, b);
        out += info->block_elems;
    }
}
