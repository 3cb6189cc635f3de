#include "train/teacher_file.h"

#include "base/file.h"

#include <stdio.h>

/* PART: windows of a file. */
enum { NAME = 32, PART = 16 };

int64_t eq_teacher_files_bytes(int64_t n, int64_t T, int64_t top)
{
    return n * (T - 1) * top * (int64_t)(sizeof(int32_t) + sizeof(float));
}

static char *part_path(eq_ctx *ctx, const eq_teacher_files *files, int64_t number)
{
    return eq_format(ctx, "%s-%05lld.safetensors", files->stem, (long long)number);
}

/* Tensors 2 i and 2 i + 1 of a part: "ids.<i>" I32 and "q.<i>" F32, each [T - 1, top]. */
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

/* Windows of a set that are to be run, and those that have been in this call. */
typedef struct making {
    eq_whole *whole;
    const int32_t *ids; /* [n, T] */
    int64_t n, first;   /* windows before first were there */
    double start;
} making;

static void report(eq_ctx *ctx, const making *m, int64_t done)
{
    double seconds = eq_seconds() - m->start;
    double left = seconds / (double)(done - m->first) * (double)(m->n - done);
    const eq_progress p = {.task = "running the teacher",
                           .unit = "windows",
                           .done = done,
                           .total = m->n,
                           .loss = -1,
                           .per_second = -1,
                           .seconds_left = left};
    eq_report(ctx, &p);
}

static eq_status write_windows(eq_ctx *ctx, eq_safetensors_writer *w, const making *m, int64_t from,
                               int64_t count)
{
    const eq_whole_shape *s = &m->whole->shape;
    int64_t entries = (s->T - 1) * s->top;
    const eq_logits_top top = {eq_alloc(ctx, entries, sizeof(int32_t)),
                               eq_alloc(ctx, entries, sizeof(float))};
    eq_status st = top.ids && top.q ? EQ_OK : EQ_ENOMEM;
    for (int64_t i = from; st == EQ_OK && i < from + count; i++) {
        st = eq_whole_find_top(ctx, m->whole, m->ids + i * s->T, &top);
        if (st == EQ_OK && !probabilities(top.q, entries))
            st = eq_fail(ctx, EQ_ENUMERIC,
                         "%s: window %lld: the full-precision model's logits are not finite",
                         eq_checkpoint_path(s->teacher->checkpoint), (long long)i);
        if (st == EQ_OK) st = eq_safetensors_write(w, top.ids, (size_t)entries * sizeof *top.ids);
        if (st == EQ_OK) st = eq_safetensors_write(w, top.q, (size_t)entries * sizeof *top.q);
        if (st == EQ_OK) report(ctx, m, i + 1);
    }
    eq_free(top.ids);
    eq_free(top.q);
    return st;
}

static eq_status make_part(eq_ctx *ctx, const making *m, int64_t from, const char *path)
{
    eq_safetensors_writer w = {0};
    eq_tensor_entry entries[2 * PART];
    char names[2 * PART][NAME];
    int64_t count = m->n - from < PART ? m->n - from : PART;
    for (int64_t i = 0; i < count; i++)
        describe(entries + 2 * i, names + 2 * i, i, &m->whole->shape);
    eq_status st = eq_safetensors_begin(ctx, &w, path, entries, 2 * count);
    if (st != EQ_OK) return st;
    st = write_windows(ctx, &w, m, from, count);
    if (st == EQ_OK) return eq_safetensors_commit(&w);
    eq_safetensors_abandon(&w);
    return st;
}

eq_status eq_teacher_files_make(eq_ctx *ctx, eq_teacher_files *files, char *stem, eq_whole *whole,
                                const int32_t *ids, int64_t n)
{
    making m = {.whole = whole, .ids = ids, .n = n, .start = eq_seconds()};
    *files = (eq_teacher_files){.stem = stem};
    eq_status st = stem ? EQ_OK : EQ_ENOMEM;
    for (int64_t from = 0; st == EQ_OK && from < n; from += PART) {
        char *path = part_path(ctx, files, from / PART);
        if (!path) st = EQ_ENOMEM;
        if (path && eq_file_exists(path))
            m.first = from + PART;
        else if (path)
            st = make_part(ctx, &m, from, path);
        eq_free(path);
    }
    return st;
}

static eq_status open_part(eq_ctx *ctx, eq_teacher_files *files, int64_t number)
{
    if (files->part && files->number == number) return EQ_OK;
    eq_safetensors_close(files->part);
    files->part = NULL;
    files->number = number;
    char *path = part_path(ctx, files, number);
    eq_status st = path ? eq_safetensors_open(ctx, &files->part, path) : EQ_ENOMEM;
    eq_free(path);
    return st;
}

eq_status eq_teacher_files_window(eq_ctx *ctx, eq_teacher_files *files, const eq_whole *whole,
                                  int64_t i, eq_logits_top *top)
{
    char names[2][NAME];
    eq_tensor_entry entries[2];
    eq_tensor ids, q;
    const eq_whole_shape *s = &whole->shape;
    describe(entries, names, i % PART, s);
    eq_status st = open_part(ctx, files, i / PART);
    if (st == EQ_OK) st = eq_safetensors_expect(ctx, files->part, &entries[0], &ids);
    if (st == EQ_OK) st = eq_safetensors_expect(ctx, files->part, &entries[1], &q);
    if (st != EQ_OK) return st;
    const char *path = eq_safetensors_map(files->part)->path;
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

void eq_teacher_files_close(eq_teacher_files *files)
{
    eq_safetensors_close(files->part);
    eq_free(files->stem);
    *files = (eq_teacher_files){0};
}
