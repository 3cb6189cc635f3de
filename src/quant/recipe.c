#include "quant/recipe.h"

#include "io/json_file.h"
#include "model/decoder.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MODULES = 7, TEXT = 256 };

/* One kind of linear: its name in a rule, "q_proj", and the unit that it is part of. */
typedef struct module {
    const char *name;
    eq_unit unit;
} module;

static void list_modules(module out[MODULES], const eq_config *config)
{
    int n = 0;
    for (int u = 0; u < EQ_UNITS; u++) {
        eq_part parts[EQ_MAX_PARTS];
        int count = eq_unit_parts(config, (eq_unit)u, parts);
        for (int p = 0; p < count; p++)
            out[n++] = (module){strchr(parts[p].name, '.') + 1, (eq_unit)u};
    }
}

/* ---- reading ------------------------------------------------------------------------------- */

/* A file being read. */
typedef struct reader {
    eq_ctx *ctx;
    const char *path;
    const eq_config *config;
    module modules[MODULES];
    eq_scheme *table;    /* owned, [L, MODULES]: the grids so far */
    bool *layers;        /* owned, [L]: that the rule is for */
    bool named[MODULES]; /* that the rule is for */
    int64_t rule;        /* its number, from 1 on */
} reader;

/* EQ_EFORMAT: file, rule, what is wrong and, if not NULL, the text that is. */
static eq_status refuse(const reader *r, const char *what, const char *text)
{
    return eq_fail(r->ctx, EQ_EFORMAT, "%s: rule %lld: %s%s%.64s%s", r->path, (long long)r->rule,
                   what, text ? " \"" : "", text ? text : "", text ? "\"" : "");
}

static eq_status check_keys(const reader *r, json_t *rule)
{
    static const char *const KNOWN[] = {"layers", "modules", "bits", "group", "grid", "comment"};
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(rule, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
            known = known || !strcmp(key, KNOWN[i]);
        if (!known)
            return refuse(r, "known keys are layers, modules, bits, group, grid and comment, not",
                          key);
    }
    return EQ_OK;
}

/* A number at *s, which moves behind it; false when there is none. */
static bool take_number(const char **s, int64_t *value)
{
    char *end = NULL;
    while (**s == ' ')
        ++*s;
    if (!isdigit((unsigned char)**s)) return false;
    *value = strtoll(*s, &end, 10);
    for (*s = end; **s == ' ';)
        ++*s;
    return true;
}

/* "0-3,29" */
static eq_status read_layers(reader *r, const json_t *value)
{
    const char *text = json_string_value(value), *s = text;
    int64_t L = r->config->L;
    for (int64_t i = 0; i < L; i++)
        r->layers[i] = !value;
    if (!value) return EQ_OK;
    if (!s) return refuse(r, "layers must be a text as \"0-3,29\"", NULL);
    for (bool more = true; more;) {
        int64_t first, last;
        bool good = take_number(&s, &first);
        last = first;
        if (good && *s == '-') good = (++s, take_number(&s, &last));
        more = *s == ',';
        if (!good || (*s && !more)) return refuse(r, "layers must be as \"0-3,29\", not", text);
        s += more;
        if (first > last || last >= L) {
            char what[TEXT];
            snprintf(what, sizeof what, "the model has layers 0 to %lld, not all of",
                     (long long)(L - 1));
            return refuse(r, first > last ? "a range of layers begins behind its end:" : what,
                          text);
        }
        for (int64_t i = first; i <= last; i++)
            r->layers[i] = true;
    }
    return EQ_OK;
}

static eq_status read_module(reader *r, const char *name)
{
    char known[TEXT] = "modules are";
    for (int m = 0; m < MODULES; m++) {
        if (name && !strcmp(name, r->modules[m].name)) {
            r->named[m] = true;
            return EQ_OK;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, " %s,", r->modules[m].name);
    }
    strncat(known, " not", sizeof known - strlen(known) - 1);
    return refuse(r, known, name ? name : "(no text)");
}

static eq_status read_modules(reader *r, const json_t *list)
{
    for (int m = 0; m < MODULES; m++)
        r->named[m] = !list;
    if (list && !json_array_size(list))
        return refuse(r, "modules must be a list as [\"q_proj\", \"k_proj\"]", NULL);
    eq_status st = EQ_OK;
    for (size_t i = 0; st == EQ_OK && i < json_array_size(list); i++)
        st = read_module(r, json_string_value(json_array_get(list, i)));
    return st;
}

static eq_status read_grid(const reader *r, const json_t *value, eq_grid *grid)
{
    const char *name = json_string_value(value);
    if (name && eq_grid_from_name(grid, name)) return EQ_OK;
    return refuse(r, "grid must be asymmetric, symmetric, q2_k, q3_k or q4_k, not",
                  name ? name : "(no text)");
}

static eq_status read_rule(reader *r, json_t *rule)
{
    if (!json_is_object(rule)) return refuse(r, "is not an object", NULL);
    const json_t *bits = json_object_get(rule, "bits"), *group = json_object_get(rule, "group");
    const json_t *grid = json_object_get(rule, "grid");
    int64_t b = json_integer_value(bits), g = json_integer_value(group);
    eq_grid kind = EQ_GRID_ASYMMETRIC;
    eq_status st = check_keys(r, rule);
    if (st == EQ_OK) st = read_layers(r, json_object_get(rule, "layers"));
    if (st == EQ_OK) st = read_modules(r, json_object_get(rule, "modules"));
    if (st == EQ_OK && !bits && !group && !grid)
        st = refuse(r, "names neither bits, group nor grid", NULL);
    if (st == EQ_OK && bits && !eq_qmatrix_has_bits(b))
        st = refuse(r, "bits must be 2, 3, 4 or 8", NULL);
    if (st == EQ_OK && group && g < 1 && g != -1)
        st = refuse(r, "group must be a number of weights, or -1 for whole rows", NULL);
    if (st == EQ_OK && grid) st = read_grid(r, grid, &kind);
    for (int64_t i = 0; st == EQ_OK && i < r->config->L * MODULES; i++) {
        if (!r->layers[i / MODULES] || !r->named[i % MODULES]) continue;
        eq_scheme *scheme = &r->table[i], own;
        if (grid) scheme->grid = kind;
        if (grid) eq_scheme_complete(scheme);
        own = *scheme;
        if (bits) scheme->bits = (int)b;
        if (group) scheme->group = g;
        if (eq_scheme_super(scheme) && !eq_scheme_equal(scheme, &own))
            st = refuse(r, "other bits or groups need another grid than",
                        eq_grid_name(scheme->grid));
    }
    return st;
}

/* The modules of each unit must have become one grid. */
static eq_status merge(const reader *r, eq_block_scheme *schemes)
{
    for (int64_t i = 0; i < r->config->L * MODULES; i++) {
        const module *m = &r->modules[i % MODULES];
        const eq_scheme *own = &r->table[i], *before = own - 1;
        bool first = i % MODULES == 0 || m[-1].unit != m->unit;
        if (!first && !eq_scheme_equal(own, before))
            return eq_fail(r->ctx, EQ_EFORMAT,
                           "%s: block %lld: %s has %d bits in groups of %lld (%s), %s %d in groups "
                           "of %lld (%s); they are one product and must be equal",
                           r->path, (long long)(i / MODULES), m[-1].name, before->bits,
                           (long long)before->group, eq_grid_name(before->grid), m->name, own->bits,
                           (long long)own->group, eq_grid_name(own->grid));
        schemes[i / MODULES].units[m->unit] = *own;
    }
    return EQ_OK;
}

static eq_status read_rules(reader *r, json_t *file)
{
    json_t *rules = json_object_get(file, "rules"), *value = NULL;
    const char *key = NULL;
    if (!json_is_array(rules))
        return eq_fail(r->ctx, EQ_EFORMAT, "%s: has no list of rules", r->path);
    json_object_foreach(file, key, value)
    {
        if (strcmp(key, "rules") && strcmp(key, "comment"))
            return eq_fail(r->ctx, EQ_EFORMAT,
                           "%s: known keys are rules and comment, not \"%.64s\"", r->path, key);
    }
    eq_status st = EQ_OK;
    for (size_t i = 0; st == EQ_OK && i < json_array_size(rules); i++) {
        r->rule = (int64_t)i + 1;
        st = read_rule(r, json_array_get(rules, i));
    }
    return st;
}

eq_status eq_recipe_read(eq_ctx *ctx, eq_block_scheme *schemes, const eq_config *config,
                         const char *path)
{
    json_t *file = NULL;
    reader r = {.ctx = ctx,
                .path = path,
                .config = config,
                .table = eq_alloc(ctx, config->L * MODULES, sizeof *r.table),
                .layers = eq_alloc(ctx, config->L, sizeof *r.layers)};
    eq_status st = r.table && r.layers ? eq_json_load(ctx, &file, path) : EQ_ENOMEM;
    list_modules(r.modules, config);
    for (int64_t i = 0; st == EQ_OK && i < config->L * MODULES; i++)
        r.table[i] = schemes[i / MODULES].units[r.modules[i % MODULES].unit];
    if (st == EQ_OK) st = read_rules(&r, file);
    if (st == EQ_OK) st = merge(&r, schemes);
    if (st == EQ_OK) st = eq_schemes_check(ctx, schemes, config, path);
    json_decref(file);
    eq_free(r.table);
    eq_free(r.layers);
    return st;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Where the rules go. */
typedef struct writer {
    eq_output out;
    const eq_block_scheme *schemes;
    const eq_config *config;
    module modules[MODULES];
    bool any; /* a rule has been written */
} writer;

static bool alike(const writer *w, eq_unit unit, int64_t i, int64_t k)
{
    return eq_scheme_equal(&w->schemes[i].units[unit], &w->schemes[k].units[unit]);
}

/* The blocks in which a unit has the grid of block i, as "0-3,29". */
static void write_layers(writer *w, eq_unit unit, int64_t i)
{
    int64_t L = w->config->L;
    const char *comma = "";
    for (int64_t first = i; first < L; first++) {
        if (!alike(w, unit, i, first)) continue;
        int64_t last = first;
        while (last + 1 < L && alike(w, unit, i, last + 1))
            last++;
        eq_output_printf(&w->out, "%s%lld", comma, (long long)first);
        if (last > first) eq_output_printf(&w->out, "-%lld", (long long)last);
        comma = ",";
        first = last;
    }
}

static void write_rule(writer *w, eq_unit unit, int64_t i)
{
    const eq_scheme *scheme = &w->schemes[i].units[unit];
    const char *comma = "";
    eq_output_printf(&w->out, "%s\n    {\"layers\": \"", w->any ? "," : "");
    write_layers(w, unit, i);
    eq_output_printf(&w->out, "\", \"modules\": [");
    for (int m = 0; m < MODULES; m++) {
        if (w->modules[m].unit != unit) continue;
        eq_output_printf(&w->out, "%s\"%s\"", comma, w->modules[m].name);
        comma = ", ";
    }
    eq_output_printf(&w->out, "], \"grid\": \"%s\", \"bits\": %d, \"group\": %lld}",
                     eq_grid_name(scheme->grid), scheme->bits, (long long)scheme->group);
    w->any = true;
}

/* A rule for each grid that a unit has, at the first block that has it. */
static void write_unit(writer *w, eq_unit unit)
{
    for (int64_t i = 0; i < w->config->L; i++) {
        bool fresh = true;
        for (int64_t k = 0; k < i; k++)
            fresh = fresh && !alike(w, unit, i, k);
        if (fresh) write_rule(w, unit, i);
    }
}

eq_status eq_recipe_write(eq_ctx *ctx, const char *path, const eq_block_scheme *schemes,
                          const eq_config *config, const char *comment)
{
    writer w = {.schemes = schemes, .config = config};
    json_t *text = json_string(comment);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    eq_status st = quoted ? eq_output_open(ctx, &w.out, path)
                          : eq_fail(ctx, EQ_ENOMEM, "%s: out of memory", path);
    if (st == EQ_OK) {
        list_modules(w.modules, config);
        eq_output_printf(&w.out, "{\n  \"comment\": %s,\n  \"rules\": [", quoted);
        for (int u = 0; u < EQ_UNITS; u++)
            write_unit(&w, (eq_unit)u);
        eq_output_printf(&w.out, "\n  ]\n}\n");
        st = eq_output_commit(&w.out);
    }
    free(quoted);
    json_decref(text);
    return st;
}
