/* Bits of every unit for a mean of bits per weight: those that change the model's distributions
 * least, by eq_sensitivity and eq_budget_choose. */
#ifndef EQ_TRAIN_CHOOSE_BITS_H
#define EQ_TRAIN_CHOOSE_BITS_H

#include "train/quantize.h"

/* Bytes that eq_choose_bits will take; 0 without target_bpw. */
int64_t eq_choose_bits_bytes(const eq_quantize_job *job, int threads);
/* EQ_EINVAL when no choice is small enough for target_bpw. */
eq_status eq_choose_bits_check(eq_ctx *ctx, const eq_quantize_job *job);
/* Set the bits of schemes [L] for options->target_bpw. The choice is read from recipe.json of the
 * run's folder, or made and written there, with a line of the log for each unit. */
eq_status eq_choose_bits(eq_ctx *ctx, eq_block_scheme *schemes, const eq_quantize_job *job);

#endif
