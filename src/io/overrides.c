#include "io/overrides.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 512 };

typedef enum match { NO, YES, MAYBE } match;

/* Whether `pattern` matches the beginning of `name`, as long as it is a literal: letters, digits,
 * "_", "-" and escaped punctuation, between "^" and "$" or without them. */
static match compare(const char *pattern, const char *name)
{
    bool equal = true;
    if (*pattern == '^') pattern++;
    for (; *pattern; pattern++) {
        if (!strcmp(pattern, "$")) return equal && !*name ? YES : NO;
        bool escaped = pattern[0] == '\\' && ispunct((unsigned char)pattern[1]);
        bool plain = isalnum((unsigned char)*pattern) || *pattern == '_' || *pattern == '-';
        if (!escaped && !plain) return MAYBE;
        pattern += escaped;
        equal = equal && *name == *pattern;
        name += equal;
    }
    return equal ? YES : NO;
}

static eq_override base_of(const json_t *config)
{
    return (eq_override){json_integer_value(json_object_get(config, "bits")),
                         json_integer_value(json_object_get(config, "group_size")),
                         json_is_true(json_object_get(config, "sym"))};
}

static eq_override value_of(const json_t *value, const eq_override *base)
{
    const json_t *bits = json_object_get(value, "bits"),
                 *group = json_object_get(value, "group_size"),
                 *sym = json_object_get(value, "sym");
    return (eq_override){bits ? json_integer_value(bits) : base->bits,
                         group ? json_integer_value(group) : base->group,
                         sym ? json_is_true(sym) : base->symmetric};
}

static bool same(const eq_override *found, const eq_override *said, int64_t K)
{
    return found->bits == said->bits && found->group == (said->group == -1 ? K : said->group);
}

bool eq_override_allows(const json_t *config, const char *module, const eq_override *found,
                        int64_t K, eq_override *said)
{
    const eq_override base = base_of(config);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(config, "dynamic"), key, value)
    {
        bool skipped = !strncmp(key, "-:", 2), marked = skipped || !strncmp(key, "+:", 2);
        match m = compare(key + (marked ? 2 : 0), module);
        if (m == NO) continue;
        *said = skipped ? (eq_override){.bits = 0} : value_of(value, &base);
        if (same(found, said, K)) return true;
        if (m == YES) return false;
    }
    *said = base;
    return same(found, said, K);
}

bool eq_override_add(json_t *dynamic, const char *module, const eq_override *value)
{
    char key[KEY_BYTES] = "+:^";
    size_t n = 3;
    for (const char *c = module; *c && n + 4 < sizeof key; c++) {
        if (!isalnum((unsigned char)*c) && *c != '_') key[n++] = '\\';
        key[n++] = *c;
    }
    key[n] = '$';
    json_t *entry = json_pack("{s:I, s:I, s:b}", "bits", (json_int_t)value->bits, "group_size",
                              (json_int_t)value->group, "sym", (int)value->symmetric);
    return !json_object_set_new(dynamic, key, entry);
}
