/* A tokenizer as metadata of a GGUF file. */
#include "io/gguf_write.h"
#include "io/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

enum { PAD_NAME = 32 };

static eq_text text_of(const char *s)
{
    return (eq_text){s, strlen(s)};
}

static void put_id(eq_gguf_writer *w, const char *key, int32_t id)
{
    if (id >= 0) eq_gguf_put_u32(w, key, (uint32_t)id);
}

/* What is neither a list nor a table. */
static void put_settings(eq_gguf_writer *w, const eq_tokenizer *tok)
{
    const char *pre = tok->pre->name;
    eq_gguf_put_text(w, "tokenizer.ggml.model", text_of("gpt2"));
    eq_gguf_put_text(w, "tokenizer.ggml.pre", text_of(strcmp(pre, "gpt2") ? pre : "gpt-2"));
    put_id(w, "tokenizer.ggml.bos_token_id", tok->bos);
    put_id(w, "tokenizer.ggml.eos_token_id", tok->eos);
    put_id(w, "tokenizer.ggml.unknown_token_id", tok->unk);
    put_id(w, "tokenizer.ggml.padding_token_id", tok->pad);
    eq_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", tok->add_bos);
    eq_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", false);
    if (tok->chat_template)
        eq_gguf_put_text(w, "tokenizer.chat_template",
                         (eq_text){tok->chat_template, tok->chat_template_size});
}

/* Ids without a token become unused ones, each of a name of its own. */
static eq_status put_tokens(eq_ctx *ctx, eq_gguf_writer *w, const eq_token_table *table, int64_t V)
{
    eq_text *names = eq_alloc(ctx, V, sizeof *names);
    int32_t *types = eq_alloc(ctx, V, sizeof *types);
    char(*pads)[PAD_NAME] = eq_alloc(ctx, V, PAD_NAME);
    bool good = names && types && pads;
    for (int64_t i = 0; good && i < V; i++) {
        bool there = i < table->n && table->tokens[i].name.size;
        snprintf(pads[i], PAD_NAME, "[PAD%lld]", (long long)i);
        names[i] = there ? table->tokens[i].name : text_of(pads[i]);
        types[i] = there ? table->tokens[i].type : EQ_TOKEN_UNUSED;
    }
    if (good) eq_gguf_put_texts(w, "tokenizer.ggml.tokens", names, V);
    if (good) eq_gguf_put_i32s(w, "tokenizer.ggml.token_type", types, V);
    eq_free(names);
    eq_free(types);
    eq_free(pads);
    return good ? EQ_OK : EQ_ENOMEM;
}

/* "left right"; a space is never part of a name in the byte-level alphabet. */
static eq_status put_merges(eq_ctx *ctx, eq_gguf_writer *w, const eq_tokenizer *tok)
{
    const eq_merges *m = &tok->merges;
    size_t room = 1;
    for (int32_t i = 0; i < m->count; i++)
        room += tok->table.tokens[m->list[i].left].name.size +
                tok->table.tokens[m->list[i].right].name.size + 1;
    eq_text *texts = eq_alloc(ctx, m->count, sizeof *texts);
    char *pool = eq_alloc(ctx, (int64_t)room, 1), *at = pool;
    bool good = texts && pool;
    for (int32_t i = 0; good && i < m->count; i++) {
        const eq_text left = tok->table.tokens[m->list[i].left].name;
        const eq_text right = tok->table.tokens[m->list[i].right].name;
        texts[i] = (eq_text){at, left.size + 1 + right.size};
        memcpy(at, left.data, left.size);
        at[left.size] = ' ';
        memcpy(at + left.size + 1, right.data, right.size);
        at += texts[i].size;
    }
    if (good) eq_gguf_put_texts(w, "tokenizer.ggml.merges", texts, m->count);
    eq_free(texts);
    eq_free(pool);
    return good ? EQ_OK : EQ_ENOMEM;
}

/* A GGUF file has a name for the pre-tokenizer, and only qwen2 implies form C. */
eq_status eq_tokenizer_fits_gguf(eq_ctx *ctx, const eq_tokenizer *tok, int64_t V, const char *path)
{
    if (tok->table.n > V)
        return eq_fail(ctx, EQ_EINVAL, "%s: the tokenizer has %d tokens, the model %lld", path,
                       (int)tok->table.n, (long long)V);
    if (tok->normalized == !strcmp(tok->pre->name, "qwen2")) return EQ_OK;
    return eq_fail(ctx, EQ_EINVAL,
                   "%s: the tokenizer is %s the normalizer NFC, which no GGUF file with the "
                   "pre-tokenizer %s says",
                   path, tok->normalized ? "with" : "without", tok->pre->name);
}

eq_status eq_tokenizer_to_gguf(eq_ctx *ctx, const eq_tokenizer *tok, struct eq_gguf_writer *w,
                               int64_t V)
{
    put_settings(w, tok);
    eq_status st = put_tokens(ctx, w, &tok->table, V);
    return st == EQ_OK ? put_merges(ctx, w, tok) : st;
}
