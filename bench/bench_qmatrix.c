/* Speed of unpacking the GPTQ layout, on one thread: millions of weights per second, in pieces of
 * 32 rows of a 1536 x 576 matrix with groups of 64, as the model does it. */
#include "base/context.h"
#include "tensor/qmatrix.h"

#include <stdio.h>

enum { N = 1536, K = 576, GROUP = 64, ROWS = 32, TRIES = 100 };

static double seconds_of_one(const eq_qmatrix *q, void *out, eq_dtype type)
{
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) {
        double start = eq_seconds();
        for (int64_t row = 0; row < N; row += ROWS)
            eq_qmatrix_unpack(out, type, q, row, ROWS);
        double seconds = eq_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

int main(void)
{
    static const struct {
        const char *name;
        int bits;
        eq_qlayout layout;
    } CASES[] = {{"", 2, {0}},
                 {"", 3, {0}},
                 {"", 4, {0}},
                 {"", 8, {0}},
                 {", padded", 3, {.padded = true}},
                 {", compressed-tensors", 2, {.rows_first = true}},
                 {", compressed-tensors", 4, {.rows_first = true}},
                 {", AWQ", 4, {.across = true, .interleaved = true}},
                 {", activation order", 4, {0}}};
    eq_ctx ctx;
    eq_ctx_init(&ctx, 1);
    /* Sizes for the most bits serve all. Codes and zero points are 0, which takes no less time. */
    eq_qmatrix q = {.N = N, .K = K, .g = GROUP, .scale_type = EQ_F16};
    int32_t order[K];
    void *weight = eq_alloc(&ctx, (int64_t)eq_qmatrix_weight_bytes(N, K, 8), 1);
    void *zero = eq_alloc(&ctx, (int64_t)eq_qmatrix_zero_bytes(N, K, GROUP, 8), 1);
    void *scale = eq_alloc(&ctx, (int64_t)eq_qmatrix_scale_bytes(N, K, GROUP), 1);
    void *out = eq_alloc(&ctx, (int64_t)ROWS * K, sizeof(float));
    bool ready = weight && zero && scale && out;
    q.qweight = weight;
    q.qzeros = zero;
    q.scales = scale;
    for (int k = 0; k < K; k++)
        order[k] = k % (K / GROUP);
    const int count = (int)(sizeof CASES / sizeof *CASES);
    for (int i = 0; ready && i < count; i++) {
        q.bits = CASES[i].bits;
        q.layout = CASES[i].layout;
        q.order = i == count - 1 ? order : NULL;
        printf("%d bits%s: f32 %5.0f, bf16 %5.0f M weights/s\n", q.bits, CASES[i].name,
               1e-6 * N * K / seconds_of_one(&q, out, EQ_F32),
               1e-6 * N * K / seconds_of_one(&q, out, EQ_BF16));
    }
    if (!ready) fprintf(stderr, "%s\n", ctx.message);
    eq_free(weight);
    eq_free(zero);
    eq_free(scale);
    eq_free(out);
    return !ready;
}
