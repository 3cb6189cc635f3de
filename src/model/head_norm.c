#include "model/head_norm.h"

#include "kernels/gemm.h"

/* Tokens of a task; also the unit in which gradients of weights are summed, so it is fixed. */
enum { TOKENS = 64 };

static int64_t tasks_of(int64_t M)
{
    return (M + TOKENS - 1) / TOKENS;
}

static int64_t heads_of(const eq_head_norm *s)
{
    return s->H + s->Hkv;
}

eq_head_norm_scratch eq_head_norm_layout(eq_arena *arena, const eq_head_norm *s, int threads,
                                         bool backward)
{
    int64_t width = heads_of(s) * s->D;
    eq_head_norm_scratch out = {0};
    out.heads = eq_arena_take(arena, threads * 2 * width, sizeof(float));
    out.rstd = eq_arena_take(arena, s->M * heads_of(s), sizeof(float));
    if (!backward) return out;
    out.before = eq_arena_take(arena, s->M * width, eq_elem_bytes(s->type));
    out.sums = eq_arena_take(arena, tasks_of(s->M) * 2 * s->D, sizeof(float));
    return out;
}

/* Where a token's values begin. */
typedef struct token {
    char *qk, *before; /* before: NULL when it is not kept */
    float *rstd;
    size_t width, q; /* bytes of q and k, of q alone */
} token;

static token token_at(void *qkv, int64_t m, const eq_head_norm *s, const eq_head_norm_scratch *r)
{
    size_t head = (size_t)s->D * eq_elem_bytes(s->type);
    token t = {.width = (size_t)heads_of(s) * head, .q = (size_t)s->H * head};
    t.qk = (char *)qkv + (size_t)m * (t.width + (size_t)s->Hkv * head);
    t.before = r->before ? (char *)r->before + (size_t)m * t.width : NULL;
    t.rstd = r->rstd + m * heads_of(s);
    return t;
}

void eq_head_norm_forward(eq_ctx *ctx, void *qkv, const float *wq, const float *wk,
                          const eq_head_norm *s, const eq_head_norm_scratch *scratch)
{
    const eq_kernels *k = ctx->kernels;
    int64_t n = heads_of(s) * s->D, tasks = tasks_of(s->M);
#pragma omp parallel for schedule(static) num_threads(ctx->threads) if (tasks > 1)
    for (int64_t i = 0; i < tasks; i++) {
        float *x = scratch->heads + eq_this_thread() * 2 * n;
        for (int64_t m = i * TOKENS; m < s->M && m < (i + 1) * TOKENS; m++) {
            token t = token_at(qkv, m, s, scratch);
            if (t.before) memcpy(t.before, t.qk, t.width);
            k->unpack(x, EQ_F32, t.qk, s->type, n);
            k->rmsnorm_forward(t.qk, t.rstd, x, wq, s->H, s->D, s->eps, s->type);
            k->rmsnorm_forward(t.qk + t.q, t.rstd + s->H, x + s->H * s->D, wk, s->Hkv, s->D, s->eps,
                               s->type);
        }
    }
}

void eq_head_norm_backward(eq_ctx *ctx, void *qkv, float *dwq, float *dwk, const float *wq,
                           const float *wk, const eq_head_norm *s,
                           const eq_head_norm_scratch *scratch)
{
    const eq_kernels *k = ctx->kernels;
    int64_t D = s->D, n = heads_of(s) * D, tasks = tasks_of(s->M);
#pragma omp parallel for schedule(static) num_threads(ctx->threads) if (tasks > 1)
    for (int64_t i = 0; i < tasks; i++) {
        float *x = scratch->heads + eq_this_thread() * 2 * n, *dx = x + n;
        float *dw = scratch->sums + i * 2 * D;
        memset(dw, 0, (size_t)(2 * D) * sizeof *dw);
        for (int64_t m = i * TOKENS; m < s->M && m < (i + 1) * TOKENS; m++) {
            token t = token_at(qkv, m, s, scratch);
            k->unpack(x, EQ_F32, t.before, s->type, n);
            memset(dx, 0, (size_t)n * sizeof *dx);
            k->rmsnorm_backward(dx, dw, t.qk, x, wq, t.rstd, s->H, D, s->type);
            k->rmsnorm_backward(dx + s->H * D, dw + D, t.qk + t.q, x + s->H * D, wk, t.rstd + s->H,
                                s->Hkv, D, s->type);
            k->unpack(t.qk, s->type, dx, EQ_F32, n);
        }
    }
    for (int64_t i = 0; dwq && i < tasks; i++) {
        k->add(dwq, scratch->sums + i * 2 * D, D);
        k->add(dwk, scratch->sums + i * 2 * D + D, D);
    }
}
