/* SIMD forms of the kernels on panels. Beside the vectors of vec.h they are written in vectors of
 * LANES 32-bit numbers, which a dot_<isa>.h supplies:
 *
 *   i_load(p), i_store(p, a)   all lanes, from bytes and to numbers in memory of any alignment
 *   i_set(p)                   the four bytes at p in every lane
 *   i_right, i_left(a, n)      shifted by n bits; i_and(a, b) with b in every lane
 *   i_float                    as f32, signed
 *   i_dot(sum, codes, x, bits) adds to each lane the four products of its bytes: codes without a
 *                              sign and below 2^bits, x with one and at least -127
 *   i_total(sum, bits)         the number in each lane after at most EQ_QUADS such calls; exact
 *   v_load_u8, v_store_i8(p)   LANES bytes */
#ifndef EQ_KERNELS_PANELS_BODY_H
#define EQ_KERNELS_PANELS_BODY_H

#include "kernels/tables.h"
#include "kernels/vec.h"

/* Vectors of a panel's 16 rows, and of a segment's columns. Rows of X that are multiplied at once:
 * as many as there are registers for; ones that keep f32 have four sums each. */
enum {
    PARTS = EQ_PANEL_ROWS / LANES,
    COLUMN_VECTORS = EQ_SEGMENT / LANES,
    FAST_ROWS = LANES == 16 ? 8 : 4,
    EXACT_ROWS = LANES == 16 ? 4 : 2
};

/* One segment of a row of X in 8 bits; returns the sum of its codes. NaN where a value is not
 * finite makes the scale one. */
VEC float input_segment(int8_t *codes, float *scale, const void *x, int64_t k, int columns,
                        eq_dtype type)
{
    vec value[COLUMN_VECTORS], most = v_set(0), check = v_set(0), total = v_set(0);
    for (int i = 0; i < COLUMN_VECTORS; i++) {
        value[i] = v_set(0);
        if (columns > i * LANES)
            value[i] = v_get(x, k + i * LANES, type, v_part(columns - i * LANES));
        most = v_max(most, v_max(value[i], v_neg(value[i])));
        check = v_fma(value[i], v_set(0), check);
    }
    const float largest_value = v_largest(most);
    const vec inverse = v_set(largest_value > EQ_PANEL_NOTHING ? 127 / largest_value : 0);
    for (int i = 0; i < COLUMN_VECTORS; i++) {
        const vec code = v_round(v_mul(value[i], inverse));
        v_store_i8(codes + i * LANES, code);
        total = v_add(total, code);
    }
    *scale = largest_value / 127 + v_sum(check);
    return v_sum(total);
}

VEC void inputs_fast(const eq_panel_inputs *x, int64_t m, const void *row, const eq_panels *w,
                     eq_dtype type)
{
    const int64_t each = w->each;
    for (int64_t group = 0; group < x->groups; group++) {
        float sum = 0;
        for (int64_t i = 0; i < each; i++) {
            const int64_t segment = group * each + i, left = w->g - i * EQ_SEGMENT;
            float *scale = x->scales + m * x->segments + segment;
            const int columns = (int)(left < EQ_SEGMENT ? left : EQ_SEGMENT);
            float codes = input_segment(x->codes + m * x->columns + segment * EQ_SEGMENT, scale,
                                        row, group * w->g + i * EQ_SEGMENT, columns, type);
            sum = fmaf(codes, *scale, sum);
        }
        x->sums[m * x->groups + group] = sum;
    }
}

VEC void inputs_exact(const eq_panel_inputs *x, int64_t m, const void *row, const eq_panels *w,
                      eq_dtype type)
{
    const int64_t wide = w->each * EQ_SEGMENT;
    for (int64_t group = 0; group < x->groups; group++) {
        float *to = x->values + m * x->columns + group * wide;
        vec sum = v_set(0);
        for (int64_t k = 0; k < wide; k += LANES) {
            vec value = v_set(0);
            if (k < w->g) value = v_get(row, group * w->g + k, type, v_part(w->g - k));
            v_store(to + k, value, ALL);
            sum = v_add(sum, value);
        }
        x->sums[m * x->groups + group] = v_sum(sum);
    }
}

static void panel_inputs(const eq_panel_inputs *x, int64_t m, const void *row, const eq_panels *w,
                         eq_dtype type)
{
    if (x->values && type == EQ_F32)
        inputs_exact(x, m, row, w, EQ_F32);
    else if (x->values)
        inputs_exact(x, m, row, w, EQ_BF16);
    else if (type == EQ_F32)
        inputs_fast(x, m, row, w, EQ_F32);
    else
        inputs_fast(x, m, row, w, EQ_BF16);
}

/* Quad j of a segment, one byte a code. j and bits are constants in each caller. */
VEC ivec quad_codes(const uint8_t *segment, int j, int bits)
{
    const int low = bits == 3 ? 2 : bits, fields = 8 / low;
    const ivec v = i_load(segment + j / fields * 64);
    if (bits == 8) return v;
    const ivec codes = i_and(i_right(v, low * (j % fields)), ((1u << low) - 1) * 0x01010101u);
    if (bits < 3 || bits == 4) return codes;
    const ivec plane = i_load(segment + 128);
    const ivec third = j < 2 ? i_left(plane, 2 - j) : i_right(plane, j - 2);
    return i_or(codes, i_and(third, 0x04040404u));
}

VEC void dot_quad(ivec *sum, const uint8_t *segment, const int8_t *x, int64_t ld, int j, int rows,
                  int bits)
{
    const ivec codes = quad_codes(segment, j, bits);
    for (int i = 0; i < rows; i++)
        sum[i] = i_dot(sum[i], codes, i_set(x + i * ld + 4 * j), bits);
}

/* One row of X reads the weights as fast as memory delivers them, which takes more lines on their
 * way than the processor asks for by itself. AHEAD reaches over the scales of the next panel. */
VEC void prefetch_segment(const uint8_t *segment, int bits)
{
    enum { AHEAD = 6144 };
    for (int i = 0; i < bits; i++)
        __builtin_prefetch(segment + AHEAD + 64 * i);
}

/* sum[i] += (codes of the segment . x of row i) scale of row i. One row has two sums, which do not
 * wait for each other. */
VEC void dot_segment(vec *sum, const uint8_t *segment, const eq_panel_inputs *x, int64_t m,
                     int64_t s, int rows, int bits)
{
    const int64_t ld = x->columns;
    const int8_t *codes = x->codes + m * ld + s * EQ_SEGMENT;
    const float *scales = x->scales + m * x->segments + s;
    ivec even[FAST_ROWS], second[1] = {i_zero()}, *odd = rows == 1 ? second : even;
    for (int i = 0; i < rows; i++)
        even[i] = i_zero();
    if (rows == 1) prefetch_segment(segment, bits);
    dot_quad(even, segment, codes, ld, 0, rows, bits);
    dot_quad(odd, segment, codes, ld, 1, rows, bits);
    dot_quad(even, segment, codes, ld, 2, rows, bits);
    dot_quad(odd, segment, codes, ld, 3, rows, bits);
    dot_quad(even, segment, codes, ld, 4, rows, bits);
    dot_quad(odd, segment, codes, ld, 5, rows, bits);
    dot_quad(even, segment, codes, ld, 6, rows, bits);
    dot_quad(odd, segment, codes, ld, 7, rows, bits);
    for (int i = 0; i < rows; i++) {
        ivec total = i_total(even[i], bits);
        if (rows == 1) total = i_add(total, i_total(second[0], bits));
        sum[i] = v_fma(i_float(total), v_set(scales[i * x->segments]), sum[i]);
    }
}

/* The same for values in f32, each column of a quad with a sum of its own. */
VEC void exact_quad(vec sum[][4], const uint8_t *segment, const float *x, int64_t ld, int j,
                    int rows, int bits)
{
    const ivec codes = quad_codes(segment, j, bits);
    for (int b = 0; b < 4; b++) {
        const vec code = i_float(i_and(i_right(codes, 8 * b), 255));
        for (int i = 0; i < rows; i++)
            sum[i][b] = v_fma(code, v_set(x[i * ld + 4 * j + b]), sum[i][b]);
    }
}

VEC void exact_segment(vec sum[][4], const uint8_t *segment, const eq_panel_inputs *x, int64_t m,
                       int64_t s, int rows, int bits)
{
    const int64_t ld = x->columns;
    const float *values = x->values + m * ld + s * EQ_SEGMENT;
    exact_quad(sum, segment, values, ld, 0, rows, bits);
    exact_quad(sum, segment, values, ld, 1, rows, bits);
    exact_quad(sum, segment, values, ld, 2, rows, bits);
    exact_quad(sum, segment, values, ld, 3, rows, bits);
    exact_quad(sum, segment, values, ld, 4, rows, bits);
    exact_quad(sum, segment, values, ld, 5, rows, bits);
    exact_quad(sum, segment, values, ld, 6, rows, bits);
    exact_quad(sum, segment, values, ld, 7, rows, bits);
}

/* A panel and its parts, for the lanes of one of PARTS vectors. */
typedef struct panel_part {
    const uint8_t *scales, *zeros, *codes;
    const eq_panels *w;
} panel_part;

VEC panel_part part_of(const eq_panels *w, int64_t panel, int part_index)
{
    const uint8_t *p = w->data + (size_t)panel * w->stride;
    const size_t lane = (size_t)(part_index * LANES);
    const size_t scale_bytes = w->scale_type == EQ_F16 ? 2 : 4;
    const size_t zero_bytes = w->zero == EQ_ZERO_MINIMUM ? scale_bytes : 1;
    return (panel_part){p + lane * scale_bytes, p + w->zeros_at + lane * zero_bytes,
                        p + w->codes_at + 4 * lane, w};
}

/* Scales or minimums of a group. */
VEC vec group_values(const panel_part *p, const uint8_t *values, int64_t group)
{
    const int64_t at_row = group * EQ_PANEL_ROWS;
    if (p->w->scale_type == EQ_F16) return v_load_f16(values + 2 * at_row, ALL);
    return v_load((const float *)(const void *)(values + 4 * at_row), ALL);
}

/* y[i] += what a group of columns gives: s (sum - z sums), or s sum + m sums. */
VEC void finish_group(vec *y, const vec *sum, const panel_part *p, int64_t group,
                      const eq_panel_inputs *x, int64_t m, int rows)
{
    const vec s = group_values(p, p->scales, group);
    const float *sums = x->sums + m * x->groups + group;
    if (p->w->zero == EQ_ZERO_MINIMUM) {
        const vec least = group_values(p, p->zeros, group);
        for (int i = 0; i < rows; i++)
            y[i] = v_fma(s, sum[i], v_fma(least, v_set(sums[i * x->groups]), y[i]));
        return;
    }
    vec z = v_set((float)-p->w->same);
    if (p->w->zero == EQ_ZERO_EACH) z = v_neg(v_load_u8(p->zeros + group * EQ_PANEL_ROWS));
    for (int i = 0; i < rows; i++)
        y[i] = v_fma(s, v_fma(z, v_set(sums[i * x->groups]), sum[i]), y[i]);
}

VEC void fast_part(float *y, int64_t ldy, const panel_part *p, const eq_panel_inputs *x, int64_t m,
                   int rows, int bits)
{
    const int64_t each = p->w->each;
    vec total[FAST_ROWS];
    for (int i = 0; i < rows; i++)
        total[i] = v_set(0);
    const uint8_t *segment = p->codes;
    for (int64_t group = 0, s = 0; group < x->groups; group++) {
        vec sum[FAST_ROWS];
        for (int i = 0; i < rows; i++)
            sum[i] = v_set(0);
        for (int64_t end = s + each; s < end; s++, segment += 64 * bits)
            dot_segment(sum, segment, x, m, s, rows, bits);
        finish_group(total, sum, p, group, x, m, rows);
    }
    for (int i = 0; i < rows; i++)
        v_store(y + i * ldy, total[i], ALL);
}

VEC void exact_part(float *y, int64_t ldy, const panel_part *p, const eq_panel_inputs *x, int64_t m,
                    int rows, int bits)
{
    const int64_t each = p->w->each;
    vec total[EXACT_ROWS];
    for (int i = 0; i < rows; i++)
        total[i] = v_set(0);
    const uint8_t *segment = p->codes;
    for (int64_t group = 0, s = 0; group < x->groups; group++) {
        vec sum[EXACT_ROWS][4], all[EXACT_ROWS];
        for (int i = 0; i < 4 * rows; i++)
            sum[i / 4][i % 4] = v_set(0);
        for (int64_t end = s + each; s < end; s++, segment += 64 * bits)
            exact_segment(sum, segment, x, m, s, rows, bits);
        for (int i = 0; i < rows; i++)
            all[i] = v_add(v_add(sum[i][0], sum[i][1]), v_add(sum[i][2], sum[i][3]));
        finish_group(total, all, p, group, x, m, rows);
    }
    for (int i = 0; i < rows; i++)
        v_store(y + i * ldy, total[i], ALL);
}

/* Rows m .. of X, as many at once as are left of `rows`; returns how many. */
VEC int64_t some_rows(float *y, int64_t ldy, const panel_part *p, const eq_panel_inputs *x,
                      int64_t m, int64_t rows, int bits)
{
    if (x->values) {
        if (rows >= 4 && EXACT_ROWS >= 4) return exact_part(y, ldy, p, x, m, EXACT_ROWS, bits), 4;
        if (rows >= 2) return exact_part(y, ldy, p, x, m, 2, bits), 2;
        return exact_part(y, ldy, p, x, m, 1, bits), 1;
    }
    if (rows >= 8 && FAST_ROWS >= 8) return fast_part(y, ldy, p, x, m, FAST_ROWS, bits), 8;
    if (rows >= 4) return fast_part(y, ldy, p, x, m, 4, bits), 4;
    if (rows >= 2) return fast_part(y, ldy, p, x, m, 2, bits), 2;
    return fast_part(y, ldy, p, x, m, 1, bits), 1;
}

VEC void product_bits(float *y, int64_t ldy, const eq_panels *w, int64_t panel, int64_t panels,
                      const eq_panel_inputs *x, int64_t m, int64_t rows, int bits)
{
    for (int64_t i = 0; i < panels * PARTS; i++) {
        const panel_part p = part_of(w, panel + i / PARTS, (int)(i % PARTS));
        for (int64_t r = 0; r < rows;)
            r += some_rows(y + r * ldy + i * LANES, ldy, &p, x, m + r, rows - r, bits);
    }
}

static void panel_product(float *y, int64_t ldy, const eq_panels *w, int64_t panel, int64_t panels,
                          const eq_panel_inputs *x, int64_t m, int64_t rows)
{
    if (w->bits == 2)
        product_bits(y, ldy, w, panel, panels, x, m, rows, 2);
    else if (w->bits == 3)
        product_bits(y, ldy, w, panel, panels, x, m, rows, 3);
    else if (w->bits == 4)
        product_bits(y, ldy, w, panel, panels, x, m, rows, 4);
    else
        product_bits(y, ldy, w, panel, panels, x, m, rows, 8);
}

/* Codes of the rows of a panel's segment, one byte each. */
VEC void row_codes(uint8_t codes[EQ_PANEL_ROWS][EQ_SEGMENT], const uint8_t *segment, int bits)
{
    uint32_t quads[EQ_QUADS][EQ_PANEL_ROWS];
    for (int lane = 0; lane < EQ_PANEL_ROWS; lane += LANES) {
        const uint8_t *part_codes = segment + 4 * lane;
        i_store(quads[0] + lane, quad_codes(part_codes, 0, bits));
        i_store(quads[1] + lane, quad_codes(part_codes, 1, bits));
        i_store(quads[2] + lane, quad_codes(part_codes, 2, bits));
        i_store(quads[3] + lane, quad_codes(part_codes, 3, bits));
        i_store(quads[4] + lane, quad_codes(part_codes, 4, bits));
        i_store(quads[5] + lane, quad_codes(part_codes, 5, bits));
        i_store(quads[6] + lane, quad_codes(part_codes, 6, bits));
        i_store(quads[7] + lane, quad_codes(part_codes, 7, bits));
    }
    for (int r = 0; r < EQ_PANEL_ROWS; r++)
        for (int j = 0; j < EQ_QUADS; j++)
            memcpy(codes[r] + 4 * j, &quads[j][r], 4);
}

/* Scale, zero point and minimum of a group of one row; the zero point is 0 or the minimum is. */
typedef struct group_grid {
    float s, z, m;
} group_grid;

/* Number i of the scales or minimums. */
VEC float value_at(const eq_panels *w, const uint8_t *values, int64_t i)
{
    float value;
    if (w->scale_type == EQ_F16) return v_f16(values + 2 * i);
    memcpy(&value, values + 4 * i, sizeof value);
    return value;
}

VEC group_grid grid_at(const eq_panels *w, const uint8_t *panel, int64_t i)
{
    const uint8_t *zeros = panel + w->zeros_at;
    group_grid g = {0, (float)w->same, 0};
    g.s = value_at(w, panel, i);
    if (w->zero == EQ_ZERO_EACH) g.z = zeros[i];
    if (w->zero == EQ_ZERO_MINIMUM) g.m = value_at(w, zeros, i);
    return g;
}

/* Rows first .. last-1 of a panel; row `first` goes to out. */
VEC void panel_some_rows(void *out, const eq_panels *w, int64_t panel, int first, int last,
                         int bits, eq_dtype type)
{
    const uint8_t *p = w->data + (size_t)panel * w->stride;
    const uint8_t *segment = p + w->codes_at;
    const int64_t each = w->each;
    uint8_t codes[EQ_PANEL_ROWS][EQ_SEGMENT];
    for (int64_t s = 0; s < eq_panels_segments(w); s++, segment += 64 * bits) {
        const int64_t group = s / each, from = s % each * EQ_SEGMENT, left = w->g - from;
        const int64_t columns = left < EQ_SEGMENT ? left : EQ_SEGMENT;
        row_codes(codes, segment, bits);
        for (int r = first; r < last; r++) {
            const group_grid grid = grid_at(w, p, group * EQ_PANEL_ROWS + r);
            const int64_t to = (r - first) * w->K + group * w->g + from;
            for (int64_t i = 0; i < columns; i += LANES) {
                vec value = v_sub(v_load_u8(codes[r] + i), v_set(grid.z));
                value = v_mul(value, v_set(grid.s));
                if (w->zero == EQ_ZERO_MINIMUM) value = v_add(value, v_set(grid.m));
                v_put(out, to + i, type, value, v_part(columns - i));
            }
        }
    }
}

VEC void panel_rows_type(void *out, const eq_panels *w, int64_t panel, int first, int last,
                         eq_dtype type)
{
    if (w->bits == 2)
        panel_some_rows(out, w, panel, first, last, 2, type);
    else if (w->bits == 3)
        panel_some_rows(out, w, panel, first, last, 3, type);
    else if (w->bits == 4)
        panel_some_rows(out, w, panel, first, last, 4, type);
    else
        panel_some_rows(out, w, panel, first, last, 8, type);
}

static void panel_rows(void *out, eq_dtype type, const eq_panels *w, int64_t row0, int64_t rows)
{
    for (int64_t row = row0; row < row0 + rows;) {
        const int first = (int)(row % EQ_PANEL_ROWS);
        const int64_t left = row0 + rows - row;
        const int last = left < EQ_PANEL_ROWS - first ? first + (int)left : EQ_PANEL_ROWS;
        void *to = at(out, (row - row0) * w->K, type);
        if (type == EQ_F32)
            panel_rows_type(to, w, row / EQ_PANEL_ROWS, first, last, EQ_F32);
        else
            panel_rows_type(to, w, row / EQ_PANEL_ROWS, first, last, EQ_BF16);
        row += last - first;
    }
}

#endif
