/* Element types of stored tensors, and conversions between f32 and the 16-bit types. */
#ifndef EQ_TENSOR_DTYPE_H
#define EQ_TENSOR_DTYPE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum eq_dtype {
    EQ_F32,
    EQ_F16,
    EQ_BF16,
    EQ_I32,
    EQ_I64,
    EQ_U8,
    EQ_Q8_0, /* ggml blocks, docs/formats.md */
    EQ_Q4_0,
    EQ_Q4_1,
    EQ_Q5_0,
    EQ_Q5_1,
    EQ_Q2_0,
    EQ_TQ2_0,
    EQ_Q2_K,
    EQ_Q3_K,
    EQ_Q4_K,
    EQ_Q5_K,
    EQ_Q6_K,
    EQ_DTYPES
} eq_dtype;

typedef struct eq_dtype_info {
    const char *name; /* as safetensors or ggml spells it */
    int block_elems;  /* elements of a block, 1 for plain types */
    int block_bytes;  /* bytes of a block */
    int ggml;         /* number of the type in GGUF files, -1 when it has none */
} eq_dtype_info;

const eq_dtype_info *eq_dtype_get(eq_dtype type);
/* Bytes of one element of a plain type. */
static inline size_t eq_elem_bytes(eq_dtype type)
{
    static const size_t BYTES[] = {
        [EQ_F32] = 4, [EQ_F16] = 2, [EQ_BF16] = 2, [EQ_I32] = 4, [EQ_I64] = 8, [EQ_U8] = 1};
    assert(type <= EQ_U8);
    return BYTES[type];
}
/* Bytes of n consecutive elements; n is a multiple of the block. */
size_t eq_dtype_bytes(eq_dtype type, int64_t n);
/* The type that safetensors calls `name`; false when there is none. */
bool eq_dtype_from_name(eq_dtype *type, const char *name, size_t length);
/* The type that GGUF files number so; false when there is none. */
bool eq_dtype_from_ggml(eq_dtype *type, uint32_t number);
/* Whether the elements of the type are real numbers. */
bool eq_dtype_is_real(eq_dtype type);

static inline float eq_bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t eq_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float eq_bf16_f32(uint16_t h)
{
    return eq_bits_f32((uint32_t)h << 16);
}

/* Round to nearest, ties to even. NaN stays NaN. */
static inline uint16_t eq_f32_bf16(float f)
{
    uint32_t u = eq_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 64);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

float eq_f16_f32(uint16_t h);
/* Round to nearest, ties to even; overflow gives infinity. */
uint16_t eq_f32_f16(float f);

/* Any supported floating or ggml type to f32: n elements (a multiple of the block). */
void eq_dtype_to_f32(float *out, const void *in, eq_dtype type, int64_t n);

#endif
