/* The grid of a quantized linear. */
#ifndef EQ_QUANT_SCHEME_H
#define EQ_QUANT_SCHEME_H

#include "base/context.h"

typedef struct eq_scheme {
    int bits;      /* 2, 3, 4 or 8 */
    int64_t group; /* columns that share a scale and a zero point; -1: the whole row */
    eq_grid grid;
} eq_scheme;

/* The grid that a run's options ask for. */
eq_scheme eq_scheme_of(const eq_quantize_options *options);

/* The group of a row of K columns: K for -1. */
int64_t eq_scheme_group(const eq_scheme *scheme, int64_t K);
/* EQ_EINVAL, naming `name`, unless the bits are supported and the group divides K. */
eq_status eq_scheme_check(eq_ctx *ctx, const eq_scheme *scheme, const char *name, int64_t K);

#endif
