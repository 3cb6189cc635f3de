/* Writing a tokenizer as the files that Hugging Face programs read. */
#include "base/file.h"
#include "io/tokenizer_parts.h"

#include <string.h>

/* A JSON string. The text is UTF-8 (checked when the tokenizer was made). */
static void put_string(eq_output *out, const char *text, size_t n)
{
    eq_output_write(out, "\"", 1);
    size_t start = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        eq_output_write(out, text + start, i - start);
        if (c == '\n')
            eq_output_write(out, "\\n", 2);
        else if (c < 0x20)
            eq_output_printf(out, "\\u%04x", c);
        else
            eq_output_printf(out, "\\%c", c);
        start = i + 1;
    }
    eq_output_write(out, text + start, n - start);
    eq_output_write(out, "\"", 1);
}

static void put_name(eq_output *out, const eq_tokenizer *tok, int32_t id)
{
    const eq_text *name = &tok->table.tokens[id].name;
    put_string(out, name->data, name->size);
}

static const char *json_bool(bool value)
{
    return value ? "true" : "false";
}

/* ---- tokenizer.json ------------------------------------------------------------------------ */

static void put_added_tokens(eq_output *out, const eq_tokenizer *tok)
{
    const char *separator = "";
    eq_output_printf(out, "  \"added_tokens\": [");
    for (int32_t id = 0; id < tok->table.n; id++) {
        int32_t type = tok->table.tokens[id].type;
        if (!eq_token_type_added(type)) continue;
        eq_output_printf(out, "%s\n    {\"id\": %d, \"content\": ", separator, (int)id);
        put_name(out, tok, id);
        eq_output_printf(out,
                         ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                         "\"normalized\": false, \"special\": %s}",
                         json_bool(type != EQ_TOKEN_USER));
        separator = ",";
    }
    eq_output_printf(out, "\n  ],\n");
}

static void put_split(eq_output *out, const char *expression)
{
    eq_output_printf(out, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n"
                          "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    put_string(out, expression, strlen(expression));
    eq_output_printf(out, "},\n     \"behavior\": \"Isolated\", \"invert\": false},\n"
                          "    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                          "\"trim_offsets\": false, \"use_regex\": false}]},\n");
}

static void put_pipeline(eq_output *out, const eq_tokenizer *tok)
{
    const char *level = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                        "\"trim_offsets\": true, \"use_regex\": true}";
    eq_output_printf(out, "  \"normalizer\": %s,\n",
                     tok->normalized ? "{\"type\": \"NFC\"}" : "null");
    if (tok->pre->expression)
        put_split(out, tok->pre->expression);
    else if (tok->pre->single_digits)
        eq_output_printf(out,
                         "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n"
                         "    {\"type\": \"Digits\", \"individual_digits\": true},\n    %s]},\n",
                         level);
    else
        eq_output_printf(out, "  \"pre_tokenizer\": %s,\n", level);
    if (!tok->add_bos) {
        eq_output_printf(out, "  \"post_processor\": null,\n");
    } else {
        eq_output_printf(out, "  \"post_processor\": {\"type\": \"TemplateProcessing\",\n"
                              "    \"single\": [{\"SpecialToken\": {\"id\": ");
        put_name(out, tok, tok->bos);
        eq_output_printf(out, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", "
                              "\"type_id\": 0}}],\n"
                              "    \"pair\": [{\"SpecialToken\": {\"id\": ");
        put_name(out, tok, tok->bos);
        eq_output_printf(out, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", "
                              "\"type_id\": 0}},\n      {\"SpecialToken\": {\"id\": ");
        put_name(out, tok, tok->bos);
        eq_output_printf(out, ", \"type_id\": 1}}, {\"Sequence\": {\"id\": \"B\", "
                              "\"type_id\": 1}}],\n    \"special_tokens\": {");
        put_name(out, tok, tok->bos);
        eq_output_printf(out, ": {\"id\": ");
        put_name(out, tok, tok->bos);
        eq_output_printf(out, ", \"ids\": [%d], \"tokens\": [", (int)tok->bos);
        put_name(out, tok, tok->bos);
        eq_output_printf(out, "]}}},\n");
    }
    eq_output_printf(out, "  \"decoder\": %s,\n", level);
}

static void put_model(eq_output *out, const eq_tokenizer *tok)
{
    const char *separator = "";
    eq_output_printf(out, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
                          "    \"unk_token\": ");
    if (tok->missing < 0)
        eq_output_printf(out, "null");
    else
        put_name(out, tok, tok->missing);
    eq_output_printf(out, ",\n    \"continuing_subword_prefix\": null,\n"
                          "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
                          "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n"
                          "    \"vocab\": {");
    for (int32_t id = 0; id < tok->table.n; id++) {
        if (tok->table.tokens[id].type == EQ_TOKEN_UNUSED) continue; /* those of GGUF have names */
        eq_output_printf(out, "%s\n      ", separator);
        put_name(out, tok, id);
        eq_output_printf(out, ": %d", (int)id);
        separator = ",";
    }
    eq_output_printf(out, "\n    },\n    \"merges\": [");
    for (int32_t i = 0; i < tok->merges.count; i++) {
        eq_output_printf(out, "%s\n      [", i ? "," : "");
        put_name(out, tok, tok->merges.list[i].left);
        eq_output_write(out, ", ", 2);
        put_name(out, tok, tok->merges.list[i].right);
        eq_output_write(out, "]", 1);
    }
    eq_output_printf(out, "\n    ]\n  }\n");
}

static void put_tokenizer(eq_output *out, const eq_tokenizer *tok)
{
    eq_output_printf(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n"
                          "  \"padding\": null,\n");
    put_added_tokens(out, tok);
    put_pipeline(out, tok);
    put_model(out, tok);
    eq_output_printf(out, "}\n");
}

/* ---- the small files ----------------------------------------------------------------------- */

/* "bos_token": "...", and so on, of those that there are; each line ends with a comma except that
 * `last` ends the last one. */
static void put_special_tokens(eq_output *out, const eq_tokenizer *tok, const char *last)
{
    const char *names[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    const int32_t ids[] = {tok->bos, tok->eos, tok->unk, tok->pad};
    const char *separator = "";
    for (int i = 0; i < 4; i++) {
        if (ids[i] < 0) continue;
        eq_output_printf(out, "%s  \"%s\": ", separator, names[i]);
        put_name(out, tok, ids[i]);
        separator = ",\n";
    }
    if (*separator) eq_output_printf(out, "%s", last);
}

static void put_config(eq_output *out, const eq_tokenizer *tok)
{
    eq_output_printf(out, "{\n");
    put_special_tokens(out, tok, ",\n");
    eq_output_printf(out, "  \"add_bos_token\": %s,\n  \"add_prefix_space\": false,\n",
                     json_bool(tok->add_bos));
    if (tok->max_length > 0)
        eq_output_printf(out, "  \"model_max_length\": %lld,\n", (long long)tok->max_length);
    if (tok->chat_template) {
        eq_output_printf(out, "  \"chat_template\": ");
        put_string(out, tok->chat_template, tok->chat_template_size);
        eq_output_printf(out, ",\n");
    }
    eq_output_printf(out, "  \"clean_up_tokenization_spaces\": false,\n"
                          "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
}

static void put_special_map(eq_output *out, const eq_tokenizer *tok)
{
    eq_output_printf(out, "{\n");
    put_special_tokens(out, tok, "\n");
    eq_output_printf(out, "}\n");
}

static void put_jinja(eq_output *out, const eq_tokenizer *tok)
{
    eq_output_write(out, tok->chat_template, tok->chat_template_size);
}

static eq_status write_file(eq_ctx *ctx, const eq_tokenizer *tok, const char *folder,
                            const char *name, void (*put)(eq_output *, const eq_tokenizer *))
{
    char *path = eq_path_join(ctx, folder, name);
    if (!path) return EQ_ENOMEM;
    eq_output out;
    eq_status st = eq_output_open(ctx, &out, path);
    if (st == EQ_OK) {
        put(&out, tok); /* failures are kept until the commit */
        st = eq_output_commit(&out);
    }
    eq_free(path);
    return st;
}

eq_status eq_tokenizer_write_folder(eq_ctx *ctx, const eq_tokenizer *tok, const char *folder)
{
    eq_status st = write_file(ctx, tok, folder, "tokenizer.json", put_tokenizer);
    if (st == EQ_OK) st = write_file(ctx, tok, folder, "tokenizer_config.json", put_config);
    if (st == EQ_OK) st = write_file(ctx, tok, folder, "special_tokens_map.json", put_special_map);
    if (st == EQ_OK && tok->chat_template)
        st = write_file(ctx, tok, folder, "chat_template.jinja", put_jinja);
    return st;
}
