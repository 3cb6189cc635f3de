#include "tensor/dtype.h"

#include <assert.h>

static const eq_dtype_info INFO[EQ_DTYPES] = {
    [EQ_F32] = {"F32", 1, 4},     [EQ_F16] = {"F16", 1, 2},     [EQ_BF16] = {"BF16", 1, 2},
    [EQ_I32] = {"I32", 1, 4},     [EQ_I64] = {"I64", 1, 8},     [EQ_U8] = {"U8", 1, 1},
    [EQ_Q8_0] = {"Q8_0", 32, 34}, [EQ_Q4_0] = {"Q4_0", 32, 18}, [EQ_Q4_1] = {"Q4_1", 32, 20},
};

const eq_dtype_info *eq_dtype_get(eq_dtype type)
{
    return &INFO[type];
}

size_t eq_elem_bytes(eq_dtype type)
{
    assert(INFO[type].block_elems == 1);
    return (size_t)INFO[type].block_bytes;
}

size_t eq_dtype_bytes(eq_dtype type, int64_t n)
{
    assert(n % INFO[type].block_elems == 0);
    return (size_t)(n / INFO[type].block_elems) * (size_t)INFO[type].block_bytes;
}

bool eq_dtype_from_name(eq_dtype *type, const char *name, size_t length)
{
    for (int t = 0; t < EQ_Q8_0; t++) {
        if (strlen(INFO[t].name) != length || memcmp(INFO[t].name, name, length)) continue;
        *type = (eq_dtype)t;
        return true;
    }
    return false;
}

float eq_f16_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    uint32_t exponent = rest & 0x0f800000u;
    if (exponent == 0x0f800000u) return eq_bits_f32(sign | rest | 0x70000000u); /* inf, nan */
    /* Multiplying by 2^112 moves the exponent bias from 15 to 127, subnormals included. */
    return eq_bits_f32(sign | eq_f32_bits(eq_bits_f32(rest) * 0x1p112f));
}

uint16_t eq_f32_f16(float f)
{
    uint32_t u = eq_f32_bits(f), sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (u < 0x38800000u) {
        /* Below 2^-14: adding 0.5 leaves the rounded subnormal in the low mantissa bits. */
        uint32_t bits = eq_f32_bits(eq_bits_f32(u) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | bits);
    }
    uint32_t odd = (u >> 13) & 1;
    return (uint16_t)(sign | ((u - 0x38000000u + 0xfffu + odd) >> 13));
}

static uint16_t read_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void q8_0_block(float *out, const uint8_t *block)
{
    float d = eq_f16_f32(read_u16(block));
    for (int j = 0; j < 32; j++)
        out[j] = (float)(int8_t)block[2 + j] * d;
}

static void q4_0_block(float *out, const uint8_t *block)
{
    float d = eq_f16_f32(read_u16(block));
    for (int j = 0; j < 16; j++) {
        out[j] = (float)((block[2 + j] & 15) - 8) * d;
        out[j + 16] = (float)((block[2 + j] >> 4) - 8) * d;
    }
}

static void q4_1_block(float *out, const uint8_t *block)
{
    float d = eq_f16_f32(read_u16(block)), m = eq_f16_f32(read_u16(block + 2));
    for (int j = 0; j < 16; j++) {
        out[j] = (float)(block[4 + j] & 15) * d + m;
        out[j + 16] = (float)(block[4 + j] >> 4) * d + m;
    }
}

void eq_dtype_to_f32(float *out, const void *in, eq_dtype type, int64_t n)
{
    const uint8_t *p = in;
    int64_t blocks = n / 32;
    switch (type) {
    case EQ_F32:
        memcpy(out, in, (size_t)n * sizeof *out);
        break;
    case EQ_F16:
        for (int64_t i = 0; i < n; i++)
            out[i] = eq_f16_f32(read_u16(p + 2 * i));
        break;
    case EQ_BF16:
        for (int64_t i = 0; i < n; i++)
            out[i] = eq_bf16_f32(read_u16(p + 2 * i));
        break;
    case EQ_Q8_0:
        for (int64_t b = 0; b < blocks; b++)
            q8_0_block(out + 32 * b, p + 34 * b);
        break;
    case EQ_Q4_0:
        for (int64_t b = 0; b < blocks; b++)
            q4_0_block(out + 32 * b, p + 18 * b);
        break;
    case EQ_Q4_1:
        for (int64_t b = 0; b < blocks; b++)
            q4_1_block(out + 32 * b, p + 20 * b);
        break;
    default:
        assert(!"not a floating type");
    }
}
