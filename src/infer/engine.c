#include "infer/engine_state.h"

#include <string.h>

static void append(eq_jobs *q, eq_job *job)
{
    job->next = NULL;
    if (q->last)
        q->last->next = job;
    else
        q->first = job;
    q->last = job;
}

/* ---- requests come and go ------------------------------------------------------------------ */

eq_status eq_engine_submit(eq_ctx *ctx, eq_engine *e, const eq_request *request, int64_t *id)
{
    const eq_config *c = &e->model.decoder->config;
    const eq_job_limits limits = {c->V, e->context, c->positions, e->model.tokenizer != NULL};
    eq_job *job;
    eq_status st = eq_job_new(ctx, &job, request, &limits);
    if (st != EQ_OK) return st;
    *id = job->id = job->event.request = ++e->submitted;
    append(&e->waiting, job);
    return EQ_OK;
}

void eq_engine_cancel(eq_engine *e, int64_t id)
{
    for (eq_job *job = e->waiting.first; job; job = job->next)
        if (job->id == id) job->cancelled = true;
    for (int64_t i = 0; i < e->slots; i++)
        if (e->slot[i].job && e->slot[i].job->id == id) e->slot[i].job->cancelled = true;
}

int64_t eq_engine_pending(const eq_engine *e)
{
    int64_t n = 0;
    for (const eq_job *job = e->waiting.first; job; job = job->next)
        n++;
    for (int64_t i = 0; i < e->slots; i++)
        n += e->slot[i].job != NULL;
    return n;
}

/* The last event of a job. */
static eq_status end(eq_ctx *ctx, eq_engine *e, eq_job *job, eq_finish finish)
{
    eq_text_stream *text = &job->text;
    eq_status st = text->stopped ? EQ_OK : eq_text_stream_end(ctx, text);
    job->event.text = text->text;
    job->event.size = text->ready;
    job->event.finish = finish;
    append(&e->ended, job);
    return st;
}

/* Drop the events of the last step and what they point to. */
static void forget_events(eq_engine *e)
{
    eq_jobs_free(&e->ended);
    eq_jobs_free(&e->done);
    e->polled = 0;
    for (int64_t i = 0; i < e->slots; i++) {
        eq_job *job = e->slot[i].job;
        if (!job) continue;
        eq_text_stream_shown(&job->text);
        job->event.token = -1;
        job->event.top_count = 0;
    }
}

static eq_status end_cancelled(eq_ctx *ctx, eq_engine *e)
{
    eq_status st = EQ_OK;
    eq_jobs kept = {0};
    for (eq_job *job; (job = eq_jobs_take(&e->waiting));) {
        if (!job->cancelled)
            append(&kept, job);
        else if (end(ctx, e, job, EQ_FINISH_CANCELLED) != EQ_OK)
            st = EQ_ENOMEM;
    }
    e->waiting = kept;
    for (int64_t i = 0; i < e->slots; i++) {
        eq_job *job = e->slot[i].job;
        if (!job || !job->cancelled) continue;
        e->slot[i].job = NULL;
        if (end(ctx, e, job, EQ_FINISH_CANCELLED) != EQ_OK) st = EQ_ENOMEM;
    }
    return st;
}

/* Tokens of a prompt that a free slot has in the cache. At least the last one is read, for its
 * logits. */
static int64_t common(const eq_engine *e, int64_t i, const eq_request *r)
{
    int64_t most = e->generation.lengths[i], n = 0;
    if (r->fresh) return 0;
    if (most > r->count - 1) most = r->count - 1;
    while (n < most && e->slot[i].ids[n] == r->ids[n])
        n++;
    return n;
}

/* The free slot that has most of a prompt; of equal ones the one not used for the longest; -1 when
 * none is free. */
static int64_t choose_slot(const eq_engine *e, const eq_request *r, int64_t *cached)
{
    int64_t best = -1;
    for (int64_t i = 0; i < e->slots; i++) {
        if (e->slot[i].job) continue;
        int64_t n = common(e, i, r);
        bool better =
            best < 0 || n > *cached || (n == *cached && e->slot[i].served < e->slot[best].served);
        if (!better) continue;
        best = i;
        *cached = n;
    }
    return best;
}

static void admit(eq_engine *e)
{
    int64_t cached = 0, i;
    while (e->waiting.first && (i = choose_slot(e, &e->waiting.first->request, &cached)) >= 0) {
        eq_job *job = eq_jobs_take(&e->waiting);
        eq_slot *s = &e->slot[i];
        s->job = job;
        s->served = 0;
        memcpy(s->ids, job->request.ids, (size_t)job->request.count * sizeof *s->ids);
        eq_generation_cut(&e->generation, i, cached);
        job->event.cached_tokens = cached;
        job->first_step = eq_seconds();
    }
}

/* ---- tokens -------------------------------------------------------------------------------- */

static bool is_end(const eq_engine *e, const eq_job *job)
{
    for (int64_t i = 0; i < e->model.end_count; i++)
        if (e->ends[i] == job->event.token) return true;
    return eq_job_ends(job);
}

static void note_time(eq_job *job)
{
    double now = eq_seconds();
    if (!job->first_token) {
        job->first_token = now;
        job->event.prompt_seconds = now - job->first_step;
    }
    job->event.generation_seconds = now - job->first_token;
}

/* Put the text of a token that was drawn in the event; why it is the last one, if it is. */
static eq_status add_token(eq_ctx *ctx, eq_engine *e, eq_job *job, eq_finish *finish)
{
    eq_event *event = &job->event;
    const eq_tokenizer *tok = e->model.tokenizer;
    size_t size = 0;
    bool last = is_end(e, job);
    bool shown = tok && !last && !eq_tokenizer_is_special(tok, event->token);
    const char *bytes = shown ? eq_tokenizer_piece(tok, event->token, &size) : "";
    eq_status st = eq_text_stream_push(ctx, &job->text, bytes, size);
    event->text = job->text.text;
    event->size = job->text.ready;
    event->new_tokens++;
    note_time(job);
    int64_t total = event->prompt_tokens + event->new_tokens;
    if (last || job->text.stopped)
        *finish = EQ_FINISH_STOP;
    else if (event->new_tokens == job->request.options.max_tokens || total == e->context)
        *finish = EQ_FINISH_LENGTH;
    return st;
}

/* Slot i has drawn a token: text, and perhaps the end. */
static eq_status take_token(eq_ctx *ctx, eq_engine *e, int64_t i)
{
    eq_slot *s = &e->slot[i];
    eq_job *job = s->job;
    eq_finish finish = EQ_FINISH_NONE;
    s->served = e->steps;
    if (job->event.token >= 0) {
        eq_status st = add_token(ctx, e, job, &finish);
        if (st != EQ_OK) return st;
        s->ids[job->event.prompt_tokens + job->event.new_tokens - 1] = job->event.token;
    } else {
        finish = EQ_FINISH_FAILED;
        eq_generation_cut(&e->generation, i, 0);
    }
    if (finish == EQ_FINISH_NONE) return EQ_OK;
    s->job = NULL;
    return end(ctx, e, job, finish);
}

/* Whether the prompt of a slot is in the cache, so that its last token has made the next one. */
static bool is_read(const eq_engine *e, int64_t i)
{
    return e->slot[i].job && e->slot[i].job->event.new_tokens > 0;
}

static void draw(eq_engine *e, const eq_kernels *kernels, eq_slot *s, int64_t row)
{
    int64_t V = e->model.decoder->config.V;
    eq_job_draw(s->job, kernels, e->generation.logits + row * V, V, s->raw, s->ranks);
}

/* A token for every text whose prompt was read. */
static eq_status speak(eq_ctx *ctx, eq_engine *e)
{
    int64_t n = 0;
    for (int64_t i = 0; i < e->slots; i++) {
        if (!is_read(e, i)) continue;
        int32_t token = e->slot[i].ids[e->generation.lengths[i]];
        e->sequences[n] = i;
        e->next[n++] = token;
    }
    if (!n) return EQ_OK;
    eq_status st = eq_generation_step(ctx, &e->generation, e->sequences, e->next, n);
    if (st != EQ_OK) return st;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t row = 0; row < n; row++)
        draw(e, ctx->kernels, &e->slot[e->sequences[row]], row);
    for (int64_t row = 0; st == EQ_OK && row < n; row++)
        st = take_token(ctx, e, e->sequences[row]);
    return st;
}

/* The slot whose prompt waits for the longest, -1 when none waits that was not served in this
 * step. Long prompts take turns with those that come later. */
static int64_t next_reader(const eq_engine *e)
{
    int64_t best = -1;
    for (int64_t i = 0; i < e->slots; i++) {
        const eq_slot *s = &e->slot[i], *other = &e->slot[best < 0 ? i : best];
        if (!s->job || is_read(e, i) || s->served == e->steps) continue;
        bool sooner = s->served < other->served ||
                      (s->served == other->served && s->job->id < other->job->id);
        if (best < 0 || sooner) best = i;
    }
    return best;
}

/* Pieces of prompts, a chunk in all. Each is read by itself, so that it does not matter which
 * others wait. */
static eq_status read_prompts(eq_ctx *ctx, eq_engine *e)
{
    int64_t left = e->chunk, i;
    eq_status st = EQ_OK;
    while (st == EQ_OK && (i = next_reader(e)) >= 0) {
        eq_slot *s = &e->slot[i];
        int64_t length = e->generation.lengths[i], count = s->job->request.count - length;
        bool last = count <= e->chunk;
        if (!last) count = e->chunk;
        if (count > left) break;
        left -= count;
        st = eq_generation_read(ctx, &e->generation, i, s->ids + length, count, last);
        s->served = e->steps;
        if (st != EQ_OK || !last) continue;
        draw(e, ctx->kernels, s, 0);
        st = take_token(ctx, e, i);
    }
    return st;
}

eq_status eq_engine_step(eq_ctx *ctx, eq_engine *e)
{
    e->steps++;
    forget_events(e);
    eq_status st = end_cancelled(ctx, e);
    if (st == EQ_OK) st = eq_check_interrupt(ctx);
    admit(e);
    if (st == EQ_OK) st = speak(ctx, e);
    return st == EQ_OK ? read_prompts(ctx, e) : st;
}

bool eq_engine_poll(eq_engine *e, eq_event *event)
{
    while (e->polled < e->slots) {
        const eq_job *job = e->slot[e->polled++].job;
        if (!job || job->event.token < 0) continue;
        *event = job->event;
        return true;
    }
    eq_job *job = eq_jobs_take(&e->ended);
    if (!job) return false;
    append(&e->done, job);
    *event = job->event;
    return true;
}
