#include "model/panel_linear.h"

/* Panels and rows of X that one task takes at most. Up to EXACT_FEW rows, inputs as they are
 * multiply codes: more are faster through a matrix product. Up to SERIAL_COLUMNS columns of all
 * rows together, one thread prepares the inputs: to wake others takes longer. */
enum { PANELS = 4, TASK_COLUMNS = PANELS * EQ_PANEL_ROWS, TASK_ROWS = 64 };
enum { EXACT_FEW = 16, SERIAL_COLUMNS = 8192 };

bool eq_panel_linear_describe(eq_panel_linear *l, const eq_stored *stored)
{
    *l = (eq_panel_linear){.count = stored->count};
    for (int i = 0; i < stored->count; i++) {
        const eq_stored_part *part = &stored->parts[i];
        l->row0[i] = part->row0;
        bool fits = part->packed ? eq_panels_for_qmatrix(&l->parts[i], &part->matrix)
                                 : eq_panels_for_tensor(&l->parts[i], &part->tensor);
        if (!fits) return false;
    }
    return true;
}

size_t eq_panel_linear_bytes(const eq_panel_linear *l)
{
    size_t bytes = 0;
    for (int i = 0; i < l->count; i++)
        bytes += eq_panels_bytes(&l->parts[i]);
    return bytes;
}

void eq_panel_linear_fill(eq_ctx *ctx, eq_panel_linear *l, const eq_stored *stored, void *data)
{
    uint8_t *next = data;
    for (int i = 0; i < l->count; i++) {
        eq_panels *p = &l->parts[i];
        const eq_stored_part *part = &stored->parts[i];
        p->data = next;
        next += eq_panels_bytes(p);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
        for (int64_t panel = 0; panel < eq_panels_count(p); panel++) {
            if (part->packed)
                eq_panels_fill_qmatrix(p, &part->matrix, panel);
            else
                eq_panels_fill_tensor(p, &part->tensor, panel);
        }
    }
}

static void panel_rows(const eq_linear *linear, void *out, eq_dtype type, int64_t row0,
                       int64_t rows)
{
    const eq_panel_linear *l = linear->state;
    for (int i = 0; i < l->count; i++) {
        const eq_panels *p = &l->parts[i];
        int64_t first = row0 > l->row0[i] ? row0 : l->row0[i], end = l->row0[i] + p->N;
        int64_t last = row0 + rows < end ? row0 + rows : end;
        if (first >= last) continue;
        char *to = (char *)out + (size_t)((first - row0) * linear->K) * eq_elem_bytes(type);
        linear->kernels->panel_rows(to, type, p, first - l->row0[i], last - first);
    }
}

/* ---- products ------------------------------------------------------------------------------ */

/* Inputs of `rows` rows in buffers from `arena`. */
static eq_panel_inputs take_inputs(eq_arena *arena, const eq_panels *p, int64_t rows, bool exact)
{
    eq_panel_inputs x = {.segments = eq_panels_segments(p), .groups = p->groups};
    x.columns = x.segments * EQ_SEGMENT;
    x.sums = eq_arena_take(arena, rows * x.groups, sizeof(float));
    if (exact) {
        x.values = eq_arena_take(arena, rows * x.columns, sizeof(float));
        return x;
    }
    x.scales = eq_arena_take(arena, rows * x.segments, sizeof(float));
    x.codes = eq_arena_take(arena, rows * x.columns, 1);
    return x;
}

/* Rows of X whose inputs fit the scratch: EXACT_FEW or TASK_ROWS at least, as eq_linear_scratch
 * promises. */
static int64_t rows_that_fit(const eq_linear *linear, const eq_panels *p, bool exact)
{
    const int64_t least = exact ? EXACT_FEW : TASK_ROWS;
    eq_arena arena = eq_arena_measure();
    take_inputs(&arena, p, least, exact);
    return (int64_t)(eq_linear_scratch(linear->N, linear->K) / arena.used) * least;
}

static void prepare_inputs(eq_ctx *ctx, const eq_panel_inputs *inputs, const char *x,
                           const eq_panels *p, int64_t rows, eq_dtype type)
{
    size_t row_bytes = (size_t)p->K * eq_elem_bytes(type);
#pragma omp parallel for schedule(static)                                                          \
    num_threads(ctx->threads) if (rows * p->K > SERIAL_COLUMNS)
    for (int64_t m = 0; m < rows; m++)
        ctx->kernels->panel_inputs(inputs, m, x + (size_t)m * row_bytes, p, type);
}

/* One task's part of Y [rows, ldy] from its first column on. */
static void put_tile(const eq_kernels *k, char *y, int64_t ldy, const float *tile, int64_t rows,
                     int64_t columns, const eq_linear_call *call)
{
    for (int64_t r = 0; r < rows; r++, y += (size_t)ldy * eq_elem_bytes(call->out_type)) {
        const float *sums = tile + r * TASK_COLUMNS;
        if (call->accumulate)
            k->add((float *)(void *)y, sums, columns);
        else
            k->unpack(y, call->out_type, sums, EQ_F32, columns);
    }
}

/* Some parts of a linear that take the same inputs, cut into tasks of `panels` panels. */
typedef struct cut {
    const eq_panel_linear *l;
    int first, last; /* parts */
    int64_t panels;
    int64_t tasks[EQ_MAX_PARTS + 1]; /* before each part, and in all */
} cut;

static cut cut_parts(const eq_panel_linear *l, int first, int last, int64_t panels)
{
    cut c = {l, first, last, panels, {0}};
    for (int i = first; i < last; i++)
        c.tasks[i + 1] = c.tasks[i] + (eq_panels_count(&l->parts[i]) + panels - 1) / panels;
    return c;
}

/* The cut that leaves the slowest thread least to do; of equal ones that with the fewest tasks. */
static cut choose_cut(const eq_panel_linear *l, int first, int last, int threads)
{
    cut best = cut_parts(l, first, last, PANELS);
    int64_t least = INT64_MAX;
    for (int64_t panels = PANELS; panels > 0; panels--) {
        cut c = cut_parts(l, first, last, panels);
        int64_t work = (c.tasks[last] + threads - 1) / threads * panels;
        if (work >= least) continue;
        least = work;
        best = c;
    }
    return best;
}

/* Task number `task` of the cut, rows m .. m+rows-1 of Y [.., ldy]. */
static void multiply_task(const eq_kernels *k, const cut *c, int64_t task, char *y, int64_t ldy,
                          const eq_panel_inputs *x, int64_t m, int64_t rows,
                          const eq_linear_call *call)
{
    float tile[TASK_ROWS * TASK_COLUMNS];
    int i = c->first;
    while (task >= c->tasks[i + 1])
        i++;
    const eq_panels *p = &c->l->parts[i];
    int64_t panel = (task - c->tasks[i]) * c->panels, left = eq_panels_count(p) - panel;
    int64_t panels = left < c->panels ? left : c->panels;
    int64_t column = panel * EQ_PANEL_ROWS, columns = panels * EQ_PANEL_ROWS;
    if (columns > p->N - column) columns = p->N - column;
    k->panel_product(tile, TASK_COLUMNS, p, panel, panels, x, m, rows);
    int64_t to = m * ldy + c->l->row0[i] + column;
    put_tile(k, y + (size_t)to * eq_elem_bytes(call->out_type), ldy, tile, rows, columns, call);
}

/* Parts first .. last-1, which take the same inputs. */
static void multiply_parts(eq_ctx *ctx, const eq_linear *linear, int first, int last, char *y,
                           const char *x, const eq_linear_call *call)
{
    const eq_panel_linear *l = linear->state;
    const eq_panels *p = &l->parts[first];
    const cut c = choose_cut(l, first, last, ctx->threads);
    const int64_t step = rows_that_fit(linear, p, l->exact), across = c.tasks[last];
    size_t in = (size_t)linear->K * eq_elem_bytes(call->type);
    size_t out = (size_t)linear->N * eq_elem_bytes(call->out_type);
    for (int64_t row = 0; row < call->M; row += step) {
        int64_t rows = call->M - row < step ? call->M - row : step;
        int64_t down = (rows + TASK_ROWS - 1) / TASK_ROWS;
        eq_arena arena = {call->scratch, eq_linear_scratch(linear->N, linear->K), 0};
        eq_panel_inputs inputs = take_inputs(&arena, p, rows, l->exact);
        prepare_inputs(ctx, &inputs, x + (size_t)row * in, p, rows, call->type);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
        for (int64_t i = 0; i < across * down; i++) {
            int64_t m = i % down * TASK_ROWS, n = rows - m < TASK_ROWS ? rows - m : TASK_ROWS;
            multiply_task(ctx->kernels, &c, i / down, y + (size_t)row * out, linear->N, &inputs, m,
                          n, call);
        }
    }
}

static bool multiply(eq_ctx *ctx, const eq_linear *linear, void *y, const void *x,
                     const eq_linear_call *call)
{
    const eq_panel_linear *l = linear->state;
    if (l->exact && call->M > EXACT_FEW) return false;
    for (int first = 0, last = 0; first < l->count; first = last) {
        while (last < l->count && l->parts[last].g == l->parts[first].g)
            last++;
        multiply_parts(ctx, linear, first, last, y, x, call);
    }
    return true;
}

static const eq_linear_form PANELS_FORM = {.rows = panel_rows, .multiply = multiply};

eq_linear eq_linear_panels(const eq_kernels *kernels, eq_panel_linear *l)
{
    const eq_panels *last = &l->parts[l->count - 1];
    return (eq_linear){&PANELS_FORM, kernels, l->row0[l->count - 1] + last->N, last->K, l};
}
