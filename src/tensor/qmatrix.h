/* A stored quantized linear: the GPTQ layout and its relatives.             [spec formats.md 4] */
#ifndef EQ_TENSOR_QMATRIX_H
#define EQ_TENSOR_QMATRIX_H

#include "tensor/dtype.h"

/* w[n][k] = (q[n][k] - z[n][k/g]) * s[n][k/g]. Words are 32-bit little-endian, fields from the
 * lowest bit on. A column of codes and a row of zero points is one stream of fields, which run over
 * word borders at 3 bits (32 fields in 3 words), unless it is padded: then a word has floor(32 /
 * bits) whole fields, and what is left of it is empty. Borrowed memory, may be unaligned. */
typedef struct eq_qmatrix {
    int bits; /* 2, 3, 4 or 8 */
    int64_t N, K, g;
    const void *qweight; /* i32 [words of K fields, N] */
    const void *qzeros;  /* i32 [K / g, words of N fields] */
    const void *scales;  /* [K / g, N] */
    eq_dtype scale_type; /* EQ_F16, EQ_BF16 or EQ_F32 */
    int zero_offset;     /* added to a stored zero, modulo 2^bits: 0 for gptq_v2, 1 for gptq */
    bool padded;         /* differs from a stream at 3 bits only */
} eq_qmatrix;

/* Whether codes may have so many bits: 2, 3, 4 or 8. */
bool eq_qmatrix_has_bits(int64_t bits);
/* Whether the GPTQ layout can hold [N, K]: the bits are among those, and both must fill whole words
 * (whole groups of 32 fields at 3 bits). */
bool eq_qmatrix_fits(int64_t N, int64_t K, int64_t bits);
size_t eq_qmatrix_weight_bytes(int64_t N, int64_t K, int bits);
size_t eq_qmatrix_zero_bytes(int64_t N, int64_t K, int64_t g, int bits);
size_t eq_qmatrix_scale_bytes(int64_t N, int64_t K, int64_t g);
/* Words of n fields in the matrix's own layout, the last one perhaps not full. */
int64_t eq_qmatrix_words(const eq_qmatrix *q, int64_t n);
/* Bytes of its qweight. */
size_t eq_qmatrix_bytes(const eq_qmatrix *q);
/* Bits of its codes, and of a half scale and a zero point a group. */
int64_t eq_qmatrix_stored_bits(int64_t N, int64_t K, int64_t g, int bits);

/* Rows row0 .. row0+rows-1 to out [rows, K] of type EQ_F32 or EQ_BF16. */
void eq_qmatrix_unpack(void *out, eq_dtype type, const eq_qmatrix *q, int64_t row0, int64_t rows);
/* Codes of one row, q out [K]. */
void eq_qmatrix_codes(uint8_t *codes, const eq_qmatrix *q, int64_t row);
/* Scales and zero points of one row, s and z out [K/g]; zero points are in 0 .. 2^bits - 1. */
void eq_qmatrix_grid(float *s, float *z, const eq_qmatrix *q, int64_t row);
/* The same of one group. */
void eq_qmatrix_grid_at(float *s, float *z, const eq_qmatrix *q, int64_t row, int64_t group);
/* Codes of columns k .. k+columns-1, at most 32, of rows row .. row+rows-1, at most 16:
 * codes out [columns][rows of 16]. */
void eq_qmatrix_tile(uint32_t codes[32][16], const eq_qmatrix *q, int64_t row, int rows, int64_t k,
                     int columns);

/* codes [N, K], zeros [N, K/g], scales [N, K/g] (values that f16 holds) to the stored buffers,
 * which are large enough as above: gptq_v2 with f16 scales, whatever layout `shape` names. */
void eq_qmatrix_pack(void *qweight, void *qzeros, void *scales, const uint8_t *codes,
                     const uint8_t *zeros, const float *s, const eq_qmatrix *shape);

#endif
