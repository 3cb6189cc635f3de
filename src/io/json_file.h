/* JSON files, and texts in JSON. */
#ifndef EQ_IO_JSON_FILE_H
#define EQ_IO_JSON_FILE_H

#include "base/file.h"
#include "base/text.h"
#include <jansson.h>

/* The object in a file; *json is the caller's. EQ_EFORMAT names file, line and what is wrong. */
eq_status eq_json_load(eq_ctx *ctx, json_t **json, const char *path);
/* The same with every number as a real, for files that hold integers of any size. */
eq_status eq_json_load_reals(eq_ctx *ctx, json_t **json, const char *path);
/* Write folder/name, indented, atomically. */
eq_status eq_json_save(eq_ctx *ctx, const char *folder, const char *name, const json_t *json);
/* What stands under `key`; NULL also for null, which stands for what is not given. */
const json_t *eq_json_given(const json_t *object, const char *key);
/* A string, zeros included; no data when it is none. */
eq_text eq_json_text(const json_t *string);
/* What stands under `key` if it is a string, or `absent`. */
const char *eq_json_text_or(const json_t *object, const char *key, const char *absent);

#endif
