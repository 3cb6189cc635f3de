/* Linears packed as a format packs them: the same codes, zero points and scales in other words. */
#include "export/folder.h"

/* Codes [N, K], scales [N, K/g] and zero points [N, K/g] of a packed weight. */
typedef struct unpacked {
    uint8_t *codes, *zeros; /* owned */
    float *scales;          /* owned */
} unpacked;

static eq_status unpack(eq_ctx *ctx, unpacked *u, const eq_qmatrix *q)
{
    int64_t groups = q->K / q->g;
    float *zeros = eq_alloc(ctx, ctx->threads * groups, sizeof *zeros);
    *u = (unpacked){.codes = eq_alloc(ctx, q->N * q->K, 1),
                    .zeros = eq_alloc(ctx, q->N * groups, 1),
                    .scales = eq_alloc(ctx, q->N * groups, sizeof(float))};
    bool good = zeros && u->codes && u->zeros && u->scales;
    int64_t rows = good ? q->N : 0;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t n = 0; n < rows; n++) {
        float *z = zeros + eq_this_thread() * groups;
        eq_qmatrix_codes(u->codes + n * q->K, q, n);
        eq_qmatrix_grid(u->scales + n * groups, z, q, n);
        for (int64_t k = 0; k < groups; k++)
            u->zeros[n * groups + k] = (uint8_t)z[k];
    }
    eq_free(zeros);
    return good ? EQ_OK : EQ_ENOMEM;
}

static void unpacked_deinit(unpacked *u)
{
    eq_free(u->codes);
    eq_free(u->zeros);
    eq_free(u->scales);
    *u = (unpacked){0};
}

eq_qmatrix eq_layout_matrix(eq_packing_kind kind, const eq_weight *w)
{
    const eq_qmatrix *q = &w->stored->matrix;
    return (eq_qmatrix){.bits = q->bits,
                        .N = q->N,
                        .K = q->K,
                        .g = q->g,
                        .symmetric = w->symmetric && kind == EQ_PACKING_COMPRESSED,
                        .layout = eq_packing_format_get(kind)->layout};
}

/* In the order in which eq_layout_write writes them. Formats name their tensors without a dot. */
int eq_layout_describe(eq_packing_kind kind, const eq_weight *w, eq_tensor_entry *e,
                       const char **suffixes)
{
    const eq_packing_format *f = eq_packing_format_get(kind);
    const eq_qmatrix q = eq_layout_matrix(kind, w);
    const eq_qshapes s = eq_qmatrix_shapes(&q);
    int n = 0;
    suffixes[n] = f->weight;
    e[n++] = (eq_tensor_entry){NULL, EQ_I32, 2, {s.weight[0], s.weight[1]}};
    suffixes[n] = f->zeros;
    if (!q.symmetric) e[n++] = (eq_tensor_entry){NULL, EQ_I32, 2, {s.zeros[0], s.zeros[1]}};
    suffixes[n] = f->scales;
    e[n++] = (eq_tensor_entry){NULL, EQ_F16, 2, {s.scales[0], s.scales[1]}};
    suffixes[n] = f->shape ? f->shape : f->order;
    if (f->shape)
        e[n++] = (eq_tensor_entry){NULL, EQ_I64, 1, {2}};
    else if (!f->layout.across)
        e[n++] = (eq_tensor_entry){NULL, EQ_I32, 1, {q.K}};
    return n;
}

static void fill_order(int32_t *order, const eq_qmatrix *q)
{
    for (int64_t k = 0; k < q->K; k++)
        order[k] = (int32_t)(k / q->g);
}

eq_status eq_layout_write(eq_ctx *ctx, eq_packing_kind kind, const eq_weight *w, eq_shards *shards)
{
    const eq_packing_format *f = eq_packing_format_get(kind);
    const eq_qmatrix q = eq_layout_matrix(kind, w);
    const eq_qshapes s = eq_qmatrix_shapes(&q);
    const int64_t shape[2] = {w->N, w->K};
    int64_t zero_words = s.zeros[0] * s.zeros[1];
    unpacked u = {0};
    void *words = eq_alloc(ctx, (int64_t)eq_qmatrix_bytes(&q), 1);
    void *zeros = eq_alloc(ctx, zero_words, 4), *scales = eq_alloc(ctx, q.N * (q.K / q.g), 2);
    int32_t *order = eq_alloc(ctx, q.K, sizeof *order);
    eq_status st = words && zeros && scales && order ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) st = unpack(ctx, &u, &w->stored->matrix);
    if (st != EQ_OK) goto done;
    eq_qmatrix_pack(words, zeros, scales, u.codes, u.zeros, u.scales, &q);
    fill_order(order, &q);
    st = eq_shards_write(shards, words, eq_qmatrix_bytes(&q));
    if (st == EQ_OK && !q.symmetric) st = eq_shards_write(shards, zeros, (size_t)zero_words * 4);
    if (st == EQ_OK) st = eq_shards_write(shards, scales, eq_qmatrix_scale_bytes(q.N, q.K, q.g));
    if (st == EQ_OK && f->shape) st = eq_shards_write(shards, shape, sizeof shape);
    if (st == EQ_OK && !f->shape && !f->layout.across)
        st = eq_shards_write(shards, order, (size_t)q.K * sizeof *order);
done:
    unpacked_deinit(&u);
    eq_free(words);
    eq_free(zeros);
    eq_free(scales);
    eq_free(order);
    return st;
}
