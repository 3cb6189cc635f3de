/* What a GGUF file of the llama architecture says about the model, in Hugging Face terms. */
#ifndef EQ_IO_GGUF_CONFIG_H
#define EQ_IO_GGUF_CONFIG_H

#include "io/gguf.h"
#include <jansson.h>

/* config.json from the metadata; *config is the caller's. EQ_EFORMAT names a key that is missing or
 * out of range. */
eq_status eq_gguf_to_config(eq_ctx *ctx, const eq_gguf *file, json_t **config);
/* "model.layers.3.mlp.up_proj.weight" to "blk.3.ffn_up.weight"; false when there is no such name.
 * */
bool eq_gguf_tensor_name(char *out, size_t size, const char *hugging_face);

#endif
