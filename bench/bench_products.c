/* Products of blocks of large models, whose weights no benchmark of ours has at hand: GFLOP/s, the
 * fastest of some runs.
 *   bench_products      no options */
#include "kernels/gemm.h"

#include <stdio.h>
#include <stdlib.h>

enum { RUNS = 5, C = 4096, F = 11008, T = 2048 };

static void measure(eq_ctx *ctx, const char *name, const eq_gemm *g, void *memory[3])
{
    double best = 0;
    for (int i = 0; i <= RUNS; i++) {
        const double start = eq_seconds();
        eq_gemm_run(ctx, g, memory[0], memory[1], memory[2]);
        const double seconds = eq_seconds() - start;
        if (i && (best == 0 || seconds < best)) best = seconds; /* the first one makes its plan */
    }
    printf("%-44s %8.0f\n", name, 2e-9 * (double)g->M * (double)g->N * (double)g->K / best);
}

int main(void)
{
    eq_ctx *ctx;
    void *memory[3];
    if (eq_ctx_new(&ctx, NULL) != EQ_OK) return 1;
    const eq_dtype type = eq_gemm_has_bf16(ctx) ? EQ_BF16 : EQ_F32;
    const eq_gemm attention = eq_gemm_forward(T, C, C, type, EQ_F32),
                  gate = eq_gemm_forward(T, F, C, type, EQ_F32),
                  input = eq_gemm_input_gradient(T, F, C, type, EQ_F32),
                  weight = eq_gemm_weight_gradient(T, 64, 28672, 64, type);
    for (int i = 0; i < 3; i++) {
        memory[i] = eq_alloc(ctx, (int64_t)C * F, sizeof(float));
        if (!memory[i]) return 1;
    }
    measure(ctx, "2048 x 4096 x 4096, forward", &attention, memory);
    measure(ctx, "2048 x 11008 x 4096, forward", &gate, memory);
    measure(ctx, "2048 x 4096 x 11008, gradient of the input", &input, memory);
    measure(ctx, "64 x 28672 x 2048, gradient of the weight", &weight, memory);
    for (int i = 0; i < 3; i++)
        eq_free(memory[i]);
    eq_ctx_free(ctx);
    return 0;
}
