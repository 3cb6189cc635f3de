#include "app/serve/openai.h"

#include <stdio.h>
#include <string.h>

enum { TOKEN_ROOM = 1024 };

json_t *eq_api_error_json(const eq_api_error *e)
{
    json_t *message = json_string(e->message);
    if (!message) { /* it holds a piece of what was sent, cut within a character */
        char text[sizeof e->message];
        snprintf(text, sizeof text, "%s", e->message);
        for (char *c = text; *c; c++)
            if ((unsigned char)*c >= 0x80) *c = '?';
        message = json_string(text);
    }
    json_t *param = *e->param ? json_string(e->param) : NULL;
    return json_pack("{s:{s:o, s:s, s:o, s:o}}", "error", "message", message, "type", e->type,
                     "param", param ? param : json_null(), "code",
                     e->code ? json_string(e->code) : json_null());
}

json_t *eq_api_model_json(const char *name, int64_t created)
{
    return json_pack("{s:s, s:s, s:I, s:s}", "id", name, "object", "model", "created",
                     (json_int_t)created, "owned_by", "eqat");
}

json_t *eq_api_models_json(const char *name, int64_t created)
{
    return json_pack("{s:s, s:[o]}", "object", "list", "data", eq_api_model_json(name, created));
}

/* ---- tokens -------------------------------------------------------------------------------- */

/* The text of a token as a string: bytes that are no whole characters are spelled out, as is the
 * number of a token without text. */
static json_t *token_text(const eq_model *model, int32_t token)
{
    char text[TOKEN_ROOM];
    size_t size, used = 0;
    const char *bytes = eq_token_bytes(model, token, &size);
    json_t *string = size && !memchr(bytes, 0, size) ? json_stringn(bytes, size) : NULL;
    if (string) return string;
    if (!size)
        snprintf(text, sizeof text, "token_id:%d", token);
    else
        used = (size_t)snprintf(text, sizeof text, "bytes:");
    for (size_t i = 0; i < size && used + 5 < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "\\x%02x", (uint8_t)bytes[i]);
    return json_string(text);
}

static json_t *token_bytes(const eq_model *model, int32_t token)
{
    size_t size;
    const char *bytes = eq_token_bytes(model, token, &size);
    json_t *list = json_array();
    for (size_t i = 0; i < size; i++)
        json_array_append_new(list, json_integer((uint8_t)bytes[i]));
    return list;
}

static json_t *chat_token(const eq_model *model, int32_t token, double logprob)
{
    return json_pack("{s:o, s:f, s:o}", "token", token_text(model, token), "logprob", logprob,
                     "bytes", token_bytes(model, token));
}

json_t *eq_api_logprobs_new(eq_api_kind kind)
{
    if (kind == EQ_API_CHAT) return json_pack("{s:[], s:n}", "content", "refusal");
    return json_pack("{s:[], s:[], s:[], s:[]}", "tokens", "token_logprobs", "top_logprobs",
                     "text_offset");
}

static void add_chat(json_t *list, const eq_model *model, const eq_event *event)
{
    json_t *token = chat_token(model, event->token, event->logprob), *top = json_array();
    for (int64_t i = 0; i < event->top_count; i++)
        json_array_append_new(top, chat_token(model, event->top[i].token, event->top[i].logprob));
    json_object_set_new(token, "top_logprobs", top);
    json_array_append_new(json_object_get(list, "content"), token);
}

void eq_api_logprobs_add(json_t *list, eq_api_kind kind, const eq_model *model,
                         const eq_event *event, int64_t offset)
{
    if (kind == EQ_API_CHAT) {
        add_chat(list, model, event);
        return;
    }
    json_t *top = event->top_count ? json_object() : json_null();
    for (int64_t i = 0; i < event->top_count; i++) {
        json_t *key = token_text(model, event->top[i].token);
        if (key) json_object_set_new(top, json_string_value(key), json_real(event->top[i].logprob));
        json_decref(key);
    }
    json_array_append_new(json_object_get(list, "tokens"), token_text(model, event->token));
    json_array_append_new(json_object_get(list, "token_logprobs"), json_real(event->logprob));
    json_array_append_new(json_object_get(list, "top_logprobs"), top);
    json_array_append_new(json_object_get(list, "text_offset"), json_integer(offset));
}

/* ---- choices ------------------------------------------------------------------------------- */

static json_t *finish_json(eq_finish finish)
{
    return finish == EQ_FINISH_NONE ? json_null()
                                    : json_string(finish == EQ_FINISH_STOP ? "stop" : "length");
}

static json_t *usage_json(const eq_api_usage *u)
{
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t)u->prompt_tokens,
                     "completion_tokens", (json_int_t)u->new_tokens, "total_tokens",
                     (json_int_t)(u->prompt_tokens + u->new_tokens), "prompt_tokens_details",
                     "cached_tokens", (json_int_t)u->cached_tokens);
}

/* `object` is what its kind is called; takes the choices. */
static json_t *envelope(const eq_api_head *head, const char *object, json_t *choices)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", head->id, "object", object, "created",
                     (json_int_t)head->created, "model", head->model, "choices", choices);
}

/* Takes message and logprobs. */
static json_t *choice_json(int64_t index, const char *name, json_t *message, json_t *logprobs,
                           eq_finish finish)
{
    return json_pack("{s:I, s:o, s:o, s:o}", "index", (json_int_t)index, name, message, "logprobs",
                     logprobs ? logprobs : json_null(), "finish_reason", finish_json(finish));
}

static json_t *text_json(const eq_api_piece *piece)
{
    return json_stringn(piece->size ? piece->text : "", piece->size);
}

json_t *eq_api_choice(eq_api_kind kind, const eq_api_piece *piece)
{
    if (kind == EQ_API_COMPLETION)
        return choice_json(piece->index, "text", text_json(piece), piece->logprobs, piece->finish);
    json_t *message =
        json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", text_json(piece), "refusal");
    return choice_json(piece->index, "message", message, piece->logprobs, piece->finish);
}

static json_t *chunk(const eq_api_head *head, json_t *choice, bool with_usage)
{
    const char *object = head->kind == EQ_API_CHAT ? "chat.completion.chunk" : "text_completion";
    json_t *out = envelope(head, object, json_pack("[o]", choice));
    if (with_usage) json_object_set_new(out, "usage", json_null());
    return out;
}

json_t *eq_api_opening(const eq_api_head *head, int64_t index, bool with_usage)
{
    json_t *delta = json_pack("{s:s, s:s}", "role", "assistant", "content", "");
    return chunk(head, choice_json(index, "delta", delta, NULL, EQ_FINISH_NONE), with_usage);
}

json_t *eq_api_chunk(const eq_api_head *head, const eq_api_piece *piece, bool with_usage)
{
    if (head->kind == EQ_API_COMPLETION)
        return chunk(head, eq_api_choice(head->kind, piece), with_usage);
    json_t *delta = piece->size ? json_pack("{s:o}", "content", text_json(piece)) : json_object();
    return chunk(head, choice_json(piece->index, "delta", delta, piece->logprobs, piece->finish),
                 with_usage);
}

json_t *eq_api_last_chunk(const eq_api_head *head, const eq_api_usage *usage)
{
    const char *object = head->kind == EQ_API_CHAT ? "chat.completion.chunk" : "text_completion";
    json_t *out = envelope(head, object, json_array());
    if (out) json_object_set_new(out, "usage", usage_json(usage));
    return out;
}

json_t *eq_api_response(const eq_api_head *head, json_t *choices, const eq_api_usage *usage)
{
    const char *object = head->kind == EQ_API_CHAT ? "chat.completion" : "text_completion";
    json_t *out = envelope(head, object, choices);
    if (out) json_object_set_new(out, "usage", usage_json(usage));
    return out;
}
