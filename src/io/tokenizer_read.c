/* Reading tokenizer.json: the parts that are understood become an eq_vocab, every other part that
 * would change the ids is refused by name. */
#include "io/json_file.h"
#include "io/pretokenize.h"
#include "io/tokenizer.h"

#include <string.h>

enum { TEMPLATE_LIMIT = 16 << 20 };

typedef struct reader {
    eq_ctx *ctx;
    char *path;     /* owned; of tokenizer.json */
    json_t *root;   /* owned; tokenizer.json */
    json_t *config; /* owned; tokenizer_config.json, NULL when absent */
    char *jinja;    /* owned; chat_template.jinja, NULL when absent */
    size_t jinja_size;
    eq_text *tokens; /* owned; [vocab.n], names borrowed from root */
    int32_t *types;  /* owned; [vocab.n] */
    eq_text *merges; /* owned; [vocab.m], borrowed from root or joined */
    char *joined;    /* owned; merges that were pairs */
    eq_vocab vocab;
} reader;

/* EQ_EFORMAT for a part of tokenizer.json that is not supported. */
static eq_status refuse(const reader *r, const char *part, const char *what)
{
    return eq_fail(r->ctx, EQ_EFORMAT, "%s: %s %s is not supported", r->path, part,
                   what ? what : "without a type");
}

static const char *type_of(const json_t *part)
{
    return json_string_value(json_object_get(part, "type"));
}

static bool has_type(const json_t *part, const char *type)
{
    const char *found = type_of(part);
    return found && !strcmp(found, type);
}

/* A flag of a part, or its default when it is absent. */
static bool flag(const json_t *part, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(part, name);
    return value ? json_is_true(value) : otherwise;
}

static bool absent(const json_t *value)
{
    return !value || json_is_null(value);
}

/* Whether a setting is absent, null, false or "". */
static bool unset(const json_t *part, const char *name)
{
    const json_t *value = json_object_get(part, name);
    return absent(value) || json_is_false(value) ||
           (json_is_string(value) && !json_string_length(value));
}

/* ---- the pipeline around the model --------------------------------------------------------- */

static eq_status check_byte_level(const reader *r, const json_t *part, bool regex)
{
    if (!has_type(part, "ByteLevel")) return refuse(r, "pre_tokenizer", type_of(part));
    if (flag(part, "add_prefix_space", true))
        return refuse(r, "pre_tokenizer", "ByteLevel with add_prefix_space");
    if (flag(part, "use_regex", true) != regex)
        return refuse(r, "pre_tokenizer",
                      regex ? "ByteLevel without its expression" : "Split, ByteLevel with its own");
    return EQ_OK;
}

/* A Split by an expression that is known, then ByteLevel without its own. */
static eq_status read_split(reader *r, const json_t *split, const json_t *level)
{
    const json_t *pattern = json_object_get(split, "pattern");
    const char *expression = json_string_value(json_object_get(pattern, "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    const eq_pretokenizer *pre = expression ? eq_pretokenizer_by_expression(expression) : NULL;
    if (!pre)
        return refuse(r, "pre_tokenizer: Split by", expression ? expression : "no expression");
    if (!behavior || strcmp(behavior, "Isolated") || flag(split, "invert", false))
        return refuse(r, "pre_tokenizer", "Split that is not Isolated");
    r->vocab.pre = pre->name;
    return check_byte_level(r, level, false);
}

static eq_status read_pre_tokenizer(reader *r)
{
    const json_t *part = json_object_get(r->root, "pre_tokenizer");
    r->vocab.pre = "gpt2";
    if (!has_type(part, "Sequence")) return check_byte_level(r, part, true);
    const json_t *steps = json_object_get(part, "pretokenizers");
    const json_t *digits = json_array_get(steps, 0);
    if (json_array_size(steps) == 1) return check_byte_level(r, digits, true);
    if (has_type(digits, "Split") && json_array_size(steps) == 2)
        return read_split(r, digits, json_array_get(steps, 1));
    if (!has_type(digits, "Digits")) return refuse(r, "pre_tokenizer", type_of(digits));
    if (!flag(digits, "individual_digits", false))
        return refuse(r, "pre_tokenizer", "Digits without individual_digits");
    if (json_array_size(steps) != 2)
        return refuse(r, "pre_tokenizer", "a Sequence other than Digits, ByteLevel");
    r->vocab.pre = "smollm";
    return check_byte_level(r, json_array_get(steps, 1), true);
}

/* Id of a token by its name, -1 when there is none. */
static int32_t find_token(const reader *r, const json_t *name)
{
    eq_text text = eq_json_text(name);
    for (int64_t id = 0; id < r->vocab.n && text.data; id++)
        if (r->tokens[id].size == text.size && !memcmp(r->tokens[id].data, text.data, text.size))
            return (int32_t)id;
    return -1;
}

/* A template may put one token before the text, nothing else. */
static eq_status read_template(reader *r, const json_t *part)
{
    const json_t *single = json_object_get(part, "single");
    size_t n = json_array_size(single);
    const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    const json_t *last = json_object_get(json_array_get(single, n - 1), "Sequence");
    if (n < 1 || n > 2 || !last || (n == 2 && !first))
        return refuse(r, "post_processor",
                      "TemplateProcessing with more than one token before the text");
    if (n == 1) return EQ_OK;
    const json_t *name = json_object_get(first, "id");
    r->vocab.bos = find_token(r, name);
    r->vocab.add_bos = true;
    if (r->vocab.bos >= 0) return EQ_OK;
    return eq_fail(r->ctx, EQ_EFORMAT, "%s: post_processor: token '%s' is not in the vocabulary",
                   r->path, json_is_string(name) ? json_string_value(name) : "");
}

static eq_status read_post_processor(reader *r)
{
    json_t *part = json_object_get(r->root, "post_processor");
    if (absent(part)) return EQ_OK;
    const bool sequence = has_type(part, "Sequence");
    json_t *steps = sequence ? json_object_get(part, "processors") : NULL;
    size_t n = sequence ? json_array_size(steps) : 1;
    eq_status st = EQ_OK;
    for (size_t i = 0; i < n && st == EQ_OK; i++) {
        const json_t *step = sequence ? json_array_get(steps, i) : part;
        if (has_type(step, "TemplateProcessing"))
            st = read_template(r, step);
        else if (!has_type(step, "ByteLevel")) /* which only moves offsets */
            st = refuse(r, "post_processor", type_of(step));
    }
    return st;
}

static eq_status check_pipeline(reader *r)
{
    const json_t *normalizer = json_object_get(r->root, "normalizer");
    r->vocab.normalized = has_type(normalizer, "NFC");
    if (!absent(normalizer) && !r->vocab.normalized)
        return refuse(r, "normalizer", type_of(normalizer));
    const json_t *decoder = json_object_get(r->root, "decoder");
    if (!has_type(decoder, "ByteLevel")) return refuse(r, "decoder", type_of(decoder));
    const json_t *model = json_object_get(r->root, "model");
    if (!has_type(model, "BPE")) return refuse(r, "model", type_of(model));
    const char *unsupported[] = {"dropout",
                                 "continuing_subword_prefix",
                                 "end_of_word_suffix",
                                 "fuse_unk",
                                 "byte_fallback",
                                 "ignore_merges"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!unset(model, unsupported[i])) return refuse(r, "model BPE with", unsupported[i]);
    return EQ_OK;
}

/* ---- vocabulary and merges ----------------------------------------------------------------- */

/* Put a name at an id. Both lists may name the same token. */
static eq_status place_token(reader *r, const char *name, size_t size, json_int_t id, int32_t type)
{
    eq_text *token = &r->tokens[id];
    bool taken = token->size > 0;
    if (taken && (token->size != size || memcmp(token->data, name, size)))
        return eq_fail(r->ctx, EQ_EFORMAT, "%s: id %lld is both '%s' and '%s'", r->path,
                       (long long)id, token->data, name);
    *token = (eq_text){name, size};
    r->types[id] = type;
    return EQ_OK;
}

/* Largest id of vocabulary and added tokens + 1. More than a few unused ids among them mean a
 * broken file, not a large vocabulary. */
static eq_status count_tokens(reader *r, json_t *vocab, const json_t *added)
{
    json_int_t most = (json_int_t)(2 * (json_object_size(vocab) + json_array_size(added)) + 65536);
    json_int_t last = -1, id = 0;
    const char *key;
    json_t *value;
    json_object_foreach(vocab, key, value)
    {
        id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= most)
            return eq_fail(r->ctx, EQ_EFORMAT, "%s: token '%s' has id %lld, ids are 0 to %lld",
                           r->path, key, (long long)id, (long long)most - 1);
        if (id > last) last = id;
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        value = json_object_get(json_array_get(added, i), "id");
        id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= most)
            return eq_fail(r->ctx, EQ_EFORMAT, "%s: added token %zu has id %lld, ids are 0 to %lld",
                           r->path, i, (long long)id, (long long)most - 1);
        if (id > last) last = id;
    }
    r->vocab.n = last + 1;
    return EQ_OK;
}

static eq_status read_added(reader *r, const json_t *added)
{
    const char *unsupported[] = {"single_word", "lstrip", "rstrip"};
    eq_status st = EQ_OK;
    for (size_t i = 0; i < json_array_size(added) && st == EQ_OK; i++) {
        const json_t *token = json_array_get(added, i);
        eq_text name = eq_json_text(json_object_get(token, "content"));
        if (!name.size)
            return eq_fail(r->ctx, EQ_EFORMAT, "%s: added token %zu has no content", r->path, i);
        for (int k = 0; k < 3; k++)
            if (!unset(token, unsupported[k]))
                return eq_fail(r->ctx, EQ_EFORMAT, "%s: added token '%s': %s is not supported",
                               r->path, name.data, unsupported[k]);
        int32_t type = flag(token, "special", false) ? EQ_TOKEN_CONTROL : EQ_TOKEN_USER;
        st = place_token(r, name.data, name.size, json_integer_value(json_object_get(token, "id")),
                         type);
    }
    return st;
}

static eq_status read_tokens(reader *r)
{
    json_t *vocab = json_object_get(json_object_get(r->root, "model"), "vocab");
    const json_t *added = json_object_get(r->root, "added_tokens");
    if (!json_is_object(vocab))
        return eq_fail(r->ctx, EQ_EFORMAT, "%s: model has no object vocab", r->path);
    eq_status st = count_tokens(r, vocab, added);
    if (st != EQ_OK) return st;
    r->tokens = eq_alloc(r->ctx, r->vocab.n, sizeof *r->tokens);
    r->types = eq_alloc(r->ctx, r->vocab.n, sizeof *r->types);
    if (!r->tokens || !r->types) return EQ_ENOMEM;
    for (int64_t id = 0; id < r->vocab.n; id++)
        r->types[id] = EQ_TOKEN_UNUSED;
    for (void *at = json_object_iter(vocab); at && st == EQ_OK;
         at = json_object_iter_next(vocab, at))
        st = place_token(r, json_object_iter_key(at), json_object_iter_key_len(at),
                         json_integer_value(json_object_iter_value(at)), EQ_TOKEN_NORMAL);
    if (st == EQ_OK) st = read_added(r, added);
    r->vocab.tokens = r->tokens;
    r->vocab.types = r->types;
    return st;
}

/* Merges are strings "a b" or pairs [a, b]; pairs are joined into r->joined. */
static eq_status read_merges(reader *r)
{
    const json_t *list = json_object_get(json_object_get(r->root, "model"), "merges");
    size_t n = json_array_size(list), bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *merge = json_array_get(list, i);
        eq_text a = eq_json_text(json_array_get(merge, 0)),
                b = eq_json_text(json_array_get(merge, 1));
        bool pair = json_array_size(merge) == 2 && a.size && b.size &&
                    !memchr(a.data, ' ', a.size) && !memchr(b.data, ' ', b.size);
        if (!pair && !json_is_string(merge))
            return eq_fail(r->ctx, EQ_EFORMAT,
                           "%s: merge %zu must be two tokens without spaces in them", r->path, i);
        if (pair) bytes += a.size + b.size + 1;
    }
    r->merges = eq_alloc(r->ctx, (int64_t)n, sizeof *r->merges);
    r->joined = eq_alloc(r->ctx, (int64_t)bytes, 1);
    if (!r->merges || !r->joined) return EQ_ENOMEM;
    char *out = r->joined;
    for (size_t i = 0; i < n; i++) {
        const json_t *merge = json_array_get(list, i);
        if (json_is_string(merge)) {
            r->merges[i] = eq_json_text(merge);
            continue;
        }
        eq_text a = eq_json_text(json_array_get(merge, 0)),
                b = eq_json_text(json_array_get(merge, 1));
        r->merges[i] = (eq_text){out, a.size + b.size + 1};
        memcpy(out, a.data, a.size);
        out[a.size] = ' ';
        memcpy(out + a.size + 1, b.data, b.size);
        out += a.size + b.size + 1;
    }
    r->vocab.merges = r->merges;
    r->vocab.m = (int64_t)n;
    return EQ_OK;
}

/* ---- tokenizer_config.json ----------------------------------------------------------------- */

/* The id of a token of tokenizer_config.json, which is a string or an object with `content`. */
static eq_status read_special(reader *r, const char *name, int32_t *id)
{
    const json_t *value = json_object_get(r->config, name);
    if (absent(value)) return EQ_OK;
    if (json_is_object(value)) value = json_object_get(value, "content");
    *id = find_token(r, value);
    if (*id >= 0) return EQ_OK;
    return eq_fail(r->ctx, EQ_EFORMAT,
                   "%s: %s of tokenizer_config.json, '%s', is not in the "
                   "vocabulary",
                   r->path, name, json_is_string(value) ? json_string_value(value) : "");
}

/* The template is a string, or a list of named ones of which the default is meant. A file
 * chat_template.jinja goes before it. */
static void read_chat_template(reader *r)
{
    const json_t *chat = json_object_get(r->config, "chat_template");
    for (size_t i = 0; i < json_array_size(chat); i++) {
        const json_t *one = json_array_get(chat, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (!name || strcmp(name, "default")) continue;
        chat = json_object_get(one, "template");
        break;
    }
    r->vocab.chat_template = r->jinja ? (eq_text){r->jinja, r->jinja_size} : eq_json_text(chat);
}

static eq_status read_config(reader *r)
{
    eq_vocab *vocab = &r->vocab;
    int32_t template_bos = vocab->bos; /* of tokenizer.json's post_processor */
    eq_status st = read_special(r, "bos_token", &vocab->bos);
    if (st == EQ_OK) st = read_special(r, "eos_token", &vocab->eos);
    if (st == EQ_OK) st = read_special(r, "unk_token", &vocab->unk);
    if (st == EQ_OK) st = read_special(r, "pad_token", &vocab->pad);
    if (st != EQ_OK) return st;
    if (template_bos >= 0 && vocab->bos != template_bos)
        return eq_fail(r->ctx, EQ_EFORMAT,
                       "%s: the post_processor adds token %d, bos_token of tokenizer_config.json "
                       "is token %d",
                       r->path, (int)template_bos, (int)vocab->bos);
    if (flag(r->config, "add_bos_token", false) && vocab->bos >= 0) vocab->add_bos = true;
    double length = json_number_value(json_object_get(r->config, "model_max_length"));
    if (length >= 1 && length <= 1e15) vocab->max_length = (int64_t)length;
    read_chat_template(r);
    return EQ_OK;
}

/* ---- the folder ---------------------------------------------------------------------------- */

/* Load the files of the folder; only tokenizer.json has to be there. */
static eq_status load_files(reader *r, const char *folder)
{
    eq_ctx *ctx = r->ctx;
    char *config = eq_path_join(ctx, folder, "tokenizer_config.json");
    char *jinja = eq_path_join(ctx, folder, "chat_template.jinja");
    r->path = eq_path_join(ctx, folder, "tokenizer.json");
    eq_status st = EQ_ENOMEM;
    if (!config || !jinja || !r->path) goto done;
    st = eq_json_load(ctx, &r->root, r->path);
    /* where model_max_length is unknown it is 10^30, more than an integer can hold */
    if (st == EQ_OK && eq_file_exists(config)) st = eq_json_load_reals(ctx, &r->config, config);
    if (st == EQ_OK && eq_file_exists(jinja))
        st = eq_file_read(ctx, jinja, TEMPLATE_LIMIT, &r->jinja, &r->jinja_size);
done:
    eq_free(config);
    eq_free(jinja);
    return st;
}

static eq_status read_all(reader *r)
{
    eq_status st = check_pipeline(r);
    if (st == EQ_OK) st = read_pre_tokenizer(r);
    if (st == EQ_OK) st = read_tokens(r);
    if (st == EQ_OK) st = read_merges(r);
    if (st == EQ_OK) st = read_post_processor(r);
    if (st == EQ_OK) st = read_config(r);
    const json_t *unk = json_object_get(json_object_get(r->root, "model"), "unk_token");
    if (st == EQ_OK && !absent(unk)) r->vocab.missing = find_token(r, unk);
    return st;
}

eq_status eq_tokenizer_from_folder(eq_ctx *ctx, eq_tokenizer **tok, const char *folder)
{
    *tok = NULL;
    reader r = {.ctx = ctx, .vocab = eq_vocab_none()};
    eq_status st = load_files(&r, folder);
    if (st == EQ_OK) st = read_all(&r);
    r.vocab.source = r.path;
    if (st == EQ_OK) st = eq_tokenizer_from_vocab(ctx, tok, &r.vocab);
    json_decref(r.root);
    json_decref(r.config);
    eq_free(r.path);
    eq_free(r.jinja);
    eq_free(r.tokens);
    eq_free(r.types);
    eq_free(r.merges);
    eq_free(r.joined);
    return st;
}
