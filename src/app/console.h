/* Log lines and progress on stderr, and the way Ctrl-C reaches a running job. */
#ifndef EQ_APP_CONSOLE_H
#define EQ_APP_CONSOLE_H

#include "eqat.h"

/* On a terminal progress is one live line that is written over; elsewhere it is a plain line every
 * few seconds. */
typedef struct eq_console {
    bool terminal;
    bool quiet;
    bool live;   /* the live line is on the terminal now */
    double last; /* when progress was shown last, in seconds */
} eq_console;

void eq_console_init(eq_console *console, bool quiet);
/* Callbacks for eq_ctx_new; console must outlive the context. */
eq_callbacks eq_console_callbacks(eq_console *console);
/* Wipe the live line, before anything else is printed. */
void eq_console_clear(eq_console *console);

/* From here on the first SIGINT or SIGTERM asks the job to stop cleanly, the second one kills. */
void eq_console_catch_interrupts(void);
bool eq_console_interrupted(void);
/* From here on a SIGINT only asks for a stop, any number of times, and ends a read that waits;
 * SIGTERM kills. */
void eq_console_catch_stops(void);
/* Whether a SIGINT came since the last call. */
bool eq_console_take_stop(void);
/* Seconds of the monotonic clock. */
double eq_clock(void);

#endif
