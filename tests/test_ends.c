/* The embedding and the head at bits of their own: the grid, the packed tensors, single rows. */
#include "base/rng.h"
#include "support_files.h"
#include "support_model.h"
#include "train/ends.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { V = 256, C = 64, GROUPS = C / 32 };

static eq_ctx ctx;

/* The small model with the first V rows of its embedding and head, and a folder for a run. */
typedef struct fixture {
    small_model model;
    eq_decoder source;
    eq_run run;
    eq_ends ends;
    float *weights; /* [V, C] of the embedding when a test has its own */
} fixture;

static void link_source(fixture *f)
{
    f->source.embedding_stored.parts[0].rows = f->source.head_stored.parts[0].rows = V;
    eq_decoder_link_ends(&f->source, ctx.kernels);
}

static int make(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    eq_ctx_clear(&ctx);
    small_model_open(&ctx, &f->model, false);
    f->source = *f->model.decoder;
    f->source.config.V = V;
    f->run.folder = folder_make();
    f->weights = calloc(V * C, sizeof *f->weights);
    link_source(f);
    *state = f;
    return 0;
}

static int destroy(void **state)
{
    fixture *f = *state;
    eq_ends_close(&f->ends);
    small_model_close(&f->model);
    folder_remove(f->run.folder);
    free(f->weights);
    free(f);
    return 0;
}

static void use_weights(fixture *f)
{
    f->source.embedding_stored.parts[0].tensor =
        (eq_tensor){.data = f->weights, .type = EQ_F32, .dims = 2, .shape = {V, C, 1, 1}};
    link_source(f);
}

static eq_status round_to(fixture *f, int embedding, int head)
{
    const eq_scheme schemes[EQ_ENDS] = {eq_end_scheme(embedding), eq_end_scheme(head)};
    assert_int_equal(eq_ends_check(&ctx, &f->source.config, schemes), EQ_OK);
    return eq_ends_make(&ctx, &f->ends, &f->source, schemes, &f->run);
}

static const eq_qmatrix *packed(const fixture *f, int which)
{
    const eq_decoder *d = &f->ends.decoder;
    return which == EQ_HEAD ? &d->head_stored.parts[0].matrix
                            : &d->embedding_stored.parts[0].matrix;
}

/* A weight from the bytes of the file, whose word [k * bits / 32][row] has the codes from its
 * lowest bits on. */
static float weight_at(const eq_qmatrix *q, int64_t row, int64_t k)
{
    const uint8_t *bytes = q->qweight;
    int64_t bit = k * q->bits % 32, word = k * q->bits / 32 * V + row;
    int code = bytes[word * 4 + bit / 8] >> bit % 8 & ((1 << q->bits) - 1);
    uint16_t half;
    memcpy(&half, (const char *)q->scales + (k / 32 * V + row) * 2, sizeof half);
    return (float)(code - (1 << (q->bits - 1))) * eq_f16_f32(half);
}

static bool rows_are(const float *x, const int32_t *ids, int64_t n, const eq_qmatrix *q)
{
    for (int64_t i = 0; i < n * C; i++)
        if (x[i] != weight_at(q, ids[i / C], i % C)) return false;
    return true;
}

static void single_rows(void **state)
{
    fixture *f = *state;
    const int32_t ids[] = {0, 255, 7, 7, 128, 31}, wrong[] = {0, 255, 7, 7, 129, 31}, bad[] = {V};
    enum { COUNT = sizeof ids / sizeof *ids };
    float x[COUNT * C];
    for (int bits = 4; bits <= 8; bits += 4) {
        eq_ends_close(&f->ends);
        folder_remove(f->run.folder);
        f->run.folder = folder_make();
        assert_int_equal(round_to(f, bits, 16), EQ_OK);
        assert_int_equal(eq_embed(&ctx, &f->ends.decoder.embedding, x, ids, COUNT), EQ_OK);
        assert_true(rows_are(x, ids, COUNT, packed(f, EQ_EMBEDDING)));
        assert_false(rows_are(x, wrong, COUNT, packed(f, EQ_EMBEDDING)));
        assert_int_equal(eq_embed(&ctx, &f->ends.decoder.embedding, x, bad, 1), EQ_EINVAL);
        eq_ctx_clear(&ctx);
        /* The head is what it was. */
        float a[C], b[C];
        f->ends.decoder.head.form->rows(&f->ends.decoder.head, a, EQ_F32, 9, 1);
        f->source.head.form->rows(&f->source.head, b, EQ_F32, 9, 1);
        assert_memory_equal(a, b, sizeof a);
    }
}

/* sqrt(sum (w^ - w)^2 / sum w^2) of the embedding. */
static double relative_error(fixture *f)
{
    double error = 0, sum = 0;
    for (int64_t row = 0; row < V; row++) {
        float w[C];
        f->source.embedding.form->rows(&f->source.embedding, w, EQ_F32, row, 1);
        for (int k = 0; k < C; k++) {
            double d = (double)weight_at(packed(f, EQ_EMBEDDING), row, k) - (double)w[k];
            error += d * d;
            sum += (double)w[k] * (double)w[k];
        }
    }
    return sqrt(error / sum);
}

static void middle_zeros(const eq_qmatrix *q)
{
    float s[GROUPS], z[GROUPS];
    for (int64_t row = 0; row < V; row++) {
        eq_qmatrix_grid(s, z, q, row);
        for (int k = 0; k < GROUPS; k++)
            assert_true(z[k] == (float)(1 << (q->bits - 1)) && s[k] != 0);
    }
}

/* Normal weights: an error of about s / sqrt(12) with s of about 2.3 / 2^(bits-1) deviations. */
static void normal_weights(void **state)
{
    fixture *f = *state;
    assert_int_equal(round_to(f, 8, 4), EQ_OK);
    middle_zeros(packed(f, EQ_EMBEDDING));
    middle_zeros(packed(f, EQ_HEAD));
    assert_int_equal(packed(f, EQ_HEAD)->bits, 4);
    double error = relative_error(f);
    assert_true(error > 0.002 && error < 0.008);
}

/* codes times d, each group with codes up to the end of ggml's range, is kept to the last bit. */
static void blocks_are_kept(void **state)
{
    fixture *f = *state;
    eq_rng rng;
    eq_rng_init(&rng, 11, 0);
    for (int bits = 4; bits <= 8; bits += 4) {
        int most = bits == 8 ? 127 : 8; /* Q4_0 gives its code 0, -8 d, to the largest */
        for (int64_t i = 0; i < V * C; i += 32) {
            float d = eq_f16_f32((uint16_t)(0x1400 + eq_rng_below(&rng, 0x1000)));
            if (eq_rng_below(&rng, 2)) d = -d;
            for (int k = 0; k < 32; k++)
                f->weights[i + k] =
                    ((float)eq_rng_below(&rng, (uint64_t)(2 * most)) - (float)most) * d;
            f->weights[i + 5] = (float)-most * d;
        }
        use_weights(f);
        eq_ends_close(&f->ends);
        folder_remove(f->run.folder);
        f->run.folder = folder_make();
        assert_int_equal(round_to(f, bits, 16), EQ_OK);
        assert_true(relative_error(f) == 0);
        f->weights[40] += 0.01f; /* the comparison sees one weight that is another */
        assert_true(relative_error(f) > 0);
    }
}

static void tied(void **state)
{
    fixture *f = *state;
    f->source.config.tied = true;
    link_source(f);
    assert_int_equal(round_to(f, 8, 8), EQ_OK);
    assert_ptr_equal(packed(f, EQ_HEAD)->qweight, packed(f, EQ_EMBEDDING)->qweight);
    assert_null(f->ends.files[EQ_HEAD]);
}

static void refused(void **state)
{
    fixture *f = *state;
    static const struct {
        int64_t V, C;
        int embedding, head;
        const char *message; /* NULL: fine */
    } CASES[] = {{256, 64, 8, 8, NULL},
                 {252, 64, 8, 16, NULL},
                 {257, 64, 16, 16, NULL},
                 {257, 64, 8, 16, "vocabulary of 257 at 8 bits"},
                 {252, 64, 8, 4, "lm_head: a vocabulary of 252"},
                 {256, 48, 4, 16, "model.embed_tokens: a group of 32 does not divide"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const eq_config config = {.V = CASES[i].V, .C = CASES[i].C};
        const eq_scheme schemes[EQ_ENDS] = {eq_end_scheme(CASES[i].embedding),
                                            eq_end_scheme(CASES[i].head)};
        eq_ctx_clear(&ctx);
        eq_status st = eq_ends_check(&ctx, &config, schemes);
        assert_int_equal(st, CASES[i].message ? EQ_EINVAL : EQ_OK);
        if (CASES[i].message && !strstr(ctx.message, CASES[i].message))
            fail_msg("%s: expected: %s", ctx.message, CASES[i].message);
    }
    eq_ctx_clear(&ctx);
    f->weights[3 * C + 1] = NAN;
    use_weights(f);
    assert_int_equal(round_to(f, 8, 16), EQ_ENUMERIC);
    assert_non_null(strstr(ctx.message, "model.embed_tokens.weight: row 3"));
}

static void every_allocation_may_fail(void **state)
{
    fixture *f = *state;
    eq_status st = EQ_ENOMEM;
    for (int64_t n = 1; st == EQ_ENOMEM; n++) {
        eq_ends_close(&f->ends);
        eq_ctx_clear(&ctx);
        ctx.fail_allocation = ctx.allocations + n;
        st = round_to(f, 8, 4);
        if (st == EQ_OK) assert_true(n > 10);
    }
    ctx.fail_allocation = 0;
    assert_int_equal(st, EQ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(single_rows, make, destroy),
        cmocka_unit_test_setup_teardown(normal_weights, make, destroy),
        cmocka_unit_test_setup_teardown(blocks_are_kept, make, destroy),
        cmocka_unit_test_setup_teardown(tied, make, destroy),
        cmocka_unit_test_setup_teardown(refused, make, destroy),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, make, destroy),
    };
    context_init(&ctx, 2);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    context_deinit(&ctx);
    return failed;
}
