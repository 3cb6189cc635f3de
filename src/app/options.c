#include "app/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 128 }; /* of one command, common ones included */

_Static_assert(sizeof(eq_method) == sizeof(int), "choices are stored as int");

const eq_choice eq_precision_choices[] = {
    {"auto", EQ_PRECISION_AUTO}, {"f32", EQ_PRECISION_F32}, {"bf16", EQ_PRECISION_BF16}, {NULL, 0}};

const eq_choice eq_kv_choices[] = {{"auto", 0}, {"16", 16}, {"8", 8}, {"4", 4}, {NULL, 0}};

const eq_choice eq_activation_choices[] = {
    {"8", EQ_ACTIVATIONS_8BIT}, {"exact", EQ_ACTIVATIONS_EXACT}, {NULL, 0}};

const eq_option eq_common_options[] = {
    {.kind = EQ_OPTION_HEADING, .name = "", .help = "Common options"},
    {.name = "threads",
     .letter = 't',
     .kind = EQ_OPTION_INT,
     .offset = offsetof(eq_common, threads),
     .argument = "N",
     .help = "threads to use, 0: one per processor",
     .high = 1024},
    {.name = "isa",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(eq_common, isa),
     .argument = "NAME",
     .help = "instruction set of the kernels: ref, avx2, avx512 or vnni; without it the variable "
             "EQAT_ISA, else the best of this CPU"},
    {.name = "json",
     .kind = EQ_OPTION_FLAG,
     .offset = offsetof(eq_common, json),
     .help = "print the result as one JSON object"},
    {.name = "quiet",
     .letter = 'q',
     .kind = EQ_OPTION_FLAG,
     .offset = offsetof(eq_common, quiet),
     .help = "no log and no progress on stderr"},
    {.name = "help",
     .letter = 'h',
     .kind = EQ_OPTION_FLAG,
     .offset = offsetof(eq_common, help),
     .help = "this text"},
    {.name = NULL}};

__attribute__((format(printf, 2, 3))) static bool wrong(const eq_command *command,
                                                        const char *format, ...)
{
    va_list args;
    fprintf(stderr, "eqat %s: ", command->name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, " (see eqat %s --help)\n", command->name);
    return false;
}

/* Option `*index` of a table, or NULL with the table's length taken from *index. */
static const eq_option *in_table(const eq_option *table, int *index)
{
    for (const eq_option *o = table; o && o->name; o++)
        if ((*index)-- == 0) return o;
    return NULL;
}

const eq_option *eq_option_at(const eq_command *command, int index, size_t *base)
{
    *base = 0;
    const eq_option *o = in_table(command->options, &index);
    for (const eq_section *s = command->sections; !o && s && s->options; s++) {
        *base = s->base;
        o = in_table(s->options, &index);
    }
    if (o) return o;
    *base = 0;
    return in_table(eq_common_options, &index);
}

static bool whole_number(const char *text, long long *value)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return end != text && *end == 0 && errno == 0;
}

static bool real_number(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == 0 && isfinite(*value);
}

static bool byte_count(const char *text, double *value)
{
    static const char suffixes[] = "KMGT";
    char *end;
    *value = strtod(text, &end);
    if (end == text || !isfinite(*value)) return false;
    if (*end) {
        const char *suffix = strchr(suffixes, *end);
        if (!suffix || end[1]) return false;
        for (const char *s = suffixes; s <= suffix; s++)
            *value *= 1024;
    }
    return true;
}

static bool set_choice(const eq_command *command, const eq_option *option, const char *text,
                       void *field)
{
    char names[128] = "";
    for (const eq_choice *c = option->choices; c->name; c++) {
        if (strcmp(c->name, text) == 0) {
            memcpy(field, &c->value, sizeof c->value);
            return true;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", c->name);
    }
    return wrong(command, "--%s is '%s', must be one of %s", option->name, text, names);
}

static bool set_number(const eq_command *command, const eq_option *option, const char *text,
                       void *field)
{
    long long whole = 0;
    double value = 0;
    bool good;
    if (option->kind == EQ_OPTION_DOUBLE) {
        good = real_number(text, &value);
    } else if (option->kind == EQ_OPTION_BYTES) {
        good = byte_count(text, &value);
        if (good && value <= option->high) whole = (long long)value;
    } else {
        good = whole_number(text, &whole);
        value = (double)whole;
    }
    if (!good || !(value >= option->low && value <= option->high))
        return wrong(command, "--%s is '%s', must be a%s from %.15g to %.15g", option->name, text,
                     option->kind == EQ_OPTION_DOUBLE  ? " number"
                     : option->kind == EQ_OPTION_BYTES ? " size (as 512M or 1.5G)"
                                                       : " whole number",
                     option->low, option->high);
    if (option->kind == EQ_OPTION_DOUBLE)
        *(double *)field = value;
    else if (option->kind == EQ_OPTION_INT)
        *(int *)field = (int)whole;
    else
        *(int64_t *)field = whole;
    return true;
}

static bool set_unsigned(const eq_command *command, const eq_option *option, const char *text,
                         void *field)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return wrong(command, "--%s is '%s', must be a whole number from 0 to 2^64 - 1",
                     option->name, text);
    *(uint64_t *)field = value;
    return true;
}

static bool add(const eq_command *command, const eq_option *option, const char *text,
                eq_string_list *list)
{
    if (list->count == EQ_MOST_STRINGS)
        return wrong(command, "--%s is given more than %d times", option->name, EQ_MOST_STRINGS);
    list->items[list->count++] = text;
    return true;
}

static bool set(const eq_command *command, const eq_option *option, const char *text, void *base)
{
    void *field = (char *)base + option->offset;
    switch (option->kind) {
    case EQ_OPTION_FLAG:
        *(bool *)field = true;
        return true;
    case EQ_OPTION_STRING:
        *(const char **)field = text;
        return true;
    case EQ_OPTION_LIST:
        return add(command, option, text, field);
    case EQ_OPTION_CHOICE:
        return set_choice(command, option, text, field);
    case EQ_OPTION_UINT64:
        return set_unsigned(command, option, text, field);
    default:
        return set_number(command, option, text, field);
    }
}

/* The tables in the form that getopt_long wants; the value of an option is 256 + its index, so
 * that it cannot be taken for a letter. */
static void getopt_tables(const eq_command *command, struct option *longs, char *shorts)
{
    const eq_option *option;
    size_t base;
    *shorts++ = ':';
    for (int i = 0; (option = eq_option_at(command, i, &base)) && i < MAX_OPTIONS; i++) {
        if (option->kind == EQ_OPTION_HEADING) continue;
        bool valued = option->kind != EQ_OPTION_FLAG;
        *longs++ =
            (struct option){option->name, valued ? required_argument : no_argument, NULL, 256 + i};
        if (!option->letter) continue;
        *shorts++ = option->letter;
        if (valued) *shorts++ = ':';
    }
    *longs = (struct option){0};
    *shorts = 0;
}

static const eq_option *option_of(const eq_command *command, int code, size_t *base)
{
    if (code >= 256) return eq_option_at(command, code - 256, base);
    const eq_option *option;
    for (int i = 0; (option = eq_option_at(command, i, base)); i++)
        if (option->letter && option->letter == code) return option;
    return NULL;
}

static bool bad_option(const eq_command *command, int code, char **argv)
{
    size_t base;
    const eq_option *option = option_of(command, optopt, &base);
    if (option && code == ':')
        return wrong(command, "--%s needs a value: %s", option->name,
                     option->argument ? option->argument : option->choices[0].name);
    if (option) return wrong(command, "--%s takes no value", option->name);
    if (optopt) return wrong(command, "unknown option '-%c'", optopt);
    return wrong(command, "unknown option '%s'", argv[optind - 1]);
}

/* Lists are filled anew by every pass. */
static void clear_lists(const eq_command *command, void *args)
{
    const eq_option *option;
    size_t base;
    for (int i = 0; (option = eq_option_at(command, i, &base)); i++)
        if (option->kind == EQ_OPTION_LIST)
            ((eq_string_list *)(void *)((char *)args + base + option->offset))->count = 0;
}

static bool one_pass(const eq_command *command, int argc, char **argv, void *args)
{
    struct option longs[MAX_OPTIONS + 1];
    char shorts[2 * MAX_OPTIONS + 2];
    getopt_tables(command, longs, shorts);
    clear_lists(command, args);
    if (command->defaults) command->defaults(args);
    opterr = 0;
    optind = 0; /* glibc: forget the pass before */
    for (;;) {
        int code = getopt_long(argc, argv, shorts, longs, NULL);
        if (code == -1) break;
        if (code == '?' || code == ':') return bad_option(command, code, argv);
        size_t base;
        const eq_option *option = option_of(command, code, &base);
        if (!set(command, option, optarg, (char *)args + base)) return false;
    }
    return true;
}

bool eq_options_parse(const eq_command *command, int argc, char **argv, void *args)
{
    eq_common *common = args;
    if (!one_pass(command, argc, argv, args) || !one_pass(command, argc, argv, args)) return false;
    if (common->help) return true;
    if (optind < argc) common->model = argv[optind++];
    if (optind < argc) return wrong(command, "'%s' is one operand too many", argv[optind]);
    if (!common->model && !command->model_optional) return wrong(command, "MODEL is missing");
    for (const eq_option *o = command->options; o && o->name; o++)
        if (o->required && !*(const char **)((char *)args + o->offset))
            return wrong(command, "--%s %s is missing", o->name, o->argument);
    return true;
}

int32_t *eq_parse_ids(const char *text, int64_t *count)
{
    size_t room = strlen(text) / 2 + 1; /* an id and its separator take two bytes or more */
    int32_t *ids = malloc(room * sizeof *ids);
    *count = 0;
    if (!ids) return NULL;
    for (;;) {
        text += strspn(text, ", \t\r\n");
        if (!*text) return ids;
        char *end;
        errno = 0;
        long long value = strtoll(text, &end, 10);
        if (end == text || errno || value < 0 || value > INT32_MAX ||
            (*end && !strchr(", \t\r\n", *end)))
            break;
        ids[(*count)++] = (int32_t)value;
        text = end;
    }
    free(ids);
    return NULL;
}
