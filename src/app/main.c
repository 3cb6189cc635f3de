/* eqat: finds the command, parses its arguments, runs it. */
#include "app/options.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const eq_command *const commands[] = {&eq_cmd_quantize, &eq_cmd_tune,     &eq_cmd_eval,
                                             &eq_cmd_export,   &eq_cmd_generate, &eq_cmd_chat,
                                             &eq_cmd_serve,    &eq_cmd_tokenize, &eq_cmd_logits,
                                             &eq_cmd_inspect,  &eq_cmd_bench};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out)
{
    fputs("Usage: eqat COMMAND MODEL [OPTION]...\n"
          "Quantization-aware training of language models on the CPU.\n\n"
          "Commands:\n",
          out);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs(
        "\nMODEL is a Hugging Face folder or a GGUF file. `eqat COMMAND --help` tells more, `eqat "
        "--version` which one this is.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage or options that do not fit model or data, "
        "130\n"
        "interrupted (quantize and tune go on when run again).\n",
        out);
}

static int run(const eq_command *command, int argc, char **argv)
{
    int code = EQ_EXIT_USAGE;
    void *args = calloc(1, command->size);
    if (!args) {
        fputs("eqat: out of memory\n", stderr);
        return EQ_EXIT_FAILED;
    }
    if (eq_options_parse(command, argc, argv, args)) {
        if (((const eq_common *)args)->help) {
            eq_options_help(command, args);
            code = EQ_EXIT_OK;
        } else {
            code = command->run(args);
        }
    }
    free(args);
    return code;
}

/* NULL when there is none of this name. */
static const eq_command *find_command(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i]->name) == 0) return commands[i];
    return NULL;
}

static int dispatch(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) {
        print_usage(stderr);
        return EQ_EXIT_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_usage(stdout);
        return EQ_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0) {
        printf("eqat %s\n", eq_version());
        return EQ_EXIT_OK;
    }
    const eq_command *command = find_command(name);
    if (command) return run(command, argc - 1, argv + 1);
    fprintf(stderr, "eqat: unknown command '%s' (see eqat --help)\n", name);
    return EQ_EXIT_USAGE;
}

/* By default threads that wait for each other spin, and when another program needs a processor, all
 * wait spinning for the one that is not running: training beside one busy process then takes 5
 * times as long. The OpenMP runtime reads its environment before main, so the program starts itself
 * once more. If that fails, it is only slower. A token is hundreds of short loops, between which
 * threads that sleep would take longer to wake than to work: they spin as long as such a loop takes
 * and then sleep. */
static void limit_spinning(int argc, char **argv)
{
    const eq_command *command = find_command(argc > 1 ? argv[1] : "");
    bool tokens = command && command->writes_tokens;
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (tokens ? setenv("GOMP_SPINCOUNT", "20000", 1) : setenv("OMP_WAIT_POLICY", "passive", 1))
        return;
    execv("/proc/self/exe", argv);
}

/* What reading a mapped file gives when it was cut short meanwhile. */
static void on_lost_page(int number)
{
    static const char NOTE[] =
        "\neqat: a file was cut short while it was read, or its disk failed\n";
    (void)number;
    ssize_t written = write(STDERR_FILENO, NOTE, sizeof NOTE - 1);
    (void)written;
    _exit(EQ_EXIT_FAILED);
}

int main(int argc, char **argv)
{
    limit_spinning(argc, argv);
    const struct sigaction action = {.sa_handler = on_lost_page};
    sigaction(SIGBUS, &action, NULL);
    int code = dispatch(argc, argv);
    if ((fflush(stdout) || ferror(stdout)) && code == EQ_EXIT_OK) {
        fprintf(stderr, "eqat: cannot write to standard output: %s\n", strerror(errno));
        return EQ_EXIT_FAILED;
    }
    return code;
}
