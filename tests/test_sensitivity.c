/* Sensitivities of a small model's units, against a whole model with that unit rounded, and how
 * they depend on bits and threads. */
#include "base/rng.h"
#include "eval/perplexity.h"
#include "support_model.h"
#include "train/sensitivity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

enum { T = 48, BLOCKS = 3 };

static eq_ctx ctx;
static small_model model;
static int32_t ids[2 * T];
static const eq_train_options TRAIN = {.start = EQ_START_MSE, .batch = 1};

static eq_sensitivity_job job_of(int64_t n)
{
    return (eq_sensitivity_job){.teacher = model.decoder,
                                .train = &TRAIN,
                                .scheme = {.group = 32},
                                .ids = ids,
                                .n = n,
                                .T = T,
                                .type = EQ_F32};
}

/* KL of all tokens when one unit alone is rounded, by the way that `eqat eval` goes. */
static double whole_model_kl(int64_t block, eq_unit unit, int bits)
{
    eq_decoder rounded = *model.decoder;
    eq_decoder_block blocks[BLOCKS];
    eq_student s;
    eq_eval_result result;
    const eq_block_scheme scheme = eq_scheme_block(&(eq_scheme){.bits = bits, .group = 32});
    const eq_student_shape shape = {.config = &rounded.config,
                                    .schemes = &scheme,
                                    .blocks = 1,
                                    .options = TRAIN,
                                    .T = T,
                                    .type = EQ_F32};
    memcpy(blocks, model.decoder->blocks, sizeof blocks);
    rounded.blocks = blocks;
    assert_int_equal(eq_student_init(&ctx, &s, &shape), EQ_OK);
    eq_student_load(&ctx, &s, &blocks[block].block, &scheme);
    eq_student_start(&ctx, &s);
    blocks[block].block.units[unit] = s.block.units[unit];
    const eq_eval_windows window = {.ids = ids, .n = 1, .T = T};
    assert_int_equal(eq_perplexity(&ctx, &rounded, model.decoder, &window, EQ_F32, &result), EQ_OK);
    eq_student_deinit(&s);
    return result.kl;
}

/* The 128 likeliest of 257 tokens are told apart, the others are one: that loses a part of the
 * divergence and never adds to it, but for rounding. */
static void is_the_divergence_of_the_whole_model(void **state)
{
    (void)state;
    double kl[BLOCKS * EQ_UNITS][EQ_VARIANTS];
    const eq_sensitivity_job job = job_of(1);
    assert_int_equal(eq_sensitivity(&ctx, kl, &job), EQ_OK);
    for (int i = 0; i < BLOCKS * EQ_UNITS; i++) {
        for (int v = 0; v < EQ_VARIANTS - 1; v++) { /* at 8 bits rounding has a say */
            double whole = whole_model_kl(i / EQ_UNITS, (eq_unit)(i % EQ_UNITS), EQ_TRIED_BITS[v]);
            if (kl[i][v] > 1.001 * whole || kl[i][v] < 0.6 * whole)
                fail_msg("unit %d at %d bits: %g, the whole model %g", i, EQ_TRIED_BITS[v],
                         kl[i][v], whole);
        }
        for (int v = 1; v < EQ_VARIANTS; v++)
            assert_true(kl[i][v] < kl[i][v - 1]);
    }
}

static void does_not_depend_on_threads(void **state)
{
    (void)state;
    double one[BLOCKS * EQ_UNITS][EQ_VARIANTS], three[BLOCKS * EQ_UNITS][EQ_VARIANTS];
    const eq_sensitivity_job job = job_of(2);
    ctx.threads = 1;
    assert_int_equal(eq_sensitivity(&ctx, one, &job), EQ_OK);
    eq_gemm_free(&ctx);
    ctx.threads = 3;
    assert_int_equal(eq_sensitivity(&ctx, three, &job), EQ_OK);
    assert_memory_equal(one, three, sizeof one);
}

/* ---- an interrupted call ------------------------------------------------------------------- */

typedef struct watch {
    int64_t reports, stop_after;
} watch;

static void count_report(void *user, const eq_progress *p)
{
    watch *w = user;
    (void)p;
    w->reports++;
}

static bool stops(void *user)
{
    const watch *w = user;
    return w->reports >= w->stop_after;
}

/* Stopped in the middle of the second block, the next call tries that block again and what comes
 * after it, and finds what an undisturbed one does. */
static void goes_on_after_an_interruption(void **state)
{
    (void)state;
    enum { BLOCK = EQ_UNITS * EQ_VARIANTS };
    double whole[BLOCKS * EQ_UNITS][EQ_VARIANTS], parts[BLOCKS * EQ_UNITS][EQ_VARIANTS];
    eq_sensitivity_job job = job_of(1);
    watch w = {.stop_after = BLOCK + 3};
    assert_int_equal(eq_sensitivity(&ctx, whole, &job), EQ_OK);
    char path[96];
    snprintf(path, sizeof path, "%s/sensitivity", model.folder);
    job.path = path;
    ctx.callbacks = (eq_callbacks){.progress = count_report, .should_stop = stops, .user = &w};
    assert_int_equal(eq_sensitivity(&ctx, parts, &job), EQ_EINTERRUPTED);
    eq_ctx_clear(&ctx);
    memset(parts, 0, sizeof parts);
    w = (watch){.stop_after = INT64_MAX};
    assert_int_equal(eq_sensitivity(&ctx, parts, &job), EQ_OK);
    assert_int_equal(w.reports, (BLOCKS - 1) * BLOCK);
    assert_memory_equal(whole, parts, sizeof whole);
    ctx.callbacks = (eq_callbacks){0};

    assert_int_equal(truncate(job.path, 100), 0);
    assert_int_equal(eq_sensitivity(&ctx, parts, &job), EQ_EFORMAT);
    assert_non_null(strstr(ctx.message, job.path));
    eq_ctx_clear(&ctx);
    unlink(job.path);
}

static int setup(void **state)
{
    (void)state;
    eq_rng rng;
    context_init(&ctx, 2);
    small_model_open(&ctx, &model, false);
    eq_rng_init(&rng, 3, 0);
    for (int i = 0; i < 2 * T; i++)
        ids[i] = (int32_t)eq_rng_below(&rng, MODEL_VOCABULARY);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    small_model_close(&model);
    context_deinit(&ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_divergence_of_the_whole_model),
        cmocka_unit_test(does_not_depend_on_threads),
        cmocka_unit_test(goes_on_after_an_interruption),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
