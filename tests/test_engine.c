#include "infer/engine.h"

#include "infer/text_stream.h"
#include "kernels/gemm.h"
#include "support_model.h"
#include "support_numbers.h"
#include "support_vocab.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { V = MODEL_VOCABULARY, CONTEXT = MODEL_CONTEXT, REQUESTS = 7, TEXT = 2048 };

typedef struct fixture {
    eq_ctx ctx;
    small_model model;
    small_vocab vocab;
    eq_tokenizer *tok; /* tokens are bytes, but for the last one, "he" */
    int32_t ids[CONTEXT];
} fixture;

/* What a request gave. */
typedef struct answer {
    int32_t ids[CONTEXT];
    float logprobs[CONTEXT];
    char text[TEXT];
    size_t size;
    eq_event last;
} answer;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    context_init(&f->ctx, 2);
    small_model_open(&f->ctx, &f->model, false);
    small_vocab_init(&f->vocab);
    assert_int_equal(eq_tokenizer_from_vocab(&f->ctx, &f->tok, &f->vocab.vocab), EQ_OK);
    for (int i = 0; i < CONTEXT; i++)
        f->ids[i] = (i * i + 31 * i + 7) % V;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    eq_tokenizer_free(f->tok);
    small_model_close(&f->model);
    context_deinit(&f->ctx);
    free(f);
    return 0;
}

static const eq_engine_options F32 = {.slots = 1, .precision = EQ_PRECISION_F32};

static eq_status open_engine(fixture *f, eq_engine **engine, const eq_engine_options *options)
{
    const eq_engine_model model = {.decoder = f->model.decoder, .tokenizer = f->tok};
    return eq_engine_open(&f->ctx, engine, &model, options);
}

static eq_request greedy(const fixture *f, int64_t count, int64_t max_tokens)
{
    return (eq_request){.ids = f->ids,
                        .count = count,
                        .options = {.max_tokens = max_tokens, .repetition_penalty = 1, .top_p = 1}};
}

/* Requests of several kinds; prompts end on both sides of chunks of 32. */
static eq_request request_number(const fixture *f, int i)
{
    static const int64_t counts[REQUESTS] = {1, 70, 5, 32, 33, 96, 17};
    eq_request r = greedy(f, counts[i], 8 + i);
    r.ids = f->ids + i;
    if (i % 3) r.options.temperature = 0.5 + 0.1 * i;
    if (i % 3 == 2) r.options.top_p = 0.9;
    if (i % 2) r.options.repetition_penalty = 1.3;
    if (i == 4) r.options.min_p = 0.1;
    r.options.seed = (uint64_t)i;
    r.top_logprobs = i;
    r.fresh = true;
    return r;
}

static void take_events(eq_engine *engine, answer *answers)
{
    eq_event event;
    while (eq_engine_poll(engine, &event)) {
        answer *a = &answers[event.request - 1];
        assert_int_equal(a->last.finish, EQ_FINISH_NONE); /* nothing after the end */
        if (event.token >= 0) {
            a->ids[event.new_tokens - 1] = event.token;
            a->logprobs[event.new_tokens - 1] = event.logprob;
        }
        assert_true(a->size + event.size < TEXT);
        if (event.size) memcpy(a->text + a->size, event.text, event.size);
        a->size += event.size;
        a->last = event;
    }
}

/* Run until nothing is pending; answers by number. */
static void finish_all(fixture *f, eq_engine *engine, answer *answers)
{
    while (eq_engine_pending(engine)) {
        assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK);
        take_events(engine, answers);
    }
    assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK); /* idle */
    take_events(engine, answers);
}

/* One request on an engine of its own. */
static void ask(fixture *f, const eq_engine_options *options, const eq_request *r, answer *a)
{
    eq_engine *engine;
    int64_t id = 0;
    memset(a, 0, sizeof *a);
    assert_int_equal(open_engine(f, &engine, options), EQ_OK);
    assert_int_equal(eq_engine_submit(&f->ctx, engine, r, &id), EQ_OK);
    assert_int_equal(id, 1);
    finish_all(f, engine, a);
    assert_int_not_equal(a->last.finish, EQ_FINISH_NONE);
    eq_engine_free(engine);
}

static bool same(const answer *a, const answer *b)
{
    size_t n = (size_t)a->last.new_tokens;
    return a->last.new_tokens == b->last.new_tokens && a->last.finish == b->last.finish &&
           !memcmp(a->ids, b->ids, n * sizeof *a->ids) &&
           !memcmp(a->logprobs, b->logprobs, n * sizeof *a->logprobs) && a->size == b->size &&
           !memcmp(a->text, b->text, a->size);
}

/* ---- what runs beside does not matter ------------------------------------------------------ */

/* All requests on one engine, some of them submitted while others run. */
static void ask_all(fixture *f, const eq_engine_options *options, answer *answers)
{
    eq_engine *engine;
    int64_t id;
    memset(answers, 0, REQUESTS * sizeof *answers);
    assert_int_equal(open_engine(f, &engine, options), EQ_OK);
    for (int i = 0; i < REQUESTS; i++) {
        const eq_request r = request_number(f, i);
        assert_int_equal(eq_engine_submit(&f->ctx, engine, &r, &id), EQ_OK);
        for (int k = 0; k < i % 4; k++) {
            assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK);
            take_events(engine, answers);
        }
    }
    finish_all(f, engine, answers);
    eq_engine_free(engine);
}

static void compare_company(fixture *f, int64_t slots, eq_precision precision, int kv_bits,
                            answer *alone)
{
    const eq_engine_options o = {
        .slots = slots, .chunk = 32, .precision = precision, .kv_bits = kv_bits};
    answer *all = calloc(REQUESTS, sizeof *all);
    assert_non_null(all);
    for (int i = 0; i < REQUESTS; i++) {
        const eq_request r = request_number(f, i);
        ask(f, &o, &r, &alone[i]);
        assert_int_equal(alone[i].last.new_tokens, 8 + i);
    }
    for (int threads = 1; threads <= 3; threads += 2) {
        context_deinit(&f->ctx);
        f->ctx.threads = threads;
        ask_all(f, &o, all);
        for (int i = 0; i < REQUESTS; i++)
            assert_true(same(&all[i], &alone[i]));
    }
    context_deinit(&f->ctx);
    f->ctx.threads = 2;
    assert_false(same(&all[1], &alone[2]));
    free(all);
}

static void company_does_not_matter(void **state)
{
    fixture *f = *state;
    const int64_t slots[] = {1, 4, 6};
    answer *alone = calloc(2 * REQUESTS, sizeof *alone);
    assert_non_null(alone);
    for (int i = 0; i < 3; i++) {
        compare_company(f, slots[i], EQ_PRECISION_F32, 16, alone);
        if (i == 0) memcpy(alone + REQUESTS, alone, REQUESTS * sizeof *alone);
        for (int k = 0; slots[i] <= 4 && k < REQUESTS; k++) /* nor does the number of slots */
            assert_true(same(&alone[k], &alone[REQUESTS + k]));
        if (i == 2 && eq_gemm_has_bf16(&f->ctx))
            compare_company(f, slots[i], EQ_PRECISION_BF16, 16, alone);
    }
    free(alone);
}

/* Nor when keys and values are packed, which other texts have been in the slots before. */
static void company_does_not_matter_packed(void **state)
{
    fixture *f = *state;
    answer *alone = calloc(2 * REQUESTS, sizeof *alone);
    assert_non_null(alone);
    compare_company(f, 4, EQ_PRECISION_F32, 8, alone);
    compare_company(f, 6, EQ_PRECISION_F32, 4, alone + REQUESTS);
    assert_false(same(&alone[REQUESTS - 1], &alone[2 * REQUESTS - 1]));
    free(alone);
}

/* ---- tokens -------------------------------------------------------------------------------- */

/* Logits of what follows ids [n], from one pass over all of them. */
static void full_logits(fixture *f, float *logits, const int32_t *ids, int64_t n)
{
    eq_decoder_pass pass;
    assert_int_equal(eq_decoder_pass_init(&f->ctx, &pass, f->model.decoder, 1, n, EQ_F32), EQ_OK);
    assert_int_equal(eq_decoder_forward(&f->ctx, f->model.decoder, &pass, ids), EQ_OK);
    eq_decoder_logits(&f->ctx, f->model.decoder, &pass, n - 1, 1);
    memcpy(logits, pass.logits, V * sizeof *logits);
    eq_decoder_pass_deinit(&pass);
}

static void greedy_is_the_argmax_of_full_passes(void **state)
{
    enum { PROMPT = 6, NEW = 30 };
    fixture *f = *state;
    const eq_request r = greedy(f, PROMPT, NEW);
    answer a;
    int32_t ids[PROMPT + NEW];
    ask(f, &F32, &r, &a);
    assert_int_equal(a.last.new_tokens, NEW);
    assert_int_equal(a.last.finish, EQ_FINISH_LENGTH);
    memcpy(ids, f->ids, PROMPT * sizeof *ids);
    memcpy(ids + PROMPT, a.ids, NEW * sizeof *ids);
    for (int n = 0; n < NEW; n++) {
        float logits[V];
        int64_t best = 0;
        full_logits(f, logits, ids, PROMPT + n);
        float total = f->ctx.kernels->logsumexp(logits, V, &best);
        assert_int_equal(a.ids[n], best);
        assert_true(fabsf(a.logprobs[n] - (logits[best] - total)) < 1e-4f);
    }
}

/* Tokens of an answer that stand before, in the prompt or the answer. */
static int repetitions(const fixture *f, int64_t prompt, const answer *a)
{
    int count = 0;
    for (int64_t i = 0; i < a->last.new_tokens; i++) {
        bool there = false;
        for (int64_t k = 0; k < i; k++)
            there = there || a->ids[i] == a->ids[k];
        for (int64_t k = 0; k < prompt; k++)
            there = there || a->ids[i] == f->ids[k];
        count += there;
    }
    return count;
}

/* About half of the 257 logits are above 0 at first: penalties of 100 and 0.01 decide. */
static void penalty_of_repetition(void **state)
{
    fixture *f = *state;
    eq_request r = greedy(f, 20, 20);
    answer a;
    r.options.repetition_penalty = 100;
    ask(f, &F32, &r, &a);
    assert_int_equal(repetitions(f, 20, &a), 0);
    r.options.repetition_penalty = 0.01;
    ask(f, &F32, &r, &a);
    assert_int_equal(repetitions(f, 20, &a), 20);
}

static void likely_tokens(void **state)
{
    fixture *f = *state;
    eq_request r = greedy(f, 6, 1);
    float logits[V];
    int64_t unused, id;
    eq_engine *engine;
    eq_event event;
    r.top_logprobs = 20;
    r.options.temperature = 3; /* probabilities are the model's all the same */
    full_logits(f, logits, f->ids, 6);
    float total = f->ctx.kernels->logsumexp(logits, V, &unused);
    assert_int_equal(open_engine(f, &engine, &F32), EQ_OK);
    assert_int_equal(eq_engine_submit(&f->ctx, engine, &r, &id), EQ_OK);
    assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK);
    assert_true(eq_engine_poll(engine, &event));
    assert_int_equal(event.top_count, 20);
    assert_true(fabsf(event.logprob - (logits[event.token] - total)) < 1e-4f);
    for (int i = 0; i < 20; i++) {
        int higher = 0;
        for (int k = 0; k < V; k++)
            higher += logits[k] > logits[event.top[i].token];
        assert_int_equal(higher, i);
        assert_true(fabsf(event.top[i].logprob - (logits[event.top[i].token] - total)) < 1e-4f);
    }
    eq_engine_free(engine);
}

static void end_tokens(void **state)
{
    fixture *f = *state;
    eq_request r = greedy(f, 6, 30);
    answer all, a;
    ask(f, &F32, &r, &all);
    int first = 0; /* where the token of place 9 comes first */
    while (all.ids[first] != all.ids[9])
        first++;
    r.ends = &all.ids[9];
    r.end_count = 1;
    ask(f, &F32, &r, &a);
    assert_int_equal(a.last.finish, EQ_FINISH_STOP);
    assert_int_equal(a.last.new_tokens, first + 1);
    r.end_count = 0;
    const eq_engine_model model = {f->model.decoder, f->tok, &all.ids[9], 1};
    eq_engine *engine;
    int64_t id;
    memset(&a, 0, sizeof a);
    assert_int_equal(eq_engine_open(&f->ctx, &engine, &model, &F32), EQ_OK);
    assert_int_equal(eq_engine_submit(&f->ctx, engine, &r, &id), EQ_OK);
    finish_all(f, engine, &a);
    assert_int_equal(a.last.finish, EQ_FINISH_STOP);
    assert_int_equal(a.last.new_tokens, first + 1);
    eq_engine_free(engine);
}

/* ---- text ---------------------------------------------------------------------------------- */

static eq_request chatter(const fixture *f)
{
    eq_request r = greedy(f, 6, 120);
    r.options.temperature = 1;
    r.options.seed = 5;
    return r;
}

/* Characters that are cut by the ends of tokens come out as if all bytes had come at once. */
static void text_is_that_of_the_tokens(void **state)
{
    fixture *f = *state;
    const eq_request r = chatter(f);
    eq_text_stream stream = {0};
    answer a;
    char *bytes;
    size_t n;
    ask(f, &F32, &r, &a);
    assert_int_equal(
        eq_tokenizer_decode(&f->ctx, f->tok, a.ids, a.last.new_tokens, true, &bytes, &n), EQ_OK);
    assert_int_equal(eq_text_stream_push(&f->ctx, &stream, bytes, n), EQ_OK);
    assert_int_equal(eq_text_stream_end(&f->ctx, &stream), EQ_OK);
    assert_int_equal(a.size, stream.ready);
    assert_memory_equal(a.text, stream.text, stream.ready);
    assert_true(a.size >= (size_t)a.last.new_tokens);
    eq_text_stream_deinit(&stream);
    eq_free(bytes);
}

static void stop_strings(void **state)
{
    fixture *f = *state;
    eq_request r = chatter(f);
    answer all, a;
    ask(f, &F32, &r, &all);
    for (size_t length = 1; length <= 5; length += 2) { /* tokens have one byte or two */
        char stop[8] = "";
        memcpy(stop, all.text + 40, length);
        const char *stops[] = {"never there", stop};
        char text[TEXT] = "";
        memcpy(text, all.text, all.size);
        const size_t before = (size_t)(strstr(text, stop) - text);
        r.stops = stops;
        r.stop_count = 2;
        ask(f, &F32, &r, &a);
        assert_int_equal(a.last.finish, EQ_FINISH_STOP);
        assert_int_equal(a.size, before);
        assert_memory_equal(a.text, all.text, before);
        r.stop_count = 1;
        ask(f, &F32, &r, &a);
        assert_true(same(&a, &all));
    }
}

/* ---- the cache ----------------------------------------------------------------------------- */

static void prompts_that_continue(void **state)
{
    enum { PROMPT = 40, NEW = 10, MORE = 20 };
    fixture *f = *state;
    int32_t ids[PROMPT + NEW + MORE];
    eq_request r = greedy(f, PROMPT, NEW);
    answer first, fresh, answers[4] = {{.size = 0}};
    eq_engine *engine;
    int64_t id;
    const eq_engine_options two = {.slots = 2, .precision = EQ_PRECISION_F32};
    ask(f, &two, &r, &first);
    memcpy(ids, f->ids, PROMPT * sizeof *ids);
    memcpy(ids + PROMPT, first.ids, NEW * sizeof *ids);
    memcpy(ids + PROMPT + NEW, f->ids + 80, MORE * sizeof *ids);
    eq_request next = r, other = r;
    next.ids = ids;
    next.count = PROMPT + NEW + MORE;
    other.ids = f->ids + 1;
    ask(f, &two, &next, &fresh);
    assert_int_equal(open_engine(f, &engine, &two), EQ_OK);
    const eq_request *const order[] = {&r, &other, &next, &r};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(eq_engine_submit(&f->ctx, engine, order[i], &id), EQ_OK);
        finish_all(f, engine, answers);
    }
    assert_int_equal(answers[0].last.cached_tokens, 0);
    assert_int_equal(answers[1].last.cached_tokens, 0);                /* in the other slot */
    assert_int_equal(answers[2].last.cached_tokens, PROMPT + NEW - 1); /* the last was not fed */
    assert_int_equal(answers[3].last.cached_tokens, PROMPT - 1);       /* one must be read */
    for (int n = 0; n < NEW; n++)
        assert_true(fabsf(answers[2].logprobs[n] - fresh.logprobs[n]) < 1e-3f);
    next.fresh = true;
    assert_int_equal(eq_engine_submit(&f->ctx, engine, &next, &id), EQ_OK);
    memset(answers, 0, sizeof answers);
    while (eq_engine_pending(engine)) {
        eq_event event;
        assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK);
        while (eq_engine_poll(engine, &event)) {
            assert_int_equal(event.request, 5);
            assert_int_equal(event.cached_tokens, 0);
            assert_int_equal(event.token, fresh.ids[event.new_tokens - 1]);
            assert_true(event.logprob == fresh.logprobs[event.new_tokens - 1]);
        }
    }
    eq_engine_free(engine);
}

static void the_whole_context_can_be_used(void **state)
{
    fixture *f = *state;
    eq_request r = greedy(f, 40, 0);
    answer a;
    ask(f, &F32, &r, &a);
    assert_int_equal(a.last.finish, EQ_FINISH_LENGTH);
    assert_int_equal(a.last.new_tokens, CONTEXT - 40);
    r = greedy(f, CONTEXT - 1, 1);
    ask(f, &F32, &r, &a);
    assert_int_equal(a.last.new_tokens, 1);
    const eq_engine_options small = {.slots = 1, .context = 50, .precision = EQ_PRECISION_F32};
    r = greedy(f, 40, 0);
    ask(f, &small, &r, &a);
    assert_int_equal(a.last.new_tokens, 10);
}

/* ---- ends before the end ------------------------------------------------------------------- */

static void cancelled(void **state)
{
    fixture *f = *state;
    const eq_engine_options one = {.slots = 1, .chunk = 16, .precision = EQ_PRECISION_F32};
    const eq_request r = greedy(f, 40, 30);
    answer alone, answers[4] = {{.size = 0}};
    eq_engine *engine;
    int64_t id;
    ask(f, &one, &r, &alone);
    assert_int_equal(open_engine(f, &engine, &one), EQ_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(eq_engine_submit(&f->ctx, engine, &r, &id), EQ_OK);
    assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK); /* within the first prompt */
    eq_engine_cancel(engine, 1);
    eq_engine_cancel(engine, 3); /* waits */
    assert_int_equal(eq_engine_pending(engine), 4);
    for (int k = 0; k < 8; k++) {
        assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK);
        take_events(engine, answers);
    }
    assert_int_equal(eq_engine_pending(engine), 2);
    assert_int_equal(answers[0].last.finish, EQ_FINISH_CANCELLED);
    assert_int_equal(answers[0].last.new_tokens, 0);
    assert_int_equal(answers[2].last.finish, EQ_FINISH_CANCELLED);
    assert_in_range(answers[1].last.new_tokens, 1, 29);
    eq_engine_cancel(engine, 2);
    eq_engine_cancel(engine, 99);
    finish_all(f, engine, answers);
    assert_int_equal(answers[1].last.finish, EQ_FINISH_CANCELLED);
    eq_engine_cancel(engine, 4);
    assert_true(same(&answers[3], &alone));
    eq_engine_free(engine);
}

/* The text held back for a stop string comes with the end, once. */
static void cancelled_text(void **state)
{
    fixture *f = *state;
    eq_request r = chatter(f);
    answer all, a = {.size = 0};
    eq_engine *engine;
    int64_t id;
    ask(f, &F32, &r, &all);
    char stop[16] = {0};
    memcpy(stop, all.text + 20, 8);
    stop[8] = '~'; /* so that it never comes, but its beginning does */
    const char *stops[] = {stop};
    r.stops = stops;
    r.stop_count = 1;
    assert_int_equal(open_engine(f, &engine, &F32), EQ_OK);
    assert_int_equal(eq_engine_submit(&f->ctx, engine, &r, &id), EQ_OK);
    while (a.size < 20) {
        assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK);
        take_events(engine, &a);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK);
        take_events(engine, &a);
    }
    eq_engine_cancel(engine, id);
    finish_all(f, engine, &a);
    assert_int_equal(a.last.finish, EQ_FINISH_CANCELLED);
    assert_true(a.size > 20);
    assert_memory_equal(a.text, all.text, a.size);
    eq_engine_free(engine);
}

static bool stop_at_once(void *user)
{
    (void)user;
    return true;
}

static void interrupted(void **state)
{
    fixture *f = *state;
    const eq_request r = greedy(f, 40, 10);
    answer alone, a = {.size = 0};
    eq_engine *engine;
    int64_t id;
    ask(f, &F32, &r, &alone);
    assert_int_equal(open_engine(f, &engine, &F32), EQ_OK);
    assert_int_equal(eq_engine_submit(&f->ctx, engine, &r, &id), EQ_OK);
    for (int i = 0; i < 5; i++) {
        f->ctx.callbacks.should_stop = stop_at_once;
        assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_EINTERRUPTED);
        f->ctx.callbacks.should_stop = NULL;
        eq_ctx_clear(&f->ctx);
        take_events(engine, &a);
        assert_int_equal(eq_engine_step(&f->ctx, engine), EQ_OK);
        take_events(engine, &a);
    }
    finish_all(f, engine, &a);
    assert_true(same(&a, &alone));
    eq_engine_free(engine);
}

static void spoiled_weights(void **state)
{
    fixture *f = *state;
    small_model spoiled, sound = f->model;
    const eq_request r = greedy(f, 6, 5);
    answer a;
    small_model_open(&f->ctx, &spoiled, true);
    f->model = spoiled;
    ask(f, &F32, &r, &a);
    assert_int_equal(a.last.finish, EQ_FINISH_FAILED);
    assert_int_equal(a.last.new_tokens, 0);
    assert_int_equal(eq_ctx_status(&f->ctx), EQ_OK);
    f->model = sound;
    small_model_close(&spoiled);
}

/* ---- refusals ------------------------------------------------------------------------------ */

static void expect_refusal(fixture *f, eq_engine *engine, const eq_request *r, const char *words)
{
    int64_t id = 7;
    assert_int_equal(eq_engine_submit(&f->ctx, engine, r, &id), EQ_EINVAL);
    if (!strstr(f->ctx.message, words)) fail_msg("'%s' has no '%s'", f->ctx.message, words);
    assert_int_equal(id, 7);
    eq_ctx_clear(&f->ctx);
}

static void refused_requests(void **state)
{
    fixture *f = *state;
    const struct {
        eq_generate_options options;
        const char *words;
    } bad[] = {{{-1, 1, 0, 0, 1, 0, 0, 0, 0, 0}, "max tokens is -1"},
               {{156, 1, 0, 0, 1, 0, 0, 0, 0, 0}, "the model's context of 160"},
               {{INT64_MAX, 1, 0, 0, 1, 0, 0, 0, 0, 0}, "context of 160"},
               {{5, 1, NAN, 0, 1, 0, 0, 0, 0, 0}, "temperature"},
               {{5, 1, -1, 0, 1, 0, 0, 0, 0, 0}, "temperature"},
               {{5, 1, 0, -1, 1, 0, 0, 0, 0, 0}, "top-k is -1"},
               {{5, 1, 0, 0, 0, 0, 0, 0, 0, 0}, "top-p is 0"},
               {{5, 1, 0, 0, 1, 1.5, 0, 0, 0, 0}, "min-p is 1.5"},
               {{5, 0, 0, 0, 1, 0, 0, 0, 0, 0}, "repetition penalty is 0"}};
    eq_engine *engine;
    assert_int_equal(open_engine(f, &engine, &F32), EQ_OK);
    eq_request r = greedy(f, 5, 5);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r.options = bad[i].options;
        expect_refusal(f, engine, &r, bad[i].words);
    }
    r = greedy(f, 0, 5);
    expect_refusal(f, engine, &r, "no tokens");
    r = greedy(f, CONTEXT, 0);
    expect_refusal(f, engine, &r, "160 tokens of prompt and 1 new ones");
    r = greedy(f, 5, 5);
    r.top_logprobs = 21;
    expect_refusal(f, engine, &r, "top logprobs is 21");
    const char *stops[] = {"a", ""};
    r = greedy(f, 5, 5);
    r.stops = stops;
    r.stop_count = 2;
    expect_refusal(f, engine, &r, "stop string is empty");
    const int32_t ids[] = {1, V};
    r = greedy(f, 2, 5);
    r.ids = ids;
    expect_refusal(f, engine, &r, "token 1 is 257");
    assert_int_equal(eq_engine_pending(engine), 0);
    eq_engine_free(engine);
}

static void refused_engines(void **state)
{
    fixture *f = *state;
    const eq_engine_options bad[] = {{.slots = 0},
                                     {.slots = 1, .context = CONTEXT + 1},
                                     {.slots = 1, .context = 1},
                                     {.slots = 1, .chunk = -1}};
    const char *const words[] = {"0 slots", "161 tokens", "1 tokens", "chunks of -1"};
    eq_engine *engine;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(open_engine(f, &engine, &bad[i]), EQ_EINVAL);
        assert_non_null(strstr(f->ctx.message, words[i]));
        assert_null(engine);
        eq_ctx_clear(&f->ctx);
    }
}

/* The message says what fits, and that does, but no more. */
static void memory_is_planned(void **state)
{
    fixture *f = *state;
    eq_engine_options o = {.slots = 2, .precision = EQ_PRECISION_F32};
    eq_engine *engine = NULL;
    assert_int_equal(open_engine(f, &engine, &o), EQ_OK);
    assert_int_equal(eq_engine_context(engine), CONTEXT);
    o.memory = eq_engine_memory(engine); /* with less, weights are not copied */
    int opened = 0;
    for (eq_status st = EQ_OK; st == EQ_OK; st = open_engine(f, &engine, &o), opened++) {
        assert_true(eq_engine_memory(engine) <= o.memory);
        eq_engine_free(engine);
        o.memory -= o.memory / 8;
    }
    assert_true(opened > 1);
    const char *at = strstr(f->ctx.message, "enough for ");
    assert_non_null(at);
    o.context = strtoll(at + strlen("enough for "), NULL, 10);
    assert_in_range(o.context, 32, CONTEXT - 1);
    eq_ctx_clear(&f->ctx);
    assert_int_equal(open_engine(f, &engine, &o), EQ_OK);
    assert_true(eq_engine_memory(engine) <= o.memory);
    eq_engine_free(engine);
    o.context++;
    assert_int_equal(open_engine(f, &engine, &o), EQ_ENOMEM);
    eq_ctx_clear(&f->ctx);
}

static void packed_keys_take_less(void **state)
{
    fixture *f = *state;
    const int bits[] = {16, 8, 4};
    int64_t before = INT64_MAX;
    eq_engine *engine = NULL;
    for (int i = 0; i < 3; i++) {
        const eq_engine_options o = {.slots = 2, .precision = EQ_PRECISION_F32, .kv_bits = bits[i]};
        assert_int_equal(open_engine(f, &engine, &o), EQ_OK);
        assert_true(eq_engine_memory(engine) < before);
        before = eq_engine_memory(engine);
        eq_engine_free(engine);
    }
    const eq_engine_options o = {.slots = 2, .kv_bits = 5};
    assert_int_equal(open_engine(f, &engine, &o), EQ_EINVAL);
    assert_non_null(strstr(f->ctx.message, "5 bits, allowed are 16, 8 and 4"));
    assert_null(engine);
    eq_ctx_clear(&f->ctx);
}

static void memory_runs_out(void **state)
{
    fixture *f = *state;
    const char *stops[] = {"stop"};
    int failures = 0;
    for (;; failures++) {
        eq_request r = chatter(f);
        eq_engine *engine = NULL;
        int64_t id;
        r.stops = stops;
        r.stop_count = 1;
        r.options.max_tokens = 3;
        r.options.repetition_penalty = 2;
        context_deinit(&f->ctx);
        f->ctx.fail_allocation = f->ctx.allocations + failures + 1;
        eq_status st = open_engine(f, &engine, &F32);
        if (st == EQ_OK) st = eq_engine_submit(&f->ctx, engine, &r, &id);
        while (st == EQ_OK && eq_engine_pending(engine))
            st = eq_engine_step(&f->ctx, engine);
        eq_engine_free(engine);
        if (st == EQ_OK) break;
        assert_int_equal(st, EQ_ENOMEM);
        eq_ctx_clear(&f->ctx);
        assert_true(failures < 1000);
    }
    assert_true(failures > 5);
    f->ctx.fail_allocation = 0;
}

/* ---- eq_generate --------------------------------------------------------------------------- */

typedef struct tape {
    int32_t ids[CONTEXT];
    int count, stop_at; /* stop_at 0: never */
} tape;

static bool record(void *user, int32_t id)
{
    tape *t = user;
    t->ids[t->count++] = id;
    return t->count != t->stop_at;
}

static void generate(void **state)
{
    fixture *f = *state;
    eq_request r = greedy(f, 6, 12);
    eq_model *model;
    answer a;
    tape out = {0};
    r.options.precision = EQ_PRECISION_F32;
    ask(f, &F32, &r, &a);
    assert_int_equal(eq_model_open(&f->ctx, &model, f->model.folder), EQ_OK);
    assert_int_equal(eq_generate(&f->ctx, model, f->ids, 6, &r.options, record, &out), EQ_OK);
    assert_int_equal(out.count, 12);
    assert_memory_equal(out.ids, a.ids, 12 * sizeof *out.ids);
    out = (tape){.stop_at = 4};
    assert_int_equal(eq_generate(&f->ctx, model, f->ids, 6, &r.options, record, &out), EQ_OK);
    assert_int_equal(out.count, 4);
    r.options.max_tokens = 0;
    out = (tape){0};
    assert_int_equal(eq_generate(&f->ctx, model, f->ids, 6, &r.options, record, &out), EQ_OK);
    assert_int_equal(out.count, CONTEXT - 6);
    r.options.max_tokens = CONTEXT;
    assert_int_equal(eq_generate(&f->ctx, model, f->ids, 6, &r.options, record, &out), EQ_EINVAL);
    eq_ctx_clear(&f->ctx);
    eq_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_does_not_matter),
        cmocka_unit_test(company_does_not_matter_packed),
        cmocka_unit_test(greedy_is_the_argmax_of_full_passes),
        cmocka_unit_test(penalty_of_repetition),
        cmocka_unit_test(likely_tokens),
        cmocka_unit_test(end_tokens),
        cmocka_unit_test(text_is_that_of_the_tokens),
        cmocka_unit_test(stop_strings),
        cmocka_unit_test(prompts_that_continue),
        cmocka_unit_test(the_whole_context_can_be_used),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(cancelled_text),
        cmocka_unit_test(interrupted),
        cmocka_unit_test(spoiled_weights),
        cmocka_unit_test(refused_requests),
        cmocka_unit_test(refused_engines),
        cmocka_unit_test(memory_is_planned),
        cmocka_unit_test(packed_keys_take_less),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(generate),
    };
    return cmocka_run_group_tests_name("engine", tests, setup, teardown);
}
