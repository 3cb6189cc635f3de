/* The prompts of a request as tokens. */
#include "app/serve/openai.h"

#include <stdlib.h>

enum { USUAL_TOKENS = 16 }; /* of a completion that does not say how many */

static void forget_sent(eq_api_request *r)
{
    eq_conversation_deinit(&r->messages);
    json_decref(r->root);
    r->root = NULL;
    r->prompt = NULL;
}

void eq_api_request_deinit(eq_api_request *r)
{
    for (int64_t i = 0; r->prompts && i < r->prompt_count; i++)
        eq_free(r->prompts[i].ids);
    free(r->prompts);
    forget_sent(r);
    json_decref(r->stop);
    *r = (eq_api_request){0};
}

static eq_status copy_ids(const json_t *list, eq_api_prompt *out)
{
    size_t i;
    json_t *item;
    out->count = (int64_t)json_array_size(list);
    out->ids = malloc((size_t)out->count * sizeof *out->ids);
    if (!out->ids) return EQ_ENOMEM;
    json_array_foreach(list, i, item) out->ids[i] = (int32_t)json_integer_value(item);
    return EQ_OK;
}

static eq_status make_prompt(eq_ctx *ctx, const eq_model *model, const eq_api_request *r, int64_t i,
                             eq_api_prompt *out)
{
    const json_t *first = json_array_get(r->prompt, 0);
    const json_t *item = json_is_string(first) || json_is_array(first)
                             ? json_array_get(r->prompt, (size_t)i)
                             : r->prompt;
    if (json_is_array(item)) return copy_ids(item, out);
    return eq_tokenize(ctx, model, json_string_value(item), json_string_length(item), true,
                       &out->ids, &out->count);
}

static bool check_length(const eq_api_request *r, const eq_api_prompt *prompt, eq_api_error *e,
                         int64_t context)
{
    const char *param = r->kind == EQ_API_CHAT ? "messages" : "prompt";
    int64_t more = r->max_tokens ? r->max_tokens : 1;
    if (prompt->count < 1)
        return eq_api_fail(e, 400, param, NULL, "the prompt has no tokens, at least 1 is needed");
    if (prompt->count < context && more <= context - prompt->count) return true;
    return eq_api_fail(e, 400, param, "context_length_exceeded",
                       "%lld tokens of prompt and %lld new ones exceed the context of %lld",
                       (long long)prompt->count, (long long)more, (long long)context);
}

bool eq_api_tokenize(eq_ctx *ctx, const eq_model *model, const char *format, eq_api_request *r,
                     eq_api_error *e, const eq_api_limits *limits)
{
    r->prompts = calloc((size_t)r->prompt_count, sizeof *r->prompts);
    if (!r->prompts) return eq_api_fail(e, 500, NULL, NULL, "out of memory");
    for (int64_t i = 0; i < r->prompt_count; i++) {
        eq_api_prompt *prompt = &r->prompts[i];
        eq_status status = r->kind == EQ_API_CHAT
                               ? eq_chat_ids(ctx, model, format, r->messages.roles,
                                             (const char *const *)r->messages.texts, r->messages.n,
                                             &prompt->ids, &prompt->count, &r->end)
                               : make_prompt(ctx, model, r, i, prompt);
        if (status != EQ_OK) {
            const char *message = eq_ctx_message(ctx);
            eq_api_fail(e, status == EQ_EINVAL ? 400 : 500,
                        r->kind == EQ_API_CHAT ? "messages" : "prompt", NULL, "%s",
                        *message ? message : "out of memory");
            eq_ctx_clear(ctx);
            return false;
        }
        if (!check_length(r, prompt, e, limits->context)) return false;
    }
    forget_sent(r);
    return true;
}

int64_t eq_api_max_tokens(const eq_api_request *r, const eq_api_prompt *prompt, int64_t context)
{
    if (r->max_tokens || r->kind == EQ_API_CHAT) return r->max_tokens;
    return context - prompt->count < USUAL_TOKENS ? 0 : USUAL_TOKENS;
}
