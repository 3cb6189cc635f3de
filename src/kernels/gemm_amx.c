#include "kernels/gemm_amx.h"

#include <immintrin.h>

/* The register block is 2 x 2 tiles of 16 x 16 f32: 32 x 32 of C. A goes straight from memory when
 * it can, 32 rows at a time; B is packed once per product into panels of 32 columns, each two
 * strips of 16, as the tile instruction wants it:
 * [K/2][16 columns][2]. A block of C is eq_gemm_task_rows x COLUMNS, its sum runs over K in steps
 * of DEPTH so that a strip of A
 * stays in the first-level cache and a block of B in the second. */
enum { SIDE = 32, COLUMNS = 768, DEPTH = 512 };

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t eq_amx_packed_elems(int64_t K, int64_t N)
{
    return round_up(K, SIDE) * round_up(N, SIDE);
}

/* How much of K one pass takes. A C in bf16 cannot hold partial sums: all of K then. */
static int64_t pass_depth(const eq_gemm *g)
{
    int64_t padded = round_up(g->K, SIDE);
    return g->out == EQ_F32 ? least(DEPTH, padded) : padded;
}

int64_t eq_amx_scratch_elems(const eq_gemm *shape)
{
    return SIDE * pass_depth(shape) + SIDE * SIDE * 2; /* a strip of A, a block of C in f32 */
}

/* Transpose 16 x 16 dwords in registers. */
static inline void transpose16(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* The first n (0 .. 32) bf16 of p, zeros behind. */
static inline __m512i load_words(const uint16_t *p, int64_t n)
{
    if (n <= 0) return _mm512_setzero_si512();
    if (n >= 32) return _mm512_loadu_si512(p);
    return _mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), p);
}

/* 16 columns of rows k and k+1 interleaved: (k, c), (k+1, c), (k, c+1), ... */
static inline __m512i load_pair(const uint16_t *row, int64_t ld, int64_t rows, int64_t columns)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    int64_t n = columns < 16 ? columns : 16;
    __m256i low = _mm512_castsi512_si256(load_words(row, rows > 0 ? n : 0));
    __m256i high = _mm512_castsi512_si256(load_words(row + ld, rows > 1 ? n : 0));
    return _mm512_permutexvar_epi16(order,
                                    _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}

/* 16 columns from `column` of op(B) = B^T, B [N, K]: 16 rows of B, transposed by dwords of two k.
 * */
static void pack_strip_transposed(uint16_t *out, const eq_gemm *g, const uint16_t *B,
                                  int64_t column)
{
    for (int64_t k = 0; k < g->K; k += 32) {
        __m512i r[16];
        for (int64_t i = 0; i < 16; i++) {
            int64_t n = column + i < g->N ? g->K - k : 0;
            r[i] = load_words(n ? B + (column + i) * g->ldb + k : B, n);
        }
        transpose16(r);
        for (int i = 0; i < 16; i++)
            _mm512_storeu_si512(out + k * 16 + i * 32, r[i]);
    }
}

static void pack_strip(uint16_t *out, const eq_gemm *g, const uint16_t *B, int64_t column)
{
    int64_t padded = round_up(g->K, SIDE);
    for (int64_t k = 0; k < padded; k += 2) {
        __m512i pair = load_pair(B + k * g->ldb + column, g->ldb, g->K - k, g->N - column);
        _mm512_storeu_si512(out + k * 16, pair);
    }
}

void eq_amx_pack_b(uint16_t *packed, const eq_gemm *g, const uint16_t *B, int64_t panel)
{
    int64_t padded = round_up(g->K, SIDE);
    for (int64_t half = 0; half < 2; half++) {
        int64_t column = panel * SIDE + 16 * half;
        uint16_t *out = packed + column * padded;
        if (g->trans_b)
            pack_strip_transposed(out, g, B, column);
        else
            pack_strip(out, g, B, column);
    }
}

/* Rows row .. row+31 of op(A), columns k0 .. k0+depth-1, zero-padded to [32, depth]. */
static void pack_a(uint16_t *out, const eq_gemm *g, const uint16_t *A, int64_t row, int64_t k0,
                   int64_t depth)
{
    for (int64_t k = 0; k < depth; k += 32) {
        int64_t left = g->K - k0 - k;
        for (int64_t half = 0; half < 2; half++) {
            int64_t first = row + 16 * half;
            __m512i r[16];
            for (int64_t i = 0; i < 16; i++) {
                if (g->trans_a) {
                    int64_t source = k0 + k + 2 * i, rows = g->K - source;
                    r[i] = load_pair(rows > 0 ? A + source * g->lda + first : A, g->lda, rows,
                                     g->M - first);
                } else {
                    bool there = first + i < g->M;
                    r[i] =
                        load_words(there ? A + (first + i) * g->lda + k0 + k : A, there ? left : 0);
                }
            }
            if (g->trans_a) transpose16(r);
            for (int64_t i = 0; i < 16; i++)
                _mm512_storeu_si512(out + (16 * half + i) * depth + k, r[i]);
        }
    }
}

static void configure_tiles(void)
{
    tile_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
}

/* c [32, ldc] f32 (+)= a [32, depth] (rows lda apart) x two strips of B. */
static inline void multiply_tiles(float *c, int64_t ldc, const uint16_t *a, int64_t lda,
                                  const uint16_t *strip0, const uint16_t *strip1, int64_t depth,
                                  bool add)
{
    size_t row = (size_t)ldc * sizeof *c, a_row = (size_t)lda * sizeof *a;
    if (add) {
        _tile_loadd(0, c, row);
        _tile_loadd(1, c + 16, row);
        _tile_loadd(2, c + 16 * ldc, row);
        _tile_loadd(3, c + 16 * ldc + 16, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < depth; k += 32) {
        _tile_loadd(4, a + k, a_row);
        _tile_loadd(6, strip0 + k * 16, 64);
        _tile_loadd(5, a + 16 * lda + k, a_row);
        _tile_loadd(7, strip1 + k * 16, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, row);
    _tile_stored(1, c + 16, row);
    _tile_stored(2, c + 16 * ldc, row);
    _tile_stored(3, c + 16 * ldc + 16, row);
}

/* Copy a 32 x 32 f32 block to or from the valid part of C. */
static void load_block(float *block, const eq_gemm *g, const float *c, int64_t rows,
                       int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(block + i * SIDE, c + i * g->ldc, (size_t)columns * sizeof *c);
}

static inline __m256i round_bf16(__m512 x)
{
    __m512i u = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

static void store_block(void *c, const eq_gemm *g, const float *block, int64_t rows,
                        int64_t columns)
{
    if (g->out == EQ_F32) {
        for (int64_t i = 0; i < rows; i++)
            memcpy((float *)c + i * g->ldc, block + i * SIDE, (size_t)columns * sizeof *block);
        return;
    }
    uint32_t valid = columns < SIDE ? (1u << columns) - 1 : ~0u;
    for (int64_t i = 0; i < rows; i++) {
        uint16_t *out = (uint16_t *)c + i * g->ldc;
        for (int half = 0; half < 2; half++) {
            __m256i words = round_bf16(_mm512_loadu_ps(block + i * SIDE + 16 * half));
            _mm256_mask_storeu_epi16(out + 16 * half, (__mmask16)(valid >> (16 * half)), words);
        }
    }
}

/* One 32 x 32 block of C at (row, column), from a strip of A. */
static void multiply_block(const eq_gemm *g, char *C, int64_t row, int64_t column,
                           const uint16_t *a, int64_t lda, const uint16_t *strip, int64_t depth,
                           bool add, float *block)
{
    int64_t padded = round_up(g->K, SIDE);
    int64_t rows = least(SIDE, g->M - row), columns = least(SIDE, g->N - column);
    char *c = C + (size_t)(row * g->ldc + column) * (g->out == EQ_F32 ? 4 : 2);
    if (g->out == EQ_F32 && rows == SIDE && columns == SIDE) {
        multiply_tiles((float *)(void *)c, g->ldc, a, lda, strip, strip + 16 * padded, depth, add);
        return;
    }
    if (add) load_block(block, g, (const float *)(const void *)c, rows, columns);
    multiply_tiles(block, SIDE, a, lda, strip, strip + 16 * padded, depth, add);
    store_block(c, g, block, rows, columns);
}

int64_t eq_amx_blocks(const eq_gemm *g)
{
    int64_t rows = eq_gemm_task_rows(g->M);
    return (g->M + rows - 1) / rows * ((g->N + COLUMNS - 1) / COLUMNS);
}

void eq_amx_block(const eq_gemm *g, int64_t index, void *C, const uint16_t *A,
                  const uint16_t *packed, uint16_t *scratch)
{
    int64_t padded = round_up(g->K, SIDE), task_rows = eq_gemm_task_rows(g->M);
    int64_t row_blocks = (g->M + task_rows - 1) / task_rows;
    int64_t row0 = index % row_blocks * task_rows, column0 = index / row_blocks * COLUMNS;
    int64_t row1 = least(row0 + task_rows, g->M), column1 = least(column0 + COLUMNS, g->N);
    int64_t step = pass_depth(g);
    float *block = (float *)(void *)(scratch + SIDE * step);
    configure_tiles();
    for (int64_t k = 0; k < padded; k += step) {
        int64_t depth = least(step, padded - k);
        for (int64_t row = row0; row < row1; row += SIDE) {
            bool in_place = !g->trans_a && g->K % 32 == 0 && row + SIDE <= g->M;
            const uint16_t *a = in_place ? A + row * g->lda + k : scratch;
            if (!in_place) pack_a(scratch, g, A, row, k, depth);
            for (int64_t column = column0; column < column1; column += SIDE)
                multiply_block(g, C, row, column, a, in_place ? g->lda : depth,
                               packed + column * padded + k * 16, depth, g->accumulate || k > 0,
                               block);
        }
    }
    _tile_release();
}
