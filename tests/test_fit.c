/* The training loop on an objective of one number: where it goes after a loss that is not finite. */
#include "support_model.h"
#include "train/fit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { STEPS = 4, EPOCHS = 3, GOOD = 2 /* every so many steps a state is kept */ };

/* x counts the steps that were applied; a whole training from a state that was kept ends with
 * STEPS * EPOCHS again. */
typedef struct toy {
    double x;
    int bad_step, bad_epoch; /* where the loss is not finite, from 1; 0: nowhere */
    int times;               /* how often it still will be */
    int steps, saves, epochs, best;
    double rates; /* sum of those of all steps */
    eq_fit_state kept;
    double kept_x;
    char message[1024]; /* of the failure */
} toy;

static eq_status step(eq_ctx *ctx, void *self, int64_t first, int64_t count,
                      const eq_fit_state *state, double *loss)
{
    toy *t = self;
    (void)ctx;
    assert_int_equal(first, state->step % STEPS);
    assert_int_equal(count, 1);
    t->steps++;
    *loss = 1.0 / (1 + t->x);
    if (state->step + 1 == t->bad_step && t->times) {
        t->times--;
        *loss = (double)NAN;
        return EQ_OK;
    }
    t->x++;
    t->rates += state->rate;
    return EQ_OK;
}

static eq_status validate(eq_ctx *ctx, void *self, double *loss)
{
    toy *t = self;
    (void)ctx;
    *loss = 1.0 / (1 + t->x);
    if ((int)t->x == t->bad_epoch * STEPS && t->times) {
        t->times--;
        *loss = (double)NAN;
    }
    return EQ_OK;
}

static eq_status epoch_done(eq_ctx *ctx, void *self, const eq_epoch *epoch)
{
    toy *t = self;
    (void)ctx;
    assert_true(isfinite(epoch->train) && isfinite(epoch->val));
    t->epochs++;
    t->best += epoch->best;
    return EQ_OK;
}

static eq_status save(eq_ctx *ctx, void *self, const eq_fit_state *state, bool now)
{
    toy *t = self;
    (void)ctx;
    t->saves += now;
    if (state->step % GOOD) return EQ_OK;
    t->kept = *state;
    t->kept_x = t->x;
    return EQ_OK;
}

static eq_status rollback(eq_ctx *ctx, void *self, eq_fit_state *state)
{
    toy *t = self;
    (void)ctx;
    *state = t->kept;
    t->x = t->kept_x;
    return EQ_OK;
}

static eq_status train(toy *t, bool can_go_back)
{
    eq_ctx ctx;
    const eq_fit_options options = {
        .name = "toy", .samples = STEPS, .batch = 1, .epochs = EPOCHS, .tokens = 1};
    const eq_objective objective = {.self = t,
                                    .step = step,
                                    .validate = validate,
                                    .epoch_done = epoch_done,
                                    .save = save,
                                    .rollback = can_go_back ? rollback : NULL};
    t->kept = eq_fit_start();
    context_init(&ctx, 1);
    const eq_status st = eq_fit(&ctx, &options, &objective, eq_fit_start());
    snprintf(t->message, sizeof t->message, "%s", ctx.message);
    context_deinit(&ctx);
    return st;
}

/* It ends as if nothing had happened, the steps having had these rates together. */
static void goes_through(toy *t, double rates)
{
    assert_int_equal(train(t, true), EQ_OK);
    assert_true(t->x == STEPS * EPOCHS);
    assert_int_equal(t->epochs, EPOCHS);
    assert_int_equal(t->best, EPOCHS);
    assert_true(t->rates == rates);
}

static void fails(toy *t, bool can_go_back, const char *message)
{
    assert_int_equal(train(t, can_go_back), EQ_ENUMERIC);
    assert_string_equal(t->message, message);
}

static void goes_to_the_end(void **state)
{
    (void)state;
    toy t = {0};
    goes_through(&t, STEPS * EPOCHS);
    assert_int_equal(t.steps, STEPS * EPOCHS);
}

/* Step 8 is not finite: back to behind step 6, and from there at half the rates. */
static void goes_back_once(void **state)
{
    (void)state;
    toy t = {.bad_step = 8, .times = 1};
    goes_through(&t, 7 + 0.5 * 6);
    assert_int_equal(t.steps, STEPS * EPOCHS + 2);
    assert_true(t.kept.rate == 0.5);
    assert_int_equal(t.saves, 2); /* when it went back, and at the end */
}

/* As if the last step of the second epoch had spoiled what it trains. */
static void goes_back_after_a_validation(void **state)
{
    (void)state;
    toy t = {.bad_epoch = 2, .times = 1};
    goes_through(&t, 8 + 0.5 * 6);
}

static void fails_the_second_time(void **state)
{
    (void)state;
    toy in_a_step = {.bad_step = 7, .times = 2}, behind_an_epoch = {.bad_epoch = 1, .times = 2};
    fails(&in_a_step, true, "toy, step 7: the loss is not finite, at half the rates too");
    fails(&behind_an_epoch, true, "toy, step 4: the loss is not finite, at half the rates too");
}

static void fails_without_a_way_back(void **state)
{
    (void)state;
    toy t = {.bad_step = 7, .times = 1};
    fails(&t, false, "toy, step 7: the loss is not finite");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_to_the_end),
        cmocka_unit_test(goes_back_once),
        cmocka_unit_test(goes_back_after_a_validation),
        cmocka_unit_test(fails_the_second_time),
        cmocka_unit_test(fails_without_a_way_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
