#include "export/shards.h"

#include "io/json_file.h"

#include <assert.h>

enum { FILE_NAME = 64 };

static void file_name(char name[FILE_NAME], const eq_shards *s, int64_t file)
{
    if (s->files == 1)
        snprintf(name, FILE_NAME, "model.safetensors");
    else
        snprintf(name, FILE_NAME, "model-%05lld-of-%05lld.safetensors", (long long)file + 1,
                 (long long)s->files);
}

/* Where the files begin. */
static void cut(eq_shards *s, int64_t most)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < s->count; i++) {
        int64_t size = (int64_t)eq_tensor_entry_bytes(&s->entries[i]);
        if (i == 0 || (most && bytes + size > most)) {
            s->first[s->files++] = i;
            bytes = 0;
        }
        bytes += size;
    }
    s->first[s->files] = s->count;
}

static eq_status begin_file(eq_shards *s)
{
    char name[FILE_NAME];
    file_name(name, s, s->file);
    char *path = eq_path_join(s->ctx, s->folder, name);
    int64_t first = s->first[s->file], count = s->first[s->file + 1] - first;
    eq_status st = path ? eq_safetensors_begin(s->ctx, &s->writer, path, s->entries + first, count)
                        : EQ_ENOMEM;
    s->left = eq_tensor_entry_bytes(&s->entries[s->next]);
    eq_free(path);
    return st;
}

eq_status eq_shards_begin(eq_ctx *ctx, eq_shards *s, const char *folder,
                          const eq_tensor_entry *entries, int64_t count, int64_t most)
{
    *s = (eq_shards){.ctx = ctx, .folder = folder, .entries = entries, .count = count};
    s->first = eq_alloc(ctx, count + 1, sizeof *s->first);
    if (!s->first) return EQ_ENOMEM;
    cut(s, most);
    return begin_file(s);
}

eq_status eq_shards_write(eq_shards *s, const void *data, size_t size)
{
    assert(s->next < s->count && size <= s->left);
    eq_status st = eq_safetensors_write(&s->writer, data, size);
    s->left -= size;
    if (st != EQ_OK || s->left) return st;
    if (++s->next == s->count) return EQ_OK;
    s->left = eq_tensor_entry_bytes(&s->entries[s->next]);
    if (s->next < s->first[s->file + 1]) return EQ_OK;
    st = eq_safetensors_commit(&s->writer);
    s->file++;
    return st == EQ_OK ? begin_file(s) : st;
}

static eq_status write_index(eq_shards *s)
{
    json_t *map = json_object();
    json_int_t total = 0;
    for (int64_t file = 0; file < s->files; file++) {
        char name[FILE_NAME];
        file_name(name, s, file);
        for (int64_t i = s->first[file]; i < s->first[file + 1]; i++) {
            json_object_set_new(map, s->entries[i].name, json_string(name));
            total += (json_int_t)eq_tensor_entry_bytes(&s->entries[i]);
        }
    }
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", total, "weight_map", map);
    eq_status st = eq_json_save(s->ctx, s->folder, "model.safetensors.index.json", index);
    json_decref(index);
    return st;
}

eq_status eq_shards_commit(eq_shards *s)
{
    eq_status st = eq_safetensors_commit(&s->writer);
    if (st == EQ_OK && s->files > 1) st = write_index(s);
    eq_shards_abandon(s);
    return st;
}

void eq_shards_abandon(eq_shards *s)
{
    eq_safetensors_abandon(&s->writer);
    eq_free(s->first);
    *s = (eq_shards){0};
}
