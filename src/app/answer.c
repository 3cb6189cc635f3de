#include "app/answer.h"

#include <stdlib.h>
#include <string.h>

/* Let *data hold n items of `size` bytes. */
static bool grow(void *data, int64_t *room, int64_t n, size_t size)
{
    void **at = data;
    if (n <= *room) return true;
    void *larger = realloc(*at, (size_t)(2 * n) * size);
    if (!larger) return false;
    *at = larger;
    *room = 2 * n;
    return true;
}

static bool take(eq_answer *a, const eq_event *event, FILE *stream)
{
    int64_t room = (int64_t)a->room;
    a->event = *event;
    if (!grow(&a->text, &room, (int64_t)(a->size + event->size) + 1, 1)) return false;
    a->room = (size_t)room;
    if (event->size) memcpy(a->text + a->size, event->text, event->size);
    a->size += event->size;
    a->text[a->size] = 0;
    if (event->token >= 0) {
        if (!grow(&a->ids, &a->ids_room, event->new_tokens, sizeof *a->ids)) return false;
        a->ids[event->new_tokens - 1] = event->token;
    }
    if (stream && event->size) {
        fwrite(event->text, 1, event->size, stream);
        fflush(stream);
    }
    return true;
}

/* Steps until the end. */
static eq_status follow(eq_session *session, eq_engine *engine, FILE *stream, eq_answer *a)
{
    eq_event event;
    eq_status status = EQ_OK;
    while (status == EQ_OK && a->event.finish == EQ_FINISH_NONE) {
        status = eq_engine_step(session->ctx, engine);
        while (eq_engine_poll(engine, &event))
            if (event.request == a->event.request && !take(a, &event, stream))
                return eq_session_fail(session, EQ_ENOMEM, "out of memory");
        if (stream && ferror(stream))
            return eq_session_fail(session, EQ_EIO, "cannot write the answer");
    }
    if (status == EQ_OK && a->event.finish == EQ_FINISH_FAILED)
        return eq_session_fail(session, EQ_ENUMERIC, "the model's logits are not finite");
    return status;
}

eq_status eq_answer_run(eq_session *session, eq_engine *engine, const eq_request *request,
                        FILE *stream, eq_answer *a)
{
    int64_t id;
    eq_status status = eq_engine_submit(session->ctx, engine, request, &id);
    if (status != EQ_OK) return status;
    a->event = (eq_event){.request = id, .token = -1};
    return follow(session, engine, stream, a);
}

eq_status eq_answer_cancel(eq_session *session, eq_engine *engine, FILE *stream, eq_answer *a)
{
    eq_engine_cancel(engine, a->event.request);
    return follow(session, engine, stream, a);
}

void eq_answer_deinit(eq_answer *a)
{
    free(a->text);
    free(a->ids);
    *a = (eq_answer){0};
}

const char *eq_answer_reason(const eq_answer *a)
{
    return a->event.finish == EQ_FINISH_STOP     ? "stop"
           : a->event.finish == EQ_FINISH_LENGTH ? "length"
                                                 : "cancelled";
}

double eq_answer_prompt_speed(const eq_answer *a)
{
    const eq_event *e = &a->event;
    if (!(e->prompt_seconds > 0)) return -1;
    return (double)(e->prompt_tokens - e->cached_tokens) / e->prompt_seconds;
}

double eq_answer_speed(const eq_answer *a)
{
    const eq_event *e = &a->event;
    return e->generation_seconds > 0 ? (double)(e->new_tokens - 1) / e->generation_seconds : -1;
}

json_t *eq_answer_number(double speed)
{
    return speed < 0 ? json_null() : json_real(speed);
}

void eq_answer_report(const eq_answer *a)
{
    const eq_event *e = &a->event;
    double prompt = eq_answer_prompt_speed(a), speed = eq_answer_speed(a);
    fprintf(stderr, "prompt %lld tokens", (long long)e->prompt_tokens);
    if (e->cached_tokens) fprintf(stderr, ", %lld of them kept", (long long)e->cached_tokens);
    if (prompt >= 0) fprintf(stderr, ", %.1f tokens/s", prompt);
    fprintf(stderr, "; answer %lld tokens", (long long)e->new_tokens);
    if (speed >= 0) fprintf(stderr, ", %.1f tokens/s", speed);
    fputc('\n', stderr);
}
