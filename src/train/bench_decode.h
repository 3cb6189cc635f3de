/* How fast a model reads a prompt and writes. */
#ifndef EQ_TRAIN_BENCH_DECODE_H
#define EQ_TRAIN_BENCH_DECODE_H

#include "model/decoder.h"

typedef struct eq_bench_task {
    eq_dtype type; /* of activations and products */
    eq_activation_mode activations;
    int kv_bits;
    int64_t prompt, texts; /* tokens before those written, and texts written at once */
} eq_bench_task;

typedef struct eq_bench_decode {
    double load, read;    /* seconds of repacking the weights, and of one prompt */
    double step, fastest; /* median and least seconds of a token of every text */
    double bytes;         /* that a step reads: weights, and half-way the keys and values */
} eq_bench_decode;

eq_status eq_bench_decode_run(eq_ctx *ctx, const eq_decoder *decoder, const eq_bench_task *task,
                              eq_bench_decode *result);

#endif
