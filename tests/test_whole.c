/* The whole decoder's loss and gradients against golden values of PyTorch (tests/golden/e2e), for
 * every kind of loss; the optimizer with clipping; and that a step allocates nothing. */
#include "io/safetensors.h"
#include "support_numbers.h"
#include "train/schedule.h"
#include "train/whole.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { WINDOWS = 2, T = 24, TOP = 8 };

/* Sums over 24 positions and 80 logits in f32 on both sides, through 2 blocks. */
static const double ABSOLUTE = 2e-6, RELATIVE = 2e-4;

static eq_ctx ctx;

typedef struct golden {
    const char *folder; /* "w2", "w3" */
    eq_checkpoint *student_files, *teacher_files;
    eq_decoder *student, *teacher;
    eq_safetensors *expected;
    eq_block_scheme *schemes;
    eq_whole whole;
} golden;

static eq_tensor tensor(const golden *g, const char *name)
{
    eq_tensor t;
    assert_int_equal(eq_safetensors_get(&ctx, g->expected, name, &t), EQ_OK);
    return t;
}

static void load_blocks(golden *g)
{
    for (int64_t i = 0; i < g->student->config.L; i++)
        assert_int_equal(eq_whole_load(&ctx, &g->whole, i, &g->student->blocks[i].block), EQ_OK);
}

static void open_golden(golden *g, const char *folder, const eq_logits_weights *weights,
                        int64_t top)
{
    char path[128];
    *g = (golden){.folder = folder};
    snprintf(path, sizeof path, "tests/golden/e2e/%s", folder);
    assert_int_equal(eq_checkpoint_open(&ctx, &g->student_files, path), EQ_OK);
    assert_int_equal(eq_checkpoint_open(&ctx, &g->teacher_files, "tests/golden/e2e/teacher"),
                     EQ_OK);
    assert_int_equal(eq_decoder_open(&ctx, &g->student, g->student_files), EQ_OK);
    assert_int_equal(eq_decoder_open(&ctx, &g->teacher, g->teacher_files), EQ_OK);
    snprintf(path, sizeof path, "tests/golden/e2e/%s/expected.safetensors", folder);
    assert_int_equal(eq_safetensors_open(&ctx, &g->expected, path), EQ_OK);
    g->schemes = eq_schemes_uniform(&ctx, &(eq_scheme){g->student->bits, g->student->group, 0},
                                    g->student->config.L);
    const eq_whole_shape shape = {.base = g->student,
                                  .teacher = weights->kl > 0 ? g->teacher : NULL,
                                  .schemes = g->schemes,
                                  .train = EQ_TRAIN_NORMS,
                                  .weights = *weights,
                                  .top = top,
                                  .T = T,
                                  .type = EQ_F32};
    assert_int_equal(eq_whole_init(&ctx, &g->whole, &shape), EQ_OK);
    load_blocks(g);
}

static void close_golden(golden *g)
{
    eq_whole_deinit(&g->whole);
    eq_free(g->schemes);
    eq_safetensors_close(g->expected);
    eq_decoder_close(g->student);
    eq_decoder_close(g->teacher);
    eq_checkpoint_close(g->student_files);
    eq_checkpoint_close(g->teacher_files);
}

/* Loss and gradients of both windows together. */
static double step(golden *g, const char *mask)
{
    const int32_t *ids = tensor(g, "tokens").data;
    const uint8_t *counts = tensor(g, mask).data;
    int64_t positions = 0;
    double loss = 0;
    eq_parameters_zero_gradients(&ctx, &g->whole.parameters);
    for (int i = 0; i < WINDOWS; i++)
        positions += eq_logits_positions(counts + i * T, T);
    for (int i = 0; i < WINDOWS; i++) {
        int32_t top_ids[(T - 1) * TOP];
        float q[(T - 1) * TOP];
        double part;
        eq_whole_window window = {
            ids + i * T, counts + i * T, 1.0f / (float)positions, {top_ids, q}};
        if (g->whole.shape.top)
            assert_int_equal(eq_whole_find_top(&ctx, &g->whole, window.ids, &window.top), EQ_OK);
        assert_int_equal(eq_whole_window_pass(&ctx, &g->whole, &window, true, &part), EQ_OK);
        loss += part;
    }
    return loss;
}

static bool agrees(const golden *g, const char *prefix, const char *name, const float *found,
                   int64_t n)
{
    char key[160];
    snprintf(key, sizeof key, "%s.%s", prefix, name);
    eq_tensor t = tensor(g, key);
    assert_int_equal(eq_tensor_elems(&t), n);
    double worst = worst_error(found, t.data, n, ABSOLUTE, RELATIVE);
    if (worst > 1) print_message("%s %s: %g of the bound\n", g->folder, key, worst);
    return worst <= 1;
}

/* The parts of every unit, and the norms: all of `values` (scales) or of the gradients. */
static bool scales_agree(const golden *g, const char *prefix, bool gradients)
{
    const eq_config *c = &g->student->config;
    bool good = true;
    for (int64_t k = 0; k < c->L * EQ_UNITS; k++) {
        const eq_scales *s = &g->whole.scales[k];
        eq_part parts[EQ_MAX_PARTS];
        int count = eq_unit_parts(c, (eq_unit)(k % EQ_UNITS), parts);
        int64_t groups = s->shape.K / s->shape.g;
        for (int p = 0; p < count; p++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%lld.%s.scale", (long long)(k / EQ_UNITS),
                     parts[p].name);
            const float *found = (gradients ? s->ds : s->s) + parts[p].row0 * groups;
            good &= agrees(g, prefix, name, found, parts[p].rows * groups);
        }
    }
    return good;
}

static bool norms_agree(const golden *g, const char *prefix)
{
    static const char *const NAMES[2] = {"input_layernorm", "post_attention_layernorm"};
    const eq_config *c = &g->student->config;
    bool good = agrees(g, prefix, "model.norm.weight", g->whole.dnorms + 2 * c->L * c->C, c->C);
    for (int64_t i = 0; i < 2 * c->L; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)(i / 2),
                 NAMES[i % 2]);
        good &= agrees(g, prefix, name, g->whole.dnorms + i * c->C, c->C);
    }
    return good;
}

static void check(const char *name, const char *mask, float kl, float ce, float tau, int64_t top)
{
    const eq_logits_weights weights = {kl, ce, tau};
    const char *folders[] = {"w2", "w3"};
    for (int i = 0; i < 2; i++) {
        golden g;
        char prefix[32];
        open_golden(&g, folders[i], &weights, top);
        if (!eq_safetensors_has(g.expected, name)) { /* not every variant at 3 bits */
            assert_int_equal(i, 1);
            close_golden(&g);
            continue;
        }
        float loss = (float)step(&g, mask);
        assert_float_equal(loss, *(const float *)tensor(&g, name).data, 1e-5);
        snprintf(prefix, sizeof prefix, "%s.grad", name);
        assert_true(scales_agree(&g, prefix, true));
        assert_true(norms_agree(&g, prefix));
        /* A wrong value planted is seen. */
        g.whole.scales[5].ds[3] += 1e-3f;
        print_message("planted, so expected: ");
        assert_false(scales_agree(&g, prefix, true));
        close_golden(&g);
    }
}

static void cross_entropy(void **state)
{
    (void)state;
    check("ce", "mask_ones", 0, 1, 1, 0);
    check("ce_mask", "mask", 0, 1, 1, 0);
}

static void divergence(void **state)
{
    (void)state;
    check("kl", "mask_ones", 1, 0, 1, 0);
    check("kl_mask", "mask", 1, 0, 1, 0);
    check("kl_t2", "mask_ones", 1, 0, 2, 0);
    check("mix", "mask_ones", 0.7f, 0.3f, 1, 0);
}

static void likeliest_tokens(void **state)
{
    (void)state;
    check("top", "mask_ones", 1, 0, 1, TOP);
}

/* Every number of likeliest tokens, against picking one after the other. Rows of the head come
 * again and again, so that many logits are the same. */
static void likeliest_tokens_of_many_alike(void **state)
{
    (void)state;
    enum { VOCABULARY = 150, WIDTH = 8, ROWS = 5, DIFFERENT = 40 };
    static float weights[VOCABULARY * WIDTH], q[ROWS * VOCABULARY];
    static int32_t ids[ROWS * VOCABULARY];
    float x[ROWS * WIDTH], norm[WIDTH];
    fill_uniform(weights, DIFFERENT * WIDTH, -1, 1, 1);
    fill_uniform(x, ROWS * WIDTH, -1, 1, 2);
    fill_uniform(norm, WIDTH, 1, 1, 3);
    for (int i = DIFFERENT * WIDTH; i < VOCABULARY * WIDTH; i++)
        weights[i] = weights[i - DIFFERENT * WIDTH];
    const eq_tensor tensor = {
        .data = weights, .type = EQ_F32, .dims = 2, .shape = {VOCABULARY, WIDTH, 1, 1}};
    eq_stored stored = {{{0, VOCABULARY, false, tensor, {0}}}, 1};
    eq_linear head = eq_linear_stored(ctx.kernels, &stored, WIDTH);
    const eq_logits_end end = {norm, &head, 1e-5f};
    for (int64_t top = 1; top <= VOCABULARY; top++) {
        const eq_logits_shape shape = {ROWS + 1, WIDTH, VOCABULARY, EQ_F32, {1, 0, 1}, top};
        eq_arena arena = eq_arena_measure();
        eq_logits_loss_layout(&arena, &shape);
        assert_int_equal(eq_arena_reserve(&ctx, &arena, arena.used), EQ_OK);
        eq_logits_loss loss = eq_logits_loss_layout(&arena, &shape);
        const eq_logits_top found = {ids, q};
        eq_logits_find_top(&ctx, &loss, &end, x, &found);
        for (int64_t row = 0; row < ROWS; row++) {
            const float *logits = loss.logits + row * VOCABULARY;
            bool taken[VOCABULARY] = {false};
            for (int64_t i = 0; i < top; i++) {
                int best = -1;
                for (int v = 0; v < VOCABULARY; v++)
                    if (!taken[v] && (best < 0 || logits[v] > logits[best])) best = v;
                taken[best] = true;
                assert_int_equal(ids[row * top + i], best);
            }
        }
        eq_arena_release(&arena);
    }
}

/* The same loss and gradients, to the bit, when blocks keep their activations. */
static void kept_activations_change_nothing(void **state)
{
    (void)state;
    const eq_logits_weights weights = {1, 0.5f, 1};
    golden g, other;
    open_golden(&g, "w2", &weights, 0);
    double loss = step(&g, "mask");
    for (int64_t kept = 1; kept <= g.student->config.L; kept++) {
        open_golden(&other, "w2", &weights, 0);
        eq_whole_shape shape = other.whole.shape;
        shape.kept = kept;
        eq_whole_deinit(&other.whole);
        assert_int_equal(eq_whole_init(&ctx, &other.whole, &shape), EQ_OK);
        load_blocks(&other);
        assert_true(step(&other, "mask") == loss);
        for (int64_t i = 0; i < g.whole.parameters.count; i++) {
            const eq_parameter *a = &g.whole.parameters.list[i];
            const eq_parameter *b = &other.whole.parameters.list[i];
            assert_memory_equal(a->g, b->g, (size_t)a->n * sizeof *a->g);
        }
        close_golden(&other);
    }
    close_golden(&g);
}

/* Three steps of AdamW on the scales alone, gradients clipped to a norm of 0.3. */
static void clipped_steps(void **state)
{
    (void)state;
    const eq_logits_weights weights = {1, 0, 1};
    const eq_optimizer o = {
        .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .min_lr_factor = 1, .steps = 3};
    golden g;
    open_golden(&g, "w2", &weights, 0);
    eq_parameters scales = g.whole.parameters;
    scales.count--; /* the norms are the last */
    for (int t = 0; t < 3; t++) {
        const float *loss = tensor(&g, "adamw.loss").data, *norms = tensor(&g, "adamw.norm").data;
        assert_float_equal(step(&g, "mask_ones"), loss[t], 2e-5);
        double norm = eq_parameters_gradient_norm(&ctx, &scales);
        assert_float_equal(norm, norms[t], 2e-4 * norms[t]);
        if (norm > 0.3) eq_parameters_scale_gradients(&ctx, &scales, (float)(0.3 / norm));
        const eq_adamw s = eq_adamw_step(&o, 1e-3, t), steps[3] = {s, s, s};
        eq_parameters_step(&ctx, &scales, steps);
        if (t == 0) assert_true(scales_agree(&g, "adamw1", false));
    }
    assert_true(scales_agree(&g, "adamw3", false));
    close_golden(&g);
}

static void second_step_allocates_nothing(void **state)
{
    (void)state;
    const eq_logits_weights weights = {1, 0.5f, 2};
    golden g;
    open_golden(&g, "w2", &weights, 0);
    step(&g, "mask_ones");
    int64_t before = ctx.allocations;
    step(&g, "mask_ones");
    assert_int_equal(ctx.allocations, before);
    close_golden(&g);
}

static int setup(void **state)
{
    (void)state;
    eq_ctx_init(&ctx, 2);
    ctx.kernels = eq_kernels_get(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    eq_gemm_free(&ctx);
    return 0;
}

/* Llama 2 as published, at 2 bits in groups of 64. */
static double gibibytes(int64_t L, int64_t C, int64_t F, int64_t H, int64_t Hkv)
{
    const eq_decoder base = {
        .config = {.L = L, .C = C, .F = F, .H = H, .Hkv = Hkv, .D = 128, .V = 32000}};
    eq_block_scheme *schemes = eq_schemes_uniform(&ctx, &(eq_scheme){2, 64, 0}, L);
    const eq_whole_shape shape = {.base = &base,
                                  .schemes = schemes,
                                  .train = EQ_TRAIN_NORMS,
                                  .weights = {.ce = 1, .temperature = 1},
                                  .T = 1024,
                                  .type = EQ_BF16};
    double bytes = (double)eq_whole_bytes(&shape, 2);
    eq_free(schemes);
    return bytes / (1 << 30);
}

/* Without a teacher; embedding and head stay in their mapped files. */
static void large_models_fit(void **state)
{
    (void)state;
    double small = gibibytes(32, 4096, 11008, 32, 32), large = gibibytes(80, 8192, 28672, 64, 8);
    print_message("end to end, 1024 tokens: 7B %.1f GiB, 70B %.1f GiB\n", small, large);
    assert_true(small > 1.6 && small < 8); /* the codes alone are 1.5 GiB */
    assert_true(large > 16 && large < 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_models_fit), cmocka_unit_test(kept_activations_change_nothing),
        cmocka_unit_test(cross_entropy),    cmocka_unit_test(divergence),
        cmocka_unit_test(likeliest_tokens), cmocka_unit_test(likeliest_tokens_of_many_alike),
        cmocka_unit_test(clipped_steps),    cmocka_unit_test(second_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
