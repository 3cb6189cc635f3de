#include "infer/dense.h"

static size_t elem_bytes(eq_dtype type)
{
    return type == EQ_F32 ? 4 : 2;
}

static const void *dense_whole(const eq_linear *linear, eq_dtype type)
{
    const eq_dense_weight *w = linear->state;
    return w->type == type ? w->data : NULL;
}

static void dense_rows(const eq_linear *linear, void *out, eq_dtype type, int64_t row0,
                       int64_t rows)
{
    const eq_dense_weight *w = linear->state;
    const char *from = w->data + (size_t)(row0 * linear->K) * elem_bytes(w->type);
    linear->kernels->unpack(out, type, from, w->type, rows * linear->K);
}

static const eq_linear_form DENSE = {.name = "dense", .rows = dense_rows, .whole = dense_whole};

/* Linear i of the decoder: the units of the blocks in order, then the head. */
static const eq_linear *linear_at(const eq_decoder *d, int64_t i)
{
    if (i == d->config.L * EQ_UNITS) return &d->head;
    return &d->blocks[i / EQ_UNITS].block.units[i % EQ_UNITS];
}

static int64_t linears_of(const eq_decoder *d)
{
    return d->config.L * EQ_UNITS + 1;
}

static void layout(eq_arena *arena, eq_dense_weight *weights, const eq_decoder *d, eq_dtype type)
{
    for (int64_t i = 0; i < linears_of(d); i++) {
        const eq_linear *linear = linear_at(d, i);
        char *data = eq_arena_take(arena, linear->N * linear->K, elem_bytes(type));
        if (weights) weights[i] = (eq_dense_weight){type, data};
    }
}

int64_t eq_dense_bytes(const eq_decoder *d, eq_dtype type)
{
    eq_arena arena = eq_arena_measure();
    layout(&arena, NULL, d, type);
    return (int64_t)arena.used;
}

static eq_linear copy_weight(eq_ctx *ctx, const eq_linear *from, eq_dense_weight *to)
{
    enum { CHUNK = 32 };
    int64_t chunks = (from->N + CHUNK - 1) / CHUNK;
    size_t row_bytes = (size_t)from->K * elem_bytes(to->type);
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t row = c * CHUNK, rows = from->N - row < CHUNK ? from->N - row : CHUNK;
        from->form->rows(from, to->data + (size_t)row * row_bytes, to->type, row, rows);
    }
    return (eq_linear){&DENSE, from->kernels, from->N, from->K, to};
}

static eq_status copy_weights(eq_ctx *ctx, eq_dense *dense, const eq_decoder *d, eq_dtype type)
{
    int64_t L = d->config.L;
    dense->weights = eq_alloc(ctx, linears_of(d), sizeof *dense->weights);
    if (!dense->weights) return EQ_ENOMEM;
    eq_status st = eq_arena_reserve(ctx, &dense->arena, (size_t)eq_dense_bytes(d, type));
    if (st != EQ_OK) return st;
    layout(&dense->arena, dense->weights, d, type);
    for (int64_t i = 0; st == EQ_OK && i < L * EQ_UNITS; i++) {
        dense->blocks[i / EQ_UNITS].units[i % EQ_UNITS] =
            copy_weight(ctx, linear_at(d, i), &dense->weights[i]);
        if (i % EQ_UNITS != EQ_UNITS - 1) continue;
        eq_decoder_release_block(d, i / EQ_UNITS);
        st = eq_check_interrupt(ctx);
    }
    dense->head = copy_weight(ctx, &d->head, &dense->weights[L * EQ_UNITS]);
    return st;
}

eq_status eq_dense_init(eq_ctx *ctx, eq_dense *dense, const eq_decoder *d, eq_dtype type, bool copy)
{
    *dense = (eq_dense){.head = d->head};
    dense->blocks = eq_alloc(ctx, d->config.L, sizeof *dense->blocks);
    if (!dense->blocks) return EQ_ENOMEM;
    for (int64_t i = 0; i < d->config.L; i++)
        dense->blocks[i] = d->blocks[i].block;
    eq_status st = copy ? copy_weights(ctx, dense, d, type) : EQ_OK;
    if (st != EQ_OK) eq_dense_deinit(dense);
    return st;
}

void eq_dense_deinit(eq_dense *dense)
{
    eq_free(dense->blocks);
    eq_free(dense->weights);
    eq_arena_release(&dense->arena);
    *dense = (eq_dense){0};
}
