/* The block against PyTorch: outputs and gradients of all weights, through dense and fake-quantized
 * linears; and that a training step allocates nothing. */
#include "base/rng.h"
#include "io/safetensors.h"
#include "train/block_ap.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* The golden values were computed in double: sums of some hundred f32 products lose a few units of
 * 2^-24 each. */
static const double BOUND = 2e-5;

enum { B = 2, T = 13, C = 24, H = 3, D = 8, F = 40, M = B * T };

static const eq_config CONFIG = {
    .L = 1, .C = C, .F = F, .H = H, .Hkv = 1, .D = D, .V = 50, .theta = 1e4, .eps = 1e-5f};

/* The same of other families: biases of q, k and v; norms of the heads of q and k. */
static const eq_config QWEN2 = {.L = 1,
                                .C = C,
                                .F = F,
                                .H = H,
                                .Hkv = 1,
                                .D = D,
                                .V = 50,
                                .theta = 1e4,
                                .eps = 1e-5f,
                                .qkv_bias = true};
static const eq_config QWEN3 = {.L = 1,
                                .C = C,
                                .F = F,
                                .H = H,
                                .Hkv = 1,
                                .D = D,
                                .V = 50,
                                .theta = 1e4,
                                .eps = 1e-5f,
                                .qk_norm = true};

/* A trainable dense linear, for the test only: keeps W and adds up dW. */
typedef struct dense {
    float *w, *dw;
} dense;

static void dense_rows(const eq_linear *l, void *out, eq_dtype type, int64_t row0, int64_t rows)
{
    const dense *d = l->state;
    assert_int_equal(type, EQ_F32);
    memcpy(out, d->w + row0 * l->K, (size_t)(rows * l->K) * sizeof(float));
}

static const void *dense_whole(const eq_linear *l, eq_dtype type)
{
    const dense *d = l->state;
    return type == EQ_F32 ? d->w : NULL;
}

static void dense_gradient(eq_linear *l, float *dw, int64_t row0, int64_t rows)
{
    dense *d = l->state;
    for (int64_t i = 0; i < rows * l->K; i++)
        d->dw[row0 * l->K + i] += dw[i];
}

static const eq_linear_form DENSE = {
    .rows = dense_rows, .whole = dense_whole, .gradient = dense_gradient};

static eq_ctx ctx;

static float *take(eq_arena *arena, int64_t n)
{
    return eq_arena_take(arena, n, sizeof(float));
}

static void load(eq_safetensors *file, float *out, const char *name, int64_t n)
{
    eq_tensor t;
    assert_int_equal(eq_safetensors_get(&ctx, file, name, &t), EQ_OK);
    assert_int_equal(eq_tensor_elems(&t), n);
    memcpy(out, t.data, (size_t)n * sizeof *out);
}

/* Largest difference as a share of the largest expected value. */
static double worst(const float *got, const float *expected, int64_t n)
{
    double largest = 0, difference = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)expected[i]));
        difference = fmax(difference, fabs((double)got[i] - (double)expected[i]));
    }
    return difference / largest;
}

static void expect(eq_safetensors *file, const char *name, const float *got, int64_t n)
{
    float *expected = eq_alloc(&ctx, n, sizeof *expected);
    load(file, expected, name, n);
    double error = worst(got, expected, n);
    if (error > BOUND) print_error("%s: %g\n", name, error);
    assert_true(error <= BOUND);
    expected[n / 2] += 1e-3f * fabsf(expected[n / 2]) + 1e-3f; /* a wrong value is noticed */
    assert_true(worst(got, expected, n) > BOUND);
    eq_free(expected);
}

/* Rows of a unit's part, by name. */
static void for_parts(eq_safetensors *file, const char *prefix, const char *suffix, eq_unit unit,
                      float *rows, int64_t columns, bool check)
{
    eq_part parts[EQ_MAX_PARTS];
    int count = eq_unit_parts(&CONFIG, unit, parts);
    for (int p = 0; p < count; p++) {
        char name[96];
        snprintf(name, sizeof name, "%s%s.%s", prefix, parts[p].name, suffix);
        float *at = rows + parts[p].row0 * columns;
        if (check)
            expect(file, name, at, parts[p].rows * columns);
        else
            load(file, at, name, parts[p].rows * columns);
    }
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

/* Vectors of a block, or gradients of its norms, at their places in `values`. */
static void for_vectors(eq_safetensors *file, const char *prefix, const eq_config *config,
                        float *values, bool check)
{
    eq_vector list[EQ_MOST_VECTORS];
    int count = eq_vectors(config, list);
    for (int v = 0; v < count; v++) {
        char name[96];
        snprintf(name, sizeof name, "%s%s.%s", prefix, list[v].module, list[v].suffix);
        if (!check)
            load(file, values + list[v].offset, name, list[v].n);
        else if (list[v].offset < eq_norm_elems(config))
            expect(file, name, values + list[v].offset, list[v].n);
    }
}

/* Everything of one dense block; arena of a fixed size, far above what these shapes need. */
static void check_dense(const char *path, const eq_config *config)
{
    eq_arena arena;
    eq_safetensors *file;
    dense units[EQ_UNITS];
    assert_int_equal(eq_arena_reserve(&ctx, &arena, 64 << 20), EQ_OK);
    assert_int_equal(eq_safetensors_open(&ctx, &file, path), EQ_OK);
    float *vectors = take(&arena, eq_vector_elems(config));
    float *dnorms = take(&arena, eq_norm_elems(config));
    eq_block block = {.config = config};
    eq_block_set_norms(&block, vectors, dnorms);
    eq_block_set_biases(&block, vectors + eq_norm_elems(config));
    for (int u = 0; u < EQ_UNITS; u++) {
        int64_t N = eq_unit_rows(config, (eq_unit)u), K = eq_unit_columns(config, (eq_unit)u);
        units[u] = (dense){take(&arena, N * K), take(&arena, N * K)};
        for_parts(file, "", "weight", (eq_unit)u, units[u].w, K, false);
        block.units[u] = (eq_linear){&DENSE, ctx.kernels, N, K, &units[u]};
    }
    for_vectors(file, "", config, vectors, false);
    const eq_block_shape shape = {B, T, EQ_F32, true};
    eq_activations acts = eq_activations_layout(&arena, config, &shape, ctx.threads);
    eq_rope rope = eq_rope_layout(&arena, config, T);
    eq_rope_fill(&rope, config, 0, T);
    load(file, acts.x, "x", M * C);
    eq_block_forward(&ctx, &block, &rope, &acts);
    expect(file, "y", acts.y, M * C);
    load(file, acts.dh, "dy", M * C);
    eq_block_backward(&ctx, &block, &rope, &acts);
    expect(file, "grad.x", acts.dh, M * C);
    for (int u = 0; u < EQ_UNITS; u++)
        for_parts(file, "grad.", "weight", (eq_unit)u, units[u].dw, block.units[u].K, true);
    for_vectors(file, "grad.", config, dnorms, true);
    assert_int_equal(eq_ctx_status(&ctx), EQ_OK);
    eq_safetensors_close(file);
    eq_arena_release(&arena);
}

static void dense_block_matches(void **state)
{
    (void)state;
    check_dense("tests/golden/block.safetensors", &CONFIG);
}

static void block_with_biases_matches(void **state)
{
    (void)state;
    check_dense("tests/golden/block_qwen2.safetensors", &QWEN2);
}

static void block_with_head_norms_matches(void **state)
{
    (void)state;
    check_dense("tests/golden/block_qwen3.safetensors", &QWEN3);
}

static void load_fake_block(eq_safetensors *file, eq_fake fakes[EQ_UNITS], eq_block *block,
                            eq_arena *arena)
{
    for (int u = 0; u < EQ_UNITS; u++) {
        int64_t N = eq_unit_rows(&CONFIG, (eq_unit)u), K = eq_unit_columns(&CONFIG, (eq_unit)u);
        const eq_quant_shape quant = {.K = K, .g = 8, .bits = 2};
        const eq_fake_kind kind = {.type = EQ_F32, .keep_gradients = true, .exact_scales = true};
        fakes[u] = eq_fake_layout(arena, N, &quant, &kind);
        fakes[u].effective = eq_arena_take(arena, N * K, sizeof(float));
        for_parts(file, "", "weight", (eq_unit)u, fakes[u].w, K, false);
        for_parts(file, "", "scale", (eq_unit)u, fakes[u].s, K / 8, false);
        for_parts(file, "", "zero_point", (eq_unit)u, fakes[u].z, K / 8, false);
        block->units[u] = eq_linear_fake(ctx.kernels, &fakes[u]);
        eq_fake_refresh(&ctx, &fakes[u]);
    }
    load(file, block->norm1, "input_layernorm.weight", C);
    load(file, block->norm2, "post_attention_layernorm.weight", C);
}

static void check_fake(eq_loss loss, const char *name)
{
    char prefix[32], key[96];
    eq_arena arena;
    eq_safetensors *file;
    eq_fake fakes[EQ_UNITS];
    snprintf(prefix, sizeof prefix, "%s.grad.", name);
    assert_int_equal(eq_arena_reserve(&ctx, &arena, 64 << 20), EQ_OK);
    assert_int_equal(eq_safetensors_open(&ctx, &file, "tests/golden/block_fake.safetensors"),
                     EQ_OK);
    eq_block block = {.config = &CONFIG,
                      .norm1 = take(&arena, C),
                      .norm2 = take(&arena, C),
                      .dnorm1 = take(&arena, C),
                      .dnorm2 = take(&arena, C)};
    load_fake_block(file, fakes, &block, &arena);
    const eq_block_shape shape = {B, T, EQ_F32, true};
    eq_activations acts = eq_activations_layout(&arena, &CONFIG, &shape, ctx.threads);
    eq_rope rope = eq_rope_layout(&arena, &CONFIG, T);
    float *target = take(&arena, M * C), *rows = take(&arena, M);
    eq_rope_fill(&rope, &CONFIG, 0, T);
    load(file, acts.x, "x", M * C);
    load(file, target, "target", M * C);
    eq_block_forward(&ctx, &block, &rope, &acts);
    expect(file, "y", acts.y, M * C);
    const eq_reconstruction reconstruction = {M, C, EQ_F32, loss};
    float value =
        (float)eq_reconstruction_loss(&ctx, acts.dh, acts.y, target, rows, &reconstruction);
    snprintf(key, sizeof key, "%s.loss", name);
    expect(file, key, &value, 1);
    eq_block_backward(&ctx, &block, &rope, &acts);
    for (int u = 0; u < EQ_UNITS; u++) {
        int64_t K = block.units[u].K;
        for_parts(file, prefix, "weight", (eq_unit)u, fakes[u].dw, K, true);
        for_parts(file, prefix, "scale", (eq_unit)u, fakes[u].ds, K / 8, true);
        for_parts(file, prefix, "zero_point", (eq_unit)u, fakes[u].dz, K / 8, true);
    }
    eq_safetensors_close(file);
    eq_arena_release(&arena);
}

static void fake_block_matches_mse(void **state)
{
    (void)state;
    check_fake(EQ_LOSS_MSE, "mse");
}

static void fake_block_matches_relative(void **state)
{
    (void)state;
    check_fake(EQ_LOSS_RELATIVE, "relative");
}

/* Along a random direction, the loss changes as its gradient says. Step 1e-2: the loss is
 * quadratic, and f32 sums of some hundred terms carry about 1e-6. */
static void losses_have_their_gradients(void **state)
{
    (void)state;
    enum { ROWS = 5, COLUMNS = 7, N = ROWS * COLUMNS };
    float y[N], g[N], dy[N], moved[N], direction[N], rows[ROWS];
    eq_rng rng;
    eq_rng_init(&rng, 3, 0);
    for (int i = 0; i < N; i++) {
        y[i] = (float)eq_rng_normal(&rng);
        g[i] = (float)eq_rng_normal(&rng);
        direction[i] = (float)eq_rng_normal(&rng);
    }
    for (int loss = EQ_LOSS_MSE; loss <= EQ_LOSS_RELATIVE; loss++) {
        const eq_reconstruction shape = {ROWS, COLUMNS, EQ_F32, (eq_loss)loss};
        double step = 1e-2, slope = 0, values[2];
        eq_reconstruction_loss(&ctx, dy, y, g, rows, &shape);
        for (int i = 0; i < N; i++)
            slope += (double)dy[i] * (double)direction[i];
        for (int side = 0; side < 2; side++) {
            float scratch[N];
            for (int i = 0; i < N; i++)
                moved[i] = y[i] + (side ? 1.0f : -1.0f) * (float)step * direction[i];
            values[side] = eq_reconstruction_loss(&ctx, scratch, moved, g, rows, &shape);
        }
        assert_true(fabs((values[1] - values[0]) / (2 * step) - slope) < 1e-3 * (1 + fabs(slope)));
    }
}

/* The second step of training calls the allocator not once; results are the same for 1 and 3
 * threads. */
static void run_steps(float *out, int threads, int64_t *allocations)
{
    eq_student s;
    eq_stream input, target;
    eq_rng rng;
    ctx.threads = threads;
    const eq_block_scheme scheme = eq_scheme_block(&(eq_scheme){.bits = 2, .group = 8});
    const eq_student_shape shape = {.config = &CONFIG,
                                    .schemes = &scheme,
                                    .blocks = 1,
                                    .T = T,
                                    .type = EQ_F32,
                                    .options = {.start = EQ_START_MINMAX,
                                                .loss = EQ_LOSS_BOUNDED,
                                                .epochs = 1,
                                                .batch = B,
                                                .quant_lr = 1e-3,
                                                .weight_lr = 1e-3,
                                                .min_lr_factor = 20,
                                                .beta1 = 0.9,
                                                .beta2 = 0.999,
                                                .epsilon = 1e-8}};
    const eq_stream_shape stream = {B, T, C, EQ_F32};
    eq_rng_init(&rng, 5, 0);
    assert_int_equal(eq_student_init(&ctx, &s, &shape), EQ_OK);
    for (int u = 0; u < EQ_UNITS; u++)
        for (int64_t i = 0; i < s.fakes[u].N * s.fakes[u].shape.K; i++)
            s.fakes[u].w[i] = 0.2f * (float)eq_rng_normal(&rng);
    for (int i = 0; i < 2 * C; i++)
        s.vectors[i] = 1;
    eq_student_start(&ctx, &s);
    assert_int_equal(eq_stream_create(&ctx, &input, &stream, NULL), EQ_OK);
    assert_int_equal(eq_stream_create(&ctx, &target, &stream, NULL), EQ_OK);
    for (int i = 0; i < M * C; i++) {
        ((float *)(void *)input.ram)[i] = (float)eq_rng_normal(&rng);
        ((float *)(void *)target.ram)[i] = (float)eq_rng_normal(&rng);
    }
    const eq_student_data data = {.input = &input, .target = &target, .samples = B};
    const eq_fit_options fit = {.name = "test", .samples = B, .batch = B, .epochs = 1, .tokens = T};
    assert_int_equal(eq_student_fit(&ctx, &s, &data, &fit, NULL), EQ_OK);
    *allocations = ctx.allocations;
    assert_int_equal(eq_student_fit(&ctx, &s, &data, &fit, NULL), EQ_OK);
    *allocations = ctx.allocations - *allocations;
    memcpy(out, s.fakes[EQ_GATE_UP].w, (size_t)(2 * F * C) * sizeof *out);
    eq_stream_close(&input);
    eq_stream_close(&target);
    eq_student_deinit(&s);
    eq_gemm_free(&ctx);
    ctx.threads = 2;
}

static void second_step_allocates_nothing(void **state)
{
    (void)state;
    static float one[2 * F * C], three[2 * F * C];
    int64_t allocations = -1;
    run_steps(one, 1, &allocations);
    assert_int_equal(allocations, 0);
    run_steps(three, 3, &allocations);
    assert_int_equal(allocations, 0);
    assert_memory_equal(one, three, sizeof one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_block_matches),
        cmocka_unit_test(block_with_biases_matches),
        cmocka_unit_test(block_with_head_norms_matches),
        cmocka_unit_test(fake_block_matches_mse),
        cmocka_unit_test(fake_block_matches_relative),
        cmocka_unit_test(losses_have_their_gradients),
        cmocka_unit_test(second_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
