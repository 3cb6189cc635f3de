#include "io/gguf_write.h"

#include "io/gguf_types.h"

#include <assert.h>
#include <stdlib.h>

enum { VERSION = 3, ALIGNMENT = EQ_GGUF_ALIGNMENT };

eq_status eq_gguf_writer_init(eq_ctx *ctx, eq_gguf_writer *w, const char *path)
{
    *w = (eq_gguf_writer){.ctx = ctx, .path = path, .keys = json_object()};
    w->metadata = open_memstream(&w->bytes, &w->size);
    if (w->metadata && w->keys) return EQ_OK;
    eq_gguf_abandon(w);
    return eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", path);
}

/* A failed write is seen by eq_gguf_begin. */
static void put(eq_gguf_writer *w, const void *data, size_t size)
{
    fwrite(data, 1, size, w->metadata);
}

static void put_u32(eq_gguf_writer *w, uint32_t value)
{
    put(w, &value, sizeof value);
}

static void put_u64(eq_gguf_writer *w, uint64_t value)
{
    put(w, &value, sizeof value);
}

static void put_text(eq_gguf_writer *w, eq_text text)
{
    put_u64(w, text.size);
    put(w, text.data, text.size);
}

static void put_key(eq_gguf_writer *w, const char *key, uint32_t type)
{
    assert(!json_object_get(w->keys, key));
    json_object_set_new(w->keys, key, json_true());
    put_text(w, (eq_text){key, strlen(key)});
    put_u32(w, type);
}

void eq_gguf_put_u32(eq_gguf_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, EQ_GGUF_U32);
    put_u32(w, value);
}

void eq_gguf_put_f32(eq_gguf_writer *w, const char *key, float value)
{
    put_key(w, key, EQ_GGUF_F32);
    put(w, &value, sizeof value);
}

void eq_gguf_put_bool(eq_gguf_writer *w, const char *key, bool value)
{
    put_key(w, key, EQ_GGUF_BOOL);
    put(w, &(uint8_t){value}, 1);
}

void eq_gguf_put_text(eq_gguf_writer *w, const char *key, eq_text value)
{
    put_key(w, key, EQ_GGUF_STRING);
    put_text(w, value);
}

static void put_array(eq_gguf_writer *w, const char *key, uint32_t element, int64_t n)
{
    put_key(w, key, EQ_GGUF_ARRAY);
    put_u32(w, element);
    put_u64(w, (uint64_t)n);
}

void eq_gguf_put_texts(eq_gguf_writer *w, const char *key, const eq_text *values, int64_t n)
{
    put_array(w, key, EQ_GGUF_STRING, n);
    for (int64_t i = 0; i < n; i++)
        put_text(w, values[i]);
}

void eq_gguf_put_i32s(eq_gguf_writer *w, const char *key, const int32_t *values, int64_t n)
{
    put_array(w, key, EQ_GGUF_I32, n);
    put(w, values, (size_t)n * sizeof *values);
}

void eq_gguf_put_rest(eq_gguf_writer *w, const eq_gguf *file)
{
    for (int64_t i = 0; i < eq_gguf_pairs(file); i++) {
        eq_text key, bytes = eq_gguf_pair(file, i, &key);
        if (json_object_getn(w->keys, key.data, key.size)) continue;
        if (json_object_setn_new(w->keys, key.data, key.size, json_true())) continue;
        put(w, bytes.data, bytes.size);
    }
}

static size_t padding(size_t size)
{
    return (ALIGNMENT - size % ALIGNMENT) % ALIGNMENT;
}

static void put_entries(eq_gguf_writer *w)
{
    uint64_t offset = 0;
    for (int64_t i = 0; i < w->count; i++) {
        const eq_tensor_entry *e = &w->entries[i];
        size_t bytes = eq_tensor_entry_bytes(e);
        put_text(w, (eq_text){e->name, strlen(e->name)});
        put_u32(w, (uint32_t)e->dims);
        for (int d = e->dims - 1; d >= 0; d--)
            put_u64(w, (uint64_t)e->shape[d]);
        put_u32(w, (uint32_t)eq_dtype_get(e->type)->ggml);
        put_u64(w, offset);
        offset += bytes + padding(bytes);
    }
}

eq_status eq_gguf_begin(eq_gguf_writer *w, const eq_tensor_entry *entries, int64_t count)
{
    static const char NOTHING[ALIGNMENT] = {0};
    uint32_t version = VERSION;
    uint64_t counts[2] = {(uint64_t)count, json_object_size(w->keys)};
    w->entries = entries;
    w->count = count;
    put_entries(w);
    bool good = !ferror(w->metadata);
    good = !fclose(w->metadata) && good;
    w->metadata = NULL;
    if (!good) return eq_fail(w->ctx, EQ_ENOMEM, "%s: out of memory for the header", w->path);
    eq_status st = eq_output_open(w->ctx, &w->out, w->path);
    if (st != EQ_OK) return st;
    eq_output_write(&w->out, "GGUF", 4);
    eq_output_write(&w->out, &version, sizeof version);
    eq_output_write(&w->out, counts, sizeof counts);
    eq_output_write(&w->out, w->bytes, w->size);
    if (count) w->left = eq_tensor_entry_bytes(&entries[0]);
    return eq_output_write(&w->out, NOTHING, padding(4 + sizeof version + sizeof counts + w->size));
}

eq_status eq_gguf_write(eq_gguf_writer *w, const void *data, size_t size)
{
    static const char NOTHING[ALIGNMENT] = {0};
    assert(w->next < w->count && size <= w->left);
    eq_output_write(&w->out, data, size);
    w->left -= size;
    if (w->left) return w->out.status;
    eq_output_write(&w->out, NOTHING, padding(eq_tensor_entry_bytes(&w->entries[w->next++])));
    if (w->next < w->count) w->left = eq_tensor_entry_bytes(&w->entries[w->next]);
    return w->out.status;
}

eq_status eq_gguf_commit(eq_gguf_writer *w)
{
    eq_status st = w->out.status;
    if (st == EQ_OK && w->next < w->count)
        st = eq_fail(w->ctx, EQ_EINTERNAL, "%s: tensor %s is not complete", w->path,
                     w->entries[w->next].name);
    if (st == EQ_OK) st = eq_output_commit(&w->out);
    eq_gguf_abandon(w);
    return st;
}

void eq_gguf_abandon(eq_gguf_writer *w)
{
    if (w->metadata) fclose(w->metadata);
    free(w->bytes);
    json_decref(w->keys);
    eq_output_abandon(&w->out);
    *w = (eq_gguf_writer){0};
}
