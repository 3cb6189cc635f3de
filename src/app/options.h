/* Command-line options: one table per command, parsed with getopt_long. */
#ifndef EQ_APP_OPTIONS_H
#define EQ_APP_OPTIONS_H

#include "app/app.h"

typedef enum eq_option_kind {
    EQ_OPTION_HEADING, /* not an option: `help` is a title among them */
    EQ_OPTION_FLAG,    /* bool, set to true */
    EQ_OPTION_INT,     /* int */
    EQ_OPTION_INT64,   /* int64_t */
    EQ_OPTION_UINT64,  /* uint64_t, any value */
    EQ_OPTION_DOUBLE,  /* double */
    EQ_OPTION_BYTES,   /* int64_t, with an optional suffix K, M, G or T (powers of 1024) */
    EQ_OPTION_STRING,  /* const char *, borrowed from argv */
    EQ_OPTION_LIST,    /* eq_string_list: may be given several times */
    EQ_OPTION_CHOICE   /* int or an enum of its size, one of `choices` */
} eq_option_kind;

enum { EQ_MOST_STRINGS = 16 };
typedef struct eq_string_list {
    const char *items[EQ_MOST_STRINGS]; /* borrowed from argv */
    int count;
} eq_string_list;

typedef struct eq_choice {
    const char *name; /* NULL ends the list */
    int value;
} eq_choice;

typedef struct eq_option {
    const char *name; /* without the dashes; a table ends with NULL */
    char letter;      /* short form, 0 when there is none */
    bool required;    /* EQ_OPTION_STRING only: NULL after parsing is wrong usage */
    eq_option_kind kind;
    size_t offset;            /* of the field in the argument struct */
    const char *argument;     /* name of the value in the help, as "FILE" */
    const char *help;         /* one sentence; the default is added to it */
    double low, high;         /* of numbers, both included */
    const eq_choice *choices; /* of EQ_OPTION_CHOICE */
    const char *open;         /* what the help shows for a default below 0, which is none yet */
} eq_option;

/* Options of eq_data_options, eq_example_options, eq_tune_options and eq_run_options. */
extern const eq_option eq_data_section[], eq_examples_section[];
extern const eq_option eq_tune_section[], eq_run_section[];
/* Options of eq_generate_options and eq_engine_options. */
extern const eq_option eq_sampling_section[], eq_engine_section[];

/* Option number `index` of a command, its own ones, then those of its sections, then the common
 * ones; NULL behind the last. base out: where its struct stands in the arguments. */
const eq_option *eq_option_at(const eq_command *command, int index, size_t *base);

/* The choices of --precision and --activations, for the tables that have them. */
extern const eq_choice eq_precision_choices[];
extern const eq_choice eq_activation_choices[];
extern const eq_choice eq_kv_choices[]; /* without the first: no "auto" */

/* Parse the arguments of one command; argv[0] is its name.
 *
 * command  in   its table; the common options and the operand MODEL are added to it
 * argc     in   count of argv
 * argv     in   reordered: options first; fields of args point into it
 * args     out  command->size bytes, starting with an eq_common
 * Returns false after one line on stderr about what is wrong. With --help, which needs no other
 * argument, args->help is set and nothing is required. */
bool eq_options_parse(const eq_command *command, int argc, char **argv, void *args);

/* Print usage, options with the values in args as their defaults, and details to stdout. */
void eq_options_help(const eq_command *command, const void *args);

/* The options that every command has, for the parser and the help. */
extern const eq_option eq_common_options[];

/* "1,2,3" (commas, spaces or both) to ids [*count] in fresh memory (free); NULL when the text is
 * not a list of numbers from 0 to 2^31 - 1. An empty text gives a count of 0. */
int32_t *eq_parse_ids(const char *text, int64_t *count);

#endif
