/* Many texts continued at once: what makes an engine of the public interface (eqat.h) from the
 * parts of a model. eqat.h declares the other functions. */
#ifndef EQ_INFER_ENGINE_H
#define EQ_INFER_ENGINE_H

#include "io/tokenizer.h"
#include "model/decoder.h"

/* All borrowed, for as long as the engine lives. */
typedef struct eq_engine_model {
    const eq_decoder *decoder;
    const eq_tokenizer *tokenizer; /* NULL: events have no text */
    const int32_t *ends;           /* [end_count], copied: tokens that end every text */
    int64_t end_count;
} eq_engine_model;

/* options in the range that eqat.h allows, else EQ_EINVAL. EQ_ENOMEM when the memory is not
 * enough. */
eq_status eq_engine_open(eq_ctx *ctx, eq_engine **engine, const eq_engine_model *model,
                         const eq_engine_options *options);

#endif
