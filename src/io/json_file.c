#include "io/json_file.h"

#include <stdlib.h>
#include <string.h>

enum { JSON_LIMIT = 256 << 20 };

static eq_status load(eq_ctx *ctx, json_t **json, const char *path, size_t flags)
{
    json_error_t error = {.line = 0};
    eq_map map;
    *json = NULL;
    eq_status st = eq_map_open(ctx, &map, path);
    if (st != EQ_OK) return st;
    if (map.size > JSON_LIMIT) {
        st = eq_fail(ctx, EQ_EFORMAT, "%s: has %zu bytes, at most %d are read", path, map.size,
                     JSON_LIMIT);
        goto done;
    }
    const char *text = map.size ? (const char *)map.data : "";
    *json = json_loadb(text, map.size, flags | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!*json) {
        st = eq_fail(ctx, EQ_EFORMAT, "%s: line %d: %s", path, error.line, error.text);
    } else if (!json_is_object(*json)) {
        st = eq_fail(ctx, EQ_EFORMAT, "%s: is not a JSON object", path);
        json_decref(*json);
        *json = NULL;
    }
done:
    eq_map_close(&map);
    return st;
}

eq_status eq_json_load(eq_ctx *ctx, json_t **json, const char *path)
{
    return load(ctx, json, path, 0);
}

eq_status eq_json_load_reals(eq_ctx *ctx, json_t **json, const char *path)
{
    return load(ctx, json, path, JSON_DECODE_INT_AS_REAL);
}

eq_status eq_json_save(eq_ctx *ctx, const char *folder, const char *name, const json_t *json)
{
    char *path = eq_path_join(ctx, folder, name);
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    eq_status st = path && text ? eq_file_write(ctx, path, text, strlen(text))
                                : eq_fail(ctx, EQ_ENOMEM, "%s/%s: out of memory", folder, name);
    eq_free(path);
    free(text);
    return st;
}

const json_t *eq_json_given(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

eq_text eq_json_text(const json_t *string)
{
    return (eq_text){json_string_value(string), json_string_length(string)};
}

const char *eq_json_text_or(const json_t *object, const char *key, const char *absent)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : absent;
}
