/* How the linears of a checkpoint are packed, by its quantization_config.      [docs/formats.md] */
#ifndef EQ_IO_PACKING_SETTINGS_H
#define EQ_IO_PACKING_SETTINGS_H

#include "io/checkpoint.h"
#include "tensor/qmatrix.h"

typedef enum eq_packing_kind {
    EQ_PACKING_GPTQ_V1,
    EQ_PACKING_GPTQ_V2,
    EQ_PACKING_AWQ,
    EQ_PACKING_EFFICIENTQAT,
    EQ_PACKING_COMPRESSED, /* compressed-tensors, pack-quantized */
    EQ_PACKINGS
} eq_packing_kind;

/* The tensors of a linear, each behind "prefix.", and how they are arranged. */
typedef struct eq_packing_format {
    const char *name; /* for messages */
    const char *weight, *zeros, *scales, *order;
    const char *shape; /* i64 [2]: N, K; NULL if there is none */
    eq_qlayout layout;
} eq_packing_format;

const eq_packing_format *eq_packing_format_get(eq_packing_kind kind);

/* How the linears of one checkpoint are packed. Start from zeros; the first linear fills it, and
 * all others must agree. Where there is no quantization_config, the linears are in EfficientQAT's
 * layout, and bits and groups follow from their shapes. */
typedef struct eq_packing {
    const eq_packing_format *format; /* NULL: nothing was read yet */
    eq_packing_kind kind;
    bool act_order; /* a linear without an order of its columns cannot be read */
    bool whole;     /* EfficientQAT's: all groups so far are whole rows */
    int bits;       /* 2, 3, 4 or 8; 0 until the first linear */
    int64_t group;  /* columns of all groups, -1 for whole rows; 0 until the first linear */
                    /* quantization_config may have others for single linears (io/overrides.h) */
    bool biased;    /* set by the caller: the linear that is read next may have a bias */
} eq_packing;

/* Read quantization_config, or its absence. What is not read is refused with EQ_EFORMAT, by file,
 * method and setting. */
eq_status eq_packing_read(eq_ctx *ctx, eq_packing *packing, const eq_checkpoint *checkpoint);

#endif
