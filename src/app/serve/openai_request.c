#include "app/serve/openai.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOTH = EQ_API_COMPLETION | EQ_API_CHAT };

bool eq_api_fail(eq_api_error *e, int status, const char *param, const char *code,
                 const char *format, ...)
{
    va_list args;
    *e = (eq_api_error){.status = status, .code = code};
    e->type = status >= 500   ? "server_error"
              : status == 429 ? "rate_limit_error"
                              : "invalid_request_error";
    if (param) snprintf(e->param, sizeof e->param, "%s", param);
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    return false;
}

/* ---- parameters ---------------------------------------------------------------------------- */

struct parameter;

typedef struct parsing {
    eq_api_request *request;
    eq_api_error *error;
    const eq_api_limits *limits;
    const struct parameter *parameter; /* the one that is read */
} parsing;

/* A parameter that means something here. */
typedef struct parameter {
    const char *name;
    int kinds; /* of requests that have it */
    bool (*take)(parsing *p, const json_t *value);
    size_t offset; /* of its field in eq_api_request, for numbers and flags */
    double low, high;
} parameter;

/* The current parameter is wrong. */
__attribute__((format(printf, 2, 3))) static bool wrong(parsing *p, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return eq_api_fail(p->error, 400, p->parameter->name, NULL, "'%s' %s", p->parameter->name,
                       text);
}

static void *field(parsing *p)
{
    return (char *)p->request + p->parameter->offset;
}

static bool take_real(parsing *p, const json_t *value)
{
    const parameter *own = p->parameter;
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= own->low && number <= own->high))
        return wrong(p, "must be a number from %g to %g", own->low, own->high);
    *(double *)field(p) = number;
    return true;
}

static bool take_whole(parsing *p, const json_t *value)
{
    const parameter *own = p->parameter;
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || (double)number < own->low || (double)number > own->high)
        return wrong(p, "must be a whole number from %.0f to %.0f", own->low, own->high);
    *(int64_t *)field(p) = number;
    return true;
}

static bool take_flag(parsing *p, const json_t *value)
{
    if (!json_is_boolean(value)) return wrong(p, "must be true or false");
    *(bool *)field(p) = json_is_true(value);
    return true;
}

static bool take_model(parsing *p, const json_t *value)
{
    const char *name = json_string_value(value);
    if (!name) return wrong(p, "must be a string");
    if (strcmp(name, p->limits->model) == 0) return true;
    return eq_api_fail(p->error, 404, "model", "model_not_found",
                       "the model '%.100s' is not here, this server has '%.100s'", name,
                       p->limits->model);
}

static bool take_n(parsing *p, const json_t *value)
{
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 1 || n > p->limits->slots)
        return wrong(p, "must be a whole number from 1 to %lld, which this server does at once",
                     (long long)p->limits->slots);
    p->request->n = n;
    return true;
}

static bool take_seed(parsing *p, const json_t *value)
{
    if (!json_is_integer(value)) return wrong(p, "must be a whole number");
    p->request->options.seed = (uint64_t)json_integer_value(value);
    p->request->seeded = true;
    return true;
}

static bool take_stop(parsing *p, const json_t *value)
{
    eq_api_request *r = p->request;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > EQ_API_MOST_STOPS)
        return wrong(p, "has %zu texts, allowed are %d", count, EQ_API_MOST_STOPS);
    r->stop = json_incref((json_t *)value);
    for (size_t i = 0; i < count; i++) {
        const char *text =
            json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
        if (!text || !*text)
            return wrong(p, "must be a text or a list of texts, none of them empty");
        r->stops[r->stop_count++] = text;
    }
    return true;
}

/* Completions say how many logprobs, chats whether. */
static bool take_logprobs(parsing *p, const json_t *value)
{
    if (p->request->kind == EQ_API_CHAT) return take_flag(p, value);
    json_int_t count = json_integer_value(value);
    if (!json_is_integer(value) || count < 0 || count > 20)
        return wrong(p, "must be a whole number from 0 to 20");
    p->request->logprobs = true;
    p->request->top_logprobs = count;
    return true;
}

static bool take_cache(parsing *p, const json_t *value)
{
    if (!json_is_boolean(value)) return wrong(p, "must be true or false");
    p->request->fresh = json_is_false(value);
    return true;
}

static bool take_stream_options(parsing *p, const json_t *value)
{
    const char *key;
    json_t *item;
    if (!json_is_object(value)) return wrong(p, "must be an object");
    json_object_foreach((json_t *)value, key, item)
    {
        bool known = strcmp(key, "include_usage") == 0;
        if (known && json_is_boolean(item)) p->request->stream_usage = json_is_true(item);
        if (known ? !json_is_boolean(item) && !json_is_null(item)
                  : strcmp(key, "include_obfuscation") != 0)
            return wrong(p, "may have include_usage, true or false");
    }
    return true;
}

/* ---- prompts and messages ------------------------------------------------------------------ */

static bool are_ids(const json_t *list, int64_t vocabulary)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) if (!json_is_integer(item) || json_integer_value(item) < 0 ||
                                          json_integer_value(item) >= vocabulary) return false;
    return json_array_size(list) > 0;
}

static bool take_prompt(parsing *p, const json_t *value)
{
    int64_t V = p->limits->vocabulary;
    size_t i, count = json_array_size(value);
    json_t *item;
    p->request->prompt = value;
    p->request->prompt_count = 1;
    if (json_is_string(value) || are_ids(value, V)) return true;
    bool good = count > 0;
    json_array_foreach(value, i, item) good = good && (json_is_string(item) || are_ids(item, V));
    p->request->prompt_count = (int64_t)count;
    if (good) return true;
    return wrong(p,
                 "must be a text, a list of texts, or tokens (0 to %lld) in a list or in lists, "
                 "and none of the lists empty",
                 (long long)V - 1);
}

/* The text of a message in fresh memory (free): a string, or parts of type text put together. NULL
 * when it is neither, or without memory. */
static char *content_of(const json_t *content)
{
    if (json_is_string(content)) return strdup(json_string_value(content));
    size_t i, size = 0;
    json_t *part;
    char *all = json_is_array(content) ? calloc(1, 1) : NULL;
    json_array_foreach(content, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        size_t more = json_string_length(text);
        char *larger = type && strcmp(type, "text") == 0 && json_is_string(text)
                           ? realloc(all, size + more + 1)
                           : NULL;
        if (!larger) {
            free(all);
            return NULL;
        }
        all = larger;
        memcpy(all + size, json_string_value(text), more + 1);
        size += more;
    }
    return all;
}

static bool is_empty(const json_t *value)
{
    return json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
}

static const char *role_of(const json_t *message)
{
    static const char *const roles[] = {"user", "assistant", "system"};
    const char *role = json_string_value(json_object_get(message, "role"));
    if (role && strcmp(role, "developer") == 0) role = "system";
    for (int i = 0; role && i < 3; i++)
        if (strcmp(role, roles[i]) == 0) return roles[i];
    return NULL;
}

static bool take_message(parsing *p, const json_t *message, size_t index)
{
    const char *key, *role = role_of(message);
    json_t *item;
    char param[64];
    snprintf(param, sizeof param, "messages[%zu]", index);
    if (!role)
        return eq_api_fail(p->error, 400, param, NULL,
                           "%s must have the role system, user or assistant", param);
    json_object_foreach((json_t *)message, key, item)
    {
        bool known =
            strcmp(key, "role") == 0 || strcmp(key, "content") == 0 || strcmp(key, "name") == 0;
        if (!known && !is_empty(item))
            return eq_api_fail(p->error, 400, param, NULL, "%s has '%.60s', which is not supported",
                               param, key);
    }
    char *text = content_of(json_object_get(message, "content"));
    if (!text)
        return eq_api_fail(p->error, 400, param, NULL,
                           "the content of %s must be a text or a list of parts of type text",
                           param);
    bool pushed = eq_conversation_push(&p->request->messages, role, text);
    free(text);
    return pushed || eq_api_fail(p->error, 500, NULL, NULL, "out of memory");
}

static bool take_messages(parsing *p, const json_t *value)
{
    size_t i;
    json_t *message;
    if (json_array_size(value) == 0) return wrong(p, "must be a list of messages");
    json_array_foreach(value, i, message) if (!take_message(p, message, i)) return false;
    p->request->prompt_count = 1;
    return true;
}

/* ---- the tables ---------------------------------------------------------------------------- */

static const parameter parameters[] = {
    {.name = "model", .kinds = BOTH, .take = take_model},
    {.name = "prompt", .kinds = EQ_API_COMPLETION, .take = take_prompt},
    {.name = "messages", .kinds = EQ_API_CHAT, .take = take_messages},
    {"max_tokens", BOTH, take_whole, offsetof(eq_api_request, max_tokens), 1, 1 << 24},
    {"max_completion_tokens", EQ_API_CHAT, take_whole, offsetof(eq_api_request, max_tokens), 1,
     1 << 24},
    {"temperature", BOTH, take_real, offsetof(eq_api_request, options.temperature), 0, 100},
    {"top_p", BOTH, take_real, offsetof(eq_api_request, options.top_p), 1e-9, 1},
    {"top_k", BOTH, take_whole, offsetof(eq_api_request, options.top_k), 0, 1 << 24},
    {"min_p", BOTH, take_real, offsetof(eq_api_request, options.min_p), 0, 1},
    {"repetition_penalty", BOTH, take_real, offsetof(eq_api_request, options.repetition_penalty),
     0.01, 100},
    {.name = "seed", .kinds = BOTH, .take = take_seed},
    {.name = "n", .kinds = BOTH, .take = take_n},
    {.name = "stop", .kinds = BOTH, .take = take_stop},
    {"logprobs", BOTH, take_logprobs, offsetof(eq_api_request, logprobs), 0, 0},
    {"top_logprobs", EQ_API_CHAT, take_whole, offsetof(eq_api_request, top_logprobs), 0, 20},
    {"stream", BOTH, take_flag, offsetof(eq_api_request, stream), 0, 0},
    {.name = "stream_options", .kinds = BOTH, .take = take_stream_options},
    {.name = "cache_prompt", .kinds = BOTH, .take = take_cache},
};

/* Parameters of OpenAI's that this server has not, and the value that asks for nothing. */
static const struct {
    const char *name, *neutral;
} absent[] = {
    {"echo", "false"},
    {"best_of", "1"},
    {"suffix", "\"\""},
    {"frequency_penalty", "0"},
    {"presence_penalty", "0"},
    {"logit_bias", "{}"},
    {"tools", "[]"},
    {"tool_choice", "\"none\""},
    {"functions", "[]"},
    {"function_call", "\"none\""},
    {"response_format", "{\"type\": \"text\"}"},
    {"modalities", "[\"text\"]"},
};

/* Those that change nothing about the answer. */
static const char *const without_effect[] = {"user",
                                             "metadata",
                                             "store",
                                             "service_tier",
                                             "parallel_tool_calls",
                                             "prompt_cache_key",
                                             "safety_identifier",
                                             "prompt_cache_retention"};

enum {
    PARAMETERS = sizeof parameters / sizeof *parameters,
    ABSENT = sizeof absent / sizeof *absent,
    WITHOUT_EFFECT = sizeof without_effect / sizeof *without_effect
};

static bool is_neutral(const json_t *value, const char *neutral)
{
    json_t *other = json_loads(neutral, JSON_DECODE_ANY, NULL);
    bool same = json_is_number(value)
                    ? json_is_number(other) && json_number_value(value) == json_number_value(other)
                    : json_equal(value, other);
    json_decref(other);
    return same;
}

static bool take_parameter(parsing *p, const char *name, const json_t *value)
{
    if (json_is_null(value)) return true;
    for (int i = 0; i < PARAMETERS; i++) {
        p->parameter = &parameters[i];
        if (strcmp(name, parameters[i].name) == 0 && (parameters[i].kinds & (int)p->request->kind))
            return parameters[i].take(p, value);
    }
    for (int i = 0; i < WITHOUT_EFFECT; i++)
        if (strcmp(name, without_effect[i]) == 0) return true;
    for (int i = 0; i < ABSENT; i++)
        if (strcmp(name, absent[i].name) == 0)
            return is_neutral(value, absent[i].neutral) ||
                   eq_api_fail(p->error, 400, name, "unsupported_parameter",
                               "'%s' is not supported, other than %s", name, absent[i].neutral);
    return eq_api_fail(p->error, 400, name, "unknown_parameter",
                       "there is no parameter '%.60s' here", name);
}

/* What one parameter alone does not show. */
static bool check_whole(parsing *p)
{
    const eq_api_request *r = p->request;
    const char *needed = r->kind == EQ_API_CHAT ? "messages" : "prompt";
    if (!r->prompt_count)
        return eq_api_fail(p->error, 400, needed, NULL, "'%s' is missing", needed);
    if (r->top_logprobs && !r->logprobs)
        return eq_api_fail(p->error, 400, "top_logprobs", NULL,
                           "'top_logprobs' needs 'logprobs' to be true");
    if (r->prompt_count <= p->limits->texts / r->n) return true;
    return eq_api_fail(p->error, 400, r->n > 1 ? "n" : needed, NULL,
                       "%lld texts are asked for, this server takes up to %lld in a request",
                       (long long)(r->prompt_count * r->n), (long long)p->limits->texts);
}

bool eq_api_parse(eq_api_request *r, eq_api_error *e, eq_api_kind kind, const char *body,
                  size_t size, const eq_api_limits *limits)
{
    json_error_t error;
    const char *key;
    json_t *value;
    *r = (eq_api_request){.kind = kind, .n = 1, .options = eq_generate_defaults()};
    r->options.temperature = 1;
    r->root = json_loadb(body, size, JSON_REJECT_DUPLICATES, &error);
    if (!r->root)
        return eq_api_fail(e, 400, NULL, NULL, "the body is not JSON: line %d, column %d: %s",
                           error.line, error.column, error.text);
    if (!json_is_object(r->root))
        return eq_api_fail(e, 400, NULL, NULL, "the body is not a JSON object");
    if (kind == EQ_API_CHAT && !limits->chats)
        return eq_api_fail(e, 400, NULL, "no_chat_format",
                           "the model '%.100s' has no chat format that is known here",
                           limits->model);
    parsing p = {.request = r, .error = e, .limits = limits};
    json_object_foreach(r->root, key, value) if (!take_parameter(&p, key, value)) return false;
    return check_whole(&p);
}
