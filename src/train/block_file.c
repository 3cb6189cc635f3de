#include "train/block_file.h"

#include <stdio.h>

/* One linear while its tensors are described, written or found. */
typedef struct linear_place {
    const char *name; /* "mlp.up_proj" */
    eq_unit unit;
    int64_t row0; /* in its unit */
    int64_t N, K, g;
    int bits;
} linear_place;

enum { LINEARS = 7, TENSORS_OF_LINEAR = 4 };

static void list_linears(linear_place out[LINEARS], const eq_config *c,
                         const eq_block_scheme *scheme)
{
    int n = 0;
    for (int u = 0; u < EQ_UNITS; u++) {
        eq_part parts[EQ_MAX_PARTS];
        int count = eq_unit_parts(c, (eq_unit)u, parts);
        const eq_scheme *grid = &scheme->units[u];
        int64_t K = eq_unit_columns(c, (eq_unit)u);
        for (int p = 0; p < count; p++)
            out[n++] = (linear_place){parts[p].name, (eq_unit)u, parts[p].row0,
                                      parts[p].rows, K,          eq_scheme_group(grid, K),
                                      grid->bits};
    }
}

static void describe(eq_tensor_entry *e, char *name, int64_t block, const char *linear,
                     const char *tensor)
{
    snprintf(name, EQ_TENSOR_NAME, "model.layers.%lld.%s.%s", (long long)block, linear, tensor);
    e->name = name;
}

int64_t eq_block_file_entries(const eq_config *c, const eq_block_scheme *scheme, int64_t block,
                              eq_tensor_entry entries[EQ_BLOCK_TENSORS],
                              char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME])
{
    linear_place linears[LINEARS];
    int64_t n = 0;
    list_linears(linears, c, scheme);
    for (int i = 0; i < LINEARS; i++) {
        const linear_place *l = &linears[i];
        int64_t words = l->K * l->bits / 32, groups = l->K / l->g;
        entries[n] = (eq_tensor_entry){NULL, EQ_I32, 2, {words, l->N}};
        entries[n + 1] = (eq_tensor_entry){NULL, EQ_I32, 2, {groups, l->N * l->bits / 32}};
        entries[n + 2] = (eq_tensor_entry){NULL, EQ_F16, 2, {groups, l->N}};
        entries[n + 3] = (eq_tensor_entry){NULL, EQ_I32, 1, {l->K}};
        static const char *const TENSORS[] = {"qweight", "qzeros", "scales", "g_idx"};
        for (int t = 0; t < TENSORS_OF_LINEAR; t++, n++)
            describe(&entries[n], names[n], block, l->name, TENSORS[t]);
    }
    static const char *const NORMS[] = {"input_layernorm", "post_attention_layernorm"};
    for (int i = 0; i < 2; i++, n++) {
        entries[n] = (eq_tensor_entry){NULL, EQ_F32, 1, {c->C}};
        describe(&entries[n], names[n], block, NORMS[i], "weight");
    }
    return n;
}

/* The largest unit decides the buffers of all. */
typedef struct frozen {
    uint8_t *codes, *zeros; /* [N, K], [N, K/g] of a unit */
    float *scales;          /* [N, K/g] */
    char *words;            /* one tensor of the file */
    char *zero_words, *halves;
    int32_t *order;
} frozen;

static void frozen_free(frozen *f)
{
    eq_free(f->codes);
    eq_free(f->zeros);
    eq_free(f->scales);
    eq_free(f->words);
    eq_free(f->zero_words);
    eq_free(f->halves);
    eq_free(f->order);
}

static eq_status frozen_alloc(eq_ctx *ctx, frozen *f, const eq_block *block,
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
    *f = (frozen){.codes = eq_alloc(ctx, weights, 1),
                  .zeros = eq_alloc(ctx, groups, 1),
                  .scales = eq_alloc(ctx, groups, sizeof(float)),
                  .words = eq_alloc(ctx, weights, 1),
                  .zero_words = eq_alloc(ctx, groups, 1),
                  .halves = eq_alloc(ctx, groups, 2),
                  .order = eq_alloc(ctx, columns, sizeof(int32_t))};
    bool ok =
        f->codes && f->zeros && f->scales && f->words && f->zero_words && f->halves && f->order;
    return ok ? EQ_OK : EQ_ENOMEM;
}

/* The four tensors of one linear, from the codes of its unit. */
static eq_status write_linear(eq_safetensors_writer *w, const linear_place *l, frozen *f)
{
    int64_t groups = l->K / l->g;
    const eq_qmatrix shape = {.bits = l->bits, .N = l->N, .K = l->K, .g = l->g};
    eq_qmatrix_pack(f->words, f->zero_words, f->halves, f->codes + l->row0 * l->K,
                    f->zeros + l->row0 * groups, f->scales + l->row0 * groups, &shape);
    for (int64_t k = 0; k < l->K; k++)
        f->order[k] = (int32_t)(k / l->g);
    eq_safetensors_write(w, f->words, eq_qmatrix_weight_bytes(l->N, l->K, l->bits));
    eq_safetensors_write(w, f->zero_words, eq_qmatrix_zero_bytes(l->N, l->K, l->g, l->bits));
    eq_safetensors_write(w, f->halves, eq_qmatrix_scale_bytes(l->N, l->K, l->g));
    return eq_safetensors_write(w, f->order, (size_t)l->K * sizeof *f->order);
}

eq_status eq_block_file_write(eq_ctx *ctx, const eq_block *block, const eq_block_scheme *scheme,
                              int64_t index, const char *path)
{
    eq_tensor_entry entries[EQ_BLOCK_TENSORS];
    char names[EQ_BLOCK_TENSORS][EQ_TENSOR_NAME];
    linear_place linears[LINEARS];
    eq_safetensors_writer w = {0};
    frozen f = {0};
    int64_t n = eq_block_file_entries(block->config, scheme, index, entries, names);
    list_linears(linears, block->config, scheme);
    eq_status st = frozen_alloc(ctx, &f, block, scheme);
    if (st == EQ_OK) st = eq_safetensors_begin(ctx, &w, path, entries, n);
    if (st != EQ_OK) goto done;
    for (int i = 0; i < LINEARS; i++) {
        const eq_linear *unit = &block->units[linears[i].unit];
        bool fresh = i == 0 || linears[i].unit != linears[i - 1].unit;
        if (fresh) unit->form->freeze(ctx, unit, f.codes, f.scales, f.zeros);
        write_linear(&w, &linears[i], &f);
    }
    size_t norm_bytes = (size_t)block->config->C * sizeof(float);
    eq_safetensors_write(&w, block->norm1, norm_bytes);
    eq_safetensors_write(&w, block->norm2, norm_bytes);
    st = eq_safetensors_commit(&w);
done:
    frozen_free(&f);
    return st;
}

static eq_status find_linear(eq_ctx *ctx, eq_block_file *f, const linear_place *l,
                             const eq_tensor_entry *e)
{
    eq_tensor w, z, s;
    eq_status st = eq_safetensors_expect(ctx, f->file, &e[0], &w);
    if (st == EQ_OK) st = eq_safetensors_expect(ctx, f->file, &e[1], &z);
    if (st == EQ_OK) st = eq_safetensors_expect(ctx, f->file, &e[2], &s);
    if (st != EQ_OK) return st;
    eq_stored *stored = &f->stored[l->unit];
    stored->parts[stored->count++] = (eq_stored_part){
        .row0 = l->row0,
        .rows = l->N,
        .packed = true,
        .matrix = {.bits = l->bits,
                   .N = l->N,
                   .K = l->K,
                   .g = l->g,
                   .qweight = w.data,
                   .qzeros = z.data,
                   .scales = s.data,
                   .scale_type = s.type},
    };
    return EQ_OK;
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
        st = find_linear(ctx, f, &linears[i], &entries[i * TENSORS_OF_LINEAR]);
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
