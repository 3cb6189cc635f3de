/* The embedding and the head at bits of their own: rounded, not trained.
 *
 *   run/ends-embedding.safetensors, run/ends-head.safetensors   their tensors, until the model is
 *                                                               written */
#ifndef EQ_TRAIN_ENDS_H
#define EQ_TRAIN_ENDS_H

#include "model/decoder.h"
#include "quant/scheme.h"
#include "train/run.h"

enum { EQ_EMBEDDING, EQ_HEAD, EQ_ENDS };
/* "model.embed_tokens" and "lm_head". */
extern const char *const eq_end_names[EQ_ENDS];

/* The grid of an end: 8 or 4 bits, symmetric, groups of 32, which Q8_0 and Q4_0 of ggml hold
 * exactly; 16: the weight stays what it is. */
eq_scheme eq_end_scheme(int bits);
/* EQ_EINVAL unless groups divide the rows and the GPTQ layout holds the vocabulary. */
eq_status eq_ends_check(eq_ctx *ctx, const eq_config *config, const eq_scheme ends[EQ_ENDS]);
/* Whether end `which` has packed tensors of its own: a tied head has none. */
bool eq_end_is_packed(const eq_config *config, const eq_scheme ends[EQ_ENDS], int which);
/* Bytes of memory that eq_ends_make needs. */
size_t eq_ends_bytes(const eq_config *config, const eq_scheme ends[EQ_ENDS]);

/* A decoder whose embedding and head are those of the output; all else is the source's. */
typedef struct eq_ends {
    eq_decoder decoder;
    eq_safetensors *files[EQ_ENDS]; /* owned */
} eq_ends;

/* Round what is not in the run folder yet, by least squared error, and open it. source (borrowed)
 * is full precision. */
eq_status eq_ends_make(eq_ctx *ctx, eq_ends *ends, const eq_decoder *source,
                       const eq_scheme schemes[EQ_ENDS], const eq_run *run);
void eq_ends_close(eq_ends *ends); /* zeroed storage is fine */

#endif
