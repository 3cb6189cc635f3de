/* A small random model in a temporary folder, and a context as the library makes it. */
#ifndef SUPPORT_MODEL_H
#define SUPPORT_MODEL_H

#include "model/decoder.h"

enum { MODEL_VOCABULARY = 257, MODEL_CONTEXT = 160 };

/* With the best kernels of this CPU. */
void context_init(eq_ctx *ctx, int threads);
void context_deinit(eq_ctx *ctx);

/* A decoder of 3 blocks, 4 query heads on 2 key-value heads of 16, and its files. */
typedef struct small_model {
    char folder[64];
    eq_checkpoint *checkpoint;
    eq_decoder *decoder;
} small_model;

/* Weights from a fixed stream; `spoiled` makes the last norm infinite. Fails the test when
 * something goes wrong. */
void small_model_open(eq_ctx *ctx, small_model *model, bool spoiled);
/* The same of a family, "llama", "qwen2" (with biases) or "qwen3" (with norms of heads). */
void small_model_open_as(eq_ctx *ctx, small_model *model, const char *family, bool spoiled);
void small_model_close(small_model *model);

#endif
