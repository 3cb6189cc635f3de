/* Requests and responses of OpenAI's interface, who may speak to the server, and the parser under
 * bodies with bytes changed at random. */
#include "app/serve/calls.h"
#include "app/serve/guard.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const eq_api_limits limits = {
    .model = "m", .slots = 4, .texts = 8, .context = 100, .vocabulary = 259, .chats = true};

/* Parse a body; gives the status of the error, 200 without one. */
static int parse(eq_api_request *r, eq_api_error *e, eq_api_kind kind, const char *body)
{
    return eq_api_parse(r, e, kind, body, strlen(body), &limits) ? 200 : e->status;
}

static void all_parameters(void **state)
{
    (void)state;
    eq_api_request r;
    eq_api_error e;
    assert_int_equal(parse(&r, &e, EQ_API_COMPLETION,
                           "{\"prompt\": [\"a\", \"b\"], \"max_tokens\": 7, \"temperature\": 0.5,"
                           "\"top_p\": 0.25, \"top_k\": 3, \"min_p\": 0.125, \"n\": 2,"
                           "\"repetition_penalty\": 2, \"seed\": -1, \"stop\": [\"x\", \"y\"],"
                           "\"logprobs\": 5, \"stream\": true, \"cache_prompt\": false,"
                           "\"stream_options\": {\"include_usage\": true}}"),
                     200);
    const eq_generate_options *o = &r.options;
    assert_int_equal(r.prompt_count, 2);
    assert_int_equal(r.max_tokens, 7);
    assert_true(o->temperature == 0.5 && o->top_p == 0.25 && o->min_p == 0.125);
    assert_true(o->repetition_penalty == 2 && o->top_k == 3 && r.n == 2);
    assert_true(o->seed == UINT64_MAX && r.seeded);
    assert_int_equal(r.stop_count, 2);
    assert_string_equal(r.stops[1], "y");
    assert_true(r.logprobs && r.top_logprobs == 5 && r.stream && r.stream_usage && r.fresh);
    json_decref(r.root); /* as when the prompts are made */
    r.root = NULL;
    assert_string_equal(r.stops[0], "x");
    eq_api_request_deinit(&r);
}

static void what_is_left_out(void **state)
{
    (void)state;
    eq_api_request r;
    eq_api_error e;
    assert_int_equal(parse(&r, &e, EQ_API_COMPLETION, "{\"prompt\": [1, 2, 3], \"seed\": null}"),
                     200);
    assert_true(r.options.temperature == 1 && r.options.top_p == 1 && r.options.min_p == 0);
    assert_true(!r.seeded && !r.fresh && !r.stream && !r.logprobs && r.n == 1);
    const eq_api_prompt prompt = {.count = 3}, longer = {.count = 90};
    assert_int_equal(eq_api_max_tokens(&r, &prompt, 100), 16);
    assert_int_equal(eq_api_max_tokens(&r, &longer, 100), 0);
    eq_api_request_deinit(&r);
}

static void messages_of_parts(void **state)
{
    (void)state;
    eq_api_request r;
    eq_api_error e;
    assert_int_equal(parse(&r, &e, EQ_API_CHAT,
                           "{\"messages\": [{\"role\": \"developer\", \"content\": []},"
                           "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
                           "\"a\"}, {\"type\": \"text\", \"text\": \"bc\"}]}]}"),
                     200);
    assert_int_equal(r.messages.n, 2);
    assert_string_equal(r.messages.roles[0], "system");
    assert_string_equal(r.messages.texts[0], "");
    assert_string_equal(r.messages.texts[1], "abc");
    eq_api_request_deinit(&r);
}

static void errors_name_the_parameter(void **state)
{
    (void)state;
    static const struct {
        const char *body, *param;
        int status;
    } cases[] = {{"{\"prompt\": \"a\", \"top_p\": 2}", "top_p", 400},
                 {"{\"prompt\": \"a\", \"tools\": [1]}", "tools", 400},
                 {"{\"prompt\": \"a\", \"no\": 1}", "no", 400},
                 {"{\"prompt\": \"a\", \"model\": \"x\"}", "model", 404},
                 {"{\"prompt\": [259]}", "prompt", 400},
                 {"{\"prompt\": [\"a\", \"a\", \"a\"], \"n\": 3}", "n", 400},
                 {"{}", "prompt", 400},
                 {"{\"prompt\": \"a\"", "", 400}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        eq_api_request r;
        eq_api_error e;
        assert_int_equal(parse(&r, &e, EQ_API_COMPLETION, cases[i].body), cases[i].status);
        assert_string_equal(e.param, cases[i].param);
        eq_api_request_deinit(&r);
    }
}

/* A message that is cut within a character is an error object all the same. */
static void errors_are_json(void **state)
{
    (void)state;
    eq_api_error e;
    eq_api_fail(&e, 400, "x", NULL, "no \xc3");
    json_t *json = eq_api_error_json(&e);
    const char *message =
        json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    assert_non_null(message);
    assert_string_equal(message, "no ?");
    json_decref(json);
}

static void pieces(void **state)
{
    (void)state;
    const eq_api_head head = {"id", 1, "m", EQ_API_CHAT};
    const eq_api_piece piece = {.index = 2, .text = "ab", .size = 2, .finish = EQ_FINISH_LENGTH};
    json_t *json = eq_api_chunk(&head, &piece, true), *choice, *delta;
    const char *reason;
    json_int_t index;
    assert_int_equal(json_unpack(json, "{s:[o]}", "choices", &choice), 0);
    assert_int_equal(json_unpack(choice, "{s:I, s:o, s:s}", "index", &index, "delta", &delta,
                                 "finish_reason", &reason),
                     0);
    assert_int_equal(index, 2);
    assert_string_equal(reason, "length");
    assert_string_equal(json_string_value(json_object_get(delta, "content")), "ab");
    assert_true(json_is_null(json_object_get(json, "usage")));
    json_decref(json);
}

static void guards(void **state)
{
    (void)state;
    assert_true(eq_guard_token("Bearer abc", "abc") && eq_guard_token("bearer abc", "abc"));
    assert_false(eq_guard_token("Bearer abd", "abc") || eq_guard_token("Bearer ab", "abc"));
    assert_false(eq_guard_token("Bearer abcabc", "abc") || eq_guard_token("Bearer ", "abc"));
    assert_false(eq_guard_token(NULL, "abc") || eq_guard_token("abc", "abc"));
    assert_true(eq_guard_host("localhost:80") && eq_guard_host("127.0.0.1"));
    assert_true(eq_guard_host("[::1]:80") && eq_guard_host("[fe80::1]") && eq_guard_host(NULL));
    assert_false(eq_guard_host("a.example") || eq_guard_host("127.0.0.1.example"));
    assert_false(eq_guard_host("[::1") || eq_guard_host("[::1]x") || eq_guard_host(""));
    assert_false(eq_guard_host("localhost:80x") || eq_guard_host("[localhost]"));
    assert_true(eq_guard_json("application/json; charset=utf-8"));
    assert_false(eq_guard_json("application/jsonx") || eq_guard_json("text/plain"));
    assert_false(eq_guard_json(NULL) || eq_guard_json(""));
}

/* Change a few bytes of text [size], room for some more; gives the new size. */
static size_t mutate(char *text, size_t size, eq_rng *rng)
{
    static const char bytes[] = "\"{}[],:0123456789.-+eEtrufalsn\\\xff\x80\xc3 ";
    for (uint64_t k = 1 + eq_rng_next(rng) % 4; k > 0 && size > 12; k--) {
        size_t at = eq_rng_next(rng) % (size - 10), n = 1 + eq_rng_next(rng) % 9;
        size_t other = eq_rng_next(rng) % (size - 10);
        switch (eq_rng_next(rng) % 3) {
        case 0:
            text[at] = bytes[eq_rng_next(rng) % (sizeof bytes - 1)];
            break;
        case 1:
            memmove(text + at, text + at + n, size - at - n);
            size -= n;
            break;
        default:
            memmove(text + at, text + other, n);
        }
    }
    return size;
}

/* Every body is taken or refused with a message that is JSON; the sanitizers look for the rest. */
static void random_bodies(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"prompt\": [\"a\", \"b\"], \"max_tokens\": 7, \"temperature\": 0.5, \"stop\": [\"x\"],"
        "\"logit_bias\": {}, \"stream_options\": {\"include_usage\": true}, \"n\": 2, \"user\": 1}",
        "{\"prompt\": [[1, 2], [3]], \"echo\": false, \"suffix\": null, \"logprobs\": 3}",
        "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
        "\"content\": [{\"type\": \"text\", \"text\": \"a\"}]}], \"response_format\": {\"type\": "
        "\"text\"}, \"top_logprobs\": 2, \"logprobs\": true, \"tools\": []}"};
    eq_rng rng;
    int taken = 0, refused = 0;
    eq_rng_init(&rng, 1, 0);
    for (int i = 0; i < 30000; i++) {
        char text[512];
        eq_api_request r;
        eq_api_error e = {0};
        size_t size = strlen(bodies[i % 3]);
        memcpy(text, bodies[i % 3], size);
        size = mutate(text, size, &rng);
        eq_api_kind kind = i % 3 == 2 ? EQ_API_CHAT : EQ_API_COMPLETION;
        if (eq_api_parse(&r, &e, kind, text, size, &limits)) {
            taken++;
        } else {
            json_t *json = eq_api_error_json(&e);
            assert_non_null(json);
            assert_in_range(e.status, 400, 404);
            json_decref(json);
            refused++;
        }
        eq_api_request_deinit(&r);
    }
    assert_true(taken > 100 && refused > 5000); /* both kinds are met */
}

static void nothing(void *connection)
{
    ++*(int *)connection;
}

/* The queue: full, closed, and a connection that waits is woken by what comes. */
static void the_queue(void **state)
{
    (void)state;
    eq_calls calls;
    eq_api_request r;
    eq_api_error e;
    char out[64];
    bool done;
    int suspended_and_woken = 0;
    assert_int_equal(eq_calls_init(&calls, 2), EQ_OK);
    calls.suspend = calls.wake = nothing;
    assert_int_equal(parse(&r, &e, EQ_API_COMPLETION, "{\"prompt\": [1], \"n\": 2}"), 200);
    eq_call *call = eq_call_new(&r);
    assert_true(eq_calls_put(&calls, call, &e));
    assert_int_equal(parse(&r, &e, EQ_API_COMPLETION, "{\"prompt\": [1]}"), 200);
    eq_call *second = eq_call_new(&r);
    assert_false(eq_calls_put(&calls, second, &e));
    assert_int_equal(e.status, 429);
    assert_int_equal(eq_call_status(&calls, call, &suspended_and_woken), 0);
    assert_ptr_equal(eq_calls_take(&calls, 0), call);
    assert_null(eq_calls_take(&calls, 0.001));
    eq_call_begin(&calls, call);
    assert_int_equal(suspended_and_woken, 2);
    assert_int_equal(eq_call_status(&calls, call, &suspended_and_woken), 200);
    eq_call_send(&calls, call, json_pack("{s:i}", "a", 1));
    assert_int_equal(eq_call_read(&calls, call, &suspended_and_woken, 0, out, sizeof out, &done),
                     15);
    assert_memory_equal(out, "data: {\"a\":1}\n\n", 15);
    eq_call_finish(&calls, call);
    assert_int_equal(eq_call_read(&calls, call, NULL, 15, out, sizeof out, &done), 14);
    assert_int_equal(eq_call_read(&calls, call, NULL, 29, out, sizeof out, &done), -1);
    eq_call_release(&calls, call);
    eq_call_leave(&calls, call);
    assert_null(eq_calls_close(&calls));
    assert_false(eq_calls_put(&calls, second, &e));
    assert_int_equal(e.status, 503);
    eq_call_leave(&calls, second);
    eq_calls_deinit(&calls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_parameters),
                                       cmocka_unit_test(what_is_left_out),
                                       cmocka_unit_test(messages_of_parts),
                                       cmocka_unit_test(errors_name_the_parameter),
                                       cmocka_unit_test(errors_are_json),
                                       cmocka_unit_test(pieces),
                                       cmocka_unit_test(guards),
                                       cmocka_unit_test(random_bodies),
                                       cmocka_unit_test(the_queue)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
