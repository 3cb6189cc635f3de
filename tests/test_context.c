/* The context: the first message wins, allocations count, and fail as told. */
#include "base/context.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void first_message_wins(void **state)
{
    (void)state;
    eq_ctx ctx;
    eq_ctx_init(&ctx, 3);
    assert_int_equal(ctx.threads, 3);
    assert_int_equal(eq_ctx_status(&ctx), EQ_OK);
    assert_string_equal(ctx.message, "");
    assert_int_equal(eq_fail(&ctx, EQ_EFORMAT, "%s: %d", "first", 1), EQ_EFORMAT);
    assert_int_equal(eq_fail(&ctx, EQ_EIO, "second"), EQ_EIO);
    assert_int_equal(eq_ctx_status(&ctx), EQ_EFORMAT);
    assert_string_equal(ctx.message, "first: 1");
    eq_ctx_clear(&ctx);
    assert_int_equal(eq_ctx_status(&ctx), EQ_OK);
    assert_string_equal(ctx.message, "");
    eq_fail(&ctx, EQ_EIO, "second");
    assert_string_equal(ctx.message, "second");
}

/* Whichever of many threads comes first, message and status belong together. */
static void one_message_of_many_threads(void **state)
{
    (void)state;
    for (int turn = 0; turn < 50; turn++) {
        eq_ctx ctx;
        eq_ctx_init(&ctx, 4);
#pragma omp parallel for num_threads(4)
        for (int i = 0; i < 64; i++)
            eq_fail(&ctx, (eq_status)(1 + i % 8), "failure %d", 1 + i % 8);
        char want[32];
        snprintf(want, sizeof want, "failure %d", (int)eq_ctx_status(&ctx));
        assert_string_equal(ctx.message, want);
    }
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    eq_ctx ctx;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    eq_ctx_init(&ctx, 1);
    eq_fail(&ctx, EQ_EIO, "%s", text);
    assert_int_equal(strlen(ctx.message), sizeof ctx.message - 1);
}

static void threads_default_to_the_machine(void **state)
{
    (void)state;
    eq_ctx ctx;
    eq_ctx_init(&ctx, 0);
    assert_true(ctx.threads >= 1);
    eq_ctx_init(&ctx, -5);
    assert_true(ctx.threads >= 1);
}

static void memory_is_aligned_and_zero(void **state)
{
    (void)state;
    eq_ctx ctx;
    eq_ctx_init(&ctx, 1);
    for (int64_t n = 0; n < 300; n += 13) {
        uint8_t *p = eq_alloc(&ctx, n, 3);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (int64_t i = 0; i < 3 * n; i++) {
            assert_int_equal(p[i], 0);
            p[i] = 0xff;
        }
        eq_free(p);
    }
    assert_int_equal(ctx.allocations, 24);
    eq_free(NULL);
}

static void sizes_that_overflow(void **state)
{
    (void)state;
    static const struct {
        int64_t count;
        size_t size;
    } SIZES[] = {{-1, 1},
                 {INT64_MIN, 1},
                 {INT64_MAX, 1},
                 {INT64_MAX, 8},
                 {2, SIZE_MAX / 2},
                 {3, SIZE_MAX / 2},
                 {(int64_t)1 << 33, (size_t)1 << 33},
                 {1, SIZE_MAX},
                 {1, PTRDIFF_MAX}};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        eq_ctx ctx;
        eq_ctx_init(&ctx, 1);
        assert_null(eq_alloc(&ctx, SIZES[i].count, SIZES[i].size));
        assert_int_equal(eq_ctx_status(&ctx), EQ_ENOMEM);
        assert_non_null(strstr(ctx.message, "out of memory"));
    }
}

static void chosen_allocation_fails(void **state)
{
    (void)state;
    eq_ctx ctx;
    eq_ctx_init(&ctx, 1);
    ctx.fail_allocation = 3;
    for (int i = 1; i <= 5; i++) {
        void *p = eq_alloc(&ctx, 1, 1);
        assert_int_equal(p == NULL, i == 3);
        eq_free(p);
    }
    eq_ctx_clear(&ctx);
    ctx.fail_allocation = 6;
    assert_null(eq_format(&ctx, "%d", 1));
    ctx.fail_allocation = 7;
    assert_null(eq_strndup(&ctx, "abc", 3));
    assert_int_equal(eq_ctx_status(&ctx), EQ_ENOMEM);
}

static void strings(void **state)
{
    (void)state;
    eq_ctx ctx;
    eq_ctx_init(&ctx, 1);
    char *part = eq_strndup(&ctx, "abcdef", 3), *empty = eq_strndup(&ctx, "", 0);
    char *formatted = eq_format(&ctx, "%s-%03d", part, 7);
    assert_string_equal(part, "abc");
    assert_string_equal(empty, "");
    assert_string_equal(formatted, "abc-007");
    eq_free(part);
    eq_free(empty);
    eq_free(formatted);
}

/* What the callbacks of a test saw. */
typedef struct seen {
    char line[128];
    int64_t done;
    bool stop;
} seen;

static void on_log(void *user, eq_log_level level, const char *line)
{
    seen *s = user;
    snprintf(s->line, sizeof s->line, "%d %s", (int)level, line);
}

static void on_progress(void *user, const eq_progress *progress)
{
    seen *s = user;
    s->done = progress->done;
}

static bool on_stop(void *user)
{
    const seen *s = user;
    return s->stop;
}

static void callbacks(void **state)
{
    (void)state;
    eq_ctx ctx;
    seen s = {.done = 0};
    const eq_progress progress = {.task = "block", .unit = "steps", .done = 5, .total = 9};
    eq_ctx_init(&ctx, 1);
    eq_log(&ctx, EQ_LOG_INFO, "nobody listens"); /* without callbacks nothing happens */
    eq_report(&ctx, &progress);
    assert_int_equal(eq_check_interrupt(&ctx), EQ_OK);
    ctx.callbacks = (eq_callbacks){on_log, on_progress, on_stop, &s};
    eq_log(&ctx, EQ_LOG_WARNING, "%s %d", "number", 7);
    assert_string_equal(s.line, "1 number 7");
    eq_report(&ctx, &progress);
    assert_int_equal(s.done, 5);
    assert_int_equal(eq_check_interrupt(&ctx), EQ_OK);
    s.stop = true;
    assert_int_equal(eq_check_interrupt(&ctx), EQ_EINTERRUPTED);
    assert_int_equal(eq_ctx_status(&ctx), EQ_EINTERRUPTED);
}

static void figures_of_the_machine(void **state)
{
    (void)state;
    double start = eq_seconds();
    assert_true(eq_seconds() >= start);
    assert_true(eq_peak_memory() > 100000); /* this process, in bytes */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_message_wins),
        cmocka_unit_test(one_message_of_many_threads),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(threads_default_to_the_machine),
        cmocka_unit_test(memory_is_aligned_and_zero),
        cmocka_unit_test(sizes_that_overflow),
        cmocka_unit_test(chosen_allocation_fails),
        cmocka_unit_test(strings),
        cmocka_unit_test(callbacks),
        cmocka_unit_test(figures_of_the_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
