/* The grid of a quantized linear. */
#ifndef EQ_QUANT_SCHEME_H
#define EQ_QUANT_SCHEME_H

#include "kernels/kernels.h"
#include "model/block.h"

typedef struct eq_scheme {
    int bits;      /* 2, 3, 4 or 8 */
    int64_t group; /* columns that share a scale and a zero point; -1: the whole row */
    eq_grid grid;
} eq_scheme;

/* The grids of the units of one block. A model has one such struct a block. */
typedef struct eq_block_scheme {
    eq_scheme units[EQ_UNITS];
} eq_block_scheme;

/* The grid that a run's options ask for. */
eq_scheme eq_scheme_of(const eq_quantize_options *options);
/* Set bits and group of a scheme whose grid is that of super-blocks; others stay as they are. */
void eq_scheme_complete(eq_scheme *scheme);
/* The ggml type of its super-blocks; EQ_F32 for other grids. */
eq_dtype eq_scheme_super(const eq_scheme *scheme);
/* The grid of such a type, and the grid by its name, "q2_k"; false when there is none. */
eq_grid eq_grid_of_super(eq_dtype type);
bool eq_grid_from_name(eq_grid *grid, const char *name);
const char *eq_grid_name(eq_grid grid);

/* The group of a row of K columns: K for -1. */
int64_t eq_scheme_group(const eq_scheme *scheme, int64_t K);
/* EQ_EINVAL, naming `name`, unless the bits are supported and the group, or the super-block,
 * divides K. */
eq_status eq_scheme_check(eq_ctx *ctx, const eq_scheme *scheme, const char *name, int64_t K);
/* Whether all zero points are the middle code. */
bool eq_scheme_symmetric(const eq_scheme *scheme);
bool eq_scheme_equal(const eq_scheme *a, const eq_scheme *b);
/* What kernels need of it for rows of K columns. */
eq_quant_shape eq_scheme_shape(const eq_scheme *scheme, int64_t K);
/* Bits that [N, K] takes in a file: codes, and a half scale and a zero point a group; or its
 * super-blocks. */
int64_t eq_scheme_stored_bits(const eq_scheme *scheme, int64_t N, int64_t K);

/* One grid for every unit of a block. */
eq_block_scheme eq_scheme_block(const eq_scheme *scheme);
/* Where rows are no whole super-blocks, the nearest grid of plain blocks: that of Q2_0 for Q2_K if
 * its 64 columns divide the row, else that of Q4_0. True if that is so anywhere. */
bool eq_schemes_plain(eq_block_scheme *schemes, const eq_config *config);
/* The same for L blocks, in fresh memory (eq_free); NULL after eq_fail. */
eq_block_scheme *eq_schemes_uniform(eq_ctx *ctx, const eq_scheme *scheme, int64_t L);
/* EQ_EINVAL unless every linear of the model can be stored on its grid; the message begins with
 * `file`, where the grids are from (NULL: nowhere), and then names the block. */
eq_status eq_schemes_check(eq_ctx *ctx, const eq_block_scheme *schemes, const eq_config *config,
                           const char *file);
/* The smallest ggml type that holds rows of K columns of this grid exactly, whatever their values;
 * EQ_F32 when none of about its size does. */
eq_dtype eq_scheme_ggml(const eq_scheme *scheme, int64_t K);
/* EQ_EINVAL, naming block and linear, unless such a type holds all grids; `any`: the bits will be
 * chosen, so it is enough that there are some that one holds. */
eq_status eq_schemes_check_ggml(eq_ctx *ctx, const eq_block_scheme *schemes,
                                const eq_config *config, bool any);
/* Whether a unit of L blocks has super-blocks. */
bool eq_schemes_have_super(const eq_block_scheme *schemes, int64_t L);
/* Whether every unit of L blocks has this grid. */
bool eq_schemes_are(const eq_block_scheme *schemes, int64_t L, const eq_scheme *scheme);

#endif
