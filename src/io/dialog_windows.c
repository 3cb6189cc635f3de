#include "io/dialog_windows.h"

#include "io/dialog.h"

#include <string.h>

/* Windows being filled. */
typedef struct builder {
    eq_ctx *ctx;
    const eq_window_source *source;
    const eq_dialog_options *options;
    eq_lines lines;
    eq_sample sample;
    eq_marked full;    /* whole windows */
    eq_marked text;    /* of texts, less than a window between two lines */
    eq_marked open;    /* examples of the window that is being filled */
    eq_marked example; /* of one line */
    eq_marker marker;  /* puts into example */
    eq_ids ids;        /* of one text */
    char *normal;      /* owned; a text that was normalized, or NULL */
    int64_t examples;
    struct {
        int64_t prompts, answers, windows, unanswered, empty;
    } lost; /* of them: cut, or left out */
} builder;

static void builder_deinit(builder *b)
{
    eq_lines_close(&b->lines);
    eq_sample_deinit(&b->sample);
    eq_marked_deinit(&b->full);
    eq_marked_deinit(&b->text);
    eq_marked_deinit(&b->open);
    eq_marked_deinit(&b->example);
    eq_marker_deinit(&b->marker);
    eq_free(b->ids.data);
    eq_free(b->normal);
}

/* Whether there are windows enough. */
static bool done(const builder *b)
{
    return b->source->n && b->full.count / b->source->T >= b->source->n;
}

/* ---- texts --------------------------------------------------------------------------------- */

/* Cut b->ids, behind what is left of the texts before, into windows. */
static eq_status cut_windows(builder *b)
{
    const int64_t T = b->source->T;
    eq_status st = EQ_OK;
    for (int64_t i = 0; i < b->ids.count && st == EQ_OK; i++)
        st = eq_marked_push(b->ctx, &b->text, b->ids.data[i], true);
    int64_t used = 0;
    for (; st == EQ_OK && b->text.count - used >= T && !done(b); used += T)
        st = eq_marked_append(b->ctx, &b->full, b->text.ids + used, b->text.counts + used, T);
    if (!used) return st;
    b->text.count -= used;
    memmove(b->text.ids, b->text.ids + used, (size_t)b->text.count * sizeof *b->text.ids);
    memmove(b->text.counts, b->text.counts + used, (size_t)b->text.count);
    return st;
}

/* In slices: of a file of many books only the first windows may be wanted. */
static eq_status add_text(builder *b)
{
    enum { SLICE = 1 << 20 };
    const eq_window_source *source = b->source;
    eq_text rest = b->sample.text;
    eq_status st = EQ_OK;
    for (bool first = true; st == EQ_OK && (first || rest.size) && !done(b); first = false) {
        const size_t size = eq_text_slice(rest, SLICE);
        b->ids.count = 0;
        st = eq_tokenizer_append(b->ctx, source->tok, rest.data, size, first, &b->ids);
        rest.data += size;
        rest.size -= size;
        if (st == EQ_OK && !rest.size && b->lines.json && source->separator >= 0)
            st = eq_ids_push(b->ctx, &b->ids, source->separator);
        if (st == EQ_OK) st = cut_windows(b);
        if (st == EQ_OK) st = eq_check_interrupt(b->ctx);
    }
    return st;
}

/* ---- instructions -------------------------------------------------------------------------- */

/* Cut the text, normalized, to its first `most` tokens, in front of a character. */
static eq_status cut_text(builder *b, eq_text *text, int64_t most)
{
    b->ids.count = 0;
    eq_free(b->normal);
    eq_status st = eq_tokenizer_normalize(b->ctx, b->source->tok, text, &b->normal);
    if (st == EQ_OK) st = eq_tokenizer_append_content(b->ctx, b->source->tok, *text, &b->ids);
    if (st != EQ_OK || b->ids.count <= most) return st;
    size_t end = 0, start = 0;
    for (int64_t i = 0; i < most; i++)
        end = eq_tokenizer_locate(b->source->tok, *text, end, b->ids.data[i], &start);
    while (end && end < text->size && ((uint8_t)text->data[end] & 0xc0) == 0x80)
        end--;
    text->size = end;
    b->lost.prompts++;
    return EQ_OK;
}

static eq_status put(builder *b, const char *text)
{
    return eq_marker_content(b->ctx, &b->marker, (eq_text){text, strlen(text)}, false);
}

static const char RESPONSE[] = "\n\n### Response:\n";

/* Everything before the answer. */
static eq_status put_prompt(builder *b)
{
    const eq_sample *s = &b->sample;
    const bool input = s->input.size > 0;
    eq_status st = put(b, input ? "This is a task, and an input that it is about. Answer with what "
                                  "the task asks for.\n\n### Instruction:\n"
                                : "This is a task. Answer with what it asks for.\n\n"
                                  "### Instruction:\n");
    if (st == EQ_OK) st = eq_marker_content(b->ctx, &b->marker, s->instruction, false);
    if (st == EQ_OK && input) st = put(b, "\n\n### Input:\n");
    if (st == EQ_OK) st = eq_marker_content(b->ctx, &b->marker, s->input, false);
    if (st == EQ_OK) st = put(b, RESPONSE);
    return st == EQ_OK ? eq_marker_flush(b->ctx, &b->marker) : st;
}

/* Cut the prompt, which is the example so far, to source_max tokens. The heading of the answer
 * stays: without it an answer would follow in the middle of a sentence. */
static eq_status cut_prompt(builder *b)
{
    const int64_t most = b->options->source_max;
    eq_marked *example = &b->example;
    if (!most || example->count <= most) return EQ_OK;
    b->lost.prompts++;
    b->ids.count = 0;
    eq_status st = eq_tokenizer_append_content(b->ctx, b->source->tok,
                                               (eq_text){RESPONSE, strlen(RESPONSE)}, &b->ids);
    if (st != EQ_OK) return st;
    int64_t heading = b->ids.count < most ? b->ids.count : 0;
    example->count = most - heading;
    for (int64_t i = 0; i < heading && st == EQ_OK; i++)
        st = eq_marked_push(b->ctx, example, b->ids.data[i], false);
    return st;
}

/* Cut the answer, which begins at `start` of the example, to target_max tokens. */
static void cut_answer(builder *b, int64_t start)
{
    const int64_t most = b->options->target_max;
    if (!most || b->example.count - start <= most) return;
    b->lost.answers += b->example.counts[start + most]; /* not if a chat goes on behind it */
    b->example.count = start + most;
}

static eq_status add_alpaca(builder *b)
{
    const eq_tokenizer *tok = b->source->tok;
    const int32_t end = eq_tokenizer_eos(tok);
    if (end < 0)
        return eq_lines_fail(&b->lines, EQ_EINVAL,
                             "the model has no eos token that could end an answer");
    eq_status st = EQ_OK;
    if (eq_tokenizer_add_bos(tok))
        st = eq_marked_push(b->ctx, &b->example, eq_tokenizer_bos(tok), false);
    if (st == EQ_OK) st = put_prompt(b);
    if (st == EQ_OK) st = cut_prompt(b);
    const int64_t start = b->example.count;
    if (st == EQ_OK) st = eq_marker_content(b->ctx, &b->marker, b->sample.output, true);
    if (st == EQ_OK) st = eq_marker_token(b->ctx, &b->marker, end, true);
    cut_answer(b, start);
    return st;
}

/* ---- conversations ------------------------------------------------------------------------- */

static eq_status need_chat(const builder *b)
{
    const eq_chat *chat = b->options->chat;
    if (chat && chat->format) return EQ_OK;
    return eq_lines_fail(&b->lines, EQ_EINVAL, "needs a chat format: %s",
                         chat ? chat->problem : "name one with --chat-format");
}

/* An instruction as a conversation of two messages. */
static eq_status add_chat_instruction(builder *b)
{
    const eq_sample *s = &b->sample;
    const int64_t most = b->options->source_max;
    char *joined = NULL;
    eq_text user = s->instruction;
    if (s->input.size) {
        joined = eq_alloc(b->ctx, (int64_t)(user.size + 2 + s->input.size), 1);
        if (!joined) return EQ_ENOMEM;
        memcpy(joined, user.data, user.size);
        memcpy(joined + user.size, "\n\n", 2);
        memcpy(joined + user.size + 2, s->input.data, s->input.size);
        user = (eq_text){joined, user.size + 2 + s->input.size};
    }
    eq_status st = most ? cut_text(b, &user, most) : EQ_OK;
    const eq_message messages[] = {{EQ_ROLE_USER, user}, {EQ_ROLE_ASSISTANT, s->output}};
    if (st == EQ_OK) st = eq_chat_render(b->ctx, b->options->chat, messages, 2, false, &b->example);
    int64_t start = 0;
    while (start < b->example.count && !b->example.counts[start])
        start++;
    if (st == EQ_OK) cut_answer(b, start);
    eq_free(joined);
    return st;
}

/* ---- examples into windows ----------------------------------------------------------------- */

/* Fill the rest of the window of examples and put it with the others. The block phase trains on
 * every position, so the rest is what the window has from its beginning again, not padding. */
static eq_status close_window(builder *b)
{
    eq_marked *open = &b->open;
    eq_status st = EQ_OK;
    for (int64_t i = 0; open->count < b->source->T && st == EQ_OK; i++)
        st = eq_marked_push(b->ctx, open, open->ids[i], false);
    if (st == EQ_OK) st = eq_marked_append(b->ctx, &b->full, open->ids, open->counts, open->count);
    open->count = 0;
    return st;
}

static eq_status place_example(builder *b)
{
    const int64_t T = b->source->T;
    eq_marked *example = &b->example;
    b->lost.windows += example->count > T;
    if (example->count > T) example->count = T;
    /* nothing comes before the first token of a window, so it is no target */
    if (example->count < 2 || !memchr(example->counts + 1, 1, (size_t)example->count - 1)) {
        b->lost.unanswered++;
        return EQ_OK;
    }
    eq_status st = EQ_OK;
    if (b->open.count + example->count > T) st = close_window(b);
    if (st == EQ_OK && !done(b))
        st = eq_marked_append(b->ctx, &b->open, example->ids, example->counts, example->count);
    return st == EQ_OK && b->open.count == T ? close_window(b) : st;
}

static eq_status add_sample(builder *b)
{
    const eq_sample *s = &b->sample;
    if (s->kind == EQ_SAMPLE_TEXT) return add_text(b);
    b->examples++;
    b->example.count = 0;
    if (s->kind == EQ_SAMPLE_INSTRUCTION && !s->output.size) {
        b->lost.empty++;
        return EQ_OK;
    }
    const bool alpaca = s->kind == EQ_SAMPLE_INSTRUCTION && b->options->style == EQ_DIALOG_ALPACA;
    eq_status st = alpaca ? add_alpaca(b) : need_chat(b);
    if (st == EQ_OK && !alpaca)
        st = s->kind == EQ_SAMPLE_INSTRUCTION
                 ? add_chat_instruction(b)
                 : eq_chat_render(b->ctx, b->options->chat, s->messages, s->n, false, &b->example);
    return st == EQ_OK ? place_example(b) : st;
}

/* One line for all that is not as it is in the file. */
static void warn_of_losses(const builder *b)
{
    const struct {
        int64_t count;
        const char *what;
    } parts[] = {{b->lost.prompts, "prompts cut (--source-max)"},
                 {b->lost.answers, "answers cut (--target-max)"},
                 {b->lost.windows, "cut to the length of a window (--seqlen)"},
                 {b->lost.unanswered, "left out, no answer was left in the window"},
                 {b->lost.empty, "left out, the output is empty"}};
    char line[512] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].count)
            n += (size_t)snprintf(line + n, sizeof line - n, "%s %lld %s", n ? ";" : "",
                                  (long long)parts[i].count, parts[i].what);
    if (n)
        eq_log(b->ctx, EQ_LOG_WARNING, "%s: of %lld examples:%s", b->source->path,
               (long long)b->examples, line);
}

static eq_status fill(builder *b)
{
    bool more = true;
    eq_status st = eq_lines_open(b->ctx, &b->lines, b->source->path);
    while (st == EQ_OK && !done(b)) {
        st = eq_lines_next(&b->lines, &more);
        if (st != EQ_OK || !more) break;
        st = eq_sample_read(&b->sample, &b->lines);
        if (st == EQ_OK) st = add_sample(b);
        if (st == EQ_OK) st = eq_check_interrupt(b->ctx);
    }
    if (st == EQ_OK && b->open.count && !done(b)) st = close_window(b);
    if (st == EQ_OK) warn_of_losses(b);
    return st;
}

static eq_status check_options(eq_ctx *ctx, const eq_window_source *source,
                               const eq_dialog_options *options)
{
    if (options->source_max < 0 || options->target_max < 0)
        return eq_fail(ctx, EQ_EINVAL,
                       "prompts of %lld tokens and answers of %lld are not possible, 0 is any "
                       "number",
                       (long long)options->source_max, (long long)options->target_max);
    return eq_windows_sizes(ctx, source, 0);
}

eq_status eq_windows_dialogs(eq_ctx *ctx, eq_token_windows *windows, const eq_window_source *source,
                             const eq_dialog_options *options)
{
    *windows = (eq_token_windows){0};
    eq_status st = check_options(ctx, source, options);
    if (st != EQ_OK) return st;
    builder b = {.ctx = ctx, .source = source, .options = options};
    b.marker = (eq_marker){.tok = source->tok, .out = &b.example};
    const int64_t T = source->T;
    st = fill(&b);
    int64_t there = b.full.count / T, n = eq_windows_take(source, there);
    int64_t least = source->enough ? source->enough : source->n ? source->n : 1;
    if (st == EQ_OK && !n) st = eq_windows_short(ctx, source->path, there, T, least);
    if (st == EQ_OK) {
        *windows = (eq_token_windows){.ids = b.full.ids, .n = n, .T = T, .counts = b.full.counts};
        b.full = (eq_marked){0};
        if (!memchr(windows->counts, 0, (size_t)(n * T))) {
            eq_free(windows->counts);
            windows->counts = NULL;
        }
    }
    builder_deinit(&b);
    return st;
}
