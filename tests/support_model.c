#include "support_model.h"

#include "base/cpu.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* cmocka wants these before it. */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { BLOCKS = 3, HIDDEN = 64, MLP = 96, HEADS = 4, KV_HEADS = 2, HEAD_SIZE = 16 };
enum { BLOCK_TENSORS = 14, TENSORS = BLOCKS * BLOCK_TENSORS + 3, NAME = 96 };

void context_init(eq_ctx *ctx, int threads)
{
    eq_cpu cpu;
    eq_cpu_probe(&cpu);
    eq_ctx_init(ctx, threads);
    ctx->kernels = eq_kernels_get(NULL);
    ctx->amx = cpu.amx_bf16;
}

void context_deinit(eq_ctx *ctx)
{
    eq_gemm_free(ctx);
}

static const struct {
    const char *name;
    int64_t rows, columns; /* rows 0: a vector */
    const char *family;    /* NULL: of all */
} BLOCK[BLOCK_TENSORS] = {{"input_layernorm.weight", 0, HIDDEN, NULL},
                          {"self_attn.q_proj.weight", HEADS *HEAD_SIZE, HIDDEN, NULL},
                          {"self_attn.k_proj.weight", KV_HEADS *HEAD_SIZE, HIDDEN, NULL},
                          {"self_attn.v_proj.weight", KV_HEADS *HEAD_SIZE, HIDDEN, NULL},
                          {"self_attn.o_proj.weight", HIDDEN, HEADS *HEAD_SIZE, NULL},
                          {"post_attention_layernorm.weight", 0, HIDDEN, NULL},
                          {"mlp.gate_proj.weight", MLP, HIDDEN, NULL},
                          {"mlp.up_proj.weight", MLP, HIDDEN, NULL},
                          {"mlp.down_proj.weight", HIDDEN, MLP, NULL},
                          {"self_attn.q_proj.bias", 0, HEADS *HEAD_SIZE, "qwen2"},
                          {"self_attn.k_proj.bias", 0, KV_HEADS *HEAD_SIZE, "qwen2"},
                          {"self_attn.v_proj.bias", 0, KV_HEADS *HEAD_SIZE, "qwen2"},
                          {"self_attn.q_norm.weight", 0, HEAD_SIZE, "qwen3"},
                          {"self_attn.k_norm.weight", 0, HEAD_SIZE, "qwen3"}};

static void set_entry(eq_tensor_entry *e, const char *name, int64_t rows, int64_t columns)
{
    *e = (eq_tensor_entry){.name = name, .type = EQ_F32, .dims = rows ? 2 : 1};
    e->shape[0] = rows ? rows : columns;
    e->shape[1] = rows ? columns : 1;
}

static int list_tensors(eq_tensor_entry entries[TENSORS], char names[TENSORS][NAME],
                        const char *family)
{
    int n = 0;
    for (int i = 0; i < BLOCKS; i++) {
        for (int t = 0; t < BLOCK_TENSORS; t++) {
            if (BLOCK[t].family && strcmp(BLOCK[t].family, family)) continue;
            snprintf(names[n], NAME, "model.layers.%d.%s", i, BLOCK[t].name);
            set_entry(&entries[n], names[n], BLOCK[t].rows, BLOCK[t].columns);
            n++;
        }
    }
    set_entry(&entries[n++], "model.embed_tokens.weight", MODEL_VOCABULARY, HIDDEN);
    set_entry(&entries[n++], "lm_head.weight", MODEL_VOCABULARY, HIDDEN);
    set_entry(&entries[n++], "model.norm.weight", 0, HIDDEN);
    return n;
}

/* Norm weights near one; matrices of a size that keeps activations near one. */
static void write_tensor(eq_safetensors_writer *out, const eq_tensor_entry *e, eq_rng *rng,
                         bool spoiled)
{
    bool vector = e->dims == 1;
    double scale = vector ? 0.1 : 1 / sqrt((double)e->shape[1]);
    for (int64_t i = 0; i < e->shape[0] * e->shape[1]; i++) {
        float x = (float)((vector ? 1 : 0) + scale * eq_rng_normal(rng));
        if (spoiled) x = INFINITY;
        assert_int_equal(eq_safetensors_write(out, &x, sizeof x), EQ_OK);
    }
}

static void write_weights(eq_ctx *ctx, const char *path, const char *family, bool spoiled)
{
    eq_tensor_entry entries[TENSORS];
    char names[TENSORS][NAME];
    eq_safetensors_writer out;
    eq_rng rng;
    eq_rng_init(&rng, 5, 0);
    int count = list_tensors(entries, names, family);
    assert_int_equal(eq_safetensors_begin(ctx, &out, path, entries, count), EQ_OK);
    for (int i = 0; i < count; i++)
        write_tensor(&out, &entries[i], &rng, spoiled && i == count - 1);
    assert_int_equal(eq_safetensors_commit(&out), EQ_OK);
}

static void write_config(eq_ctx *ctx, const char *path, const char *family)
{
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "{\"model_type\": \"%s\", \"hidden_size\": %d, \"intermediate_size\": %d,"
                     " \"num_hidden_layers\": %d, \"num_attention_heads\": %d,"
                     " \"num_key_value_heads\": %d, \"head_dim\": %d, \"vocab_size\": %d,"
                     " \"max_position_embeddings\": %d, \"rms_norm_eps\": 1e-5,"
                     " \"rope_theta\": 10000.0, \"hidden_act\": \"silu\","
                     " \"tie_word_embeddings\": false}",
                     family, HIDDEN, MLP, BLOCKS, HEADS, KV_HEADS, HEAD_SIZE, MODEL_VOCABULARY,
                     MODEL_CONTEXT);
    assert_int_equal(eq_file_write(ctx, path, text, (size_t)n), EQ_OK);
}

static void file_in(char path[128], const small_model *m, const char *name)
{
    snprintf(path, 128, "%s/%s", m->folder, name);
}

void small_model_open(eq_ctx *ctx, small_model *m, bool spoiled)
{
    small_model_open_as(ctx, m, "llama", spoiled);
}

void small_model_open_as(eq_ctx *ctx, small_model *m, const char *family, bool spoiled)
{
    char path[128];
    *m = (small_model){.folder = "/tmp/eqat-model-XXXXXX"};
    assert_non_null(mkdtemp(m->folder));
    file_in(path, m, "model.safetensors");
    write_weights(ctx, path, family, spoiled);
    file_in(path, m, "config.json");
    write_config(ctx, path, family);
    eq_status st = eq_checkpoint_open(ctx, &m->checkpoint, m->folder);
    if (st == EQ_OK) st = eq_decoder_open(ctx, &m->decoder, m->checkpoint);
    assert_string_equal(ctx->message, "");
    assert_int_equal(st, EQ_OK);
}

void small_model_close(small_model *m)
{
    char path[128];
    eq_decoder_close(m->decoder);
    eq_checkpoint_close(m->checkpoint);
    file_in(path, m, "model.safetensors");
    unlink(path);
    file_in(path, m, "config.json");
    unlink(path);
    rmdir(m->folder);
}
