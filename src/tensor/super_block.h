/* Super-blocks of ggml's K types: 256 columns in groups of 16 or 32 whose scales and offsets are
 * whole multiples of two halves.                                              [docs/formats.md]
 *
 *   w = d scale q - dmin min      (Q2_K: q 2 bits, scale and min 4 bits; Q4_K: 4, 6 and 6 bits)
 *   w = d scale (q - 4)           (Q3_K: q 3 bits, scale -32 .. 31)
 *
 * Written as every grid here, w = (q - z) s with s = d scale and z = dmin min / s, which is a real
 * number. */
#ifndef EQ_TENSOR_SUPER_BLOCK_H
#define EQ_TENSOR_SUPER_BLOCK_H

#include "tensor/ggml.h"

enum { EQ_SUPER_BLOCK = 256, EQ_SUPER_TYPES = 3 };
extern const eq_dtype eq_super_types[EQ_SUPER_TYPES];

/* What follows the name of a linear that our folders hold as bytes [N, bytes of a row] of such a
 * type: "q2_k". */
const char *eq_super_suffix(eq_dtype type);

typedef struct eq_super_block {
    float d, dmin; /* halves */
    int8_t scale[EQ_GGML_MOST_GROUPS];
    uint8_t min[EQ_GGML_MOST_GROUPS];
} eq_super_block;

/* The nearest that a super-block of the type (EQ_Q2_K, EQ_Q3_K or EQ_Q4_K) has to the scales s and
 * zero points z of its groups; z below 0 is taken as 0, and Q3_K has none. No scale becomes 0. What
 * was fitted once gives the same again. If anything is not finite, d is NaN. */
void eq_super_block_fit(eq_super_block *block, eq_dtype type, const float *s, const float *z);
/* Its scales and zero points; 4 is that of Q3_K. */
void eq_super_block_grid(float *s, float *z, const eq_super_block *block, eq_dtype type);
/* Both for all super-blocks of a row of K columns; s and z, from and to, may be the same. */
void eq_super_row(float *s_out, float *z_out, const float *s, const float *z, eq_dtype type,
                  int64_t K);
/* Groups of a super-block. */
int eq_super_groups(eq_dtype type);
/* A half at any address; the two low bits of 256 codes, four rounds of 32 in 32 bytes, twice. */
void eq_ggml_put_half(uint8_t *out, float value);
void eq_ggml_put_rounds(uint8_t *out, const uint8_t *q);
/* The bytes of one, with its codes q [EQ_SUPER_BLOCK]. */
void eq_super_block_write(void *out, eq_dtype type, const eq_super_block *block, const uint8_t *q);

#endif
