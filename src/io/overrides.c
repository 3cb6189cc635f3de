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

/* The same of auto-round's keys, which are whole names. */
static match compare_whole(const char *key, const char *name)
{
    if (!strcmp(key, name)) return YES;
    return strpbrk(key, "\\^$*+?|()[]{}") ? MAYBE : NO;
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

/* A module that is looked up. */
typedef struct lookup {
    const char *module;
    const eq_override *found, *base;
    int64_t K;
    eq_override *said; /* borrowed */
} lookup;

/* Whether the entries let it have what was found: MAYBE when none decides. */
static match search(json_t *entries, match (*compare_key)(const char *, const char *),
                    const lookup *l)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(entries, key, value)
    {
        bool skipped = !strncmp(key, "-:", 2), marked = skipped || !strncmp(key, "+:", 2);
        match m = compare_key(key + (marked ? 2 : 0), l->module);
        if (m == NO) continue;
        *l->said = skipped ? (eq_override){.bits = 0} : value_of(value, l->base);
        if (same(l->found, l->said, l->K)) return YES;
        if (m == YES) return NO;
    }
    return MAYBE;
}

bool eq_override_allows(const json_t *config, const char *module, const eq_override *found,
                        int64_t K, eq_override *said)
{
    const eq_override base = base_of(config);
    const lookup l = {module, found, &base, K, said};
    match m = search(json_object_get(config, "dynamic"), compare, &l);
    if (m == MAYBE) m = search(json_object_get(config, "extra_config"), compare_whole, &l);
    if (m != MAYBE) return m == YES;
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
