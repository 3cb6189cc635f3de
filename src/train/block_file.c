#include "train/block_file.h"

#include <stdio.h>

/* One linear while its tensors are described, written or found. */
typedef struct linear_place {
    const char *name; /* "mlp.up_proj" */
    eq_unit unit;
    int64_t row0; /* in its unit */
    eq_qmatrix shape;
    eq_dtype super; /* the type of its super-blocks, or EQ_F32 */
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
            out[n++] = (linear_place){parts[p].name, (eq_unit)u, parts[p].row0, shape,
                                      eq_scheme_super(grid)};
        }
    }
}

static int tensors_of(const linear_place *l)
{
    return l->super ? 1 : EQ_PACKED_TENSORS;
}

int64_t eq_block_file_entries(const eq_config *c, const eq_block_scheme *scheme, int64_t block,
                              eq_tensor_entry entries[EQ_BLOCK_TENSORS],
                              char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME])
{
    linear_place linears[LINEARS];
    int64_t n = 0;
    list_linears(linears, c, scheme);
    for (int i = 0; i < LINEARS; n += tensors_of(&linears[i]), i++) {
        const linear_place *l = &linears[i];
        char prefix[EQ_TENSOR_NAME - 8];
        snprintf(prefix, sizeof prefix, "model.layers.%lld.%s", (long long)block, l->name);
        if (l->super)
            eq_super_entry(&entries[n], names[n], prefix, l->super, l->shape.N, l->shape.K);
        else
            eq_packed_entries(&entries[n], &names[n], prefix, &l->shape);
    }
    eq_vector vectors[EQ_MOST_VECTORS];
    int count = eq_vectors(c, vectors);
    for (int i = 0; i < count; i++, n++) {
        snprintf(names[n], EQ_TENSOR_NAME, "model.layers.%lld.%s.%s", (long long)block,
                 vectors[i].module, vectors[i].suffix);
        entries[n] = (eq_tensor_entry){names[n], EQ_F32, 1, {vectors[i].n}};
    }
    return n;
}

/* The largest unit decides the buffers of all. */
static eq_frozen_size frozen_size(const eq_config *c, const eq_block_scheme *scheme)
{
    eq_frozen_size size = {0};
    for (int u = 0; u < EQ_UNITS; u++) {
        int64_t K = eq_unit_columns(c, (eq_unit)u), w = eq_unit_rows(c, (eq_unit)u) * K;
        int64_t g = w / eq_scheme_group(&scheme->units[u], K);
        size.weights = w > size.weights ? w : size.weights;
        size.groups = g > size.groups ? g : size.groups;
        size.columns = K > size.columns ? K : size.columns;
    }
    return size;
}

int64_t eq_block_file_bytes(const eq_config *c, const eq_block_scheme *schemes)
{
    int64_t most = 0;
    for (int64_t i = 0; i < c->L; i++) {
        const eq_frozen_size size = frozen_size(c, &schemes[i]);
        most = eq_frozen_bytes(&size) > most ? eq_frozen_bytes(&size) : most;
    }
    return most;
}

eq_status eq_block_file_write(eq_ctx *ctx, const eq_block *block, const eq_block_scheme *scheme,
                              int64_t index, const char *path)
{
    eq_tensor_entry entries[EQ_BLOCK_TENSORS];
    char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME];
    linear_place linears[LINEARS];
    eq_safetensors_writer w = {0};
    eq_frozen f = {0};
    const eq_config *c = block->config;
    int64_t n = eq_block_file_entries(c, scheme, index, entries, names);
    list_linears(linears, c, scheme);
    const eq_frozen_size size = frozen_size(c, scheme);
    float *vectors = eq_alloc(ctx, eq_vector_elems(c), sizeof *vectors);
    eq_status st = vectors ? eq_frozen_init(ctx, &f, &size) : EQ_ENOMEM;
    if (st == EQ_OK) st = eq_safetensors_begin(ctx, &w, path, entries, n);
    if (st != EQ_OK) goto done;
    for (int i = 0; i < LINEARS; i++) {
        const eq_linear *unit = &block->units[linears[i].unit];
        bool fresh = i == 0 || linears[i].unit != linears[i - 1].unit;
        if (fresh) unit->form->freeze(ctx, unit, f.codes, f.scales, f.zeros);
        if (linears[i].super)
            eq_super_write(&w, linears[i].super, &linears[i].shape, linears[i].row0, &f);
        else
            eq_packed_write(&w, &linears[i].shape, linears[i].row0, &f);
    }
    eq_block_copy_vectors(vectors, block);
    eq_safetensors_write(&w, vectors, (size_t)eq_vector_elems(c) * sizeof *vectors);
    st = eq_safetensors_commit(&w);
done:
    eq_free(vectors);
    eq_frozen_deinit(&f);
    return st;
}

static eq_status find_linear(eq_ctx *ctx, eq_block_file *f, const linear_place *l,
                             const eq_tensor_entry *e)
{
    eq_stored *stored = &f->stored[l->unit];
    eq_stored_part *part = &stored->parts[stored->count++];
    *part = (eq_stored_part){.row0 = l->row0, .rows = l->shape.N, .packed = !l->super};
    if (l->super) return eq_super_find(ctx, f->file, &part->tensor, e, l->super, l->shape.K);
    return eq_packed_find(ctx, f->file, &part->matrix, e, &l->shape);
}

/* entries: those behind the linears. */
static eq_status read_vectors(eq_ctx *ctx, eq_block_file *f, const eq_config *c,
                              const eq_tensor_entry *entries)
{
    eq_vector list[EQ_MOST_VECTORS];
    int count = eq_vectors(c, list);
    f->vectors = eq_alloc(ctx, eq_vector_elems(c), sizeof *f->vectors);
    eq_status st = f->vectors ? EQ_OK : EQ_ENOMEM;
    for (int i = 0; st == EQ_OK && i < count; i++) {
        eq_tensor t;
        st = eq_safetensors_expect(ctx, f->file, &entries[i], &t);
        if (st == EQ_OK) eq_tensor_rows_f32(f->vectors + list[i].offset, list[i].n, &t, 0, 1);
    }
    return st;
}

eq_status eq_block_file_open(eq_ctx *ctx, eq_block_file *f, const eq_config *config,
                             const eq_block_scheme *scheme, int64_t block, const char *path)
{
    *f = (eq_block_file){0};
    eq_tensor_entry entries[EQ_BLOCK_TENSORS];
    char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME];
    linear_place linears[LINEARS];
    eq_block_file_entries(config, scheme, block, entries, names);
    list_linears(linears, config, scheme);
    eq_status st = eq_safetensors_open(ctx, &f->file, path);
    int64_t n = 0;
    for (int i = 0; st == EQ_OK && i < LINEARS; n += tensors_of(&linears[i]), i++)
        st = find_linear(ctx, f, &linears[i], &entries[n]);
    if (st == EQ_OK) st = read_vectors(ctx, f, config, &entries[n]);
    if (st != EQ_OK) {
        eq_block_file_close(f);
        return st;
    }
    f->block = (eq_block){.config = config};
    eq_block_set_norms(&f->block, f->vectors, NULL);
    eq_block_set_biases(&f->block, f->vectors + eq_norm_elems(config));
    for (int u = 0; u < EQ_UNITS; u++)
        f->block.units[u] =
            eq_linear_stored(ctx->kernels, &f->stored[u], eq_unit_columns(config, (eq_unit)u));
    return EQ_OK;
}

void eq_block_file_close(eq_block_file *f)
{
    eq_safetensors_close(f->file);
    eq_free(f->vectors);
    *f = (eq_block_file){0};
}
