#include "io/config_groups.h"

#include "io/json_file.h"

#include <stdio.h>
#include <string.h>

static bool is_set(const json_t *value)
{
    return value && !json_is_null(value) && !json_is_false(value) &&
           !(json_is_object(value) && !json_object_size(value));
}

/* Bits, group and grid of a scheme's weights. */
static eq_override scheme_of(const json_t *group)
{
    const json_t *w = json_object_get(group, "weights"), *size = json_object_get(w, "group_size");
    const json_t *symmetric = json_object_get(w, "symmetric");
    const char *strategy = json_string_value(json_object_get(w, "strategy"));
    bool rows = strategy && !strcmp(strategy, "channel");
    return (eq_override){.bits = json_integer_value(json_object_get(w, "num_bits")),
                         .group = rows ? -1 : json_integer_value(size),
                         .symmetric = !symmetric || json_is_true(symmetric)};
}

/* One of the texts under a key, or none. */
static eq_status check_text(eq_ctx *ctx, const json_t *object, const char *key,
                            const char *const allowed[2], const char *where)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || !strcmp(text, allowed[0]) || !strcmp(text, allowed[1])) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s \"%s\" is not read, %s is", where, key, text,
                   allowed[0]);
}

/* None of the keys may be there with something in it. */
static eq_status check_absent(eq_ctx *ctx, const json_t *object, const char *const keys[],
                              const char *where)
{
    for (int i = 0; keys[i]; i++)
        if (is_set(json_object_get(object, keys[i])))
            return eq_fail(ctx, EQ_EFORMAT, "%s: has %s, which is not read", where, keys[i]);
    return EQ_OK;
}

static eq_status check_weights(eq_ctx *ctx, const json_t *group, const char *where)
{
    static const char *const TYPE[2] = {"int", "int"}, *const STRATEGY[2] = {"group", "channel"};
    static const char *const NEVER[] = {"dynamic", "block_structure", NULL};
    const json_t *w = json_object_get(group, "weights");
    const eq_override s = scheme_of(group);
    if (!json_is_object(w))
        return eq_fail(ctx, EQ_EFORMAT, "%s: has no weights, which are what is read", where);
    eq_status st = check_text(ctx, w, "type", TYPE, where);
    if (st == EQ_OK) st = check_text(ctx, w, "strategy", STRATEGY, where);
    if (st == EQ_OK) st = check_absent(ctx, w, NEVER, where);
    bool bits = s.bits == 2 || s.bits == 3 || s.bits == 4 || s.bits == 8;
    if (st == EQ_OK && !bits)
        st = eq_fail(ctx, EQ_EFORMAT, "%s: num_bits is %lld, expected 2, 3, 4 or 8", where,
                     (long long)s.bits);
    if (st == EQ_OK && s.group < 1 && s.group != -1)
        st = eq_fail(ctx, EQ_EFORMAT, "%s: group_size is %lld, expected at least 1", where,
                     (long long)s.group);
    return st;
}

static eq_status check_group(eq_ctx *ctx, const json_t *group, const char *path, const char *name)
{
    static const char *const FORMAT[2] = {"pack-quantized", "pack-quantized"};
    static const char *const NEVER[] = {"input_activations", "output_activations", NULL};
    char where[512];
    snprintf(where, sizeof where, "%s: quantization_config: %s", path, name);
    if (!json_is_object(group))
        return eq_fail(ctx, EQ_EFORMAT, "%s: is no object: names of schemes are not read", where);
    eq_status st = check_absent(ctx, group, NEVER, where);
    if (st == EQ_OK) st = check_text(ctx, group, "format", FORMAT, where);
    return st == EQ_OK ? check_weights(ctx, group, where) : st;
}

/* What concerns all groups. */
static eq_status check_whole(eq_ctx *ctx, const json_t *c, const char *path)
{
    static const char *const FORMAT[2] = {"pack-quantized", "mixed-precision"};
    static const char *const STATUS[2] = {"compressed", "compressed"};
    static const char *const DENSE[2] = {"dense", "dense"};
    static const char *const NEVER[] = {"kv_cache_scheme", "transform_config",
                                        "moe_sparsity_config", NULL};
    char where[512];
    snprintf(where, sizeof where, "%s: quantization_config", path);
    eq_status st = check_text(ctx, c, "format", FORMAT, where);
    if (st == EQ_OK) st = check_text(ctx, c, "quantization_status", STATUS, where);
    if (st == EQ_OK) st = check_absent(ctx, c, NEVER, where);
    snprintf(where, sizeof where, "%s: quantization_config: sparsity_config", path);
    return st == EQ_OK
               ? check_text(ctx, json_object_get(c, "sparsity_config"), "format", DENSE, where)
               : st;
}

eq_status eq_config_groups_check(eq_ctx *ctx, const json_t *config, const char *path,
                                 eq_override *first, bool *ordered)
{
    json_t *groups = json_object_get(config, "config_groups"), *group = NULL;
    const char *name = NULL;
    int count = 0;
    eq_status st = check_whole(ctx, config, path);
    *ordered = false;
    json_object_foreach(groups, name, group)
    {
        if (st == EQ_OK) st = check_group(ctx, group, path, name);
        if (!count++) *first = scheme_of(group);
        const json_t *weights = json_object_get(group, "weights");
        const char *order = eq_json_text_or(weights, "actorder", "");
        *ordered = *ordered || !strcmp(order, "group") || !strcmp(order, "dynamic") ||
                   json_is_true(json_object_get(weights, "actorder"));
    }
    if (st == EQ_OK && !count)
        st = eq_fail(ctx, EQ_EFORMAT, "%s: quantization_config has no config_groups", path);
    return st;
}

/* Whether one of a group's targets names the module, or may mean it without naming it. */
static bool is_target(const json_t *group, const char *module, bool by_name)
{
    size_t i = 0;
    json_t *target = NULL;
    json_array_foreach(json_object_get(group, "targets"), i, target)
    {
        const char *text = json_string_value(target);
        if (!text) continue;
        bool general = !strncmp(text, "re:", 3) || !strcmp(text, "Linear") ||
                       (!strcmp(text, "Embedding") && strstr(module, "embed"));
        if (by_name ? !strcmp(text, module) : general) return true;
    }
    return false;
}

bool eq_config_groups_get(const json_t *config, const char *module, int i, eq_override *scheme)
{
    json_t *groups = json_object_get(config, "config_groups"), *group = NULL;
    const char *name = NULL;
    bool named = false;
    json_object_foreach(groups, name, group) named = named || is_target(group, module, true);
    json_object_foreach(groups, name, group)
    {
        if (!is_target(group, module, named) || i-- > 0) continue;
        *scheme = scheme_of(group);
        return true;
    }
    return false;
}
