#include "train/teacher_file.h"

#include <stdio.h>

enum { NAME = 32 };

int64_t eq_teacher_file_bytes(int64_t n, int64_t T, int64_t top)
{
    return n * (T - 1) * top * (int64_t)(sizeof(int32_t) + sizeof(float));
}

/* Tensors 2 i and 2 i + 1: "ids.<i>" I32 and "q.<i>" F32, each [T - 1, top]. */
static void describe(eq_tensor_entry *e, char (*names)[NAME], int64_t n, const eq_whole_shape *s)
{
    for (int64_t i = 0; i < n; i++) {
        snprintf(names[2 * i], NAME, "ids.%lld", (long long)i);
        snprintf(names[2 * i + 1], NAME, "q.%lld", (long long)i);
        e[2 * i] = (eq_tensor_entry){names[2 * i], EQ_I32, 2, {s->T - 1, s->top}};
        e[2 * i + 1] = (eq_tensor_entry){names[2 * i + 1], EQ_F32, 2, {s->T - 1, s->top}};
    }
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
    if (st == EQ_OK) describe(entries, names, n, &whole->shape);
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

static eq_status find(eq_ctx *ctx, const eq_safetensors *file, const eq_whole_shape *s,
                      const char *name, eq_dtype type, const void **data)
{
    eq_tensor t;
    eq_status st = eq_safetensors_get(ctx, file, name, &t);
    if (st == EQ_OK &&
        (t.type != type || t.dims != 2 || t.shape[0] != s->T - 1 || t.shape[1] != s->top))
        st = eq_fail(ctx, EQ_EFORMAT,
                     "%s: %s has another type or shape than expected; remove the file",
                     eq_safetensors_map(file)->path, name);
    if (st == EQ_OK) *data = t.data;
    return st;
}

eq_status eq_teacher_file_window(eq_ctx *ctx, const eq_safetensors *file, const eq_whole *whole,
                                 int64_t i, eq_logits_top *top)
{
    char name[NAME];
    const void *ids = NULL, *q = NULL;
    const eq_whole_shape *s = &whole->shape;
    snprintf(name, sizeof name, "ids.%lld", (long long)i);
    eq_status st = find(ctx, file, s, name, EQ_I32, &ids);
    snprintf(name, sizeof name, "q.%lld", (long long)i);
    if (st == EQ_OK) st = find(ctx, file, s, name, EQ_F32, &q);
    if (st != EQ_OK) return st;
    for (int64_t k = 0; k < (s->T - 1) * s->top; k++)
        if (((const int32_t *)ids)[k] < 0 || ((const int32_t *)ids)[k] >= s->base->config.V)
            return eq_fail(ctx, EQ_EFORMAT, "%s: %s names a token that is not there",
                           eq_safetensors_map(file)->path, name);
    if (!probabilities(q, (s->T - 1) * s->top))
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s holds what is no probability",
                       eq_safetensors_map(file)->path, name);
    *top = (eq_logits_top){(int32_t *)(uintptr_t)ids, (float *)(uintptr_t)q};
    return EQ_OK;
}
