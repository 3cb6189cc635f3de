/* Calibration text that the model writes itself. */
#ifndef EQ_INFER_SELF_H
#define EQ_INFER_SELF_H

#include "model/decoder.h"

typedef struct eq_self_options {
    int64_t n, T; /* windows and their length */
    uint64_t seed;
    eq_dtype type;       /* of activations and products */
    const bool *normal;  /* borrowed, [V]: tokens that may begin a text */
    const int32_t *ends; /* borrowed, [end_count]: tokens that end a text */
    int64_t end_count;
    int64_t memory; /* bytes that writing may take; 0: what the machine has left */
    int64_t there;  /* windows that ids holds already, below n */
    /* Called with all windows that are there after each batch but the last, to keep them. May be
     * NULL. */
    eq_status (*keep)(eq_ctx *ctx, void *user, const int32_t *ids, int64_t n);
    void *user;
} eq_self_options;

/* n windows of T tokens: a first token drawn evenly from the normal ones, the rest from the
 * model at temperature 1; behind an end token a new first token. Window w depends on the model,
 * seed, type and w only: it is the same for every n, memory and number of threads. As many windows
 * are written at once as memory allows.
 *
 * ids in/out [n, T]
 * EQ_ENOMEM when memory is not enough for one window; EQ_EINVAL when T is not in 2 .. the model's
 * context, n < 1, or no token is normal; EQ_ENUMERIC when logits are not finite. */
eq_status eq_self_windows(eq_ctx *ctx, const eq_decoder *decoder, const eq_self_options *options,
                          int32_t *ids);

#endif
