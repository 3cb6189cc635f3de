/* A quantized weight [N, K] as inference reads it: made once from a stored one, from which it holds
 * the same numbers.                                                            [docs/math.md]
 *
 * Rows lie in panels of EQ_PANEL_ROWS, so that the lanes of a vector are rows. Columns lie in
 * segments of EQ_SEGMENT, each inside one group; where a group is no whole number of segments its
 * last one is filled up with codes 0. A segment has EQ_QUADS quads of four columns, and a quad of
 * codes is one 32-bit number a row, the first column in the lowest byte: 64 bytes a panel. Codes of
 * less than 8 bits share these bytes:
 *
 *   8 bits  8 x 64 bytes: quad j is number j
 *   4 bits  4 x 64 bytes: quad j is number j / 2, from bit 4 (j % 2) of each byte on
 *   2 bits  2 x 64 bytes: quad j is number j / 4, from bit 2 (j % 4) of each byte on
 *   3 bits  the lower two bits as above, then 64 bytes: the third of quad j is bit j of each byte
 *
 * A panel: the scales of all groups, [groups, EQ_PANEL_ROWS], the zero points or minimums in the
 * same order, the segments. Each part begins at a multiple of 64 bytes. Rows behind the last one
 * have codes and scales 0. */
#ifndef EQ_TENSOR_PANELS_H
#define EQ_TENSOR_PANELS_H

#include "tensor/qmatrix.h"
#include "tensor/tensor.h"

enum { EQ_PANEL_ROWS = 16, EQ_SEGMENT = 32, EQ_QUADS = 8 };

typedef enum eq_panel_zero {
    EQ_ZERO_SAME,   /* w = (q - z) s, the same z in all groups */
    EQ_ZERO_EACH,   /* w = (q - z) s, z u8 for each group */
    EQ_ZERO_MINIMUM /* w = q s + m, m for each group in the scales' type */
} eq_panel_zero;

typedef struct eq_panels {
    int bits; /* 2, 3, 4 or 8 */
    int64_t N, K, g;
    eq_panel_zero zero;
    int same;            /* z for EQ_ZERO_SAME, else 0 */
    eq_dtype scale_type; /* EQ_F16 or EQ_F32 */
    /* Of a row: groups, and segments of a group; bytes from a panel to its zero points, its
     * segments and the next one. They follow from what is above: products ask for them often. */
    int64_t groups, each;
    size_t zeros_at, codes_at, stride;
    uint8_t *data; /* eq_panels_bytes, aligned to 64; whose, the maker says */
} eq_panels;

static inline int64_t eq_panels_count(const eq_panels *p)
{
    return (p->N + EQ_PANEL_ROWS - 1) / EQ_PANEL_ROWS;
}

/* Segments of a row. */
static inline int64_t eq_panels_segments(const eq_panels *p)
{
    return p->groups * p->each;
}

/* Bytes of a segment of a panel. */
static inline size_t eq_panels_segment_bytes(const eq_panels *p)
{
    return (size_t)(EQ_PANEL_ROWS * EQ_SEGMENT / 8 * p->bits);
}

/* Set the places that follow from all before them, which must be set. */
void eq_panels_set_places(eq_panels *p);
/* Bytes of all panels. */
size_t eq_panels_bytes(const eq_panels *p);

/* Set everything but the data for a stored matrix, or for a tensor [N, K] of a ggml type. False for
 * a type, activation order, or groups that panels do not hold: those that segments would make more
 * than twice as wide. */
bool eq_panels_for_qmatrix(eq_panels *p, const eq_qmatrix *q);
bool eq_panels_for_tensor(eq_panels *p, const eq_tensor *t);
/* Fill panel `panel` from what p was set for. */
void eq_panels_fill_qmatrix(const eq_panels *p, const eq_qmatrix *q, int64_t panel);
void eq_panels_fill_tensor(const eq_panels *p, const eq_tensor *t, int64_t panel);

/* Reading the slow way: scale, zero point and minimum (0 where there is none) of a group of a row;
 * the code in a column of a segment; a weight. */
typedef struct eq_panel_grid {
    float s, z, m;
} eq_panel_grid;
eq_panel_grid eq_panels_grid(const eq_panels *p, int64_t row, int64_t group);
int eq_panels_code(const eq_panels *p, int64_t row, int64_t segment, int column);
float eq_panels_get(const eq_panels *p, int64_t row, int64_t k);

#endif
