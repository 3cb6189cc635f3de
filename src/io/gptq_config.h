/* The settings of a GPTQ folder, as GPTQModel, transformers and vLLM read them. */
#ifndef EQ_IO_GPTQ_CONFIG_H
#define EQ_IO_GPTQ_CONFIG_H

#include "io/overrides.h"

/* quantization_config without `dynamic`, in fresh memory; NULL without memory.
 *
 * base     in  bits, group and grid of all modules that have no others
 * lm_head  in  whether the head is packed
 * version  in  of the format: 2 or 1 */
json_t *eq_gptq_config(const eq_override *base, bool lm_head, int version);

#endif
