#include "model/attention.h"

#include <math.h>
#include <string.h>

/* Work is cut by window and key-value head, a unit. Within one, queries go in steps of some rows of
 * all heads that share it, against all keys up to the last of these rows, rounded up so that few
 * different product shapes occur. The backward pass sums the gradients of keys and values over the
 * steps of each of PARTS parts of a unit, then over the parts. */

enum { LEAST_STEP = 64, MOST_STEPS = 32, MOST_SHAPES = MOST_STEPS + 1, PARTS = 2 };

/* One thread's buffers; the sizes are in layout_thread. */
typedef struct buffers {
    char *k, *v;        /* [T, D] type */
    char *q, *dout;     /* [R, D] type, R = step * heads per group */
    char *p, *ds;       /* [R, T] type */
    float *s, *dp;      /* [R, T] */
    float *o;           /* [R, D]: a product before it goes to its place */
    float *dk, *dv;     /* [T, D]: the part's place in the sums */
    float *delta, *lse; /* [R] */
} buffers;

typedef struct geometry {
    const eq_attention *a;
    int64_t group;     /* query heads per key-value head */
    int64_t step;      /* query positions of a step */
    int64_t grain;     /* numbers of keys are multiples of it, or T */
    int64_t ld, width; /* elements of a row of qkv, of out */
    size_t elem;       /* bytes of an element */
} geometry;

/* The products of one number of keys. */
typedef struct products {
    const eq_gemm_plan *scores;  /* S = Q K^T, and dP = dO V^T */
    const eq_gemm_plan *mix;     /* O = P V, and dQ = dS K */
    const eq_gemm_plan *collect; /* dV += P^T dO, and dK += dS^T Q */
} products;

static geometry make_geometry(const eq_attention *a)
{
    geometry g = {.a = a, .group = a->H / a->Hkv, .elem = a->type == EQ_F32 ? 4 : 2};
    int64_t share = (a->T + MOST_STEPS - 1) / MOST_STEPS;
    g.step = share <= LEAST_STEP ? LEAST_STEP : (share + LEAST_STEP - 1) / LEAST_STEP * LEAST_STEP;
    g.grain = g.step;
    g.ld = (a->H + 2 * a->Hkv) * a->D;
    g.width = a->H * a->D;
    return g;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void layout_thread(eq_arena *arena, buffers *b, const geometry *g, bool backward)
{
    int64_t T = g->a->T, D = g->a->D, R = least(g->step, T) * g->group;
    b->k = eq_arena_take(arena, T * D, g->elem);
    b->v = eq_arena_take(arena, T * D, g->elem);
    b->q = eq_arena_take(arena, R * D, g->elem);
    b->p = eq_arena_take(arena, R * T, g->elem);
    b->s = eq_arena_take(arena, R * T, sizeof(float));
    b->o = eq_arena_take(arena, R * D, sizeof(float));
    b->lse = eq_arena_take(arena, R, sizeof(float));
    if (!backward) return;
    b->dout = eq_arena_take(arena, R * D, g->elem);
    b->ds = eq_arena_take(arena, R * T, g->elem);
    b->dp = eq_arena_take(arena, R * T, sizeof(float));
    b->delta = eq_arena_take(arena, R, sizeof(float));
}

eq_attention_scratch eq_attention_layout(eq_arena *arena, const eq_attention *shape, int threads,
                                         bool backward)
{
    geometry g = make_geometry(shape);
    buffers unused;
    eq_arena one = eq_arena_measure();
    layout_thread(&one, &unused, &g, backward);
    char *base = eq_arena_take(arena, threads, one.used);
    int64_t sums = shape->B * shape->Hkv * PARTS * 2 * shape->T * shape->D;
    return (eq_attention_scratch){base, one.used,
                                  backward ? eq_arena_take(arena, sums, sizeof(float)) : NULL};
}

static buffers thread_buffers(const eq_attention_scratch *scratch, const geometry *g, int thread,
                              bool backward)
{
    buffers b = {0};
    eq_arena part = {scratch->base + scratch->part * (size_t)thread, scratch->part, 0};
    layout_thread(&part, &b, g, backward);
    return b;
}

/* Keys that a step from query position t0 multiplies with: those it sees, rounded up. */
static int64_t keys_of(const geometry *g, int64_t t0, int64_t rows)
{
    int64_t seen = t0 + rows;
    return least((seen + g->grain - 1) / g->grain * g->grain, g->a->T);
}

static bool prepare(eq_ctx *ctx, products *out, const geometry *g, int64_t t0, bool backward)
{
    int64_t rows = least(g->step, g->a->T - t0), R = rows * g->group, D = g->a->D;
    int64_t keys = keys_of(g, t0, rows);
    eq_gemm scores = eq_gemm_forward(R, keys, D, g->a->type, EQ_F32);
    eq_gemm mix = eq_gemm_input_gradient(R, keys, D, g->a->type, EQ_F32);
    eq_gemm collect = eq_gemm_weight_gradient(R, keys, D, keys, g->a->type);
    collect.accumulate = true;
    out->scores = eq_gemm_prepare(ctx, &scores);
    out->mix = eq_gemm_prepare(ctx, &mix);
    out->collect = backward ? eq_gemm_prepare(ctx, &collect) : NULL;
    return out->scores && out->mix && (!backward || out->collect);
}

static bool prepare_all(eq_ctx *ctx, products *list, const geometry *g, bool backward)
{
    bool ok = true;
    for (int64_t t0 = 0; ok && t0 < g->a->T; t0 += g->step)
        ok = prepare(ctx, &list[t0 / g->step], g, t0, backward);
    return ok;
}

/* Copy `rows` rows of D elements, ld elements apart, to the dense buffer `to`. */
static void gather(char *to, const void *from, int64_t offset, int64_t ld, int64_t rows,
                   const geometry *g)
{
    size_t bytes = (size_t)g->a->D * g->elem;
    const char *p = (const char *)from + (size_t)offset * g->elem;
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + (size_t)r * bytes, p + (size_t)(r * ld) * g->elem, bytes);
}

/* The other way, from f32 to the activation type. */
static void scatter(eq_ctx *ctx, void *to, int64_t offset, int64_t ld, const float *from,
                    int64_t rows, const geometry *g)
{
    int64_t D = g->a->D;
    for (int64_t r = 0; r < rows; r++) {
        char *p = (char *)to + (size_t)(offset + r * ld) * g->elem;
        if (g->a->type == EQ_F32)
            memcpy(p, from + r * D, (size_t)D * sizeof *from);
        else
            ctx->kernels->f32_to_bf16((uint16_t *)(void *)p, from + r * D, D);
    }
}

/* One step: a window b, a key-value head kv, query positions t0 .. t0+rows-1. */
typedef struct step {
    int64_t b, kv, t0, rows, keys;
    const products *use;
    int thread;
} step;

static step make_step(const geometry *g, const products *list, int64_t unit, int64_t t0, int thread)
{
    int64_t rows = least(g->step, g->a->T - t0);
    return (step){unit / g->a->Hkv,     unit % g->a->Hkv,    t0,    rows,
                  keys_of(g, t0, rows), &list[t0 / g->step], thread};
}

static int64_t query_offset(const geometry *g, const step *s, int64_t head, int64_t ld)
{
    return (s->b * g->a->T + s->t0) * ld + (s->kv * g->group + head) * g->a->D;
}

static void gather_queries(char *to, const void *from, int64_t ld, const geometry *g, const step *s)
{
    for (int64_t h = 0; h < g->group; h++)
        gather(to + (size_t)(h * s->rows * g->a->D) * g->elem, from, query_offset(g, s, h, ld), ld,
               s->rows, g);
}

static void scatter_queries(eq_ctx *ctx, void *to, int64_t ld, const float *from, const geometry *g,
                            const step *s)
{
    for (int64_t h = 0; h < g->group; h++)
        scatter(ctx, to, query_offset(g, s, h, ld), ld, from + h * s->rows * g->a->D, s->rows, g);
}

static void gather_keys(buffers *b, const void *qkv, const geometry *g, int64_t unit)
{
    const eq_attention *a = g->a;
    int64_t row = unit / a->Hkv * a->T * g->ld, kv = unit % a->Hkv;
    gather(b->k, qkv, row + (a->H + kv) * a->D, g->ld, a->T, g);
    gather(b->v, qkv, row + (a->H + a->Hkv + kv) * a->D, g->ld, a->T, g);
}

/* Where the logarithms of head h of a step stand in lse [B, H, T]. */
static int64_t lse_offset(const geometry *g, const step *s, int64_t h)
{
    return (s->b * g->a->H + s->kv * g->group + h) * g->a->T + s->t0;
}

static eq_causal causal_tile(const geometry *g, const step *s)
{
    return (eq_causal){.rows = s->rows,
                       .cols = s->keys,
                       .ld = s->keys,
                       .first = s->t0,
                       .scale = 1.0f / sqrtf((float)g->a->D),
                       .type = g->a->type};
}

static void forward_step(eq_ctx *ctx, void *out, float *lse, const void *qkv, const geometry *g,
                         buffers *b, const step *s)
{
    const eq_causal tile = causal_tile(g, s);
    gather_queries(b->q, qkv, g->ld, g, s);
    eq_gemm_serial(ctx, s->use->scores, s->thread, b->s, b->q, b->k);
    for (int64_t h = 0; h < g->group; h++) {
        int64_t first = h * s->rows * s->keys;
        ctx->kernels->softmax_causal(b->p + (size_t)first * g->elem, lse + lse_offset(g, s, h),
                                     b->s + first, &tile);
    }
    eq_gemm_serial(ctx, s->use->mix, s->thread, b->o, b->p, b->v);
    scatter_queries(ctx, out, g->width, b->o, g, s);
}

void eq_attention_forward(eq_ctx *ctx, void *out, float *lse, const void *qkv,
                          const eq_attention *shape, const eq_attention_scratch *scratch)
{
    geometry g = make_geometry(shape);
    products list[MOST_SHAPES];
    if (!prepare_all(ctx, list, &g, false)) return;
    int64_t units = shape->B * shape->Hkv, steps = (shape->T + g.step - 1) / g.step;
    /* A thread takes a few neighbouring steps of one unit at a time: the copy of its keys is then
     * shared. */
    int64_t parts = units >= 2 * ctx->threads ? 1 : least(steps, 4);
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t i = 0; i < units * parts; i++) {
        int64_t unit = i / parts, part = i % parts;
        buffers b = thread_buffers(scratch, &g, eq_this_thread(), false);
        gather_keys(&b, qkv, &g, unit);
        for (int64_t k = part; k < steps; k += parts) {
            step s = make_step(&g, list, unit, k * g.step, eq_this_thread());
            forward_step(ctx, out, lse, qkv, &g, &b, &s);
        }
    }
}

/* delta = rowsum(dO * O): the part of the softmax's gradient that all columns share. */
static void gather_delta(eq_ctx *ctx, buffers *b, const void *dout, const void *out,
                         const float *lse, const geometry *g, const step *s)
{
    for (int64_t h = 0; h < g->group; h++) {
        size_t at = (size_t)query_offset(g, s, h, g->width) * g->elem;
        ctx->kernels->dot_rows(b->delta + h * s->rows, 1, (const char *)dout + at, g->width,
                               (const char *)out + at, g->width, s->rows, g->a->D, g->a->type);
        memcpy(b->lse + h * s->rows, lse + lse_offset(g, s, h), (size_t)s->rows * sizeof *lse);
    }
}

/* With S, P recomputed: dV += P^T dO, dP = dO V^T, dS = scale P (dP - delta), dK += dS^T Q, dQ = dS
 * K. */
static void backward_step(eq_ctx *ctx, void *qkv, const void *dout, const geometry *g, buffers *b,
                          const step *s)
{
    const eq_causal tile = causal_tile(g, s);
    const products *use = s->use;
    gather_queries(b->q, qkv, g->ld, g, s);
    gather_queries(b->dout, dout, g->width, g, s);
    eq_gemm_serial(ctx, use->scores, s->thread, b->s, b->q, b->k);
    eq_gemm_serial(ctx, use->scores, s->thread, b->dp, b->dout, b->v);
    for (int64_t h = 0; h < g->group; h++) {
        int64_t at = h * s->rows * s->keys;
        ctx->kernels->softmax_causal_backward(b->p + (size_t)at * g->elem,
                                              b->ds + (size_t)at * g->elem, b->s + at, b->dp + at,
                                              b->lse + h * s->rows, b->delta + h * s->rows, &tile);
    }
    eq_gemm_serial(ctx, use->collect, s->thread, b->dv, b->p, b->dout);
    eq_gemm_serial(ctx, use->collect, s->thread, b->dk, b->ds, b->q);
    eq_gemm_serial(ctx, use->mix, s->thread, b->o, b->ds, b->k);
    scatter_queries(ctx, qkv, g->ld, b->o, g, s);
}

void eq_attention_backward(eq_ctx *ctx, void *qkv, const void *dout, const void *out,
                           const float *lse, const eq_attention *shape,
                           const eq_attention_scratch *scratch)
{
    geometry g = make_geometry(shape);
    products list[MOST_SHAPES];
    if (!prepare_all(ctx, list, &g, true)) return;
    int64_t units = shape->B * shape->Hkv, D = shape->D, T = shape->T;
    /* A unit owns its slices of qkv: the gradient of a step's queries can replace them at once,
     * that of keys and values when all steps have read them. */
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t i = 0; i < units * PARTS; i++) {
        buffers b = thread_buffers(scratch, &g, eq_this_thread(), true);
        b.dk = scratch->sums + i * 2 * T * D;
        b.dv = b.dk + T * D;
        gather_keys(&b, qkv, &g, i / PARTS);
        memset(b.dk, 0, (size_t)(2 * T * D) * sizeof *b.dk);
        for (int64_t t0 = i % PARTS * g.step; t0 < T; t0 += PARTS * g.step) {
            step s = make_step(&g, list, i / PARTS, t0, eq_this_thread());
            gather_delta(ctx, &b, dout, out, lse, &g, &s);
            backward_step(ctx, qkv, dout, &g, &b, &s);
        }
    }
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t unit = 0; unit < units; unit++) {
        float *dk = scratch->sums + unit * PARTS * 2 * T * D;
        for (int p = 1; p < PARTS; p++)
            ctx->kernels->add(dk, dk + p * 2 * T * D, 2 * T * D);
        int64_t row = unit / shape->Hkv * T * g.ld, kv = unit % shape->Hkv;
        scatter(ctx, qkv, row + (shape->H + kv) * D, g.ld, dk, T, &g);
        scatter(ctx, qkv, row + (shape->H + shape->Hkv + kv) * D, g.ld, dk + T * D, T, &g);
    }
}
