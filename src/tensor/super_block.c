#include "tensor/super_block.h"

#include <assert.h>
#include <math.h>

const eq_dtype eq_super_types[EQ_SUPER_TYPES] = {EQ_Q2_K, EQ_Q3_K, EQ_Q4_K};

const char *eq_super_suffix(eq_dtype type)
{
    return type == EQ_Q2_K ? "q2_k" : type == EQ_Q3_K ? "q3_k" : "q4_k";
}

/* Largest scale and min of a type; Q3_K also has the scale -32. */
static float largest_of(eq_dtype type)
{
    return type == EQ_Q2_K ? 15.0f : type == EQ_Q3_K ? 31.0f : 63.0f;
}

int eq_super_groups(eq_dtype type)
{
    return EQ_SUPER_BLOCK / eq_ggml_form_of(type)->group;
}

static float half_of(float x)
{
    return eq_f16_f32(eq_f32_f16(x));
}

/* x / unit as a whole number within low .. high; low if it is not a number. */
static int steps_of(float x, float unit, float low, float high)
{
    const float steps = x / unit;
    return (int)(steps >= high ? high : steps >= low ? rintf(steps) : low);
}

/* A half that is not 0, of which x is so many. */
static float unit_of(float x, float steps)
{
    const float unit = half_of(x / steps), least = 0x1p-24f;
    return fabsf(unit) >= least || isnan(unit) ? unit : copysignf(least, unit);
}

/* The scale of the largest magnitude is -32, so that either sign reaches as far. */
static void fit_signed(eq_super_block *b, const float *s, int groups)
{
    float largest = 0;
    for (int i = 0; i < groups; i++)
        if (fabsf(s[i]) > fabsf(largest)) largest = s[i];
    b->d = unit_of(largest, -32.0f);
    for (int i = 0; i < groups; i++) {
        const int steps = steps_of(s[i], b->d, -32.0f, largest_of(EQ_Q3_K));
        b->scale[i] = (int8_t)(steps ? steps : (s[i] < 0) == (b->d < 0) ? 1 : -1);
    }
}

static void fit_offsets(eq_super_block *b, const float *s, const float *z, int groups, float most)
{
    float largest = 0, offsets[EQ_GGML_MOST_GROUPS], deepest = 0;
    for (int i = 0; i < groups; i++)
        largest = fmaxf(largest, s[i]);
    b->d = unit_of(largest, most);
    for (int i = 0; i < groups; i++) {
        b->scale[i] = (int8_t)steps_of(s[i], b->d, 1.0f, most);
        offsets[i] = fmaxf(b->d * (float)b->scale[i] * z[i], 0.0f);
        deepest = fmaxf(deepest, offsets[i]);
    }
    b->dmin = deepest > 0 ? unit_of(deepest, most) : 0.0f;
    for (int i = 0; i < groups; i++)
        b->min[i] = (uint8_t)(b->dmin > 0 ? steps_of(offsets[i], b->dmin, 0.0f, most) : 0);
}

static void fit_once(eq_super_block *b, eq_dtype type, const float *s, const float *z)
{
    const int groups = eq_super_groups(type);
    *b = (eq_super_block){.d = 0};
    if (type == EQ_Q3_K)
        fit_signed(b, s, groups);
    else
        fit_offsets(b, s, z, groups, largest_of(type));
}

/* Whether rounding a unit to a half with fewer digits may have moved it so far that the largest
 * multiple of it is no longer the largest that there is. */
static bool is_coarse(const eq_super_block *b)
{
    const float least = 0x1p-14f;
    return fabsf(b->d) < least || (b->dmin > 0 && b->dmin < least);
}

void eq_super_block_fit(eq_super_block *b, eq_dtype type, const float *s, const float *z)
{
    enum { TIMES = 8 }; /* three are enough for nearly all */
    float sum = 0, own_s[EQ_GGML_MOST_GROUPS], own_z[EQ_GGML_MOST_GROUPS];
    for (int i = 0; i < eq_super_groups(type); i++)
        sum += s[i] + z[i];
    fit_once(b, type, s, z);
    for (int time = 0; time < TIMES && isfinite(sum) && is_coarse(b); time++) {
        eq_super_block again;
        eq_super_block_grid(own_s, own_z, b, type);
        fit_once(&again, type, own_s, own_z);
        if (!memcmp(&again, b, sizeof again)) break;
        *b = again;
    }
    if (!isfinite(sum)) b->d = NAN;
}

void eq_super_block_grid(float *s, float *z, const eq_super_block *b, eq_dtype type)
{
    const eq_ggml_form *form = eq_ggml_form_of(type);
    for (int i = 0; i < eq_super_groups(type); i++) {
        s[i] = b->d * (float)b->scale[i];
        z[i] = form->minimum ? b->dmin * (float)b->min[i] / s[i] : (float)form->zero;
    }
}

void eq_super_row(float *s_out, float *z_out, const float *s, const float *z, eq_dtype type,
                  int64_t K)
{
    const int groups = eq_super_groups(type);
    for (int64_t i = 0; i < K / EQ_SUPER_BLOCK * groups; i += groups) {
        eq_super_block block;
        eq_super_block_fit(&block, type, s + i, z + i);
        eq_super_block_grid(s_out + i, z_out + i, &block, type);
    }
}

void eq_ggml_put_half(uint8_t *out, float value)
{
    const uint16_t h = eq_f32_f16(value);
    memcpy(out, &h, sizeof h);
}

void eq_ggml_put_rounds(uint8_t *out, const uint8_t *q)
{
    memset(out, 0, 64);
    for (int e = 0; e < 256; e++)
        out[e / 128 * 32 + e % 32] |= (uint8_t)((q[e] & 3) << e % 128 / 32 * 2);
}

static void write_q2_k(uint8_t *out, const eq_super_block *b, const uint8_t *q)
{
    for (int i = 0; i < 16; i++)
        out[i] = (uint8_t)(b->scale[i] | b->min[i] << 4);
    eq_ggml_put_rounds(out + 16, q);
    eq_ggml_put_half(out + 80, b->d);
    eq_ggml_put_half(out + 82, b->dmin);
}

/* Scales of 6 bits, 32 more than they are: the low halves of i and i + 8 share a byte, the upper
 * two bits of i, i + 4, i + 8 and i + 12 another. */
static void write_q3_k(uint8_t *out, const eq_super_block *b, const uint8_t *q)
{
    memset(out, 0, 32);
    for (int e = 0; e < 256; e++)
        out[e % 32] |= (uint8_t)((q[e] >> 2) << e / 32);
    eq_ggml_put_rounds(out + 32, q);
    memset(out + 96, 0, 12);
    for (int i = 0; i < 16; i++) {
        const int stored = b->scale[i] + 32;
        out[96 + i % 8] |= (uint8_t)((stored & 15) << i / 8 * 4);
        out[104 + i % 4] |= (uint8_t)(stored >> 4 << i / 4 * 2);
    }
    eq_ggml_put_half(out + 108, b->d);
}

/* Scales and mins of 6 bits: the first four of each in whole bytes, whose upper two bits and four
 * more bytes hold the others. */
static void write_q4_k(uint8_t *out, const eq_super_block *b, const uint8_t *q)
{
    eq_ggml_put_half(out, b->d);
    eq_ggml_put_half(out + 2, b->dmin);
    for (int i = 0; i < 4; i++) {
        out[4 + i] = (uint8_t)(b->scale[i] | b->scale[i + 4] >> 4 << 6);
        out[8 + i] = (uint8_t)(b->min[i] | b->min[i + 4] >> 4 << 6);
        out[12 + i] = (uint8_t)((b->scale[i + 4] & 15) | (b->min[i + 4] & 15) << 4);
    }
    for (int e = 0; e < 256; e += 64)
        for (int l = 0; l < 32; l++)
            out[16 + e / 2 + l] = (uint8_t)(q[e + l] | q[e + 32 + l] << 4);
}

void eq_super_block_write(void *out, eq_dtype type, const eq_super_block *b, const uint8_t *q)
{
    switch (type) {
    case EQ_Q2_K:
        write_q2_k(out, b, q);
        break;
    case EQ_Q3_K:
        write_q3_k(out, b, q);
        break;
    default:
        assert(type == EQ_Q4_K);
        write_q4_k(out, b, q);
    }
}
