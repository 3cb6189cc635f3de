/* The command line: exit codes, what a command is, and the list of commands. */
#ifndef EQ_APP_APP_H
#define EQ_APP_APP_H

#include "eqat.h"

enum {
    EQ_EXIT_OK = 0,
    EQ_EXIT_FAILED = 1,
    EQ_EXIT_USAGE = 2,
    EQ_EXIT_INTERRUPTED = 130 /* a run that stopped cleanly and can be resumed */
};

/* What every command takes. The argument struct of a command starts with it. */
typedef struct eq_common {
    const char *model; /* the operand, NULL when it was left out */
    const char *isa;   /* NULL: EQAT_ISA, else the best of the CPU */
    int threads;       /* 0: one per processor */
    bool json, quiet, help;
} eq_common;

struct eq_option;

/* Options that several commands have, for a struct that stands within their arguments. */
typedef struct eq_section {
    const struct eq_option *options; /* offsets are within that struct; NULL ends a list */
    size_t base;                     /* where the struct stands */
} eq_section;

/* A command is a table of options, a text, and a function that runs on the parsed arguments. */
typedef struct eq_command {
    const char *name;
    const char *summary;             /* one line of `eqat --help` */
    const char *details;             /* shown below the options: notes and examples */
    const struct eq_option *options; /* its own, beside the common ones */
    const eq_section *sections;      /* shared ones, shown after those; may be NULL */
    size_t size;                     /* of its argument struct */
    /* Fill in the defaults. Called before each of two passes over the command line, so that they
     * may depend on options which the first pass found; NULL: all zero. */
    void (*defaults)(void *args);
    int (*run)(const void *args); /* gives the exit code */
    bool model_optional;
    bool writes_tokens; /* one at a time: hundreds of short parallel loops each */
} eq_command;

extern const eq_command eq_cmd_quantize, eq_cmd_tune, eq_cmd_eval, eq_cmd_export, eq_cmd_generate,
    eq_cmd_chat, eq_cmd_serve, eq_cmd_tokenize, eq_cmd_logits, eq_cmd_inspect, eq_cmd_bench;

#endif
