#include "train/packed.h"

#include "tensor/super_block.h"

#include <stdio.h>

void eq_packed_entries(eq_tensor_entry entries[EQ_PACKED_TENSORS],
                       char names[EQ_PACKED_TENSORS][EQ_TENSOR_NAME], const char *prefix,
                       const eq_qmatrix *shape)
{
    static const char *const TENSORS[] = {"qweight", "qzeros", "scales", "g_idx"};
    int64_t N = shape->N, K = shape->K, groups = K / shape->g;
    entries[0] = (eq_tensor_entry){NULL, EQ_I32, 2, {K * shape->bits / 32, N}};
    entries[1] = (eq_tensor_entry){NULL, EQ_I32, 2, {groups, N * shape->bits / 32}};
    entries[2] = (eq_tensor_entry){NULL, EQ_F16, 2, {groups, N}};
    entries[3] = (eq_tensor_entry){NULL, EQ_I32, 1, {K}};
    for (int t = 0; t < EQ_PACKED_TENSORS; t++) {
        snprintf(names[t], EQ_TENSOR_NAME, "%s.%s", prefix, TENSORS[t]);
        entries[t].name = names[t];
    }
}

eq_status eq_frozen_init(eq_ctx *ctx, eq_frozen *f, const eq_frozen_size *size)
{
    *f = (eq_frozen){.codes = eq_alloc(ctx, size->weights, 1),
                     .scales = eq_alloc(ctx, size->groups, sizeof(float)),
                     .zeros = eq_alloc(ctx, size->groups, sizeof(float)),
                     .words = eq_alloc(ctx, size->weights, 1),
                     .zero_words = eq_alloc(ctx, size->groups, 1),
                     .halves = eq_alloc(ctx, size->groups, 2),
                     .whole = eq_alloc(ctx, size->groups, 1),
                     .order = eq_alloc(ctx, size->columns, sizeof(int32_t))};
    bool ok = f->codes && f->zeros && f->scales && f->words && f->zero_words && f->halves &&
              f->whole && f->order;
    return ok ? EQ_OK : EQ_ENOMEM;
}

int64_t eq_frozen_bytes(const eq_frozen_size *size)
{
    return 2 * size->weights + 12 * size->groups + (int64_t)sizeof(int32_t) * size->columns;
}

void eq_frozen_deinit(eq_frozen *f)
{
    eq_free(f->codes);
    eq_free(f->zeros);
    eq_free(f->scales);
    eq_free(f->words);
    eq_free(f->zero_words);
    eq_free(f->halves);
    eq_free(f->whole);
    eq_free(f->order);
    *f = (eq_frozen){0};
}

static eq_status write_tensors(eq_safetensors_writer *w, const eq_qmatrix *q, int32_t *order)
{
    for (int64_t k = 0; k < q->K; k++)
        order[k] = (int32_t)(k / q->g);
    eq_safetensors_write(w, q->qweight, eq_qmatrix_weight_bytes(q->N, q->K, q->bits));
    eq_safetensors_write(w, q->qzeros, eq_qmatrix_zero_bytes(q->N, q->K, q->g, q->bits));
    eq_safetensors_write(w, q->scales, eq_qmatrix_scale_bytes(q->N, q->K, q->g));
    return eq_safetensors_write(w, order, (size_t)q->K * sizeof *order);
}

eq_status eq_packed_write(eq_safetensors_writer *w, const eq_qmatrix *shape, int64_t row0,
                          eq_frozen *f)
{
    int64_t groups = shape->K / shape->g;
    eq_qmatrix q = *shape;
    for (int64_t i = 0; i < q.N * groups; i++)
        f->whole[i] = (uint8_t)f->zeros[row0 * groups + i];
    eq_qmatrix_pack(f->words, f->zero_words, f->halves, f->codes + row0 * q.K, f->whole,
                    f->scales + row0 * groups, shape);
    q.qweight = f->words;
    q.qzeros = f->zero_words;
    q.scales = f->halves;
    return write_tensors(w, &q, f->order);
}

eq_status eq_packed_copy(eq_ctx *ctx, eq_safetensors_writer *w, const eq_qmatrix *stored)
{
    int32_t *order = eq_alloc(ctx, stored->K, sizeof *order);
    eq_status st = order ? write_tensors(w, stored, order) : EQ_ENOMEM;
    eq_free(order);
    return st;
}

eq_status eq_packed_find(eq_ctx *ctx, const eq_safetensors *file, eq_qmatrix *stored,
                         const eq_tensor_entry entries[EQ_PACKED_TENSORS], const eq_qmatrix *shape)
{
    eq_tensor w, z, s;
    eq_status st = eq_safetensors_expect(ctx, file, &entries[0], &w);
    if (st == EQ_OK) st = eq_safetensors_expect(ctx, file, &entries[1], &z);
    if (st == EQ_OK) st = eq_safetensors_expect(ctx, file, &entries[2], &s);
    if (st != EQ_OK) return st;
    *stored = *shape;
    stored->qweight = w.data;
    stored->qzeros = z.data;
    stored->scales = s.data;
    stored->scale_type = s.type;
    return EQ_OK;
}

void eq_super_entry(eq_tensor_entry *entry, char name[EQ_TENSOR_NAME], const char *prefix,
                    eq_dtype type, int64_t N, int64_t K)
{
    snprintf(name, EQ_TENSOR_NAME, "%s.%s", prefix, eq_super_suffix(type));
    *entry = (eq_tensor_entry){name, EQ_U8, 2, {N, (int64_t)eq_dtype_bytes(type, K)}};
}

eq_status eq_super_write(eq_safetensors_writer *w, eq_dtype type, const eq_qmatrix *shape,
                         int64_t row0, eq_frozen *f)
{
    const int64_t groups = eq_super_groups(type), blocks = shape->K / EQ_SUPER_BLOCK;
    const size_t bytes = (size_t)eq_dtype_get(type)->block_bytes;
    for (int64_t i = 0; i < shape->N * blocks; i++) {
        const int64_t at = row0 * blocks + i;
        eq_super_block block;
        eq_super_block_fit(&block, type, f->scales + at * groups, f->zeros + at * groups);
        eq_super_block_write(f->words + (size_t)i * bytes, type, &block,
                             f->codes + at * EQ_SUPER_BLOCK);
    }
    return eq_safetensors_write(w, f->words, (size_t)(shape->N * blocks) * bytes);
}

eq_status eq_super_find(eq_ctx *ctx, const eq_safetensors *file, eq_tensor *stored,
                        const eq_tensor_entry *entry, eq_dtype type, int64_t K)
{
    eq_status st = eq_safetensors_expect(ctx, file, entry, stored);
    stored->type = type;
    stored->shape[1] = K;
    return st;
}
