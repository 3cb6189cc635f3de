/* Quantized linears of a checkpoint, as several programs pack them.            [docs/formats.md] */
#ifndef EQ_IO_PACKING_H
#define EQ_IO_PACKING_H

#include "io/checkpoint.h"
#include "tensor/qmatrix.h"

/* How the linears of one checkpoint are packed. Start from zeros; the first linear fills it, and
 * all others must agree. GPTQ folders say it in quantization_config. Where there is none, the
 * linears are in EfficientQAT's layout, and bits and groups follow from their shapes. */
typedef struct eq_packing {
    bool known;      /* the configuration was read */
    bool by_shapes;  /* EfficientQAT's layout */
    bool act_order;  /* desc_act: a linear without g_idx cannot be read */
    bool whole;      /* by_shapes: all groups so far are whole rows */
    int bits;        /* 2, 3, 4 or 8; 0 until the first linear */
    int64_t group;   /* columns of all groups, -1 for whole rows; 0 until the first linear */
                     /* quantization_config may have others for single linears (io/overrides.h) */
    int zero_offset; /* of eq_qmatrix */
} eq_packing;

/* The linear of prefix.qweight, .qzeros, .scales (F16, BF16 or F32), and .g_idx and .bias if there.
 * What is stored is checked against the shape, the packing and quantization_config; groups must
 * follow each other (g_idx = k / group), a bias must be 0. EQ_EFORMAT names file and tensor.
 *
 * packing  in/out
 * q        in   N and K, as the model's configuration has them; out the rest, borrowed from the
 *               mapped file */
eq_status eq_packing_linear(eq_ctx *ctx, eq_packing *packing, const eq_checkpoint *checkpoint,
                            const char *prefix, eq_qmatrix *q);

#endif
