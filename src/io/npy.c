#include "io/npy.h"

#include <stdlib.h>
#include <string.h>

enum { HEAD = 10, PAD = 64, HEADER_LIMIT = 4096 };

/* The value behind 'key': in the header's Python literal; NULL when absent. */
static const char *value_of(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (!at) return NULL;
    at += strlen(key);
    while (*at == ' ' || *at == ':')
        at++;
    return at;
}

/* Shape "(n, T)"; false for any other rank. */
static bool read_shape(const char *header, int64_t shape[2])
{
    const char *at = value_of(header, "'shape'");
    if (!at || *at != '(') return false;
    char *end = NULL;
    shape[0] = strtoll(at + 1, &end, 10);
    if (end == at + 1 || *end != ',') return false;
    at = end;
    shape[1] = strtoll(at + 1, &end, 10);
    return end != at + 1 && *end == ')' && shape[0] >= 0 && shape[1] >= 0 && shape[0] < 1 << 30 &&
           shape[1] < 1 << 30;
}

static eq_status fail_kind(eq_ctx *ctx, const char *path)
{
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: is not a two-dimensional little-endian int32 array in numpy's format",
                   path);
}

/* Header text and where the data starts. */
static eq_status read_header(eq_ctx *ctx, const eq_map *m, char header[HEADER_LIMIT], size_t *data)
{
    uint32_t length = 0;
    size_t start = HEAD;
    if (m->size < HEAD + 2 || memcmp(m->data, "\x93NUMPY", 6)) return fail_kind(ctx, m->path);
    length = (uint32_t)(m->data[8] | m->data[9] << 8);
    if (m->data[6] > 1) {
        length |= (uint32_t)m->data[10] << 16 | (uint32_t)m->data[11] << 24;
        start = HEAD + 2;
    }
    if (length >= HEADER_LIMIT || length > m->size - start) return fail_kind(ctx, m->path);
    memcpy(header, m->data + start, length);
    header[length] = 0;
    *data = start + length;
    return EQ_OK;
}

static eq_status convert(eq_ctx *ctx, const char *path, int32_t *out, const uint8_t *in, int64_t n,
                         bool wide)
{
    if (!wide) {
        memcpy(out, in, (size_t)n * sizeof *out);
        return EQ_OK;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t v;
        memcpy(&v, in + i * 8, sizeof v);
        if (v < INT32_MIN || v > INT32_MAX)
            return eq_fail(ctx, EQ_EFORMAT, "%s: value %lld does not fit 32 bits", path,
                           (long long)v);
        out[i] = (int32_t)v;
    }
    return EQ_OK;
}

static eq_status read_array(eq_ctx *ctx, const eq_map *m, int32_t **data, int64_t shape[2])
{
    char header[HEADER_LIMIT];
    size_t start = 0;
    eq_status st = read_header(ctx, m, header, &start);
    if (st != EQ_OK) return st;
    const char *type = value_of(header, "'descr'"), *order = value_of(header, "'fortran_order'");
    bool wide = type && !strncmp(type, "'<i8'", 5), narrow = type && !strncmp(type, "'<i4'", 5);
    if ((!wide && !narrow) || !order || strncmp(order, "False", 5) || !read_shape(header, shape))
        return fail_kind(ctx, m->path);
    size_t elems = (size_t)(shape[0] * shape[1]), width = wide ? 8 : 4;
    if (m->size - start != elems * width)
        return eq_fail(ctx, EQ_EFORMAT, "%s: has %zu bytes of data, its shape needs %zu", m->path,
                       m->size - start, elems * width);
    *data = eq_alloc(ctx, (int64_t)elems, sizeof **data);
    if (!*data) return EQ_ENOMEM;
    st = convert(ctx, m->path, *data, m->data + start, (int64_t)elems, wide);
    if (st == EQ_OK) return EQ_OK;
    eq_free(*data);
    *data = NULL;
    return st;
}

eq_status eq_npy_read_i32(eq_ctx *ctx, const char *path, int32_t **data, int64_t shape[2])
{
    eq_map map;
    *data = NULL;
    eq_status st = eq_map_open(ctx, &map, path);
    if (st == EQ_OK) st = read_array(ctx, &map, data, shape);
    eq_map_close(&map);
    return st;
}

/* Four bytes per element either way. */
static eq_status write_array(eq_ctx *ctx, const char *path, const void *data, const char *type,
                             int64_t rows, int64_t columns)
{
    char header[2 * PAD + 1];
    eq_output out;
    int n = snprintf(header, sizeof header,
                     "{'descr': '%s', 'fortran_order': False, 'shape': (%lld, %lld), }", type,
                     (long long)rows, (long long)columns);
    size_t length = 2 * PAD - HEAD;
    memset(header + n, ' ', length - (size_t)n);
    header[length - 1] = '\n';
    const uint8_t head[HEAD] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)length, 0};
    eq_status st = eq_output_open(ctx, &out, path);
    if (st != EQ_OK) return st;
    eq_output_write(&out, head, HEAD);
    eq_output_write(&out, header, length);
    eq_output_write(&out, data, (size_t)(rows * columns) * 4);
    return eq_output_commit(&out);
}

eq_status eq_npy_write_i32(eq_ctx *ctx, const char *path, const int32_t *data, int64_t rows,
                           int64_t columns)
{
    return write_array(ctx, path, data, "<i4", rows, columns);
}

eq_status eq_npy_write_f32(eq_ctx *ctx, const char *path, const float *data, int64_t rows,
                           int64_t columns)
{
    return write_array(ctx, path, data, "<f4", rows, columns);
}
