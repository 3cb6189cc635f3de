#include "io/chat.h"

#include "io/characters.h"

#include <string.h>

/* ---- families ------------------------------------------------------------------------------ */

typedef enum bos_rule {
    BOS_BY_TEMPLATE, /* if the template names it; without a template, as for any text */
    BOS_FIRST,       /* before everything */
    BOS_EACH_USER    /* before each message of the user */
} bos_rule;

/* What a family puts around messages. Special tokens are written by their names. */
struct eq_chat_format {
    const char *name;
    const char *marks[2];  /* both stand in every template of the family */
    const char *tokens[3]; /* that must be special in the vocabulary */
    const char *system[2]; /* before and after */
    const char *user[2];   /* before and after */
    const char *opening;   /* before an answer, not a part of it */
    const char *spaces;    /* around an answer, a part of it */
    const char *end;       /* after an answer, a part of it; NULL: the eos token */
    const char *after;     /* after that, no part of it */
    bool system_inside;    /* the system message goes into the first one of the user */
    bool trim;             /* contents go without white space at their ends */
    bos_rule bos;
};

/* The first one whose marks a template has is its family, so the order matters: templates of the
 * last two share [INST]. */
static const eq_chat_format formats[] = {
    {.name = "chatml",
     .marks = {"<|im_start|>", "<|im_end|>"},
     .tokens = {"<|im_start|>", "<|im_end|>"},
     .system = {"<|im_start|>system\n", "<|im_end|>\n"},
     .user = {"<|im_start|>user\n", "<|im_end|>\n"},
     .opening = "<|im_start|>assistant\n",
     .spaces = "",
     .end = "<|im_end|>",
     .after = "\n",
     .bos = BOS_BY_TEMPLATE},
    {.name = "llama3",
     .marks = {"<|start_header_id|>", "<|eot_id|>"},
     .tokens = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
     .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
     .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
     .opening = "<|start_header_id|>assistant<|end_header_id|>\n\n",
     .spaces = "",
     .end = "<|eot_id|>",
     .after = "",
     .trim = true,
     .bos = BOS_FIRST},
    {.name = "llama2",
     .marks = {"[INST]", "<<SYS>>"},
     .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
     .user = {"[INST] ", " [/INST]"},
     .opening = "",
     .spaces = " ",
     .after = "",
     .system_inside = true,
     .trim = true,
     .bos = BOS_EACH_USER},
    {.name = "mistral",
     .marks = {"[INST]", "[/INST]"},
     .system = {"", "\n\n"},
     .user = {"[INST] ", " [/INST]"},
     .opening = "",
     .spaces = "",
     .after = "",
     .system_inside = true,
     .bos = BOS_FIRST},
};

enum { FORMATS = sizeof formats / sizeof *formats };
static const char NAMES[] = "chatml, llama2, llama3, mistral";

const char *eq_chat_format_name(const eq_chat_format *format)
{
    return format->name;
}

const eq_chat_format *eq_chat_format_named(const char *name)
{
    for (int i = 0; i < FORMATS; i++)
        if (!strcmp(formats[i].name, name)) return &formats[i];
    return NULL;
}

const eq_chat_format *eq_chat_format_detect(const char *template)
{
    for (int i = 0; i < FORMATS && template; i++)
        if (strstr(template, formats[i].marks[0]) && strstr(template, formats[i].marks[1]))
            return &formats[i];
    return NULL;
}

/* ---- the format of a model ----------------------------------------------------------------- */

/* The character that an escape sequence of a Jinja string means, by the letter behind "\". */
static char unescape(char letter)
{
    return (char)(letter == 'n' ? '\n' : letter == 't' ? '\t' : letter);
}

/* Copy a Jinja string from `at` up to the mark that ends a message; gives the number of bytes, 0
 * when the string, which `quote` closes, ends before it. */
static size_t copy_literal(char *out, const char *at, char quote, const char *mark)
{
    size_t n = 0;
    while (*at && *at != quote && strncmp(at, mark, strlen(mark)) != 0) {
        bool escaped = at[0] == '\\' && at[1];
        out[n++] = escaped ? unescape(at[1]) : at[0];
        at += escaped ? 2 : 1;
    }
    return *at && *at != quote ? n : 0;
}

/* The system message that a ChatML template has for chats without one: a whole message in one
 * string. Strings that messages are put into end before their mark. */
static eq_status find_default_system(eq_ctx *ctx, eq_chat *chat, const char *template)
{
    const char *head = "<|im_start|>system";
    chat->system = eq_alloc(ctx, (int64_t)strlen(template) + 1, 1);
    if (!chat->system) return EQ_ENOMEM;
    for (const char *at = strstr(template, head); at; at = strstr(at + 1, head)) {
        const char quote = at > template ? at[-1] : 0;
        const char *text = at + strlen(head);
        if (quote != '\'' && quote != '"') continue;
        if (text[0] == '\\' && text[1] == 'n')
            text++;
        else if (text[0] != '\n')
            continue;
        chat->system_size = copy_literal(chat->system, text + 1, quote, chat->format->end);
        if (chat->system_size) return EQ_OK;
    }
    eq_free(chat->system);
    chat->system = NULL;
    return EQ_OK;
}

/* Leave a message in chat->problem unless the vocabulary has what the format needs. */
static void check_tokens(eq_chat *chat, const char *path)
{
    const eq_chat_format *format = chat->format;
    for (int i = 0; i < 3 && format->tokens[i]; i++) {
        const eq_text token = {format->tokens[i], strlen(format->tokens[i])};
        int32_t id = eq_tokenizer_special(chat->tok, token);
        if (id >= 0 && id == eq_tokenizer_find(chat->tok, token.data, token.size)) continue;
        snprintf(
            chat->problem, sizeof chat->problem,
            "the vocabulary of %.200s has no special token %s, which the chat format %s needs; "
            "another one is named with --chat-format (%s)",
            path, token.data, format->name, NAMES);
        return;
    }
    chat->end = format->end ? eq_tokenizer_find(chat->tok, format->end, strlen(format->end))
                            : eq_tokenizer_eos(chat->tok);
    if (chat->end >= 0) return;
    snprintf(chat->problem, sizeof chat->problem,
             "the vocabulary of %.200s has no eos token, which the chat format %s needs; another "
             "one is named with --chat-format (%s)",
             path, format->name, NAMES);
}

/* The bos token that goes first; `template` is of the family or NULL. */
static int32_t choose_bos(const eq_chat *chat, const char *template)
{
    bool wanted = true;
    if (chat->format->bos == BOS_BY_TEMPLATE)
        wanted = template ? strstr(template, "bos_token") != NULL : eq_tokenizer_add_bos(chat->tok);
    return wanted ? eq_tokenizer_bos(chat->tok) : -1;
}

eq_status eq_chat_init(eq_ctx *ctx, eq_chat *chat, const eq_tokenizer *tok, const char *name,
                       const char *path)
{
    const char *template = eq_tokenizer_chat_template(tok);
    const eq_chat_format *family = eq_chat_format_detect(template);
    *chat = (eq_chat){.tok = tok, .bos = -1, .end = -1};
    chat->format = name ? eq_chat_format_named(name) : family;
    if (name && !chat->format)
        return eq_fail(ctx, EQ_EINVAL, "chat format '%s' is not known, these are: %s", name, NAMES);
    if (!chat->format) {
        snprintf(chat->problem, sizeof chat->problem,
                 "%.200s has %s; name its format with --chat-format (%s)", path,
                 template ? "a chat template of no known format" : "no chat template", NAMES);
        return EQ_OK;
    }
    check_tokens(chat, path);
    if (chat->problem[0]) {
        chat->format = NULL;
        return name ? eq_fail(ctx, EQ_EINVAL, "%s", chat->problem) : EQ_OK;
    }
    if (chat->format != family) template = NULL;
    chat->bos = choose_bos(chat, template);
    bool chatml = !strcmp(chat->format->name, "chatml");
    return template && chatml ? find_default_system(ctx, chat, template) : EQ_OK;
}

void eq_chat_deinit(eq_chat *chat)
{
    eq_free(chat->system);
    *chat = (eq_chat){.bos = -1, .end = -1};
}

/* ---- rendering ----------------------------------------------------------------------------- */

int64_t eq_messages_wrong(const eq_message *messages, int64_t n, const char **expected)
{
    int64_t first = n > 0 && messages[0].role == EQ_ROLE_SYSTEM;
    for (int64_t i = first; i < n; i++) {
        bool answer = (i - first) % 2;
        *expected = answer ? "the assistant's" : "the user's";
        if (messages[i].role != (answer ? EQ_ROLE_ASSISTANT : EQ_ROLE_USER)) return i;
    }
    *expected = "the user's";
    return n == first ? n : -1;
}

/* Whether the character at the front of text [n], n >= 1, is white space to Python's strip, which
 * templates use; its length. */
static bool is_space(const char *text, size_t n, size_t *length)
{
    uint32_t code = 0;
    *length = (size_t)eq_utf8_decode(text, n, &code);
    return *length && ((code >= 0x1c && code <= 0x1f) || eq_char_class_of(code) == EQ_CHAR_SPACE);
}

static eq_text trim_end(eq_text text)
{
    while (text.size) {
        size_t at = text.size - 1, length = 0;
        while (at && ((uint8_t)text.data[at] & 0xc0) == 0x80)
            at--;
        if (!is_space(text.data + at, text.size - at, &length) || at + length != text.size) break;
        text.size = at;
    }
    return text;
}

static eq_text trim_start(eq_text text)
{
    size_t length = 0;
    while (text.size && is_space(text.data, text.size, &length)) {
        text.data += length;
        text.size -= length;
    }
    return text;
}

/* A chat on its way into ids. */
typedef struct rendering {
    eq_ctx *ctx;
    const eq_chat *chat;
    const eq_text *system; /* not put down yet; NULL: none */
    eq_marker marker;
} rendering;

static eq_status markup(rendering *r, const char *text, bool counts)
{
    return eq_marker_markup(r->ctx, &r->marker, text, counts);
}

static eq_status put_system(rendering *r)
{
    const eq_chat_format *format = r->chat->format;
    if (!r->system) return EQ_OK;
    const bool trim = format->trim && !format->system_inside;
    eq_status st = markup(r, format->system[0], false);
    if (st == EQ_OK)
        st = eq_marker_content(r->ctx, &r->marker,
                               trim ? trim_end(trim_start(*r->system)) : *r->system, false);
    if (st == EQ_OK) st = markup(r, format->system[1], false);
    r->system = NULL;
    return st;
}

static eq_status put_user(rendering *r, eq_text content)
{
    const eq_chat_format *format = r->chat->format;
    eq_status st = EQ_OK;
    if (!format->system_inside) st = put_system(r);
    if (st == EQ_OK && format->bos == BOS_EACH_USER && r->chat->bos >= 0)
        st = eq_marker_token(r->ctx, &r->marker, r->chat->bos, false);
    if (st == EQ_OK) st = markup(r, format->user[0], false);
    /* the system message inside is a part of what is trimmed: its end is in the middle */
    if (format->trim) content = trim_end(r->system ? content : trim_start(content));
    if (st == EQ_OK) st = put_system(r);
    if (st == EQ_OK) st = eq_marker_content(r->ctx, &r->marker, content, false);
    return st == EQ_OK ? markup(r, format->user[1], false) : st;
}

static eq_status put_answer(rendering *r, eq_text content)
{
    const eq_chat_format *format = r->chat->format;
    if (format->trim) content = trim_end(trim_start(content));
    eq_status st = markup(r, format->opening, false);
    if (st == EQ_OK) st = markup(r, format->spaces, true);
    if (st == EQ_OK) st = eq_marker_content(r->ctx, &r->marker, content, true);
    if (st == EQ_OK) st = markup(r, format->spaces, true);
    if (st == EQ_OK) st = eq_marker_token(r->ctx, &r->marker, r->chat->end, true);
    return st == EQ_OK ? markup(r, format->after, false) : st;
}

static eq_status check(eq_ctx *ctx, const eq_chat *chat, const eq_message *messages, int64_t n,
                       bool open)
{
    if (!chat->format) return eq_fail(ctx, EQ_EINVAL, "%s", chat->problem);
    const char *expected = NULL;
    int64_t wrong = eq_messages_wrong(messages, n, &expected);
    if (wrong >= 0)
        return eq_fail(ctx, EQ_EINVAL, "message %lld of a chat should be %s", (long long)wrong + 1,
                       expected);
    if (open && messages[n - 1].role != EQ_ROLE_USER)
        return eq_fail(ctx, EQ_EINVAL, "the last message before an answer should be the user's");
    return EQ_OK;
}

eq_status eq_chat_render(eq_ctx *ctx, const eq_chat *chat, const eq_message *messages, int64_t n,
                         bool open, eq_marked *out)
{
    eq_status st = check(ctx, chat, messages, n, open);
    if (st != EQ_OK) return st;
    const eq_text usual = {chat->system, chat->system_size};
    const bool given = messages[0].role == EQ_ROLE_SYSTEM;
    rendering r = {.ctx = ctx, .chat = chat, .marker = {.tok = chat->tok, .out = out}};
    r.system = given ? &messages[0].content : chat->system ? &usual : NULL;
    if (chat->format->bos != BOS_EACH_USER && chat->bos >= 0)
        st = eq_marker_token(ctx, &r.marker, chat->bos, false);
    for (int64_t i = given; i < n && st == EQ_OK; i++)
        st = messages[i].role == EQ_ROLE_USER ? put_user(&r, messages[i].content)
                                              : put_answer(&r, messages[i].content);
    if (st == EQ_OK && open) st = markup(&r, chat->format->opening, false);
    if (st == EQ_OK) st = eq_marker_flush(ctx, &r.marker);
    eq_marker_deinit(&r.marker);
    return st;
}
