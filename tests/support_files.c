#include "support_files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* folder/name in fresh memory. */
static char *join(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (!path) abort();
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

char *folder_make(void)
{
    const char *root = getenv("TMPDIR");
    char *folder = join(root ? root : "/tmp", "eqat-test-XXXXXX");
    if (!mkdtemp(folder)) {
        perror(folder);
        abort();
    }
    return folder;
}

void folder_remove(char *folder)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry = NULL;
    while (entries && (entry = readdir(entries))) {
        char *path = join(folder, entry->d_name);
        unlink(path); /* "." and ".." stay */
        free(path);
    }
    if (entries) closedir(entries);
    rmdir(folder);
    free(folder);
}

void folder_write(const char *folder, const char *name, const char *text)
{
    char *path = join(folder, name);
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(text, 1, strlen(text), out) != strlen(text) || fclose(out)) {
        perror(path);
        abort();
    }
    free(path);
}

int folder_fixture_make(void **state)
{
    folder_fixture *f = calloc(1, sizeof *f);
    if (!f) abort();
    f->folder = folder_make();
    eq_ctx_init(&f->ctx, 1);
    *state = f;
    return 0;
}

int folder_fixture_destroy(void **state)
{
    folder_fixture *f = *state;
    folder_remove(f->folder);
    free(f);
    return 0;
}
