#include "app/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All that is left in a stream; NULL with errno set. */
static char *read_all(FILE *stream, size_t *size)
{
    size_t room = 1 << 16, used = 0;
    char *data = malloc(room);
    while (data) {
        used += fread(data + used, 1, room - 1 - used, stream);
        if (used < room - 1) break;
        room *= 2;
        char *larger = room > used ? realloc(data, room) : NULL;
        if (!larger) free(data);
        data = larger;
    }
    if (data && ferror(stream)) {
        free(data);
        return NULL;
    }
    if (data) data[used] = 0;
    *size = used;
    return data;
}

eq_status eq_input_read(eq_session *session, const char *path, char **text, size_t *size)
{
    bool standard = strcmp(path, "-") == 0;
    errno = 0;
    FILE *stream = standard ? stdin : fopen(path, "rb");
    *text = stream ? read_all(stream, size) : NULL;
    int reason = errno;
    if (stream && !standard) fclose(stream);
    if (*text) return EQ_OK;
    return eq_session_fail(session, EQ_EIO, "%s: %s", standard ? "standard input" : path,
                           strerror(reason ? reason : ENOMEM));
}
