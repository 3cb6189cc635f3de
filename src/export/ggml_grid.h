/* Grids of whole-number codes as blocks of ggml's types: which types hold a grid, and packing.
 *                                                                             [docs/formats.md] */
#ifndef EQ_EXPORT_GGML_GRID_H
#define EQ_EXPORT_GGML_GRID_H

#include "tensor/dtype.h"

/* One row, column by column: w[k] = (q[k] - z[k]) s[k]. */
typedef struct eq_grid_row {
    int64_t K;
    int16_t *q, *z; /* [K] */
    float *s;       /* [K] */
} eq_grid_row;

/* A ggml type and what it can hold. */
typedef struct eq_ggml_grid {
    eq_dtype type;
    /* Levels q - z of a block with one scale, or their negatives; low = high = 0 for the types with
     * an offset. */
    int low, high;
    int most;    /* largest code of the types with an offset */
    int sub;     /* columns that share an offset */
    bool rounds; /* the offset is a half of its own: exact if it happens to be one */
} eq_ggml_grid;

/* The types in question, those of fewer bits first. */
enum { EQ_GGML_GRIDS = 9 };
extern const eq_ggml_grid eq_ggml_grids[EQ_GGML_GRIDS];

/* Whether all blocks of a row can be packed. error in/out: raised to the largest difference that
 * rounding an offset makes. */
bool eq_ggml_grid_holds(const eq_ggml_grid *grid, const eq_grid_row *row, float *error);
/* Pack a row that the grid holds. */
void eq_ggml_grid_pack(uint8_t *out, const eq_ggml_grid *grid, const eq_grid_row *row);

#endif
