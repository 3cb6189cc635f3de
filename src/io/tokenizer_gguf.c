#include "io/tokenizer_parts.h"

static bool text_is(eq_text a, const char *b)
{
    return a.size == strlen(b) && !memcmp(a.data, b, a.size);
}

/* GGUF's token types: 3 control, 4 user defined, 5 unused; the rest is ordinary. */
static uint8_t kind_of(int32_t type)
{
    return type == 3   ? EQ_TOKEN_SPECIAL
           : type == 4 ? EQ_TOKEN_ADDED
           : type == 5 ? EQ_TOKEN_UNUSED
                       : EQ_TOKEN_NORMAL;
}

static eq_status check_kind(eq_ctx *ctx, const eq_gguf *f, eq_vocabulary *v)
{
    eq_text model = {"(none)", 6}, pre = {"default", 7};
    eq_gguf_string(f, "tokenizer.ggml.model", &model);
    eq_gguf_string(f, "tokenizer.ggml.pre", &pre);
    if (!text_is(model, "gpt2"))
        return eq_fail(ctx, EQ_EFORMAT, "%s: tokenizer model \"%.*s\" is not supported, gpt2 is",
                       v->what, (int)model.size, model.data);
    v->single_digits = text_is(pre, "smollm");
    if (v->single_digits || text_is(pre, "default") || text_is(pre, "gpt-2") ||
        text_is(pre, "gpt2"))
        return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: pre-tokenizer \"%.*s\" is not supported, smollm and gpt-2 are", v->what,
                   (int)pre.size, pre.data);
}

static int32_t id_of(const eq_gguf *f, const char *key, int64_t size)
{
    int64_t id = -1;
    return eq_gguf_integer(f, key, &id) && id >= 0 && id < size ? (int32_t)id : -1;
}

static void read_ids(const eq_gguf *f, eq_vocabulary *v)
{
    v->bos = id_of(f, "tokenizer.ggml.bos_token_id", v->size);
    v->eos = id_of(f, "tokenizer.ggml.eos_token_id", v->size);
    v->unk = id_of(f, "tokenizer.ggml.unknown_token_id", v->size);
    v->pad = id_of(f, "tokenizer.ggml.padding_token_id", v->size);
    eq_gguf_bool(f, "tokenizer.ggml.add_bos_token", &v->add_bos);
    eq_gguf_string(f, "tokenizer.chat_template", &v->chat_template);
}

eq_status eq_tokenizer_from_gguf(eq_ctx *ctx, eq_tokenizer **out, const eq_gguf *f)
{
    static const char TOKENS[] = "tokenizer.ggml.tokens", MERGES[] = "tokenizer.ggml.merges";
    static const char TYPES[] = "tokenizer.ggml.token_type";
    eq_vocabulary v = {.what = eq_gguf_map(f)->path};
    *out = NULL;
    eq_status st = check_kind(ctx, f, &v);
    if (st != EQ_OK) return st;
    v.size = eq_gguf_array_size(f, TOKENS);
    v.merge_count = eq_gguf_array_size(f, MERGES);
    if (v.size < 1 || v.merge_count < 0)
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s or %s is missing", v.what, TOKENS, MERGES);
    eq_text *tokens = eq_alloc(ctx, v.size, sizeof *tokens);
    eq_text *merges = eq_alloc(ctx, v.merge_count, sizeof *merges);
    int32_t *types = eq_alloc(ctx, v.size, sizeof *types);
    uint8_t *kinds = eq_alloc(ctx, v.size, 1);
    bool typed = eq_gguf_array_size(f, TYPES) == v.size;
    if (!tokens || !merges || !types || !kinds)
        st = EQ_ENOMEM;
    else if (!eq_gguf_strings(f, TOKENS, tokens) || !eq_gguf_strings(f, MERGES, merges) ||
             (typed && !eq_gguf_integers(f, TYPES, types)))
        st = eq_fail(ctx, EQ_EFORMAT, "%s: tokenizer.ggml arrays are not of the expected kinds",
                     v.what);
    for (int64_t i = 0; st == EQ_OK && i < v.size; i++)
        kinds[i] = kind_of(types[i]);
    v.tokens = tokens;
    v.merges = merges;
    v.kinds = kinds;
    read_ids(f, &v);
    if (st == EQ_OK) st = eq_tokenizer_make(ctx, out, &v);
    eq_free(tokens);
    eq_free(merges);
    eq_free(types);
    eq_free(kinds);
    return st;
}
