#include "infer/dense.h"

static const void *dense_whole(const eq_linear *linear, eq_dtype type)
{
    const eq_dense_weight *w = linear->state;
    return w->type == type && !w->packed ? w->data : NULL;
}

static const void *dense_packed(const eq_linear *linear, eq_dtype type)
{
    const eq_dense_weight *w = linear->state;
    return w->type == type && w->packed ? w->data : NULL;
}

static void dense_rows(const eq_linear *linear, void *out, eq_dtype type, int64_t row0,
                       int64_t rows)
{
    const eq_dense_weight *w = linear->state;
    w->source->form->rows(w->source, out, type, row0, rows);
}

static const eq_linear_form DENSE = {
    .rows = dense_rows, .whole = dense_whole, .packed = dense_packed};

/* Linear i of the decoder: the units of the blocks in order, then the head. */
static const eq_linear *linear_at(const eq_decoder *d, int64_t i)
{
    if (i == d->config.L * EQ_UNITS) return &d->head;
    return &d->blocks[i / EQ_UNITS].block.units[i % EQ_UNITS];
}

static const eq_stored *stored_at(const eq_decoder *d, int64_t i)
{
    if (i == d->config.L * EQ_UNITS) return &d->head_stored;
    return &d->blocks[i / EQ_UNITS].stored[i % EQ_UNITS];
}

static int64_t linears_of(const eq_decoder *d)
{
    return d->config.L * EQ_UNITS + 1;
}

/* Bytes of a copy when packed; 0 where products do not pack. */
static size_t packed_bytes(const eq_ctx *ctx, const eq_linear *linear, eq_dtype type)
{
    eq_gemm product = eq_gemm_forward(1, linear->N, linear->K, type, EQ_F32);
    return eq_gemm_packed_bytes(ctx, &product);
}

/* Linear i as `kind` keeps it, without data; returns its bytes. */
static size_t describe(const eq_ctx *ctx, eq_dense_weight *w, const eq_decoder *d, int64_t i,
                       eq_dtype type, eq_dense_kind kind)
{
    const eq_linear *source = linear_at(d, i);
    *w = (eq_dense_weight){.source = source, .type = type};
    if (kind == EQ_DENSE_FAST || kind == EQ_DENSE_EXACT)
        w->in_panels = eq_panel_linear_describe(&w->panels, stored_at(d, i));
    w->panels.exact = kind == EQ_DENSE_EXACT;
    if (w->in_panels) return eq_panel_linear_bytes(&w->panels);
    size_t bytes = kind == EQ_DENSE_PACKED ? packed_bytes(ctx, source, type) : 0;
    w->packed = bytes > 0;
    return w->packed ? bytes : (size_t)(source->N * source->K) * eq_elem_bytes(type);
}

eq_dense_size eq_dense_measure(const eq_ctx *ctx, const eq_decoder *d, eq_dtype type,
                               eq_dense_kind kind)
{
    eq_arena all = eq_arena_measure(), copies = eq_arena_measure();
    eq_dense_weight w;
    for (int64_t i = 0; kind != EQ_DENSE_STORED && i < linears_of(d); i++) {
        int64_t bytes = (int64_t)describe(ctx, &w, d, i, type, kind);
        eq_arena_take(&all, bytes, 1);
        if (!w.in_panels) eq_arena_take(&copies, bytes, 1);
    }
    return (eq_dense_size){(int64_t)all.used, (int64_t)copies.used};
}

/* Describe all weights and reserve their memory. */
static eq_status reserve(eq_ctx *ctx, eq_dense *dense, const eq_decoder *d, eq_dtype type,
                         eq_dense_kind kind)
{
    const int64_t count = linears_of(d);
    eq_arena measure = eq_arena_measure();
    size_t *bytes = eq_alloc(ctx, count, sizeof *bytes);
    dense->weights = eq_alloc(ctx, count, sizeof *dense->weights);
    eq_status st = bytes && dense->weights ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) {
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
        for (int64_t i = 0; i < count; i++)
            bytes[i] = describe(ctx, &dense->weights[i], d, i, type, kind);
        for (int64_t i = 0; i < count; i++)
            eq_arena_take(&measure, (int64_t)bytes[i], 1);
        st = eq_arena_reserve_large(ctx, &dense->arena, measure.used);
    }
    for (int64_t i = 0; st == EQ_OK && i < count; i++)
        dense->weights[i].data = eq_arena_take(&dense->arena, (int64_t)bytes[i], 1);
    eq_free(bytes);
    return st;
}

/* All rows of a linear to out [N, K]. */
static void unpack_all(eq_ctx *ctx, const eq_linear *from, char *out, eq_dtype type)
{
    enum { CHUNK = 32 };
    int64_t chunks = (from->N + CHUNK - 1) / CHUNK;
    size_t row_bytes = (size_t)from->K * eq_elem_bytes(type);
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t row = c * CHUNK, rows = from->N - row < CHUNK ? from->N - row : CHUNK;
        from->form->rows(from, out + (size_t)row * row_bytes, type, row, rows);
    }
}

static eq_linear copy_weight(eq_ctx *ctx, eq_dense_weight *to, const eq_stored *stored,
                             char *scratch)
{
    const eq_linear *from = to->source;
    if (to->in_panels) {
        eq_panel_linear_fill(ctx, &to->panels, stored, to->data);
        return eq_linear_panels(from->kernels, &to->panels);
    }
    unpack_all(ctx, from, to->packed ? scratch : to->data, to->type);
    eq_gemm product = eq_gemm_forward(1, from->N, from->K, to->type, EQ_F32);
    if (to->packed) eq_gemm_pack(ctx, &product, to->data, scratch);
    return (eq_linear){&DENSE, from->kernels, from->N, from->K, to};
}

/* Room for the rows of the largest weight that is packed; NULL if none is, or after a failure. */
static char *packing_scratch(eq_ctx *ctx, const eq_dense_weight *weights, int64_t count)
{
    int64_t most = 0;
    for (int64_t i = 0; i < count; i++) {
        const eq_linear *source = weights[i].source;
        if (weights[i].packed && source->N * source->K > most) most = source->N * source->K;
    }
    return most ? eq_alloc(ctx, most, eq_elem_bytes(weights->type)) : NULL;
}

static eq_status copy_weights(eq_ctx *ctx, eq_dense *dense, const eq_decoder *d)
{
    int64_t count = linears_of(d);
    char *scratch = packing_scratch(ctx, dense->weights, count);
    eq_status st = eq_ctx_status(ctx);
    for (int64_t i = 0; st == EQ_OK && i < count - 1; i++) {
        dense->blocks[i / EQ_UNITS].units[i % EQ_UNITS] =
            copy_weight(ctx, &dense->weights[i], stored_at(d, i), scratch);
        if (i % EQ_UNITS != EQ_UNITS - 1) continue;
        eq_decoder_release_block(d, i / EQ_UNITS);
        st = eq_check_interrupt(ctx);
    }
    if (st == EQ_OK) {
        dense->head =
            copy_weight(ctx, &dense->weights[count - 1], stored_at(d, count - 1), scratch);
        if (d->config.tied && dense->weights[count - 1].in_panels) dense->embedding = dense->head;
        eq_decoder_release_head(d);
    }
    eq_free(scratch);
    return st;
}

eq_status eq_dense_init(eq_ctx *ctx, eq_dense *dense, const eq_decoder *d, eq_dtype type,
                        eq_dense_kind kind)
{
    *dense = (eq_dense){.head = d->head, .embedding = d->embedding};
    eq_status st = EQ_ENOMEM;
    dense->blocks = eq_alloc(ctx, d->config.L, sizeof *dense->blocks);
    if (!dense->blocks) goto done;
    for (int64_t i = 0; i < d->config.L; i++)
        dense->blocks[i] = d->blocks[i].block;
    st = EQ_OK;
    if (kind == EQ_DENSE_STORED) goto done;
    st = reserve(ctx, dense, d, type, kind);
    if (st == EQ_OK) st = copy_weights(ctx, dense, d);
done:
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

void eq_dense_lend(const eq_dense *dense, eq_decoder *decoder, eq_decoder_block *blocks)
{
    for (int64_t i = 0; i < decoder->config.L; i++)
        blocks[i].block = dense->blocks[i];
    decoder->blocks = blocks;
    decoder->head = dense->head;
}
