#include "infer/self.h"

#include "base/rng.h"
#include "support_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { V = MODEL_VOCABULARY, T = 40, MANY = 67, SOME = 9, FEW = 3, END = 250, LEAST_NORMAL = 200 };

typedef struct fixture {
    eq_ctx ctx;
    small_model model;
    bool normal[V]; /* 200 .. 219 begin a text, 250 .. 256 end it */
    int32_t ends[V - END];
    int32_t ids[MANY * T], other[MANY * T];
    int reports;
    int64_t kept; /* windows */
    double share; /* done / total of the last report */
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    context_init(&f->ctx, 2);
    small_model_open(&f->ctx, &f->model, false);
    for (int i = 0; i < 20; i++)
        f->normal[LEAST_NORMAL + i] = true;
    for (int i = 0; i < V - END; i++)
        f->ends[i] = END + i;
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

static eq_self_options options_of(const fixture *f, int64_t n)
{
    return (eq_self_options){.n = n,
                             .T = T,
                             .seed = 4,
                             .type = EQ_F32,
                             .normal = f->normal,
                             .ends = f->ends,
                             .end_count = V - END};
}

static void write_windows(fixture *f, const eq_self_options *o, int32_t *ids)
{
    assert_int_equal(eq_self_windows(&f->ctx, f->model.decoder, o, ids), EQ_OK);
}

static void texts_begin_with_normal_tokens(void **state)
{
    fixture *f = *state;
    eq_self_options o = options_of(f, MANY);
    int ended = 0, others = 0, seen[20] = {0};
    write_windows(f, &o, f->ids);
    for (int i = 0; i < MANY * T; i++) {
        int32_t id = f->ids[i];
        assert_in_range(id, 0, V - 1);
        bool first = i % T == 0 || f->ids[i - 1] >= END;
        ended += id >= END;
        others += !f->normal[id];
        if (!first) continue;
        assert_true(f->normal[id]);
        seen[id - LEAST_NORMAL]++;
    }
    assert_true(ended > 10); /* about 7 / 257 of all: 70 */
    assert_true(others > MANY * T / 2);
    for (int i = 0; i < 20; i++)
        assert_true(seen[i] > 0); /* about 140 first tokens, 7 each */
}

static void windows_do_not_depend_on_their_number(void **state)
{
    fixture *f = *state;
    eq_self_options many = options_of(f, MANY), few = options_of(f, FEW);
    write_windows(f, &many, f->ids);
    write_windows(f, &few, f->other);
    assert_memory_equal(f->ids, f->other, FEW * T * sizeof *f->ids);
    for (int w = 1; w < MANY; w++)
        assert_memory_not_equal(f->ids, f->ids + w * T, T * sizeof *f->ids);
}

static void count_report(void *user, const eq_progress *p)
{
    fixture *f = user;
    f->reports++;
    assert_true(p->done <= p->total && p->seconds_left >= 0);
}

/* Less and less memory means more and more batches of the same windows, until not even one window
 * fits. */
static void windows_do_not_depend_on_memory(void **state)
{
    fixture *f = *state;
    eq_self_options o = options_of(f, SOME);
    int most = 0;
    write_windows(f, &o, f->ids);
    f->ctx.callbacks = (eq_callbacks){.progress = count_report, .user = f};
    for (o.memory = 1 << 26;; o.memory -= o.memory / 4) {
        f->reports = 0;
        memset(f->other, 0, SOME * T * sizeof *f->other);
        eq_status st = eq_self_windows(&f->ctx, f->model.decoder, &o, f->other);
        if (st == EQ_ENOMEM) break;
        assert_int_equal(st, EQ_OK);
        assert_memory_equal(f->ids, f->other, SOME * T * sizeof *f->ids);
        most = f->reports > most ? f->reports : most;
    }
    assert_non_null(strstr(f->ctx.message, "--memory"));
    assert_true(most >= 2 * T);
    f->ctx.callbacks = (eq_callbacks){0};
    eq_ctx_clear(&f->ctx);
}

static void seeds_and_threads(void **state)
{
    fixture *f = *state;
    eq_self_options o = options_of(f, FEW);
    write_windows(f, &o, f->ids);
    context_deinit(&f->ctx);
    f->ctx.threads = 1;
    write_windows(f, &o, f->other);
    assert_memory_equal(f->ids, f->other, FEW * T * sizeof *f->ids);
    context_deinit(&f->ctx);
    f->ctx.threads = 2;
    o.seed = 5;
    write_windows(f, &o, f->other);
    assert_memory_not_equal(f->ids, f->other, FEW * T * sizeof *f->ids);
}

/* Text of the model is likelier under the model than text drawn evenly: mean log-likelihood per
 * token of the two. */
static double likelihood(fixture *f, const int32_t *ids)
{
    eq_decoder_pass pass;
    double sum = 0;
    int64_t unused;
    assert_int_equal(eq_decoder_pass_init(&f->ctx, &pass, f->model.decoder, FEW, T, EQ_F32), EQ_OK);
    assert_int_equal(eq_decoder_forward(&f->ctx, f->model.decoder, &pass, ids), EQ_OK);
    for (int64_t i = 0; i < FEW * T; i++) {
        if (i % T == T - 1) continue;
        eq_decoder_logits(&f->ctx, f->model.decoder, &pass, i, 1);
        sum += (double)pass.logits[ids[i + 1]] -
               (double)f->ctx.kernels->logsumexp(pass.logits, V, &unused);
    }
    eq_decoder_pass_deinit(&pass);
    return sum / (FEW * (T - 1));
}

static void text_is_the_models(void **state)
{
    fixture *f = *state;
    eq_self_options o = options_of(f, FEW);
    eq_rng rng;
    eq_rng_init(&rng, 1, 2);
    write_windows(f, &o, f->ids);
    for (int i = 0; i < FEW * T; i++)
        f->other[i] = (int32_t)eq_rng_below(&rng, V);
    /* Logits are about normal with variance 1: half a nat above the mean log-likelihood, ln 257
     * + 1/2, on the one hand, as much below it on the other. */
    assert_true(likelihood(f, f->ids) > likelihood(f, f->other) + 0.5);
}

static void take_report(void *user, const eq_progress *p)
{
    fixture *f = user;
    f->reports++;
    assert_true(p->per_second > 0 && p->seconds_left >= 0 && p->done <= p->total);
    f->share = (double)p->done / (double)p->total;
}

static bool stop_after_three(void *user)
{
    const fixture *f = user;
    return f->reports >= 3;
}

static void reports_and_interruption(void **state)
{
    fixture *f = *state;
    eq_self_options o = options_of(f, MANY);
    f->ctx.callbacks = (eq_callbacks){.progress = take_report, .user = f};
    write_windows(f, &o, f->ids);
    assert_int_equal(f->reports, T);
    assert_true(f->share == 1);
    f->reports = 0;
    f->ctx.callbacks.should_stop = stop_after_three;
    assert_int_equal(eq_self_windows(&f->ctx, f->model.decoder, &o, f->ids), EQ_EINTERRUPTED);
    assert_int_equal(f->reports, 3);
    f->ctx.callbacks = (eq_callbacks){0};
    eq_ctx_clear(&f->ctx);
}

/* Keeps the first batch and stops. */
static eq_status keep_windows(eq_ctx *ctx, void *user, const int32_t *ids, int64_t n)
{
    fixture *f = user;
    memset(f->other, 0, MANY * T * sizeof *f->other);
    memcpy(f->other, ids, (size_t)(n * T) * sizeof *ids);
    f->kept = n;
    return eq_fail(ctx, EQ_EINTERRUPTED, "enough");
}

static void goes_on_with_what_was_kept(void **state)
{
    fixture *f = *state;
    eq_self_options o = options_of(f, MANY);
    eq_status st = EQ_OK;
    int32_t whole[MANY * T];
    write_windows(f, &o, whole);
    o.keep = keep_windows;
    o.user = f;
    for (o.memory = 1 << 26; st == EQ_OK; o.memory /= 2) /* until one batch is not enough */
        st = eq_self_windows(&f->ctx, f->model.decoder, &o, f->ids);
    assert_int_equal(st, EQ_EINTERRUPTED);
    eq_ctx_clear(&f->ctx);
    assert_in_range(f->kept, 1, MANY - 1);
    o.memory = 0;
    o.there = f->kept;
    o.keep = NULL;
    f->reports = 0;
    f->ctx.callbacks = (eq_callbacks){.progress = take_report, .user = f};
    write_windows(f, &o, f->other);
    f->ctx.callbacks = (eq_callbacks){0};
    assert_int_equal(f->reports, T);
    assert_true(f->share == 1);
    assert_memory_equal(whole, f->other, sizeof whole);
}

static void expect_refusal(fixture *f, const eq_self_options *o, const char *words)
{
    assert_int_equal(eq_self_windows(&f->ctx, f->model.decoder, o, f->ids), EQ_EINVAL);
    assert_non_null(strstr(f->ctx.message, words));
    eq_ctx_clear(&f->ctx);
}

static void refusals(void **state)
{
    fixture *f = *state;
    const bool none[V] = {false};
    eq_self_options o = options_of(f, FEW);
    o.T = MODEL_CONTEXT + 1;
    expect_refusal(f, &o, "161 tokens");
    o.T = 1;
    expect_refusal(f, &o, "1 tokens");
    o = options_of(f, 0);
    expect_refusal(f, &o, "0 windows");
    o = options_of(f, FEW);
    o.normal = none;
    expect_refusal(f, &o, "no normal token");
}

static void memory_runs_out(void **state)
{
    fixture *f = *state;
    eq_self_options o = options_of(f, 1);
    o.T = 3;
    int failures = 0;
    for (;; failures++) {
        context_deinit(&f->ctx);
        f->ctx.fail_allocation = f->ctx.allocations + failures + 1;
        eq_status st = eq_self_windows(&f->ctx, f->model.decoder, &o, f->ids);
        if (st == EQ_OK) break;
        assert_int_equal(st, EQ_ENOMEM);
        eq_ctx_clear(&f->ctx);
        assert_true(failures < 1000);
    }
    assert_true(failures > 5);
    f->ctx.fail_allocation = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_begin_with_normal_tokens),
        cmocka_unit_test(windows_do_not_depend_on_their_number),
        cmocka_unit_test(windows_do_not_depend_on_memory),
        cmocka_unit_test(seeds_and_threads),
        cmocka_unit_test(text_is_the_models),
        cmocka_unit_test(reports_and_interruption),
        cmocka_unit_test(goes_on_with_what_was_kept),
        cmocka_unit_test(refusals),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests_name("self", tests, setup, teardown);
}
