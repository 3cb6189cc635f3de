/* Codes of a row packed densely: field i of `bits` bits from bit i * bits on, the lowest bit of
 * each byte first. The runtime's own layout: rows one after the other, as training and inference
 * read them. */
#ifndef EQ_TENSOR_CODES_H
#define EQ_TENSOR_CODES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Vector forms may read so many bytes behind the last row. */
enum { EQ_CODES_PAD = 32 };

/* Bytes of a row of K codes; K * bits is a multiple of 8. */
static inline size_t eq_codes_bytes(int64_t K, int bits)
{
    return (size_t)(K * bits / 8);
}

/* Codes q [K], each below 2^bits, to eq_codes_bytes bytes. */
void eq_codes_pack(uint8_t *packed, const uint8_t *q, int64_t K, int bits);

/* Field i of a packed row. Bits are at most 8, so two bytes hold it. */
static inline int eq_codes_get(const uint8_t *packed, int64_t i, int bits)
{
    int64_t bit = i * bits;
    int shift = (int)(bit % 8), value = packed[bit / 8] >> shift;
    if (shift + bits > 8) value |= packed[bit / 8 + 1] << (8 - shift);
    return value & ((1 << bits) - 1);
}

#endif
