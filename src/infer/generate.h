/* Continue a text. */
#ifndef EQ_INFER_GENERATE_H
#define EQ_INFER_GENERATE_H

#include "model/decoder.h"

/* What a text ends with, and who gets the new tokens. */
typedef struct eq_listener {
    const int32_t *ends; /* borrowed, [end_count]: tokens that end the text */
    int64_t end_count;
    bool (*emit)(void *user, int32_t id); /* false ends the text */
    void *user;
} eq_listener;

/* Continue ids [count], count >= 1, by up to options->max_tokens tokens, given to listener->emit
 * as they come, an end token too. type: of activations and products. Prompt and new tokens
 * together must fit the model's context; EQ_EINVAL otherwise, or for options out of range;
 * EQ_ENUMERIC when logits are not finite. */
eq_status eq_generate_tokens(eq_ctx *ctx, const eq_decoder *decoder, const int32_t *ids,
                             int64_t count, const eq_generate_options *options, eq_dtype type,
                             const eq_listener *listener);

#endif
