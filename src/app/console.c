#include "app/console.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LINE_SIZE = 512 };
static const double live_interval = 0.1, plain_interval = 5; /* seconds between two lines */

/* Set by the signal handler: the one mutable variable of the program outside of a function. */
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    static const char note[] = "\neqat: stopping after this step; once more stops at once\n";
    (void)number;
    interrupted = 1;
    ssize_t written = write(STDERR_FILENO, note, sizeof note - 1);
    (void)written;
}

void eq_console_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    action.sa_flags = (int)(SA_RESETHAND | SA_RESTART);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void on_stop(int number)
{
    (void)number;
    interrupted = 1;
}

void eq_console_catch_stops(void)
{
    struct sigaction action = {.sa_handler = on_stop};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_DFL;
    sigaction(SIGTERM, &action, NULL);
}

bool eq_console_take_stop(void)
{
    bool came = interrupted != 0;
    interrupted = 0;
    return came;
}

bool eq_console_interrupted(void)
{
    return interrupted != 0;
}

double eq_clock(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void eq_console_init(eq_console *console, bool quiet)
{
    const char *term = getenv("TERM");
    bool dumb = !term || strcmp(term, "dumb") == 0;
    *console = (eq_console){.terminal = isatty(STDERR_FILENO) && !dumb, .quiet = quiet};
    console->last = eq_clock();
}

void eq_console_clear(eq_console *console)
{
    if (console->live) fputs("\r\033[K", stderr);
    console->live = false;
}

static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

static void put_time(char *out, size_t size, double seconds)
{
    long long s = (long long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, size, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%lld:%02lld", s / 60, s % 60);
}

/* "block 3/30, epoch 1/2  12/32 steps  loss 0.0123  1234 tokens/s  12:34 left" */
static void format_progress(char *line, size_t size, const eq_progress *p)
{
    size_t used = (size_t)snprintf(line, size, "%s", p->task ? p->task : "working");
    if (p->done >= 0 && used < size) {
        used += (size_t)snprintf(line + used, size - used, "  %lld", (long long)p->done);
        if (p->total >= 0 && used < size)
            used += (size_t)snprintf(line + used, size - used, "/%lld", (long long)p->total);
        if (p->unit && used < size)
            used += (size_t)snprintf(line + used, size - used, " %s", p->unit);
    }
    if (p->loss >= 0 && used < size)
        used += (size_t)snprintf(line + used, size - used, "  loss %.4g", p->loss);
    if (p->per_second >= 0 && used < size)
        used += (size_t)snprintf(line + used, size - used, "  %.0f tokens/s", p->per_second);
    if (p->seconds_left >= 0 && used < size) {
        char left[32];
        put_time(left, sizeof left, p->seconds_left);
        snprintf(line + used, size - used, "  %s left", left);
    }
}

static void on_progress(void *user, const eq_progress *progress)
{
    eq_console *console = user;
    double time = eq_clock();
    if (console->quiet ||
        time - console->last < (console->terminal ? live_interval : plain_interval))
        return;
    console->last = time;
    char line[LINE_SIZE];
    format_progress(line, sizeof line, progress);
    if (console->terminal) {
        fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, line);
        console->live = true;
    } else {
        fprintf(stderr, "%s\n", line);
    }
    fflush(stderr);
}

static void on_log(void *user, eq_log_level level, const char *line)
{
    eq_console *console = user;
    if (console->quiet && level == EQ_LOG_INFO) return;
    eq_console_clear(console);
    fprintf(stderr, "%s%s\n", level == EQ_LOG_WARNING ? "warning: " : "", line);
}

static bool on_should_stop(void *user)
{
    (void)user;
    return interrupted != 0;
}

eq_callbacks eq_console_callbacks(eq_console *console)
{
    return (eq_callbacks){
        .log = on_log, .progress = on_progress, .should_stop = on_should_stop, .user = console};
}
