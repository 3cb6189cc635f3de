#include "model/config.h"

#include "io/json_file.h"

#include <string.h>

/* What is being read, for messages. */
typedef struct source {
    eq_ctx *ctx;
    const json_t *json;
    const char *path;
} source;

enum { LARGEST = 1 << 28 };

int64_t eq_config_qkv(const eq_config *config)
{
    return (config->H + 2 * config->Hkv) * config->D;
}

/* A size in 1 .. LARGEST. fallback < 0 means that the key must be there. */
static eq_status read_size(const source *s, int64_t *out, const char *key, int64_t fallback)
{
    const json_t *value = eq_json_given(s->json, key);
    const bool left_out = !value && fallback >= 0;
    if (!left_out && !json_is_integer(value))
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: %s is missing or not a whole number", s->path, key);
    *out = left_out ? fallback : json_integer_value(value);
    if (*out < 1 || *out > LARGEST)
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: %s is %lld, expected 1 to %d", s->path, key,
                       (long long)*out, LARGEST);
    return EQ_OK;
}

static eq_status read_positive(const source *s, const json_t *object, double *out, const char *key,
                               double fallback)
{
    const json_t *value = eq_json_given(object, key);
    if (value && !json_is_number(value))
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: %s is not a number", s->path, key);
    *out = value ? json_number_value(value) : fallback;
    if (!(*out > 0) || *out > 1e12)
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: %s is %g, expected a positive number", s->path, key,
                       *out);
    return EQ_OK;
}

static bool is_true(const source *s, const char *key)
{
    return json_is_true(json_object_get(s->json, key));
}

static eq_status check_flags(const source *s)
{
    static const char *const FLAGS[] = {"attention_bias", "mlp_bias", "tie_word_embeddings",
                                        "use_sliding_window"};
    for (size_t i = 0; i < sizeof FLAGS / sizeof *FLAGS; i++) {
        const json_t *value = eq_json_given(s->json, FLAGS[i]);
        if (value && !json_is_boolean(value))
            return eq_fail(s->ctx, EQ_EFORMAT, "%s: %s is neither true nor false", s->path,
                           FLAGS[i]);
    }
    return EQ_OK;
}

/* Rotary base and scaling: rope_theta and rope_scaling, or rope_parameters of transformers 5. */
static eq_status read_rope(const source *s, eq_config *config)
{
    const json_t *parameters = json_object_get(s->json, "rope_parameters");
    const json_t *scaling = json_object_get(s->json, "rope_scaling");
    const json_t *holder = json_object_get(s->json, "rope_theta") ? s->json : parameters;
    const json_t *kinds = json_is_object(scaling) ? scaling : parameters;
    const char *kind = json_string_value(json_object_get(kinds, "rope_type"));
    if (!kind) kind = json_string_value(json_object_get(kinds, "type"));
    if (!kind && json_object_size(scaling)) kind = "(without a type)";
    if (kind && strcmp(kind, "default"))
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: rope scaling \"%s\" is not supported", s->path,
                       kind);
    return read_positive(s, holder, &config->theta, "rope_theta", 10000.0);
}

static eq_status check_shape(const source *s, const eq_config *c)
{
    if (c->H % c->Hkv)
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: %lld heads are no multiple of %lld key-value heads",
                       s->path, (long long)c->H, (long long)c->Hkv);
    if (c->D % 2)
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: the head size %lld is odd", s->path,
                       (long long)c->D);
    if (c->H * c->D > LARGEST)
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: %lld heads of %lld are more than %d channels",
                       s->path, (long long)c->H, (long long)c->D, LARGEST);
    return EQ_OK;
}

/* What distinguishes a family. A flag that is not set by the family is read where it says so. */
typedef struct family {
    const char *model_type, *computes; /* computes: the family that has the same equations */
    bool qk_norm, qkv_bias;            /* always there */
    bool attention_flag, mlp_flag; /* attention_bias (q, k, v and output), mlp_bias are obeyed */
    bool window_flag;              /* sliding_window counts with use_sliding_window only */
    int64_t D;                     /* head size without head_dim; 0: C / H */
} family;

static const family FAMILIES[] = {
    {"llama", "llama", .attention_flag = true, .mlp_flag = true},
    {"mistral", "llama", .qk_norm = false},
    {"qwen2", "qwen2", .qkv_bias = true, .window_flag = true},
    {"qwen3", "qwen3", .qk_norm = true, .attention_flag = true, .window_flag = true, .D = 128},
};

static eq_status find_family(const source *s, const family **out)
{
    const char *type = json_string_value(json_object_get(s->json, "model_type"));
    for (size_t i = 0; type && i < sizeof FAMILIES / sizeof *FAMILIES; i++) {
        *out = &FAMILIES[i];
        if (!strcmp(type, FAMILIES[i].model_type)) return EQ_OK;
    }
    return eq_fail(s->ctx, EQ_EFORMAT,
                   "%s: model_type is %s, supported are llama, mistral, qwen2, qwen3", s->path,
                   type ? type : "missing");
}

static eq_status read_family(const source *s, const family *f, eq_config *config)
{
    bool attention = f->attention_flag && is_true(s, "attention_bias");
    strcpy(config->family, f->computes);
    config->qk_norm = f->qk_norm;
    config->qkv_bias = f->qkv_bias || attention;
    config->out_bias = attention;
    config->mlp_bias = f->mlp_flag && is_true(s, "mlp_bias");
    const char *act = json_string_value(json_object_get(s->json, "hidden_act"));
    if (act && strcmp(act, "silu"))
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: hidden_act is \"%s\", supported is \"silu\"",
                       s->path, act);
    return EQ_OK;
}

/* Attention over a window shorter than the context. */
static eq_status check_window(const source *s, const family *f, const eq_config *config)
{
    const json_t *window = json_object_get(s->json, "sliding_window");
    const json_t *layers = json_object_get(s->json, "layer_types");
    bool counts = json_is_integer(window) && (!f->window_flag || is_true(s, "use_sliding_window"));
    bool shorter = counts && json_integer_value(window) < config->positions;
    if (shorter && strcmp(f->model_type, "llama"))
        return eq_fail(s->ctx, EQ_EFORMAT,
                       "%s: a sliding_window of %lld, less than the context of %lld, is not "
                       "supported",
                       s->path, (long long)json_integer_value(window),
                       (long long)config->positions);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const char *type = json_string_value(json_array_get(layers, i));
        if (type && (!strcmp(type, "full_attention") || !strcmp(type, "sliding_attention")))
            continue;
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: layer_types: %s is not supported", s->path,
                       type ? type : "an entry that is no string");
    }
    return EQ_OK;
}

eq_status eq_config_parse(eq_ctx *ctx, eq_config *config, const json_t *json, const char *path)
{
    *config = (eq_config){0};
    const source s = {ctx, json, path};
    const family *f = NULL;
    double eps = 0;
    eq_status st = find_family(&s, &f);
    if (st == EQ_OK) st = check_flags(&s);
    if (st == EQ_OK) st = read_family(&s, f, config);
    if (st == EQ_OK) st = read_size(&s, &config->L, "num_hidden_layers", -1);
    if (st == EQ_OK) st = read_size(&s, &config->C, "hidden_size", -1);
    if (st == EQ_OK) st = read_size(&s, &config->F, "intermediate_size", -1);
    if (st == EQ_OK) st = read_size(&s, &config->H, "num_attention_heads", -1);
    if (st == EQ_OK) st = read_size(&s, &config->Hkv, "num_key_value_heads", config->H);
    if (st == EQ_OK)
        st = read_size(&s, &config->D, "head_dim", f->D ? f->D : config->C / config->H);
    if (st == EQ_OK) st = read_size(&s, &config->V, "vocab_size", -1);
    if (st == EQ_OK) st = read_size(&s, &config->positions, "max_position_embeddings", 2048);
    if (st == EQ_OK) st = read_positive(&s, json, &eps, "rms_norm_eps", 1e-6);
    if (st == EQ_OK) st = read_rope(&s, config);
    if (st == EQ_OK) st = check_shape(&s, config);
    if (st == EQ_OK) st = check_window(&s, f, config);
    config->eps = (float)eps;
    config->tied = is_true(&s, "tie_word_embeddings");
    return st;
}
