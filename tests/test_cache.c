/* Attention of one token over pieces of a long cache, against that of many tokens by products; and
 * that it does not depend on threads. */
#include "infer/cache.h"
#include "support_model.h"
#include "support_numbers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { H = 6, HKV = 2, D = 16, WIDTH = (H + 2 * HKV) * D, TOKENS = 700, BLOCKS = 2, B = 3 };

static const eq_config CONFIG = {.L = BLOCKS, .C = H * D, .H = H, .Hkv = HKV, .D = D, .theta = 1e4};

static eq_ctx ctx;

static int setup(void **state)
{
    (void)state;
    context_init(&ctx, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    context_deinit(&ctx);
    return 0;
}

typedef struct fixture {
    eq_arena arena;
    eq_cache cache;
    eq_rope rope;
    float qkv[(TOKENS + 64) * WIDTH], out[(TOKENS + 64) * H * D];
} fixture;

static void layout(fixture *f, int bits)
{
    const eq_cache_shape shape = {B, TOKENS, TOKENS, EQ_F32, bits};
    f->cache = eq_cache_layout(&f->arena, &CONFIG, &shape, 4);
    f->rope = eq_rope_layout(&f->arena, &CONFIG, f->cache.room);
}

/* All tokens are kept and attend by products. */
static void fill(fixture *f, int bits)
{
    const eq_place start = {1, 0};
    f->arena = eq_arena_measure();
    layout(f, bits);
    assert_int_equal(eq_arena_reserve(&ctx, &f->arena, f->arena.used), EQ_OK);
    layout(f, bits);
    eq_rope_fill(&f->rope, &CONFIG, 0, f->cache.room);
    eq_slabs_set_rope(&f->cache.slabs, &f->rope);
    fill_uniform(f->qkv, (TOKENS + 64) * WIDTH, -2, 2, 5);
    eq_cache_extend(&ctx, &f->cache, 1, &start, TOKENS, f->out, f->qkv);
    assert_int_equal(eq_ctx_status(&ctx), EQ_OK);
}

/* Sums of up to 700 products of numbers below 2 in another order, in f32; 4 bits turn queries too,
 * and products of keys in 8 and 4 bits see them rounded to f32 first. */
static void pieces_make_the_whole(void **state)
{
    (void)state;
    fixture *f = test_calloc(1, sizeof *f);
    for (int bits = 4; bits <= 16; bits *= 2) {
        fill(f, bits);
        const int64_t places[] = {0, 255, 256, 511, 512, 600, 699};
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            const eq_place place = {1, places[i]};
            float out[2][H * D];
            for (int threads = 1; threads <= 3; threads += 2) {
                ctx.threads = threads;
                eq_cache_attend(&ctx, &f->cache, 1, &place, 1, out[threads / 2],
                                f->qkv + places[i] * WIDTH);
            }
            ctx.threads = 2;
            assert_memory_equal(out[0], out[1], sizeof out[0]);
            const float *want = f->out + places[i] * H * D;
            assert_true(worst_error(out[0], want, H * D, 5e-6, 1e-5) <= 1);
            out[0][H * D - 1] += 1e-3f;
            assert_true(worst_error(out[0], want, H * D, 5e-6, 1e-5) > 1);
        }
        eq_arena_release(&f->arena);
    }
    test_free(f);
}

/* Sequences of different lengths in one call, one of them a piece alone, give the same numbers as one
 * by one. */
static void sequences_do_not_meet(void **state)
{
    (void)state;
    fixture *f = test_calloc(1, sizeof *f);
    const eq_place places[B] = {{1, 650}, {0, 300}, {2, 100}};
    float together[B * H * D], alone[H * D], qkv[B * WIDTH];
    fill(f, 8);
    eq_cache_extend(&ctx, &f->cache, 1, &(eq_place){0, 0}, 400, f->out, f->qkv + 90 * WIDTH);
    eq_cache_extend(&ctx, &f->cache, 1, &(eq_place){2, 0}, 200, f->out, f->qkv + 20 * WIDTH);
    memcpy(qkv, f->qkv + 33 * WIDTH, sizeof qkv);
    eq_cache_attend(&ctx, &f->cache, 1, places, B, together, qkv);
    for (int i = 0; i < B; i++) {
        eq_cache_attend(&ctx, &f->cache, 1, &places[i], 1, alone, qkv + i * WIDTH);
        assert_true(worst_error(alone, together + i * H * D, H * D, 0, 0) == 0);
    }
    eq_arena_release(&f->arena);
    test_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_make_the_whole),
        cmocka_unit_test(sequences_do_not_meet),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
