#include "kernels/gemm_onednn.h"

#ifdef EQAT_ONEDNN

#include <dnnl.h>

#ifdef _OPENMP
#include <omp.h>
#endif

enum { MEMORIES = 4 }; /* A, B, C, scratchpad */

struct eq_onednn {
    dnnl_engine_t engine;
    int threads;
    dnnl_stream_t *streams; /* one per thread, owned */
    char *pads;             /* owned; a scratchpad per thread, which all products share */
    size_t pad_bytes;       /* of each: as many as any product so far needs */
};

struct eq_onednn_tile {
    eq_onednn *engine; /* borrowed */
    dnnl_primitive_t primitive;
    dnnl_memory_t (*memories)[MEMORIES]; /* one row per thread, owned */
};

static eq_status fail_dnnl(eq_ctx *ctx, const char *what, dnnl_status_t status)
{
    return eq_fail(ctx, EQ_EINTERNAL, "oneDNN: %s failed with status %d", what, (int)status);
}

eq_status eq_onednn_new(eq_ctx *ctx, eq_onednn **out)
{
    /* AMX products are ours (see gemm_amx.h); this also keeps oneDNN off AMX where it would crash.
     * A refusal means that oneDNN was used before us in this process, which is the caller's choice
     * then. */
    dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
    eq_onednn *engine = eq_alloc(ctx, 1, sizeof *engine);
    if (!engine) return EQ_ENOMEM;
    engine->threads = ctx->threads;
    engine->streams = eq_alloc(ctx, ctx->threads, sizeof *engine->streams);
    eq_status st = engine->streams ? EQ_OK : EQ_ENOMEM;
    dnnl_status_t code = dnnl_success;
    if (st == EQ_OK && (code = dnnl_engine_create(&engine->engine, dnnl_cpu, 0)))
        st = fail_dnnl(ctx, "dnnl_engine_create", code);
    for (int t = 0; st == EQ_OK && t < engine->threads; t++) {
        code = dnnl_stream_create(&engine->streams[t], engine->engine, dnnl_stream_default_flags);
        if (code) st = fail_dnnl(ctx, "dnnl_stream_create", code);
    }
    if (st != EQ_OK) {
        eq_onednn_free(engine);
        engine = NULL;
    }
    *out = engine;
    return st;
}

void eq_onednn_free(eq_onednn *engine)
{
    if (!engine) return;
    for (int t = 0; engine->streams && t < engine->threads; t++)
        if (engine->streams[t]) dnnl_stream_destroy(engine->streams[t]);
    if (engine->engine) dnnl_engine_destroy(engine->engine);
    eq_free(engine->streams);
    eq_free(engine->pads);
    eq_free(engine);
}

/* Let parallel loops of this thread have `threads` threads; returns how many they had. */
static int limit_threads(int threads)
{
#ifdef _OPENMP
    int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    return before;
#else
    return threads;
#endif
}

static dnnl_status_t describe(dnnl_memory_desc_t *out, int64_t rows, int64_t columns, int64_t ld,
                              bool transposed, eq_dtype type)
{
    dnnl_dims_t dims = {rows, columns};
    dnnl_dims_t strides = {transposed ? 1 : ld, transposed ? ld : 1};
    return dnnl_memory_desc_init_by_strides(out, 2, dims, type == EQ_BF16 ? dnnl_bf16 : dnnl_f32,
                                            strides);
}

static dnnl_status_t set_attributes(dnnl_primitive_attr_t attr, bool accumulate)
{
    dnnl_status_t code = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (code || !accumulate) return code;
    dnnl_post_ops_t ops = NULL;
    code = dnnl_post_ops_create(&ops);
    if (!code) code = dnnl_post_ops_append_sum(ops, 1.0f);
    if (!code) code = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (ops) dnnl_post_ops_destroy(ops);
    return code;
}

/* The primitive's description; a, b, c are filled in too. */
static dnnl_status_t describe_primitive(dnnl_primitive_desc_t *out, dnnl_memory_desc_t md[3],
                                        const eq_onednn *engine, const eq_gemm *g)
{
    dnnl_matmul_desc_t matmul;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t code = describe(&md[0], g->M, g->K, g->lda, g->trans_a, g->in);
    if (!code) code = describe(&md[1], g->K, g->N, g->ldb, g->trans_b, g->in);
    if (!code) code = describe(&md[2], g->M, g->N, g->ldc, false, g->out);
    if (!code) code = dnnl_matmul_desc_init(&matmul, &md[0], &md[1], NULL, &md[2]);
    if (!code) code = dnnl_primitive_attr_create(&attr);
    if (!code) code = set_attributes(attr, g->accumulate);
    if (!code) code = dnnl_primitive_desc_create(out, &matmul, attr, engine->engine, NULL);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return code;
}

/* Let each thread's scratchpad hold `bytes`. */
static eq_status grow_pads(eq_ctx *ctx, eq_onednn *engine, size_t bytes)
{
    bytes = (bytes + 4095) / 4096 * 4096;
    if (bytes <= engine->pad_bytes) return EQ_OK;
    char *larger = eq_alloc(ctx, engine->threads, bytes);
    if (!larger) return EQ_ENOMEM; /* products made before still have theirs */
    eq_free(engine->pads);
    engine->pads = larger;
    engine->pad_bytes = bytes;
    return EQ_OK;
}

static eq_status make_memories(eq_ctx *ctx, eq_onednn_tile *tile, dnnl_primitive_desc_t desc,
                               const dnnl_memory_desc_t md[3])
{
    const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    int threads = tile->engine->threads;
    tile->memories = eq_alloc(ctx, threads, sizeof *tile->memories);
    if (!tile->memories) return EQ_ENOMEM;
    for (int t = 0; t < threads; t++) {
        for (int i = 0; i < MEMORIES; i++) {
            dnnl_status_t code = dnnl_memory_create(&tile->memories[t][i], i == 3 ? pad : &md[i],
                                                    tile->engine->engine, DNNL_MEMORY_NONE);
            if (code) return fail_dnnl(ctx, "dnnl_memory_create", code);
        }
    }
    return grow_pads(ctx, tile->engine, dnnl_memory_desc_get_size(pad));
}

eq_status eq_onednn_tile_new(eq_ctx *ctx, eq_onednn *engine, const eq_gemm *shape,
                             eq_onednn_tile **out)
{
    eq_onednn_tile *tile = eq_alloc(ctx, 1, sizeof *tile);
    if (!tile) return EQ_ENOMEM;
    tile->engine = engine;
    dnnl_memory_desc_t md[3];
    dnnl_primitive_desc_t desc = NULL;
    eq_status st = EQ_OK;
    int threads = limit_threads(1); /* a primitive made for one thread never splits its work */
    dnnl_status_t code = describe_primitive(&desc, md, engine, shape);
    if (!code) code = dnnl_primitive_create(&tile->primitive, desc);
    limit_threads(threads);
    if (code)
        st = fail_dnnl(ctx, "making a matrix product", code);
    else
        st = make_memories(ctx, tile, desc, md);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (st != EQ_OK) {
        eq_onednn_tile_free(tile);
        tile = NULL;
    }
    *out = tile;
    return st;
}

void eq_onednn_tile_free(eq_onednn_tile *tile)
{
    if (!tile) return;
    for (int t = 0; tile->memories && t < tile->engine->threads; t++)
        for (int i = 0; i < MEMORIES; i++)
            if (tile->memories[t][i]) dnnl_memory_destroy(tile->memories[t][i]);
    if (tile->primitive) dnnl_primitive_destroy(tile->primitive);
    eq_free(tile->memories);
    eq_free(tile);
}

void eq_onednn_tile_run(eq_ctx *ctx, eq_onednn_tile *tile, int thread, void *C, const void *A,
                        const void *B)
{
    dnnl_memory_t *memory = tile->memories[thread];
    const eq_onednn *engine = tile->engine;
    void *data[MEMORIES] = {(void *)(uintptr_t)A, (void *)(uintptr_t)B, C,
                            engine->pads + (size_t)thread * engine->pad_bytes};
    dnnl_status_t code = dnnl_success;
    for (int i = 0; i < MEMORIES && !code; i++)
        code = dnnl_memory_set_data_handle(memory[i], data[i]);
    const dnnl_exec_arg_t args[MEMORIES] = {{DNNL_ARG_SRC, memory[0]},
                                            {DNNL_ARG_WEIGHTS, memory[1]},
                                            {DNNL_ARG_DST, memory[2]},
                                            {DNNL_ARG_SCRATCHPAD, memory[3]}};
    /* In our loops oneDNN starts no threads of its own, but a loop of one thread is none. */
    int threads = limit_threads(1);
    if (!code)
        code = dnnl_primitive_execute(tile->primitive, engine->streams[thread], MEMORIES, args);
    limit_threads(threads);
    if (code) fail_dnnl(ctx, "a matrix product", code);
}

#else

typedef int eq_onednn_absent; /* a translation unit must not be empty */

#endif
