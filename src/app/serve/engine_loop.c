#include "app/serve/engine_loop.h"

/* ---- submitting ---------------------------------------------------------------------------- */

static eq_status submit_text(eq_engine_loop *loop, eq_call_text *text)
{
    const eq_api_request *r = &text->call->request;
    const eq_api_prompt *prompt = &r->prompts[text->index / r->n];
    bool chat = r->kind == EQ_API_CHAT;
    eq_request request = {.ids = prompt->ids,
                          .count = prompt->count,
                          .options = r->options,
                          .stops = r->stops,
                          .stop_count = r->stop_count,
                          .ends = &r->end,
                          .end_count = chat ? 1 : 0,
                          .top_logprobs = r->top_logprobs,
                          .fresh = r->fresh,
                          .user = text};
    request.options.seed += (uint64_t)(text->index % r->n);
    request.options.max_tokens = eq_api_max_tokens(r, prompt, eq_engine_context(loop->engine));
    return eq_engine_submit(loop->ctx, loop->engine, &request, &text->request);
}

/* The figures of a call up to now. A prompt counts once, however many choices it has. */
static eq_api_usage usage_of(const eq_call *call)
{
    eq_api_usage usage = {0};
    for (int64_t i = 0; i < call->text_count; i++) {
        const eq_event *last = &call->texts[i].last;
        usage.new_tokens += last->new_tokens;
        if (i % call->request.n) continue;
        usage.prompt_tokens += last->prompt_tokens;
        usage.cached_tokens += last->cached_tokens;
    }
    return usage;
}

static void end_text(eq_engine_loop *loop, eq_call *call)
{
    const eq_api_usage usage = usage_of(call);
    call->ended++;
    eq_calls_text_ended(loop->calls, call, &usage);
}

/* Nobody wants the rest. Texts that the engine has end at its next step. */
static void cancel(eq_engine_loop *loop, eq_call *call)
{
    if (call->cancelled) return;
    call->cancelled = true;
    for (int64_t i = 0; i < call->text_count; i++)
        if (call->texts[i].request) eq_engine_cancel(loop->engine, call->texts[i].request);
}

static void fail(eq_engine_loop *loop, eq_call *call, const eq_api_error *error)
{
    const eq_api_usage usage = usage_of(call);
    eq_call_fail(loop->calls, call, error, &usage);
    cancel(loop, call);
}

static void submit(eq_engine_loop *loop, eq_call *call)
{
    eq_api_error error;
    eq_status status = EQ_OK;
    int64_t i = 0;
    while (i < call->text_count && (status = submit_text(loop, &call->texts[i])) == EQ_OK)
        i++;
    if (status == EQ_OK) {
        if (call->request.stream) eq_call_begin(loop->calls, call);
        return;
    }
    const char *message = eq_ctx_message(loop->ctx);
    eq_api_fail(&error, status == EQ_EINVAL ? 400 : 500, NULL, NULL, "%s",
                *message ? message : "the engine refuses this");
    eq_ctx_clear(loop->ctx);
    fail(loop, call, &error);
    for (; i < call->text_count; i++)
        end_text(loop, call);
}

/* ---- answers ------------------------------------------------------------------------------- */

static int64_t characters(const eq_model *model, int32_t token)
{
    size_t size;
    int64_t n = 0;
    const char *bytes = eq_token_bytes(model, token, &size);
    for (size_t i = 0; i < size; i++)
        n += ((uint8_t)bytes[i] & 0xc0) != 0x80;
    return n;
}

/* A token that ends the answer is no part of it. */
static void note_logprob(eq_engine_loop *loop, eq_call_text *text, const eq_event *event)
{
    eq_api_kind kind = text->call->request.kind;
    if (event->token < 0 || event->finish == EQ_FINISH_STOP) return;
    if (!text->logprobs) text->logprobs = eq_api_logprobs_new(kind);
    eq_api_logprobs_add(text->logprobs, kind, loop->model, event, text->characters);
    text->characters += characters(loop->model, event->token);
}

static void stream_event(eq_engine_loop *loop, eq_call_text *text, const eq_event *event)
{
    eq_call *call = text->call;
    bool usage = call->request.stream_usage;
    if (!text->opened && call->request.kind == EQ_API_CHAT)
        eq_call_send(loop->calls, call, eq_api_opening(&call->head, text->index, usage));
    text->opened = true;
    if (!event->size && !text->logprobs && event->finish == EQ_FINISH_NONE) return;
    const eq_api_piece piece = {.index = text->index,
                                .text = event->text,
                                .size = event->size,
                                .logprobs = text->logprobs,
                                .finish = event->finish};
    text->logprobs = NULL;
    eq_call_send(loop->calls, call, eq_api_chunk(&call->head, &piece, usage));
}

static void answer(eq_engine_loop *loop, eq_call *call)
{
    const eq_api_usage usage = usage_of(call);
    json_t *choices = json_array();
    for (int64_t i = 0; i < call->text_count; i++) {
        eq_call_text *text = &call->texts[i];
        const eq_api_piece piece = {.index = i,
                                    .text = text->text.data,
                                    .size = text->text.size,
                                    .logprobs = text->logprobs,
                                    .finish = text->last.finish};
        text->logprobs = NULL;
        json_array_append_new(choices, eq_api_choice(call->request.kind, &piece));
    }
    eq_call_answer(loop->calls, call, eq_api_response(&call->head, choices, &usage));
}

/* All texts of a call are there. */
static void complete(eq_engine_loop *loop, eq_call *call)
{
    if (call->cancelled) return;
    if (!call->request.stream) {
        answer(loop, call);
        return;
    }
    const eq_api_usage usage = usage_of(call);
    if (call->request.stream_usage)
        eq_call_send(loop->calls, call, eq_api_last_chunk(&call->head, &usage));
    eq_call_finish(loop->calls, call);
}

static void take_event(eq_engine_loop *loop, const eq_event *event)
{
    eq_call_text *text = event->user;
    eq_call *call = text->call;
    eq_api_error error;
    text->last = *event;
    if (event->finish == EQ_FINISH_FAILED) {
        eq_api_fail(&error, 500, NULL, NULL, "the model's logits are not finite");
        fail(loop, call, &error);
    }
    if (!call->cancelled) {
        if (call->request.logprobs) note_logprob(loop, text, event);
        if (call->request.stream) {
            stream_event(loop, text, event);
        } else if (!eq_bytes_add(&text->text, event->text, event->size)) {
            eq_api_fail(&error, 500, NULL, NULL, "out of memory");
            fail(loop, call, &error);
        }
    }
    if (event->finish == EQ_FINISH_NONE) return;
    text->request = 0;
    end_text(loop, call);
    if (call->ended == call->text_count) complete(loop, call);
}

/* Let go of the calls that are through. */
static void sweep(eq_engine_loop *loop)
{
    for (eq_call **at = &loop->active; *at;) {
        eq_call *call = *at;
        if (call->ended < call->text_count) {
            at = &call->next;
            continue;
        }
        *at = call->next;
        eq_call_release(loop->calls, call);
    }
}

eq_status eq_engine_loop_turn(eq_engine_loop *loop, double patience)
{
    eq_event event;
    eq_call *call = eq_calls_take(loop->calls, loop->active ? 0 : patience), *next;
    for (; call; call = next) {
        next = call->next;
        call->next = loop->active;
        loop->active = call;
        submit(loop, call);
    }
    eq_status status = eq_engine_step(loop->ctx, loop->engine);
    while (status == EQ_OK && eq_engine_poll(loop->engine, &event))
        take_event(loop, &event);
    sweep(loop);
    return status;
}

/* ---- calls that end before their time ------------------------------------------------------ */

void eq_engine_loop_check(eq_engine_loop *loop)
{
    double now = eq_clock();
    eq_api_error late, gone;
    eq_api_fail(&late, 504, NULL, "timeout", "the request took longer than %g seconds",
                loop->timeout);
    eq_api_fail(&gone, 499, NULL, NULL, "the client has gone");
    for (eq_call *call = loop->active; call; call = call->next) {
        if (call->cancelled) continue;
        if (eq_call_is_gone(loop->calls, call))
            fail(loop, call, &gone);
        else if (now - call->started > loop->timeout)
            fail(loop, call, &late);
    }
}

void eq_engine_loop_close(eq_engine_loop *loop, const eq_api_error *error)
{
    eq_call *queued = eq_calls_close(loop->calls), *next;
    for (; queued; queued = next) {
        next = queued->next;
        queued->next = loop->active;
        loop->active = queued;
    }
    for (eq_call *call = loop->active; call; call = next) {
        next = call->next;
        const eq_api_usage usage = usage_of(call);
        eq_call_fail(loop->calls, call, error, &usage);
        eq_call_release(loop->calls, call);
    }
    loop->active = NULL;
}
