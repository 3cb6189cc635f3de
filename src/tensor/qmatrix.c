#include "tensor/qmatrix.h"

/* Fields are handled 32 at a time: they fill exactly `bits` words. */
enum { RUN = 32, BLOCK = 16 };

bool eq_qmatrix_has_bits(int64_t bits)
{
    return bits == 2 || bits == 3 || bits == 4 || bits == 8;
}

bool eq_qmatrix_fits(int64_t N, int64_t K, int64_t bits)
{
    return eq_qmatrix_has_bits(bits) && N * bits % 32 == 0 && K * bits % 32 == 0 &&
           (bits != 3 || (K % RUN == 0 && N % RUN == 0));
}

size_t eq_qmatrix_weight_bytes(int64_t N, int64_t K, int bits)
{
    return (size_t)(K * bits / 32 * N) * 4;
}

size_t eq_qmatrix_zero_bytes(int64_t N, int64_t K, int64_t g, int bits)
{
    return (size_t)(K / g * (N * bits / 32)) * 4;
}

size_t eq_qmatrix_scale_bytes(int64_t N, int64_t K, int64_t g)
{
    return (size_t)(K / g * N) * 2;
}

int64_t eq_qmatrix_stored_bits(int64_t N, int64_t K, int64_t g, int bits)
{
    return N * K * bits + N * (K / g) * (16 + bits);
}

static uint32_t word_at(const void *p, int64_t i)
{
    uint32_t w;
    memcpy(&w, (const char *)p + (size_t)i * 4, sizeof w);
    return w;
}

/* Where field i of a stream begins. */
typedef struct place {
    int64_t word;
    int shift;
} place;

static place place_of(const eq_qmatrix *q, int64_t i)
{
    if (!q->padded) return (place){i * q->bits / 32, (int)(i * q->bits % 32)};
    int fields = 32 / q->bits;
    return (place){i / fields, (int)(i % fields) * q->bits};
}

int64_t eq_qmatrix_words(const eq_qmatrix *q, int64_t n)
{
    if (!q->padded) return (n * q->bits + 31) / 32;
    int fields = 32 / q->bits;
    return (n + fields - 1) / fields;
}

size_t eq_qmatrix_bytes(const eq_qmatrix *q)
{
    return (size_t)(eq_qmatrix_words(q, q->K) * q->N) * 4;
}

/* Field i of a stream whose words are `stride` words apart. */
static uint32_t field_at(const eq_qmatrix *q, const void *words, int64_t start, int64_t stride,
                         int64_t i)
{
    place p = place_of(q, i);
    uint32_t value = word_at(words, start + p.word * stride) >> p.shift;
    if (p.shift + q->bits > 32)
        value |= word_at(words, start + (p.word + 1) * stride) << (32 - p.shift);
    return value & ((1u << q->bits) - 1);
}

static uint32_t code_at(const eq_qmatrix *q, int64_t row, int64_t k)
{
    return field_at(q, q->qweight, row, q->N, k);
}

static float scale_at(const eq_qmatrix *q, int64_t group, int64_t row)
{
    float s = 0;
    size_t at = (size_t)(group * q->N + row) * eq_elem_bytes(q->scale_type);
    eq_dtype_to_f32(&s, (const char *)q->scales + at, q->scale_type, 1);
    return s;
}

/* Zero points of format 1 are stored less one. Where no field crosses a word, its writers subtract
 * from whole words, so that the field of a zero point 0 borrows from the next one, and its readers
 * add to whole words, which undoes that. At 3 bits each field wraps by itself. */
static float zero_at(const eq_qmatrix *q, int64_t group, int64_t row)
{
    uint32_t mask = (1u << q->bits) - 1, one = (uint32_t)q->zero_offset;
    int64_t start = group * eq_qmatrix_words(q, q->N);
    if (q->bits == 3) return (float)((field_at(q, q->qzeros, start, 1, row) + one) & mask);
    place p = place_of(q, row);
    uint32_t word = word_at(q->qzeros, start + p.word);
    if (one) word += UINT32_MAX / mask; /* in each field */
    return (float)(word >> p.shift & mask);
}

void eq_qmatrix_codes(uint8_t *codes, const eq_qmatrix *q, int64_t row)
{
    for (int64_t k = 0; k < q->K; k++)
        codes[k] = (uint8_t)code_at(q, row, k);
}

void eq_qmatrix_grid(float *s, float *z, const eq_qmatrix *q, int64_t row)
{
    for (int64_t k = 0; k < q->K / q->g; k++) {
        s[k] = scale_at(q, k, row);
        z[k] = zero_at(q, k, row);
    }
}

/* Codes of RUN columns from k on and BLOCK rows from row on: codes [RUN][BLOCK]. `bits` is a
 * constant in each caller. */
static inline void run_codes(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, int64_t row,
                             int64_t k, int bits)
{
    uint32_t words[9][BLOCK] = {{0}};
    const char *base = (const char *)q->qweight + (size_t)(k * bits / 32 * q->N + row) * 4;
    for (int w = 0; w < bits; w++)
        memcpy(words[w], base + (size_t)(w * q->N) * 4, sizeof words[w]);
    uint32_t mask = (1u << bits) - 1;
    for (int j = 0; j < RUN; j++) {
        int word = j * bits / 32, shift = j * bits % 32;
        bool split = shift + bits > 32;
        for (int r = 0; r < BLOCK; r++) {
            uint32_t v = words[word][r] >> shift;
            if (split) v |= words[word + 1][r] << (32 - shift);
            codes[j][r] = v & mask;
        }
    }
}

/* The same of padded words, which do not end where a run does. They are read in place like all
 * others: packed again as a stream they would be as fast as that, but take 3 bits of memory per
 * weight beside a file that is mapped anyway. */
static void padded_codes(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, int64_t row, int64_t k)
{
    uint32_t words[BLOCK], mask = (1u << q->bits) - 1;
    for (int j = 0; j < RUN; j++) {
        place p = place_of(q, k + j);
        memcpy(words, (const char *)q->qweight + (size_t)(p.word * q->N + row) * 4, sizeof words);
        for (int r = 0; r < BLOCK; r++)
            codes[j][r] = words[r] >> p.shift & mask;
    }
}

static void any_codes(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, int64_t row, int64_t k)
{
    if (q->padded)
        padded_codes(codes, q, row, k);
    else if (q->bits == 2)
        run_codes(codes, q, row, k, 2);
    else if (q->bits == 3)
        run_codes(codes, q, row, k, 3);
    else if (q->bits == 4)
        run_codes(codes, q, row, k, 4);
    else
        run_codes(codes, q, row, k, 8);
}

void eq_qmatrix_grid_at(float *s, float *z, const eq_qmatrix *q, int64_t row, int64_t group)
{
    *s = scale_at(q, group, row);
    *z = zero_at(q, group, row);
}

void eq_qmatrix_tile(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, int64_t row, int rows,
                     int64_t k, int columns)
{
    if (rows == BLOCK && columns == RUN && k % RUN == 0) {
        any_codes(codes, q, row, k);
        return;
    }
    for (int c = 0; c < columns; c++)
        for (int r = 0; r < rows; r++)
            codes[c][r] = code_at(q, row + r, k + c);
}

static void store(void *out, eq_dtype type, int64_t i, float w)
{
    if (type == EQ_F32)
        ((float *)out)[i] = w;
    else
        ((uint16_t *)out)[i] = eq_f32_bf16(w);
}

/* One row at a time, any sizes. */
static void unpack_row(void *out, eq_dtype type, const eq_qmatrix *q, int64_t row)
{
    for (int64_t group = 0; group < q->K / q->g; group++) {
        float s = scale_at(q, group, row), z = zero_at(q, group, row);
        for (int64_t k = group * q->g; k < (group + 1) * q->g; k++)
            store(out, type, k, ((float)code_at(q, row, k) - z) * s);
    }
}

/* BLOCK rows, when groups are whole runs. */
static void unpack_block(void *out, eq_dtype type, const eq_qmatrix *q, int64_t row)
{
    uint32_t codes[RUN][BLOCK];
    float s[BLOCK], z[BLOCK];
    for (int64_t k = 0; k < q->K; k += RUN) {
        for (int r = 0; r < BLOCK && k % q->g == 0; r++) {
            s[r] = scale_at(q, k / q->g, row + r);
            z[r] = zero_at(q, k / q->g, row + r);
        }
        any_codes(codes, q, row, k);
        for (int r = 0; r < BLOCK; r++) {
            float w[RUN];
            for (int j = 0; j < RUN; j++)
                w[j] = ((float)(int32_t)codes[j][r] - z[r]) * s[r];
            for (int j = 0; j < RUN; j++)
                store(out, type, r * q->K + k + j, w[j]);
        }
    }
}

void eq_qmatrix_unpack(void *out, eq_dtype type, const eq_qmatrix *q, int64_t row0, int64_t rows)
{
    size_t row_bytes = (size_t)q->K * (type == EQ_F32 ? 4 : 2);
    bool blocks = q->K % RUN == 0 && q->g % RUN == 0;
    for (int64_t r = 0; r < rows;) {
        char *to = (char *)out + (size_t)r * row_bytes;
        bool block = blocks && rows - r >= BLOCK;
        if (block)
            unpack_block(to, type, q, row0 + r);
        else
            unpack_row(to, type, q, row0 + r);
        r += block ? BLOCK : 1;
    }
}

static void put_field(uint32_t *words, int64_t start, int64_t stride, int64_t i, int bits,
                      uint32_t v)
{
    int64_t bit = i * bits, word = bit / 32;
    int shift = (int)(bit % 32);
    words[start + word * stride] |= v << shift;
    if (shift + bits > 32) words[start + (word + 1) * stride] |= v >> (32 - shift);
}

void eq_qmatrix_pack(void *qweight, void *qzeros, void *scales, const uint8_t *codes,
                     const uint8_t *zeros, const float *s, const eq_qmatrix *q)
{
    int64_t groups = q->K / q->g, width = q->N * q->bits / 32;
    uint32_t *weight = qweight, *zero = qzeros;
    uint16_t *scale = scales;
    memset(qweight, 0, eq_qmatrix_weight_bytes(q->N, q->K, q->bits));
    memset(qzeros, 0, eq_qmatrix_zero_bytes(q->N, q->K, q->g, q->bits));
    for (int64_t n = 0; n < q->N; n++) {
        for (int64_t k = 0; k < q->K; k++)
            put_field(weight, n, q->N, k, q->bits, codes[n * q->K + k]);
        for (int64_t k = 0; k < groups; k++) {
            put_field(zero, k * width, 1, n, q->bits, (uint32_t)(zeros[n * groups + k]));
            scale[k * q->N + n] = eq_f32_f16(s[n * groups + k]);
        }
    }
}
