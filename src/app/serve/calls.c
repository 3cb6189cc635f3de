#include "app/serve/calls.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static const char LAST_PART[] = "data: [DONE]\n\n";

bool eq_bytes_add(eq_bytes *b, const char *data, size_t n)
{
    if (n > b->room - b->size) {
        size_t room = 2 * (b->size + n) + 256;
        char *larger = realloc(b->data, room);
        if (!larger) return false;
        b->data = larger;
        b->room = room;
    }
    if (n) memcpy(b->data + b->size, data, n);
    b->size += n;
    return true;
}

void eq_bytes_deinit(eq_bytes *b)
{
    free(b->data);
    *b = (eq_bytes){0};
}

/* ---- life ---------------------------------------------------------------------------------- */

eq_status eq_calls_init(eq_calls *calls, int64_t most_texts)
{
    pthread_condattr_t attributes;
    *calls = (eq_calls){.most_texts = most_texts};
    if (pthread_condattr_init(&attributes) != 0) return EQ_EINTERNAL;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    bool good = pthread_mutex_init(&calls->lock, NULL) == 0;
    if (good && pthread_cond_init(&calls->come, &attributes) != 0) {
        pthread_mutex_destroy(&calls->lock);
        good = false;
    }
    pthread_condattr_destroy(&attributes);
    return good ? EQ_OK : EQ_EINTERNAL;
}

void eq_calls_deinit(eq_calls *calls)
{
    pthread_cond_destroy(&calls->come);
    pthread_mutex_destroy(&calls->lock);
}

static void free_call(eq_call *call)
{
    for (int64_t i = 0; call->texts && i < call->text_count; i++) {
        eq_bytes_deinit(&call->texts[i].text);
        json_decref(call->texts[i].logprobs);
    }
    free(call->texts);
    eq_bytes_deinit(&call->output);
    eq_api_request_deinit(&call->request);
    free(call);
}

eq_call *eq_call_new(eq_api_request *request)
{
    int64_t count = request->prompt_count * request->n;
    eq_call *call = calloc(1, sizeof *call);
    eq_call_text *texts = call ? calloc((size_t)count, sizeof *texts) : NULL;
    if (!texts) {
        free(call);
        eq_api_request_deinit(request);
        return NULL;
    }
    *call = (eq_call){.request = *request, .texts = texts, .text_count = count, .references = 1};
    *request = (eq_api_request){0};
    for (int64_t i = 0; i < count; i++)
        texts[i] = (eq_call_text){.call = call, .index = i};
    return call;
}

static void release(eq_calls *calls, eq_call *call, bool gone)
{
    pthread_mutex_lock(&calls->lock);
    if (gone) {
        call->gone = true;
        call->waiting = NULL;
    }
    bool last = --call->references == 0;
    pthread_mutex_unlock(&calls->lock);
    if (last) free_call(call);
}

void eq_call_leave(eq_calls *calls, eq_call *call)
{
    release(calls, call, true);
}

void eq_call_release(eq_calls *calls, eq_call *call)
{
    release(calls, call, false);
}

/* ---- the queue ----------------------------------------------------------------------------- */

bool eq_calls_put(eq_calls *calls, eq_call *call, eq_api_error *error)
{
    bool closing, full = false;
    pthread_mutex_lock(&calls->lock);
    closing = calls->closing;
    full = call->text_count > calls->most_texts - calls->texts;
    if (!closing && !full) {
        calls->texts += call->text_count;
        call->references++;
        if (calls->last)
            calls->last->next = call;
        else
            calls->first = call;
        calls->last = call;
        pthread_cond_signal(&calls->come);
    }
    pthread_mutex_unlock(&calls->lock);
    if (closing) return eq_api_fail(error, 503, NULL, NULL, "the server is shutting down");
    if (full)
        return eq_api_fail(error, 429, NULL, "too_many_waiting",
                           "too many requests are waiting, try again later");
    return true;
}

static eq_call *take_all(eq_calls *calls)
{
    eq_call *all = calls->first;
    calls->first = calls->last = NULL;
    return all;
}

eq_call *eq_calls_take(eq_calls *calls, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(seconds * 1e9);
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&calls->lock);
    while (!calls->first && seconds > 0)
        if (pthread_cond_timedwait(&calls->come, &calls->lock, &until) == ETIMEDOUT) break;
    eq_call *all = take_all(calls);
    pthread_mutex_unlock(&calls->lock);
    return all;
}

eq_call *eq_calls_close(eq_calls *calls)
{
    pthread_mutex_lock(&calls->lock);
    calls->closing = true;
    eq_call *all = take_all(calls);
    pthread_mutex_unlock(&calls->lock);
    return all;
}

/* ---- output -------------------------------------------------------------------------------- */

/* With the lock held. */
static void wake(const eq_calls *calls, eq_call *call)
{
    if (call->waiting) calls->wake(call->waiting);
    call->waiting = NULL;
}

/* With the lock held. */
static void suspend(const eq_calls *calls, eq_call *call, void *connection)
{
    call->waiting = connection;
    calls->suspend(connection);
}

int eq_call_status(eq_calls *calls, eq_call *call, void *connection)
{
    pthread_mutex_lock(&calls->lock);
    int status = call->status;
    if (!status) suspend(calls, call, connection);
    pthread_mutex_unlock(&calls->lock);
    return status;
}

int64_t eq_call_read(eq_calls *calls, eq_call *call, void *connection, size_t at, char *out,
                     size_t n, bool *done)
{
    pthread_mutex_lock(&calls->lock);
    *done = call->done;
    size_t left = at < call->output.size ? call->output.size - at : 0;
    bool end = !left && call->done;
    if (!left && !end) suspend(calls, call, connection);
    if (n > left) n = left;
    if (n) memcpy(out, call->output.data + at, n);
    pthread_mutex_unlock(&calls->lock);
    return end ? -1 : (int64_t)n;
}

int eq_call_outcome(eq_calls *calls, const eq_call *call, eq_api_usage *usage)
{
    pthread_mutex_lock(&calls->lock);
    int outcome = call->outcome;
    *usage = call->usage;
    pthread_mutex_unlock(&calls->lock);
    return outcome;
}

/* Whether the other end of a connection is closed. Nothing reads a connection that is suspended, so
 * the HTTP library does not see it. */
static bool has_hung_up(int socket)
{
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

bool eq_call_is_gone(eq_calls *calls, const eq_call *call)
{
    pthread_mutex_lock(&calls->lock);
    bool gone = call->gone || has_hung_up(call->socket);
    pthread_mutex_unlock(&calls->lock);
    return gone;
}

void eq_call_begin(eq_calls *calls, eq_call *call)
{
    pthread_mutex_lock(&calls->lock);
    call->status = 200;
    wake(calls, call);
    pthread_mutex_unlock(&calls->lock);
}

/* An object as text (free), which takes time without the lock; takes the object. NULL without
 * memory. */
static char *dump(json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(object);
    return text;
}

/* Add `front`, a text and `back` to the output. With the lock held. */
static bool add_text(eq_call *call, const char *front, const char *text, const char *back)
{
    return text && eq_bytes_add(&call->output, front, strlen(front)) &&
           eq_bytes_add(&call->output, text, strlen(text)) &&
           eq_bytes_add(&call->output, back, strlen(back));
}

void eq_call_send(eq_calls *calls, eq_call *call, json_t *part)
{
    char *text = dump(part);
    pthread_mutex_lock(&calls->lock);
    if (!call->done && !add_text(call, "data: ", text, "\n\n"))
        call->done = true; /* a stream that breaks off shows that it failed */
    wake(calls, call);
    pthread_mutex_unlock(&calls->lock);
    free(text);
}

void eq_call_answer(eq_calls *calls, eq_call *call, json_t *body)
{
    char *text = dump(body);
    pthread_mutex_lock(&calls->lock);
    if (!call->done) call->outcome = call->status = add_text(call, "", text, "\n") ? 200 : 500;
    call->done = true;
    wake(calls, call);
    pthread_mutex_unlock(&calls->lock);
    free(text);
}

void eq_call_finish(eq_calls *calls, eq_call *call)
{
    pthread_mutex_lock(&calls->lock);
    if (!call->done && eq_bytes_add(&call->output, LAST_PART, sizeof LAST_PART - 1))
        call->outcome = call->status;
    call->done = true;
    wake(calls, call);
    pthread_mutex_unlock(&calls->lock);
}

void eq_call_fail(eq_calls *calls, eq_call *call, const eq_api_error *error,
                  const eq_api_usage *usage)
{
    char *text = dump(eq_api_error_json(error));
    pthread_mutex_lock(&calls->lock);
    if (!call->done) {
        bool begun = call->status != 0;
        add_text(call, begun ? "data: " : "", text, begun ? "\n\n" : "\n");
        if (!begun) call->status = error->status;
        call->outcome = error->status;
        call->usage = *usage;
        call->done = true;
    }
    wake(calls, call);
    pthread_mutex_unlock(&calls->lock);
    free(text);
}

void eq_calls_text_ended(eq_calls *calls, eq_call *call, const eq_api_usage *usage)
{
    pthread_mutex_lock(&calls->lock);
    calls->texts--;
    call->usage = *usage;
    pthread_mutex_unlock(&calls->lock);
}
