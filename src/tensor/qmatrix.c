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

/* Where field i of a line begins. */
typedef struct place {
    int64_t word;
    int shift;
} place;

static place place_of(const eq_qmatrix *q, int64_t i)
{
    if (!q->layout.padded && !q->layout.interleaved)
        return (place){i * q->bits / 32, (int)(i * q->bits % 32)};
    int fields = 32 / q->bits, field = (int)(i % fields);
    if (q->layout.interleaved) field = field / 2 + field % 2 * 4;
    return (place){i / fields, field * q->bits};
}

int64_t eq_qmatrix_words(const eq_qmatrix *q, int64_t n)
{
    if (!q->layout.padded) return (n * q->bits + 31) / 32;
    int fields = 32 / q->bits;
    return (n + fields - 1) / fields;
}

/* Words of an array: from one line of fields to the next, and from one word of a line to the next.
 */
typedef struct steps {
    int64_t line, word;
} steps;

/* Lines of `words` words, `lines` of them: one after the other, or side by side. */
static steps steps_of(bool lines_first, int64_t lines, int64_t words)
{
    return lines_first ? (steps){words, 1} : (steps){1, lines};
}

static steps code_steps(const eq_qmatrix *q)
{
    bool across = q->layout.across;
    return steps_of(across != q->layout.rows_first, across ? q->K : q->N,
                    eq_qmatrix_words(q, across ? q->N : q->K));
}

static steps zero_steps(const eq_qmatrix *q)
{
    return steps_of(!q->layout.rows_first, q->K / q->g, eq_qmatrix_words(q, q->N));
}

/* The shape [K.., N..], or turned. */
static void put_shape(int64_t shape[2], const eq_qmatrix *q, int64_t along_k, int64_t along_n)
{
    shape[q->layout.rows_first] = along_k;
    shape[!q->layout.rows_first] = along_n;
}

eq_qshapes eq_qmatrix_shapes(const eq_qmatrix *q)
{
    int64_t groups = q->K / q->g, words = eq_qmatrix_words(q, q->N);
    eq_qshapes s;
    if (q->layout.across)
        put_shape(s.weight, q, q->K, words);
    else
        put_shape(s.weight, q, eq_qmatrix_words(q, q->K), q->N);
    put_shape(s.zeros, q, groups, words);
    put_shape(s.scales, q, groups, q->N);
    return s;
}

size_t eq_qmatrix_bytes(const eq_qmatrix *q)
{
    bool across = q->layout.across;
    return (size_t)((across ? q->K : q->N) * eq_qmatrix_words(q, across ? q->N : q->K)) * 4;
}

int64_t eq_qmatrix_group(const eq_qmatrix *q, int64_t k)
{
    return q->order ? word_at(q->order, k) : k / q->g;
}

/* Field i of a line of which word 0 is at `start`. */
static uint32_t field_at(const eq_qmatrix *q, const void *words, int64_t start, int64_t stride,
                         int64_t i)
{
    place p = place_of(q, i);
    uint32_t value = word_at(words, start + p.word * stride) >> p.shift;
    if (p.shift + q->bits > 32)
        value |= word_at(words, start + (p.word + 1) * stride) << (32 - p.shift);
    return value & ((1u << q->bits) - 1);
}

float eq_qmatrix_scale_at(const eq_qmatrix *q, int64_t row, int64_t group)
{
    float s = 0;
    int64_t i = q->layout.rows_first ? row * (q->K / q->g) + group : group * q->N + row;
    if (q->scale_type == EQ_F16) {
        uint16_t half;
        memcpy(&half, (const char *)q->scales + i * 2, sizeof half);
        return eq_f16_f32(half);
    }
    size_t at = (size_t)i * eq_elem_bytes(q->scale_type);
    eq_dtype_to_f32(&s, (const char *)q->scales + at, q->scale_type, 1);
    return s;
}

/* Zero points of format 1 are stored less one. Where no field crosses a word, its writers subtract
 * from whole words, so that the field of a zero point 0 borrows from the next one, and its readers
 * add to whole words, which undoes that. At 3 bits each field wraps by itself. */
float eq_qmatrix_zero_at(const eq_qmatrix *q, int64_t row, int64_t group)
{
    uint32_t mask = (1u << q->bits) - 1, one = (uint32_t)q->layout.zero_offset;
    const steps t = zero_steps(q);
    if (!q->qzeros) return (float)(1u << (q->bits - 1));
    if (!one || q->bits == 3)
        return (float)((field_at(q, q->qzeros, group * t.line, t.word, row) + one) & mask);
    place p = place_of(q, row);
    uint32_t word = word_at(q->qzeros, group * t.line + p.word * t.word) + UINT32_MAX / mask;
    return (float)(word >> p.shift & mask);
}

static uint32_t code_at(const eq_qmatrix *q, int64_t row, int64_t k)
{
    const steps t = code_steps(q);
    bool across = q->layout.across;
    return field_at(q, q->qweight, (across ? k : row) * t.line, t.word, across ? row : k);
}

void eq_qmatrix_codes(uint8_t *codes, const eq_qmatrix *q, int64_t row)
{
    for (int64_t k = 0; k < q->K; k++)
        codes[k] = (uint8_t)code_at(q, row, k);
}

void eq_qmatrix_grid(float *s, float *z, const eq_qmatrix *q, int64_t row)
{
    for (int64_t k = 0; k < q->K / q->g; k++) {
        s[k] = eq_qmatrix_scale_at(q, row, k);
        z[k] = eq_qmatrix_zero_at(q, row, k);
    }
}

/* Word `word` of lines line .. line+BLOCK-1. */
static inline void load_words(uint32_t words[BLOCK], const eq_qmatrix *q, const steps *t,
                              int64_t line, int64_t word)
{
    const char *from = (const char *)q->qweight + (size_t)(line * t->line + word * t->word) * 4;
    if (t->line == 1) {
        memcpy(words, from, BLOCK * sizeof *words);
        return;
    }
    for (int r = 0; r < BLOCK; r++)
        words[r] = word_at(from, r * t->line);
}

/* Codes of RUN columns from k on and BLOCK rows from row on: codes [RUN][BLOCK]. `bits` is a
 * constant in each caller. */
static inline void run_codes(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, const steps *t,
                             int64_t row, int64_t k, int bits)
{
    uint32_t words[9][BLOCK] = {{0}};
    for (int w = 0; w < bits; w++)
        load_words(words[w], q, t, row, k * bits / 32 + w);
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
static void padded_codes(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, const steps *t,
                         int64_t row, int64_t k)
{
    uint32_t words[BLOCK], mask = (1u << q->bits) - 1;
    place p = place_of(q, k);
    for (int j = 0; j < RUN; j++) {
        if (j == 0 || p.shift == 0) load_words(words, q, t, row, p.word);
        for (int r = 0; r < BLOCK; r++)
            codes[j][r] = words[r] >> p.shift & mask;
        p.shift += q->bits;
        if (p.shift + q->bits > 32) p = (place){p.word + 1, 0};
    }
}

/* The same of words along N, in which a row has one place. */
static void across_codes(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, const steps *t,
                         int64_t row, int64_t k)
{
    uint32_t mask = (1u << q->bits) - 1;
    for (int r = 0; r < BLOCK; r++) {
        place p = place_of(q, row + r);
        int64_t first = k * t->line + p.word * t->word;
        for (int j = 0; j < RUN; j++)
            codes[j][r] = word_at(q->qweight, first + j * t->line) >> p.shift & mask;
    }
}

static void any_codes(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, const steps *t, int64_t row,
                      int64_t k)
{
    if (q->layout.across)
        across_codes(codes, q, t, row, k);
    else if (q->layout.padded)
        padded_codes(codes, q, t, row, k);
    else if (q->bits == 2)
        run_codes(codes, q, t, row, k, 2);
    else if (q->bits == 3)
        run_codes(codes, q, t, row, k, 3);
    else if (q->bits == 4)
        run_codes(codes, q, t, row, k, 4);
    else
        run_codes(codes, q, t, row, k, 8);
}

/* Whether all words of the zero points repeat the first ones, those of the first RUN fields at
 * most. Looking at words is quick, and says so of most matrices that have one zero point. */
static bool zero_words_repeat(const eq_qmatrix *q)
{
    const int64_t words = eq_qmatrix_words(q, q->N), all = words * (q->K / q->g);
    const int64_t period = q->bits == 3 && !q->layout.padded ? 3 : 1;
    if (period > 1 && (words % period || zero_steps(q).word != 1)) return false;
    return !memcmp(q->qzeros, (const char *)q->qzeros + period * 4, (size_t)(all - period) * 4);
}

bool eq_qmatrix_one_zero(const eq_qmatrix *q, float *z)
{
    *z = eq_qmatrix_zero_at(q, 0, 0);
    if (!q->qzeros) return true;
    const bool repeat = zero_words_repeat(q);
    const int64_t groups = repeat ? 1 : q->K / q->g, rows = repeat && q->N > RUN ? RUN : q->N;
    for (int64_t k = 0; k < groups; k++)
        for (int64_t n = 0; n < rows; n++)
            if (eq_qmatrix_zero_at(q, n, k) != *z) return false;
    return true;
}

void eq_qmatrix_tile(uint32_t codes[RUN][BLOCK], const eq_qmatrix *q, int64_t row, int rows,
                     int64_t k, int columns)
{
    if (rows == BLOCK && columns == RUN && k % RUN == 0) {
        const steps t = code_steps(q);
        any_codes(codes, q, &t, row, k);
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
    float s = 0, z = 0;
    for (int64_t k = 0, last = -1; k < q->K; k++) {
        int64_t group = eq_qmatrix_group(q, k);
        if (group != last) {
            s = eq_qmatrix_scale_at(q, row, group);
            z = eq_qmatrix_zero_at(q, row, group);
            last = group;
        }
        store(out, type, k, ((float)code_at(q, row, k) - z) * s);
    }
}

/* Scales and zero points of BLOCK rows for the groups used last. In activation order any column may
 * be of any group; most matrices have no more groups than there are places. */
enum { PLACES = 64 };
typedef struct grids {
    int64_t group[PLACES]; /* one more than the group, 0: none */
    float s[PLACES][BLOCK], z[PLACES][BLOCK];
} grids;

static int find_grid(grids *found, const eq_qmatrix *q, int64_t row, int64_t group)
{
    int at = (int)(group % PLACES);
    for (int r = 0; r < BLOCK && found->group[at] != group + 1; r++) {
        found->s[at][r] = eq_qmatrix_scale_at(q, row + r, group);
        found->z[at][r] = eq_qmatrix_zero_at(q, row + r, group);
    }
    found->group[at] = group + 1;
    return at;
}

/* BLOCK rows, when groups are whole runs or in activation order. */
static void unpack_block(void *out, eq_dtype type, const eq_qmatrix *q, int64_t row)
{
    uint32_t codes[RUN][BLOCK];
    grids found = {.group = {0}};
    const steps t = code_steps(q);
    for (int64_t k = 0; k < q->K; k += RUN) {
        int at = q->order ? 0 : find_grid(&found, q, row, k / q->g);
        any_codes(codes, q, &t, row, k);
        for (int j = 0; j < RUN; j++) {
            if (q->order) at = find_grid(&found, q, row, eq_qmatrix_group(q, k + j));
            for (int r = 0; r < BLOCK; r++)
                store(out, type, r * q->K + k + j,
                      ((float)(int32_t)codes[j][r] - found.z[at][r]) * found.s[at][r]);
        }
    }
}

void eq_qmatrix_unpack(void *out, eq_dtype type, const eq_qmatrix *q, int64_t row0, int64_t rows)
{
    size_t row_bytes = (size_t)q->K * (type == EQ_F32 ? 4 : 2);
    bool blocks = q->K % RUN == 0 && (q->order || q->g % RUN == 0);
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

static void put_field(const eq_qmatrix *q, uint32_t *words, int64_t start, int64_t stride,
                      int64_t i, uint32_t v)
{
    place p = place_of(q, i);
    words[start + p.word * stride] |= v << p.shift;
    if (p.shift + q->bits > 32) words[start + (p.word + 1) * stride] |= v >> (32 - p.shift);
}

static void pack_zeros(uint32_t *words, const uint8_t *zeros, const eq_qmatrix *q)
{
    const eq_qshapes shapes = eq_qmatrix_shapes(q);
    const steps t = zero_steps(q);
    int64_t groups = q->K / q->g, count = shapes.zeros[0] * shapes.zeros[1];
    uint32_t mask = (1u << q->bits) - 1;
    /* As eq_qmatrix_zero_at undoes it. */
    uint32_t each = q->bits == 3 ? (uint32_t)q->layout.zero_offset : 0;
    uint32_t all = q->bits != 3 && q->layout.zero_offset ? UINT32_MAX / mask : 0;
    memset(words, 0, (size_t)count * sizeof *words);
    for (int64_t n = 0; n < q->N; n++)
        for (int64_t k = 0; k < groups; k++)
            put_field(q, words, k * t.line, t.word, n, (zeros[n * groups + k] - each) & mask);
    for (int64_t i = 0; i < count; i++)
        words[i] -= all;
}

void eq_qmatrix_pack(void *qweight, void *qzeros, void *scales, const uint8_t *codes,
                     const uint8_t *zeros, const float *s, const eq_qmatrix *q)
{
    int64_t groups = q->K / q->g;
    bool across = q->layout.across;
    const steps t = code_steps(q);
    uint16_t *scale = scales;
    memset(qweight, 0, eq_qmatrix_bytes(q));
    for (int64_t n = 0; n < q->N; n++) {
        for (int64_t k = 0; k < q->K; k++)
            put_field(q, qweight, (across ? k : n) * t.line, t.word, across ? n : k,
                      codes[n * q->K + k]);
        for (int64_t k = 0; k < groups; k++)
            scale[q->layout.rows_first ? n * groups + k : k * q->N + n] =
                eq_f32_f16(s[n * groups + k]);
    }
    if (qzeros) pack_zeros(qzeros, zeros, q);
}
