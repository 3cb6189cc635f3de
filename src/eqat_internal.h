/* What the parts of the API share. */
#ifndef EQ_EQAT_INTERNAL_H
#define EQ_EQAT_INTERNAL_H

#include "io/tokenizer.h"
#include "model/decoder.h"

struct eq_model {
    eq_checkpoint *checkpoint; /* owned */
    eq_decoder *decoder;       /* owned */
    eq_tokenizer *tokenizer;   /* owned; NULL when the model has none */
    eq_model_info info;
};

/* EQ_EINVAL when the model has no tokenizer. */
eq_status eq_model_need_tokenizer(eq_ctx *ctx, const eq_model *model);

/* The tokenizer of a checkpoint; *tok is NULL when its folder has no tokenizer.json. */
eq_status eq_checkpoint_tokenizer(eq_ctx *ctx, eq_tokenizer **tok, const eq_checkpoint *checkpoint);

/* Tokens that end a text, from eos_token_id of the configuration (a number or a list); returns how many. */
enum { EQ_MAX_ENDS = 8 };
int64_t eq_end_tokens(const eq_checkpoint *checkpoint, int32_t ends[EQ_MAX_ENDS]);

#endif
