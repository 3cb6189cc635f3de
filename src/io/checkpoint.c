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

static eq_status open_folder(eq_ctx *ctx, eq_checkpoint *ck)
{
    char *config = eq_path_join(ctx, ck->path, "config.json");
    char *single = eq_path_join(ctx, ck->path, "model.safetensors");
    char *index = eq_path_join(ctx, ck->path, "model.safetensors.index.json");
    eq_status st = config && single && index ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) st = eq_json_load(ctx, &ck->config, config);
    if (st == EQ_OK && eq_file_exists(single)) {
        ck->shards = eq_alloc(ctx, 1, sizeof(eq_safetensors *));
        st = ck->shards ? add_shard(ctx, ck, "model.safetensors") : EQ_ENOMEM;
    } else if (st == EQ_OK && eq_file_exists(index)) {
        st = open_shards(ctx, ck, index);
    } else if (st == EQ_OK) {
        st = eq_fail(ctx, EQ_EFORMAT, "%s: holds no model.safetensors and no index of shards",
                     ck->path);
    }
    eq_free(config);
    eq_free(single);
    eq_free(index);
    return st;
}

static eq_status open_gguf(eq_ctx *ctx, eq_checkpoint *ck)
{
    eq_status st = eq_gguf_open(ctx, &ck->gguf, ck->path);
    if (st == EQ_OK) st = eq_gguf_to_config(ctx, ck->gguf, &ck->config);
    if (st == EQ_OK) ck->head_size = json_integer_value(json_object_get(ck->config, "head_dim"));
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
    if (!strstr(name, "q_proj") && !strstr(name, "k_proj")) return EQ_OK;
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

/* A member of a GPTQ linear, checked for type and shape. */
static eq_status get_part(eq_ctx *ctx, const eq_checkpoint *ck, const char *prefix,
                          const char *part, eq_dtype type, eq_tensor *t)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s", prefix, part);
    eq_status st = eq_checkpoint_tensor(ctx, ck, name, t);
    if (st == EQ_OK && t->type != type)
        st = eq_fail(ctx, EQ_EFORMAT, "%s: %s is %s, expected %s", ck->path, name,
                     eq_dtype_get(t->type)->name, eq_dtype_get(type)->name);
    return st;
}

void eq_dynamic_key(char key[EQ_DYNAMIC_KEY], const char *prefix)
{
    size_t n = (size_t)snprintf(key, EQ_DYNAMIC_KEY, "+:^");
    for (const char *p = prefix; *p && n < EQ_DYNAMIC_KEY - 4; p++) {
        if (*p == '.') key[n++] = '\\';
        key[n++] = *p;
    }
    snprintf(key + n, EQ_DYNAMIC_KEY - n, "$");
}

/* What quantization_config says about one linear: its own override, or what holds for all. */
static const json_t *option_of(const eq_checkpoint *ck, const char *prefix, const char *key)
{
    const json_t *c = json_object_get(ck->config, "quantization_config");
    char name[EQ_DYNAMIC_KEY];
    eq_dynamic_key(name, prefix);
    const json_t *own = json_object_get(json_object_get(json_object_get(c, "dynamic"), name), key);
    return own ? own : json_object_get(c, key);
}

bool eq_checkpoint_symmetric(const eq_checkpoint *ck, const char *prefix)
{
    return json_is_true(option_of(ck, prefix, "sym"));
}

static eq_status read_quantization(eq_ctx *ctx, const eq_checkpoint *ck, const char *prefix,
                                   eq_qmatrix *q, int64_t *group)
{
    const json_t *c = json_object_get(ck->config, "quantization_config");
    const char *method = json_string_value(json_object_get(c, "quant_method"));
    const char *format = json_string_value(json_object_get(c, "checkpoint_format"));
    if (!format) format = json_string_value(json_object_get(c, "format"));
    if (!method || strcmp(method, "gptq"))
        return eq_fail(ctx, EQ_EFORMAT, "%s: quantization method %s is not read, gptq is", ck->path,
                       method ? method : "(none)");
    int64_t bits = json_integer_value(option_of(ck, prefix, "bits"));
    *group = json_integer_value(option_of(ck, prefix, "group_size"));
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
        return eq_fail(ctx, EQ_EFORMAT,
                       "%s: %s: quantization_config: bits is %lld, expected 2, 3, 4 or 8", ck->path,
                       prefix, (long long)bits);
    q->bits = (int)bits;
    q->zero_offset = !format || !strcmp(format, "gptq");
    if (format && strcmp(format, "gptq") && strcmp(format, "gptq_v2"))
        return eq_fail(ctx, EQ_EFORMAT, "%s: GPTQ format \"%s\" is not read", ck->path, format);
    return EQ_OK;
}

static eq_status check_order(eq_ctx *ctx, const eq_checkpoint *ck, const char *prefix,
                             const eq_qmatrix *q)
{
    char name[NAME_BYTES];
    eq_tensor t;
    snprintf(name, sizeof name, "%s.g_idx", prefix);
    if (!eq_checkpoint_has(ck, name)) return EQ_OK;
    eq_status st = get_part(ctx, ck, prefix, "g_idx", EQ_I32, &t);
    for (int64_t k = 0; st == EQ_OK && k < q->K; k++) {
        int32_t g = -1;
        if (k < eq_tensor_elems(&t)) memcpy(&g, (const char *)t.data + (size_t)k * 4, sizeof g);
        if (g != k / q->g)
            st = eq_fail(ctx, EQ_EFORMAT, "%s: %s: groups in another order are not read", ck->path,
                         name);
    }
    return st;
}

eq_status eq_checkpoint_qmatrix(eq_ctx *ctx, const eq_checkpoint *ck, const char *prefix,
                                eq_qmatrix *q)
{
    eq_tensor w, z, s;
    int64_t group = 0;
    *q = (eq_qmatrix){0};
    eq_status st = get_part(ctx, ck, prefix, "qweight", EQ_I32, &w);
    if (st == EQ_OK) st = get_part(ctx, ck, prefix, "qzeros", EQ_I32, &z);
    if (st == EQ_OK) st = get_part(ctx, ck, prefix, "scales", EQ_F16, &s);
    if (st == EQ_OK) st = read_quantization(ctx, ck, prefix, q, &group);
    if (st != EQ_OK) return st;
    /* A tensor without elements may claim any length, so K is worked out only for a real one. */
    bool filled = w.dims == 2 && w.shape[0] > 0 && w.shape[1] > 0;
    q->N = filled ? w.shape[1] : 0;
    q->K = filled ? w.shape[0] * 32 / q->bits : 0;
    q->g = group == -1 ? q->K : group;
    bool fits = filled && z.dims == 2 && s.dims == 2 && q->g > 0 && q->K % q->g == 0 &&
                eq_qmatrix_fits(q->N, q->K, q->bits) && z.shape[0] == q->K / q->g &&
                z.shape[1] == q->N * q->bits / 32 && s.shape[0] == q->K / q->g &&
                s.shape[1] == q->N;
    if (!fits)
        return eq_fail(ctx, EQ_EFORMAT,
                       "%s: %s: qweight, qzeros and scales do not fit %d bits in groups of %lld",
                       ck->path, prefix, q->bits, (long long)group);
    q->qweight = w.data;
    q->qzeros = z.data;
    q->scales = s.data;
    return check_order(ctx, ck, prefix, q);
}

int64_t eq_checkpoint_group(const eq_checkpoint *ck)
{
    const json_t *c = json_object_get(ck->config, "quantization_config");
    return json_integer_value(json_object_get(c, "group_size"));
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
