#include "app/conversation.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_ROOM = 4096 };

static bool has_system(const eq_conversation *c)
{
    return c->n > 0 && strcmp(c->roles[0], "system") == 0;
}

void eq_conversation_deinit(eq_conversation *c)
{
    while (c->n > 0)
        eq_conversation_pop(c);
    free(c->roles);
    free(c->texts);
    *c = (eq_conversation){0};
}

static bool reserve(eq_conversation *c)
{
    if (c->n < c->room) return true;
    size_t room = (size_t)(2 * c->room + 16);
    const char **roles = realloc(c->roles, room * sizeof *roles);
    if (roles) c->roles = roles;
    char **texts = realloc(c->texts, room * sizeof *texts);
    if (texts) c->texts = texts;
    if (!roles || !texts) return false;
    c->room = (int64_t)room;
    return true;
}

bool eq_conversation_push(eq_conversation *c, const char *role, const char *text)
{
    char *copy = reserve(c) ? strdup(text) : NULL;
    if (!copy) return false;
    c->roles[c->n] = role;
    c->texts[c->n++] = copy;
    return true;
}

void eq_conversation_pop(eq_conversation *c)
{
    free(c->texts[--c->n]);
}

/* Remove `count` messages from number `first` on. */
static void cut(eq_conversation *c, int64_t first, int64_t count)
{
    for (int64_t i = first; i < first + count; i++)
        free(c->texts[i]);
    c->n -= count;
    for (int64_t i = first; i < c->n; i++) {
        c->roles[i] = c->roles[i + count];
        c->texts[i] = c->texts[i + count];
    }
}

const char *eq_conversation_system(const eq_conversation *c)
{
    return has_system(c) ? c->texts[0] : "";
}

bool eq_conversation_set_system(eq_conversation *c, const char *text)
{
    if (!*text) {
        if (has_system(c)) cut(c, 0, 1);
        return true;
    }
    if (!eq_conversation_push(c, "system", text)) return false;
    char *own = c->texts[--c->n];
    if (has_system(c)) {
        free(c->texts[0]);
    } else {
        for (int64_t i = c->n++; i > 0; i--) {
            c->roles[i] = c->roles[i - 1];
            c->texts[i] = c->texts[i - 1];
        }
    }
    c->roles[0] = "system";
    c->texts[0] = own;
    return true;
}

void eq_conversation_reset(eq_conversation *c)
{
    int64_t first = has_system(c);
    cut(c, first, c->n - first);
}

int64_t eq_conversation_turns(const eq_conversation *c)
{
    return (c->n - has_system(c)) / 2;
}

eq_conversation eq_conversation_view(const eq_conversation *c, int64_t dropped)
{
    eq_conversation view = {.roles = calloc((size_t)c->n, sizeof *view.roles),
                            .texts = calloc((size_t)c->n, sizeof *view.texts)};
    int64_t first = has_system(c), end = first + 2 * dropped;
    for (int64_t i = 0; view.roles && view.texts && i < c->n; i++) {
        if (i >= first && i < end) continue;
        view.roles[view.n] = c->roles[i];
        view.texts[view.n++] = c->texts[i];
    }
    return view;
}

void eq_conversation_drop(eq_conversation *c, int64_t turns)
{
    cut(c, has_system(c), 2 * turns);
}

/* ---- the file ------------------------------------------------------------------------------ */

/* NULL when a text is not UTF-8, or without memory. */
static json_t *to_json(const eq_conversation *c)
{
    json_t *list = json_array();
    int failed = list == NULL;
    for (int64_t i = 0; i < c->n && !failed; i++)
        failed = json_array_append_new(
            list, json_pack("{s:s, s:s}", "role", c->roles[i], "content", c->texts[i]));
    if (!failed) return json_pack("{s:o}", "messages", list);
    json_decref(list);
    return NULL;
}

static bool write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "wb");
    if (!out) return false;
    bool good = fprintf(out, "%s\n", text) > 0 && fflush(out) == 0 && fsync(fileno(out)) == 0;
    return fclose(out) == 0 && good;
}

eq_status eq_conversation_save(eq_session *session, const eq_conversation *c, const char *path)
{
    char temporary[PATH_ROOM];
    int length = snprintf(temporary, sizeof temporary, "%s.tmp-%ld", path, (long)getpid());
    if (length < 0 || length >= PATH_ROOM)
        return eq_session_fail(session, EQ_EINVAL, "the name of the file is too long");
    struct stat info;
    if (!stat(path, &info) && !S_ISREG(info.st_mode))
        return eq_session_fail(session, EQ_EIO, "%s: cannot write: not a regular file", path);
    json_t *json = to_json(c);
    char *text = json ? json_dumps(json, 0) : NULL;
    json_decref(json);
    if (!text)
        return eq_session_fail(session, EQ_EINVAL, "%s: a message is not UTF-8, or memory ran out",
                               path);
    bool good = write_file(temporary, text) && rename(temporary, path) == 0;
    int reason = errno;
    free(text);
    if (good) return EQ_OK;
    remove(temporary);
    return eq_session_fail(session, EQ_EIO, "%s: %s", path, strerror(reason));
}

/* Message i of a file; false when it is out of order or no message. */
static bool push_json(eq_conversation *c, const json_t *value)
{
    static const char *const names[] = {"system", "user", "assistant"};
    const char *role = json_string_value(json_object_get(value, "role"));
    const char *text = json_string_value(json_object_get(value, "content"));
    int64_t turn = c->n - has_system(c);
    int wanted = turn % 2 ? 2 : 1;
    if (!role || !text) return false;
    if (c->n == 0 && strcmp(role, names[0]) == 0) wanted = 0;
    return strcmp(role, names[wanted]) == 0 && eq_conversation_push(c, names[wanted], text);
}

eq_status eq_conversation_load(eq_session *session, eq_conversation *c, const char *path)
{
    json_error_t error;
    json_t *json = json_load_file(path, 0, &error);
    if (!json)
        return eq_session_fail(session, error.line < 1 ? EQ_EIO : EQ_EFORMAT, "%s: %s", path,
                               error.text);
    const json_t *list = json_object_get(json, "messages"), *value;
    size_t i = 0, bad = 0;
    json_array_foreach(list, i, value) if (!bad && !push_json(c, value)) bad = i + 1;
    bool whole = json_is_array(list) && (c->n - has_system(c)) % 2 == 0;
    json_decref(json);
    if (bad)
        return eq_session_fail(session, EQ_EFORMAT,
                               "%s: message %zu has no string \"role\" and \"content\", or a role "
                               "other than user and assistant in turn",
                               path, bad);
    if (whole) return EQ_OK;
    return eq_session_fail(session, EQ_EFORMAT, "%s: %s", path,
                           c->n ? "the last message has no answer" : "has no list \"messages\"");
}
