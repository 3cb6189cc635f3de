#include "model/vectors.h"

#include "model/decoder.h"

static void add(eq_vector *list, int *count, const char *module, const char *suffix, int64_t n)
{
    int64_t offset = *count ? list[*count - 1].offset + list[*count - 1].n : 0;
    list[(*count)++] = (eq_vector){module, suffix, offset, n, 0};
}

bool eq_unit_has_bias(const eq_config *c, eq_unit unit)
{
    return unit == EQ_QKV ? c->qkv_bias : unit == EQ_OUT ? c->out_bias : c->mlp_bias;
}

int eq_vectors(const eq_config *c, eq_vector list[EQ_MOST_VECTORS])
{
    int n = 0;
    add(list, &n, "input_layernorm", "weight", c->C);
    add(list, &n, "post_attention_layernorm", "weight", c->C);
    if (c->qk_norm) add(list, &n, "self_attn.q_norm", "weight", c->D);
    if (c->qk_norm) add(list, &n, "self_attn.k_norm", "weight", c->D);
    for (int u = 0; u < EQ_UNITS; u++) {
        eq_part parts[EQ_MAX_PARTS];
        int count = eq_unit_parts(c, (eq_unit)u, parts);
        for (int p = 0; eq_unit_has_bias(c, (eq_unit)u) && p < count; p++) {
            add(list, &n, parts[p].name, "bias", parts[p].rows);
            if (u == EQ_QKV && p < 2) list[n - 1].head_size = (int)c->D;
        }
    }
    return n;
}

int64_t eq_norm_elems(const eq_config *c)
{
    return 2 * c->C + (c->qk_norm ? 2 * c->D : 0);
}

int64_t eq_vector_elems(const eq_config *c)
{
    eq_vector list[EQ_MOST_VECTORS];
    int n = eq_vectors(c, list);
    return list[n - 1].offset + list[n - 1].n;
}

void eq_block_set_norms(eq_block *b, float *norms, float *dnorms)
{
    const eq_config *c = b->config;
    float **const places[] = {&b->norm1,  &b->norm2,  &b->q_norm,  &b->k_norm,
                              &b->dnorm1, &b->dnorm2, &b->dq_norm, &b->dk_norm};
    const int64_t sizes[] = {c->C, c->C, c->D, c->D};
    int64_t offset = 0;
    for (int i = 0; i < (c->qk_norm ? 4 : 2); offset += sizes[i++]) {
        *places[i] = norms + offset;
        *places[4 + i] = dnorms ? dnorms + offset : NULL;
    }
}

void eq_block_set_biases(eq_block *b, const float *biases)
{
    for (int u = 0; u < EQ_UNITS; u++) {
        bool there = eq_unit_has_bias(b->config, (eq_unit)u);
        b->biases[u] = there ? biases : NULL;
        if (there) biases += eq_unit_rows(b->config, (eq_unit)u);
    }
}

void eq_block_copy_norms(float *out, const eq_block *b)
{
    const eq_config *c = b->config;
    const float *const norms[] = {b->norm1, b->norm2, b->q_norm, b->k_norm};
    const int64_t sizes[] = {c->C, c->C, c->D, c->D};
    for (int i = 0; i < (c->qk_norm ? 4 : 2); out += sizes[i++])
        memcpy(out, norms[i], (size_t)sizes[i] * sizeof *out);
}

void eq_block_copy_vectors(float *out, const eq_block *b)
{
    const eq_config *c = b->config;
    eq_block_copy_norms(out, b);
    out += eq_norm_elems(c);
    for (int u = 0; u < EQ_UNITS; u++) {
        int64_t n = b->biases[u] ? eq_unit_rows(c, (eq_unit)u) : 0;
        if (n) memcpy(out, b->biases[u], (size_t)n * sizeof *out);
        out += n;
    }
}

/* Rows of bf16 go through f32 piece by piece. */
void eq_bias_add(eq_ctx *ctx, void *y, const float *bias, int64_t M, int64_t N, eq_dtype type)
{
    enum { PIECE = 512, FEW = 16 };
    const eq_kernels *kernels = ctx->kernels;
    int64_t pieces = (N + PIECE - 1) / PIECE;
#pragma omp parallel for schedule(static) num_threads(ctx->threads) if (M > FEW)
    for (int64_t i = 0; i < M * pieces; i++) {
        float sums[PIECE];
        int64_t first = i % pieces * PIECE, n = N - first < PIECE ? N - first : PIECE;
        void *at = (char *)y + (size_t)(i / pieces * N + first) * eq_elem_bytes(type);
        if (type == EQ_F32) {
            kernels->add(at, bias + first, n);
            continue;
        }
        kernels->unpack(sums, EQ_F32, at, type, n);
        kernels->add(sums, bias + first, n);
        kernels->unpack(at, type, sums, EQ_F32, n);
    }
}
