/* What a command reads as a whole. */
#ifndef EQ_APP_INPUT_H
#define EQ_APP_INPUT_H

#include "app/session.h"

/* The bytes of the file at `path`, or of standard input for "-", in fresh memory (free) with a NUL
 * behind them. EQ_EIO names the file and the reason. */
eq_status eq_input_read(eq_session *session, const char *path, char **text, size_t *size);

#endif
