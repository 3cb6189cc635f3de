#include "model/linear.h"

#include "tensor/super_block.h"

#include <assert.h>

/* A tile of unpacked weights or of their gradient: small enough for the caches, large enough for
 * the products. */
enum { TILE_BYTES = 8 << 20, LEAST_ROWS = 64 };
/* Up to EQ_FEW_ROWS rows of X, a product is M dot products per row of W: what prepares larger ones
 * would take longer. Up to SHORT_ROWS, products are cut by columns of Y, which gives every thread
 * work; taller ones are cut by rows. COLUMNS divides LEAST_ROWS, so that the cuts are the same
 * whether a weight is unpacked in tiles or kept whole. */
enum { SHORT_ROWS = 96, COLUMNS = 64 };

static int64_t tile_rows(int64_t N, int64_t K)
{
    int64_t rows = TILE_BYTES / (K * (int64_t)sizeof(float)) / LEAST_ROWS * LEAST_ROWS;
    if (rows < LEAST_ROWS) rows = LEAST_ROWS;
    return rows < N ? rows : N;
}

size_t eq_linear_scratch(int64_t N, int64_t K)
{
    int64_t rows = tile_rows(N, K);
    return (size_t)((rows > LEAST_ROWS ? rows : LEAST_ROWS) * K) * sizeof(float);
}

static void stored_rows(const eq_linear *linear, void *out, eq_dtype type, int64_t row0,
                        int64_t rows)
{
    const eq_stored *stored = linear->state;
    int64_t K = linear->K;
    for (int i = 0; i < stored->count; i++) {
        const eq_stored_part *part = &stored->parts[i];
        int64_t first = row0 > part->row0 ? row0 : part->row0;
        int64_t last =
            row0 + rows < part->row0 + part->rows ? row0 + rows : part->row0 + part->rows;
        for (int64_t r = first; r < last; r++) {
            char *to = (char *)out + (size_t)((r - row0) * K) * eq_elem_bytes(type);
            const eq_tensor *t = &part->tensor;
            if (part->packed) {
                eq_qmatrix_unpack(to, type, &part->matrix, r - part->row0, last - r);
                break;
            }
            int64_t row = eq_tensor_file_row(t->rope_pairs, r - part->row0);
            const char *from = (const char *)t->data + (size_t)row * eq_dtype_bytes(t->type, K);
            linear->kernels->unpack(to, type, from, t->type, K);
        }
    }
}

static const eq_linear_form STORED = {.rows = stored_rows};

int eq_stored_bits(const eq_stored *stored)
{
    const eq_stored_part *part = &stored->parts[0];
    return part->packed ? part->matrix.bits : 16;
}

/* eq_stored_grid of a row of super-blocks. */
static void super_grid(const eq_tensor *t, int64_t row, int64_t K, uint8_t *q, float *s, float *z)
{
    const eq_ggml_form *form = eq_ggml_form_of(t->type);
    const int64_t groups = eq_super_groups(t->type), bytes = eq_dtype_get(t->type)->block_bytes;
    const uint8_t *from = (const uint8_t *)t->data + (size_t)row * eq_dtype_bytes(t->type, K);
    for (int64_t b = 0; b < K / EQ_SUPER_BLOCK; b++) {
        eq_ggml_block block;
        eq_ggml_block_read(&block, from + b * bytes, t->type);
        if (q) memcpy(q + b * EQ_SUPER_BLOCK, block.q, EQ_SUPER_BLOCK);
        for (int64_t i = 0; i < groups; i++) {
            s[b * groups + i] = block.s[i];
            z[b * groups + i] = form->minimum ? -block.m[i] / block.s[i] : (float)form->zero;
        }
    }
}

void eq_stored_grid(const eq_stored_part *part, int64_t row, int64_t K, uint8_t *q, float *s,
                    float *z)
{
    if (!part->packed) {
        super_grid(&part->tensor, row, K, q, s, z);
        return;
    }
    if (q) eq_qmatrix_codes(q, &part->matrix, row);
    eq_qmatrix_grid(s, z, &part->matrix, row);
}

eq_linear eq_linear_stored(const eq_kernels *kernels, eq_stored *stored, int64_t K)
{
    int64_t N = 0;
    for (int i = 0; i < stored->count; i++)
        N += stored->parts[i].rows;
    return (eq_linear){.form = &STORED, .kernels = kernels, .N = N, .K = K, .state = stored};
}

/* Rows row0 .. of the weight in `type`: the form's own copy, or unpacked into scratch by all
 * threads. */
static const void *weight_rows(eq_ctx *ctx, const eq_linear *linear, eq_dtype type, int64_t row0,
                               int64_t rows, void *scratch)
{
    size_t row_bytes = (size_t)linear->K * eq_elem_bytes(type);
    const char *whole = linear->form->whole ? linear->form->whole(linear, type) : NULL;
    if (whole) return whole + (size_t)row0 * row_bytes;
    enum { CHUNK = 32 };
    int64_t chunks = (rows + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t first = c * CHUNK, n = rows - first < CHUNK ? rows - first : CHUNK;
        linear->form->rows(linear, (char *)scratch + (size_t)first * row_bytes, type, row0 + first,
                           n);
    }
    return scratch;
}

/* How many rows one product takes: all of them when the form keeps its weight. */
static int64_t step_rows(const eq_linear *linear, eq_dtype type)
{
    bool whole = linear->form->whole && linear->form->whole(linear, type);
    return whole ? linear->N : tile_rows(linear->N, linear->K);
}

/* Y = X W^T, or Y +=, for few rows of X: the weights are read once, in row order. */
static void multiply_few(eq_ctx *ctx, const eq_gemm *g, void *y, const void *x, const void *w)
{
    enum { CHUNK = 32 };
    int64_t chunks = (g->N + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t c = 0; c < chunks; c++) {
        float sums[CHUNK];
        int64_t row = c * CHUNK, rows = g->N - row < CHUNK ? g->N - row : CHUNK;
        const char *weights = (const char *)w + (size_t)(row * g->ldb) * eq_elem_bytes(g->in);
        for (int64_t m = 0; m < g->M; m++) {
            const char *input = (const char *)x + (size_t)(m * g->lda) * eq_elem_bytes(g->in);
            char *out = (char *)y + (size_t)(m * g->ldc + row) * eq_elem_bytes(g->out);
            ctx->kernels->dot_rows(sums, 1, input, 0, weights, g->ldb, rows, g->K, g->in);
            if (g->accumulate)
                ctx->kernels->add((float *)(void *)out, sums, rows);
            else
                ctx->kernels->unpack(out, g->out, sums, EQ_F32, rows);
        }
    }
}

/* Y = X W^T, or Y +=, for few columns after few, each unpacked by the thread that multiplies with
 * them. */
static void multiply_short(eq_ctx *ctx, const eq_linear *linear, void *y, const void *x,
                           const eq_linear_call *call)
{
    int64_t N = linear->N, K = linear->K, step = step_rows(linear, call->type);
    size_t row_bytes = (size_t)K * eq_elem_bytes(call->type);
    const char *whole = linear->form->whole ? linear->form->whole(linear, call->type) : NULL;
    for (int64_t tile = 0; tile < N; tile += step) {
        int64_t rows = N - tile < step ? N - tile : step, chunks = (rows + COLUMNS - 1) / COLUMNS;
        eq_gemm g = eq_gemm_forward(call->M, COLUMNS, K, call->type, call->out_type);
        g.ldc = N;
        g.accumulate = call->accumulate;
        const eq_gemm_plan *full = rows >= COLUMNS ? eq_gemm_prepare(ctx, &g) : NULL;
        g.N = rows % COLUMNS;
        const eq_gemm_plan *last = g.N ? eq_gemm_prepare(ctx, &g) : NULL;
        if ((!full && rows >= COLUMNS) || (!last && g.N)) return;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
        for (int64_t c = 0; c < chunks; c++) {
            int64_t first = c * COLUMNS, row = tile + first;
            int64_t n = rows - first < COLUMNS ? rows - first : COLUMNS;
            char *own = (char *)call->scratch + (size_t)first * row_bytes;
            const void *w = whole ? whole + (size_t)row * row_bytes : own;
            if (!whole) linear->form->rows(linear, own, call->type, row, n);
            eq_gemm_serial(ctx, n == COLUMNS ? full : last, eq_this_thread(),
                           (char *)y + (size_t)row * eq_elem_bytes(call->out_type), x, w);
        }
    }
}

void eq_linear_forward(eq_ctx *ctx, const eq_linear *linear, void *y, const void *x,
                       const eq_linear_call *call)
{
    if (linear->form->multiply && linear->form->multiply(ctx, linear, y, x, call)) return;
    int64_t step = step_rows(linear, call->type);
    const void *packed = linear->form->packed ? linear->form->packed(linear, call->type) : NULL;
    if (packed && call->M > EQ_FEW_ROWS) {
        eq_gemm g = eq_gemm_forward(call->M, linear->N, linear->K, call->type, call->out_type);
        g.accumulate = call->accumulate;
        eq_gemm_run_packed(ctx, &g, y, x, packed);
        return;
    }
    if (call->M > EQ_FEW_ROWS && call->M <= SHORT_ROWS) {
        multiply_short(ctx, linear, y, x, call);
        return;
    }
    for (int64_t row = 0; row < linear->N; row += step) {
        int64_t rows = linear->N - row < step ? linear->N - row : step;
        eq_gemm g = eq_gemm_forward(call->M, rows, linear->K, call->type, call->out_type);
        g.ldc = linear->N;
        g.accumulate = call->accumulate;
        const void *w = weight_rows(ctx, linear, call->type, row, rows, call->scratch);
        char *out = (char *)y + (size_t)row * eq_elem_bytes(call->out_type);
        if (call->M <= EQ_FEW_ROWS)
            multiply_few(ctx, &g, out, x, w);
        else
            eq_gemm_run(ctx, &g, out, x, w);
    }
}

static void input_gradient(eq_ctx *ctx, const eq_linear *linear, void *dx, const void *dy,
                           const eq_linear_call *call)
{
    int64_t step = step_rows(linear, call->type);
    assert(step == linear->N || call->out_type == EQ_F32); /* dx is a sum over the tiles */
    for (int64_t row = 0; row < linear->N; row += step) {
        int64_t rows = linear->N - row < step ? linear->N - row : step;
        eq_gemm g = eq_gemm_input_gradient(call->M, rows, linear->K, call->type, call->out_type);
        g.lda = linear->N;
        g.accumulate = row > 0;
        const void *w = weight_rows(ctx, linear, call->type, row, rows, call->scratch);
        eq_gemm_run(ctx, &g, dx, (const char *)dy + (size_t)row * eq_elem_bytes(call->type), w);
    }
}

static void weight_gradient(eq_ctx *ctx, eq_linear *linear, const void *dy, const void *x,
                            const eq_linear_call *call)
{
    enum { CHUNK = 8 };
    int64_t step = tile_rows(linear->N, linear->K), K = linear->K;
    float *dw = call->scratch;
    for (int64_t row = 0; row < linear->N; row += step) {
        int64_t rows = linear->N - row < step ? linear->N - row : step;
        eq_gemm g = eq_gemm_weight_gradient(call->M, rows, K, linear->N, call->type);
        eq_gemm_run(ctx, &g, dw, (const char *)dy + (size_t)row * eq_elem_bytes(call->type), x);
        int64_t chunks = (rows + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
        for (int64_t c = 0; c < chunks; c++) {
            int64_t first = c * CHUNK, n = rows - first < CHUNK ? rows - first : CHUNK;
            linear->form->gradient(linear, dw + first * K, row + first, n);
        }
    }
}

void eq_linear_backward(eq_ctx *ctx, eq_linear *linear, void *dx, const void *dy, const void *x,
                        const eq_linear_call *call)
{
    if (dx) input_gradient(ctx, linear, dx, dy, call);
    if (x && linear->form->gradient) weight_gradient(ctx, linear, dy, x, call);
}
