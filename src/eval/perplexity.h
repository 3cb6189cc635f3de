/* Perplexity, and divergence from a reference model, over windows of text. */
#ifndef EQ_EVAL_PERPLEXITY_H
#define EQ_EVAL_PERPLEXITY_H

#include "model/decoder.h"

/* Windows of text. */
typedef struct eq_eval_windows {
    const int32_t *ids;    /* borrowed, [n, T] */
    const uint8_t *counts; /* borrowed, [n, T]: 1 where a token counts as predicted; NULL: all */
    int64_t n, T;
    int kv_bits; /* 8 or 4: k and v of the model, not the reference, as such a cache has them */
} eq_eval_windows;

/* Over the predicted positions of all windows, T-1 of each that counts:
 *   perplexity = exp(mean(-log p(next)))     KL = mean(sum_i p_ref(i) (log p_ref(i) - log p(i))),
 * in nats. reference may be NULL; then kl, top1 and reference_perplexity are -1. EQ_EINVAL when
 * nothing counts. Reports progress by window. */
eq_status eq_perplexity(eq_ctx *ctx, const eq_decoder *model, const eq_decoder *reference,
                        const eq_eval_windows *windows, eq_dtype type, eq_eval_result *result);

/* Bytes that it takes for windows of T tokens, with a reference or without, for a model of the
 * shapes of `model`. */
int64_t eq_perplexity_bytes(const eq_ctx *ctx, const eq_decoder *model, bool reference, int64_t T,
                            eq_dtype type);

#endif
