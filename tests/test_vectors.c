/* Vectors of a block: where they lie, biases added to products, and norms of heads with their
 * gradients. */
#include "base/rng.h"
#include "model/decoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static eq_ctx ctx;

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 2);
    ctx.kernels = eq_kernels_get(NULL);
    return 0;
}

static void fill(float *x, int64_t n, eq_rng *rng, double mean, double size)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(mean + size * eq_rng_normal(rng));
}

static void vectors_follow_each_other(void **state)
{
    (void)state;
    const eq_config c = {.C = 24,
                         .F = 40,
                         .H = 3,
                         .Hkv = 1,
                         .D = 10,
                         .qk_norm = true,
                         .qkv_bias = true,
                         .out_bias = true,
                         .mlp_bias = true};
    static const struct {
        const char *module, *suffix;
        int64_t n;
        int head_size;
    } WANTED[] = {
        {"input_layernorm", "weight", 24, 0},  {"post_attention_layernorm", "weight", 24, 0},
        {"self_attn.q_norm", "weight", 10, 0}, {"self_attn.k_norm", "weight", 10, 0},
        {"self_attn.q_proj", "bias", 30, 10},  {"self_attn.k_proj", "bias", 10, 10},
        {"self_attn.v_proj", "bias", 10, 0},   {"self_attn.o_proj", "bias", 24, 0},
        {"mlp.gate_proj", "bias", 40, 0},      {"mlp.up_proj", "bias", 40, 0},
        {"mlp.down_proj", "bias", 24, 0}};
    eq_vector list[EQ_MOST_VECTORS];
    int64_t offset = 0;
    assert_int_equal(eq_vectors(&c, list), EQ_MOST_VECTORS);
    for (int i = 0; i < EQ_MOST_VECTORS; offset += list[i++].n) {
        assert_string_equal(list[i].module, WANTED[i].module);
        assert_string_equal(list[i].suffix, WANTED[i].suffix);
        assert_int_equal(list[i].offset, offset);
        assert_int_equal(list[i].n, WANTED[i].n);
        assert_int_equal(list[i].head_size, WANTED[i].head_size);
    }
    assert_int_equal(eq_vector_elems(&c), offset);
    float from[512], to[512];
    eq_block block = {.config = &c};
    for (int64_t i = 0; i < offset; i++)
        from[i] = (float)i;
    eq_block_set_norms(&block, from, NULL);
    eq_block_set_biases(&block, from + eq_norm_elems(&c));
    assert_true(block.k_norm[0] == 58 && block.biases[EQ_QKV][0] == 68 && !block.dq_norm);
    assert_true(block.biases[EQ_OUT][0] == 118 && block.biases[EQ_DOWN][23] == (float)(offset - 1));
    eq_block_copy_vectors(to, &block);
    assert_memory_equal(from, to, (size_t)offset * sizeof *from);
    const eq_config plain = {.C = 24, .F = 40, .H = 3, .Hkv = 1, .D = 10};
    block.config = &plain;
    eq_block_set_biases(&block, from);
    assert_true(!block.biases[EQ_QKV] && !block.biases[EQ_DOWN]);
    assert_int_equal(eq_vector_elems(&plain), 48);
}

/* A sum in f32 rounded once: the same bits as by hand, for any number of threads. */
static void biases_are_added(void **state)
{
    (void)state;
    enum { ROWS = 21, COLUMNS = 1100 };
    static float y[ROWS * COLUMNS], x[ROWS * COLUMNS], bias[COLUMNS];
    static uint16_t half[ROWS * COLUMNS];
    eq_rng rng;
    eq_rng_init(&rng, 3, 0);
    fill(x, ROWS * COLUMNS, &rng, 0, 1);
    fill(bias, COLUMNS, &rng, 0, 10);
    const int64_t rows[] = {1, 5, ROWS};
    for (int t = 0; t < 3; t++) {
        memcpy(y, x, sizeof y);
        for (int64_t i = 0; i < ROWS * COLUMNS; i++)
            half[i] = eq_f32_bf16(x[i]);
        eq_bias_add(&ctx, y, bias, rows[t], COLUMNS, EQ_F32);
        eq_bias_add(&ctx, half, bias, rows[t], COLUMNS, EQ_BF16);
        for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
            bool in = i < rows[t] * COLUMNS;
            uint16_t before = eq_f32_bf16(x[i]);
            uint16_t sum = eq_f32_bf16(eq_bf16_f32(before) + bias[i % COLUMNS]);
            assert_true(y[i] == (in ? x[i] + bias[i % COLUMNS] : x[i]));
            assert_int_equal(half[i], in ? sum : before);
        }
    }
}

/* ---- norms of heads ------------------------------------------------------------------------- */

enum { M = 70, H = 3, HKV = 2, D = 6, WIDTH = (H + 2 * HKV) * D, ROTATED = (H + HKV) * D };
static const eq_head_norm SHAPE = {M, H, HKV, D, 1e-5f, EQ_F32};

typedef struct sample {
    float qkv[M * WIDTH], direction[M * WIDTH]; /* the loss is their product after the norm */
    float wq[D], wk[D];
} sample;

static void fill_sample(sample *s)
{
    eq_rng rng;
    eq_rng_init(&rng, 9, 0);
    fill(s->qkv, M * WIDTH, &rng, 0, 1);
    fill(s->direction, M * WIDTH, &rng, 0, 1);
    fill(s->wq, D, &rng, 1, 0.3);
    fill(s->wk, D, &rng, 1, 0.3);
}

/* By the formula in double; weights moved by `step` along dwq and dwk, inputs along dx. */
static double loss_of(const sample *s, double step, const float *dx, const float *dw)
{
    double loss = 0;
    for (int64_t m = 0; m < M; m++) {
        for (int64_t h = 0; h < H + HKV; h++) {
            double x[D], squares = 0;
            const float *w = h < H ? s->wq : s->wk;
            for (int64_t d = 0; d < D; d++) {
                int64_t i = m * WIDTH + h * D + d;
                x[d] = (double)s->qkv[i] + (dx ? step * (double)dx[i] : 0);
                squares += x[d] * x[d];
            }
            double rstd = 1 / sqrt(squares / D + 1e-5);
            for (int64_t d = 0; d < D; d++) {
                double weight = (double)w[d] + (dw ? step * (double)dw[(h < H ? 0 : D) + d] : 0);
                loss += x[d] * rstd * weight * (double)s->direction[m * WIDTH + h * D + d];
            }
        }
    }
    return loss;
}

static void run(sample *s, float *y, float *gradient, float dw[2 * D], int threads)
{
    eq_arena arena;
    ctx.threads = threads;
    assert_int_equal(eq_arena_reserve(&ctx, &arena, 1 << 20), EQ_OK);
    eq_head_norm_scratch scratch = eq_head_norm_layout(&arena, &SHAPE, threads, true);
    memcpy(y, s->qkv, sizeof s->qkv);
    eq_head_norm_forward(&ctx, y, s->wq, s->wk, &SHAPE, &scratch);
    memcpy(gradient, s->direction, sizeof s->direction);
    memset(dw, 0, 2 * D * sizeof *dw);
    eq_head_norm_backward(&ctx, gradient, dw, dw + D, s->wq, s->wk, &SHAPE, &scratch);
    eq_arena_release(&arena);
    ctx.threads = 2;
}

/* Central differences of a smooth loss in double: their error is about the square of the step,
 * 1e-6, and the gradients are sums in f32. */
static void head_norms_have_their_gradients(void **state)
{
    (void)state;
    static sample s;
    static float y[M * WIDTH], gradient[M * WIDTH], moved[M * WIDTH];
    float dw[2 * D], direction[2 * D];
    eq_rng rng;
    fill_sample(&s);
    run(&s, y, gradient, dw, 2);
    double loss = 0, slope = 0, weights = 0;
    for (int64_t i = 0; i < M * WIDTH; i++) {
        bool value = i % WIDTH >= ROTATED; /* v stays, and so does its gradient */
        if (value) assert_true(y[i] == s.qkv[i] && gradient[i] == s.direction[i]);
        if (!value) loss += (double)y[i] * (double)s.direction[i];
    }
    assert_true(fabs(loss - loss_of(&s, 0, NULL, NULL)) < 1e-4 * (1 + fabs(loss)));
    eq_rng_init(&rng, 11, 0);
    fill(moved, M * WIDTH, &rng, 0, 1);
    fill(direction, 2 * D, &rng, 0, 1);
    for (int64_t i = 0; i < M * WIDTH; i++)
        if (i % WIDTH < ROTATED) slope += (double)gradient[i] * (double)moved[i];
    for (int i = 0; i < 2 * D; i++)
        weights += (double)dw[i] * (double)direction[i];
    const double h = 1e-3;
    double by_input = (loss_of(&s, h, moved, NULL) - loss_of(&s, -h, moved, NULL)) / (2 * h);
    double by_weight =
        (loss_of(&s, h, NULL, direction) - loss_of(&s, -h, NULL, direction)) / (2 * h);
    assert_true(fabs(by_input - slope) < 1e-4 * (1 + fabs(slope)));
    assert_true(fabs(by_weight - weights) < 1e-4 * (1 + fabs(weights)));
    assert_true(fabs(by_weight - 1.01 * weights) > 1e-4 * (1 + fabs(weights))); /* is noticed */
}

static void threads_change_nothing(void **state)
{
    (void)state;
    static sample s;
    static float y[2][M * WIDTH], gradient[2][M * WIDTH];
    float dw[2][2 * D];
    fill_sample(&s);
    run(&s, y[0], gradient[0], dw[0], 1);
    run(&s, y[1], gradient[1], dw[1], 3);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(gradient[0], gradient[1], sizeof gradient[0]);
    assert_memory_equal(dw[0], dw[1], sizeof dw[0]);
}

/* What is rounded to bf16 is the exact value of rounded inputs, up to the last bits of f32: at most
 * one step of bf16, 2^-8, where these turn the rounding. */
static void head_norms_in_bf16(void **state)
{
    (void)state;
    static sample s;
    static float y[M * WIDTH], gradient[M * WIDTH];
    static uint16_t half[M * WIDTH], back[M * WIDTH];
    float dw[2 * D], dhalf[2 * D] = {0};
    eq_arena arena;
    eq_head_norm shape = SHAPE;
    shape.type = EQ_BF16;
    fill_sample(&s);
    for (int64_t i = 0; i < M * WIDTH; i++) {
        half[i] = eq_f32_bf16(s.qkv[i]);
        back[i] = eq_f32_bf16(s.direction[i]);
        s.qkv[i] = eq_bf16_f32(half[i]);
        s.direction[i] = eq_bf16_f32(back[i]);
    }
    run(&s, y, gradient, dw, 2);
    assert_int_equal(eq_arena_reserve(&ctx, &arena, 1 << 20), EQ_OK);
    eq_head_norm_scratch scratch = eq_head_norm_layout(&arena, &shape, ctx.threads, true);
    eq_head_norm_forward(&ctx, half, s.wq, s.wk, &shape, &scratch);
    eq_head_norm_backward(&ctx, back, dhalf, dhalf + D, s.wq, s.wk, &shape, &scratch);
    for (int64_t i = 0; i < M * WIDTH; i++) {
        assert_true(fabsf(eq_bf16_f32(half[i]) - y[i]) <= 0x1p-8f * fabsf(y[i]));
        /* a gradient is a difference of terms of about 1 */
        assert_true(fabsf(eq_bf16_f32(back[i]) - gradient[i]) <=
                    0x1p-8f * fabsf(gradient[i]) + 1e-5f);
    }
    for (int i = 0; i < 2 * D; i++)
        assert_true(fabsf(dhalf[i] - dw[i]) <= 1e-4f * (1 + fabsf(dw[i])));
    eq_arena_release(&arena);
}

/* ---- configurations ------------------------------------------------------------------------- */

static eq_status parse(eq_config *c, const char *type, const char *more)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"model_type\": \"%s\", \"num_hidden_layers\": 2, \"hidden_size\": 64,"
             " \"intermediate_size\": 96, \"num_attention_heads\": 4, \"vocab_size\": 50,"
             " \"max_position_embeddings\": 4096%s}",
             type, more);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    eq_ctx_clear(&ctx);
    eq_status st = eq_config_parse(&ctx, c, json, "config.json");
    json_decref(json);
    return st;
}

static void families(void **state)
{
    (void)state;
    static const struct {
        const char *type, *more, *family;
        int64_t D;
        bool qk_norm, qkv, out, mlp;
    } CASES[] = {{"llama", "", "llama", 16, false, false, false, false},
                 {"llama", ", \"attention_bias\": true", "llama", 16, false, true, true, false},
                 {"llama", ", \"mlp_bias\": true", "llama", 16, false, false, false, true},
                 {"mistral", ", \"sliding_window\": null", "llama", 16, false, false, false, false},
                 {"mistral", ", \"sliding_window\": 4096", "llama", 16, false, false, false, false},
                 {"qwen2", ", \"sliding_window\": 64", "qwen2", 16, false, true, false, false},
                 {"qwen2", ", \"layer_types\": [\"full_attention\"]", "qwen2", 16, false, true,
                  false, false},
                 {"qwen3", "", "qwen3", 128, true, false, false, false},
                 {"qwen3", ", \"head_dim\": 32, \"attention_bias\": true", "qwen3", 32, true, true,
                  true, false}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        eq_config c;
        assert_int_equal(parse(&c, CASES[i].type, CASES[i].more), EQ_OK);
        assert_string_equal(c.family, CASES[i].family);
        assert_int_equal(c.D, CASES[i].D);
        assert_true(c.qk_norm == CASES[i].qk_norm && c.qkv_bias == CASES[i].qkv);
        assert_true(c.out_bias == CASES[i].out && c.mlp_bias == CASES[i].mlp);
    }
}

static void what_is_not_computed_is_refused(void **state)
{
    (void)state;
    static const char *const CASES[][3] = {
        {"qwen2_moe", "", "qwen2_moe"},
        {"qwen3_moe", "", "qwen3_moe"},
        {"mistral", ", \"sliding_window\": 1024", "sliding_window of 1024"},
        {"qwen2", ", \"use_sliding_window\": true, \"sliding_window\": 64", "sliding_window of 64"},
        {"qwen3", ", \"layer_types\": [\"chunked_attention\"]", "chunked_attention"},
        {"qwen2", ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}", "\"yarn\""},
        {"qwen3", ", \"hidden_act\": \"gelu\"", "\"gelu\""}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        eq_config c;
        assert_int_equal(parse(&c, CASES[i][0], CASES[i][1]), EQ_EFORMAT);
        if (!strstr(ctx.message, CASES[i][2])) fail_msg("%s", ctx.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_follow_each_other),
        cmocka_unit_test(biases_are_added),
        cmocka_unit_test(head_norms_have_their_gradients),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(head_norms_in_bf16),
        cmocka_unit_test(families),
        cmocka_unit_test(what_is_not_computed_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
