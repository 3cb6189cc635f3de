#include "io/checkpoint.h"

#include "base/hash.h"
#include "io/gguf_config.h"
#include "io/json_file.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 256, MOST_SHARDS = 4096 };

struct eq_checkpoint {
    char *path;              /* owned, as given */
    json_t *config;          /* owned */
    eq_gguf *gguf;           /* owned; or */
    eq_safetensors **shards; /* owned, [shard_count] */
    json_t *files;           /* owned, of shards: tensor to file name; NULL for one file */
    int64_t shard_count;
    int64_t head_size; /* of a GGUF whose q and k rows are in rotary pairs, else 0 */
};

const char *eq_checkpoint_path(const eq_checkpoint *ck)
{
    return ck->path;
}

const json_t *eq_checkpoint_config(const eq_checkpoint *ck)
{
    return ck->config;
}

const eq_gguf *eq_checkpoint_gguf(const eq_checkpoint *ck)
{
    return ck->gguf;
}

/* Open folder/name as the next shard. */
static eq_status add_shard(eq_ctx *ctx, eq_checkpoint *ck, const char *name)
{
    char *path = eq_path_join(ctx, ck->path, name);
    if (!path) return EQ_ENOMEM;
    eq_status st = eq_safetensors_open(ctx, &ck->shards[ck->shard_count], path);
    if (st == EQ_OK) ck->shard_count++;
    eq_free(path);
    return st;
}

/* The distinct files of an index's weight_map. A name must stay inside the folder. */
static eq_status open_shards(eq_ctx *ctx, eq_checkpoint *ck, const char *index_path)
{
    json_t *index = NULL, *seen = json_object();
    const char *tensor = NULL;
    json_t *file = NULL;
    eq_status st = eq_json_load(ctx, &index, index_path);
    json_t *names = json_object_get(index, "weight_map");
    json_object_foreach(names, tensor, file)
    {
        const char *name = json_string_value(file);
        if (st != EQ_OK) break;
        if (!name || strchr(name, '/'))
            st = eq_fail(ctx, EQ_EFORMAT, "%s: the file of %s is not a plain name", index_path,
                         tensor);
        else
            json_object_set_new(seen, name, json_true());
    }
    if (st == EQ_OK && (!json_object_size(seen) || json_object_size(seen) > MOST_SHARDS))
        st = eq_fail(ctx, EQ_EFORMAT, "%s: names %zu files", index_path, json_object_size(seen));
    if (st == EQ_OK) {
        ck->shards = eq_alloc(ctx, (int64_t)json_object_size(seen), sizeof(eq_safetensors *));
        if (!ck->shards) st = EQ_ENOMEM;
    }
    json_object_foreach(seen, tensor, file) if (st == EQ_OK) st = add_shard(ctx, ck, tensor);
    if (st == EQ_OK) ck->files = json_incref(names);
    json_decref(seen);
    json_decref(index);
    return st;
}

static eq_status open_single(eq_ctx *ctx, eq_checkpoint *ck, const char *name)
{
    ck->shards = eq_alloc(ctx, 1, sizeof(eq_safetensors *));
    return ck->shards ? add_shard(ctx, ck, name) : EQ_ENOMEM;
}

/* The file name that AutoGPTQ's settings hold, or that it made from them. */
static void older_name(const eq_checkpoint *ck, char *name, size_t size)
{
    const json_t *q = json_object_get(ck->config, "quantization_config");
    const char *base = json_string_value(json_object_get(q, "model_file_base_name"));
    if (base && !strchr(base, '/'))
        snprintf(name, size, "%s.safetensors", base);
    else
        snprintf(name, size, "gptq_model-%lldbit-%lldg.safetensors",
                 (long long)json_integer_value(json_object_get(q, "bits")),
                 (long long)json_integer_value(json_object_get(q, "group_size")));
}

static eq_status open_weights(eq_ctx *ctx, eq_checkpoint *ck)
{
    char older[NAME_BYTES];
    const char *const names[] = {"model.safetensors", "model.safetensors.index.json", older};
    older_name(ck, older, sizeof older);
    for (int i = 0; i < 3; i++) {
        char *path = eq_path_join(ctx, ck->path, names[i]);
        if (!path) return EQ_ENOMEM;
        bool there = eq_file_exists(path);
        eq_status st = EQ_OK;
        if (there) st = i == 1 ? open_shards(ctx, ck, path) : open_single(ctx, ck, names[i]);
        eq_free(path);
        if (there) return st;
    }
    return eq_fail(ctx, EQ_EFORMAT, "%s: holds no model.safetensors and no index of shards",
                   ck->path);
}

/* Older GPTQ folders have the settings in a file of their own, the oldest without the name of the
 * method. They become a part of the configuration, for all who read it or hash it. */
static eq_status add_settings(eq_ctx *ctx, eq_checkpoint *ck)
{
    if (json_is_object(json_object_get(ck->config, "quantization_config"))) return EQ_OK;
    json_t *settings = NULL;
    char *path = eq_path_join(ctx, ck->path, "quantize_config.json");
    eq_status st = path ? EQ_OK : EQ_ENOMEM;
    if (path && eq_file_exists(path)) st = eq_json_load(ctx, &settings, path);
    if (settings && !json_object_get(settings, "quant_method"))
        json_object_set_new(settings, "quant_method", json_string("gptq"));
    if (settings) json_object_set_new(ck->config, "quantization_config", settings);
    eq_free(path);
    return st;
}

static eq_status open_folder(eq_ctx *ctx, eq_checkpoint *ck)
{
    char *config = eq_path_join(ctx, ck->path, "config.json");
    eq_status st = config ? eq_json_load(ctx, &ck->config, config) : EQ_ENOMEM;
    if (st == EQ_OK) st = add_settings(ctx, ck);
    if (st == EQ_OK) st = open_weights(ctx, ck);
    eq_free(config);
    return st;
}

static eq_status open_gguf(eq_ctx *ctx, eq_checkpoint *ck)
{
    eq_status st = eq_gguf_open(ctx, &ck->gguf, ck->path);
    if (st == EQ_OK) st = eq_gguf_to_config(ctx, ck->gguf, &ck->config);
    if (st == EQ_OK && eq_gguf_family_in(ck->gguf)->rotary_pairs)
        ck->head_size = json_integer_value(json_object_get(ck->config, "head_dim"));
    return st;
}

eq_status eq_checkpoint_open(eq_ctx *ctx, eq_checkpoint **out, const char *path)
{
    *out = NULL;
    eq_checkpoint *ck = eq_alloc(ctx, 1, sizeof *ck);
    if (!ck) return EQ_ENOMEM;
    ck->path = eq_strndup(ctx, path, strlen(path));
    eq_status st = ck->path ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) st = eq_folder_exists(path) ? open_folder(ctx, ck) : open_gguf(ctx, ck);
    if (st != EQ_OK) {
        eq_checkpoint_close(ck);
        return st;
    }
    *out = ck;
    return EQ_OK;
}

void eq_checkpoint_close(eq_checkpoint *ck)
{
    if (!ck) return;
    for (int64_t i = 0; i < ck->shard_count; i++)
        eq_safetensors_close(ck->shards[i]);
    eq_free(ck->shards);
    json_decref(ck->files);
    eq_gguf_close(ck->gguf);
    json_decref(ck->config);
    eq_free(ck->path);
    eq_free(ck);
}

/* The file that the index names for a tensor decides, also when another one holds that name. */
static const eq_safetensors *shard_of(const eq_checkpoint *ck, const char *name)
{
    const char *file = json_string_value(json_object_get(ck->files, name));
    for (int64_t i = 0; i < ck->shard_count; i++) {
        const char *path = eq_safetensors_map(ck->shards[i])->path;
        if (file && strcmp(strrchr(path, '/') + 1, file)) continue;
        if (eq_safetensors_has(ck->shards[i], name)) return ck->shards[i];
    }
    return NULL;
}

bool eq_checkpoint_has(const eq_checkpoint *ck, const char *name)
{
    char gguf_name[NAME_BYTES];
    if (!ck->gguf) return shard_of(ck, name) != NULL;
    return eq_gguf_tensor_name(gguf_name, sizeof gguf_name, name) &&
           eq_gguf_has(ck->gguf, gguf_name);
}

/* Mark q and k of a GGUF as stored in rotary pairs; their rows must be whole heads. */
static eq_status set_rope_pairs(eq_ctx *ctx, const eq_checkpoint *ck, const char *name,
                                eq_tensor *t)
{
    bool rotated = strstr(name, "q_proj") || strstr(name, "k_proj");
    if (!ck->head_size || !rotated) return EQ_OK;
    if (ck->head_size % 2 || t->shape[0] % ck->head_size)
        return eq_fail(ctx, EQ_EFORMAT, "%s: tensor %s has %lld rows, no whole heads of %lld",
                       ck->path, name, (long long)t->shape[0], (long long)ck->head_size);
    t->rope_pairs = (int)ck->head_size;
    return EQ_OK;
}

eq_status eq_checkpoint_tensor(eq_ctx *ctx, const eq_checkpoint *ck, const char *name,
                               eq_tensor *tensor)
{
    char gguf_name[NAME_BYTES];
    if (!ck->gguf) {
        const eq_safetensors *shard = shard_of(ck, name);
        if (shard) return eq_safetensors_get(ctx, shard, name, tensor);
    } else if (eq_gguf_tensor_name(gguf_name, sizeof gguf_name, name)) {
        eq_status st = eq_gguf_get(ctx, ck->gguf, gguf_name, tensor);
        return st == EQ_OK ? set_rope_pairs(ctx, ck, name, tensor) : st;
    }
    return eq_fail(ctx, EQ_EFORMAT, "%s: tensor %s is not there", ck->path, name);
}

int64_t eq_checkpoint_bytes(const eq_checkpoint *ck)
{
    int64_t bytes = ck->gguf ? (int64_t)eq_gguf_map(ck->gguf)->size : 0;
    for (int64_t i = 0; i < ck->shard_count; i++)
        bytes += (int64_t)eq_safetensors_map(ck->shards[i])->size;
    return bytes;
}

void eq_checkpoint_release(const eq_checkpoint *ck, const void *data, size_t size)
{
    const uint8_t *p = data;
    for (int64_t i = 0; i <= ck->shard_count; i++) {
        const eq_map *m = i < ck->shard_count ? eq_safetensors_map(ck->shards[i])
                          : ck->gguf          ? eq_gguf_map(ck->gguf)
                                              : NULL;
        if (m && p >= m->data && p < m->data + m->size)
            eq_map_release(m, (size_t)(p - m->data), size);
    }
}

static uint64_t sample_map(uint64_t hash, const eq_map *m)
{
    enum { END = 64 << 10, STEP = 1 << 20, PIECE = 4 << 10 };
    size_t end = m->size < END ? m->size : END;
    hash = eq_hash(hash, &m->size, sizeof m->size);
    hash = eq_hash(hash, m->data, end);
    for (size_t at = STEP; at + PIECE < m->size; at += STEP)
        hash = eq_hash(hash, m->data + at, PIECE);
    return eq_hash(hash, m->data + (m->size - end), end);
}

uint64_t eq_checkpoint_fingerprint(const eq_checkpoint *ck)
{
    char *config = json_dumps(ck->config, JSON_COMPACT | JSON_SORT_KEYS);
    uint64_t hash = config ? eq_hash(EQ_HASH_START, config, strlen(config)) : EQ_HASH_START;
    free(config);
    if (ck->gguf) hash = sample_map(hash, eq_gguf_map(ck->gguf));
    for (int64_t i = 0; i < ck->shard_count; i++)
        hash = sample_map(hash, eq_safetensors_map(ck->shards[i]));
    return hash;
}
