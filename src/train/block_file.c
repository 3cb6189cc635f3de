#include "train/block_file.h"

#include <stdio.h>

/* One linear while its tensors are described, written or found. */
typedef struct linear_place {
    const char *name; /* "mlp.up_proj" */
    eq_unit unit;
    int64_t row0; /* in its unit */
    eq_qmatrix shape;
} linear_place;

enum { LINEARS = 7 };

static void list_linears(linear_place out[LINEARS], const eq_config *c,
                         const eq_block_scheme *scheme)
{
    int n = 0;
    for (int u = 0; u < EQ_UNITS; u++) {
        eq_part parts[EQ_MAX_PARTS];
        int count = eq_unit_parts(c, (eq_unit)u, parts);
        const eq_scheme *grid = &scheme->units[u];
        int64_t K = eq_unit_columns(c, (eq_unit)u);
        for (int p = 0; p < count; p++) {
            const eq_qmatrix shape = {
                .bits = grid->bits, .N = parts[p].rows, .K = K, .g = eq_scheme_group(grid, K)};
            out[n++] = (linear_place){parts[p].name, (eq_unit)u, parts[p].row0, shape};
        }
    }
}

int64_t eq_block_file_entries(const eq_config *c, const eq_block_scheme *scheme, int64_t block,
                              eq_tensor_entry entries[EQ_BLOCK_TENSORS],
                              char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME])
{
    linear_place linears[LINEARS];
    int64_t n = 0;
    list_linears(linears, c, scheme);
    for (int i = 0; i < LINEARS; i++, n += EQ_PACKED_TENSORS) {
        char prefix[EQ_TENSOR_NAME - 8];
        snprintf(prefix, sizeof prefix, "model.layers.%lld.%s", (long long)block, linears[i].name);
        eq_packed_entries(&entries[n], &names[n], prefix, &linears[i].shape);
    }
    static const char *const NORMS[] = {"input_layernorm", "post_attention_layernorm"};
    for (int i = 0; i < 2; i++, n++) {
        snprintf(names[n], EQ_TENSOR_NAME, "model.layers.%lld.%s.weight", (long long)block,
                 NORMS[i]);
        entries[n] = (eq_tensor_entry){names[n], EQ_F32, 1, {c->C}};
    }
    return n;
}

/* The largest unit decides the buffers of all. */
static eq_status frozen_init(eq_ctx *ctx, eq_frozen *f, const eq_block *block,
                             const eq_block_scheme *scheme)
{
    int64_t weights = 0, groups = 0, columns = 0;
    for (int u = 0; u < EQ_UNITS; u++) {
        int64_t K = block->units[u].K, w = block->units[u].N * K;
        int64_t g = w / eq_scheme_group(&scheme->units[u], K);
        weights = w > weights ? w : weights;
        groups = g > groups ? g : groups;
        columns = K > columns ? K : columns;
    }
    return eq_frozen_init(ctx, f, weights, groups, columns);
}

eq_status eq_block_file_write(eq_ctx *ctx, const eq_block *block, const eq_block_scheme *scheme,
                              int64_t index, const char *path)
{
    eq_tensor_entry entries[EQ_BLOCK_TENSORS];
    char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME];
    linear_place linears[LINEARS];
    eq_safetensors_writer w = {0};
    eq_frozen f = {0};
    int64_t n = eq_block_file_entries(block->config, scheme, index, entries, names);
    list_linears(linears, block->config, scheme);
    eq_status st = frozen_init(ctx, &f, block, scheme);
    if (st == EQ_OK) st = eq_safetensors_begin(ctx, &w, path, entries, n);
    if (st != EQ_OK) goto done;
    for (int i = 0; i < LINEARS; i++) {
        const eq_linear *unit = &block->units[linears[i].unit];
        bool fresh = i == 0 || linears[i].unit != linears[i - 1].unit;
        if (fresh) unit->form->freeze(ctx, unit, f.codes, f.scales, f.zeros);
        eq_packed_write(&w, &linears[i].shape, linears[i].row0, &f);
    }
    size_t norm_bytes = (size_t)block->config->C * sizeof(float);
    eq_safetensors_write(&w, block->norm1, norm_bytes);
    eq_safetensors_write(&w, block->norm2, norm_bytes);
    st = eq_safetensors_commit(&w);
done:
    eq_frozen_deinit(&f);
    return st;
}

static eq_status find_linear(eq_ctx *ctx, eq_block_file *f, const linear_place *l,
                             const eq_tensor_entry *e)
{
    eq_stored *stored = &f->stored[l->unit];
    eq_stored_part *part = &stored->parts[stored->count++];
    *part = (eq_stored_part){.row0 = l->row0, .rows = l->shape.N, .packed = true};
    return eq_packed_find(ctx, f->file, &part->matrix, e, &l->shape);
}

eq_status eq_block_file_open(eq_ctx *ctx, eq_block_file *f, const eq_config *config,
                             const eq_block_scheme *scheme, int64_t block, const char *path)
{
    *f = (eq_block_file){0};
    eq_tensor_entry entries[EQ_BLOCK_TENSORS];
    char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME];
    linear_place linears[LINEARS];
    int64_t n = eq_block_file_entries(config, scheme, block, entries, names), C = config->C;
    list_linears(linears, config, scheme);
    eq_status st = eq_safetensors_open(ctx, &f->file, path);
    for (int i = 0; st == EQ_OK && i < LINEARS; i++)
        st = find_linear(ctx, f, &linears[i], &entries[i * EQ_PACKED_TENSORS]);
    if (st == EQ_OK) {
        f->norms = eq_alloc(ctx, 2 * C, sizeof *f->norms);
        if (!f->norms) st = EQ_ENOMEM;
    }
    for (int i = 0; st == EQ_OK && i < 2; i++) {
        eq_tensor t;
        st = eq_safetensors_expect(ctx, f->file, &entries[n - 2 + i], &t);
        if (st == EQ_OK) eq_tensor_rows_f32(f->norms + i * C, C, &t, 0, 1);
    }
    if (st != EQ_OK) {
        eq_block_file_close(f);
        return st;
    }
    f->block = (eq_block){.config = config, .norm1 = f->norms, .norm2 = f->norms + C};
    for (int u = 0; u < EQ_UNITS; u++)
        f->block.units[u] =
            eq_linear_stored(ctx->kernels, &f->stored[u], eq_unit_columns(config, (eq_unit)u));
    return EQ_OK;
}

void eq_block_file_close(eq_block_file *f)
{
    eq_safetensors_close(f->file);
    eq_free(f->norms);
    *f = (eq_block_file){0};
}
