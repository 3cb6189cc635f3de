/* The GPTQ layout, against a model of it that sets and reads single bits. */
#include "base/rng.h"
#include "tensor/qmatrix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const int BITS[] = {2, 3, 4, 8};
enum { KINDS = sizeof BITS / sizeof *BITS, GUARD = 16, MARK = 0xa5 };

/* A matrix in plain arrays and packed, in memory that is not aligned to its words. */
typedef struct sample {
    eq_qmatrix q;
    int64_t groups;
    uint8_t *codes, *zeros; /* [N, K], [N, groups] */
    float *scales;          /* [N, groups] */
    uint8_t *memory[3];     /* of qweight, qzeros, scales, each GUARD bytes into the block */
    size_t sizes[3];
} sample;

static uint8_t *guarded(size_t size)
{
    uint8_t *p = malloc(size + 2 * GUARD + 1);
    assert_non_null(p);
    memset(p, MARK, size + 2 * GUARD + 1);
    return p;
}

static void sample_init(sample *s, int64_t N, int64_t K, int64_t g, int bits)
{
    *s = (sample){.q = {.bits = bits, .N = N, .K = K, .g = g, .scale_type = EQ_F16},
                  .groups = K / g};
    s->codes = malloc((size_t)(N * K));
    s->zeros = malloc((size_t)(N * s->groups));
    s->scales = malloc((size_t)(N * s->groups) * sizeof *s->scales);
    eq_rng rng;
    eq_rng_init(&rng, 3, (uint64_t)(bits * 1000 + N));
    for (int64_t i = 0; i < N * K; i++)
        s->codes[i] = (uint8_t)eq_rng_below(&rng, (uint64_t)1 << bits);
    for (int64_t i = 0; i < N * s->groups; i++) {
        s->zeros[i] = (uint8_t)eq_rng_below(&rng, (uint64_t)1 << bits);
        s->scales[i] = eq_f16_f32((uint16_t)(0x1400 + eq_rng_below(&rng, 0x1000)));
    }
    s->sizes[0] = eq_qmatrix_weight_bytes(N, K, bits);
    s->sizes[1] = eq_qmatrix_zero_bytes(N, K, g, bits);
    s->sizes[2] = eq_qmatrix_scale_bytes(N, K, g);
    for (int i = 0; i < 3; i++)
        s->memory[i] = guarded(s->sizes[i]);
}

/* Pack into aligned memory, then move the bytes to odd addresses. */
static void sample_pack(sample *s)
{
    uint8_t *aligned[3];
    for (int i = 0; i < 3; i++)
        aligned[i] = guarded(s->sizes[i]);
    eq_qmatrix_pack(aligned[0] + GUARD, aligned[1] + GUARD, aligned[2] + GUARD, s->codes, s->zeros,
                    s->scales, &s->q);
    for (int i = 0; i < 3; i++) {
        for (size_t b = 0; b < GUARD; b++) {
            assert_int_equal(aligned[i][b], MARK);
            assert_int_equal(aligned[i][GUARD + s->sizes[i] + b], MARK);
        }
        memcpy(s->memory[i] + GUARD + 1, aligned[i] + GUARD, s->sizes[i]);
        free(aligned[i]);
    }
    s->q.qweight = s->memory[0] + GUARD + 1;
    s->q.qzeros = s->memory[1] + GUARD + 1;
    s->q.scales = s->memory[2] + GUARD + 1;
}

static void sample_deinit(sample *s)
{
    free(s->codes);
    free(s->zeros);
    free(s->scales);
    for (int i = 0; i < 3; i++)
        free(s->memory[i]);
}

/* Bit b of word w of a little-endian array of 32-bit words. */
static int bit_of(const void *words, int64_t w, int64_t b)
{
    return ((const uint8_t *)words)[4 * w + b / 8] >> (b % 8) & 1;
}

/* Field i of column n of words [.., N]: its bit j is bit i * bits + j of the column's stream. */
static int field_model(const void *words, int64_t N, int64_t n, int64_t i, int bits)
{
    int value = 0;
    for (int64_t j = 0; j < bits; j++) {
        int64_t bit = i * bits + j;
        value |= bit_of(words, bit / 32 * N + n, bit % 32) << j;
    }
    return value;
}

/* Every stored bit is where the layout says. */
static void packing_follows_the_layout(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        sample s;
        int bits = BITS[k];
        sample_init(&s, 96, 64, 32, bits);
        sample_pack(&s);
        int64_t zero_words = s.q.N * bits / 32;
        for (int64_t n = 0; n < s.q.N; n++) {
            for (int64_t i = 0; i < s.q.K; i++)
                assert_int_equal(field_model(s.q.qweight, s.q.N, n, i, bits),
                                 s.codes[n * s.q.K + i]);
            for (int64_t i = 0; i < s.groups; i++) {
                const uint8_t *row = (const uint8_t *)s.q.qzeros + 4 * i * zero_words;
                assert_int_equal(field_model(row, 1, 0, n, bits), s.zeros[n * s.groups + i]);
                uint16_t h;
                memcpy(&h, (const uint8_t *)s.q.scales + 2 * (i * s.q.N + n), sizeof h);
                assert_true(eq_f16_f32(h) == s.scales[n * s.groups + i]);
            }
        }
        sample_deinit(&s);
    }
}

/* Words written down by hand: value i at bit 3 i of the 96; 10 and 21 cross into the next word. */
static void three_bits_cross_words(void **state)
{
    (void)state;
    uint8_t codes[32 * 32] = {0}, zeros[32] = {0};
    float scales[32];
    uint32_t weight[3 * 32], zero[3];
    uint16_t scale[32];
    eq_qmatrix q = {.bits = 3, .N = 32, .K = 32, .g = 32};
    for (int i = 0; i < 32; i++)
        scales[i] = 1;
    codes[10] = 7;      /* row 0 */
    codes[32 + 21] = 5; /* row 1 */
    zeros[10] = zeros[31] = 6;
    eq_qmatrix_pack(weight, zero, scale, codes, zeros, scales, &q);
    assert_int_equal(weight[0], 0xc0000000); /* bits 30 and 31 */
    assert_int_equal(weight[32], 1);         /* bit 32 */
    assert_int_equal(weight[32 + 1], 0x80000000);
    assert_int_equal(weight[64 + 1], 2); /* 5 = 101b: bit 63, then 64 and 65 */
    assert_int_equal(zero[0], 0x80000000);
    assert_int_equal(zero[1], 1);
    assert_int_equal(zero[2], 0xc0000000);
}

/* (q - z) * s of the plain arrays, rounded once. */
static float weight_of(const sample *s, int64_t n, int64_t k)
{
    int64_t group = n * s->groups + k / s->q.g;
    int z = s->zeros[group];
    return (float)(s->codes[n * s->q.K + k] - z) * s->scales[group];
}

/* Store the zero points as format 1 does: whole words less a one in each field; at 3 bits each field
 * less one, modulo 8. */
static void less_one(sample *s)
{
    eq_qmatrix *q = &s->q;
    uint8_t *zeros = s->memory[1] + GUARD + 1;
    uint32_t ones[] = {0, 0, 0x55555555, 0, 0x11111111, 0, 0, 0, 0x01010101};
    for (size_t w = 0; q->bits != 3 && w < s->sizes[1] / 4; w++) {
        uint32_t word;
        memcpy(&word, zeros + 4 * w, sizeof word);
        word -= ones[q->bits];
        memcpy(zeros + 4 * w, &word, sizeof word);
    }
    if (q->bits == 3) {
        for (int64_t i = 0; i < q->N * s->groups; i++)
            s->zeros[i] = (s->zeros[i] + 7) % 8;
        sample_pack(s);
        for (int64_t i = 0; i < q->N * s->groups; i++)
            s->zeros[i] = (s->zeros[i] + 1) % 8;
    }
    q->layout.zero_offset = 1;
}

/* Rows row0 .. in both types; what lies behind them is not touched. */
static void check_unpack(const sample *s, int64_t row0, int64_t rows)
{
    int64_t K = s->q.K;
    for (int t = 0; t < 2; t++) {
        eq_dtype type = t ? EQ_BF16 : EQ_F32;
        size_t size = eq_dtype_bytes(type, rows * K);
        uint8_t *out = guarded(size);
        eq_qmatrix_unpack(out + GUARD, type, &s->q, row0, rows);
        for (int64_t i = 0; i < rows * K; i++) {
            float want = weight_of(s, row0 + i / K, i % K), got;
            eq_dtype_to_f32(&got, out + GUARD + eq_dtype_bytes(type, i), type, 1);
            if (t) want = eq_bf16_f32(eq_f32_bf16(want));
            if (got != want)
                fail_msg("%d bits, group %d, row %d, column %d: %g, expected %g", s->q.bits,
                         (int)s->q.g, (int)(row0 + i / K), (int)(i % K), (double)got, (double)want);
        }
        for (size_t b = 0; b < GUARD; b++) {
            assert_int_equal(out[b], MARK);
            assert_int_equal(out[GUARD + size + b], MARK);
        }
        free(out);
    }
}

/* Groups of whole runs of 32, parts of one and whole rows; any piece of the rows. */
static void unpacking(void **state)
{
    (void)state;
    static const struct {
        int64_t N, K, g;
        int bits; /* 0: all of them */
    } SHAPES[] = {{64, 192, 32, 0}, {96, 128, 64, 0}, {32, 96, 96, 0},
                  {64, 64, 16, 0},  {32, 64, 8, 0},   {16, 48, 48, 2},
                  {8, 24, 8, 4},    {4, 4, 2, 8},     {32, 320, 160, 3}};
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        for (int k = 0; k < KINDS; k++) {
            if (SHAPES[i].bits && SHAPES[i].bits != BITS[k]) continue;
            sample s;
            sample_init(&s, SHAPES[i].N, SHAPES[i].K, SHAPES[i].g, BITS[k]);
            assert_true(eq_qmatrix_fits(s.q.N, s.q.K, s.q.bits));
            sample_pack(&s);
            int64_t N = s.q.N;
            check_unpack(&s, 0, N);
            check_unpack(&s, N - 1, 1);
            check_unpack(&s, N / 4 + 1, N / 2);
            check_unpack(&s, 0, 0);
            less_one(&s);
            check_unpack(&s, 0, N);
            sample_deinit(&s);
        }
    }
}

static void codes_of_a_row(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        sample s;
        uint8_t codes[97];
        sample_init(&s, 32, 96, 32, BITS[k]);
        sample_pack(&s);
        for (int64_t n = 0; n < s.q.N; n++) {
            memset(codes, MARK, sizeof codes);
            eq_qmatrix_codes(codes, &s.q, n);
            assert_memory_equal(codes, s.codes + n * s.q.K, 96);
            assert_int_equal(codes[96], MARK);
        }
        sample_deinit(&s);
    }
}

/* One zero point, then another one in any place. */
static void one_zero_point(void **state)
{
    (void)state;
    for (int b = 0; b < KINDS; b++) {
        sample s;
        float z;
        sample_init(&s, 64, 96, 32, BITS[b]);
        const int64_t n = 64 * s.groups;
        for (int64_t odd = -1; odd < n; odd++) {
            memset(s.zeros, 2, (size_t)n);
            if (odd >= 0) s.zeros[odd] = 1;
            sample_pack(&s);
            assert_int_equal(eq_qmatrix_one_zero(&s.q, &z), odd < 0);
            assert_true(z == (odd == 0 ? 1 : 2));
        }
        sample_deinit(&s);
    }
}

static void shapes_that_fit(void **state)
{
    (void)state;
    assert_true(eq_qmatrix_fits(16, 16, 2));
    assert_true(eq_qmatrix_fits(8, 8, 4));
    assert_true(eq_qmatrix_fits(4, 4, 8));
    assert_true(eq_qmatrix_fits(32, 96, 3));
    assert_false(eq_qmatrix_fits(8, 16, 2));
    assert_false(eq_qmatrix_fits(16, 8, 2));
    assert_false(eq_qmatrix_fits(4, 8, 4));
    assert_false(eq_qmatrix_fits(2, 4, 8));
    assert_false(eq_qmatrix_fits(16, 32, 3));
    assert_false(eq_qmatrix_fits(32, 16, 3));
    assert_int_equal(eq_qmatrix_weight_bytes(192, 576, 3), 192 * 576 * 3 / 8);
    assert_int_equal(eq_qmatrix_zero_bytes(192, 576, 64, 3), 192 * 9 * 3 / 8);
    assert_int_equal(eq_qmatrix_scale_bytes(192, 576, 64), 192 * 9 * 2);
    const eq_qmatrix stream = {.bits = 3, .N = 64, .K = 96}, odd = {.bits = 2, .N = 1, .K = 17};
    const eq_qmatrix padded = {.bits = 3, .N = 64, .K = 96, .layout = {.padded = true}};
    assert_int_equal(eq_qmatrix_words(&stream, 96), 9);
    assert_int_equal(eq_qmatrix_words(&padded, 96), 10);
    assert_int_equal(eq_qmatrix_words(&padded, 100), 10);
    assert_int_equal(eq_qmatrix_words(&padded, 101), 11);
    assert_int_equal(eq_qmatrix_words(&odd, 17), 2);
    assert_int_equal(eq_qmatrix_bytes(&padded), 10 * 64 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_follows_the_layout),
        cmocka_unit_test(three_bits_cross_words),
        cmocka_unit_test(unpacking),
        cmocka_unit_test(codes_of_a_row),
        cmocka_unit_test(one_zero_point),
        cmocka_unit_test(shapes_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
