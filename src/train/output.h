/* The finished model as a Hugging Face folder: config.json with the quantization,
 * model.safetensors. */
#ifndef EQ_TRAIN_OUTPUT_H
#define EQ_TRAIN_OUTPUT_H

#include "train/quantize.h"

/* Write OUT/model.safetensors from the block files of the run, the packed embedding and head of
 * job->model, and what else the teacher has (in the type it has; ggml blocks as f16), then
 * config.json and quantize_config.json. Each file appears whole. */
eq_status eq_output_model(eq_ctx *ctx, const eq_quantize_job *job);
/* bytes out: of all tensors that eq_output_model writes. */
eq_status eq_output_bytes(eq_ctx *ctx, const eq_quantize_job *job, int64_t *bytes);
/* Remove the temporary files of killed processes. Only for who has entered the run folder. */
void eq_output_clean(eq_ctx *ctx, const eq_quantize_job *job);
/* Remove what the finished folder no longer needs: block files and streams. */
void eq_output_finish(eq_ctx *ctx, const eq_quantize_job *job);
/* Mean stored bits of the weights of all blocks' linears: codes, scales and zero points. */
double eq_output_bits_per_weight(const eq_config *config, const eq_block_scheme *schemes);

#endif
