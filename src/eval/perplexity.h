/* Perplexity, and divergence from a reference model, over windows of text. */
#ifndef EQ_EVAL_PERPLEXITY_H
#define EQ_EVAL_PERPLEXITY_H

#include "model/decoder.h"

/* Over the T-1 predicted positions of each of n windows ids [n, T]:
 *   perplexity = exp(mean(-log p(next)))     KL = mean(sum_i p_ref(i) (log p_ref(i) - log p(i))),
 * in nats reference may be NULL; then kl, top1 and reference_perplexity are -1. Reports progress by
 * window. */
eq_status eq_perplexity(eq_ctx *ctx, const eq_decoder *model, const eq_decoder *reference,
                        const int32_t *ids, int64_t n, int64_t T, eq_dtype type,
                        eq_eval_result *result);

#endif
