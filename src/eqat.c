/* The public API on top of all layers. */
#include "eqat.h"

#include "base/cpu.h"
#include "eval/perplexity.h"
#include "infer/dense.h"
#include "io/npy.h"
#include "io/tokenizer.h"
#include "model/decoder.h"

#include "eqat_internal.h"

const char *eq_version(void)
{
    return EQAT_VERSION;
}

eq_status eq_ctx_new(eq_ctx **out, const eq_ctx_options *options)
{
    const eq_ctx_options none = {0};
    const eq_ctx_options *o = options ? options : &none;
    *out = NULL;
    const eq_kernels *kernels = eq_kernels_get(o->isa);
    if (!kernels) return EQ_EINVAL;
    eq_ctx start, *ctx;
    eq_ctx_init(&start, o->threads);
    ctx = eq_alloc(&start, 1, sizeof *ctx);
    if (!ctx) return EQ_ENOMEM;
    eq_ctx_init(ctx, o->threads);
    ctx->callbacks = o->callbacks;
    ctx->kernels = kernels;
    eq_cpu cpu;
    eq_cpu_probe(&cpu);
    /* A named instruction set is that of our own code; oneDNN chooses for itself. */
    ctx->amx = cpu.amx_bf16 && cpu.avx512 && !o->isa;
    *out = ctx;
    return EQ_OK;
}

void eq_ctx_free(eq_ctx *ctx)
{
    if (!ctx) return;
    eq_gemm_free(ctx);
    eq_free(ctx);
}

const char *eq_ctx_message(const eq_ctx *ctx)
{
    return ctx->message;
}

const char *eq_ctx_isa(const eq_ctx *ctx)
{
    return ctx->amx ? "avx512 and amx" : ctx->kernels->name;
}

int eq_ctx_threads(const eq_ctx *ctx)
{
    return ctx->threads;
}

/* ---- models -------------------------------------------------------------------------------- */

static void fill_info(eq_model *m)
{
    const eq_config *c = &m->decoder->config;
    int64_t linears = c->C * (eq_config_qkv(c) + c->H * c->D + 3 * c->F);
    int64_t ends = c->V * c->C * (c->tied ? 1 : 2);
    m->info = (eq_model_info){.blocks = c->L,
                              .hidden = c->C,
                              .mlp = c->F,
                              .heads = c->H,
                              .kv_heads = c->Hkv,
                              .head_size = c->D,
                              .vocabulary = c->V,
                              .context = c->positions,
                              .parameters = c->L * (linears + eq_vector_elems(c)) + ends + c->C,
                              .bytes = eq_checkpoint_bytes(m->checkpoint),
                              .bits = m->decoder->bits,
                              .group = m->decoder->group,
                              .mixed = m->decoder->mixed,
                              .bits_per_weight = eq_decoder_bits_per_weight(m->decoder),
                              .embed_bits = eq_stored_bits(&m->decoder->embedding_stored),
                              .head_bits = eq_stored_bits(&m->decoder->head_stored),
                              .has_tokenizer = m->tokenizer != NULL};
    strcpy(m->info.family, c->family);
}

eq_status eq_checkpoint_tokenizer(eq_ctx *ctx, eq_tokenizer **tok, const eq_checkpoint *checkpoint)
{
    const eq_gguf *gguf = eq_checkpoint_gguf(checkpoint);
    if (gguf) return eq_tokenizer_from_gguf(ctx, tok, gguf);
    *tok = NULL;
    const char *folder = eq_checkpoint_path(checkpoint);
    char *file = eq_path_join(ctx, folder, "tokenizer.json");
    if (!file) return EQ_ENOMEM;
    eq_status st = eq_file_exists(file) ? eq_tokenizer_from_folder(ctx, tok, folder) : EQ_OK;
    eq_free(file);
    return st;
}

eq_status eq_model_open(eq_ctx *ctx, eq_model **out, const char *path)
{
    *out = NULL;
    eq_model *m = eq_alloc(ctx, 1, sizeof *m);
    if (!m) return EQ_ENOMEM;
    eq_status st = eq_checkpoint_open(ctx, &m->checkpoint, path);
    if (st == EQ_OK) st = eq_decoder_open(ctx, &m->decoder, m->checkpoint);
    if (st == EQ_OK) st = eq_checkpoint_tokenizer(ctx, &m->tokenizer, m->checkpoint);
    if (st != EQ_OK) {
        eq_model_close(m);
        return st;
    }
    fill_info(m);
    *out = m;
    return EQ_OK;
}

void eq_model_close(eq_model *m)
{
    if (!m) return;
    eq_tokenizer_free(m->tokenizer);
    eq_decoder_close(m->decoder);
    eq_checkpoint_close(m->checkpoint);
    eq_free(m);
}

const eq_model_info *eq_model_get_info(const eq_model *m)
{
    return &m->info;
}

eq_status eq_model_need_tokenizer(eq_ctx *ctx, const eq_model *m)
{
    if (m->tokenizer) return EQ_OK;
    return eq_fail(ctx, EQ_EINVAL, "%s: has no tokenizer, and text was given",
                   eq_checkpoint_path(m->checkpoint));
}

eq_status eq_tokenize(eq_ctx *ctx, const eq_model *m, const char *text, size_t n, bool add_special,
                      int32_t **ids, int64_t *count)
{
    eq_status st = eq_model_need_tokenizer(ctx, m);
    if (st != EQ_OK) return st;
    return eq_tokenizer_encode(ctx, m->tokenizer, text, n, add_special, ids, count);
}

eq_status eq_detokenize(eq_ctx *ctx, const eq_model *m, const int32_t *ids, int64_t count,
                        char **text, size_t *size)
{
    eq_status st = eq_model_need_tokenizer(ctx, m);
    return st == EQ_OK ? eq_tokenizer_decode(ctx, m->tokenizer, ids, count, false, text, size) : st;
}

const char *eq_token_bytes(const eq_model *m, int32_t id, size_t *size)
{
    *size = 0;
    bool shown = m->tokenizer && !eq_tokenizer_is_special(m->tokenizer, id);
    return shown ? eq_tokenizer_piece(m->tokenizer, id, size) : "";
}

eq_status eq_logits(eq_ctx *ctx, const eq_model *m, const int32_t *ids, int64_t count,
                    eq_precision precision, float **out)
{
    const eq_decoder *d = m->decoder;
    eq_decoder_pass pass = {0};
    eq_dtype type = EQ_F32;
    float *logits = NULL;
    if (count < 1) return eq_fail(ctx, EQ_EINVAL, "no tokens were given");
    eq_status st = eq_precision_type(ctx, &type, precision);
    if (st == EQ_OK) st = eq_decoder_pass_init(ctx, &pass, d, 1, count, type);
    if (st == EQ_OK) st = eq_decoder_forward(ctx, d, &pass, ids);
    if (st == EQ_OK) {
        logits = eq_alloc(ctx, count * d->config.V, sizeof *logits);
        if (!logits) st = EQ_ENOMEM;
    }
    for (int64_t row = 0; st == EQ_OK && row < count; row += pass.slice) {
        int64_t rows = count - row < pass.slice ? count - row : pass.slice;
        eq_decoder_logits(ctx, d, &pass, row, rows);
        memcpy(logits + row * d->config.V, pass.logits,
               (size_t)(rows * d->config.V) * sizeof *logits);
        st = eq_ctx_status(ctx);
    }
    eq_decoder_pass_deinit(&pass);
    if (st != EQ_OK) {
        eq_free(logits);
        logits = NULL;
    }
    *out = logits;
    return st;
}

eq_status eq_write_npy(eq_ctx *ctx, const char *path, const float *data, int64_t rows,
                       int64_t columns)
{
    return eq_npy_write_f32(ctx, path, data, rows, columns);
}

/* ---- evaluation ---------------------------------------------------------------------------- */

eq_eval_options eq_eval_defaults(void)
{
    return (eq_eval_options){.context = 2048,
                             .examples = eq_example_defaults(),
                             .precision = EQ_PRECISION_AUTO,
                             .activations = EQ_ACTIVATIONS_EXACT,
                             .kv_bits = 16};
}

/* The windows that are measured. */
static eq_status text_windows(eq_ctx *ctx, const eq_model *m, const eq_eval_options *o,
                              eq_token_windows *out)
{
    const eq_data_options data = {.calib = o->text, .seqlen = o->context, .examples = o->examples};
    const eq_data_job job = {.options = &data,
                             .decoder = m->decoder,
                             .tokenizer = m->tokenizer,
                             .samples = o->windows,
                             .all = true};
    return eq_data_text(ctx, &job, out);
}

/* Perplexity of the decoder with activations in 8 bits, beside a reference. */
static eq_status evaluate_8bit(eq_ctx *ctx, const eq_decoder *d, const eq_decoder *reference,
                               const eq_eval_windows *text, eq_dtype type, eq_eval_result *result)
{
    eq_dense weights;
    eq_decoder fast = *d;
    eq_decoder_block *blocks = eq_alloc(ctx, d->config.L, sizeof *blocks);
    if (!blocks) return EQ_ENOMEM;
    eq_status st = eq_dense_init(ctx, &weights, d, type, EQ_DENSE_FAST);
    if (st == EQ_OK) {
        eq_dense_lend(&weights, &fast, blocks);
        st = eq_perplexity(ctx, &fast, reference, text, type, result);
    }
    eq_dense_deinit(&weights);
    eq_free(blocks);
    return st;
}

eq_status eq_evaluate(eq_ctx *ctx, const eq_model *model, const eq_model *reference,
                      const eq_eval_options *o, eq_eval_result *result)
{
    eq_token_windows windows = {0};
    eq_dtype type = EQ_F32;
    if (o->context < 2)
        return eq_fail(ctx, EQ_EINVAL, "a context of %lld tokens is too short",
                       (long long)o->context);
    if (o->kv_bits && o->kv_bits != 16 && !eq_kv_packed(o->kv_bits))
        return eq_fail(ctx, EQ_EINVAL, "keys and values in %d bits, allowed are 16, 8 and 4",
                       o->kv_bits);
    eq_status st = eq_precision_type(ctx, &type, o->precision);
    if (st == EQ_OK) st = text_windows(ctx, model, o, &windows);
    const eq_eval_windows text = {.ids = windows.ids,
                                  .counts = windows.counts,
                                  .n = windows.n,
                                  .T = o->context,
                                  .kv_bits = o->kv_bits};
    const eq_decoder *d = model->decoder, *other = reference ? reference->decoder : NULL;
    if (!other && (o->activations == EQ_ACTIVATIONS_8BIT || eq_kv_packed(o->kv_bits))) other = d;
    if (st == EQ_OK && o->activations == EQ_ACTIVATIONS_8BIT)
        st = evaluate_8bit(ctx, d, other, &text, type, result);
    else if (st == EQ_OK)
        st = eq_perplexity(ctx, d, other, &text, type, result);
    eq_windows_deinit(&windows);
    return st;
}
