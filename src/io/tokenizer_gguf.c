/* The tokenizer that the metadata of a GGUF file describes. */
#include "io/gguf_config.h"
#include "io/tokenizer.h"

#include <string.h>

/* Arrays of the metadata; the texts in them are borrowed from the file. */
typedef struct arrays {
    eq_text *tokens; /* owned */
    eq_text *merges; /* owned */
    int32_t *types;  /* owned; NULL when the file has none */
} arrays;

static eq_status refuse(eq_ctx *ctx, const eq_gguf *file, const char *key)
{
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s is absent or of another type", eq_gguf_map(file)->path,
                   key);
}

/* An array of strings in fresh memory. */
static eq_status read_strings(eq_ctx *ctx, const eq_gguf *file, const char *key, eq_text **list,
                              int64_t *n)
{
    *n = eq_gguf_array_size(file, key);
    if (*n < 0) return refuse(ctx, file, key);
    *list = eq_alloc(ctx, *n, sizeof **list);
    if (!*list) return EQ_ENOMEM;
    return eq_gguf_strings(file, key, *list) ? EQ_OK : refuse(ctx, file, key);
}

static eq_status read_types(eq_ctx *ctx, const eq_gguf *file, int64_t n, int32_t **types)
{
    const char *key = "tokenizer.ggml.token_type";
    int64_t count = eq_gguf_array_size(file, key);
    if (count < 0) return EQ_OK; /* all normal */
    if (count != n)
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s has %lld elements, there are %lld tokens",
                       eq_gguf_map(file)->path, key, (long long)count, (long long)n);
    *types = eq_alloc(ctx, n, sizeof **types);
    if (!*types) return EQ_ENOMEM;
    return eq_gguf_integers(file, key, *types) ? EQ_OK : refuse(ctx, file, key);
}

/* Ids that may be absent. Those that are too large for the vocabulary are refused with it. */
static void read_ids(const eq_gguf *file, eq_vocab *vocab)
{
    const char *keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                          "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id"};
    int32_t *ids[] = {&vocab->bos, &vocab->eos, &vocab->unk, &vocab->pad};
    for (int i = 0; i < 4; i++) {
        int64_t id = 0;
        if (eq_gguf_integer(file, keys[i], &id))
            *ids[i] = id >= 0 && id < INT32_MAX ? (int32_t)id : INT32_MAX;
    }
}

/* Everything that is no array. The name of the pre-tokenizer is put into pre. */
static eq_status read_settings(eq_ctx *ctx, const eq_gguf *file, eq_vocab *vocab, char pre[64])
{
    eq_text text = {"", 0};
    eq_gguf_string(file, "tokenizer.ggml.model", &text);
    if (!eq_text_is(text, "gpt2"))
        return eq_fail(ctx, EQ_EFORMAT,
                       "%s: a tokenizer of model '%.*s' is not supported, gpt2 (byte-level) is",
                       vocab->source, (int)(text.size < 64 ? text.size : 64), text.data);
    const char *flags[] = {"tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix"};
    for (int i = 0; i < 2; i++) {
        bool set = false;
        if (eq_gguf_bool(file, flags[i], &set) && set)
            return eq_fail(ctx, EQ_EFORMAT, "%s: %s is not supported", vocab->source, flags[i]);
    }
    text = (eq_text){"default", 7};
    eq_gguf_string(file, "tokenizer.ggml.pre", &text);
    size_t n = text.size < 63 ? text.size : 63;
    memcpy(pre, text.data, n);
    pre[n] = 0;
    vocab->pre = pre;
    vocab->normalized = !strcmp(pre, "qwen2");
    eq_gguf_bool(file, "tokenizer.ggml.add_bos_token", &vocab->add_bos);
    eq_gguf_string(file, "tokenizer.chat_template", &vocab->chat_template);
    const eq_gguf_family *family = eq_gguf_family_in(file);
    char key[EQ_GGUF_KEY];
    if (family)
        eq_gguf_integer(file, eq_gguf_family_key(key, family, "context_length"),
                        &vocab->max_length);
    read_ids(file, vocab);
    return EQ_OK;
}

eq_status eq_tokenizer_from_gguf(eq_ctx *ctx, eq_tokenizer **tok, const eq_gguf *file)
{
    *tok = NULL;
    eq_vocab vocab = eq_vocab_none();
    arrays a = {0};
    char pre[64];
    vocab.source = eq_gguf_map(file)->path;
    eq_status st = read_settings(ctx, file, &vocab, pre);
    if (st == EQ_OK) st = read_strings(ctx, file, "tokenizer.ggml.tokens", &a.tokens, &vocab.n);
    if (st == EQ_OK) st = read_strings(ctx, file, "tokenizer.ggml.merges", &a.merges, &vocab.m);
    if (st == EQ_OK) st = read_types(ctx, file, vocab.n, &a.types);
    vocab.tokens = a.tokens;
    vocab.merges = a.merges;
    vocab.types = a.types;
    if (st == EQ_OK) st = eq_tokenizer_from_vocab(ctx, tok, &vocab);
    eq_free(a.tokens);
    eq_free(a.merges);
    eq_free(a.types);
    return st;
}
