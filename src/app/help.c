#include "app/options.h"

#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 30, LINE_WIDTH = 96 };

/* The words of text from column HELP_COLUMN on, broken at LINE_WIDTH; `column` is where we are. */
static void print_wrapped(const char *text, int column)
{
    if (column >= HELP_COLUMN) {
        putchar('\n');
        column = 0;
    }
    printf("%*s", HELP_COLUMN - column, "");
    column = HELP_COLUMN;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + length > LINE_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            putchar(' ');
            column++;
        }
        printf("%.*s", length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void choice_names(const eq_option *option, char *out, size_t size)
{
    *out = 0;
    for (const eq_choice *c = option->choices; c->name; c++) {
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%s%s", used ? "|" : "", c->name);
    }
}

/* The value that a field has without the option, "" when there is none to show. */
static void default_text(const eq_option *option, const void *args, char *out, size_t size)
{
    const void *field = (const char *)args + option->offset;
    int chosen;
    *out = 0;
    switch (option->kind) {
    case EQ_OPTION_INT:
        if (option->open && *(const int *)field < 0)
            snprintf(out, size, "%s", option->open);
        else
            snprintf(out, size, "%d", *(const int *)field);
        break;
    case EQ_OPTION_INT64:
    case EQ_OPTION_BYTES:
        snprintf(out, size, "%lld", (long long)*(const int64_t *)field);
        break;
    case EQ_OPTION_UINT64:
        snprintf(out, size, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case EQ_OPTION_DOUBLE:
        if (option->open && *(const double *)field < 0)
            snprintf(out, size, "%s", option->open);
        else
            snprintf(out, size, "%g", *(const double *)field);
        break;
    case EQ_OPTION_STRING:
        if (*(const char *const *)field) snprintf(out, size, "%s", *(const char *const *)field);
        break;
    case EQ_OPTION_CHOICE:
        memcpy(&chosen, field, sizeof chosen);
        for (const eq_choice *c = option->choices; c->name; c++)
            if (c->value == chosen) snprintf(out, size, "%s", c->name);
        break;
    default:
        break;
    }
}

static void print_option(const eq_option *option, const void *args)
{
    if (option->kind == EQ_OPTION_HEADING) {
        printf("\n%s:\n", option->help);
        return;
    }
    char names[128] = "", initial[128], text[512];
    if (option->kind == EQ_OPTION_CHOICE)
        choice_names(option, names, sizeof names);
    else if (option->argument)
        snprintf(names, sizeof names, "%s", option->argument);
    int column = option->letter ? printf("  -%c, ", option->letter) : printf("      ");
    column += printf("--%s%s%s", option->name, *names ? " " : "", names);

    default_text(option, args, initial, sizeof initial);
    snprintf(text, sizeof text, "%s%s%s%s%s", option->help, *initial ? " (default " : "", initial,
             *initial ? ")" : "", option->required ? " (required)" : "");
    print_wrapped(text, column);
}

void eq_options_help(const eq_command *command, const void *args)
{
    printf("Usage: eqat %s %s [OPTION]...\n%s.\n", command->name,
           command->model_optional ? "[MODEL]" : "MODEL", command->summary);
    if (command->options && command->options->kind != EQ_OPTION_HEADING) printf("\nOptions:\n");
    size_t base;
    const eq_option *option;
    for (int i = 0; (option = eq_option_at(command, i, &base)); i++)
        print_option(option, (const char *)args + base);
    printf("\n%s", command->details);
}
