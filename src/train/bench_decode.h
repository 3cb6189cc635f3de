/* How fast a model reads a prompt and writes. */
#ifndef EQ_TRAIN_BENCH_DECODE_H
#define EQ_TRAIN_BENCH_DECODE_H

#include "model/decoder.h"

typedef struct eq_bench_decode {
    int64_t prompt, tokens; /* read, and written after them, one at a time */
    double load, read;      /* seconds of repacking the weights, and of the prompt */
    double token, fastest;  /* median and least seconds of a token */
    double bytes;           /* that a token reads: weights, and half-way the keys and values */
} eq_bench_decode;

/* Products as `activations` says; type: of activations and products. */
eq_status eq_bench_decode_run(eq_ctx *ctx, const eq_decoder *decoder, eq_dtype type,
                              eq_activation_mode activations, eq_bench_decode *result);

#endif
