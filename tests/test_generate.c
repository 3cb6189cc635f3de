#include "infer/generate.h"

#include "infer/generation.h"
#include "kernels/gemm.h"
#include "support_model.h"
#include "support_numbers.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { V = MODEL_VOCABULARY, LONG = 140 };

typedef struct fixture {
    eq_ctx ctx;
    small_model model;
    int32_t ids[LONG];
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    context_init(&f->ctx, 2);
    small_model_open(&f->ctx, &f->model, false);
    for (int i = 0; i < LONG; i++)
        f->ids[i] = (i * i + 31 * i + 7) % V;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    small_model_close(&f->model);
    context_deinit(&f->ctx);
    free(f);
    return 0;
}

/* Logits [LONG, V] of every position of f->ids from one pass over all of them; freed by the
 * caller. */
static float *full_logits(fixture *f, eq_dtype type)
{
    eq_decoder_pass pass;
    float *logits = malloc((size_t)LONG * V * sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(eq_decoder_pass_init(&f->ctx, &pass, f->model.decoder, 1, LONG, type), EQ_OK);
    assert_true(pass.slice >= LONG);
    assert_int_equal(eq_decoder_forward(&f->ctx, f->model.decoder, &pass, f->ids), EQ_OK);
    eq_decoder_logits(&f->ctx, f->model.decoder, &pass, 0, LONG);
    memcpy(logits, pass.logits, (size_t)LONG * V * sizeof *logits);
    eq_decoder_pass_deinit(&pass);
    return logits;
}

/* A prompt of n tokens, then one token after the other: every position's logits are those of the
 * full pass, within `bound` of a logit of size 1. The prompts end on both sides of the cache's
 * grain. */
static void compare_with_full(fixture *f, eq_dtype type, double bound)
{
    const int64_t prompts[] = {1, 5, 63, 64, 65};
    float *want = full_logits(f, type);
    for (int i = 0; i < 5; i++) {
        eq_generation g;
        const eq_generation_shape shape = {.B = 1, .room = LONG, .type = type};
        assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &shape), EQ_OK);
        assert_int_equal(eq_generation_prompt(&f->ctx, &g, f->ids, prompts[i]), EQ_OK);
        for (int64_t t = prompts[i]; t < LONG; t++) {
            assert_true(worst_error(g.logits, want + (t - 1) * V, V, bound, bound) <= 1);
            assert_int_equal(eq_generation_step(&f->ctx, &g, f->ids + t), EQ_OK);
        }
        assert_true(worst_error(g.logits, want + (LONG - 1) * V, V, bound, bound) <= 1);
        assert_false(worst_error(g.logits, want + (LONG - 2) * V, V, bound, bound) <= 1);
        eq_generation_deinit(&g);
    }
    free(want);
}

static void steps_equal_full_pass(void **state)
{
    compare_with_full(*state, EQ_F32, 1e-4);
}

/* bf16 has 8 bits: each of the two ways is off by about 3 blocks * 2^-8 or so. */
static void steps_equal_full_pass_bf16(void **state)
{
    fixture *f = *state;
    if (!eq_gemm_has_bf16(&f->ctx)) {
        print_message("no bf16 products on this CPU\n");
        skip();
    }
    compare_with_full(f, EQ_BF16, 0.1);
}

/* Sequence b of a batch: f->ids from 5 b on. */
static void batch_equals_single(void **state)
{
    enum { B = 7, T = 70 };
    fixture *f = *state;
    float *want = malloc((size_t)B * T * V * sizeof *want);
    assert_non_null(want);
    eq_generation g;
    for (int64_t b = 0; b < B; b++) {
        const eq_generation_shape one = {.B = 1, .room = T, .type = EQ_F32};
        assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &one), EQ_OK);
        for (int64_t t = 0; t < T; t++) {
            assert_int_equal(eq_generation_step(&f->ctx, &g, f->ids + 5 * b + t), EQ_OK);
            memcpy(want + (b * T + t) * V, g.logits, V * sizeof *want);
        }
        eq_generation_deinit(&g);
    }
    const eq_generation_shape all = {.B = B, .room = T, .type = EQ_F32};
    assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &all), EQ_OK);
    for (int pass = 0; pass < 2; pass++) { /* the second time over what the first left behind */
        eq_generation_rewind(&g);
        for (int64_t t = 0; t < T; t++) {
            int32_t tokens[B];
            for (int64_t b = 0; b < B; b++)
                tokens[b] = f->ids[5 * b + t];
            assert_int_equal(eq_generation_step(&f->ctx, &g, tokens), EQ_OK);
            for (int64_t b = 0; b < B; b++)
                assert_true(worst_error(g.logits + b * V, want + (b * T + t) * V, V, 1e-4, 1e-4) <=
                            1);
        }
    }
    eq_generation_deinit(&g);
    free(want);
}

/* The copies of the weights are the weights: the same bits in every way to keep them. */
static void compare_kinds(fixture *f, eq_dtype type, int64_t B)
{
    eq_generation g;
    float *stored = malloc((size_t)B * V * sizeof *stored);
    assert_non_null(stored);
    const eq_generation_shape shape = {.B = B, .room = 8, .type = type};
    const eq_dense_kind kinds[] = {EQ_DENSE_STORED, EQ_DENSE_ROWS, EQ_DENSE_PACKED};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &shape), EQ_OK);
        assert_non_null(g.weights.weights);
        eq_dense_deinit(&g.weights);
        assert_int_equal(eq_dense_init(&f->ctx, &g.weights, f->model.decoder, type, kinds[i]),
                         EQ_OK);
        for (int t = 0; t < 4; t++)
            assert_int_equal(eq_generation_step(&f->ctx, &g, f->ids + t), EQ_OK);
        if (i == 0) memcpy(stored, g.logits, (size_t)B * V * sizeof *stored);
        assert_memory_equal(g.logits, stored, (size_t)B * V * sizeof *stored);
        eq_generation_deinit(&g);
    }
    free(stored);
}

static void copies_change_nothing(void **state)
{
    const int64_t batches[] = {1, 3, 35};
    for (int i = 0; i < 3; i++) {
        compare_kinds(*state, EQ_F32, batches[i]);
        compare_kinds(*state, EQ_BF16, batches[i]);
    }
}

typedef struct tape {
    int32_t ids[LONG];
    int count, stop_at; /* stop_at 0: never */
} tape;

static bool record(void *user, int32_t id)
{
    tape *t = user;
    t->ids[t->count++] = id;
    return t->count != t->stop_at;
}

static eq_generate_options greedy(int64_t max_tokens)
{
    return (eq_generate_options){.max_tokens = max_tokens, .top_p = 1};
}

static eq_status speak(fixture *f, tape *out, const eq_generate_options *o, int64_t count,
                       const int32_t *end)
{
    const eq_listener listener = {end, end ? 1 : 0, record, out};
    out->count = 0;
    return eq_generate_tokens(&f->ctx, f->model.decoder, f->ids, count, o, EQ_F32, &listener);
}

static void greedy_is_the_argmax_of_full_passes(void **state)
{
    enum { PROMPT = 6, NEW = 30 };
    fixture *f = *state;
    const eq_generate_options o = greedy(NEW);
    tape out = {0};
    assert_int_equal(speak(f, &out, &o, PROMPT, NULL), EQ_OK);
    assert_int_equal(out.count, NEW);
    for (int n = 0; n < NEW; n++) {
        int32_t ids[PROMPT + NEW];
        int64_t best = 0;
        eq_decoder_pass pass;
        memcpy(ids, f->ids, PROMPT * sizeof *ids);
        memcpy(ids + PROMPT, out.ids, (size_t)n * sizeof *ids);
        assert_int_equal(
            eq_decoder_pass_init(&f->ctx, &pass, f->model.decoder, 1, PROMPT + n, EQ_F32), EQ_OK);
        assert_int_equal(eq_decoder_forward(&f->ctx, f->model.decoder, &pass, ids), EQ_OK);
        eq_decoder_logits(&f->ctx, f->model.decoder, &pass, PROMPT + n - 1, 1);
        f->ctx.kernels->logsumexp(pass.logits, V, &best);
        assert_int_equal(out.ids[n], best);
        eq_decoder_pass_deinit(&pass);
    }
}

static void texts_end(void **state)
{
    fixture *f = *state;
    const eq_generate_options o = greedy(30);
    tape all = {0}, out = {0};
    assert_int_equal(speak(f, &all, &o, 6, NULL), EQ_OK);
    int first = 0; /* where the token of place 9 comes first */
    while (all.ids[first] != all.ids[9])
        first++;
    assert_int_equal(speak(f, &out, &o, 6, &all.ids[9]), EQ_OK);
    assert_int_equal(out.count, first + 1); /* the end token is emitted */
    out.stop_at = 4;
    assert_int_equal(speak(f, &out, &o, 6, NULL), EQ_OK);
    assert_int_equal(out.count, 4);
}

static void seeds_and_threads(void **state)
{
    fixture *f = *state;
    eq_generate_options o = {.max_tokens = 60, .temperature = 1, .top_p = 0.95, .seed = 9};
    tape first = {0}, out = {0};
    assert_int_equal(speak(f, &first, &o, 6, NULL), EQ_OK);
    context_deinit(&f->ctx);
    f->ctx.threads = 1;
    assert_int_equal(speak(f, &out, &o, 6, NULL), EQ_OK);
    assert_memory_equal(out.ids, first.ids, sizeof out.ids);
    context_deinit(&f->ctx);
    f->ctx.threads = 2;
    o.seed = 10;
    assert_int_equal(speak(f, &out, &o, 6, NULL), EQ_OK);
    assert_memory_not_equal(out.ids, first.ids, sizeof out.ids);
}

static void expect_refusal(fixture *f, const eq_generate_options *o, int64_t count,
                           const char *words)
{
    tape out = {0};
    assert_int_equal(speak(f, &out, o, count, NULL), EQ_EINVAL);
    assert_non_null(strstr(f->ctx.message, words));
    assert_int_equal(out.count, 0);
    eq_ctx_clear(&f->ctx);
}

static void refusals(void **state)
{
    fixture *f = *state;
    eq_generate_options o = greedy(5), bad = o;
    expect_refusal(f, &o, 0, "no tokens");
    bad.max_tokens = 0;
    expect_refusal(f, &bad, 5, "max tokens is 0");
    bad.max_tokens = MODEL_CONTEXT - 4;
    expect_refusal(f, &bad, 5, "context of 160");
    bad.max_tokens = INT64_MAX;
    expect_refusal(f, &bad, 5, "context of 160");
    bad = o;
    bad.temperature = NAN;
    expect_refusal(f, &bad, 5, "temperature");
    bad.temperature = -1;
    expect_refusal(f, &bad, 5, "temperature");
    bad = o;
    bad.top_k = -1;
    expect_refusal(f, &bad, 5, "top-k is -1");
    bad = o;
    bad.top_p = 0;
    expect_refusal(f, &bad, 5, "top-p is 0");
    int32_t kept = f->ids[2];
    f->ids[2] = V;
    expect_refusal(f, &o, 5, "token 2 is 257");
    f->ids[2] = kept;
}

static void the_whole_context_can_be_used(void **state)
{
    fixture *f = *state;
    const eq_generate_options o = greedy(MODEL_CONTEXT - 40);
    tape out = {0};
    assert_int_equal(speak(f, &out, &o, 40, NULL), EQ_OK);
    assert_int_equal(out.count, MODEL_CONTEXT - 40);
}

static bool stop_at_once(void *user)
{
    (void)user;
    return true;
}

static void interruption(void **state)
{
    fixture *f = *state;
    const eq_generate_options o = greedy(5);
    tape out = {0};
    f->ctx.callbacks.should_stop = stop_at_once;
    assert_int_equal(speak(f, &out, &o, 6, NULL), EQ_EINTERRUPTED);
    f->ctx.callbacks.should_stop = NULL;
    eq_ctx_clear(&f->ctx);
}

static void spoiled_weights(void **state)
{
    fixture *f = *state;
    small_model spoiled, sound = f->model;
    const eq_generate_options o = greedy(5);
    tape out = {0};
    small_model_open(&f->ctx, &spoiled, true);
    f->model = spoiled;
    assert_int_equal(speak(f, &out, &o, 6, NULL), EQ_ENUMERIC);
    assert_int_equal(out.count, 0);
    f->model = sound;
    small_model_close(&spoiled);
    eq_ctx_clear(&f->ctx);
}

/* Every allocation may fail, and after the first token nothing allocates but the products'
 * plans. */
static void memory_runs_out(void **state)
{
    fixture *f = *state;
    const eq_generate_options o = {.max_tokens = 3, .temperature = 1, .top_k = 5, .top_p = 1};
    tape out = {0};
    int failures = 0;
    for (;; failures++) {
        context_deinit(&f->ctx);
        f->ctx.fail_allocation = f->ctx.allocations + failures + 1;
        eq_status st = speak(f, &out, &o, 6, NULL);
        if (st == EQ_OK) break;
        assert_int_equal(st, EQ_ENOMEM);
        eq_ctx_clear(&f->ctx);
        assert_true(failures < 1000);
    }
    assert_true(failures > 5);
    f->ctx.fail_allocation = 0;
}

static void steps_do_not_allocate(void **state)
{
    fixture *f = *state;
    const eq_generation_shape shape = {.B = 5, .room = 40, .type = EQ_F32};
    eq_generation g;
    assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &shape), EQ_OK);
    assert_int_equal(eq_generation_step(&f->ctx, &g, f->ids), EQ_OK);
    int64_t before = f->ctx.allocations;
    for (int t = 0; t < 10; t++)
        assert_int_equal(eq_generation_step(&f->ctx, &g, f->ids + t), EQ_OK);
    assert_int_equal(f->ctx.allocations, before);
    eq_generation_deinit(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_equal_full_pass),
        cmocka_unit_test(steps_equal_full_pass_bf16),
        cmocka_unit_test(batch_equals_single),
        cmocka_unit_test(copies_change_nothing),
        cmocka_unit_test(greedy_is_the_argmax_of_full_passes),
        cmocka_unit_test(texts_end),
        cmocka_unit_test(seeds_and_threads),
        cmocka_unit_test(refusals),
        cmocka_unit_test(the_whole_context_can_be_used),
        cmocka_unit_test(interruption),
        cmocka_unit_test(spoiled_weights),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(steps_do_not_allocate),
    };
    return cmocka_run_group_tests_name("generate", tests, setup, teardown);
}
