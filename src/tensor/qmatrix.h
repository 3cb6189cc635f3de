/* A stored quantized linear: the GPTQ layout and its relatives.              [docs/formats.md] */
#ifndef EQ_TENSOR_QMATRIX_H
#define EQ_TENSOR_QMATRIX_H

#include "tensor/dtype.h"

/* How the arrays of a stored linear [N, K] are arranged. Zeros: as GPTQ version 2 has them.
 *
 * A line of fields is packed into words: the codes of one row along K, or with `across` those of
 * one column along N; the zero points of one group along N. Fields follow each other from the
 * lowest bit on, over word borders at 3 bits (32 fields in 3 words), unless they are padded: then a
 * word has floor(32 / bits) whole fields, and what is left of it is empty. */
typedef struct eq_qlayout {
    bool rows_first;  /* arrays are [N.., K..], else [K.., N..] */
    bool across;      /* codes are packed along N */
    bool interleaved; /* the fields of a word are 0, 2, 4, 6, 1, 3, 5, 7 of eight: 4 bits only */
    bool padded;      /* differs from a stream at 3 bits only */
    int zero_offset;  /* added to a stored zero point, modulo 2^bits: 1 in GPTQ version 1 */
} eq_qlayout;

/* w[n][k] = (q[n][k] - z[n][o[k]]) * s[n][o[k]]. Words are 32-bit little-endian. Borrowed memory,
 * may be unaligned; shapes are those of layout zero, eq_qmatrix_shapes has all. */
typedef struct eq_qmatrix {
    int bits; /* 2, 3, 4 or 8 */
    int64_t N, K, g;
    const void *qweight; /* i32 [words of K fields, N] */
    const void *qzeros;  /* i32 [K / g, words of N fields]; NULL: all are 2^(bits-1) */
    const void *scales;  /* [K / g, N] */
    const void *order;   /* o, i32 [K] in 0 .. K/g - 1: activation order; NULL: o[k] = k / g */
    eq_dtype scale_type; /* EQ_F16, EQ_BF16 or EQ_F32 */
    bool symmetric;      /* said of it: all z are 2^(bits-1), and scales may be negative */
    eq_qlayout layout;
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
/* Shapes of qweight, qzeros and scales in that layout. */
typedef struct eq_qshapes {
    int64_t weight[2], zeros[2], scales[2];
} eq_qshapes;
eq_qshapes eq_qmatrix_shapes(const eq_qmatrix *q);
/* Bytes of its qweight. */
size_t eq_qmatrix_bytes(const eq_qmatrix *q);
/* The group of column k. */
int64_t eq_qmatrix_group(const eq_qmatrix *q, int64_t k);
/* Bits of its codes, and of a half scale and a zero point a group. */
int64_t eq_qmatrix_stored_bits(int64_t N, int64_t K, int64_t g, int bits);

/* Rows row0 .. row0+rows-1 to out [rows, K] of type EQ_F32 or EQ_BF16. */
void eq_qmatrix_unpack(void *out, eq_dtype type, const eq_qmatrix *q, int64_t row0, int64_t rows);
/* Codes of one row, q out [K]. */
void eq_qmatrix_codes(uint8_t *codes, const eq_qmatrix *q, int64_t row);
/* Scales and zero points of one row, s and z out [K/g]; zero points are in 0 .. 2^bits - 1. */
void eq_qmatrix_grid(float *s, float *z, const eq_qmatrix *q, int64_t row);
/* The same of one group. */
float eq_qmatrix_scale_at(const eq_qmatrix *q, int64_t row, int64_t group);
float eq_qmatrix_zero_at(const eq_qmatrix *q, int64_t row, int64_t group);
/* Whether all zero points are the same; z out, the first one. */
bool eq_qmatrix_one_zero(const eq_qmatrix *q, float *z);
/* Codes of columns k .. k+columns-1, at most 32, of rows row .. row+rows-1, at most 16:
 * codes out [columns][rows of 16]. */
void eq_qmatrix_tile(uint32_t codes[32][16], const eq_qmatrix *q, int64_t row, int rows, int64_t k,
                     int columns);

/* codes [N, K], zeros [N, K/g], scales [N, K/g] (values that f16 holds) to the stored buffers of
 * the shapes above, in the layout of `shape`, with f16 scales; qzeros may be NULL. */
void eq_qmatrix_pack(void *qweight, void *qzeros, void *scales, const uint8_t *codes,
                     const uint8_t *zeros, const float *s, const eq_qmatrix *shape);

#endif
