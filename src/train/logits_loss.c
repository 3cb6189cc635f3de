#include "train/logits_loss.h"

#include <math.h>

enum { SLICE_BYTES = 64 << 20, LEAST_SLICE = 16 };

eq_logits_loss eq_logits_loss_layout(eq_arena *arena, const eq_logits_shape *s)
{
    eq_logits_loss l = {
        .T = s->T, .C = s->C, .V = s->V, .type = s->type, .top = s->top, .weights = s->weights};
    l.slice = SLICE_BYTES / (s->V * (int64_t)sizeof(float));
    if (l.slice < LEAST_SLICE) l.slice = LEAST_SLICE;
    if (l.slice > s->T) l.slice = s->T;
    l.logits = eq_arena_take(arena, l.slice * s->V, sizeof(float));
    if (s->weights.kl > 0 && !s->top)
        l.teacher = eq_arena_take(arena, l.slice * s->V, sizeof(float));
    l.dlogits = eq_arena_take(arena, l.slice * s->V, eq_elem_bytes(s->type));
    l.n = eq_arena_take(arena, l.slice * s->C, eq_elem_bytes(s->type));
    l.dn = eq_arena_take(arena, l.slice * s->C, sizeof(float));
    l.rstd = eq_arena_take(arena, l.slice, sizeof(float));
    l.partial = eq_arena_take(arena, eq_norm_scratch(l.slice, s->C), sizeof(float));
    l.rows = eq_arena_take(arena, l.slice, sizeof(double));
    l.scratch = eq_arena_take(arena, (int64_t)eq_linear_scratch(s->V, s->C), 1);
    return l;
}

int64_t eq_logits_positions(const uint8_t *counts, int64_t T)
{
    int64_t n = 0;
    for (int64_t t = 1; t < T; t++)
        n += !counts || counts[t];
    return n;
}

static void form_logits(eq_ctx *ctx, const eq_logits_loss *l, float *logits,
                        const eq_logits_end *end, const float *x, int64_t rows)
{
    const eq_norm_shape norm = {rows, l->C, end->eps, l->type};
    const eq_linear_call call = {rows, l->type, EQ_F32, false, l->scratch};
    eq_norm_forward(ctx, l->n, l->rstd, x, end->norm, &norm);
    eq_linear_forward(ctx, end->head, logits, l->n, &call);
}

static void scale_row(float *x, int64_t n, float factor)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= factor;
}

/* One row of logits x, of the teacher r, and the next token. The loss, and how its gradient is
 * made. x and r come back multiplied by 1 / tau. r NULL: without the divergence. */
static double row_loss(const eq_kernels *k, float *x, float *r, int64_t V, int32_t next,
                       const eq_logits_weights *w, float share, eq_softmax_error *e)
{
    int64_t unused;
    float tau = w->temperature, ls = k->logsumexp(x, V, &unused);
    double loss = w->ce > 0 ? (double)w->ce * ((double)ls - (double)x[next]) : 0;
    *e = (eq_softmax_error){.lx = ls, .ls = ls, .sharp = tau, .a = share * w->ce};
    if (!(w->kl > 0)) return share * loss;
    if (tau != 1) {
        scale_row(x, V, 1 / tau);
        if (r) scale_row(r, V, 1 / tau);
        e->lx = k->logsumexp(x, V, &unused);
        e->c = share * w->ce;
        e->a = 0;
    }
    if (!r) return share * loss;
    e->lr = k->logsumexp(r, V, &unused);
    e->b = share * w->kl * tau;
    e->a += e->b;
    loss += (double)(w->kl * tau * tau * k->kl_row(r, e->lr, x, e->lx, V));
    return share * loss;
}

/* One element of what softmax_error makes, in f32: rounded to bf16, the probability of a sure token
 * would lose its distance from 1. */
static float error_at(const float *x, const float *r, int64_t i, const eq_softmax_error *e)
{
    float sum = e->a * expf(x[i] - e->lx);
    if (e->b != 0) sum -= e->b * expf(r[i] - e->lr);
    if (e->c != 0) sum += e->c * expf(e->sharp * x[i] - e->ls);
    return sum;
}

static void put_at(void *d, int64_t i, float value, eq_dtype type)
{
    if (type == EQ_F32)
        ((float *)d)[i] = value;
    else
        ((uint16_t *)d)[i] = eq_f32_bf16(value);
}

/* Divergence from the known part of a teacher, w_kl tau^2 KL. The gradient of tokens outside of it
 * is that of the softmax times 1 - q_rest / p_rest, which goes into *e. */
static double top_loss(const eq_logits_loss *l, const float *x, const int32_t *ids, const float *q,
                       float share, eq_softmax_error *e)
{
    double kl = 0, q_rest = 1, p_rest = 1;
    for (int64_t i = 0; i < l->top; i++) {
        double log_p = (double)x[ids[i]] - (double)e->lx;
        if (q[i] > 0) kl += (double)q[i] * (log((double)q[i]) - log_p);
        q_rest -= (double)q[i];
        p_rest -= exp(log_p);
    }
    q_rest = q_rest < 0 ? 0 : q_rest; /* what rounding may leave */
    p_rest = fmax(p_rest, 1e-6);
    if (q_rest > 0) kl += q_rest * log(q_rest / p_rest);
    const eq_logits_weights *w = &l->weights;
    e->a += share * w->kl * w->temperature * (float)(1 - q_rest / p_rest);
    return (double)(w->kl * w->temperature * w->temperature) * kl;
}

/* The gradient at the known tokens themselves: w_kl tau (p - q), and that of the cross-entropy. */
static void put_top(const eq_logits_loss *l, void *d, const float *x, const int32_t *ids,
                    const float *q, int32_t next, float share, const eq_softmax_error *e)
{
    const eq_logits_weights *w = &l->weights;
    for (int64_t i = 0; i < l->top; i++) {
        float p = expf(x[ids[i]] - e->lx), sharp = expf(e->sharp * x[ids[i]] - e->ls);
        float right = ids[i] == next ? 1.0f : 0.0f;
        float value = share * (w->kl * w->temperature * (p - q[i]) + w->ce * (sharp - right));
        put_at(d, ids[i], value, l->type);
    }
}

/* What a row of a slice needs. */
typedef struct rows_job {
    eq_logits_loss *loss;
    const eq_logits_window *window;
    int64_t first; /* position of the slice's first row */
    float share;
    bool gradient;
} rows_job;

static void do_row(eq_ctx *ctx, const rows_job *job, int64_t i)
{
    const eq_logits_loss *l = job->loss;
    const eq_logits_window *w = job->window;
    int64_t t = job->first + i;
    char *d = (char *)l->dlogits + (size_t)(i * l->V) * eq_elem_bytes(l->type);
    l->rows[i] = 0;
    if (t + 1 >= l->T || (w->counts && !w->counts[t + 1])) {
        if (job->gradient) memset(d, 0, (size_t)l->V * eq_elem_bytes(l->type));
        return;
    }
    float *x = l->logits + i * l->V, *r = l->teacher ? l->teacher + i * l->V : NULL;
    eq_softmax_error e;
    l->rows[i] = row_loss(ctx->kernels, x, r, l->V, w->ids[t + 1], &l->weights, job->share, &e);
    const int32_t *ids = l->top ? w->top.ids + t * l->top : NULL;
    const float *q = l->top ? w->top.q + t * l->top : NULL;
    if (l->top) l->rows[i] += job->share * top_loss(l, x, ids, q, job->share, &e);
    if (!job->gradient) return;
    ctx->kernels->softmax_error(d, x, r, l->V, &e, l->type);
    int32_t next = w->ids[t + 1];
    float pull = job->share * l->weights.ce;
    if (pull > 0) put_at(d, next, error_at(x, r, next, &e) - pull, l->type);
    if (l->top) put_top(l, d, x, ids, q, next, job->share, &e);
}

/* dlogits of a slice to dx and dnorm. l->n and l->rstd are the model's. */
static void slice_backward(eq_ctx *ctx, eq_logits_loss *l, const eq_logits_window *w, int64_t first,
                           int64_t rows, float *dx, float *dnorm)
{
    const eq_norm_shape norm = {rows, l->C, w->end.eps, EQ_F32};
    const eq_linear_call call = {rows, l->type, EQ_F32, false, l->scratch};
    const eq_norm_saved saved = {w->x + first * l->C, w->end.norm, l->rstd};
    eq_linear_backward(ctx, w->end.head, l->dn, l->dlogits, NULL, &call);
    memset(dx + first * l->C, 0, (size_t)(rows * l->C) * sizeof *dx);
    eq_norm_backward(ctx, dx + first * l->C, dnorm, l->dn, &saved, &norm, l->partial);
}

double eq_logits_loss_window(eq_ctx *ctx, eq_logits_loss *l, const eq_logits_window *w, float share,
                             float *dx, float *dnorm)
{
    double sum = 0;
    for (int64_t first = 0; first < l->T; first += l->slice) {
        int64_t rows = l->T - first < l->slice ? l->T - first : l->slice;
        const rows_job job = {l, w, first, share, dx != NULL};
        if (l->teacher)
            form_logits(ctx, l, l->teacher, &w->teacher_end, w->teacher + first * l->C, rows);
        form_logits(ctx, l, l->logits, &w->end, w->x + first * l->C, rows);
#pragma omp parallel for schedule(dynamic, 4) num_threads(ctx->threads)
        for (int64_t i = 0; i < rows; i++)
            do_row(ctx, &job, i);
        for (int64_t i = 0; i < rows; i++)
            sum += l->rows[i];
        if (dx) slice_backward(ctx, l, w, first, rows, dx, dnorm);
    }
    return sum;
}

/* Whether token a is likelier than b; of equal ones the first. */
static bool likelier(const float *x, int32_t a, int32_t b)
{
    return x[a] > x[b] || (x[a] == x[b] && a < b);
}

/* Let the entry at i of a heap of n sink to its place; the least likely is at the top. */
static void sink(const float *x, int32_t *heap, int64_t n, int64_t i)
{
    for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && likelier(x, heap[child], heap[child + 1])) child++;
        if (!likelier(x, heap[i], heap[child])) return;
        int32_t swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
        i = child;
    }
}

/* The n largest of x [V], largest first; of equal ones the first. */
static void largest(const float *x, int64_t V, int64_t n, int32_t *ids)
{
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)i;
    for (int64_t i = n / 2 - 1; i >= 0; i--)
        sink(x, ids, n, i);
    for (int64_t i = n; i < V; i++) {
        if (!(x[i] > x[ids[0]])) continue;
        ids[0] = (int32_t)i;
        sink(x, ids, n, 0);
    }
    for (int64_t left = n - 1; left > 0; left--) {
        int32_t least = ids[0];
        ids[0] = ids[left];
        ids[left] = least;
        sink(x, ids, left, 0);
    }
}

static void find_row(eq_ctx *ctx, const eq_logits_loss *l, float *x, int32_t *ids, float *q)
{
    int64_t unused;
    scale_row(x, l->V, 1 / l->weights.temperature);
    float lse = ctx->kernels->logsumexp(x, l->V, &unused);
    largest(x, l->V, l->top, ids);
    for (int64_t i = 0; i < l->top; i++)
        q[i] = expf(x[ids[i]] - lse);
}

void eq_logits_find_top(eq_ctx *ctx, eq_logits_loss *l, const eq_logits_end *end, const float *x,
                        const eq_logits_top *out)
{
    for (int64_t first = 0; first < l->T - 1; first += l->slice) {
        int64_t rows = l->T - 1 - first < l->slice ? l->T - 1 - first : l->slice;
        form_logits(ctx, l, l->logits, end, x + first * l->C, rows);
#pragma omp parallel for schedule(dynamic, 4) num_threads(ctx->threads)
        for (int64_t i = 0; i < rows; i++)
            find_row(ctx, l, l->logits + i * l->V, out->ids + (first + i) * l->top,
                     out->q + (first + i) * l->top);
    }
}
