#include "io/gguf.h"

#include "io/gguf_types.h"

#include <stdlib.h>

enum { LARGEST_COUNT = 1 << 24, LEAST_ALIGNMENT = 8, MOST_ALIGNMENT = 1 << 16 };

typedef struct pair {
    eq_text key;
    enum eq_gguf_type type;
    enum eq_gguf_type element; /* of an array */
    uint64_t count;            /* of an array */
    const uint8_t *value;      /* first byte of the value, or of the array's elements */
    const uint8_t *end;        /* behind its last byte */
} pair;

typedef struct record {
    eq_text name;
    int dims;
    int64_t shape[EQ_MAX_DIMS]; /* as stored: fastest first */
    uint32_t type;              /* ggml's number */
    uint64_t offset;
} record;

struct eq_gguf {
    eq_map map;
    pair *pairs; /* owned */
    int64_t pair_count;
    record *records; /* owned */
    int64_t record_count;
    size_t data; /* where tensor data starts */
};

/* A place in the file; `bad` once something lay outside. */
typedef struct cursor {
    const uint8_t *at, *end;
    bool bad;
} cursor;

static const uint8_t *take(cursor *c, uint64_t n)
{
    if (c->bad || n > (uint64_t)(c->end - c->at)) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->at;
    c->at += n;
    return p;
}

static uint32_t take_u32(cursor *c)
{
    uint32_t v = 0;
    const uint8_t *p = take(c, sizeof v);
    if (p) memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t take_u64(cursor *c)
{
    uint64_t v = 0;
    const uint8_t *p = take(c, sizeof v);
    if (p) memcpy(&v, p, sizeof v);
    return v;
}

static eq_text take_text(cursor *c)
{
    uint64_t n = take_u64(c);
    const uint8_t *p = take(c, n);
    return p ? (eq_text){(const char *)p, (size_t)n} : (eq_text){"", 0};
}

/* Bytes of a scalar; 0 for strings, arrays and unknown types. */
static size_t scalar_bytes(uint32_t type)
{
    static const uint8_t BYTES[EQ_GGUF_TYPES] = {
        [EQ_GGUF_U8] = 1,  [EQ_GGUF_I8] = 1,  [EQ_GGUF_U16] = 2, [EQ_GGUF_I16] = 2,
        [EQ_GGUF_U32] = 4, [EQ_GGUF_I32] = 4, [EQ_GGUF_F32] = 4, [EQ_GGUF_BOOL] = 1,
        [EQ_GGUF_U64] = 8, [EQ_GGUF_I64] = 8, [EQ_GGUF_F64] = 8};
    return type < EQ_GGUF_TYPES ? BYTES[type] : 0;
}

static void skip_array(cursor *c, pair *p)
{
    uint32_t element = take_u32(c);
    p->element = (enum eq_gguf_type)element;
    p->count = take_u64(c);
    p->value = c->at;
    size_t width = scalar_bytes(element);
    uint64_t bytes = 0;
    if (width) {
        if (__builtin_mul_overflow(p->count, width, &bytes)) c->bad = true;
        take(c, bytes);
    } else if (element == EQ_GGUF_STRING) {
        for (uint64_t i = 0; i < p->count && !c->bad; i++)
            take_text(c);
    } else {
        c->bad = true; /* arrays of arrays are in no model file */
    }
}

static void read_pair(cursor *c, pair *p)
{
    p->key = take_text(c);
    uint32_t type = take_u32(c);
    p->type = (enum eq_gguf_type)type;
    p->value = c->at;
    if (type == EQ_GGUF_STRING)
        take_text(c);
    else if (type == EQ_GGUF_ARRAY)
        skip_array(c, p);
    else if (scalar_bytes(type))
        take(c, scalar_bytes(type));
    else
        c->bad = true;
    p->end = c->at;
}

static void read_record(cursor *c, record *r)
{
    r->name = take_text(c);
    uint32_t dims = take_u32(c);
    if (dims < 1 || dims > EQ_MAX_DIMS) c->bad = true;
    for (uint32_t i = 0; i < dims && !c->bad; i++) {
        uint64_t n = take_u64(c);
        if (n > INT32_MAX) c->bad = true;
        r->shape[i] = (int64_t)n;
    }
    r->dims = (int)dims;
    r->type = take_u32(c);
    r->offset = take_u64(c);
}

static eq_status truncated(eq_ctx *ctx, const eq_gguf *f, const char *where, int64_t i)
{
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s %lld is damaged or lies outside the file of %zu bytes",
                   f->map.path, where, (long long)i, f->map.size);
}

static eq_status read_counts(eq_ctx *ctx, eq_gguf *f, cursor *c)
{
    const uint8_t *magic = take(c, 4);
    uint32_t version = take_u32(c);
    uint64_t records = take_u64(c), pairs = take_u64(c);
    if (!magic || memcmp(magic, "GGUF", 4))
        return eq_fail(ctx, EQ_EFORMAT, "%s: is not a GGUF file", f->map.path);
    if (version != 2 && version != 3)
        return eq_fail(ctx, EQ_EFORMAT, "%s: GGUF version %u is not supported, 2 and 3 are",
                       f->map.path, version);
    /* The smallest pair and record take 13 and 24 bytes, so larger counts cannot be true. */
    if (c->bad || records > LARGEST_COUNT || pairs > LARGEST_COUNT || records > f->map.size / 24 ||
        pairs > f->map.size / 13)
        return eq_fail(ctx, EQ_EFORMAT, "%s: a header of %llu values and %llu tensors does not fit",
                       f->map.path, (unsigned long long)pairs, (unsigned long long)records);
    f->pair_count = (int64_t)pairs;
    f->record_count = (int64_t)records;
    f->pairs = eq_alloc(ctx, f->pair_count, sizeof *f->pairs);
    f->records = eq_alloc(ctx, f->record_count, sizeof *f->records);
    return f->pairs && f->records ? EQ_OK : EQ_ENOMEM;
}

static int by_text(const void *a, const void *b)
{
    const eq_text *x = a, *y = b;
    int order = memcmp(x->data, y->data, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* Names [n] must differ, or what a reader gets depends on which one it takes. Sorts them. */
static eq_status check_unique(eq_ctx *ctx, const eq_gguf *f, eq_text *names, int64_t n)
{
    qsort(names, (size_t)n, sizeof *names, by_text);
    for (int64_t i = 1; i < n; i++)
        if (!by_text(&names[i - 1], &names[i]))
            return eq_fail(ctx, EQ_EFORMAT, "%s: %.*s is there twice", f->map.path,
                           (int)(names[i].size < 64 ? names[i].size : 64), names[i].data);
    return EQ_OK;
}

static eq_status check_names(eq_ctx *ctx, const eq_gguf *f)
{
    int64_t pairs = f->pair_count, records = f->record_count;
    eq_text *names = eq_alloc(ctx, pairs > records ? pairs : records, sizeof *names);
    if (!names) return EQ_ENOMEM;
    for (int64_t i = 0; i < pairs; i++)
        names[i] = f->pairs[i].key;
    eq_status st = check_unique(ctx, f, names, pairs);
    for (int64_t i = 0; i < records; i++)
        names[i] = f->records[i].name;
    if (st == EQ_OK) st = check_unique(ctx, f, names, records);
    eq_free(names);
    return st;
}

static eq_status read_header(eq_ctx *ctx, eq_gguf *f)
{
    if (!f->map.size) return eq_fail(ctx, EQ_EFORMAT, "%s: is empty", f->map.path);
    cursor c = {f->map.data, f->map.data + f->map.size, false};
    eq_status st = read_counts(ctx, f, &c);
    for (int64_t i = 0; st == EQ_OK && i < f->pair_count; i++) {
        read_pair(&c, &f->pairs[i]);
        if (c.bad) st = truncated(ctx, f, "metadata value", i);
    }
    for (int64_t i = 0; st == EQ_OK && i < f->record_count; i++) {
        read_record(&c, &f->records[i]);
        if (c.bad) st = truncated(ctx, f, "description of tensor", i);
    }
    if (st == EQ_OK) st = check_names(ctx, f);
    if (st != EQ_OK) return st;
    int64_t alignment = 32;
    eq_gguf_integer(f, "general.alignment", &alignment);
    if (alignment < LEAST_ALIGNMENT || alignment > MOST_ALIGNMENT || (alignment & (alignment - 1)))
        return eq_fail(ctx, EQ_EFORMAT, "%s: general.alignment is %lld", f->map.path,
                       (long long)alignment);
    size_t used = (size_t)(c.at - f->map.data), step = (size_t)alignment;
    f->data = (used + step - 1) / step * step;
    return EQ_OK;
}

eq_status eq_gguf_open(eq_ctx *ctx, eq_gguf **out, const char *path)
{
    *out = NULL;
    eq_gguf *f = eq_alloc(ctx, 1, sizeof *f);
    if (!f) return EQ_ENOMEM;
    eq_status st = eq_map_open(ctx, &f->map, path);
    if (st == EQ_OK) st = read_header(ctx, f);
    if (st != EQ_OK) {
        eq_gguf_close(f);
        return st;
    }
    *out = f;
    return EQ_OK;
}

void eq_gguf_close(eq_gguf *f)
{
    if (!f) return;
    eq_free(f->pairs);
    eq_free(f->records);
    eq_map_close(&f->map);
    eq_free(f);
}

const eq_map *eq_gguf_map(const eq_gguf *f)
{
    return &f->map;
}

static const pair *find_pair(const eq_gguf *f, const char *key)
{
    for (int64_t i = 0; i < f->pair_count; i++)
        if (eq_text_is(f->pairs[i].key, key)) return &f->pairs[i];
    return NULL;
}

static eq_text text_at(const uint8_t **at)
{
    uint64_t n;
    memcpy(&n, *at, sizeof n);
    eq_text t = {(const char *)*at + 8, (size_t)n};
    *at += 8 + n;
    return t;
}

bool eq_gguf_string(const eq_gguf *f, const char *key, eq_text *value)
{
    const pair *p = find_pair(f, key);
    if (!p || p->type != EQ_GGUF_STRING) return false;
    const uint8_t *at = p->value;
    *value = text_at(&at);
    return true;
}

/* An integer of any width. Values of u64 beyond int64 are no size of anything: refused. */
static bool integer_at(const uint8_t *p, enum eq_gguf_type type, int64_t *value)
{
    uint64_t raw = 0;
    memcpy(&raw, p, scalar_bytes(type)); /* the format is little-endian, and so are we */
    switch (type) {
    case EQ_GGUF_U8:
    case EQ_GGUF_U16:
    case EQ_GGUF_U32:
        *value = (int64_t)raw;
        return true;
    case EQ_GGUF_I8:
        *value = (int8_t)raw;
        return true;
    case EQ_GGUF_I16:
        *value = (int16_t)raw;
        return true;
    case EQ_GGUF_I32:
        *value = (int32_t)raw;
        return true;
    case EQ_GGUF_U64:
    case EQ_GGUF_I64:
        *value = (int64_t)raw;
        return type == EQ_GGUF_I64 || raw <= INT64_MAX;
    default:
        return false;
    }
}

bool eq_gguf_has_key(const eq_gguf *f, const char *key)
{
    return find_pair(f, key) != NULL;
}

bool eq_gguf_integer(const eq_gguf *f, const char *key, int64_t *value)
{
    const pair *p = find_pair(f, key);
    return p && scalar_bytes(p->type) && integer_at(p->value, p->type, value);
}

bool eq_gguf_real(const eq_gguf *f, const char *key, double *value)
{
    const pair *p = find_pair(f, key);
    if (p && p->type == EQ_GGUF_F32) {
        float v;
        memcpy(&v, p->value, sizeof v);
        *value = (double)v;
        return true;
    }
    if (p && p->type == EQ_GGUF_F64) {
        memcpy(value, p->value, sizeof *value);
        return true;
    }
    return false;
}

bool eq_gguf_bool(const eq_gguf *f, const char *key, bool *value)
{
    const pair *p = find_pair(f, key);
    if (!p || p->type != EQ_GGUF_BOOL) return false;
    *value = p->value[0] != 0;
    return true;
}

int64_t eq_gguf_array_size(const eq_gguf *f, const char *key)
{
    const pair *p = find_pair(f, key);
    return p && p->type == EQ_GGUF_ARRAY ? (int64_t)p->count : -1;
}

bool eq_gguf_strings(const eq_gguf *f, const char *key, eq_text *out)
{
    const pair *p = find_pair(f, key);
    if (!p || p->type != EQ_GGUF_ARRAY || p->element != EQ_GGUF_STRING) return false;
    const uint8_t *at = p->value;
    for (uint64_t i = 0; i < p->count; i++)
        out[i] = text_at(&at);
    return true;
}

bool eq_gguf_integers(const eq_gguf *f, const char *key, int32_t *out)
{
    const pair *p = find_pair(f, key);
    if (!p || p->type != EQ_GGUF_ARRAY || (p->element != EQ_GGUF_I32 && p->element != EQ_GGUF_U32))
        return false;
    memcpy(out, p->value, (size_t)p->count * sizeof *out);
    return true;
}

int64_t eq_gguf_pairs(const eq_gguf *f)
{
    return f->pair_count;
}

eq_text eq_gguf_pair(const eq_gguf *f, int64_t i, eq_text *key)
{
    const char *start = f->pairs[i].key.data - sizeof(uint64_t);
    *key = f->pairs[i].key;
    return (eq_text){start, (size_t)((const char *)f->pairs[i].end - start)};
}

int64_t eq_gguf_count(const eq_gguf *f)
{
    return f->record_count;
}

eq_text eq_gguf_name(const eq_gguf *f, int64_t i)
{
    return f->records[i].name;
}

static const record *find_record(const eq_gguf *f, const char *name)
{
    for (int64_t i = 0; i < f->record_count; i++)
        if (eq_text_is(f->records[i].name, name)) return &f->records[i];
    return NULL;
}

bool eq_gguf_has(const eq_gguf *f, const char *name)
{
    return find_record(f, name) != NULL;
}

/* Bytes of the tensor; 0 when they overflow or the rows are no whole blocks. */
static size_t tensor_bytes(const record *r, eq_dtype type)
{
    int64_t total = 1;
    for (int i = 0; i < r->dims; i++)
        if (__builtin_mul_overflow(total, r->shape[i], &total) || total > INT64_MAX / 8) return 0;
    return r->shape[0] % eq_dtype_get(type)->block_elems ? 0 : eq_dtype_bytes(type, total);
}

eq_status eq_gguf_get(eq_ctx *ctx, const eq_gguf *f, const char *name, eq_tensor *t)
{
    const record *r = find_record(f, name);
    const char *path = f->map.path;
    eq_dtype type = EQ_F32;
    if (!r) return eq_fail(ctx, EQ_EFORMAT, "%s: tensor %s is not in the file", path, name);
    if (!eq_dtype_from_ggml(&type, r->type))
        return eq_fail(ctx, EQ_EFORMAT,
                       "%s: tensor %s has ggml type %u; F32, F16, BF16, Q2_0, Q4_0, Q4_1, Q5_0, "
                       "Q5_1, Q8_0, TQ2_0 and Q2_K to Q6_K are read",
                       path, name, r->type);
    size_t bytes = tensor_bytes(r, type), room = f->map.size > f->data ? f->map.size - f->data : 0;
    if (!bytes || r->offset > room || bytes > room - r->offset)
        return eq_fail(ctx, EQ_EFORMAT, "%s: tensor %s does not lie inside the file", path, name);
    *t = (eq_tensor){.data = f->map.data + f->data + r->offset, .type = type, .dims = r->dims};
    for (int i = 0; i < EQ_MAX_DIMS; i++)
        t->shape[i] = i < r->dims ? r->shape[r->dims - 1 - i] : 1;
    return EQ_OK;
}
