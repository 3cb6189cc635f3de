#include "kernels/gemm.h"

#include "base/cpu.h"
#include "kernels/gemm_amx.h"
#include "kernels/gemm_onednn.h"
#include "kernels/kernels.h"

/* A task of oneDNN's has at most so many multiplications, unless fewer columns than LEAST_COLUMNS
 * would be left to it: products of large models then have work for many threads, small ones are cut
 * by rows alone. */
enum { MAX_PLANS = 512, TASK_PRODUCTS = 1 << 29, LEAST_COLUMNS = 512, SIDE = 64 };

typedef enum engine { PLAIN, ONEDNN, AMX } engine;

struct eq_gemm_plan {
    eq_gemm shape;
    int64_t used; /* when it was asked for last, by the cache's count */
    engine engine;
    eq_onednn_tile *whole; /* owned; the entire product on one thread, made on demand */
    /* owned; a task: with all its rows or those left for the last one, the same of its columns */
    eq_onednn_tile *tasks[2][2];
};

struct eq_gemm_cache {
    eq_onednn *onednn;              /* owned; NULL until needed */
    eq_gemm_plan *plans[MAX_PLANS]; /* owned */
    int count;
    int64_t asked;  /* for any plan so far */
    char **scratch; /* owned; one growing buffer per thread, and one shared behind them */
    size_t *scratch_bytes;
};

eq_gemm eq_gemm_forward(int64_t M, int64_t N, int64_t K, eq_dtype in, eq_dtype out)
{
    return (eq_gemm){.M = M,
                     .N = N,
                     .K = K,
                     .lda = K,
                     .ldb = K,
                     .ldc = N,
                     .trans_b = true,
                     .in = in,
                     .out = out};
}

eq_gemm eq_gemm_input_gradient(int64_t M, int64_t N, int64_t K, eq_dtype in, eq_dtype out)
{
    return (eq_gemm){.M = M, .N = K, .K = N, .lda = N, .ldb = K, .ldc = K, .in = in, .out = out};
}

eq_gemm eq_gemm_weight_gradient(int64_t M, int64_t N, int64_t K, int64_t ldy, eq_dtype in)
{
    return (eq_gemm){.M = N,
                     .N = K,
                     .K = M,
                     .lda = ldy,
                     .ldb = K,
                     .ldc = K,
                     .trans_a = true,
                     .in = in,
                     .out = EQ_F32};
}

int64_t eq_gemm_task_rows(int64_t M)
{
    int64_t eighth = (M / 8 + 31) / 32 * 32;
    return eighth < 64 ? 64 : eighth > 256 ? 256 : eighth;
}

#ifdef EQAT_ONEDNN
static bool cpu_has_bf16(void)
{
    eq_cpu cpu;
    eq_cpu_probe(&cpu);
    return cpu.avx512_bf16;
}
#endif

static engine choose_engine(const eq_ctx *ctx, eq_dtype in)
{
    if (ctx->amx && in == EQ_BF16) return AMX;
#ifdef EQAT_ONEDNN
    bool scalar = ctx->kernels && !strcmp(ctx->kernels->name, "ref");
    if (!scalar && (in == EQ_F32 || cpu_has_bf16())) return ONEDNN;
#endif
    return PLAIN;
}

bool eq_gemm_has_bf16(const eq_ctx *ctx)
{
    return choose_engine(ctx, EQ_BF16) != PLAIN;
}

const char *eq_gemm_engine(const eq_ctx *ctx, eq_dtype in)
{
    static const char *const NAMES[] = {"plain", "oneDNN", "AMX"};
    return NAMES[choose_engine(ctx, in)];
}

static struct eq_gemm_cache *get_cache(eq_ctx *ctx)
{
    if (ctx->gemm) return ctx->gemm;
    struct eq_gemm_cache *cache = eq_alloc(ctx, 1, sizeof *cache);
    if (!cache) return NULL;
    ctx->gemm = cache;
    cache->scratch = eq_alloc(ctx, ctx->threads + 1, sizeof *cache->scratch);
    cache->scratch_bytes = eq_alloc(ctx, ctx->threads + 1, sizeof *cache->scratch_bytes);
    if (cache->scratch && cache->scratch_bytes) return cache;
    eq_gemm_free(ctx);
    return NULL;
}

/* Let buffer `index` hold at least `bytes`. */
static eq_status grow_scratch(eq_ctx *ctx, int index, size_t bytes)
{
    struct eq_gemm_cache *cache = ctx->gemm;
    if (cache->scratch_bytes[index] >= bytes) return EQ_OK;
    eq_free(cache->scratch[index]);
    cache->scratch_bytes[index] = 0;
    cache->scratch[index] = eq_alloc(ctx, (int64_t)bytes, 1);
    if (!cache->scratch[index]) return EQ_ENOMEM;
    cache->scratch_bytes[index] = bytes;
    return EQ_OK;
}

static void free_plan(eq_gemm_plan *plan)
{
    if (!plan) return;
#ifdef EQAT_ONEDNN
    eq_onednn_tile_free(plan->whole);
    for (int i = 0; i < 4; i++)
        eq_onednn_tile_free(plan->tasks[i / 2][i % 2]);
#endif
    eq_free(plan);
}

void eq_gemm_free(eq_ctx *ctx)
{
    struct eq_gemm_cache *cache = ctx->gemm;
    if (!cache) return;
    for (int i = 0; i < cache->count; i++)
        free_plan(cache->plans[i]);
#ifdef EQAT_ONEDNN
    eq_onednn_free(cache->onednn);
#endif
    for (int t = 0; cache->scratch && t <= ctx->threads; t++)
        eq_free(cache->scratch[t]);
    eq_free(cache->scratch);
    eq_free(cache->scratch_bytes);
    eq_free(cache);
    ctx->gemm = NULL;
}

static bool same_shape(const eq_gemm *a, const eq_gemm *b)
{
    return a->M == b->M && a->N == b->N && a->K == b->K && a->lda == b->lda && a->ldb == b->ldb &&
           a->ldc == b->ldc && a->trans_a == b->trans_a && a->trans_b == b->trans_b &&
           a->accumulate == b->accumulate && a->in == b->in && a->out == b->out;
}

/* A place for one more plan: behind the others, or that of the plan not asked for the longest. A
 * caller that prepares many plans before it runs them keeps all of them. */
static eq_gemm_plan **free_place(struct eq_gemm_cache *cache)
{
    if (cache->count < MAX_PLANS) return &cache->plans[cache->count++];
    eq_gemm_plan **oldest = &cache->plans[0];
    for (int i = 1; i < cache->count; i++)
        if (cache->plans[i]->used < (*oldest)->used) oldest = &cache->plans[i];
    free_plan(*oldest);
    return oldest;
}

/* The plan for a shape, made when it is new. Tables are small and a hit is usually near the front,
 * so a scan will do. */
static eq_gemm_plan *get_plan(eq_ctx *ctx, const eq_gemm *shape)
{
    struct eq_gemm_cache *cache = get_cache(ctx);
    if (!cache) return NULL;
    cache->asked++;
    for (int i = 0; i < cache->count; i++) {
        eq_gemm_plan *plan = cache->plans[i];
        if (!same_shape(&plan->shape, shape)) continue;
        plan->used = cache->asked;
        return plan;
    }
    eq_gemm_plan *plan = eq_alloc(ctx, 1, sizeof *plan);
    if (!plan) return NULL;
    *plan = (eq_gemm_plan){
        .shape = *shape, .used = cache->asked, .engine = choose_engine(ctx, shape->in)};
    *free_place(cache) = plan;
    return plan;
}

#ifdef EQAT_ONEDNN
static eq_status need_tile(eq_ctx *ctx, eq_onednn_tile **tile, const eq_gemm *shape, int64_t rows,
                           int64_t columns)
{
    if (*tile || !rows || !columns) return EQ_OK;
    struct eq_gemm_cache *cache = ctx->gemm;
    if (!cache->onednn) {
        eq_status st = eq_onednn_new(ctx, &cache->onednn);
        if (st != EQ_OK) return st;
    }
    eq_gemm part = *shape;
    part.M = rows;
    part.N = columns;
    return eq_onednn_tile_new(ctx, cache->onednn, &part, tile);
}
#endif

/* Bytes of packed B behind which a thread's own scratch begins, for AMX on one thread. */
static size_t packed_bytes(const eq_gemm *g)
{
    return (size_t)eq_amx_packed_elems(g->K, g->N) * sizeof(uint16_t);
}

const eq_gemm_plan *eq_gemm_prepare(eq_ctx *ctx, const eq_gemm *shape)
{
    eq_gemm_plan *plan = get_plan(ctx, shape);
    if (!plan) return NULL;
    eq_status st = EQ_OK;
    if (plan->engine == AMX) {
        size_t own = (size_t)eq_amx_scratch_elems(shape) * sizeof(uint16_t);
        for (int t = 0; st == EQ_OK && t < ctx->threads; t++)
            st = grow_scratch(ctx, t, packed_bytes(shape) + own);
    }
#ifdef EQAT_ONEDNN
    if (plan->engine == ONEDNN) st = need_tile(ctx, &plan->whole, shape, shape->M, shape->N);
#endif
    return st == EQ_OK ? plan : NULL;
}

#ifdef EQAT_ONEDNN
static const void *offset(const void *p, int64_t elems, eq_dtype type)
{
    return (const char *)p + elems * (type == EQ_F32 ? 4 : 2);
}
#endif

/* The definition: rows row0 .. row1-1 of C by plain loops, sums in order of k. */
static void plain_rows(const eq_gemm *g, int64_t row0, int64_t row1, void *C, const void *A,
                       const void *B)
{
    for (int64_t i = row0; i < row1; i++) {
        for (int64_t j = 0; j < g->N; j++) {
            float sum = g->accumulate ? ((float *)C)[i * g->ldc + j] : 0.0f;
            for (int64_t k = 0; k < g->K; k++) {
                int64_t a = g->trans_a ? k * g->lda + i : i * g->lda + k;
                int64_t b = g->trans_b ? j * g->ldb + k : k * g->ldb + j;
                bool wide = g->in == EQ_F32;
                float x = wide ? ((const float *)A)[a] : eq_bf16_f32(((const uint16_t *)A)[a]);
                float y = wide ? ((const float *)B)[b] : eq_bf16_f32(((const uint16_t *)B)[b]);
                sum += x * y;
            }
            if (g->out == EQ_F32)
                ((float *)C)[i * g->ldc + j] = sum;
            else
                ((uint16_t *)C)[i * g->ldc + j] = eq_f32_bf16(sum);
        }
    }
}

void eq_gemm_serial(eq_ctx *ctx, const eq_gemm_plan *plan, int thread, void *C, const void *A,
                    const void *B)
{
    const eq_gemm *g = &plan->shape;
    if (plan->engine == PLAIN) plain_rows(g, 0, g->M, C, A, B);
#ifdef EQAT_ONEDNN
    if (plan->engine == ONEDNN) eq_onednn_tile_run(ctx, plan->whole, thread, C, A, B);
#endif
    if (plan->engine != AMX) return;
    uint16_t *packed = (uint16_t *)(void *)ctx->gemm->scratch[thread];
    uint16_t *own = packed + eq_amx_packed_elems(g->K, g->N);
    for (int64_t panel = 0; panel * 32 < g->N; panel++)
        eq_amx_pack_b(packed, g, B, panel);
    for (int64_t b = 0; b < eq_amx_blocks(g); b++)
        eq_amx_block(g, b, C, A, packed, own);
}

size_t eq_gemm_packed_bytes(const eq_ctx *ctx, const eq_gemm *g)
{
    return choose_engine(ctx, g->in) == AMX ? packed_bytes(g) : 0;
}

void eq_gemm_pack(eq_ctx *ctx, const eq_gemm *g, void *packed, const void *B)
{
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t p = 0; p < (g->N + 31) / 32; p++)
        eq_amx_pack_b(packed, g, B, p);
}

void eq_gemm_run_packed(eq_ctx *ctx, const eq_gemm *g, void *C, const void *A, const void *packed)
{
    size_t own = (size_t)eq_amx_scratch_elems(g) * sizeof(uint16_t);
    struct eq_gemm_cache *cache = get_cache(ctx);
    eq_status st = cache ? EQ_OK : EQ_ENOMEM;
    for (int t = 0; st == EQ_OK && t < ctx->threads; t++)
        st = grow_scratch(ctx, t, own);
    if (st != EQ_OK) return;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t b = 0; b < eq_amx_blocks(g); b++)
        eq_amx_block(g, b, C, A, packed, (uint16_t *)(void *)cache->scratch[eq_this_thread()]);
}

static void run_amx(eq_ctx *ctx, const eq_gemm *g, void *C, const void *A, const void *B)
{
    if (grow_scratch(ctx, ctx->threads, packed_bytes(g)) != EQ_OK) return;
    void *packed = ctx->gemm->scratch[ctx->threads];
    eq_gemm_pack(ctx, g, packed, B);
    eq_gemm_run_packed(ctx, g, C, A, packed);
}

static void run_plain(eq_ctx *ctx, const eq_gemm *g, void *C, const void *A, const void *B)
{
    const int64_t step = eq_gemm_task_rows(g->M), tasks = (g->M + step - 1) / step;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t i = 0; i < tasks; i++)
        plain_rows(g, i * step, i + 1 < tasks ? (i + 1) * step : g->M, C, A, B);
}

#ifdef EQAT_ONEDNN
/* How a product is cut into tasks, which depends on its shape alone. */
typedef struct cuts {
    int64_t rows, columns, down, across; /* of a task, and how many of these */
} cuts;

static cuts cut(const eq_gemm *g)
{
    const int64_t rows = eq_gemm_task_rows(g->M);
    int64_t columns = TASK_PRODUCTS / (rows * g->K) / SIDE * SIDE;
    if (columns < LEAST_COLUMNS) columns = LEAST_COLUMNS;
    if (columns > g->N) columns = g->N;
    return (cuts){rows, columns, (g->M + rows - 1) / rows, (g->N + columns - 1) / columns};
}

static void run_task(eq_ctx *ctx, const eq_gemm_plan *plan, const cuts *t, int64_t task, void *C,
                     const void *A, const void *B)
{
    const eq_gemm *g = &plan->shape;
    const int64_t row = task % t->down * t->rows, column = task / t->down * t->columns;
    const void *a = offset(A, g->trans_a ? row : row * g->lda, g->in);
    const void *b = offset(B, g->trans_b ? column * g->ldb : column, g->in);
    void *c = (void *)(uintptr_t)offset(C, row * g->ldc + column, g->out);
    eq_onednn_tile *tile = plan->tasks[row + t->rows > g->M][column + t->columns > g->N];
    eq_onednn_tile_run(ctx, tile, eq_this_thread(), c, a, b);
}

static void run_onednn(eq_ctx *ctx, eq_gemm_plan *plan, void *C, const void *A, const void *B)
{
    const eq_gemm *g = &plan->shape;
    const cuts t = cut(g);
    const int64_t rows[2] = {g->M < t.rows ? 0 : t.rows, g->M % t.rows};
    const int64_t columns[2] = {t.columns, g->N % t.columns};
    for (int i = 0; i < 4; i++)
        if (need_tile(ctx, &plan->tasks[i / 2][i % 2], g, rows[i / 2], columns[i % 2]) != EQ_OK)
            return;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t i = 0; i < t.down * t.across; i++)
        run_task(ctx, plan, &t, i, C, A, B);
}
#endif

void eq_gemm_run(eq_ctx *ctx, const eq_gemm *shape, void *C, const void *A, const void *B)
{
    eq_gemm_plan *plan = get_plan(ctx, shape);
    if (!plan) return;
    if (plan->engine == PLAIN) run_plain(ctx, shape, C, A, B);
    if (plan->engine == AMX) run_amx(ctx, shape, C, A, B);
#ifdef EQAT_ONEDNN
    if (plan->engine == ONEDNN) run_onednn(ctx, plan, C, A, B);
#endif
}
