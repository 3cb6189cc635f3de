/* Quantized linears of a checkpoint, as several programs pack them.            [docs/formats.md] */
#ifndef EQ_IO_PACKING_H
#define EQ_IO_PACKING_H

#include "io/packing_settings.h"

/* Whether there are packed tensors under a prefix. */
bool eq_packing_has(const eq_checkpoint *checkpoint, const char *prefix);
/* The linear under a prefix, in the tensors that the packing's format names; scales are F16, BF16
 * or F32. What is stored is checked against the shape, the packing and quantization_config; a bias
 * must be 0 unless packing->biased. EQ_EFORMAT names file and tensor.
 *
 * packing  in/out
 * q        in   N and K, as the model's configuration has them; out the rest, borrowed from the
 *               mapped file */
eq_status eq_packing_linear(eq_ctx *ctx, eq_packing *packing, const eq_checkpoint *checkpoint,
                            const char *prefix, eq_qmatrix *q);

#endif
