#include "io/safetensors.h"

#include <jansson.h>
#include <stdlib.h>

enum { HEADER_LIMIT = 100000000, PREFIX = 8, PAD = 8 };

typedef struct entry {
    const char *name; /* borrowed from the header's JSON */
    eq_tensor tensor;
    size_t begin, end;   /* from the start of the file */
    const char *problem; /* why it cannot be read, or NULL */
} entry;

struct eq_safetensors {
    eq_map map;
    json_t *header; /* owned */
    entry *entries; /* owned, sorted by name */
    int64_t count;
};

/* Element bytes of any type that the format knows, for the size check of tensors we do not read. */
static size_t type_bytes(const char *name)
{
    static const struct {
        const char *name;
        size_t bytes;
    } TYPES[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
                 {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                 {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (!strcmp(TYPES[i].name, name)) return TYPES[i].bytes;
    return 0;
}

static eq_status bad_entry(eq_ctx *ctx, const eq_safetensors *f, const char *name, const char *what)
{
    return eq_fail(ctx, EQ_EFORMAT, "%s: tensor %s: %s", f->map.path, name, what);
}

/* Number of elements of a shape; -1 when it is not an array of sizes or overflows. */
static int64_t read_shape(eq_tensor *t, const json_t *shape, const char **problem)
{
    int64_t total = 1;
    size_t dims = json_array_size(shape);
    if (!json_is_array(shape)) return -1;
    for (int i = 0; i < EQ_MAX_DIMS; i++)
        t->shape[i] = 1;
    for (size_t i = 0; i < dims; i++) {
        const json_t *value = json_array_get(shape, i);
        int64_t n = json_is_integer(value) ? json_integer_value(value) : -1;
        if (n < 0 || __builtin_mul_overflow(total, n, &total)) return -1;
        if (i < EQ_MAX_DIMS) t->shape[i] = n;
    }
    if (dims > EQ_MAX_DIMS) *problem = "has too many dimensions";
    t->dims = (int)dims;
    return total;
}

static eq_status read_entry(eq_ctx *ctx, const eq_safetensors *f, entry *e, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "dtype"));
    const json_t *offsets = json_object_get(value, "data_offsets");
    const json_t *b = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!type || json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(end))
        return bad_entry(ctx, f, e->name, "dtype or data_offsets is missing");
    int64_t elems = read_shape(&e->tensor, json_object_get(value, "shape"), &e->problem);
    size_t data = f->map.size - e->begin, bytes = 0, width = type_bytes(type);
    int64_t from = json_integer_value(b), to = json_integer_value(end);
    if (from < 0 || to < from || (size_t)to > data)
        return bad_entry(ctx, f, e->name, "its bytes lie outside the file");
    if (elems < 0 || (width && (__builtin_mul_overflow((size_t)elems, width, &bytes) ||
                                bytes != (size_t)(to - from))))
        return bad_entry(ctx, f, e->name, "its shape does not fit its bytes");
    if (!eq_dtype_from_name(&e->tensor.type, type, strlen(type)))
        e->problem = "is of a type that is not supported";
    e->end = e->begin + (size_t)to;
    e->begin += (size_t)from;
    e->tensor.data = f->map.data + e->begin;
    return EQ_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static int by_offset(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static eq_status check_overlap(eq_ctx *ctx, eq_safetensors *f)
{
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_offset);
    for (int64_t i = 1; i < f->count; i++)
        if (f->entries[i].begin < f->entries[i - 1].end)
            return bad_entry(ctx, f, f->entries[i].name, "overlaps another tensor");
    return EQ_OK;
}

static eq_status read_entries(eq_ctx *ctx, eq_safetensors *f, size_t data_start)
{
    const char *name = NULL;
    json_t *value = NULL;
    f->entries = eq_alloc(ctx, (int64_t)json_object_size(f->header), sizeof *f->entries);
    if (!f->entries) return EQ_ENOMEM;
    json_object_foreach(f->header, name, value)
    {
        if (!strcmp(name, "__metadata__")) continue;
        entry *e = &f->entries[f->count++];
        e->name = name;
        e->begin = data_start;
        eq_status st = read_entry(ctx, f, e, value);
        if (st != EQ_OK) return st;
    }
    eq_status st = check_overlap(ctx, f);
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_name);
    return st;
}

static eq_status read_header(eq_ctx *ctx, eq_safetensors *f)
{
    const eq_map *m = &f->map;
    uint64_t n = 0;
    if (m->size < PREFIX)
        return eq_fail(ctx, EQ_EFORMAT, "%s: has %zu bytes, too few for a header", m->path,
                       m->size);
    memcpy(&n, m->data, sizeof n);
    if (n > HEADER_LIMIT || n > m->size - PREFIX)
        return eq_fail(ctx, EQ_EFORMAT, "%s: a header of %llu bytes does not fit the file of %zu",
                       m->path, (unsigned long long)n, m->size);
    json_error_t error;
    f->header =
        json_loadb((const char *)m->data + PREFIX, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(f->header))
        return eq_fail(ctx, EQ_EFORMAT, "%s: the header is not a JSON object: %s", m->path,
                       f->header ? "another kind" : error.text);
    return read_entries(ctx, f, PREFIX + (size_t)n);
}

eq_status eq_safetensors_open(eq_ctx *ctx, eq_safetensors **out, const char *path)
{
    *out = NULL;
    eq_safetensors *f = eq_alloc(ctx, 1, sizeof *f);
    if (!f) return EQ_ENOMEM;
    eq_status st = eq_map_open(ctx, &f->map, path);
    if (st == EQ_OK) st = read_header(ctx, f);
    if (st != EQ_OK) {
        eq_safetensors_close(f);
        return st;
    }
    *out = f;
    return EQ_OK;
}

void eq_safetensors_close(eq_safetensors *f)
{
    if (!f) return;
    json_decref(f->header);
    eq_free(f->entries);
    eq_map_close(&f->map);
    eq_free(f);
}

int64_t eq_safetensors_count(const eq_safetensors *f)
{
    return f->count;
}

const char *eq_safetensors_name(const eq_safetensors *f, int64_t i)
{
    return f->entries[i].name;
}

const eq_map *eq_safetensors_map(const eq_safetensors *f)
{
    return &f->map;
}

static const entry *find(const eq_safetensors *f, const char *name)
{
    const entry key = {.name = name};
    return bsearch(&key, f->entries, (size_t)f->count, sizeof key, by_name);
}

bool eq_safetensors_has(const eq_safetensors *f, const char *name)
{
    return find(f, name) != NULL;
}

eq_status eq_safetensors_get(eq_ctx *ctx, const eq_safetensors *f, const char *name,
                             eq_tensor *tensor)
{
    const entry *e = find(f, name);
    if (!e) return bad_entry(ctx, f, name, "is not in the file");
    if (e->problem) return bad_entry(ctx, f, name, e->problem);
    *tensor = e->tensor;
    return EQ_OK;
}

static json_t *describe(const eq_tensor_entry *e, size_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < e->dims; i++)
        json_array_append_new(shape, json_integer(e->shape[i]));
    size_t end = begin + eq_tensor_entry_bytes(e);
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", eq_dtype_get(e->type)->name, "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

eq_status eq_safetensors_begin(eq_ctx *ctx, eq_safetensors_writer *w, const char *path,
                               const eq_tensor_entry *entries, int64_t count)
{
    *w = (eq_safetensors_writer){0};
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (int64_t i = 0; i < count; i++) {
        json_object_set_new(header, entries[i].name, describe(&entries[i], w->expected));
        w->expected += eq_tensor_entry_bytes(&entries[i]);
    }
    bool complete = json_object_size(header) == (size_t)count + 1;
    char *text = header ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (text && !complete) {
        free(text);
        return eq_fail(ctx, EQ_EINTERNAL, "%s: a tensor is declared twice or its name is not UTF-8",
                       path);
    }
    if (!text) return eq_fail(ctx, EQ_ENOMEM, "%s: out of memory for the header", path);
    size_t n = strlen(text), padded = (n + PAD - 1) / PAD * PAD;
    uint64_t size = padded;
    eq_status st = eq_output_open(ctx, &w->out, path);
    if (st == EQ_OK) st = eq_output_write(&w->out, &size, sizeof size);
    if (st == EQ_OK) st = eq_output_write(&w->out, text, n);
    if (st == EQ_OK) st = eq_output_write(&w->out, "        ", padded - n);
    free(text);
    if (st != EQ_OK) eq_output_abandon(&w->out);
    return st;
}

eq_status eq_safetensors_write(eq_safetensors_writer *w, const void *data, size_t size)
{
    w->written += size;
    return eq_output_write(&w->out, data, size);
}

eq_status eq_safetensors_commit(eq_safetensors_writer *w)
{
    if (w->out.status == EQ_OK && w->written != w->expected)
        w->out.status =
            eq_fail(w->out.ctx, EQ_EINTERNAL, "%s: %zu bytes of tensors were written, %zu declared",
                    w->out.path, w->written, w->expected);
    if (w->out.status == EQ_OK) return eq_output_commit(&w->out);
    eq_status st = w->out.status;
    eq_output_abandon(&w->out);
    return st;
}

void eq_safetensors_abandon(eq_safetensors_writer *w)
{
    eq_output_abandon(&w->out);
}

eq_status eq_safetensors_expect(eq_ctx *ctx, const eq_safetensors *f, const eq_tensor_entry *e,
                                eq_tensor *t)
{
    eq_status st = eq_safetensors_get(ctx, f, e->name, t);
    if (st != EQ_OK) return st;
    bool same = t->type == e->type && t->dims == e->dims;
    for (int i = 0; same && i < e->dims; i++)
        same = t->shape[i] == e->shape[i];
    if (same) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: %s has another type or shape than expected; remove the file",
                   eq_safetensors_map(f)->path, e->name);
}

eq_status eq_safetensors_copy(eq_ctx *ctx, const eq_safetensors *f, const eq_tensor_entry *e,
                              void *out)
{
    eq_tensor t;
    eq_status st = eq_safetensors_expect(ctx, f, e, &t);
    if (st == EQ_OK) memcpy(out, t.data, eq_tensor_entry_bytes(e));
    return st;
}
