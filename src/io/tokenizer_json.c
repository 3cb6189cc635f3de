/* tokenizer.json and its companions: reading and writing.                      [spec formats.md 3] */
#include "io/json_file.h"
#include "io/tokenizer_parts.h"

#include <stdlib.h>

/* ---- reading ------------------------------------------------------------------------------- */

typedef struct reader {
    eq_ctx *ctx;
    const char *path; /* of tokenizer.json */
    json_t *root;     /* owned */
    json_t *settings; /* owned: tokenizer_config.json, or NULL */
    eq_text *tokens;  /* owned, [size] */
    uint8_t *kinds;   /* owned */
    eq_text *merges;  /* owned */
    char **joined;    /* owned strings of merges that were written as pairs */
    eq_vocabulary v;
} reader;

static eq_status refuse(const reader *r, const char *piece, const char *found)
{
    return eq_fail(r->ctx, EQ_EFORMAT, "%s: %s \"%s\" is not supported", r->path, piece,
                   found ? found : "(none)");
}

static const char *type_of(const json_t *object)
{
    return json_string_value(json_object_get(object, "type"));
}

static bool is_type(const json_t *object, const char *type)
{
    const char *found = type_of(object);
    return found && !strcmp(found, type);
}

static eq_status check_byte_level(const reader *r, const json_t *p)
{
    const json_t *regex = json_object_get(p, "use_regex");
    if (!is_type(p, "ByteLevel")) return refuse(r, "pre_tokenizer", type_of(p));
    if (json_is_true(json_object_get(p, "add_prefix_space")))
        return refuse(r, "pre_tokenizer option", "add_prefix_space");
    return regex && !json_is_true(regex) ? refuse(r, "pre_tokenizer option", "use_regex false")
                                         : EQ_OK;
}

/* ByteLevel, or Sequence [Digits, ByteLevel]. */
static eq_status read_pretokenizer(reader *r)
{
    const json_t *p = json_object_get(r->root, "pre_tokenizer");
    if (!is_type(p, "Sequence")) return check_byte_level(r, p);
    const json_t *list = json_object_get(p, "pretokenizers");
    const json_t *digits = json_array_get(list, 0);
    if (json_array_size(list) != 2 || !is_type(digits, "Digits"))
        return refuse(r, "pre_tokenizer sequence beginning with", type_of(digits));
    if (!json_is_true(json_object_get(digits, "individual_digits")))
        return refuse(r, "pre_tokenizer", "Digits of whole numbers");
    r->v.single_digits = true;
    return check_byte_level(r, json_array_get(list, 1));
}

static eq_status set_token(reader *r, const char *text, size_t n, int64_t id, uint8_t kind)
{
    if (id < 0 || id >= r->v.size)
        return eq_fail(r->ctx, EQ_EFORMAT, "%s: token id %lld is out of range", r->path,
                       (long long)id);
    r->tokens[id] = (eq_text){text, n};
    r->kinds[id] = kind;
    return EQ_OK;
}

static int64_t added_id(const json_t *token)
{
    const json_t *id = json_object_get(token, "id");
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

/* The vocabulary's size: no gaps are expected, so the number of different ids. */
static int64_t count_tokens(const json_t *vocab, const json_t *added)
{
    int64_t most = (int64_t)json_object_size(vocab);
    size_t i = 0;
    json_t *token = NULL;
    json_array_foreach(added, i, token) if (added_id(token) >= most) most = added_id(token) + 1;
    return most;
}

static eq_status read_tokens(reader *r, const json_t *vocab)
{
    const json_t *added = json_object_get(r->root, "added_tokens");
    enum { MOST = 1 << 24 };
    r->v.size = count_tokens(vocab, added);
    if (r->v.size < 1 || r->v.size > MOST)
        return eq_fail(r->ctx, EQ_EFORMAT, "%s: a vocabulary of %lld tokens", r->path,
                       (long long)r->v.size);
    r->tokens = eq_alloc(r->ctx, r->v.size, sizeof *r->tokens);
    r->kinds = eq_alloc(r->ctx, r->v.size, 1);
    if (!r->tokens || !r->kinds) return EQ_ENOMEM;
    memset(r->kinds, EQ_TOKEN_UNUSED, (size_t)r->v.size);
    eq_status st = EQ_OK;
    const char *text = NULL;
    size_t n = 0, i = 0;
    json_t *id = NULL, *token = NULL;
    json_object_keylen_foreach((json_t *)(uintptr_t)vocab, text, n, id)
    {
        if (st == EQ_OK)
            st = set_token(r, text, n, json_is_integer(id) ? json_integer_value(id) : -1,
                           EQ_TOKEN_NORMAL);
    }
    json_array_foreach(added, i, token)
    {
        const json_t *content = json_object_get(token, "content");
        bool special = json_is_true(json_object_get(token, "special"));
        if (st == EQ_OK && !json_is_string(content))
            st = eq_fail(r->ctx, EQ_EFORMAT, "%s: added token %zu has no content", r->path, i);
        if (st == EQ_OK)
            st = set_token(r, json_string_value(content), json_string_length(content),
                           added_id(token), special ? EQ_TOKEN_SPECIAL : EQ_TOKEN_ADDED);
    }
    return st;
}

/* A merge is "left right" or ["left", "right"]; it becomes the former. */
static eq_status read_merge(reader *r, const json_t *merge, int64_t i)
{
    if (json_is_string(merge)) {
        r->merges[i] = (eq_text){json_string_value(merge), json_string_length(merge)};
        return EQ_OK;
    }
    const char *left = json_string_value(json_array_get(merge, 0));
    const char *right = json_string_value(json_array_get(merge, 1));
    if (!left || !right)
        return eq_fail(r->ctx, EQ_EFORMAT, "%s: merge %lld is not a pair", r->path, (long long)i);
    r->joined[i] = eq_format(r->ctx, "%s %s", left, right);
    if (!r->joined[i]) return EQ_ENOMEM;
    r->merges[i] = (eq_text){r->joined[i], strlen(r->joined[i])};
    return EQ_OK;
}

static eq_status read_merges(reader *r, const json_t *list)
{
    r->v.merge_count = (int64_t)json_array_size(list);
    r->merges = eq_alloc(r->ctx, r->v.merge_count, sizeof *r->merges);
    r->joined = eq_alloc(r->ctx, r->v.merge_count, sizeof *r->joined);
    if (!r->merges || !r->joined) return EQ_ENOMEM;
    eq_status st = EQ_OK;
    for (int64_t i = 0; st == EQ_OK && i < r->v.merge_count; i++)
        st = read_merge(r, json_array_get(list, (size_t)i), i);
    return st;
}

/* The id of a token that tokenizer_config.json names, as text or as {"content": text}. */
static int32_t named_id(const reader *r, const char *key)
{
    const json_t *value = json_object_get(r->settings, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    const char *text = json_string_value(value);
    for (int64_t i = 0; text && i < r->v.size; i++)
        if (r->tokens[i].size == strlen(text) &&
            !memcmp(r->tokens[i].data, text, r->tokens[i].size))
            return (int32_t)i;
    return -1;
}

static void read_settings(reader *r, eq_text template_file)
{
    const json_t *chat = json_object_get(r->settings, "chat_template");
    r->v.bos = named_id(r, "bos_token");
    r->v.eos = named_id(r, "eos_token");
    r->v.unk = named_id(r, "unk_token");
    r->v.pad = named_id(r, "pad_token");
    r->v.add_bos = json_is_true(json_object_get(r->settings, "add_bos_token"));
    r->v.chat_template = template_file;
    if (!template_file.size && json_is_string(chat))
        r->v.chat_template = (eq_text){json_string_value(chat), json_string_length(chat)};
}

static eq_status read_model(reader *r)
{
    const json_t *model = json_object_get(r->root, "model");
    const json_t *normalizer = json_object_get(r->root, "normalizer");
    if (!is_type(model, "BPE")) return refuse(r, "model", type_of(model));
    if (normalizer && !json_is_null(normalizer))
        return refuse(r, "normalizer", type_of(normalizer));
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return refuse(r, "model option", "byte_fallback");
    if (json_is_true(json_object_get(model, "ignore_merges")))
        return refuse(r, "model option", "ignore_merges");
    eq_status st = read_pretokenizer(r);
    if (st == EQ_OK) st = read_tokens(r, json_object_get(model, "vocab"));
    return st == EQ_OK ? read_merges(r, json_object_get(model, "merges")) : st;
}

static void reader_free(reader *r)
{
    for (int64_t i = 0; r->joined && i < r->v.merge_count; i++)
        eq_free(r->joined[i]);
    eq_free(r->joined);
    eq_free(r->merges);
    eq_free(r->tokens);
    eq_free(r->kinds);
    json_decref(r->root);
    json_decref(r->settings);
}

static eq_status read_folder(eq_ctx *ctx, eq_tokenizer **out, const char *path,
                             const char *settings, const char *chat)
{
    reader r = {.ctx = ctx, .path = path};
    char *chat_text = NULL;
    size_t chat_size = 0;
    enum { CHAT_LIMIT = 1 << 20 };
    eq_status st = eq_json_load(ctx, &r.root, path);
    if (st == EQ_OK && eq_file_exists(settings)) st = eq_json_load(ctx, &r.settings, settings);
    if (st == EQ_OK && eq_file_exists(chat))
        st = eq_file_read(ctx, chat, CHAT_LIMIT, &chat_text, &chat_size);
    if (st == EQ_OK) st = read_model(&r);
    if (st == EQ_OK) {
        r.v.what = path;
        r.v.tokens = r.tokens;
        r.v.kinds = r.kinds;
        r.v.merges = r.merges;
        read_settings(&r, (eq_text){chat_text, chat_size});
        st = eq_tokenizer_make(ctx, out, &r.v);
    }
    eq_free(chat_text);
    reader_free(&r);
    return st;
}

eq_status eq_tokenizer_from_folder(eq_ctx *ctx, eq_tokenizer **out, const char *folder)
{
    *out = NULL;
    char *path = eq_path_join(ctx, folder, "tokenizer.json");
    char *settings = eq_path_join(ctx, folder, "tokenizer_config.json");
    char *chat = eq_path_join(ctx, folder, "chat_template.jinja");
    eq_status st = path && settings && chat ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK && eq_file_exists(path)) st = read_folder(ctx, out, path, settings, chat);
    eq_free(path);
    eq_free(settings);
    eq_free(chat);
    return st;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* The text of a token as the vocabulary spells it. */
static json_t *token_text(const eq_tokenizer *t, int32_t id)
{
    eq_text piece = t->bpe.pieces[id];
    if (t->kinds[id] != EQ_TOKEN_NORMAL) return json_stringn(piece.data, piece.size);
    char *text = malloc(2 * piece.size + 1);
    if (!text) return NULL;
    json_t *json = json_stringn(text, eq_bpe_to_alphabet(text, piece));
    free(text);
    return json;
}

static json_t *vocabulary_json(const eq_tokenizer *t)
{
    json_t *vocab = json_object();
    for (int32_t id = 0; id < t->bpe.size; id++) {
        json_t *text = token_text(t, id);
        json_object_setn_new(vocab, json_string_value(text), json_string_length(text),
                             json_integer(id));
        json_decref(text);
    }
    return vocab;
}

static json_t *merges_json(const eq_tokenizer *t)
{
    json_t *merges = json_array();
    for (int64_t i = 0; i < t->merge_count; i++)
        json_array_append_new(merges, json_stringn(t->merges[i].data, t->merges[i].size));
    return merges;
}

static json_t *added_json(const eq_tokenizer *t)
{
    json_t *added = json_array();
    for (int32_t id = 0; id < t->bpe.size; id++) {
        if (t->kinds[id] != EQ_TOKEN_SPECIAL && t->kinds[id] != EQ_TOKEN_ADDED) continue;
        json_array_append_new(added, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (int)id,
                                               "content", token_text(t, id), "single_word", 0,
                                               "lstrip", 0, "rstrip", 0, "normalized", 0, "special",
                                               t->kinds[id] == EQ_TOKEN_SPECIAL));
    }
    return added;
}

static json_t *byte_level(bool regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", (int)regex);
}

static json_t *pretokenizer_json(const eq_tokenizer *t)
{
    if (!t->single_digits) return byte_level(true);
    return json_pack("{s:s, s:[{s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type",
                     "Digits", "individual_digits", 1, byte_level(true));
}

/* A BOS in front, when the tokenizer has that habit. */
static json_t *postprocessor_json(const eq_tokenizer *t)
{
    if (!t->add_bos) return json_null();
    json_t *bos = token_text(t, t->bos);
    json_t *piece = json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", bos, "type_id", 0);
    json_t *first = json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0);
    json_t *second = json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1);
    json_t *tokens = json_object();
    json_object_set_new(
        tokens, json_string_value(bos),
        json_pack("{s:O, s:[i], s:[O]}", "id", bos, "ids", (int)t->bos, "tokens", bos));
    json_t *all =
        json_pack("{s:s, s:[O, O], s:[O, O, O], s:o}", "type", "TemplateProcessing", "single",
                  piece, first, "pair", piece, first, second, "special_tokens", tokens);
    json_decref(bos);
    json_decref(piece);
    json_decref(first);
    json_decref(second);
    return all;
}

static json_t *tokenizer_json(const eq_tokenizer *t)
{
    json_t *model = json_pack(
        "{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
        "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
        "ignore_merges", 0, "vocab", vocabulary_json(t), "merges", merges_json(t));
    return json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", added_json(t), "normalizer",
                     "pre_tokenizer", pretokenizer_json(t), "post_processor", postprocessor_json(t),
                     "decoder", byte_level(true), "model", model);
}

static void name_token(json_t *object, const char *key, const eq_tokenizer *t, int32_t id)
{
    if (id >= 0) json_object_set_new(object, key, token_text(t, id));
}

static json_t *special_json(const eq_tokenizer *t)
{
    json_t *map = json_object();
    name_token(map, "bos_token", t, t->bos);
    name_token(map, "eos_token", t, t->eos);
    name_token(map, "unk_token", t, t->unk);
    name_token(map, "pad_token", t, t->pad);
    return map;
}

static json_t *settings_json(const eq_tokenizer *t)
{
    json_t *settings = special_json(t);
    json_object_set_new(settings, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(settings, "add_bos_token", json_boolean(t->add_bos));
    json_object_set_new(settings, "clean_up_tokenization_spaces", json_false());
    json_object_set_new(settings, "model_max_length", json_integer(1000000));
    if (t->chat_template)
        json_object_set_new(settings, "chat_template", json_string(t->chat_template));
    return settings;
}

static eq_status save(eq_ctx *ctx, const char *folder, const char *name, json_t *json)
{
    eq_status st = eq_json_save(ctx, folder, name, json);
    json_decref(json);
    return st;
}

eq_status eq_tokenizer_write_folder(eq_ctx *ctx, const eq_tokenizer *t, const char *folder)
{
    eq_status st = save(ctx, folder, "tokenizer.json", tokenizer_json(t));
    if (st == EQ_OK) st = save(ctx, folder, "tokenizer_config.json", settings_json(t));
    if (st == EQ_OK) st = save(ctx, folder, "special_tokens_map.json", special_json(t));
    if (st != EQ_OK || !t->chat_template) return st;
    char *path = eq_path_join(ctx, folder, "chat_template.jinja");
    st = path ? eq_file_write(ctx, path, t->chat_template, strlen(t->chat_template)) : EQ_ENOMEM;
    eq_free(path);
    return st;
}
