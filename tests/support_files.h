/* Temporary folders for tests that write files. */
#ifndef SUPPORT_FILES_H
#define SUPPORT_FILES_H

#include "base/context.h"

/* Make an empty folder under $TMPDIR or /tmp. Aborts the test program when that fails. */
char *folder_make(void);
/* Remove the folder with the files in it and free its name. */
void folder_remove(char *folder);
/* Write text to folder/name. */
void folder_write(const char *folder, const char *name, const char *text);

/* What many tests need: an empty folder, and a context of one thread. Set-up and teardown. */
typedef struct folder_fixture {
    char *folder;
    eq_ctx ctx;
} folder_fixture;
int folder_fixture_make(void **state);
int folder_fixture_destroy(void **state);

#endif
