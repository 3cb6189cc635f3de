#include "model/decoder.h"

#include "tensor/super_block.h"

#include <stdio.h>

enum { NAME_BYTES = 96, LOGITS_BYTES = 64 << 20, LEAST_SLICE = 16 };

int eq_unit_parts(const eq_config *c, eq_unit unit, eq_part parts[EQ_MAX_PARTS])
{
    int64_t q = c->H * c->D, kv = c->Hkv * c->D;
    switch (unit) {
    case EQ_QKV:
        parts[0] = (eq_part){"self_attn.q_proj", 0, q};
        parts[1] = (eq_part){"self_attn.k_proj", q, kv};
        parts[2] = (eq_part){"self_attn.v_proj", q + kv, kv};
        return 3;
    case EQ_OUT:
        parts[0] = (eq_part){"self_attn.o_proj", 0, c->C};
        return 1;
    case EQ_GATE_UP:
        parts[0] = (eq_part){"mlp.gate_proj", 0, c->F};
        parts[1] = (eq_part){"mlp.up_proj", c->F, c->F};
        return 2;
    default:
        parts[0] = (eq_part){"mlp.down_proj", 0, c->C};
        return 1;
    }
}

int64_t eq_unit_columns(const eq_config *c, eq_unit unit)
{
    return unit == EQ_OUT ? c->H * c->D : unit == EQ_DOWN ? c->F : c->C;
}

int64_t eq_unit_rows(const eq_config *c, eq_unit unit)
{
    eq_part parts[EQ_MAX_PARTS];
    int count = eq_unit_parts(c, unit, parts);
    return parts[count - 1].row0 + parts[count - 1].rows;
}

int64_t eq_block_product_bytes(const eq_ctx *ctx, const eq_config *c, int64_t M, eq_dtype type)
{
    size_t most = 0;
    for (int u = 0; u < EQ_UNITS; u++) {
        const int64_t N = eq_unit_rows(c, (eq_unit)u), K = eq_unit_columns(c, (eq_unit)u);
        const eq_gemm products[] = {eq_gemm_forward(M, N, K, type, type),
                                    eq_gemm_input_gradient(M, N, K, type, EQ_F32),
                                    eq_gemm_weight_gradient(M, N, K, N, type)};
        for (int i = 0; i < 3; i++) {
            size_t bytes = eq_gemm_packed_bytes(ctx, &products[i]);
            if (bytes > most) most = bytes;
        }
    }
    return (int64_t)most;
}

static eq_status expect_shape(eq_ctx *ctx, const eq_checkpoint *ck, const char *name,
                              const eq_tensor *t, int64_t N, int64_t K)
{
    bool vector = N == 1 && t->dims == 1 && t->shape[0] == K;
    if (vector || (t->dims == 2 && t->shape[0] == N && t->shape[1] == K)) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s is %d-dimensional [%lld, %lld], expected [%lld, %lld]",
                   eq_checkpoint_path(ck), name, t->dims, (long long)t->shape[0],
                   (long long)t->shape[1], (long long)N, (long long)K);
}

/* A weight [N, K] in any floating type. */
static eq_status find_weight(eq_ctx *ctx, eq_checkpoint *ck, const char *name, eq_tensor *t,
                             int64_t N, int64_t K)
{
    eq_status st = eq_checkpoint_tensor(ctx, ck, name, t);
    if (st == EQ_OK) st = expect_shape(ctx, ck, name, t, N, K);
    if (st == EQ_OK && !eq_dtype_is_real(t->type))
        st = eq_fail(ctx, EQ_EFORMAT, "%s: %s is %s, expected a floating type",
                     eq_checkpoint_path(ck), name, eq_dtype_get(t->type)->name);
    return st;
}

/* A norm or a bias. That of rows in rotary pairs is turned with them, number by number. */
static eq_status load_vector(eq_ctx *ctx, eq_checkpoint *ck, const char *name, float *out,
                             int64_t n)
{
    eq_tensor t;
    eq_status st = find_weight(ctx, ck, name, &t, 1, n);
    if (st != EQ_OK) return st;
    if (t.rope_pairs && eq_dtype_get(t.type)->block_elems != 1)
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s is %s, expected single numbers",
                       eq_checkpoint_path(ck), name, eq_dtype_get(t.type)->name);
    if (!t.rope_pairs) {
        eq_tensor_rows_f32(out, n, &t, 0, 1);
        return EQ_OK;
    }
    t.dims = 2;
    t.shape[1] = 1;
    eq_tensor_rows_f32(out, 1, &t, 0, n);
    return EQ_OK;
}

static eq_status open_packed(eq_ctx *ctx, eq_decoder *d, const char *prefix, eq_stored_part *part,
                             int64_t K)
{
    part->matrix.N = part->rows;
    part->matrix.K = K;
    part->packed = true;
    return eq_packing_linear(ctx, &d->packing, d->checkpoint, prefix, &part->matrix);
}

/* The type of the super-blocks under a prefix; EQ_F32 when there are none. */
static eq_dtype find_super(const eq_checkpoint *ck, const char *prefix)
{
    for (int i = 0; i < EQ_SUPER_TYPES; i++) {
        char name[NAME_BYTES + 8];
        snprintf(name, sizeof name, "%s.%s", prefix, eq_super_suffix(eq_super_types[i]));
        if (eq_checkpoint_has(ck, name)) return eq_super_types[i];
    }
    return EQ_F32;
}

/* Rows of super-blocks, stored as bytes. */
static eq_status open_super(eq_ctx *ctx, const eq_decoder *d, const char *prefix, eq_dtype type,
                            eq_stored_part *part, int64_t K)
{
    const char *path = eq_checkpoint_path(d->checkpoint);
    eq_tensor *t = &part->tensor;
    char name[NAME_BYTES + 8];
    snprintf(name, sizeof name, "%s.%s", prefix, eq_super_suffix(type));
    if (K % EQ_SUPER_BLOCK)
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s: rows of %lld are no whole super-blocks", path,
                       name, (long long)K);
    eq_status st = eq_checkpoint_tensor(ctx, d->checkpoint, name, t);
    if (st == EQ_OK && t->type != EQ_U8)
        st = eq_fail(ctx, EQ_EFORMAT, "%s: %s is %s, expected U8", path, name,
                     eq_dtype_get(t->type)->name);
    if (st == EQ_OK)
        st =
            expect_shape(ctx, d->checkpoint, name, t, part->rows, (int64_t)eq_dtype_bytes(type, K));
    t->type = type;
    t->shape[1] = K;
    return st;
}

/* prefix.weight in any floating type, or the packed tensors or super-blocks of that prefix. */
static eq_status open_part(eq_ctx *ctx, eq_decoder *d, const char *prefix, eq_stored_part *part,
                           int64_t K)
{
    char name[NAME_BYTES + 8];
    snprintf(name, sizeof name, "%s.weight", prefix);
    bool plain = eq_checkpoint_has(d->checkpoint, name);
    if (!plain && eq_packing_has(d->checkpoint, prefix))
        return open_packed(ctx, d, prefix, part, K);
    const eq_dtype super = plain ? EQ_F32 : find_super(d->checkpoint, prefix);
    if (super) return open_super(ctx, d, prefix, super, part, K);
    return find_weight(ctx, d->checkpoint, name, &part->tensor, part->rows, K);
}

/* Whether a linear has a grid, of which bits and group are found. */
static bool find_grid(const eq_decoder *d, const eq_stored_part *part, int *bits, int64_t *group)
{
    const eq_ggml_form *form = part->packed ? NULL : eq_ggml_form_of(part->tensor.type);
    if (!part->packed && (!form || eq_checkpoint_gguf(d->checkpoint))) return false;
    *bits = form ? form->bits : part->matrix.bits;
    *group = form ? form->group : part->matrix.g;
    return true;
}

/* Bits and group of the model are those of the first linear that has any, and it is mixed if
 * another one has others. */
static void note_grid(eq_decoder *d, const eq_stored_part *part, int64_t K)
{
    int bits;
    int64_t group;
    if (!find_grid(d, part, &bits, &group)) return;
    if (d->bits == 16) {
        d->bits = bits;
        d->group = group;
    }
    if (bits != d->bits || group != (d->group == -1 ? K : d->group)) d->mixed = true;
}

/* What the configuration says of packed linears goes before that. */
static void note_grids(eq_decoder *d)
{
    if (d->packing.bits) {
        d->bits = d->packing.bits;
        d->group = d->packing.group;
    }
    for (int64_t i = 0; i < d->config.L * EQ_UNITS; i++) {
        const eq_unit unit = (eq_unit)(i % EQ_UNITS);
        const eq_stored *s = &d->blocks[i / EQ_UNITS].stored[unit];
        for (int p = 0; p < s->count; p++)
            note_grid(d, &s->parts[p], eq_unit_columns(&d->config, unit));
    }
}

static eq_status open_unit(eq_ctx *ctx, eq_decoder *d, int64_t i, eq_unit unit)
{
    eq_decoder_block *b = &d->blocks[i];
    eq_stored *stored = &b->stored[unit];
    eq_part parts[EQ_MAX_PARTS];
    int64_t K = eq_unit_columns(&d->config, unit);
    stored->count = eq_unit_parts(&d->config, unit, parts);
    d->packing.biased = eq_unit_has_bias(&d->config, unit);
    for (int p = 0; p < stored->count; p++) {
        eq_stored_part *part = &stored->parts[p];
        *part = (eq_stored_part){.row0 = parts[p].row0, .rows = parts[p].rows};
        char prefix[NAME_BYTES];
        snprintf(prefix, sizeof prefix, "model.layers.%lld.%s", (long long)i, parts[p].name);
        eq_status st = open_part(ctx, d, prefix, part, K);
        if (st != EQ_OK) return st;
    }
    b->block.units[unit] = eq_linear_stored(ctx->kernels, stored, K);
    return EQ_OK;
}

static eq_status open_block(eq_ctx *ctx, eq_decoder *d, int64_t i)
{
    eq_block *block = &d->blocks[i].block;
    const eq_config *c = &d->config;
    float *vectors = d->vectors + i * eq_vector_elems(c);
    eq_vector list[EQ_MOST_VECTORS];
    int count = eq_vectors(c, list);
    eq_status st = EQ_OK;
    block->config = c;
    eq_block_set_norms(block, vectors, NULL);
    eq_block_set_biases(block, vectors + eq_norm_elems(c));
    for (int v = 0; st == EQ_OK && v < count; v++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "model.layers.%lld.%s.%s", (long long)i, list[v].module,
                 list[v].suffix);
        st = load_vector(ctx, d->checkpoint, name, vectors + list[v].offset, list[v].n);
    }
    for (int u = 0; st == EQ_OK && u < EQ_UNITS; u++)
        st = open_unit(ctx, d, i, (eq_unit)u);
    return st;
}

static eq_status open_end(eq_ctx *ctx, eq_decoder *d, const char *prefix, eq_stored *stored)
{
    d->packing.biased = false;
    *stored = (eq_stored){.count = 1, .parts = {{.rows = d->config.V}}};
    return open_part(ctx, d, prefix, &stored->parts[0], d->config.C);
}

static eq_status open_ends(eq_ctx *ctx, eq_decoder *d)
{
    const eq_config *c = &d->config;
    eq_status st = open_end(ctx, d, "model.embed_tokens", &d->embedding_stored);
    if (st == EQ_OK) st = load_vector(ctx, d->checkpoint, "model.norm.weight", d->final_norm, c->C);
    if (st == EQ_OK && !c->tied) st = open_end(ctx, d, "lm_head", &d->head_stored);
    if (st == EQ_OK) eq_decoder_link_ends(d, ctx->kernels);
    return st;
}

void eq_decoder_link_ends(eq_decoder *d, const eq_kernels *kernels)
{
    if (d->config.tied) d->head_stored = d->embedding_stored;
    d->embedding = eq_linear_stored(kernels, &d->embedding_stored, d->config.C);
    d->head = eq_linear_stored(kernels, &d->head_stored, d->config.C);
}

/* Before there is memory for blocks that the model may not have. */
static eq_status check_last_block(eq_ctx *ctx, const eq_checkpoint *checkpoint, const eq_config *c)
{
    char name[NAME_BYTES];
    eq_tensor norm;
    snprintf(name, sizeof name, "model.layers.%lld.input_layernorm.weight", (long long)c->L - 1);
    return eq_checkpoint_tensor(ctx, checkpoint, name, &norm);
}

eq_status eq_decoder_open(eq_ctx *ctx, eq_decoder **out, eq_checkpoint *checkpoint)
{
    *out = NULL;
    eq_decoder *d = eq_alloc(ctx, 1, sizeof *d);
    if (!d) return EQ_ENOMEM;
    d->checkpoint = checkpoint;
    d->bits = 16;
    eq_config *c = &d->config;
    eq_status st =
        eq_config_parse(ctx, c, eq_checkpoint_config(checkpoint), eq_checkpoint_path(checkpoint));
    if (st == EQ_OK) st = check_last_block(ctx, checkpoint, c);
    if (st == EQ_OK) {
        d->blocks = eq_alloc(ctx, c->L, sizeof *d->blocks);
        d->vectors = eq_alloc(ctx, c->L * eq_vector_elems(c) + c->C, sizeof *d->vectors);
        if (!d->blocks || !d->vectors) st = EQ_ENOMEM;
    }
    if (st == EQ_OK) d->final_norm = d->vectors + c->L * eq_vector_elems(c);
    for (int64_t i = 0; st == EQ_OK && i < c->L; i++)
        st = open_block(ctx, d, i);
    if (st == EQ_OK) note_grids(d);
    if (st == EQ_OK) st = open_ends(ctx, d);
    if (st != EQ_OK) {
        eq_decoder_close(d);
        return st;
    }
    *out = d;
    return EQ_OK;
}

void eq_decoder_close(eq_decoder *d)
{
    if (!d) return;
    eq_free(d->blocks);
    eq_free(d->vectors);
    eq_free(d);
}

static double stored_bits(const eq_stored_part *part, int64_t K)
{
    const eq_qmatrix *q = &part->matrix;
    if (!part->packed) return 8 * (double)eq_dtype_bytes(part->tensor.type, part->rows * K);
    return (double)eq_qmatrix_stored_bits(part->rows, K, q->g, q->bits);
}

double eq_decoder_bits_per_weight(const eq_decoder *d)
{
    double bits = 0, weights = 0;
    for (int64_t i = 0; i < d->config.L * EQ_UNITS; i++) {
        const eq_stored *stored = &d->blocks[i / EQ_UNITS].stored[i % EQ_UNITS];
        int64_t K = eq_unit_columns(&d->config, (eq_unit)(i % EQ_UNITS));
        for (int p = 0; p < stored->count; p++) {
            bits += stored_bits(&stored->parts[p], K);
            weights += (double)(stored->parts[p].rows * K);
        }
    }
    return bits / weights;
}

size_t eq_decoder_scratch(const eq_decoder *d)
{
    size_t most = eq_linear_scratch(d->head.N, d->head.K);
    for (int u = 0; u < EQ_UNITS; u++) {
        const eq_linear *unit = &d->blocks[0].block.units[u];
        size_t need = eq_linear_scratch(unit->N, unit->K);
        most = need > most ? need : most;
    }
    return most;
}

static void release(const eq_decoder *d, const eq_stored *stored)
{
    for (int p = 0; p < stored->count; p++) {
        const eq_stored_part *part = &stored->parts[p];
        const eq_qmatrix *q = &part->matrix;
        if (part->packed)
            eq_checkpoint_release(d->checkpoint, q->qweight, eq_qmatrix_bytes(q));
        else
            eq_checkpoint_release(
                d->checkpoint, part->tensor.data,
                eq_dtype_bytes(part->tensor.type, eq_tensor_elems(&part->tensor)));
    }
}

void eq_decoder_release_block(const eq_decoder *d, int64_t i)
{
    for (int u = 0; u < EQ_UNITS; u++)
        release(d, &d->blocks[i].stored[u]);
}

void eq_decoder_release_head(const eq_decoder *d)
{
    release(d, &d->head_stored);
}

eq_status eq_embed(eq_ctx *ctx, const eq_linear *embedding, float *x, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= embedding->N)
            return eq_fail(ctx, EQ_EINVAL, "token %lld is %d, the vocabulary has %lld",
                           (long long)i, ids[i], (long long)embedding->N);
        embedding->form->rows(embedding, x + i * embedding->K, EQ_F32, ids[i], 1);
    }
    return EQ_OK;
}

static void layout_pass(eq_decoder_pass *p, const eq_decoder *d, const eq_block_shape *shape,
                        int threads)
{
    const eq_config *c = &d->config;
    int64_t M = shape->B * shape->T;
    p->slice = LOGITS_BYTES / (c->V * (int64_t)sizeof(float));
    if (p->slice < LEAST_SLICE) p->slice = LEAST_SLICE;
    if (p->slice > M) p->slice = M;
    p->acts = eq_activations_layout(&p->arena, c, shape, threads);
    p->rope = eq_rope_layout(&p->arena, c, shape->T);
    p->logits = eq_arena_take(&p->arena, p->slice * c->V, sizeof(float));
    p->acts.scratch = eq_arena_take(&p->arena, (int64_t)eq_decoder_scratch(d), 1);
}

int64_t eq_decoder_pass_bytes(const eq_ctx *ctx, const eq_decoder *d, int64_t B, int64_t T,
                              eq_dtype type)
{
    const eq_block_shape shape = {B, T, type, false};
    eq_decoder_pass pass = {.arena = eq_arena_measure()};
    layout_pass(&pass, d, &shape, ctx->threads);
    return (int64_t)pass.arena.used;
}

eq_status eq_decoder_pass_init(eq_ctx *ctx, eq_decoder_pass *p, const eq_decoder *d, int64_t B,
                               int64_t T, eq_dtype type)
{
    const eq_block_shape shape = {B, T, type, false};
    p->arena = eq_arena_measure();
    layout_pass(p, d, &shape, ctx->threads);
    eq_status st = eq_arena_reserve(ctx, &p->arena, p->arena.used);
    if (st != EQ_OK) return st;
    layout_pass(p, d, &shape, ctx->threads);
    eq_rope_fill(&p->rope, &d->config, 0, T);
    return EQ_OK;
}

void eq_decoder_pass_deinit(eq_decoder_pass *p)
{
    eq_arena_release(&p->arena);
}

eq_status eq_decoder_forward(eq_ctx *ctx, const eq_decoder *d, eq_decoder_pass *p,
                             const int32_t *ids)
{
    eq_status st = eq_embed(ctx, &d->embedding, p->acts.x, ids, p->acts.M);
    for (int64_t i = 0; st == EQ_OK && i < d->config.L; i++) {
        eq_block_forward(ctx, &d->blocks[i].block, &p->rope, &p->acts);
        st = eq_check_interrupt(ctx);
    }
    return st == EQ_OK ? eq_ctx_status(ctx) : st;
}

void eq_decoder_logits(eq_ctx *ctx, const eq_decoder *d, eq_decoder_pass *p, int64_t row0,
                       int64_t rows)
{
    const eq_config *c = &d->config;
    eq_activations *a = &p->acts;
    ctx->kernels->rmsnorm_forward(a->n1, a->rstd1, a->x + row0 * c->C, d->final_norm, rows, c->C,
                                  c->eps, a->type);
    eq_linear_call call = {rows, a->type, EQ_F32, false, a->scratch};
    eq_linear_forward(ctx, &d->head, p->logits, a->n1, &call);
}

eq_status eq_precision_type(eq_ctx *ctx, eq_dtype *type, eq_precision precision)
{
    bool native = eq_gemm_has_bf16(ctx);
    if (precision == EQ_PRECISION_BF16 && !native)
        return eq_fail(ctx, EQ_EINVAL, "this CPU has no bf16 products; use --precision f32");
    *type = precision != EQ_PRECISION_F32 && native ? EQ_BF16 : EQ_F32;
    return EQ_OK;
}
