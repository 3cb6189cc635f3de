#include "io/dialog.h"

#include "io/json_file.h"

void eq_sample_deinit(eq_sample *sample)
{
    eq_free(sample->messages);
    *sample = (eq_sample){0};
}

/* ---- instructions -------------------------------------------------------------------------- */

/* A field that must be a string. */
static eq_status read_field(eq_text *text, const eq_lines *lines, const char *name)
{
    const json_t *value = json_object_get(lines->value, name);
    if (!value) return eq_lines_fail(lines, EQ_EFORMAT, "\"%s\" is missing", name);
    if (!json_is_string(value))
        return eq_lines_fail(lines, EQ_EFORMAT, "\"%s\" is not a string", name);
    *text = eq_json_text(value);
    return EQ_OK;
}

static eq_status read_instruction(eq_sample *sample, const eq_lines *lines)
{
    const json_t *input = json_object_get(lines->value, "input");
    sample->kind = EQ_SAMPLE_INSTRUCTION;
    sample->input = (eq_text){"", 0};
    eq_status st = read_field(&sample->instruction, lines, "instruction");
    if (st == EQ_OK && !sample->instruction.size)
        st = eq_lines_fail(lines, EQ_EFORMAT, "\"instruction\" is empty");
    if (st == EQ_OK && json_is_string(input))
        sample->input = eq_json_text(input);
    else if (st == EQ_OK && input && !json_is_null(input))
        st = eq_lines_fail(lines, EQ_EFORMAT, "\"input\" is not a string");
    return st == EQ_OK ? read_field(&sample->output, lines, "output") : st;
}

/* ---- conversations ------------------------------------------------------------------------- */

static bool find_role(eq_role *role, eq_text name)
{
    static const struct {
        const char *name;
        eq_role role;
    } roles[] = {{"system", EQ_ROLE_SYSTEM},
                 {"user", EQ_ROLE_USER},
                 {"human", EQ_ROLE_USER},
                 {"assistant", EQ_ROLE_ASSISTANT},
                 {"gpt", EQ_ROLE_ASSISTANT}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        *role = roles[i].role;
        if (eq_text_is(name, roles[i].name)) return true;
    }
    return false;
}

static eq_status refuse_message(const eq_lines *lines, size_t i, const char *problem)
{
    return eq_lines_fail(lines, EQ_EFORMAT, "message %zu %s", i + 1, problem);
}

static eq_status read_message(eq_message *message, const eq_lines *lines, const json_t *value,
                              size_t i)
{
    if (!json_is_object(value)) return refuse_message(lines, i, "is not an object");
    const json_t *role = json_object_get(value, "role");
    const json_t *content = json_object_get(value, role ? "content" : "value");
    if (!role) role = json_object_get(value, "from");
    if (!json_is_string(role))
        return refuse_message(lines, i, "has no string \"role\" or \"from\"");
    if (!find_role(&message->role, eq_json_text(role)))
        return refuse_message(lines, i, "is of no role among system, user, assistant, human, gpt");
    if (!json_is_string(content))
        return refuse_message(lines, i, "has no string \"content\" or \"value\"");
    message->content = eq_json_text(content);
    if (!message->content.size && message->role != EQ_ROLE_SYSTEM)
        return refuse_message(lines, i, "is empty");
    return EQ_OK;
}

static eq_status reserve(eq_ctx *ctx, eq_sample *sample, size_t n)
{
    if ((size_t)sample->room >= n) return EQ_OK;
    eq_free(sample->messages);
    sample->room = 0;
    sample->messages = eq_alloc(ctx, (int64_t)n, sizeof *sample->messages);
    if (!sample->messages) return EQ_ENOMEM;
    sample->room = (int64_t)n;
    return EQ_OK;
}

static eq_status read_conversation(eq_sample *sample, const eq_lines *lines, const json_t *list)
{
    const size_t n = json_array_size(list);
    sample->kind = EQ_SAMPLE_CONVERSATION;
    sample->n = 0;
    if (!json_is_array(list))
        return eq_lines_fail(lines, EQ_EFORMAT, "the conversation is not a list");
    if (!n) return eq_lines_fail(lines, EQ_EFORMAT, "the conversation is empty");
    eq_status st = reserve(lines->ctx, sample, n);
    for (size_t i = 0; i < n && st == EQ_OK; i++)
        st = read_message(&sample->messages[i], lines, json_array_get(list, i), i);
    if (st != EQ_OK) return st;
    sample->n = (int64_t)n;
    const char *expected = NULL;
    int64_t wrong = eq_messages_wrong(sample->messages, sample->n, &expected);
    if (wrong >= 0)
        return eq_lines_fail(lines, EQ_EFORMAT, "message %lld should be %s", (long long)wrong + 1,
                             expected);
    /* in order, so the answer to the first message of the user is this one */
    int64_t answer = sample->messages[0].role == EQ_ROLE_SYSTEM ? 2 : 1;
    if (answer < sample->n) return EQ_OK;
    return eq_lines_fail(lines, EQ_EFORMAT, "the conversation has no answer");
}

eq_status eq_sample_read(eq_sample *sample, const eq_lines *lines)
{
    sample->kind = EQ_SAMPLE_TEXT;
    sample->text = lines->text;
    if (!lines->json) return EQ_OK;
    /* Rows of several data sets together have the fields of all of them, some of them null. */
    static const char *const names[] = {"messages", "conversations", "conversation"};
    for (size_t i = 0; i < 3; i++) {
        const json_t *list = eq_json_given(lines->value, names[i]);
        if (list) return read_conversation(sample, lines, list);
    }
    if (eq_json_given(lines->value, "instruction")) return read_instruction(sample, lines);
    const json_t *text = json_object_get(lines->value, "text");
    if (!json_is_string(text))
        return eq_lines_fail(lines, EQ_EFORMAT,
                             "has no string \"text\", no \"instruction\" and no \"messages\" or "
                             "\"conversations\"");
    sample->text = eq_json_text(text);
    return EQ_OK;
}
