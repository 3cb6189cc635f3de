/* Reference kernels on panels, for kernels_ref.c. */
#ifndef EQ_KERNELS_PANELS_REF_H
#define EQ_KERNELS_PANELS_REF_H

#include "kernels/loops.h"

/* Columns of segment s: the first one in *k. */
static int64_t segment_columns(const eq_panels *w, int64_t s, int64_t *k)
{
    const int64_t each = w->each, from = s % each * EQ_SEGMENT;
    *k = s / each * w->g + from;
    return w->g - from < EQ_SEGMENT ? w->g - from : EQ_SEGMENT;
}

static float input_codes(int8_t *codes, float *scale, const void *x, int64_t k, int64_t columns,
                         eq_dtype type)
{
    float most = 0, check = 0, sum = 0;
    for (int64_t i = 0; i < columns; i++) {
        float size = fabsf(get(x, k + i, type));
        most = size > most ? size : most;
        check += size * 0; /* not a number if size is not finite */
    }
    const float inverse = most > EQ_PANEL_NOTHING ? 127 / most : 0;
    for (int64_t i = 0; i < EQ_SEGMENT; i++) {
        float code = i < columns ? rintf(get(x, k + i, type) * inverse) : 0;
        codes[i] = fabsf(code) <= 127 ? (int8_t)code : 0;
        sum += code;
    }
    *scale = most / 127 + check;
    return sum;
}

static void panel_inputs(const eq_panel_inputs *x, int64_t m, const void *row, const eq_panels *w,
                         eq_dtype type)
{
    const int64_t each = w->each;
    float *sums = x->sums + m * x->groups;
    memset(sums, 0, (size_t)x->groups * sizeof *sums);
    for (int64_t s = 0; s < x->segments; s++) {
        const int64_t to = m * x->columns + s * EQ_SEGMENT;
        int64_t k, columns = segment_columns(w, s, &k);
        if (!x->values) {
            float *scale = x->scales + m * x->segments + s;
            float sum = input_codes(x->codes + to, scale, row, k, columns, type);
            sums[s / each] = fmaf(sum, *scale, sums[s / each]);
            continue;
        }
        for (int64_t i = 0; i < EQ_SEGMENT; i++) {
            float value = i < columns ? get(row, k + i, type) : 0;
            x->values[to + i] = value;
            sums[s / each] += value;
        }
    }
}

/* The sum over the columns of a group before scale and zero point. */
static float group_sum(const eq_panels *w, int64_t n, int64_t group, const eq_panel_inputs *x,
                       int64_t m)
{
    const int64_t each = w->each;
    float sum = 0;
    for (int64_t s = group * each; s < (group + 1) * each; s++) {
        const int64_t from = m * x->columns + s * EQ_SEGMENT;
        double values = 0;
        int32_t codes = 0;
        for (int64_t i = 0; i < EQ_SEGMENT; i++) {
            const int q = eq_panels_code(w, n, s, (int)i);
            if (x->values)
                values += (double)q * x->values[from + i];
            else
                codes += q * x->codes[from + i];
        }
        if (x->values)
            sum += (float)values;
        else
            sum = fmaf((float)codes, x->scales[m * x->segments + s], sum);
    }
    return sum;
}

static float panel_dot(const eq_panels *w, int64_t n, const eq_panel_inputs *x, int64_t m)
{
    float y = 0;
    for (int64_t k = 0; k < x->groups; k++) {
        const eq_panel_grid grid = eq_panels_grid(w, n, k);
        const float sum = group_sum(w, n, k, x, m), inputs = x->sums[m * x->groups + k];
        if (w->zero == EQ_ZERO_MINIMUM)
            y = fmaf(grid.s, sum, fmaf(grid.m, inputs, y));
        else
            y = fmaf(grid.s, fmaf(-grid.z, inputs, sum), y);
    }
    return y;
}

static void panel_product(float *y, int64_t ldy, const eq_panels *w, int64_t panel, int64_t panels,
                          const eq_panel_inputs *x, int64_t m, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < panels * EQ_PANEL_ROWS; n++)
            y[r * ldy + n] = panel_dot(w, panel * EQ_PANEL_ROWS + n, x, m + r);
}

static void panel_rows(void *out, eq_dtype type, const eq_panels *w, int64_t row0, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < w->K; k++)
            put(out, r * w->K + k, type, eq_panels_get(w, row0 + r, k));
}

#endif
