#include "tensor/codes.h"

void eq_codes_pack(uint8_t *packed, const uint8_t *q, int64_t K, int bits)
{
    memset(packed, 0, eq_codes_bytes(K, bits));
    for (int64_t i = 0; i < K; i++) {
        int64_t bit = i * bits;
        int shift = (int)(bit % 8);
        packed[bit / 8] = (uint8_t)(packed[bit / 8] | q[i] << shift);
        if (shift + bits > 8)
            packed[bit / 8 + 1] = (uint8_t)(packed[bit / 8 + 1] | q[i] >> (8 - shift));
    }
}
