/* What this machine reaches on a model's shapes: matrix products, loops, a Block-AP step, a window
 * of the end-to-end phase, and reading and writing text. */
#ifndef EQ_TRAIN_BENCH_H
#define EQ_TRAIN_BENCH_H

#include "train/block_ap.h"

typedef void (*eq_bench_fn)(void *user, const eq_bench_row *row);

/* Measure for the shapes of `config`, 2 windows of 1024 tokens, bf16 where the CPU has it. Random
 * weights and data, but for "decode", which runs `decoder`.
 * decoder: may be NULL, there is no "decode" then (EQ_EINVAL when asked for).
 * options->only: "gemm", "kernel", "step", "e2e", "decode", or NULL for all (EQ_EINVAL for another
 * word).
 * Each figure is the median of several runs. */
eq_status eq_bench_run(eq_ctx *ctx, const eq_config *config, const eq_decoder *decoder,
                       const eq_bench_options *options, eq_bench_fn row, void *user);
/* The shapes of SmolLM2-135M. */
eq_config eq_bench_config(void);

#endif
