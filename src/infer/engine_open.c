#include "infer/engine_state.h"

#include <string.h>

enum { MOST_SLOTS = 256, MOST_CHUNK = 1 << 14, CHUNK_ALONE = 256, CHUNK_BESIDE = 128 };

eq_job *eq_jobs_take(eq_jobs *q)
{
    eq_job *job = q->first;
    if (!job) return NULL;
    q->first = job->next;
    if (!q->first) q->last = NULL;
    return job;
}

void eq_jobs_free(eq_jobs *q)
{
    for (eq_job *job; (job = eq_jobs_take(q));)
        eq_job_free(job);
}

/* ---- the plan ------------------------------------------------------------------------------ */

static eq_generation_shape shape_of(const eq_engine_options *o, eq_dtype type)
{
    /* Products of a step then have the same number of rows however many texts there are. */
    int64_t rows = o->slots > EQ_FEW_ROWS ? o->slots : 0;
    return (eq_generation_shape){.B = o->slots,
                                 .room = o->context,
                                 .type = type,
                                 .rows = rows,
                                 .memory = o->memory,
                                 .chunk = o->chunk,
                                 .kv_bits = o->kv_bits,
                                 .panels = true,
                                 .activations = o->activations};
}

static void layout(eq_engine *e, eq_arena *arena)
{
    int64_t V = e->model.decoder->config.V;
    e->slot = eq_arena_take(arena, e->slots, sizeof *e->slot);
    e->sequences = eq_arena_take(arena, e->slots, sizeof *e->sequences);
    e->next = eq_arena_take(arena, e->slots, sizeof *e->next);
    e->ends = eq_arena_take(arena, e->model.end_count, sizeof *e->ends);
    for (int64_t i = 0; i < e->slots; i++) {
        int32_t *ids = eq_arena_take(arena, e->context, sizeof *ids);
        float *raw = eq_arena_take(arena, V, sizeof *raw);
        eq_candidate *ranks = eq_arena_take(arena, V, sizeof *ranks);
        if (ids) e->slot[i] = (eq_slot){.ids = ids, .raw = raw, .ranks = ranks};
    }
}

/* Bytes that an engine with `context` tokens for each text takes. */
static int64_t bytes_of(const eq_ctx *ctx, eq_engine *e, const eq_engine_options *o, eq_dtype type,
                        int64_t context)
{
    eq_engine_options other = *o;
    eq_arena arena = eq_arena_measure();
    other.context = e->context = context;
    layout(e, &arena);
    const eq_generation_shape shape = shape_of(&other, type);
    return (int64_t)arena.used + eq_generation_bytes(ctx, e->model.decoder, &shape);
}

/* EQ_ENOMEM, saying how much would fit. */
static eq_status fail_memory(eq_ctx *ctx, eq_engine *e, const eq_engine_options *o, eq_dtype type,
                             int64_t limit)
{
    int64_t fits = 0, fails = o->context;
    double mib = 1 << 20, need = (double)e->bytes / mib;
    while (fails - fits > 1) {
        int64_t middle = fits + (fails - fits) / 2;
        bool good = bytes_of(ctx, e, o, type, middle) <= limit;
        *(good ? &fits : &fails) = middle;
    }
    return eq_fail(ctx, EQ_ENOMEM,
                   "%lld texts of up to %lld tokens at once need %.1f MiB and may use %.1f MiB; "
                   "that is enough for %lld tokens each",
                   (long long)o->slots, (long long)o->context, need, (double)limit / mib,
                   (long long)fits);
}

static eq_status check_options(eq_ctx *ctx, const eq_engine_options *o, int64_t positions)
{
    if (o->slots < 1 || o->slots > MOST_SLOTS)
        return eq_fail(ctx, EQ_EINVAL, "%lld slots, allowed are 1 to %d", (long long)o->slots,
                       MOST_SLOTS);
    if (o->chunk < 1 || o->chunk > MOST_CHUNK)
        return eq_fail(ctx, EQ_EINVAL, "chunks of %lld tokens, allowed are 1 to %d",
                       (long long)o->chunk, MOST_CHUNK);
    if (o->context < 2 || o->context > positions)
        return eq_fail(ctx, EQ_EINVAL,
                       "a context of %lld tokens, allowed are 2 to the model's %lld",
                       (long long)o->context, (long long)positions);
    if (o->kv_bits != 16 && !eq_kv_packed(o->kv_bits))
        return eq_fail(ctx, EQ_EINVAL, "keys and values in %d bits, allowed are 16, 8 and 4",
                       o->kv_bits);
    return EQ_OK;
}

static eq_status reserve(eq_ctx *ctx, eq_engine *e, const eq_engine_options *o, eq_dtype type)
{
    int64_t limit = eq_memory_limit(o->memory);
    e->bytes = bytes_of(ctx, e, o, type, o->context);
    if (limit && e->bytes > limit) return fail_memory(ctx, e, o, type, limit);
    eq_arena measure = eq_arena_measure();
    layout(e, &measure);
    eq_status st = eq_arena_reserve(ctx, &e->arena, measure.used);
    if (st != EQ_OK) return st;
    layout(e, &e->arena);
    if (e->model.end_count)
        memcpy(e->ends, e->model.ends, (size_t)e->model.end_count * sizeof *e->ends);
    const eq_generation_shape shape = shape_of(o, type);
    return eq_generation_init(ctx, &e->generation, e->model.decoder, &shape);
}

eq_status eq_engine_open(eq_ctx *ctx, eq_engine **out, const eq_engine_model *model,
                         const eq_engine_options *options)
{
    *out = NULL;
    eq_engine_options o = *options;
    eq_dtype type = EQ_F32;
    int64_t positions = model->decoder->config.positions;
    if (!o.context) o.context = positions;
    o.kv_bits = eq_generation_kv_bits(o.kv_bits, o.activations);
    if (!o.chunk) o.chunk = o.slots == 1 ? CHUNK_ALONE : CHUNK_BESIDE;
    eq_status st = check_options(ctx, &o, positions);
    if (st == EQ_OK) st = eq_precision_type(ctx, &type, o.precision);
    if (st != EQ_OK) return st;
    if (o.chunk > o.context) o.chunk = o.context;
    eq_engine *e = eq_alloc(ctx, 1, sizeof *e);
    if (!e) return EQ_ENOMEM;
    *e = (eq_engine){.model = *model, .slots = o.slots, .context = o.context, .chunk = o.chunk};
    st = reserve(ctx, e, &o, type);
    if (st != EQ_OK) {
        eq_engine_free(e);
        return st;
    }
    *out = e;
    return EQ_OK;
}

void eq_engine_free(eq_engine *e)
{
    if (!e) return;
    eq_jobs_free(&e->waiting);
    eq_jobs_free(&e->ended);
    eq_jobs_free(&e->done);
    for (int64_t i = 0; e->arena.base && i < e->slots; i++)
        eq_job_free(e->slot[i].job);
    eq_generation_deinit(&e->generation);
    eq_arena_release(&e->arena);
    eq_free(e);
}

int64_t eq_engine_context(const eq_engine *e)
{
    return e->context;
}

int64_t eq_engine_memory(const eq_engine *e)
{
    return e->bytes;
}
