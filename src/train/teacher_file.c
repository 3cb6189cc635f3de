#include "train/teacher_file.h"

#include <stdio.h>

enum { NAME = 32 };

int64_t eq_teacher_file_bytes(int64_t n, int64_t T, int64_t top)
{
    return n * (T - 1) * top * (int64_t)(sizeof(int32_t) + sizeof(float));
}

/* Tensors 2 i and 2 i + 1: "ids.<i>" I32 and "q.<i>" F32, each [T - 1, top]. */
static void describe(eq_tensor_entry e[2], char names[2][NAME], int64_t i, const eq_whole_shape *s)
{
    snprintf(names[0], NAME, "ids.%lld", (long long)i);
    snprintf(names[1], NAME, "q.%lld", (long long)i);
    e[0] = (eq_tensor_entry){names[0], EQ_I32, 2, {s->T - 1, s->top}};
    e[1] = (eq_tensor_entry){names[1], EQ_F32, 2, {s->T - 1, s->top}};
}

static bool probabilities(const float *q, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(q[i] >= 0 && q[i] <= 1)) return false;
    return true;
}

static void report(eq_ctx *ctx, int64_t done, int64_t n, double start)
{
    double seconds = eq_seconds() - start;
    const eq_progress p = {.task = "running the teacher",
                           .unit = "windows",
                           .done = done,
                           .total = n,
                           .loss = -1,
                           .per_second = -1,
                           .seconds_left = seconds / (double)done * (double)(n - done)};
    eq_report(ctx, &p);
}

static eq_status write_windows(eq_ctx *ctx, eq_safetensors_writer *w, eq_whole *whole,
                               const int32_t *ids, int64_t n)
{
    const eq_whole_shape *s = &whole->shape;
    int64_t entries = (s->T - 1) * s->top;
    const eq_logits_top top = {eq_alloc(ctx, entries, sizeof(int32_t)),
                               eq_alloc(ctx, entries, sizeof(float))};
    eq_status st = top.ids && top.q ? EQ_OK : EQ_ENOMEM;
    double start = eq_seconds();
    for (int64_t i = 0; st == EQ_OK && i < n; i++) {
        st = eq_whole_find_top(ctx, whole, ids + i * s->T, &top);
        if (st == EQ_OK && !probabilities(top.q, entries))
            st = eq_fail(ctx, EQ_ENUMERIC,
                         "window %lld: the full-precision model's logits are not "
                         "finite",
                         (long long)i);
        if (st == EQ_OK) st = eq_safetensors_write(w, top.ids, (size_t)entries * sizeof *top.ids);
        if (st == EQ_OK) st = eq_safetensors_write(w, top.q, (size_t)entries * sizeof *top.q);
        if (st == EQ_OK) report(ctx, i + 1, n, start);
    }
    eq_free(top.ids);
    eq_free(top.q);
    return st;
}

eq_status eq_teacher_file_make(eq_ctx *ctx, const char *path, eq_whole *whole, const int32_t *ids,
                               int64_t n)
{
    eq_safetensors_writer w = {0};
    eq_tensor_entry *entries = eq_alloc(ctx, 2 * n, sizeof *entries);
    char(*names)[NAME] = eq_alloc(ctx, 2 * n, NAME);
    eq_status st = entries && names ? EQ_OK : EQ_ENOMEM;
    for (int64_t i = 0; st == EQ_OK && i < n; i++)
        describe(entries + 2 * i, names + 2 * i, i, &whole->shape);
    if (st == EQ_OK) st = eq_safetensors_begin(ctx, &w, path, entries, 2 * n);
    if (st == EQ_OK) {
        st = write_windows(ctx, &w, whole, ids, n);
        if (st == EQ_OK)
            st = eq_safetensors_commit(&w);
        else
            eq_safetensors_abandon(&w);
    }
    eq_free(entries);
    eq_free(names);
    return st;
}

eq_status eq_teacher_file_window(eq_ctx *ctx, const eq_safetensors *file, const eq_whole *whole,
                                 int64_t i, eq_logits_top *top)
{
    char names[2][NAME];
    eq_tensor_entry entries[2];
    eq_tensor ids, q;
    const eq_whole_shape *s = &whole->shape;
    const char *path = eq_safetensors_map(file)->path;
    describe(entries, names, i, s);
    eq_status st = eq_safetensors_expect(ctx, file, &entries[0], &ids);
    if (st == EQ_OK) st = eq_safetensors_expect(ctx, file, &entries[1], &q);
    if (st != EQ_OK) return st;
    int64_t n = (s->T - 1) * s->top;
    *top = (eq_logits_top){(int32_t *)(uintptr_t)ids.data, (float *)(uintptr_t)q.data};
    for (int64_t k = 0; k < n; k++)
        if (top->ids[k] < 0 || top->ids[k] >= s->base->config.V)
            return eq_fail(ctx, EQ_EFORMAT, "%s: %s names a token that is not there", path,
                           names[0]);
    if (!probabilities(top->q, n))
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s holds what is no probability", path, names[1]);
    return EQ_OK;
}
