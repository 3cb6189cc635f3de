/* Every table of kernels against the reference, in one process: lengths around the widths of the
 * vectors, buffers that are not aligned, and both element types. */
#include "kernels/kernels.h"
#include "support_kernels.h"
#include "support_numbers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Two results that differ by a rounding of the f32 value before it: one unit of bf16. */
static const double BF16_UNIT = 0x1p-7;
/* A few roundings of f32 that one side has and the other not, as with fused multiply-add. */
static const double ROUNDINGS = 0x1p-21;
/* e^a: 2 units of the polynomial, 1 of the C library, and the rounding of an argument up to 16. */
static const double EXPONENTIAL = 3 * 0x1p-23 + 16 * 0x1p-24;

/* A sum in f32 of n terms of magnitude 1 or less. */
static double sum_bound(int64_t n)
{
    return (double)n * 0x1p-24;
}

static const int64_t LENGTHS[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 63, 65, 192, 576, 1536};
enum { LENGTH_COUNT = sizeof LENGTHS / sizeof *LENGTHS, EDGE = 37, LONGEST = 16384 };

/* The same numbers twice: one copy for the reference, one for the table under test. In front of and
 * behind the n elements lie EDGE others that no kernel may touch; EDGE is odd, so that the
 * elements are not aligned. */
typedef struct pair {
    eq_dtype type;
    int64_t n;
    char *copy[2];
} pair;

static pair pair_make(eq_dtype type, int64_t n, float low, float high, uint64_t stream)
{
    const int64_t all = n + 2 * EDGE;
    const size_t size = eq_dtype_bytes(type, all);
    pair p = {type, n, {test_malloc(size), test_malloc(size)}};
    float *values = test_malloc((size_t)all * sizeof *values);
    fill_uniform(values, all, low, high, stream);
    for (int64_t i = 0; i < all && type == EQ_BF16; i++)
        ((uint16_t *)(void *)p.copy[0])[i] = eq_f32_bf16(values[i]);
    if (type == EQ_F32) memcpy(p.copy[0], values, size);
    memcpy(p.copy[1], p.copy[0], size);
    test_free(values);
    return p;
}

/* The n elements of copy 0 or 1. */
static void *at(const pair *p, int which)
{
    return p->copy[which] + eq_dtype_bytes(p->type, EDGE);
}

/* Whether the second copy agrees with the first within the bounds, its edges exactly. */
static bool pair_agrees(const pair *p, double absolute, double relative)
{
    const int64_t all = p->n + 2 * EDGE;
    const size_t edge = eq_dtype_bytes(p->type, EDGE), end = eq_dtype_bytes(p->type, EDGE + p->n);
    if (memcmp(p->copy[0], p->copy[1], edge) || memcmp(p->copy[0] + end, p->copy[1] + end, edge))
        return false;
    float *value[2];
    for (int i = 0; i < 2; i++) {
        value[i] = test_malloc((size_t)all * sizeof(float));
        eq_dtype_to_f32(value[i], p->copy[i], p->type, all);
    }
    if (p->type == EQ_BF16) relative += BF16_UNIT;
    double worst = worst_error(value[1] + EDGE, value[0] + EDGE, p->n, absolute, relative);
    test_free(value[0]);
    test_free(value[1]);
    return worst <= 1;
}

static void pair_free(pair *p)
{
    test_free(p->copy[0]);
    test_free(p->copy[1]);
}

static void pair_check(pair *p, double absolute, double relative)
{
    assert_true(pair_agrees(p, absolute, relative));
    pair_free(p);
}

/* Reference or table under test. */
static const eq_kernels *pick(void **state, int which)
{
    return which ? *state : eq_kernels_get("ref");
}

static void wrong_values_are_seen(void **state)
{
    (void)state;
    pair p = pair_make(EQ_F32, 20, -1, 1, 1);
    float *second = at(&p, 1);
    assert_true(pair_agrees(&p, 1e-6, 1e-6));
    second[13] += 1e-4f;
    assert_false(pair_agrees(&p, 1e-6, 1e-6));
    second[13] = NAN;
    assert_false(pair_agrees(&p, 1e-6, 1e-6));
    memcpy(p.copy[1], p.copy[0], eq_dtype_bytes(EQ_F32, 20 + 2 * EDGE));
    second[20] = -second[20]; /* behind the end */
    assert_false(pair_agrees(&p, 1e-6, 1e-6));
    pair_free(&p);
}

static void conversions(void **state)
{
    for (int l = 0; l < LENGTH_COUNT; l++) {
        int64_t n = LENGTHS[l];
        pair wide = pair_make(EQ_F32, n, -3, 3, 2), half = pair_make(EQ_BF16, n, 0, 1, 3);
        pair back = pair_make(EQ_F32, n, 0, 1, 4), sum = pair_make(EQ_F32, n, 0, 1, 5);
        for (int i = 0; i < 2; i++) {
            float *x = at(&wide, i);
            x[n / 2] = n % 2 ? NAN : -INFINITY;
            pick(state, i)->f32_to_bf16(at(&half, i), x, n);
            pick(state, i)->bf16_to_f32(at(&back, i), at(&half, i), n);
            pick(state, i)->add(at(&sum, i), at(&wide, i), n);
        }
        assert_memory_equal(half.copy[0], half.copy[1], eq_dtype_bytes(EQ_BF16, n + EDGE));
        pair_check(&half, 0, 0);
        pair_check(&back, 0, 0);
        pair_check(&sum, 0, 0);
        pair_free(&wide);
    }
}

/* Random bytes, so every code and every kind of scale, at an odd address. */
static void check_unpack(void **state, eq_dtype in_type, eq_dtype out_type, int64_t n)
{
    size_t size = eq_dtype_bytes(in_type, n);
    uint8_t *bytes = test_malloc(size + 1);
    float *noise = test_malloc((size + 1) * sizeof *noise);
    fill_uniform(noise, (int64_t)size + 1, 0, 255.99f, 6);
    for (size_t i = 0; i <= size; i++)
        bytes[i] = (uint8_t)noise[i];
    pair out = pair_make(out_type, n, 0, 1, 7);
    for (int i = 0; i < 2; i++)
        pick(state, i)->unpack(at(&out, i), out_type, bytes + 1, in_type, n);
    assert_true(pair_agrees(&out, 0, out_type == EQ_BF16 ? -BF16_UNIT : 0));
    pair_free(&out);
    test_free(noise);
    test_free(bytes);
}

static void unpacking(void **state)
{
    const eq_dtype types[] = {EQ_F32,  EQ_F16,  EQ_BF16, EQ_Q8_0, EQ_Q4_0,
                              EQ_Q4_1, EQ_Q5_0, EQ_Q2_0, EQ_Q2_K, EQ_Q6_K};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        for (int l = 0; l < LENGTH_COUNT; l++) {
            int64_t n = LENGTHS[l] * eq_dtype_get(types[t])->block_elems;
            check_unpack(state, types[t], EQ_F32, n);
            check_unpack(state, types[t], EQ_BF16, n);
        }
    }
}

static void check_rmsnorm(void **state, int64_t C, eq_dtype type)
{
    enum { ROWS = 3 };
    pair x = pair_make(EQ_F32, ROWS * C, -1, 1, 8), w = pair_make(EQ_F32, C, 0.5f, 1, 9);
    pair y = pair_make(type, ROWS * C, 0, 1, 10), rstd = pair_make(EQ_F32, ROWS, 0, 1, 11);
    pair dy = pair_make(type, ROWS * C, -1, 1, 12), dx = pair_make(EQ_F32, ROWS * C, -1, 1, 13);
    pair dw = pair_make(EQ_F32, C, -1, 1, 14);
    for (int i = 0; i < 2; i++) {
        const eq_kernels *k = pick(state, i);
        k->rmsnorm_forward(at(&y, i), at(&rstd, i), at(&x, i), at(&w, i), ROWS, C, 1e-5f, type);
        k->rmsnorm_backward(at(&dx, i), at(&dw, i), at(&dy, i), at(&x, i), at(&w, i), at(&rstd, 0),
                            ROWS, C, type);
        k->rmsnorm_backward(NULL, at(&dw, i), at(&dy, i), at(&x, i), at(&w, i), at(&rstd, 0), ROWS,
                            C, type);
    }
    /* The scale 1 / |x| is at most 6 here when C = 1 and near 2 else; it multiplies twice. */
    const double large = 40 * (ROUNDINGS + sum_bound(C) / (double)C);
    pair_check(&rstd, 0, ROUNDINGS + sum_bound(C));
    pair_check(&y, 0, ROUNDINGS + sum_bound(C));
    pair_check(&dx, large, ROUNDINGS + sum_bound(C));
    pair_check(&dw, large, ROUNDINGS);
    pair_free(&x);
    pair_free(&w);
    pair_free(&dy);
}

static void check_rope(void **state, int64_t half, eq_dtype type)
{
    enum { ROWS = 3, HEADS = 2 };
    const int64_t D = 2 * half, ld = HEADS * D + 3;
    pair x = pair_make(type, ROWS * ld, -1, 1, 15);
    pair c = pair_make(EQ_F32, ROWS * half, -1, 1, 16),
         s = pair_make(EQ_F32, ROWS * half, -1, 1, 17);
    for (int i = 0; i < 2; i++)
        pick(state, i)->rope(at(&x, i), ld, at(&c, i), at(&s, i), ROWS, HEADS, D, -1, type);
    pair_check(&x, ROUNDINGS, ROUNDINGS);
    pair_free(&c);
    pair_free(&s);
}

static void check_swiglu(void **state, int64_t F, eq_dtype type)
{
    enum { ROWS = 2 };
    pair gu = pair_make(type, ROWS * 2 * F, -12, 12, 18), dy = pair_make(type, ROWS * F, -1, 1, 19);
    pair y = pair_make(type, ROWS * F, 0, 1, 20), again = pair_make(type, ROWS * F, 0, 1, 21);
    for (int i = 0; i < 2; i++) {
        const eq_kernels *k = pick(state, i);
        k->swiglu_forward(at(&y, i), at(&gu, i), ROWS, F, type);
        k->swiglu_backward(at(&gu, i), at(&again, i), at(&dy, i), ROWS, F, type);
        assert_memory_equal(at(&y, i), at(&again, i), eq_dtype_bytes(type, ROWS * F));
    }
    /* 1 + a (1 - g) cancels for negative a: the error is one of its terms, times dy u. */
    pair_check(&gu, 12 * 12 * ROUNDINGS, EXPONENTIAL);
    pair_check(&y, 0, EXPONENTIAL + ROUNDINGS);
    pair_free(&again);
    pair_free(&dy);
}

static void check_softmax(void **state, int64_t first, eq_dtype type)
{
    enum { ROWS = 3, MORE = 18 };
    const int64_t cols = first + ROWS + MORE, ld = cols + 1, n = ROWS * ld;
    pair s = pair_make(EQ_F32, n, -16, 16, 22), dp = pair_make(EQ_F32, n, -1, 1, 23);
    pair p = pair_make(type, n, 0, 1, 24), again = pair_make(type, n, 0, 1, 24);
    pair lse = pair_make(EQ_F32, ROWS, 0, 1, 25), delta = pair_make(EQ_F32, ROWS, -1, 1, 26);
    pair ds = pair_make(type, n, 0, 1, 27);
    const eq_causal tile = {ROWS, cols, ld, first, 0.5f, type};
    for (int i = 0; i < 2; i++) {
        const eq_kernels *k = pick(state, i);
        k->softmax_causal(at(&p, i), at(&lse, i), at(&s, i), &tile);
        k->softmax_causal_backward(at(&again, i), at(&ds, i), at(&s, i), at(&dp, i), at(&lse, i),
                                   at(&delta, i), &tile);
        assert_memory_equal(at(&p, i), at(&again, i), eq_dtype_bytes(type, n));
        /* In place, as attention does. */
        k->softmax_causal_backward(at(&s, i), at(&dp, i), at(&s, i), at(&dp, i), at(&lse, i),
                                   at(&delta, i), &tile);
        for (int64_t r = 0; r < ROWS; r++) {
            size_t row = eq_dtype_bytes(type, r * ld), size = eq_dtype_bytes(type, cols);
            assert_memory_equal((char *)at(&s, i) + row, (char *)at(&p, i) + row, size);
            assert_memory_equal((char *)at(&dp, i) + row, (char *)at(&ds, i) + row, size);
        }
    }
    pair_check(&lse, 0, EXPONENTIAL + sum_bound(cols));
    pair_check(&p, 0, 2 * EXPONENTIAL + sum_bound(cols));
    pair_check(&ds, 0, 2 * EXPONENTIAL + sum_bound(cols) + ROUNDINGS);
    pair_free(&again);
    pair_free(&s);
    pair_free(&dp);
    pair_free(&delta);
}

static void check_dots(void **state, int64_t n, eq_dtype type)
{
    enum { ROWS = 3, STRIDE = 2 };
    pair a = pair_make(type, ROWS * (n + 1), -1, 1, 28);
    pair b = pair_make(type, ROWS * (n + 3), -1, 1, 29);
    pair out = pair_make(EQ_F32, ROWS * STRIDE, 0, 1, 30);
    float squares[2];
    for (int i = 0; i < 2; i++) {
        const eq_kernels *k = pick(state, i);
        k->dot_rows(at(&out, i), STRIDE, at(&a, i), n + 1, at(&b, i), n + 3, ROWS, n, type);
        squares[i] = k->sum_squares(at(&a, i), n, type);
    }
    assert_float_equal(squares[0], squares[1], sum_bound(n));
    pair_check(&out, sum_bound(n), 0);
    pair_free(&a);
    pair_free(&b);
}

/* Values are 1 or less, so the result is off by as much as the probabilities are together. */
static void check_attend(void **state, int64_t heads, int64_t keys, int64_t D, eq_dtype type)
{
    const int64_t room = eq_key_room(keys);
    pair q = pair_make(type, heads * D, -1, 1, 60), k = pair_make(type, room * D, -1, 1, 61);
    const eq_dtype result = heads % 2 ? type : EQ_F32;
    pair v = pair_make(type, keys * D, -1, 1, 62), out = pair_make(result, heads * D, 0, 1, 63);
    pair lse = pair_make(EQ_F32, heads, 0, 1, 65);
    pair scratch = pair_make(EQ_F32, heads * (room + D), 0, 1, 64);
    const eq_attend shape = {heads, keys, D, 0.5f, type, result};
    for (int i = 0; i < 2; i++)
        pick(state, i)->attend(at(&out, i), at(&lse, i), at(&q, i), at(&k, i), at(&v, i),
                               at(&scratch, i), &shape);
    memcpy(at(&scratch, 1), at(&scratch, 0), eq_dtype_bytes(EQ_F32, scratch.n));
    pair_check(&scratch, 0, 0);
    /* A score below D / 2, and the logarithm of a sum. */
    pair_check(&lse, sum_bound(D) * (double)D + 2 * EXPONENTIAL + sum_bound(keys), ROUNDINGS);
    pair_check(&out, 2 * EXPONENTIAL + 2 * sum_bound(D) + sum_bound(keys), 0);
    pair_free(&q);
    pair_free(&k);
    pair_free(&v);
}

static void attend(void **state)
{
    const eq_dtype types[] = {EQ_F32, EQ_BF16};
    const int64_t sizes[] = {1, 7, 64, 100};
    for (int t = 0; t < 2; t++)
        for (int l = 0; l < LENGTH_COUNT; l++)
            for (int64_t heads = 1; heads <= 9; heads += heads < 5 ? 1 : 4)
                check_attend(state, heads, LENGTHS[l], sizes[l % 4], types[t]);
}

static void check_error_row(void **state, int64_t C, eq_dtype type)
{
    pair y = pair_make(EQ_F32, C, -0.5f, 0.5f, 31), t = pair_make(type, C, -0.5f, 0.5f, 32);
    float sum[2];
    for (int i = 0; i < 2; i++)
        sum[i] = pick(state, i)->error_row(at(&y, i), at(&y, i), at(&t, i), 0.3f, C, type);
    assert_float_equal(sum[0], sum[1], sum_bound(C));
    pair_check(&y, 0, 0);
    pair_free(&t);
}

static void rows(void **state)
{
    const eq_dtype types[] = {EQ_F32, EQ_BF16};
    for (int t = 0; t < 2; t++) {
        for (int l = 0; l < LENGTH_COUNT; l++) {
            check_rmsnorm(state, LENGTHS[l], types[t]);
            check_rope(state, LENGTHS[l], types[t]);
            check_swiglu(state, LENGTHS[l], types[t]);
            check_softmax(state, LENGTHS[l] - 1, types[t]);
            check_dots(state, LENGTHS[l], types[t]);
            check_error_row(state, LENGTHS[l], types[t]);
        }
    }
}

/* e^a over its whole range, through p = exp(s - lse) with lse = 0. */
static void exponentials(void **state)
{
    float *s = test_malloc(LONGEST * sizeof *s), *p[2];
    const float none = 0;
    for (int64_t i = 0; i < LONGEST; i++)
        s[i] = -110 + 200 * (float)i / LONGEST;
    s[3] = NAN;
    s[4] = -INFINITY;
    s[5] = INFINITY;
    s[6] = 0;
    const eq_causal tile = {1, LONGEST, LONGEST, LONGEST - 1, 1, EQ_F32};
    for (int i = 0; i < 2; i++) {
        p[i] = test_malloc(LONGEST * sizeof *s);
        float *ds = test_malloc(LONGEST * sizeof *s);
        pick(state, i)->softmax_causal_backward(p[i], ds, s, s, &none, &none, &tile);
        test_free(ds);
    }
    /* 2 units, and 1 of the smallest number below the normal range. */
    assert_true(worst_error(p[1], p[0], LONGEST, 0x1p-149, 0x1p-22) <= 1);
    assert_true(isnan(p[1][3]) && p[1][4] == 0 && isinf(p[1][5]) && p[1][6] == 1);
    test_free(p[0]);
    test_free(p[1]);
    test_free(s);
}

static void vocabulary(void **state)
{
    for (int l = 0; l <= LENGTH_COUNT; l++) {
        int64_t n = l < LENGTH_COUNT ? LENGTHS[l] : LONGEST, best[2];
        pair x = pair_make(EQ_F32, n, -8, 8, 33), r = pair_make(EQ_F32, n, -8, 8, 34);
        float lse[2], kl[2];
        for (int i = 0; i < 2; i++) {
            float *xi = at(&x, i);
            xi[n / 2] = xi[n - 1] = 8.5f; /* two of the largest */
            lse[i] = pick(state, i)->logsumexp(at(&x, i), n, &best[i]);
            kl[i] = pick(state, i)->kl_row(at(&r, i), lse[0] - 1, at(&x, i), lse[0], n);
        }
        assert_int_equal(best[0], n / 2);
        assert_int_equal(best[1], best[0]);
        assert_float_equal(lse[0], lse[1], 16 * (ROUNDINGS + sum_bound(n) / 8));
        /* sum of exp(r - lse) |difference| stays below 16 e. */
        assert_float_equal(kl[0], kl[1], 16 * 3 * (EXPONENTIAL + sum_bound(n) / 8));
        pair_free(&x);
        pair_free(&r);
    }
}

/* shape: that of one group; three are checked. */
static void check_fakequant(void **state, eq_quant_shape shape, eq_dtype type)
{
    enum { GROUPS = 3 };
    const int64_t g = shape.g;
    const bool symmetric = shape.symmetric;
    const float Q = (float)((1 << shape.bits) - 1);
    shape.K = GROUPS * g;
    pair w = pair_make(EQ_F32, shape.K, -1, 1, 35), y = pair_make(type, shape.K, 0, 1, 36);
    pair s = pair_make(EQ_F32, GROUPS, 1 / Q, 2.5f / Q, 37),
         ds = pair_make(EQ_F32, GROUPS, -1, 1, 38);
    pair z = pair_make(EQ_F32, GROUPS, -1, Q + 1, 39), dz = pair_make(EQ_F32, GROUPS, -1, 1, 40);
    pair dy = pair_make(EQ_F32, shape.K, -1, 1, 41);
    uint8_t *codes[2];
    for (int i = 0; i < 2; i++) {
        const eq_kernels *k = pick(state, i);
        float *scale = at(&s, i), *zero = at(&z, i);
        scale[1] = scale[1] < 0.3f ? 1e-5f : 0.25f; /* below the smallest, or full of ties */
        for (int j = 0; symmetric && j < GROUPS; j++) {
            scale[j] *= j ? -1.0f : 2.0f; /* levels go from -2^(bits-1) */
            zero[j] = (Q + 1) / 2;
        }
        k->fakequant_forward(at(&y, i), at(&w, i), scale, zero, &shape, type);
        k->fakequant_backward(at(&dy, i), at(&ds, i), at(&dz, i), at(&w, i), scale, zero, &shape);
        for (int j = 0; j < GROUPS && !shape.super; j++)
            zero[j] = rintf(fminf(fmaxf(zero[j], 0), Q));
        codes[i] = test_malloc((size_t)shape.K);
        k->quantize_codes(codes[i], at(&w, i), scale, zero, &shape);
    }
    assert_memory_equal(codes[0], codes[1], (size_t)shape.K);
    assert_memory_equal(y.copy[0], y.copy[1], eq_dtype_bytes(type, shape.K + EDGE));
    pair_check(&y, 0, 0);
    pair_check(&dy, 0, 0);
    pair_check(&ds, Q * sum_bound(g), ROUNDINGS); /* terms of up to Q */
    pair_check(&dz, sum_bound(g), ROUNDINGS);
    test_free(codes[0]);
    test_free(codes[1]);
    pair_free(&w);
    pair_free(&s);
    pair_free(&z);
}

/* The same start values on every CPU, bit by bit. */
static void check_search(void **state, eq_quant_shape shape, int scales)
{
    const int64_t g = shape.g;
    const eq_start_search search = {shape, scales, 0.3f, 1.1f, 1e-4f};
    pair w = pair_make(EQ_F32, g, -1, 1.5f, 42 + (uint64_t)g), h = pair_make(EQ_F32, g, 0, 2, 43);
    float found[2][3];
    for (int i = 0; i < 2; i++)
        found[i][2] =
            pick(state, i)->start_search(&found[i][0], &found[i][1], at(&w, i), at(&h, i), &search);
    assert_memory_equal(found[0], found[1], sizeof found[0]);
    pair_free(&w);
    pair_free(&h);
}

static void quantizers(void **state)
{
    const int bits[] = {2, 3, 4, 8};
    const eq_dtype supers[] = {EQ_Q2_K, EQ_Q3_K, EQ_Q4_K};
    for (int b = 0; b < 11; b++) {
        eq_quant_shape shape = {.g = 64, .bits = bits[b % 4], .symmetric = b >= 4 && b < 8};
        if (b >= 8) shape.super = supers[b - 8];
        check_search(state, shape, 33);
        for (int l = 0; l < LENGTH_COUNT; l++) {
            shape.g = LENGTHS[l];
            check_fakequant(state, shape, EQ_F32);
            check_fakequant(state, shape, EQ_BF16);
            check_search(state, shape, 1 + (int)(shape.g % 33));
        }
    }
}

/* Rows of frozen codes in groups that begin at bytes or not, the scales of either sign, the zero
 * points whole or, with super-blocks, not. */
static void check_codes(void **state, int64_t g, int bits, eq_dtype type, eq_dtype super)
{
    const int64_t groups = 24 / bits, K = groups * g; /* a whole number of bytes */
    const eq_quant_shape shape = {.K = K, .g = g, .bits = bits, .super = super};
    const size_t bytes = eq_codes_bytes(K, bits);
    uint8_t *codes = test_malloc((size_t)K), *packed = test_calloc(bytes + EQ_CODES_PAD + 1, 1);
    float *noise = test_malloc((size_t)K * sizeof *noise);
    fill_uniform(noise, K, 0, (float)(1 << bits) - 0.01f, 50);
    for (int64_t i = 0; i < K; i++)
        codes[i] = (uint8_t)noise[i];
    eq_codes_pack(packed + 1, codes, K, bits); /* at an odd address */
    for (int64_t i = 0; i < K; i++)
        assert_int_equal(eq_codes_get(packed + 1, i, bits), codes[i]);
    uint8_t whole[12];
    float real[12];
    for (int64_t k = 0; k < groups; k++) {
        whole[k] = (uint8_t)(k % (1 << bits));
        real[k] = (float)whole[k] + 0.3f;
    }
    const void *z = super ? (const void *)real : whole;
    pair s = pair_make(EQ_F32, groups, -0.1f, 0.1f, 51);
    pair y = pair_make(type, K, 0, 1, 53), dy = pair_make(EQ_F32, K, -1, 1, 54);
    pair ds = pair_make(EQ_F32, groups, -1, 1, 55);
    for (int i = 0; i < 2; i++) {
        pick(state, i)->dequantize(at(&y, i), packed + 1, at(&s, i), z, &shape, type);
        pick(state, i)->scale_gradient(at(&ds, i), at(&dy, i), packed + 1, z, &shape);
    }
    assert_memory_equal(y.copy[0], y.copy[1], eq_dtype_bytes(type, K + 2 * EDGE));
    pair_check(&ds, sum_bound(g) * (double)(1 << bits), ROUNDINGS);
    pair_free(&s);
    pair_free(&y);
    pair_free(&dy);
    test_free(codes);
    test_free(packed);
    test_free(noise);
}

static void frozen_codes(void **state)
{
    const int bits[] = {2, 3, 4, 8};
    for (int b = 0; b < 4; b++) {
        for (int l = 0; l < LENGTH_COUNT; l++) {
            check_codes(state, LENGTHS[l], bits[b], EQ_F32, EQ_F32);
            check_codes(state, LENGTHS[l], bits[b], EQ_BF16, EQ_F32);
            check_codes(state, LENGTHS[l], bits[b], EQ_F32, EQ_Q4_K);
        }
    }
}

/* Every set of terms of the gradient on logits. */
static void logit_gradients(void **state)
{
    const float weights[][3] = {{1, 0, 0}, {1, 1, 0}, {0.5f, 0.5f, 0.25f}, {1, 0, 1}, {0, 0, 1}};
    for (int l = 0; l < LENGTH_COUNT * 5; l++) {
        int64_t n = LENGTHS[l / 5];
        const float *c = weights[l % 5];
        const eq_softmax_error e = {2.5f, 2.25f, 4.5f, 2, c[0], c[1], c[2]};
        const eq_dtype type = l % 2 ? EQ_BF16 : EQ_F32;
        pair x = pair_make(EQ_F32, n, -4, 2, 56), r = pair_make(EQ_F32, n, -4, 2, 57);
        pair out = pair_make(type, n, 0, 1, 58);
        for (int i = 0; i < 2; i++)
            pick(state, i)->softmax_error(at(&out, i), at(&x, i), c[1] > 0 ? at(&r, i) : NULL, n,
                                          &e, type);
        /* the terms may cancel: their size, at most 2, bounds the error */
        pair_check(&out, 2 * EXPONENTIAL + (type == EQ_BF16 ? 2 * BF16_UNIT : 0), EXPONENTIAL);
        pair_free(&x);
        pair_free(&r);
    }
}

/* A weight that is not a number must show up in the effective weights. */
static void not_a_number_passes(void **state)
{
    const eq_quant_shape shape = {.K = 20, .g = 20, .bits = 2};
    pair w = pair_make(EQ_F32, 20, -1, 1, 44), y = pair_make(EQ_F32, 20, 0, 1, 45);
    float s = 0.5f, z = 1, ds = 0, dz = 0;
    for (int i = 0; i < 2; i++) {
        float *wi = at(&w, i), *yi = at(&y, i);
        wi[17] = NAN;
        pick(state, i)->fakequant_forward(yi, wi, &s, &z, &shape, EQ_F32);
        assert_true(isnan(yi[17]) && !isnan(yi[16]));
        pick(state, i)->fakequant_backward(yi, &ds, &dz, wi, &s, &z, &shape);
        assert_true(isnan(ds));
    }
    pair_free(&w);
    pair_free(&y);
}

static void optimizer(void **state)
{
    const eq_adamw step = {0.9f, 0.999f, 1e-8f, 1e-3f, 1e-2f, 3.2f};
    for (int l = 0; l < LENGTH_COUNT; l++) {
        int64_t n = LENGTHS[l];
        pair w = pair_make(EQ_F32, n, -1, 1, 46), m = pair_make(EQ_F32, n, -1, 1, 47);
        pair v = pair_make(EQ_F32, n, 0, 1, 48), g = pair_make(EQ_F32, n, -1, 1, 49);
        for (int i = 0; i < 2; i++)
            pick(state, i)->adamw(at(&w, i), at(&m, i), at(&v, i), at(&g, i), n, &step);
        pair_check(&w, 0, 0);
        pair_check(&m, 0, 0);
        pair_check(&v, 0, 0);
        pair_free(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_values_are_seen),
        cmocka_unit_test(conversions),
        cmocka_unit_test(unpacking),
        cmocka_unit_test(rows),
        cmocka_unit_test(attend),
        cmocka_unit_test(exponentials),
        cmocka_unit_test(vocabulary),
        cmocka_unit_test(quantizers),
        cmocka_unit_test(frozen_codes),
        cmocka_unit_test(logit_gradients),
        cmocka_unit_test(not_a_number_passes),
        cmocka_unit_test(optimizer),
    };
    int failed = cmocka_run_group_tests_name("avx2", tests, use_kernels_avx2, NULL);
    failed += cmocka_run_group_tests_name("avx512", tests, use_kernels_avx512, NULL);
    failed += cmocka_run_group_tests_name("vnni", tests, use_kernels_vnni, NULL);
    return failed;
}
