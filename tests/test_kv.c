/* Keys and values in 8 and 4 bits: rows against their equations, attention over them against
 * attention over what comes back, and every table against the reference. */
#include "kernels/kernels.h"
#include "support_kernels.h"
#include "support_numbers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const eq_kernels *ref(void)
{
    return eq_kernels_get("ref");
}

/* Every element is within half a step, and an end of the range is met. */
static void packed_rows_are_near(void **state)
{
    (void)state;
    enum { D = 26 };
    float x[D], y[D];
    uint8_t codes[D];
    uint16_t grid[4];
    const eq_kv_row row = {codes, grid, 1, 1};
    fill_uniform(x, D, -3, 1, 70);
    for (int bits = 4; bits <= 8; bits += 4) {
        ref()->kv_pack(&row, x, D, bits, EQ_F32);
        ref()->kv_unpack(y, &row, D, bits, EQ_F32);
        for (int i = 0; i < D; i++) {
            const double s = eq_f16_f32(grid[bits == 4 && i >= D / 2]);
            /* An end may lie past the last code by what f16 has rounded of s and m, of 11 bits. */
            assert_true(fabs(y[i] - x[i]) <= s / 2 + 3 * 0x1p-11);
            assert_true(s > (bits == 8 ? 2.0 / 127 : 3.0 / 15) &&
                        s < (bits == 8 ? 3.01 / 127 : 4.01 / 15));
        }
    }
    assert_int_equal(codes[0], (uint8_t)(int8_t)lrintf(x[0] / eq_f16_f32(grid[0])));
}

static void packed_rows_have_edges(void **state)
{
    (void)state;
    enum { D = 4 };
    uint8_t codes[D];
    uint16_t grid[4];
    const eq_kv_row row = {codes, grid, 1, 1};
    const float same[D] = {0.3f, 0.3f, 0, 0}, large[D] = {3e38f, -3e38f, 1, 0};
    const float not [][D] = {{1, 2, NAN, 3}, {INFINITY, 0, 0, 1}, {0, 1, 2, -INFINITY}};
    float y[D];
    for (int bits = 4; bits <= 8; bits += 4) {
        ref()->kv_pack(&row, same, D, bits, EQ_F32);
        ref()->kv_unpack(y, &row, D, bits, EQ_F32);
        for (int i = 0; i < D; i++) /* f16 rounds 0.3, and 0.3 / 127 */
            assert_float_equal(y[i], same[i], 0.3 * 0x1p-11);
        ref()->kv_pack(&row, large, D, bits, EQ_F32);
        ref()->kv_unpack(y, &row, D, bits, EQ_F32);
        for (int i = 0; i < D; i++)
            assert_true(isfinite(y[i]));
        for (int k = 0; k < 3; k++) {
            bool lost = false;
            ref()->kv_pack(&row, not [k], D, bits, EQ_F32);
            ref()->kv_unpack(y, &row, D, bits, EQ_F32);
            for (int i = 0; i < D; i++)
                lost |= isnan(y[i]);
            assert_true(lost);
        }
    }
}

/* Packed attention is attention over what comes back from the codes, keys in 4 bits rotated. */
static void packed_attention_is_attention(void **state)
{
    (void)state;
    enum { H = 2, N = EQ_KEY_BLOCK + 3, D = 6, ROOM = 2 * EQ_KEY_BLOCK };
    float q[H * D], k[N * D], v[N * D], blocks[ROOM * D], want[H * D], out[H * D];
    float scratch[H * 2 * (ROOM + D)], c[ROOM * D / 2], s[ROOM * D / 2];
    uint8_t keys[ROOM * D], values[ROOM * D + EQ_KV_PAD];
    uint16_t grids[2][ROOM * 4];
    fill_uniform(q, H * D, -2, 2, 50);
    for (int i = 0; i < ROOM * D / 2; i++) {
        c[i] = (float)cos(0.1 * i);
        s[i] = (float)sin(0.1 * i);
    }
    for (int bits = 4; bits <= 8; bits += 4) {
        const eq_kv kv = {bits, keys, values, grids[0], grids[1], c, s, NULL, NULL};
        fill_uniform(k, N * D, -2, 2, 51);
        fill_uniform(v, N * D, -2, 2, 52);
        for (int j = 0; j < N; j++) {
            const eq_kv_row key = eq_kv_key(&kv, j, D), value = eq_kv_value(&kv, j, D);
            ref()->kv_pack(&key, k + j * D, D, bits, EQ_F32);
            ref()->kv_pack(&value, v + j * D, D, bits, EQ_F32);
            ref()->kv_round(k + j * D, D, bits, EQ_F32);
            ref()->kv_round(v + j * D, D, bits, EQ_F32);
            if (bits == 4)
                ref()->rope(k + j * D, D, c + j * D / 2, s + j * D / 2, 1, 1, D, 1, EQ_F32);
        }
        for (int i = 0; i < N * D; i++)
            blocks[(i / D / EQ_KEY_BLOCK * D + i % D) * EQ_KEY_BLOCK + i / D % EQ_KEY_BLOCK] = k[i];
        const eq_attend shape = {H, N, D, 0.5f, EQ_F32, EQ_F32};
        float lse[2][H];
        ref()->attend(want, lse[0], q, blocks, v, scratch, &shape);
        ref()->attend_packed(out, lse[1], q, &kv, scratch, &shape);
        for (int h = 0; h < H; h++)
            assert_float_equal(lse[0][h], lse[1][h], 2e-6);
        for (int i = 0; i < H * D; i++) /* the same sums, of which one is in f64 */
            assert_float_equal(out[i], want[i], 2e-6);
    }
}

/* ---- every table against the reference ----------------------------------------------------- */

/* n values of both types of element; test_free. */
static void *make(int64_t n, eq_dtype type, float size, uint64_t stream)
{
    float *x = test_malloc((size_t)n * sizeof *x);
    fill_uniform(x, n, -size, size / 2, stream);
    uint16_t *h = (uint16_t *)(void *)x;
    for (int64_t i = 0; type == EQ_BF16 && i < n; i++)
        h[i] = eq_f32_bf16(x[i]);
    return x;
}

/* Packed keys and values of any content: codes of all bytes, scales and minimums near 1/127. */
typedef struct packed {
    uint8_t *keys, *values;
    uint16_t *grids;
    float *tables;
    eq_kv kv;
} packed;

static packed packed_make(int64_t keys, int64_t D, int bits)
{
    const int64_t room = eq_key_room(keys), bytes = eq_kv_bytes(D, bits), half = D / 2;
    const int64_t codes = room * bytes, grids = room * eq_kv_grids(bits);
    packed p = {.keys = test_malloc((size_t)codes),
                .values = test_malloc((size_t)(codes + EQ_KV_PAD)),
                .grids = test_malloc((size_t)(2 * grids) * sizeof(uint16_t))};
    p.tables = test_malloc((size_t)((2 * room + 2 * EQ_KEY_BLOCK) * half) * sizeof(float));
    float *c = p.tables, *s = c + room * half, *tc = s + room * half;
    float *ts = tc + EQ_KEY_BLOCK * half;
    for (int64_t i = 0; i < codes; i++) {
        p.keys[i] = (uint8_t)(i * 37 + i / 11);
        p.values[i] = (uint8_t)(i * 59 + i / 7);
    }
    for (int64_t i = 0; i < 2 * grids; i++)
        p.grids[i] = eq_f32_f16((float)(50 + i % 51) / (bits == 8 ? 12700.0f : -1500.0f));
    for (int64_t i = 0; i < room * half;
         i++) { /* the angle of position j at i is 0.3 j / (1 + i) */
        const int64_t j = i / half, k = i % half;
        c[i] = (float)cos(0.3 * (double)j / (double)(1 + k));
        s[i] = (float)sin(0.3 * (double)j / (double)(1 + k));
        if (j >= EQ_KEY_BLOCK) continue;
        tc[k * EQ_KEY_BLOCK + j] = c[i];
        ts[k * EQ_KEY_BLOCK + j] = s[i];
    }
    p.kv = (eq_kv){bits, p.keys, p.values, p.grids, p.grids + grids, c, s, tc, ts};
    return p;
}

static void packed_free(packed *p)
{
    test_free(p->keys);
    test_free(p->values);
    test_free(p->grids);
    test_free(p->tables);
}

/* Off by the rounding of sums and exponentials; and in 4 bits, where keys are turned in two parts
 * whose angles have f32 tables of their own, by three more roundings of each element. Values are
 * below 2 and scores, of elements below 2, below sqrt(D). */
static void check_attend(const eq_kernels *table, int64_t heads, int64_t keys, int64_t D, int bits,
                         eq_dtype type)
{
    const double unit = 0x1p-24, score = sqrt((double)D) * unit;
    const double bound = 4 * ((double)keys * unit + ((double)D + 6) * score + 16 * unit);
    packed p = packed_make(keys, D, bits);
    const int64_t n = heads * D, buffer = heads * 2 * (eq_key_room(keys) + D);
    void *q = make(n, type, 1, 65);
    float *scratch = test_malloc((size_t)buffer * sizeof *scratch), *values[2], lse[2][9];
    const eq_attend shape = {heads, keys, D, 0.5f / sqrtf((float)D), type, type};
    for (int i = 0; i < 2; i++) {
        const eq_kernels *k = i ? table : ref();
        void *out = test_malloc(eq_dtype_bytes(type, n));
        values[i] = test_malloc((size_t)n * sizeof(float));
        k->attend_packed(out, lse[i], q, &p.kv, scratch, &shape);
        eq_dtype_to_f32(values[i], out, type, n);
        test_free(out);
    }
    /* Two sums on both sides of a border of bf16 differ by one unit of it. */
    const double relative = type == EQ_BF16 ? 0x1p-7 : 0;
    assert_true(worst_error(values[1], values[0], n, bound, relative) <= 1);
    assert_true(worst_error(lse[1], lse[0], heads, bound, 0) <= 1);
    values[1][n / 2] += 0.05f;
    assert_false(worst_error(values[1], values[0], n, bound, relative) <= 1);
    test_free(values[0]);
    test_free(values[1]);
    test_free(scratch);
    test_free(q);
    packed_free(&p);
}

static void tables_attend_alike(void **state)
{
    const int64_t keys[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 63, 65, 192};
    const int64_t sizes[] = {2, 14, 64, 100, 130};
    for (int i = 0; i < 4; i++)
        for (size_t l = 0; l < sizeof keys / sizeof *keys; l++)
            for (int64_t heads = 1; heads <= 9; heads += heads < 5 ? 1 : 4)
                check_attend(*state, heads, keys[l], sizes[l % 5], i < 2 ? 8 : 4,
                             i % 2 ? EQ_BF16 : EQ_F32);
}

/* Codes, grids and what comes back are the same bits in all tables; nothing between is written. */
static void check_rows(const eq_kernels *table, int64_t D, int bits, eq_dtype type, float size)
{
    enum { CODE = 3, GRID = 5 };
    const int64_t bytes = eq_kv_bytes(D, bits) * CODE, grids = eq_kv_grids(bits) * GRID;
    const size_t row_bytes = eq_dtype_bytes(type, D);
    uint8_t *codes[2];
    uint16_t grid[2][4 * GRID] = {{0}};
    void *back[2];
    for (int i = 0; i < 2; i++) {
        const eq_kernels *k = i ? table : ref();
        codes[i] = test_calloc((size_t)bytes, 1);
        back[i] = test_malloc(row_bytes);
        void *x = make(D, type, size, 68);
        const eq_kv_row row = {codes[i], grid[i], CODE, GRID};
        k->kv_pack(&row, x, D, bits, type);
        k->kv_unpack(back[i], &row, D, bits, type);
        k->kv_round(x, D, bits, type);
        assert_memory_equal(x, back[i], row_bytes);
        for (int64_t j = 0; j < bytes; j++)
            assert_true(j % CODE == 0 || codes[i][j] == 0);
        for (int64_t j = 0; j < 4 * GRID; j++)
            assert_true((j % GRID == 0 && j < grids) || grid[i][j] == 0);
        test_free(x);
    }
    assert_memory_equal(codes[0], codes[1], (size_t)bytes);
    assert_memory_equal(grid[0], grid[1], sizeof grid[0]);
    assert_memory_equal(back[0], back[1], row_bytes);
    for (int i = 0; i < 2; i++) {
        test_free(codes[i]);
        test_free(back[i]);
    }
}

static void tables_pack_alike(void **state)
{
    const int64_t sizes[] = {2, 4, 6, 14, 16, 30, 32, 34, 62, 64, 66, 100, 128, 130};
    const float widths[] = {3, 0, 1e-6f, 1e9f, NAN};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
            for (int k = 0; k < 4; k++)
                check_rows(*state, sizes[i], k < 2 ? 8 : 4, k % 2 ? EQ_BF16 : EQ_F32, widths[w]);
}

int main(void)
{
    const struct CMUnitTest rows[] = {
        cmocka_unit_test(packed_rows_are_near),
        cmocka_unit_test(packed_rows_have_edges),
        cmocka_unit_test(packed_attention_is_attention),
    };
    const struct CMUnitTest tables[] = {
        cmocka_unit_test(tables_attend_alike),
        cmocka_unit_test(tables_pack_alike),
    };
    return cmocka_run_group_tests_name("kv", rows, NULL, NULL) +
           cmocka_run_group_tests_name("kv avx2", tables, use_kernels_avx2, NULL) +
           cmocka_run_group_tests_name("kv avx512", tables, use_kernels_avx512, NULL) +
           cmocka_run_group_tests_name("kv vnni", tables, use_kernels_vnni, NULL);
}
