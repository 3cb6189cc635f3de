/* Speed of a step of the end-to-end phase: scales by KL, the teacher run alongside. */
#ifndef EQ_TRAIN_BENCH_WHOLE_H
#define EQ_TRAIN_BENCH_WHOLE_H

#include "model/config.h"
#include "tensor/dtype.h"

/* Medians of some windows of 1024 tokens with random weights; seconds and useful FLOP of one. */
typedef struct eq_bench_whole {
    double seconds, flops;
} eq_bench_whole;

/* The median of n values, which are sorted. */
double eq_bench_median(double *values, int n);
eq_status eq_bench_whole_run(eq_ctx *ctx, const eq_config *config, eq_dtype type,
                             eq_bench_whole *result);

#endif
