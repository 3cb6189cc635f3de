/* Text files read piece by piece: a file whose name ends in .jsonl or .ndjson has a JSON value on
 * each line, empty lines are skipped; one in .json is a JSON list of objects; any other file is one
 * text as it stands. A byte order mark of UTF-8 at the beginning is skipped. */
#ifndef EQ_IO_LINES_H
#define EQ_IO_LINES_H

#include "base/file.h"
#include "io/gguf.h"
#include <jansson.h>

typedef struct eq_lines {
    eq_ctx *ctx;
    eq_map map;
    bool json;     /* not a plain text */
    bool list;     /* a .json file: what is said of lines holds for its entries */
    size_t at;     /* where the next piece starts */
    int64_t line;  /* number of the line read last, from 1 */
    json_t *value; /* owned; of that line; NULL in any other file */
    eq_text text;  /* borrowed from map; the whole of any other file */
} eq_lines;

/* EQ_EFORMAT for a name of a file that is no text (.parquet, .arrow, .gz, .zst, .zip, .npy), and
 * for a .json file that is no list. */
eq_status eq_lines_open(eq_ctx *ctx, eq_lines *lines, const char *path);
void eq_lines_close(eq_lines *lines); /* harmless on zeroed storage */

/* Read the next line into lines->value, or the whole file into lines->text; both are valid until
 * the next call. *more is false when there is none. EQ_EFORMAT names file, line and what is wrong
 * with the JSON. */
eq_status eq_lines_next(eq_lines *lines, bool *more);

/* eq_fail with the file and the line (or entry) that was read last before the message. */
eq_status eq_lines_fail(const eq_lines *lines, eq_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
