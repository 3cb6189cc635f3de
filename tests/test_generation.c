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

static int start(void **state, const char *family)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    context_init(&f->ctx, 2);
    small_model_open_as(&f->ctx, &f->model, family, false);
    for (int i = 0; i < LONG; i++)
        f->ids[i] = (i * i + 31 * i + 7) % V;
    return 0;
}

static int setup(void **state)
{
    return start(state, "llama");
}

static int setup_qwen2(void **state)
{
    return start(state, "qwen2");
}

static int setup_qwen3(void **state)
{
    return start(state, "qwen3");
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
        const eq_generation_shape shape = {.B = 1, .room = LONG, .type = type, .chunk = LONG};
        assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &shape), EQ_OK);
        assert_int_equal(eq_generation_read(&f->ctx, &g, 0, f->ids, prompts[i], true), EQ_OK);
        for (int64_t t = prompts[i]; t < LONG; t++) {
            assert_true(worst_error(g.logits, want + (t - 1) * V, V, bound, bound) <= 1);
            assert_int_equal(eq_generation_step(&f->ctx, &g, NULL, f->ids + t, 1), EQ_OK);
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
            assert_int_equal(eq_generation_step(&f->ctx, &g, NULL, f->ids + 5 * b + t, 1), EQ_OK);
            memcpy(want + (b * T + t) * V, g.logits, V * sizeof *want);
        }
        eq_generation_deinit(&g);
    }
    const eq_generation_shape all = {.B = B, .room = T, .type = EQ_F32};
    assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &all), EQ_OK);
    for (int pass = 0; pass < 2; pass++) { /* the second time over what the first left behind */
        for (int64_t b = 0; b < B; b++)
            eq_generation_cut(&g, b, 0);
        for (int64_t t = 0; t < T; t++) {
            int32_t tokens[B];
            for (int64_t b = 0; b < B; b++)
                tokens[b] = f->ids[5 * b + t];
            assert_int_equal(eq_generation_step(&f->ctx, &g, NULL, tokens, B), EQ_OK);
            for (int64_t b = 0; b < B; b++)
                assert_true(worst_error(g.logits + b * V, want + (b * T + t) * V, V, 1e-4, 1e-4) <=
                            1);
        }
    }
    eq_generation_deinit(&g);
    free(want);
}

/* Sequences of f->ids of any lengths side by side, read in pieces, cut and continued. */
static void sequences_go_their_own_ways(void **state)
{
    enum { B = 3, CHUNK = 50, ROUNDS = 60 };
    fixture *f = *state;
    float *want = full_logits(f, EQ_F32);
    const eq_generation_shape shape = {.B = B, .room = LONG, .type = EQ_F32, .chunk = CHUNK};
    const int64_t pieces[][2] = {{0, 50}, {1, 17}, {0, 50}, {2, 1}, {0, 9}, {2, 33}, {1, 1}};
    const int64_t subsets[][B] = {{2, 0}, {1}, {2, 1, 0}}, sizes[] = {2, 1, 3};
    eq_generation g;
    assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &shape), EQ_OK);
    for (int i = 0; i < 7; i++) {
        int64_t s = pieces[i][0], from = g.lengths[s];
        assert_int_equal(eq_generation_read(&f->ctx, &g, s, f->ids + from, pieces[i][1], true),
                         EQ_OK);
        assert_int_equal(g.lengths[s], from + pieces[i][1]);
        const float *logits = want + (g.lengths[s] - 1) * V;
        assert_true(worst_error(g.logits, logits, V, 1e-4, 1e-4) <= 1);
        assert_false(worst_error(g.logits, logits + V, V, 1e-4, 1e-4) <= 1);
    }
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t *subset = subsets[round % 3], n = sizes[round % 3];
        int32_t ids[B];
        for (int64_t i = 0; i < n; i++) {
            if (g.lengths[subset[i]] == LONG) eq_generation_cut(&g, subset[i], 7 + 30 * i);
            ids[i] = f->ids[g.lengths[subset[i]]];
        }
        assert_int_equal(eq_generation_step(&f->ctx, &g, subset, ids, n), EQ_OK);
        for (int64_t i = 0; i < n; i++)
            assert_true(worst_error(g.logits + i * V, want + (g.lengths[subset[i]] - 1) * V, V,
                                    1e-4, 1e-4) <= 1);
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
            assert_int_equal(eq_generation_step(&f->ctx, &g, NULL, f->ids + t, B), EQ_OK);
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

static void steps_do_not_allocate(void **state)
{
    fixture *f = *state;
    const eq_generation_shape shape = {.B = 5, .room = 40, .type = EQ_F32};
    eq_generation g;
    assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &shape), EQ_OK);
    assert_int_equal(eq_generation_step(&f->ctx, &g, NULL, f->ids, 5), EQ_OK);
    int64_t before = f->ctx.allocations;
    for (int t = 0; t < 10; t++)
        assert_int_equal(eq_generation_step(&f->ctx, &g, NULL, f->ids + t, 5), EQ_OK);
    assert_int_equal(f->ctx.allocations, before);
    eq_generation_deinit(&g);
}

/* ---- keys and values in fewer bits --------------------------------------------------------- */

/* A step of k or v, whose elements are near 1 in size: their range is about 6. */
static double step_of(int bits)
{
    return bits == 8 ? 6.0 / 254 : 6.0 / 15;
}

/* Logits [LONG, V] of every position of f->ids with k and v rounded in place; freed by the caller. */
static float *rounded_logits(fixture *f, eq_dtype type, int bits)
{
    eq_decoder_pass pass;
    float *logits = malloc((size_t)LONG * V * sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(eq_decoder_pass_init(&f->ctx, &pass, f->model.decoder, 1, LONG, type), EQ_OK);
    pass.acts.kv_bits = bits;
    assert_int_equal(eq_decoder_forward(&f->ctx, f->model.decoder, &pass, f->ids), EQ_OK);
    eq_decoder_logits(&f->ctx, f->model.decoder, &pass, 0, LONG);
    memcpy(logits, pass.logits, (size_t)LONG * V * sizeof *logits);
    eq_decoder_pass_deinit(&pass);
    return logits;
}

static double mean_error(const float *got, const float *want, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs((double)got[i] - (double)want[i]);
    return sum / (double)n;
}

/* The prompt in pieces of `piece` tokens, then steps: how far logits of the ends of pieces and of
 * all steps are from `want` in the mean. */
static double distance(fixture *f, eq_dtype type, int bits, int64_t piece, const float *want)
{
    enum { PROMPT = 128 };
    eq_generation g;
    const eq_generation_shape shape = {
        .B = 1, .room = LONG, .type = type, .chunk = piece, .kv_bits = bits};
    double sum = 0;
    int64_t count = 0;
    assert_int_equal(eq_generation_init(&f->ctx, &g, f->model.decoder, &shape), EQ_OK);
    for (int64_t t = 0; t < LONG; count++) {
        int64_t left = PROMPT - t, n = left <= 0 ? 1 : left < piece ? left : piece;
        eq_status st = left > 0 ? eq_generation_read(&f->ctx, &g, 0, f->ids + t, n, true)
                                : eq_generation_step(&f->ctx, &g, NULL, f->ids + t, 1);
        assert_int_equal(st, EQ_OK);
        t += n;
        sum += mean_error(g.logits, want + (t - 1) * V, V);
    }
    eq_generation_deinit(&g);
    return sum / (double)count;
}

/* However a prompt is cut, its tokens see what the cache keeps, as the whole pass with k and v
 * rounded in place does. The ways differ by f32 sums of other orders and the few codes that these
 * move by one: much less than a pass without rounding does. */
static void pieces_see_what_is_kept(void **state)
{
    const eq_dtype type = EQ_F32;
    const double share = 0.01;
    fixture *f = *state;
    const int64_t pieces[] = {1, 7, 64};
    float *exact = full_logits(f, type);
    for (int bits = 4; bits <= 8; bits += 4) {
        float *want = rounded_logits(f, type, bits);
        double cost = mean_error(exact, want, LONG * V);
        assert_true(cost > 1e-3 * step_of(bits) && cost < 2 * step_of(bits));
        for (int i = 0; i < 3; i++)
            assert_true(distance(f, type, bits, pieces[i], want) <= share * cost);
        assert_true(distance(f, type, 16, 64, want) > share * cost);
        free(want);
    }
    free(exact);
}

/* Rows of a slab come back as rounding in place gives them, bit for bit, keys in 4 bits rotated
 * after it; and so do those of a block that is not full. */
static void check_slab(fixture *f, eq_dtype type, int bits)
{
    enum { T = 37, ROOM = 64 };
    const eq_config *c = &f->model.decoder->config;
    const eq_kernels *k = f->ctx.kernels;
    const int64_t D = c->D, width = eq_config_qkv(c);
    const size_t elem = eq_elem_bytes(type);
    eq_slabs slabs = {.config = c, .B = 2, .room = ROOM, .type = type, .bits = bits};
    eq_arena arena = eq_arena_measure();
    eq_slabs_layout(&arena, &slabs);
    eq_rope_layout(&arena, c, ROOM);
    assert_int_equal(eq_arena_reserve(&f->ctx, &arena, arena.used), EQ_OK);
    eq_slabs_layout(&arena, &slabs);
    eq_rope rope = eq_rope_layout(&arena, c, ROOM);
    eq_rope_fill(&rope, c, 0, ROOM);
    eq_slabs_set_rope(&slabs, &rope);
    float *numbers = malloc((size_t)(T * width) * sizeof *numbers);
    char *qkv = malloc((size_t)(T * width) * elem), *rows = malloc((size_t)(ROOM * D) * elem);
    char *columns = malloc((size_t)(ROOM * D) * elem), *tile = malloc((size_t)(32 * D) * elem);
    fill_uniform(numbers, T * width, -2, 3, 90);
    k->unpack(qkv, type, numbers, EQ_F32, T * width);
    const eq_slab slab = {c->L - 1, 1, c->Hkv - 1};
    eq_slab_put(k, &slabs, &slab, 0, T, qkv);
    eq_slab_load(k, &slabs, &slab, 0, T, columns, rows, tile);
    eq_slab_load(k, &slabs, &slab, EQ_KEY_BLOCK, T, columns, rows, tile);
    for (int64_t t = 0; t < T; t++) {
        char *key = qkv + (size_t)(t * width + (c->H + c->Hkv - 1) * D) * elem;
        char *value = key + (size_t)(c->Hkv * D) * elem;
        k->kv_round(key, D, bits, type);
        k->kv_round(value, D, bits, type);
        if (bits == 4)
            k->rope(key, D, rope.cosine + t * D / 2, rope.sine + t * D / 2, 1, 1, D, 1, type);
        assert_memory_equal(rows + (size_t)(t * D) * elem, value, (size_t)D * elem);
        for (int64_t d = 0; d < D; d++)
            assert_memory_equal(columns + (size_t)(d * ROOM + t) * elem, key + (size_t)d * elem,
                                elem);
    }
    for (size_t i = (size_t)(T * D) * elem; i < (size_t)(ROOM * D) * elem; i++)
        assert_int_equal(rows[i], 0);
    free(numbers);
    free(qkv);
    free(rows);
    free(columns);
    free(tile);
    eq_arena_release(&arena);
}

static void slabs_give_back_rounded_rows(void **state)
{
    for (int bits = 4; bits <= 8; bits += 4) {
        check_slab(*state, EQ_F32, bits);
        check_slab(*state, EQ_BF16, bits);
    }
}

static int64_t bytes_with(fixture *f, int bits, int64_t B)
{
    const eq_generation_shape shape = {.B = B, .room = 1024, .type = EQ_F32, .kv_bits = bits};
    return eq_generation_bytes(&f->ctx, f->model.decoder, &shape);
}

/* The bytes of a token and head of D: 4 D; D + 2; D / 2 + 8. Of a second sequence only the cache
 * grows by much: its logits and activations are less than 1 KiB a block. */
static void fewer_bits_take_less(void **state)
{
    fixture *f = *state;
    const eq_config *c = &f->model.decoder->config;
    const int64_t rows = 2 * c->L * c->Hkv * 1024, rest = 16 << 10;
    const int64_t want[] = {rows * 4 * c->D, rows * (c->D + 2), rows * (c->D / 2 + 8)};
    const int bits[] = {16, 8, 4};
    for (int i = 0; i < 3; i++) {
        int64_t more = bytes_with(f, bits[i], 2) - bytes_with(f, bits[i], 1);
        assert_true(more >= want[i] && more <= want[i] + rest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_equal_full_pass),   cmocka_unit_test(steps_equal_full_pass_bf16),
        cmocka_unit_test(batch_equals_single),     cmocka_unit_test(sequences_go_their_own_ways),
        cmocka_unit_test(copies_change_nothing),   cmocka_unit_test(steps_do_not_allocate),
        cmocka_unit_test(pieces_see_what_is_kept), cmocka_unit_test(slabs_give_back_rounded_rows),
        cmocka_unit_test(fewer_bits_take_less),
    };
    /* what a family changes is the projection, so that the rest need not run again */
    const struct CMUnitTest again[] = {cmocka_unit_test(steps_equal_full_pass),
                                       cmocka_unit_test(steps_equal_full_pass_bf16),
                                       cmocka_unit_test(batch_equals_single)};
    return cmocka_run_group_tests_name("generation", tests, setup, teardown) +
           cmocka_run_group_tests_name("generation, qwen2", again, setup_qwen2, teardown) +
           cmocka_run_group_tests_name("generation, qwen3", again, setup_qwen3, teardown);
}
