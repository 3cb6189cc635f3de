#include "io/gguf_config.h"

#include <stdio.h>
#include <stdlib.h>

enum { LARGEST = 1 << 28 };

/* Those of q, k and v alone are what a family has anyway; with that of the output, attention_bias
 * is set. */
static const char *const ATTENTION[4] = {"blk.0.attn_q.bias", "blk.0.attn_k.bias",
                                         "blk.0.attn_v.bias", "blk.0.attn_output.bias"};
static const char *const MLP[4] = {"blk.0.ffn_gate.bias", "blk.0.ffn_up.bias",
                                   "blk.0.ffn_down.bias", NULL};

static const char *const ENDS[][2] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};

static const char *const PARTS[][2] = {
    {"input_layernorm.weight", "attn_norm.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.q_proj.bias", "attn_q.bias"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.k_proj.bias", "attn_k.bias"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.v_proj.bias", "attn_v.bias"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"self_attn.o_proj.bias", "attn_output.bias"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.gate_proj.bias", "ffn_gate.bias"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.up_proj.bias", "ffn_up.bias"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
    {"mlp.down_proj.bias", "ffn_down.bias"},
};

static const eq_gguf_family FAMILIES[] = {
    {"llama", "llama", "LlamaForCausalLM", true},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", false},
    {"qwen3", "qwen3", "Qwen3ForCausalLM", false},
};
enum { COUNT = sizeof FAMILIES / sizeof *FAMILIES };

const eq_gguf_family *eq_gguf_family_of(const char *model_type)
{
    for (size_t i = 0; i < COUNT; i++)
        if (!strcmp(model_type, FAMILIES[i].model_type)) return &FAMILIES[i];
    return NULL;
}

const eq_gguf_family *eq_gguf_family_in(const eq_gguf *f)
{
    eq_text name = {"", 0};
    eq_gguf_string(f, "general.architecture", &name);
    for (size_t i = 0; i < COUNT; i++)
        if (eq_text_is(name, FAMILIES[i].prefix)) return &FAMILIES[i];
    return NULL;
}

const char *eq_gguf_family_key(char out[EQ_GGUF_KEY], const eq_gguf_family *family, const char *key)
{
    snprintf(out, EQ_GGUF_KEY, "%s.%s", family->prefix, key);
    return out;
}

bool eq_gguf_tensor_name(char *out, size_t size, const char *name)
{
    static const char PREFIX[] = "model.layers.";
    for (size_t i = 0; i < sizeof ENDS / sizeof *ENDS; i++)
        if (!strcmp(name, ENDS[i][0])) return snprintf(out, size, "%s", ENDS[i][1]) < (int)size;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1)) return false;
    char *rest = NULL;
    long block = strtol(name + sizeof PREFIX - 1, &rest, 10);
    if (*rest != '.') return false;
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++)
        if (!strcmp(rest + 1, PARTS[i][0]))
            return snprintf(out, size, "blk.%ld.%s", block, PARTS[i][1]) < (int)size;
    return false;
}

/* What is being read. */
typedef struct source {
    eq_ctx *ctx;
    const eq_gguf *file;
    const eq_gguf_family *family;
    const char *path;
} source;

/* config[to] = metadata <family>.<from>; `fallback` < 0 means that it must be there. */
static eq_status copy_size(const source *s, json_t *config, const char *to, const char *from,
                           int64_t fallback)
{
    char key[EQ_GGUF_KEY];
    int64_t value = fallback;
    eq_gguf_integer(s->file, eq_gguf_family_key(key, s->family, from), &value);
    if (value < 1 || value > LARGEST)
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: metadata %s is missing or out of range", s->path,
                       key);
    json_object_set_new(config, to, json_integer(value));
    return EQ_OK;
}

static eq_status copy_sizes(const source *s, json_t *config)
{
    static const char *const SIZES[][2] = {
        {"hidden_size", "embedding_length"},
        {"intermediate_size", "feed_forward_length"},
        {"num_hidden_layers", "block_count"},
        {"num_attention_heads", "attention.head_count"},
        {"max_position_embeddings", "context_length"},
    };
    eq_status st = EQ_OK;
    for (size_t i = 0; st == EQ_OK && i < sizeof SIZES / sizeof *SIZES; i++)
        st = copy_size(s, config, SIZES[i][0], SIZES[i][1], -1);
    if (st != EQ_OK) return st;
    int64_t heads = json_integer_value(json_object_get(config, "num_attention_heads"));
    int64_t hidden = json_integer_value(json_object_get(config, "hidden_size"));
    st = copy_size(s, config, "num_key_value_heads", "attention.head_count_kv", heads);
    if (st == EQ_OK) st = copy_size(s, config, "head_dim", "attention.key_length", hidden / heads);
    return st;
}

/* Rows of the embedding are the vocabulary, whatever the metadata's vocab_size says. */
static eq_status copy_vocabulary(const source *s, json_t *config)
{
    const eq_gguf *f = s->file;
    eq_tensor t;
    eq_status st = eq_gguf_get(s->ctx, f, "token_embd.weight", &t);
    if (st != EQ_OK) return st;
    json_object_set_new(config, "vocab_size", json_integer(t.dims == 2 ? t.shape[0] : 0));
    json_object_set_new(config, "tie_word_embeddings",
                        json_boolean(!eq_gguf_has(f, "output.weight")));
    static const char *const IDS[][2] = {
        {"bos_token_id", "tokenizer.ggml.bos_token_id"},
        {"eos_token_id", "tokenizer.ggml.eos_token_id"},
        {"pad_token_id", "tokenizer.ggml.padding_token_id"},
    };
    for (size_t i = 0; i < sizeof IDS / sizeof *IDS; i++) {
        int64_t id = 0;
        bool there = eq_gguf_integer(f, IDS[i][1], &id);
        json_object_set_new(config, IDS[i][0], there ? json_integer(id) : json_null());
    }
    return EQ_OK;
}

/* Whether block 0 has a bias in one of four linears. */
static bool has_bias(const eq_gguf *f, const char *const names[4])
{
    for (int i = 0; i < 4; i++)
        if (names[i] && eq_gguf_has(f, names[i])) return true;
    return false;
}

/* A key was not `found` as what it should be: it must not be there as something else. */
static eq_status check_absent(const source *s, const char *key, bool found)
{
    if (found || !eq_gguf_has_key(s->file, key)) return EQ_OK;
    return eq_fail(s->ctx, EQ_EFORMAT, "%s: metadata %s is of another type", s->path, key);
}

/* A positive number of the metadata; JSON could not hold one that is not finite. */
static eq_status read_positive(const source *s, const char *name, double *value)
{
    char key[EQ_GGUF_KEY];
    bool found = eq_gguf_real(s->file, eq_gguf_family_key(key, s->family, name), value);
    eq_status st = check_absent(s, key, found);
    if (st != EQ_OK) return st;
    if (*value > 0 && *value <= 1e12) return EQ_OK;
    return eq_fail(s->ctx, EQ_EFORMAT, "%s: metadata %s is %g, expected a positive number", s->path,
                   key, *value);
}

static eq_status set_constants(const source *s, json_t *config)
{
    double theta = 10000.0, eps = 1e-5;
    eq_status st = read_positive(s, "rope.freq_base", &theta);
    if (st == EQ_OK) st = read_positive(s, "attention.layer_norm_rms_epsilon", &eps);
    if (st != EQ_OK) return st;
    char text[32];
    snprintf(text, sizeof text, "%.7g", eps); /* stored as f32: give back the short decimal */
    if (strtof(text, NULL) != (float)eps) snprintf(text, sizeof text, "%.9g", eps);
    json_object_set_new(config, "rms_norm_eps", json_real(strtod(text, NULL)));
    json_object_set_new(config, "rope_theta", json_real(theta));
    json_object_set_new(config, "rope_scaling", json_null());
    json_object_set_new(config, "rope_parameters",
                        json_pack("{s:f, s:s}", "rope_theta", theta, "rope_type", "default"));
    json_object_set_new(config, "architectures", json_pack("[s]", s->family->class));
    json_object_set_new(config, "model_type", json_string(s->family->model_type));
    json_object_set_new(config, "hidden_act", json_string("silu"));
    bool llama = s->family->rotary_pairs;
    bool biased = has_bias(s->file, ATTENTION) && (llama || eq_gguf_has(s->file, ATTENTION[3]));
    json_object_set_new(config, "attention_bias", json_boolean(biased));
    if (llama) json_object_set_new(config, "mlp_bias", json_boolean(has_bias(s->file, MLP)));
    if (!llama) json_object_set_new(config, "use_sliding_window", json_false());
    json_object_set_new(config, "torch_dtype", json_string("float16"));
    json_object_set_new(config, "dtype", json_string("float16"));
    return EQ_OK;
}

/* Scaling of the rotary frequencies would give silently wrong numbers, and so would a bias that
 * the family has not. */
static eq_status check_tensors(const source *s)
{
    if (eq_gguf_has(s->file, "rope_freqs.weight"))
        return eq_fail(s->ctx, EQ_EFORMAT,
                       "%s: rope_freqs.weight (llama 3 scaling) is not supported", s->path);
    if (!s->family->rotary_pairs && has_bias(s->file, MLP))
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: biases of the MLP are not supported for %s",
                       s->path, s->family->prefix);
    return EQ_OK;
}

/* A factor of positions; llama.cpp takes 0 for none. Without a type of scaling it counts there. */
static eq_status check_factor(const source *s, const char *name)
{
    double factor = 1;
    char key[EQ_GGUF_KEY];
    bool found = eq_gguf_real(s->file, eq_gguf_family_key(key, s->family, name), &factor);
    eq_status st = check_absent(s, key, found);
    if (st != EQ_OK || factor == 1 || factor == 0) return st;
    return eq_fail(s->ctx, EQ_EFORMAT, "%s: %s is %g, only 1 is supported", s->path, key, factor);
}

/* Rotary embeddings other than plain ones over the whole head would give silently wrong numbers. */
static eq_status check_rope(const source *s, const json_t *config)
{
    eq_text scaling = {"none", 4};
    char key[EQ_GGUF_KEY];
    int64_t D = json_integer_value(json_object_get(config, "head_dim")), turned = D;
    eq_gguf_family_key(key, s->family, "rope.scaling.type");
    eq_status st = check_absent(s, key, eq_gguf_string(s->file, key, &scaling));
    if (st == EQ_OK) st = check_factor(s, "rope.scale_linear");
    if (st == EQ_OK) st = check_factor(s, "rope.scaling.factor");
    if (st != EQ_OK) return st;
    if (!eq_text_is(scaling, "none"))
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: rope scaling %.*s is not supported", s->path,
                       (int)(scaling.size < 64 ? scaling.size : 64), scaling.data);
    eq_gguf_integer(s->file, eq_gguf_family_key(key, s->family, "rope.dimension_count"), &turned);
    if (turned != D)
        return eq_fail(s->ctx, EQ_EFORMAT, "%s: %s is %lld, only the head size %lld is supported",
                       s->path, key, (long long)turned, (long long)D);
    return EQ_OK;
}

static eq_status refuse_family(eq_ctx *ctx, const eq_gguf *f)
{
    eq_text name = {"(none)", 6};
    eq_gguf_string(f, "general.architecture", &name);
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: architecture %.*s is not supported; llama, qwen2 and qwen3 are",
                   eq_gguf_map(f)->path, (int)(name.size < 64 ? name.size : 64), name.data);
}

eq_status eq_gguf_to_config(eq_ctx *ctx, const eq_gguf *f, json_t **out)
{
    const source s = {ctx, f, eq_gguf_family_in(f), eq_gguf_map(f)->path};
    if (!s.family) return refuse_family(ctx, f);
    json_t *config = json_object();
    if (!config) return eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", s.path);
    eq_status st = check_tensors(&s);
    if (st == EQ_OK) st = set_constants(&s, config);
    if (st == EQ_OK) st = copy_sizes(&s, config);
    if (st == EQ_OK) st = check_rope(&s, config);
    if (st == EQ_OK) st = copy_vocabulary(&s, config);
    if (st != EQ_OK) {
        json_decref(config);
        return st;
    }
    *out = config;
    return EQ_OK;
}
