/* Sizes and constants of a decoder, from config.json (or its equivalent made from GGUF metadata).
 * */
#ifndef EQ_MODEL_CONFIG_H
#define EQ_MODEL_CONFIG_H

#include "base/context.h"
#include <jansson.h>

typedef struct eq_config {
    char family[32];   /* what computes it: "llama" (also for mistral), "qwen2", "qwen3" */
    int64_t L;         /* blocks */
    int64_t C;         /* hidden size */
    int64_t F;         /* MLP width */
    int64_t H, Hkv;    /* query heads, key-value heads; H % Hkv == 0 */
    int64_t D;         /* head size, even */
    int64_t V;         /* vocabulary */
    int64_t positions; /* longest context the model was made for */
    double theta;      /* base of the rotary frequencies */
    float eps;         /* of RMSNorm */
    bool tied;         /* the head is the embedding */
    bool qk_norm;      /* RMSNorm of each head of q and k before it is rotated */
    bool qkv_bias, out_bias, mlp_bias; /* biases of q, k, v; of the output; of gate, up, down */
} eq_config;

/* Width of the q, k and v rows together: (H + 2 Hkv) D. */
int64_t eq_config_qkv(const eq_config *config);

/* Read and check config.json; path is for messages. A family, activation, scaling or window that
 * eqat does not compute is refused by name (EQ_EFORMAT). */
eq_status eq_config_parse(eq_ctx *ctx, eq_config *config, const json_t *json, const char *path);

#endif
