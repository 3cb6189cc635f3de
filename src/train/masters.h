/* Masters of a trained block on disk, for an end-to-end phase that trains all weights: the codes
 * alone would lose where between two levels each weight stands. */
#ifndef EQ_TRAIN_MASTERS_H
#define EQ_TRAIN_MASTERS_H

#include "model/block.h"
#include "quant/fake.h"

/* The weights of the units of a block, scales and zero points: the block file has these as it holds
 * them, which with exact scales is not what was seen. The file appears whole. */
eq_status eq_masters_write(eq_ctx *ctx, const char *path, const eq_fake fakes[EQ_UNITS]);
/* Read them into fakes of the same shapes. */
eq_status eq_masters_read(eq_ctx *ctx, const char *path, const eq_fake fakes[EQ_UNITS]);

#endif
