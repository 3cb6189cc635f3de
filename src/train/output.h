/* The finished model as a Hugging Face folder: config.json with the quantization, model.safetensors. */
#ifndef EQ_TRAIN_OUTPUT_H
#define EQ_TRAIN_OUTPUT_H

#include "train/quantize.h"

/* Write OUT/model.safetensors from the block files of the run and the teacher's embedding, final norm and head (in the type
 * they have; ggml blocks as f16), then config.json and quantize_config.json. Each file appears whole. bytes out: of all tensors. */
eq_status eq_output_model(eq_ctx *ctx, const eq_quantize_job *job, int64_t *bytes);
/* Remove what the finished folder no longer needs: block files and left-over temporaries. */
void eq_output_clean(eq_ctx *ctx, const eq_quantize_job *job);
/* Stored bits of a quantized linear's weight: codes, scales and zero points. */
double eq_output_bits_per_weight(const eq_config *config, const eq_scheme *scheme);

#endif
