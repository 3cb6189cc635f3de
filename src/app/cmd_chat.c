/* eqat chat: talk to a model. */
#include "app/answer.h"
#include "app/conversation.h"
#include "app/line_input.h"
#include "app/options.h"
#include "app/output.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_SHARE = 4, ANSWER_ROOM = 512 };

typedef struct chat_args {
    eq_common common;
    const char *system, *format, *load;
    eq_string_list stops;
    eq_generate_options generate;
    eq_engine_options engine;
} chat_args;

static const eq_option options[] = {
    {.name = "system",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(chat_args, system),
     .argument = "TEXT",
     .help = "system message; without it the one of the model's template, if any"},
    {.name = "load",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(chat_args, load),
     .argument = "FILE",
     .help = "go on with a conversation that /save wrote"},
    {.name = "chat-format",
     .kind = EQ_OPTION_STRING,
     .offset = offsetof(chat_args, format),
     .argument = "NAME",
     .help = "chatml, llama2, llama3 or mistral; without it that of the model's template"},
    {.name = "stop",
     .kind = EQ_OPTION_LIST,
     .offset = offsetof(chat_args, stops),
     .argument = "STRING",
     .help = "end an answer before this text; may be given several times"},
    {.name = NULL}};

static const eq_section sections[] = {{eq_sampling_section, offsetof(chat_args, generate)},
                                      {eq_engine_section, offsetof(chat_args, engine)},
                                      {NULL, 0}};

static void defaults(void *arguments)
{
    chat_args *args = arguments;
    args->generate = eq_generate_defaults();
    args->generate.max_tokens = 0;
    args->generate.temperature = 0.7;
    args->generate.min_p = 0.1;
    args->engine = eq_engine_defaults();
}

typedef struct chat {
    const chat_args *args;
    eq_session *session;
    eq_engine *engine; /* owned */
    eq_conversation messages;
    eq_line_input input;
    uint64_t answers; /* so far: each has a seed of its own */
    bool quit;
} chat;

/* ---- answers ------------------------------------------------------------------------------- */

/* The prompt of the next answer. */
typedef struct prompt {
    int32_t *ids; /* owned, eq_free */
    int64_t count, dropped;
    int32_t end;
} prompt;

/* Without the p->dropped oldest turns. */
static eq_status render(const chat *c, prompt *p)
{
    eq_conversation view = eq_conversation_view(&c->messages, p->dropped);
    eq_free(p->ids);
    p->ids = NULL;
    eq_status status =
        view.n ? eq_chat_ids(c->session->ctx, c->session->model, c->args->format, view.roles,
                             (const char *const *)view.texts, view.n, &p->ids, &p->count, &p->end)
               : eq_session_fail(c->session, EQ_ENOMEM, "out of memory");
    free(view.roles);
    free(view.texts);
    return status;
}

/* Render the conversation, without its oldest turns if there would be no room for an answer. */
static eq_status make_prompt(chat *c, prompt *p)
{
    int64_t context = eq_engine_context(c->engine), most = context / ANSWER_SHARE;
    int64_t turns = eq_conversation_turns(&c->messages);
    int64_t room = c->args->generate.max_tokens ? c->args->generate.max_tokens : ANSWER_ROOM;
    if (room > most) room = most;
    eq_status status = render(c, p);
    while (status == EQ_OK && p->count + room > context && p->dropped < turns) {
        p->dropped++;
        status = render(c, p);
    }
    if (status == EQ_OK && p->count >= context)
        status = eq_session_fail(c->session, EQ_EINVAL,
                                 "the message needs %lld tokens, the context has %lld",
                                 (long long)p->count, (long long)context);
    return status;
}

/* What had no room beside an answer that came is forgotten. */
static void drop_turns(chat *c, const prompt *p)
{
    if (!p->dropped) return;
    fprintf(stderr, "(the context of %lld tokens is full: dropped the oldest %s)\n",
            (long long)eq_engine_context(c->engine), p->dropped == 1 ? "turn" : "turns");
    eq_conversation_drop(&c->messages, p->dropped);
}

static eq_status speak(chat *c, const prompt *p, eq_answer *answer)
{
    const chat_args *args = c->args;
    FILE *stream = args->common.json ? NULL : stdout;
    eq_request request = {.ids = p->ids,
                          .count = p->count,
                          .options = args->generate,
                          .stops = args->stops.items,
                          .stop_count = args->stops.count,
                          .ends = &p->end,
                          .end_count = 1};
    if (request.options.max_tokens > eq_engine_context(c->engine) - p->count)
        request.options.max_tokens = 0;
    request.options.seed += c->answers++;
    eq_console_take_stop(); /* one that came too late for the last answer */
    eq_status status = eq_answer_run(c->session, c->engine, &request, stream, answer);
    while (status == EQ_EINTERRUPTED) {
        eq_console_take_stop();
        eq_ctx_clear(c->session->ctx);
        status = eq_answer_cancel(c->session, c->engine, stream, answer);
    }
    if (stream) putchar('\n');
    fflush(stdout);
    return status;
}

static eq_status print_json(const chat *c, const prompt *p, const eq_answer *a)
{
    return eq_json_print(
        c->session,
        json_pack("{s:s%, s:I, s:I, s:I, s:I, s:s, s:o, s:o}", "text", a->text ? a->text : "",
                  a->size, "prompt_tokens", (json_int_t)a->event.prompt_tokens, "cached_tokens",
                  (json_int_t)a->event.cached_tokens, "tokens", (json_int_t)a->event.new_tokens,
                  "dropped_turns", (json_int_t)p->dropped, "finish_reason", eq_answer_reason(a),
                  "prompt_tokens_per_second", eq_answer_number(eq_answer_prompt_speed(a)),
                  "tokens_per_second", eq_answer_number(eq_answer_speed(a))));
}

static void print_notes(const chat *c, const eq_answer *a)
{
    if (a->event.finish == EQ_FINISH_LENGTH)
        fprintf(stderr, "(the answer was cut after %lld tokens)\n", (long long)a->event.new_tokens);
    if (a->event.finish == EQ_FINISH_CANCELLED) fputs("(stopped)\n", stderr);
    if (!c->args->common.quiet) eq_answer_report(a);
}

/* Messages end at a NUL, which a token may be: the answer has spaces there. */
static void replace_nuls(eq_answer *a)
{
    for (size_t i = 0; i < a->size; i++)
        if (!a->text[i]) a->text[i] = ' ';
}

/* Send a message of the user; the conversation is as before when there is no answer. */
static eq_status say(chat *c, const char *text)
{
    prompt p = {0};
    eq_answer answer = {0};
    if (!eq_conversation_push(&c->messages, "user", text))
        return eq_session_fail(c->session, EQ_ENOMEM, "out of memory");
    eq_status status = make_prompt(c, &p);
    if (status == EQ_OK) status = speak(c, &p, &answer);
    replace_nuls(&answer);
    if (status != EQ_OK || answer.size == 0)
        eq_conversation_pop(&c->messages);
    else if (!eq_conversation_push(&c->messages, "assistant", answer.text))
        status = eq_session_fail(c->session, EQ_ENOMEM, "out of memory");
    else
        drop_turns(c, &p);
    if (status == EQ_OK) {
        print_notes(c, &answer);
        if (c->args->common.json) status = print_json(c, &p, &answer);
    }
    eq_answer_deinit(&answer);
    eq_free(p.ids);
    return status;
}

/* ---- commands ------------------------------------------------------------------------------ */

static eq_status help(chat *c, const char *text)
{
    (void)c;
    (void)text;
    fputs("/system TEXT  set the system message; without TEXT show it, with - remove it\n"
          "/reset        forget the conversation, but not the system message\n"
          "/save FILE    write the conversation, for --load\n"
          "/help         this list\n"
          "/quit         end, as does Ctrl-D\n"
          "//TEXT        say /TEXT; a \\ at the end of a line goes on in the next one\n"
          "Ctrl-C stops an answer.\n",
          stderr);
    return EQ_OK;
}

static eq_status reset(chat *c, const char *text)
{
    (void)text;
    eq_conversation_reset(&c->messages);
    return EQ_OK;
}

static eq_status set_system(chat *c, const char *text)
{
    if (!*text) {
        const char *now = eq_conversation_system(&c->messages);
        fprintf(stderr, "%s\n", *now ? now : "(no system message of your own)");
        return EQ_OK;
    }
    if (eq_conversation_set_system(&c->messages, strcmp(text, "-") == 0 ? "" : text)) return EQ_OK;
    return eq_session_fail(c->session, EQ_ENOMEM, "out of memory");
}

static eq_status save(chat *c, const char *text)
{
    if (!*text) return eq_session_fail(c->session, EQ_EINVAL, "/save needs the name of a file");
    return eq_conversation_save(c->session, &c->messages, text);
}

static eq_status quit(chat *c, const char *text)
{
    (void)text;
    c->quit = true;
    return EQ_OK;
}

static const struct {
    const char *name;
    eq_status (*run)(chat *c, const char *text);
} commands[] = {
    {"/help", help}, {"/reset", reset}, {"/system", set_system}, {"/save", save}, {"/quit", quit}};

static eq_status command(chat *c, const char *line)
{
    size_t length = strcspn(line, " \t");
    const char *text = line + length + strspn(line + length, " \t");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strlen(commands[i].name) == length && !strncmp(commands[i].name, line, length))
            return commands[i].run(c, text);
    return eq_session_fail(c->session, EQ_EINVAL, "no command %.*s; /help lists them", (int)length,
                           line);
}

/* ---- the loop ------------------------------------------------------------------------------ */

/* Read lines up to the first that does not end with a backslash to *text (free). */
static eq_line read_message(chat *c, char **text)
{
    size_t size = 0;
    *text = NULL;
    for (;;) {
        eq_line kind = eq_line_input_next(&c->input);
        if (kind == EQ_LINE_INTERRUPTED) eq_console_take_stop();
        if (kind == EQ_LINE_END && *text) return EQ_LINE_TEXT;
        if (kind != EQ_LINE_TEXT) return kind;
        size_t n = strlen(c->input.line);
        char *larger = realloc(*text, size + n + 1);
        if (!larger) return EQ_LINE_END;
        *text = larger;
        memcpy(larger + size, c->input.line, n + 1);
        size += n;
        if (n == 0 || larger[size - 1] != '\\') return EQ_LINE_TEXT;
        larger[size - 1] = '\n';
    }
}

static bool is_blank(const char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    return !*text;
}

/* On a terminal a failure is a note, and the conversation goes on; a script ends with it. */
static eq_status converse(chat *c)
{
    eq_status status = EQ_OK;
    while (!c->quit && status == EQ_OK) {
        char *text;
        eq_line kind = read_message(c, &text);
        if (kind == EQ_LINE_END) c->quit = true;
        if (kind == EQ_LINE_TEXT && !is_blank(text)) {
            bool literal = text[0] == '/' && text[1] == '/';
            status =
                text[0] == '/' && !literal ? command(c, text) : say(c, literal ? text + 1 : text);
        }
        free(text);
        if (status != EQ_EINVAL && status != EQ_EIO) continue;
        if (!c->input.terminal) break;
        const char *message = eq_ctx_message(c->session->ctx);
        if (!c->session->reported) fprintf(stderr, "eqat: %s\n", message);
        c->session->reported = false;
        eq_ctx_clear(c->session->ctx);
        status = EQ_OK;
    }
    return status;
}

/* The conversation as the options want it, and a check that the model has a chat format. */
static eq_status begin(chat *c)
{
    const chat_args *args = c->args;
    eq_status status = EQ_OK;
    if (args->load) status = eq_conversation_load(c->session, &c->messages, args->load);
    if (status == EQ_OK && args->system && !eq_conversation_set_system(&c->messages, args->system))
        status = eq_session_fail(c->session, EQ_ENOMEM, "out of memory");
    if (status == EQ_OK) status = eq_session_check_chat(c->session, args->format);
    if (status != EQ_OK) return status;
    eq_engine_options o = args->engine;
    o.context = eq_session_context(c->session, o.context);
    return eq_engine_new(c->session->ctx, &c->engine, c->session->model, &o);
}

static int run(const void *arguments)
{
    eq_session session;
    chat c = {.args = arguments, .session = &session};
    eq_status status = eq_session_open(&session, &c.args->common, true);
    if (status == EQ_OK) status = begin(&c);
    if (status == EQ_OK) {
        eq_console_catch_stops();
        eq_line_input_open(&c.input, "> ");
        if (c.input.terminal && !c.args->common.quiet)
            fputs("/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends\n", stderr);
        status = converse(&c);
        eq_line_input_close(&c.input);
    }
    eq_conversation_deinit(&c.messages);
    eq_engine_free(c.engine);
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_chat = {
    .name = "chat",
    .summary = "Talk to a model",
    .details =
        "Each line is a message, and the answer is printed as it comes. Lines that begin with /\n"
        "are commands; /help lists them. Ctrl-C stops an answer. When the context is full, the\n"
        "oldest turns are dropped. Each answer has a seed of its own, counted from --seed on.\n"
        "Lines may also come from a pipe; then the first failure ends the program. With --json\n"
        "each answer is an object on a line: text, prompt_tokens, cached_tokens, tokens,\n"
        "dropped_turns, finish_reason (stop, length or cancelled), prompt_tokens_per_second,\n"
        "tokens_per_second.\n\n"
        "Examples:\n"
        "  eqat chat models/smollm2-135m-instruct.gguf\n"
        "  eqat chat out/w3 --system 'You answer in one sentence.' --temperature 0\n"
        "  eqat chat out/w3 --load talk.json --max-tokens 200\n",
    .options = options,
    .sections = sections,
    .size = sizeof(chat_args),
    .defaults = defaults,
    .writes_tokens = true,
    .run = run};
