/* What a GGUF file says about the model, in Hugging Face terms. */
#ifndef EQ_IO_GGUF_CONFIG_H
#define EQ_IO_GGUF_CONFIG_H

#include "io/gguf.h"
#include <jansson.h>

/* A family of models as GGUF files name it. */
typedef struct eq_gguf_family {
    const char *model_type; /* of config.json, and eq_config.family */
    const char *prefix;     /* general.architecture, and before the keys of its sizes */
    const char *class;      /* of config.json's architectures */
    bool rotary_pairs;      /* rows of q and k are stored in pairs (eq_tensor.rope_pairs) */
} eq_gguf_family;

/* The family of a model_type; NULL when there is none. */
const eq_gguf_family *eq_gguf_family_of(const char *model_type);
/* The family that a file says it is of; NULL when it is none of these. */
const eq_gguf_family *eq_gguf_family_in(const eq_gguf *file);
/* The metadata `prefix`.key of the file's family, a name in `out`. */
enum { EQ_GGUF_KEY = 96 };
const char *eq_gguf_family_key(char out[EQ_GGUF_KEY], const eq_gguf_family *family,
                               const char *key);

/* config.json from the metadata; *config is the caller's. EQ_EFORMAT names a key that is missing or
 * out of range. */
eq_status eq_gguf_to_config(eq_ctx *ctx, const eq_gguf *file, json_t **config);
/* "model.layers.3.mlp.up_proj.weight" to "blk.3.ffn_up.weight"; false when there is no such name.
 * */
bool eq_gguf_tensor_name(char *out, size_t size, const char *hugging_face);

#endif
