/* The reference kernels against their equations: derivatives against central differences, the
 * quantizer against golden numbers, the rest against direct evaluation in f64. */
#include "kernels/kernels.h"
#include "support_numbers.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { ROWS = 3, COLS = 7, SIZE = ROWS * COLS, GOLDEN_LIMIT = 1 << 20 };

/* Central differences of an f32 function summed in f64: step^2 times the third derivative and
 * 2^-24 / step both stay below this share for values of order 1. */
static const float STEP = 1e-2f;
static const double DIFFERENCE_BOUND = 2e-3;

static const eq_kernels *ref(void)
{
    return eq_kernels_get("ref");
}

static double difference_error(double numeric, double analytic)
{
    return fabs(numeric - analytic) / (DIFFERENCE_BOUND * (1 + fabs(analytic)));
}

/* x + t * direction. */
static void move(float *out, const float *x, const float *direction, float t, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] + t * direction[i];
}

static double norm_loss(const float *x, const float *w, const float *dy)
{
    float y[SIZE], rstd[ROWS];
    ref()->rmsnorm_forward(y, rstd, x, w, ROWS, COLS, 1e-5f, EQ_F32);
    return dot_f64(y, dy, SIZE);
}

static void rmsnorm_has_its_derivative(void **state)
{
    (void)state;
    float x[SIZE], w[COLS], dy[SIZE], along[SIZE], y[SIZE], rstd[ROWS], up[SIZE], down[SIZE];
    fill_uniform(x, SIZE, -2, 2, 1);
    fill_uniform(w, COLS, 0.5f, 1.5f, 2);
    fill_uniform(dy, SIZE, -1, 1, 3);
    fill_uniform(along, SIZE, -1, 1, 4);
    ref()->rmsnorm_forward(y, rstd, x, w, ROWS, COLS, 1e-5f, EQ_F32);
    float dx[SIZE] = {0}, dw[COLS] = {0};
    ref()->rmsnorm_backward(dx, dw, dy, x, w, rstd, ROWS, COLS, EQ_F32);

    move(up, x, along, STEP, SIZE);
    move(down, x, along, -STEP, SIZE);
    double numeric = (norm_loss(up, w, dy) - norm_loss(down, w, dy)) / (2 * STEP);
    assert_true(difference_error(numeric, dot_f64(dx, along, SIZE)) <= 1);
    move(up, w, along, STEP, COLS);
    move(down, w, along, -STEP, COLS);
    double numeric_w = (norm_loss(x, up, dy) - norm_loss(x, down, dy)) / (2 * STEP);
    assert_true(difference_error(numeric_w, dot_f64(dw, along, COLS)) <= 1);

    dx[4] = -dx[4]; /* the check can fail */
    assert_true(difference_error(numeric, dot_f64(dx, along, SIZE)) > 1);
}

static void rmsnorm_gradients_are_added(void **state)
{
    (void)state;
    float x[SIZE], w[COLS], dy[SIZE], y[SIZE], rstd[ROWS];
    fill_uniform(x, SIZE, -2, 2, 1);
    fill_uniform(w, COLS, 0.5f, 1.5f, 2);
    fill_uniform(dy, SIZE, -1, 1, 3);
    ref()->rmsnorm_forward(y, rstd, x, w, ROWS, COLS, 1e-5f, EQ_F32);
    float dx[SIZE] = {0}, dw[COLS] = {0}, dw_only[COLS] = {0};
    ref()->rmsnorm_backward(dx, dw, dy, x, w, rstd, ROWS, COLS, EQ_F32);
    ref()->rmsnorm_backward(NULL, dw_only, dy, x, w, rstd, ROWS, COLS, EQ_F32);
    assert_memory_equal(dw, dw_only, sizeof dw);
    float twice = 2 * dx[5];
    ref()->rmsnorm_backward(dx, dw, dy, x, w, rstd, ROWS, COLS, EQ_F32);
    assert_float_equal(dx[5], twice, 1e-5);
    assert_float_equal(dw[2], 2 * dw_only[2], 1e-5);
}

static double swiglu_loss(const float *gu, const float *dy)
{
    float y[SIZE];
    ref()->swiglu_forward(y, gu, ROWS, COLS, EQ_F32);
    return dot_f64(y, dy, SIZE);
}

static void swiglu_has_its_derivative(void **state)
{
    (void)state;
    float gu[2 * SIZE], d[2 * SIZE], dy[SIZE], along[2 * SIZE], up[2 * SIZE], down[2 * SIZE];
    float y[SIZE], again[SIZE];
    fill_uniform(gu, 2 * SIZE, -3, 3, 5);
    fill_uniform(dy, SIZE, -1, 1, 6);
    fill_uniform(along, 2 * SIZE, -1, 1, 7);
    ref()->swiglu_forward(y, gu, ROWS, COLS, EQ_F32);
    assert_float_equal(y[3], gu[3] / (1 + exp(-gu[3])) * gu[COLS + 3], 1e-6);
    memcpy(d, gu, sizeof d);
    ref()->swiglu_backward(d, again, dy, ROWS, COLS, EQ_F32);
    assert_memory_equal(y, again, sizeof y);
    move(up, gu, along, STEP, 2 * SIZE);
    move(down, gu, along, -STEP, 2 * SIZE);
    double numeric = (swiglu_loss(up, dy) - swiglu_loss(down, dy)) / (2 * STEP);
    assert_true(difference_error(numeric, dot_f64(d, along, 2 * SIZE)) <= 1);
    d[1] += 0.5f;
    assert_true(difference_error(numeric, dot_f64(d, along, 2 * SIZE)) > 1);
}

enum { FIRST = 2, LD = 8 }; /* row r of a tile sees columns 0 .. FIRST + r */

static const eq_causal TILE = {ROWS, LD, LD, FIRST, 0.7f, EQ_F32};

static double softmax_loss(const float *s, const float *dp)
{
    float p[ROWS * LD];
    ref()->softmax_causal(p, NULL, s, &TILE);
    return dot_f64(p, dp, ROWS * LD);
}

/* Against the equation, with numbers that are not behind the last key. */
static void attend_is_a_mean_of_values(void **state)
{
    (void)state;
    enum { H = 2, N = EQ_KEY_BLOCK + 3, D = 3, ROOM = 2 * EQ_KEY_BLOCK };
    float q[H * D], k[N * D], v[N * D], blocks[ROOM * D], out[H * D], scratch[H * (ROOM + D)];
    fill_uniform(q, H * D, -2, 2, 50);
    fill_uniform(k, N * D, -2, 2, 51);
    fill_uniform(v, N * D, -2, 2, 52);
    for (int i = 0; i < ROOM * D; i++) {
        int j = i / (EQ_KEY_BLOCK * D) * EQ_KEY_BLOCK + i % EQ_KEY_BLOCK, d = i / EQ_KEY_BLOCK % D;
        blocks[i] = j < N ? k[j * D + d] : NAN;
    }
    const eq_attend shape = {H, N, D, 0.5f, EQ_F32, EQ_F32};
    float lse[H];
    ref()->attend(out, lse, q, blocks, v, scratch, &shape);
    for (int h = 0; h < H; h++) {
        double total = 0, mean[D] = {0};
        for (int j = 0; j < N; j++) {
            double p = exp(0.5 * dot_f64(q + h * D, k + j * D, D));
            total += p;
            for (int d = 0; d < D; d++)
                mean[d] += p * v[j * D + d];
        }
        for (int d = 0; d < D; d++)
            assert_float_equal(out[h * D + d], mean[d] / total, 2e-6);
        assert_float_equal(lse[h], log(total), 2e-6);
    }
}

static void softmax_has_its_derivative(void **state)
{
    (void)state;
    enum { N = ROWS * LD };
    float s[N], dp[N], along[N], up[N], down[N], p[N], again[N], ds[N], lse[ROWS], delta[ROWS];
    fill_uniform(s, N, -4, 4, 8);
    fill_uniform(dp, N, -1, 1, 9);
    fill_uniform(along, N, -1, 1, 10);
    ref()->softmax_causal(p, lse, s, &TILE);
    ref()->dot_rows(delta, 1, p, LD, dp, LD, ROWS, LD, EQ_F32);
    ref()->softmax_causal_backward(again, ds, s, dp, lse, delta, &TILE);
    assert_memory_equal(p, again, sizeof p);
    for (int r = 0; r < ROWS; r++) {
        double sum = 0;
        for (int j = 0; j < LD; j++)
            sum += p[r * LD + j];
        assert_float_equal(sum, 1, 1e-6);
        for (int j = FIRST + r + 1; j < LD; j++)
            assert_true(p[r * LD + j] == 0);
    }
    move(up, s, along, STEP, N);
    move(down, s, along, -STEP, N);
    double numeric = (softmax_loss(up, dp) - softmax_loss(down, dp)) / (2 * STEP);
    assert_true(difference_error(numeric, dot_f64(ds, along, N)) <= 1);
    ds[0] += 0.5f;
    assert_true(difference_error(numeric, dot_f64(ds, along, N)) > 1);
}

/* Rotating back is the transpose: <rope x, y> = <x, rope^T y>; and the inverse. */
static void rope_turns_back(void **state)
{
    (void)state;
    enum { HEADS = 2, D = 6, WIDE = HEADS * D + 1, N = ROWS * WIDE };
    float x[N], y[N], fx[N], by[N], angle[ROWS * D / 2], c[ROWS * D / 2], s[ROWS * D / 2];
    fill_uniform(x, N, -1, 1, 11);
    fill_uniform(y, N, -1, 1, 12);
    fill_uniform(angle, ROWS * D / 2, -3, 3, 13);
    for (int i = 0; i < ROWS * D / 2; i++) {
        c[i] = cosf(angle[i]);
        s[i] = sinf(angle[i]);
    }
    memcpy(fx, x, sizeof x);
    memcpy(by, y, sizeof y);
    ref()->rope(fx, WIDE, c, s, ROWS, HEADS, D, 1, EQ_F32);
    ref()->rope(by, WIDE, c, s, ROWS, HEADS, D, -1, EQ_F32);
    assert_float_equal(fx[0], x[0] * c[0] - x[D / 2] * s[0], 1e-6);
    assert_true(fx[WIDE - 1] == x[WIDE - 1]); /* outside the heads */
    assert_float_equal(dot_f64(fx, y, N), dot_f64(x, by, N), 1e-5);
    ref()->rope(fx, WIDE, c, s, ROWS, HEADS, D, -1, EQ_F32);
    assert_true(worst_error(fx, x, N, 1e-6, 0) <= 1);
}

/* A golden quantizer: what a file calls the gradients. */
typedef struct golden_case {
    const char *path;
    int N;
    eq_quant_shape shape;
    const char *dw, *ds, *dz;
} golden_case;

/* Tensor `name` of a small safetensors file in memory, n numbers to out. */
static void golden_tensor(float *out, const char *file, const char *name, int64_t n)
{
    uint64_t header;
    memcpy(&header, file, sizeof header);
    json_t *root = json_loadb(file + 8, (size_t)header, 0, NULL);
    json_t *offsets = json_object_get(json_object_get(root, name), "data_offsets");
    int64_t begin = json_integer_value(json_array_get(offsets, 0));
    int64_t end = json_integer_value(json_array_get(offsets, 1));
    json_decref(root);
    assert_int_equal(end - begin, n * (int64_t)sizeof *out);
    memcpy(out, file + 8 + header + begin, (size_t)(end - begin));
}

enum { GOLDEN_ELEMS = 6 * 96, GOLDEN_GROUPS = 18 };

static void check_golden(const golden_case *c, const char *file)
{
    float w[GOLDEN_ELEMS], dy[GOLDEN_ELEMS], y[GOLDEN_ELEMS], dw[GOLDEN_ELEMS], s[GOLDEN_GROUPS];
    float z[GOLDEN_GROUPS], ds[GOLDEN_GROUPS], dz[GOLDEN_GROUPS], out[GOLDEN_ELEMS];
    const int64_t K = c->shape.K, groups = K / c->shape.g, all = c->N * K, total = c->N * groups;
    golden_tensor(w, file, "w", all);
    golden_tensor(dy, file, "dy", all);
    golden_tensor(y, file, "y", all);
    golden_tensor(s, file, "scale", total);
    golden_tensor(z, file, "zero_point", total);
    golden_tensor(dw, file, c->dw, all);
    golden_tensor(ds, file, c->ds, total);
    golden_tensor(dz, file, c->dz, total);
    float got_s[GOLDEN_GROUPS] = {0}, got_z[GOLDEN_GROUPS] = {0};
    for (int r = 0; r < c->N; r++) {
        const float *wr = w + r * K, *sr = s + r * groups, *zr = z + r * groups;
        ref()->fakequant_forward(out + r * K, wr, sr, zr, &c->shape, EQ_F32);
        ref()->fakequant_backward(dy + r * K, got_s + r * groups, got_z + r * groups, wr, sr, zr,
                                  &c->shape);
    }
    /* A product or two in f32; sums of up to 32 terms of order 1, in any order; terms dy w / s
     * reach 1e4 where the smallest scale holds. */
    assert_true(worst_error(out, y, all, 0, 3e-7) <= 1);
    assert_true(worst_error(dy, dw, all, 0, 3e-7) <= 1);
    assert_true(worst_error(got_s, ds, total, 2e-5, 2e-6) <= 1);
    assert_true(worst_error(got_z, dz, total, 2e-5, 2e-6) <= 1);
    got_s[7] += 1e-3f * (1 + fabsf(got_s[7]));
    assert_true(worst_error(got_s, ds, total, 2e-5, 2e-6) > 1);
}

static void fakequant_matches_golden(void **state)
{
    (void)state;
    const golden_case cases[] = {
        {"../shared/golden/blockap-w2g32/quantizer.safetensors",
         6,
         {.K = 96, .g = 32, .bits = 2, .edges_clipped = true},
         "dw",
         "dscale",
         "dzero_point"},
        {"tests/golden/quantizer_w2.safetensors",
         6,
         {.K = 24, .g = 8, .bits = 2},
         "grad.w",
         "grad.scale",
         "grad.zero_point"},
        {"tests/golden/quantizer_w2.safetensors",
         6,
         {.K = 24, .g = 8, .bits = 2, .edges_clipped = true},
         "open.grad.w",
         "open.grad.scale",
         "open.grad.zero_point"},
        {"tests/golden/quantizer_w3.safetensors",
         6,
         {.K = 24, .g = 8, .bits = 3},
         "grad.w",
         "grad.scale",
         "grad.zero_point"},
        {"tests/golden/quantizer_w4.safetensors",
         6,
         {.K = 24, .g = 8, .bits = 4},
         "grad.w",
         "grad.scale",
         "grad.zero_point"},
        {"tests/golden/quantizer_w8.safetensors",
         6,
         {.K = 24, .g = 8, .bits = 8},
         "grad.w",
         "grad.scale",
         "grad.zero_point"},
        {"tests/golden/quantizer_super.safetensors",
         6,
         {.K = 96, .g = 32, .bits = 4, .super = EQ_Q4_K},
         "grad.w",
         "grad.scale",
         "grad.zero_point"},
        {"tests/golden/quantizer_super.safetensors",
         6,
         {.K = 96, .g = 32, .bits = 4, .edges_clipped = true, .super = EQ_Q4_K},
         "open.grad.w",
         "open.grad.scale",
         "open.grad.zero_point"},
    };
    int checked = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *f = fopen(cases[i].path, "rb");
        if (!f) {
            print_message("not checked: no %s\n", cases[i].path);
            continue;
        }
        char *file = test_calloc(GOLDEN_LIMIT, 1);
        size_t size = fread(file, 1, GOLDEN_LIMIT, f);
        fclose(f);
        assert_true(size > 8 && size < GOLDEN_LIMIT);
        check_golden(&cases[i], file);
        test_free(file);
        checked++;
    }
    if (!checked) skip();
}

/* One group by hand: 2 bits, s = 0.5, z = 1 (given as 1.4): codes reach from -0.5 to 1. */
static void fakequant_by_hand(void **state)
{
    (void)state;
    const eq_quant_shape shape = {.K = 4, .g = 4, .bits = 2};
    const float w[4] = {0.3f, -2, 3, -0.75f}, s = 0.5f, z = 1.4f;
    float y[4], dy[4] = {1, 10, 100, 1000}, ds = 0.25f, dz = 0.5f;
    ref()->fakequant_forward(y, w, &s, &z, &shape, EQ_F32);
    const float expected[4] = {0.5f, -0.5f, 1, -0.5f}; /* -1.5 rounds to -2, which is below */
    assert_memory_equal(y, expected, sizeof y);
    ref()->fakequant_backward(dy, &ds, &dz, w, &s, &z, &shape);
    const float dw[4] = {1, 0, 0, 0};
    assert_true(worst_error(dy, dw, 4, 0, 0) == 0);
    assert_float_equal(ds, 0.25f + 0.4f - 10 + 200 - 1000, 1e-3);
    assert_float_equal(dz, 0.5f - 0.5f * 1110, 1e-3);
    uint8_t q[4];
    const float whole = 1;
    ref()->quantize_codes(q, w, &s, &whole, &shape);
    const uint8_t codes[4] = {2, 0, 3, 0};
    assert_memory_equal(q, codes, sizeof q);
}

static void smallest_scale_holds(void **state)
{
    (void)state;
    const eq_quant_shape shape = {.K = 2, .g = 2, .bits = 4};
    const float w[2] = {3.2e-4f, 5}, s = 0, z = -3;
    float y[2];
    ref()->fakequant_forward(y, w, &s, &z, &shape, EQ_F32);
    assert_float_equal(y[0], 3e-4f, 1e-9);
    assert_float_equal(y[1], 15e-4f, 1e-9);
}

static double weighted_error(const float *w, const float *h, int g, double s, double z, double Q)
{
    double sum = 0;
    for (int i = 0; i < g; i++) {
        double q = fmin(fmax(rint(w[i] / s) + z, 0), Q);
        sum += h[i] * pow((q - z) * s - w[i], 2);
    }
    return sum;
}

/* One group by hand: levels {-2, -1, 0, 1} s with s = -0.5 are {-1, 0, 1, 2} times 0.5. */
static void negative_scale_by_hand(void **state)
{
    (void)state;
    const eq_quant_shape shape = {.K = 5, .g = 5, .bits = 2, .symmetric = true};
    const float w[5] = {0.3f, -2, 3, -0.75f, 0.9f}, s = -0.5f, z = 2;
    float y[5], dy[5] = {1, 10, 100, 1000, 1e4f}, ds = 0.25f, dz = 0;
    ref()->fakequant_forward(y, w, &s, &z, &shape, EQ_F32);
    const float expected[5] = {0.5f, -0.5f, 1, -0.5f, 1}; /* 1.5 rounds to 2, which is above */
    assert_true(worst_error(y, expected, 5, 0, 0) == 0);
    ref()->fakequant_backward(dy, &ds, &dz, w, &s, &z, &shape);
    const float dw[5] = {1, 0, 0, 0, 1e4f};
    assert_true(worst_error(dy, dw, 5, 0, 0) == 0);
    assert_float_equal(ds, 0.25f - 0.4f + 10 - 200 + 1000 - 2000, 1e-2);
    uint8_t q[5];
    ref()->quantize_codes(q, w, &s, &z, &shape);
    const uint8_t codes[5] = {1, 3, 0, 3, 0};
    assert_memory_equal(q, codes, sizeof q);
}

/* sum dy w^ of a group with the scale s, in f64, the roundings and the clamp's choices being those
 * of the scale s0: what the straight-through rule differentiates. The rounding error rne(u) - u,
 * which the rule lets through, is the only term that moves with s inside. */
static double held_loss(const float *w, const float *dy, const eq_quant_shape *shape, double s0,
                        double s)
{
    const double low = -(1 << (shape->bits - 1)), high = -low - 1;
    double sum = 0;
    for (int64_t i = 0; i < shape->g; i++) {
        double u0 = w[i] / s0, error = rint(u0) - u0, u = w[i] / s + error;
        bool inside = rint(u0) >= low && rint(u0) <= high;
        sum += dy[i] * s * (inside ? u : rint(u0) < low ? low : high);
    }
    return sum;
}

static void scale_of_either_sign_has_its_derivative(void **state)
{
    (void)state;
    enum { G = 48 };
    float w[G], dy[G], z, ds, dz;
    for (int bits = 2; bits <= 8; bits += bits == 4 ? 4 : 1) {
        const eq_quant_shape shape = {.K = G, .g = G, .bits = bits, .symmetric = true};
        z = (float)(1 << (bits - 1));
        for (int sign = -1; sign <= 1; sign += 2) {
            const double s = (double)(0.7f * (float)sign / z), step = 1e-4 * s;
            const float scale = (float)s;
            fill_uniform(w, G, -1, 1, 50);
            fill_uniform(dy, G, -1, 1, 51);
            double numeric =
                (held_loss(w, dy, &shape, s, s + step) - held_loss(w, dy, &shape, s, s - step)) /
                (2 * step);
            ds = dz = 0;
            ref()->fakequant_backward(dy, &ds, &dz, w, &scale, &z, &shape);
            /* Quotients w / s in f32, up to Q, of which the rounding error is the difference. */
            assert_float_equal(ds, numeric, G * 256 * 0x1p-24);
        }
    }
}

static void smallest_scale_keeps_its_sign(void **state)
{
    (void)state;
    const eq_quant_shape shape = {.K = 2, .g = 2, .bits = 4, .symmetric = true};
    const float w[2] = {3.2e-4f, -5}, z = 8;
    for (int sign = -1; sign <= 1; sign += 2) {
        float y[2], s = (float)sign * 1e-6f;
        ref()->fakequant_forward(y, w, &s, &z, &shape, EQ_F32);
        assert_float_equal(y[0], 3e-4f, 1e-9);
        assert_float_equal(y[1], sign < 0 ? -7e-4f : -8e-4f, 1e-9);
        assert_true(eq_clamp_scale((float)sign * 1e6f, &shape) == (float)sign * 1e4f);
    }
    const eq_quant_shape plain = {.bits = 4};
    assert_true(eq_clamp_scale(-1, &plain) == 1e-4f);
    assert_true(isnan(eq_clamp_scale(NAN, &shape)) && isnan(eq_clamp_scale(NAN, &plain)));
}

/* The search finds the best of all candidates, evaluated here in f64. */
static void start_search_finds_the_best(void **state)
{
    (void)state;
    enum { G = 48 };
    float w[G], h[G], s, z;
    fill_uniform(w, G, -0.3f, 0.8f, 14);
    fill_uniform(h, G, 0.1f, 2, 15);
    w[7] = 1.9f; /* an outlier: shrinking pays */
    float low = 0;
    for (int i = 0; i < G; i++)
        low = fminf(low, w[i]);
    for (int bits = 2; bits <= 4; bits++) {
        eq_start_search search = {{.g = G, .bits = bits}, 33, 0.3f, 1.05f, 1e-4f};
        float error = ref()->start_search(&s, &z, w, h, &search);
        double Q = (1 << bits) - 1, minmax = (1.9 - low) / Q, least = INFINITY;
        for (int i = 0; i < 33; i++) {
            double scale = minmax * (0.3 + 0.75 * i / 32);
            for (double zero = 0; zero <= Q; zero++)
                least = fmin(least, weighted_error(w, h, G, scale, zero, Q));
        }
        assert_float_equal(error, least, 1e-4 * least); /* codes at ties may differ */
        assert_true(z == rintf(z) && z >= 0 && z <= Q && s > 0.29 * minmax);
    }
}

/* The same on the symmetric grid, where every scale is tried with both signs. Weights that reach
 * further up want a negative one, and mirrored weights the same scale with the other sign. */
static void symmetric_search_finds_the_best(void **state)
{
    (void)state;
    enum { G = 48 };
    float w[G], h[G], s, z, first = 0;
    fill_uniform(w, G, -0.3f, 0.8f, 14);
    fill_uniform(h, G, 0.1f, 2, 15);
    w[7] = 1.1f;
    for (int bits = 2; bits <= 8; bits += bits == 4 ? 4 : 1) {
        eq_start_search search = {
            {.g = G, .bits = bits, .symmetric = true}, 33, 0.3f, 1.4f, 0x1p-14f};
        const double Q = (1 << bits) - 1, middle = 1 << (bits - 1);
        for (int side = 0; side < 2; side++) {
            double least = INFINITY;
            for (int i = 0; i < 66; i++) {
                double scale = (double)1.1f / middle * (0.3 + 1.1 * (i % 33) / 32);
                least = fmin(least, weighted_error(w, h, G, i < 33 ? scale : -scale, middle, Q));
            }
            float error = ref()->start_search(&s, &z, w, h, &search);
            assert_float_equal(error, least, 1e-4 * least); /* codes at ties may differ */
            assert_true(z == (float)middle && fabsf(s) > 0.29f * 1.1f / (float)middle);
            if (bits < 8) assert_true(side ? s > 0 : s < 0);
            if (side && bits < 8) assert_true(s == -first);
            first = s;
            for (int i = 0; i < G; i++)
                w[i] = -w[i];
        }
    }
}

static void start_search_takes_odd_groups(void **state)
{
    (void)state;
    const float nothing[5] = {0}, ones[5] = {1, 1, 1, 1, 1}, same[5] = {2, 2, 2, 2, 2};
    for (int bits = 2; bits <= 8; bits += bits == 4 ? 4 : 1) {
        eq_start_search search = {{.g = 5, .bits = bits}, 33, 0.3f, 1.05f, 1e-4f};
        float s = 0, z = -1;
        assert_true(ref()->start_search(&s, &z, nothing, ones, &search) == 0);
        assert_true(s == 1e-4f && z == 0);
        assert_true(ref()->start_search(&s, &z, same, ones, &search) < 1e-2f);
        search.scales = 1; /* only the smallest share */
        ref()->start_search(&s, &z, same, ones, &search);
        assert_float_equal(s, 0.3 * 2 / ((1 << bits) - 1), 1e-6);
        search.shape.symmetric = true; /* the long side reaches further, so the minus wins */
        ref()->start_search(&s, &z, same, ones, &search);
        assert_float_equal(s, -0.3 * 2 / (1 << (bits - 1)), 1e-6);
        assert_true(ref()->start_search(&s, &z, nothing, ones, &search) == 0);
        assert_true(s == 1e-4f && z == (float)(1 << (bits - 1)));
    }
}

static void adamw_follows_its_equations(void **state)
{
    (void)state;
    double m = 0.1, v = 0.02, w = 0.7, g = -0.3, lr = 1e-3, wd = 0.1;
    double root = 1 / sqrt(1 - pow(0.999, 5)), step = lr / (1 - pow(0.9, 5));
    const eq_adamw a = {0.9f, 0.999f, 1e-8f, (float)(lr * wd), (float)step, (float)root};
    float fw = (float)w, fm = (float)m, fv = (float)v, fg = (float)g;
    ref()->adamw(&fw, &fm, &fv, &fg, 1, &a);
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    w = w * (1 - lr * wd) - step * m / (sqrt(v) * root + 1e-8);
    assert_float_equal(fm, m, 1e-7);
    assert_float_equal(fv, v, 1e-8);
    assert_float_equal(fw, w, 1e-7);
}

static void losses_are_right(void **state)
{
    (void)state;
    const float x[4] = {1, 3, -2, 3}, r[4] = {0, 2, 1, -1};
    int64_t best;
    double lx = log(exp(1) + 2 * exp(3) + exp(-2)), lr = log(1 + exp(2) + exp(1) + exp(-1)), kl = 0;
    assert_float_equal(ref()->logsumexp(x, 4, &best), lx, 1e-6);
    assert_int_equal(best, 1);
    for (int i = 0; i < 4; i++)
        kl += exp(r[i] - lr) * ((r[i] - lr) - (x[i] - lx));
    assert_float_equal(ref()->kl_row(r, (float)lr, x, (float)lx, 4), kl, 1e-6);
    assert_float_equal(ref()->kl_row(r, (float)lr, r, (float)lr, 4), 0, 1e-7);
    float dy[4];
    assert_float_equal(ref()->error_row(dy, x, r, 0.5f, 4, EQ_F32), 1 + 1 + 9 + 16, 1e-6);
    assert_float_equal(dy[2], -1.5, 1e-7);
    assert_float_equal(ref()->sum_squares(x, 4, EQ_F32), 23, 1e-6);
    float far[2] = {500, 400}; /* no overflow */
    assert_float_equal(ref()->logsumexp(far, 2, &best), 500, 1e-4);
}

static void unknown_table_is_null(void **state)
{
    (void)state;
    assert_null(eq_kernels_get("sse9"));
    assert_non_null(eq_kernels_get(NULL));
    assert_string_equal(eq_kernels_get("ref")->name, "ref");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_has_its_derivative),
        cmocka_unit_test(rmsnorm_gradients_are_added),
        cmocka_unit_test(swiglu_has_its_derivative),
        cmocka_unit_test(attend_is_a_mean_of_values),
        cmocka_unit_test(softmax_has_its_derivative),
        cmocka_unit_test(rope_turns_back),
        cmocka_unit_test(fakequant_matches_golden),
        cmocka_unit_test(fakequant_by_hand),
        cmocka_unit_test(smallest_scale_holds),
        cmocka_unit_test(negative_scale_by_hand),
        cmocka_unit_test(scale_of_either_sign_has_its_derivative),
        cmocka_unit_test(smallest_scale_keeps_its_sign),
        cmocka_unit_test(start_search_finds_the_best),
        cmocka_unit_test(symmetric_search_finds_the_best),
        cmocka_unit_test(start_search_takes_odd_groups),
        cmocka_unit_test(adamw_follows_its_equations),
        cmocka_unit_test(losses_are_right),
        cmocka_unit_test(unknown_table_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
