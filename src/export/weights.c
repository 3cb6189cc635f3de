#include "export/weights.h"

#include <math.h>
#include <stdio.h>

enum { BLOCK_LINEARS = 7, ENDS = 3 };

static void add_end(eq_weight *w, const eq_decoder *d, const char *module, const eq_stored *stored)
{
    snprintf(w->module, sizeof w->module, "%s", module);
    w->suffix = "weight";
    w->N = d->config.V;
    w->K = d->config.C;
    w->stored = &stored->parts[0];
}

/* Linears of one unit of block i; gives how many. */
static int64_t add_unit(eq_weight *w, const eq_decoder *d, int64_t i, eq_unit unit)
{
    eq_part parts[EQ_MAX_PARTS];
    int count = eq_unit_parts(&d->config, unit, parts);
    for (int p = 0; p < count; p++, w++) {
        snprintf(w->module, sizeof w->module, "model.layers.%lld.%s", (long long)i, parts[p].name);
        w->suffix = "weight";
        w->N = parts[p].rows;
        w->K = eq_unit_columns(&d->config, unit);
        w->stored = &d->blocks[i].stored[unit].parts[p];
        w->linear = true;
        if (unit == EQ_QKV && p < 2) w->head_size = (int)d->config.D;
    }
    return count;
}

static int64_t add_block(eq_weight *w, const eq_decoder *d, int64_t i)
{
    const float *vectors = d->vectors + i * eq_vector_elems(&d->config);
    eq_vector list[EQ_MOST_VECTORS];
    int count = eq_vectors(&d->config, list);
    int64_t n = 0;
    for (int u = 0; u < EQ_UNITS; u++)
        n += add_unit(w + n, d, i, (eq_unit)u);
    for (int v = 0; v < count; v++, n++) {
        snprintf(w[n].module, sizeof w[n].module, "model.layers.%lld.%s", (long long)i,
                 list[v].module);
        w[n].suffix = list[v].suffix;
        w[n].N = 1;
        w[n].K = list[v].n;
        w[n].vector = vectors + list[v].offset;
        w[n].head_size = list[v].head_size;
    }
    return n;
}

eq_status eq_weights_list(eq_ctx *ctx, const eq_decoder *d, eq_weight **weights, int64_t *count)
{
    const eq_config *c = &d->config;
    int64_t n = 0;
    eq_weight *w = eq_alloc(ctx, c->L * (BLOCK_LINEARS + EQ_MOST_VECTORS) + ENDS, sizeof *w);
    *weights = w;
    if (!w) return EQ_ENOMEM;
    add_end(&w[n++], d, "model.embed_tokens", &d->embedding_stored);
    for (int64_t i = 0; i < c->L; i++)
        n += add_block(w + n, d, i);
    w[n++] = (eq_weight){
        .module = "model.norm", .suffix = "weight", .N = 1, .K = c->C, .vector = d->final_norm};
    if (!c->tied) add_end(&w[n++], d, "lm_head", &d->head_stored);
    *count = n;
    return EQ_OK;
}

bool eq_weight_is_packed(const eq_weight *w)
{
    return w->stored && w->stored->packed;
}

eq_dtype eq_weight_type(const eq_weight *w)
{
    return w->vector ? EQ_F32 : w->stored->tensor.type;
}

bool eq_weight_is_blocks(const eq_weight *w)
{
    return !eq_weight_is_packed(w) && eq_dtype_get(eq_weight_type(w))->block_elems > 1;
}

eq_status eq_weight_check_grid(eq_ctx *ctx, eq_weight *w, bool *halves, int *least)
{
    const eq_qmatrix *q = &w->stored->matrix;
    int64_t groups = q->K / q->g;
    float *s = eq_alloc(ctx, 2 * groups, sizeof *s), *z = s + groups;
    if (!s) return EQ_ENOMEM;
    *halves = w->symmetric = true;
    *least = 1 << q->bits;
    for (int64_t n = 0; n < q->N; n++) {
        eq_qmatrix_grid(s, z, q, n);
        for (int64_t k = 0; k < groups; k++) {
            *halves = *halves && isfinite(s[k]) && eq_f16_f32(eq_f32_f16(s[k])) == s[k];
            w->symmetric = w->symmetric && z[k] == (float)(1 << (q->bits - 1));
            if (z[k] < (float)*least) *least = (int)z[k];
        }
    }
    eq_free(s);
    return EQ_OK;
}

double eq_weight_bits(const eq_weight *w)
{
    const eq_qmatrix *q = w->stored ? &w->stored->matrix : NULL;
    if (eq_weight_is_packed(w)) return (double)eq_qmatrix_stored_bits(w->N, w->K, q->g, q->bits);
    return 8 * (double)eq_dtype_bytes(eq_weight_type(w), w->N * w->K);
}

void eq_weight_rows(float *out, const eq_weight *w, int64_t row0, int64_t rows)
{
    if (w->vector)
        memcpy(out, w->vector, (size_t)w->K * sizeof *out);
    else if (w->stored->packed)
        eq_qmatrix_unpack(out, EQ_F32, &w->stored->matrix, row0, rows);
    else
        eq_tensor_rows_f32(out, w->K, &w->stored->tensor, row0, rows);
}
