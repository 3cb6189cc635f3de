#include "tensor/ggml.h"

#include <assert.h>

static const eq_dtype_info INFO[EQ_DTYPES] = {
    [EQ_F32] = {"F32", 1, 4, 0},         [EQ_F16] = {"F16", 1, 2, 1},
    [EQ_BF16] = {"BF16", 1, 2, 30},      [EQ_I32] = {"I32", 1, 4, 26},
    [EQ_I64] = {"I64", 1, 8, -1},        [EQ_U8] = {"U8", 1, 1, -1},
    [EQ_Q8_0] = {"Q8_0", 32, 34, 8},     [EQ_Q4_0] = {"Q4_0", 32, 18, 2},
    [EQ_Q4_1] = {"Q4_1", 32, 20, 3},     [EQ_Q5_0] = {"Q5_0", 32, 22, 6},
    [EQ_Q5_1] = {"Q5_1", 32, 24, 7},     [EQ_Q2_0] = {"Q2_0", 64, 18, 42},
    [EQ_TQ2_0] = {"TQ2_0", 256, 66, 35}, [EQ_Q2_K] = {"Q2_K", 256, 84, 10},
    [EQ_Q3_K] = {"Q3_K", 256, 110, 11},  [EQ_Q4_K] = {"Q4_K", 256, 144, 12},
    [EQ_Q5_K] = {"Q5_K", 256, 176, 13},  [EQ_Q6_K] = {"Q6_K", 256, 210, 14},
};

const eq_dtype_info *eq_dtype_get(eq_dtype type)
{
    return &INFO[type];
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

bool eq_dtype_from_ggml(eq_dtype *type, uint32_t number)
{
    for (int t = 0; t < EQ_DTYPES; t++) {
        if (INFO[t].ggml < 0 || (uint32_t)INFO[t].ggml != number) continue;
        *type = (eq_dtype)t;
        return true;
    }
    return false;
}

bool eq_dtype_is_real(eq_dtype type)
{
    return type != EQ_I32 && type != EQ_I64 && type != EQ_U8;
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

void eq_dtype_to_f32(float *out, const void *in, eq_dtype type, int64_t n)
{
    const uint8_t *p = in;
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
    default:
        eq_ggml_to_f32(out, in, type, n);
    }
}
