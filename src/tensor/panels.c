#include "tensor/panels.h"
#include "tensor/ggml.h"

enum { ALIGNMENT = 64, QUAD_BYTES = 4 * EQ_PANEL_ROWS };

/* The codes of a segment of a panel: quad j of row r. */
typedef uint32_t quads[EQ_QUADS][EQ_PANEL_ROWS];

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Bytes of something of `each` bytes for every group and row of a panel. */
static size_t part_bytes(const eq_panels *p, size_t each)
{
    return aligned((size_t)(p->groups * EQ_PANEL_ROWS) * each);
}

void eq_panels_set_places(eq_panels *p)
{
    const size_t scale = eq_elem_bytes(p->scale_type);
    const size_t zero[] = {[EQ_ZERO_SAME] = 0, [EQ_ZERO_EACH] = 1, [EQ_ZERO_MINIMUM] = scale};
    p->groups = p->K / p->g;
    p->each = (p->g + EQ_SEGMENT - 1) / EQ_SEGMENT;
    p->zeros_at = part_bytes(p, scale);
    p->codes_at = p->zeros_at + part_bytes(p, zero[p->zero]);
    p->stride = p->codes_at + (size_t)eq_panels_segments(p) * eq_panels_segment_bytes(p);
}

size_t eq_panels_bytes(const eq_panels *p)
{
    return (size_t)eq_panels_count(p) * p->stride;
}

static bool worth(const eq_panels *p)
{
    return (p->g + EQ_SEGMENT - 1) / EQ_SEGMENT * EQ_SEGMENT <= 2 * p->g;
}

bool eq_panels_for_qmatrix(eq_panels *p, const eq_qmatrix *q)
{
    *p = (eq_panels){.bits = q->bits, .N = q->N, .K = q->K, .g = q->g, .scale_type = q->scale_type};
    if (p->scale_type != EQ_F16) p->scale_type = EQ_F32;
    if (q->order || !worth(p)) return false;
    float z;
    p->zero = eq_qmatrix_one_zero(q, &z) ? EQ_ZERO_SAME : EQ_ZERO_EACH;
    if (p->zero == EQ_ZERO_SAME) p->same = (int)z;
    eq_panels_set_places(p);
    return true;
}

/* Bits of a panel's codes for codes of `bits`. */
static int panel_bits(int bits)
{
    return bits <= 4 ? bits : 8;
}

bool eq_panels_for_tensor(eq_panels *p, const eq_tensor *t)
{
    const eq_ggml_form *form = eq_ggml_form_of(t->type);
    if (t->dims != 2 || !form) return false;
    *p = (eq_panels){.bits = panel_bits(form->bits),
                     .N = t->shape[0],
                     .K = t->shape[1],
                     .g = form->group,
                     .zero = form->minimum ? EQ_ZERO_MINIMUM : EQ_ZERO_SAME,
                     .same = form->zero,
                     .scale_type = form->halves ? EQ_F16 : EQ_F32};
    eq_panels_set_places(p);
    return worth(p);
}

/* A segment's codes to its bytes. */
static void store_segment(uint8_t *to, quads q, int bits)
{
    uint32_t bytes[EQ_QUADS][EQ_PANEL_ROWS] = {{0}};
    const int low = bits == 3 ? 2 : bits, fields = 8 / low, high = EQ_QUADS / fields;
    for (int j = 0; j < EQ_QUADS; j++) {
        const int shift = low * (j % fields);
        for (int r = 0; r < EQ_PANEL_ROWS; r++) {
            if (bits == 3) {
                bytes[high][r] |= (q[j][r] >> 2 & 0x01010101u) << j;
                q[j][r] &= 0x03030303u;
            }
            bytes[j / fields][r] |= q[j][r] << shift;
        }
    }
    memcpy(to, bytes, (size_t)(QUAD_BYTES * bits));
}

static uint8_t *panel_at(const eq_panels *p, int64_t panel)
{
    return p->data + (size_t)panel * p->stride;
}

/* Rows of the panel that the matrix has. */
static int rows_of(const eq_panels *p, int64_t panel)
{
    int64_t left = p->N - panel * EQ_PANEL_ROWS;
    return (int)(left < EQ_PANEL_ROWS ? left : EQ_PANEL_ROWS);
}

static void put_scale(const eq_panels *p, uint8_t *panel, int64_t i, float s)
{
    uint16_t half = eq_f32_f16(s);
    if (p->scale_type == EQ_F32)
        memcpy(panel + 4 * i, &s, 4);
    else
        memcpy(panel + 2 * i, &half, 2);
}

/* First column of a segment, and how many columns it has. */
static int64_t segment_column(const eq_panels *p, int64_t segment, int *columns)
{
    int64_t each = p->each, first = segment % each * EQ_SEGMENT;
    *columns = (int)(p->g - first < EQ_SEGMENT ? p->g - first : EQ_SEGMENT);
    return segment / each * p->g + first;
}

/* Codes [columns][rows] as quads. */
static void join_columns(quads q, uint32_t codes[EQ_SEGMENT][EQ_PANEL_ROWS])
{
    for (int j = 0; j < EQ_QUADS; j++)
        for (int r = 0; r < EQ_PANEL_ROWS; r++)
            q[j][r] = codes[4 * j][r] | codes[4 * j + 1][r] << 8 | codes[4 * j + 2][r] << 16 |
                      codes[4 * j + 3][r] << 24;
}

void eq_panels_fill_qmatrix(const eq_panels *p, const eq_qmatrix *q, int64_t panel)
{
    uint8_t *to = panel_at(p, panel), *zeros = to + p->zeros_at;
    uint8_t *segments = to + p->codes_at;
    const int64_t row = panel * EQ_PANEL_ROWS, groups = p->groups;
    const int rows = rows_of(p, panel);
    memset(to, 0, p->codes_at);
    for (int64_t k = 0; k < groups; k++) {
        for (int r = 0; r < rows; r++) {
            const int64_t at = k * EQ_PANEL_ROWS + r;
            put_scale(p, to, at, eq_qmatrix_scale_at(q, row + r, k));
            if (p->zero == EQ_ZERO_EACH) zeros[at] = (uint8_t)eq_qmatrix_zero_at(q, row + r, k);
        }
    }
    for (int64_t s = 0; s < eq_panels_segments(p); s++) {
        uint32_t codes[EQ_SEGMENT][EQ_PANEL_ROWS] = {{0}};
        quads joined;
        int columns;
        int64_t k = segment_column(p, s, &columns);
        eq_qmatrix_tile(codes, q, row, rows, k, columns);
        join_columns(joined, codes);
        store_segment(segments + (size_t)s * eq_panels_segment_bytes(p), joined, p->bits);
    }
}

/* Scales and minimums of row r, of a block whose first group is `group`. */
static void put_grids(const eq_panels *p, uint8_t *panel, int64_t group, int r,
                      const eq_ggml_block *t, int64_t groups)
{
    for (int64_t i = 0; i < groups; i++) {
        const int64_t at = (group + i) * EQ_PANEL_ROWS + r;
        put_scale(p, panel, at, t->s[i]);
        if (p->zero == EQ_ZERO_MINIMUM) put_scale(p, panel + p->zeros_at, at, t->m[i]);
    }
}

/* Segment `segment` of the blocks' segments, from the blocks of a panel's rows. */
static void join_blocks(const eq_panels *p, quads q, const eq_ggml_block *blocks, int rows,
                        int64_t segment)
{
    int columns;
    const int64_t k = segment_column(p, segment, &columns);
    memset(q, 0, sizeof(quads));
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < columns / 4; j++)
            memcpy(&q[j][r], blocks[r].q + k + 4 * j, 4);
}

/* Block number `b` of the rows at `from`. */
static void fill_blocks(const eq_panels *p, uint8_t *panel, int64_t b,
                        const uint8_t *const from[EQ_PANEL_ROWS], int rows, eq_dtype type)
{
    const eq_dtype_info *info = eq_dtype_get(type);
    const int64_t groups = info->block_elems / p->g, segments = groups * p->each;
    const size_t segment_bytes = eq_panels_segment_bytes(p);
    uint8_t *to = panel + p->codes_at + (size_t)(b * segments) * segment_bytes;
    eq_ggml_block blocks[EQ_PANEL_ROWS];
    for (int r = 0; r < rows; r++) {
        eq_ggml_block_read(&blocks[r], from[r] + b * info->block_bytes, type);
        put_grids(p, panel, b * groups, r, &blocks[r], groups);
    }
    for (int64_t s = 0; s < segments; s++) {
        quads q;
        join_blocks(p, q, blocks, rows, s);
        store_segment(to + (size_t)s * segment_bytes, q, p->bits);
    }
}

void eq_panels_fill_tensor(const eq_panels *p, const eq_tensor *t, int64_t panel)
{
    const uint8_t *from[EQ_PANEL_ROWS];
    const int rows = rows_of(p, panel);
    uint8_t *to = panel_at(p, panel);
    for (int r = 0; r < rows; r++) {
        int64_t row = eq_tensor_file_row(t->rope_pairs, panel * EQ_PANEL_ROWS + r);
        from[r] = (const uint8_t *)t->data + (size_t)row * eq_dtype_bytes(t->type, p->K);
    }
    memset(to, 0, p->codes_at);
    for (int64_t b = 0; b < p->K / eq_dtype_get(t->type)->block_elems; b++)
        fill_blocks(p, to, b, from, rows, t->type);
}

int eq_panels_code(const eq_panels *p, int64_t row, int64_t segment, int column)
{
    const uint8_t *from = panel_at(p, row / EQ_PANEL_ROWS) + p->codes_at +
                          (size_t)segment * eq_panels_segment_bytes(p);
    const int low = p->bits == 3 ? 2 : p->bits, fields = 8 / low, quad = column / 4;
    const int byte = 4 * (int)(row % EQ_PANEL_ROWS) + column % 4;
    int code = from[quad / fields * QUAD_BYTES + byte] >> low * (quad % fields);
    code &= (1 << low) - 1;
    if (p->bits == 3) code |= (from[2 * QUAD_BYTES + byte] >> quad & 1) << 2;
    return code;
}

eq_panel_grid eq_panels_grid(const eq_panels *p, int64_t row, int64_t group)
{
    const uint8_t *panel = panel_at(p, row / EQ_PANEL_ROWS), *zeros = panel + p->zeros_at;
    const int64_t at = group * EQ_PANEL_ROWS + row % EQ_PANEL_ROWS;
    eq_panel_grid grid = {.z = (float)p->same};
    size_t bytes = eq_elem_bytes(p->scale_type);
    eq_dtype_to_f32(&grid.s, panel + (size_t)at * bytes, p->scale_type, 1);
    if (p->zero == EQ_ZERO_EACH) grid.z = zeros[at];
    if (p->zero == EQ_ZERO_MINIMUM)
        eq_dtype_to_f32(&grid.m, zeros + (size_t)at * bytes, p->scale_type, 1);
    return grid;
}

float eq_panels_get(const eq_panels *p, int64_t row, int64_t k)
{
    const int64_t group = k / p->g, column = k % p->g;
    const int64_t segment = group * p->each + column / EQ_SEGMENT;
    const float q = (float)eq_panels_code(p, row, segment, (int)(column % EQ_SEGMENT));
    const eq_panel_grid grid = eq_panels_grid(p, row, group);
    const float w = (q - grid.z) * grid.s;
    return p->zero == EQ_ZERO_MINIMUM ? w + grid.m : w;
}
