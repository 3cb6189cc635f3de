#include "infer/cache.h"

#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include <assert.h>
#include <math.h>

/* eq_cache_extend goes in steps of up to STEP tokens, of all query heads that share a key-value
 * head, against all keys up to the last of these tokens. Numbers of tokens and of keys are rounded
 * up, these to SHAPES numbers between a power of two and the next. */
enum { GRAIN = 16, STEP = 64, SHAPES = 4 };
/* Keys of a piece of one token's attention: whole blocks. Up to SERIAL numbers are put together by
 * one thread: to wake others takes longer. */
enum { PIECE = 256, SERIAL = 1 << 15 };

/* Query heads that share a key-value head. */
static int64_t group_of(const eq_config *c)
{
    return c->H / c->Hkv;
}

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t pieces_of(int64_t keys)
{
    return (keys + PIECE - 1) / PIECE;
}

int64_t eq_cache_rows(int64_t T)
{
    return round_up(T, GRAIN);
}

/* One thread's buffers of a step, in its part of the scratch. */
typedef struct buffers {
    char *q;  /* [R, D] type, R = rows * query heads per key-value head */
    char *p;  /* [R, room] type */
    float *s; /* [R, room] */
    float *o; /* [R, D] */
} buffers;

static buffers step_buffers(eq_arena *arena, const eq_cache *k)
{
    int64_t rows = k->chunk < STEP ? eq_cache_rows(k->chunk) : STEP, D = k->config->D;
    int64_t R = rows * group_of(k->config);
    return (buffers){.q = eq_arena_take(arena, R * D, eq_elem_bytes(k->type)),
                     .p = eq_arena_take(arena, R * k->room, eq_elem_bytes(k->type)),
                     .s = eq_arena_take(arena, R * k->room, sizeof(float)),
                     .o = eq_arena_take(arena, R * D, sizeof(float))};
}

/* Bytes of a thread's scratch: for one token's attention, for a block of keys, and for a step. */
static size_t part_bytes(const eq_cache *k)
{
    const int64_t keys = k->room < PIECE ? k->room : PIECE;
    size_t most = (size_t)eq_slab_scratch(&k->slabs, keys) * sizeof(float);
    size_t tile = (size_t)(EQ_KEY_BLOCK * k->config->D) * eq_elem_bytes(k->type);
    eq_arena steps = eq_arena_measure();
    if (!k->chunk) return most;
    step_buffers(&steps, k);
    if (most < steps.used) most = steps.used;
    return most < tile ? tile : most;
}

eq_cache eq_cache_layout(eq_arena *arena, const eq_config *c, const eq_cache_shape *shape,
                         int threads)
{
    eq_cache k = {.config = c,
                  .B = shape->B,
                  .room = eq_key_room(shape->room),
                  .chunk = shape->chunk,
                  .type = shape->type};
    int64_t elems = c->Hkv * c->D * k.room;
    k.slabs =
        (eq_slabs){.config = c, .B = k.B, .room = k.room, .type = shape->type, .bits = shape->bits};
    eq_slabs_layout(arena, &k.slabs);
    k.part = part_bytes(&k);
    k.scratch = eq_arena_take(arena, threads, k.part);
    k.pieces = pieces_of(k.room);
    if (k.pieces > 1) {
        k.partial = eq_arena_take(arena, k.B * c->H * k.pieces * c->D, sizeof(float));
        k.lse = eq_arena_take(arena, k.B * c->H * k.pieces, sizeof(float));
    }
    if (!k.chunk) return k;
    k.columns = eq_arena_take(arena, elems, eq_elem_bytes(k.type));
    if (eq_kv_packed(shape->bits)) k.rows = eq_arena_take(arena, elems, eq_elem_bytes(k.type));
    return k;
}

/* One call of eq_cache_attend. */
typedef struct tokens {
    eq_cache *cache;
    const eq_place *places;
    int64_t block, pieces; /* pieces: of the longest */
    char *out;
    const char *qkv;
} tokens;

/* Piece `piece` of token i and key-value head kv. Of one piece alone the result goes to its place.
 */
static void attend_piece(eq_ctx *ctx, const tokens *t, int64_t i, int64_t kv, int64_t piece)
{
    eq_cache *k = t->cache;
    const eq_config *c = k->config;
    const int64_t group = group_of(c), D = c->D, first = piece * PIECE;
    const int64_t left = t->places[i].position + 1 - first,
                  at = (i * c->Hkv + kv) * k->pieces + piece;
    const size_t elem = eq_elem_bytes(k->type);
    if (left <= 0) return;
    const eq_slab slab = {t->block, t->places[i].sequence, kv};
    float *scratch = (float *)(void *)(k->scratch + (size_t)eq_this_thread() * k->part);
    const char *row = t->qkv + (size_t)(i * eq_config_qkv(c)) * elem;
    const char *q = row + (size_t)(kv * group * D) * elem;
    const bool alone = t->pieces == 1; /* else f32 and a weight of 1: the same number */
    const eq_slab_range range = {first, left < PIECE ? left : PIECE, alone ? k->type : EQ_F32};
    char *o = t->out + (size_t)((i * c->H + kv * group) * D) * elem;
    if (left <= PIECE) eq_slab_put(ctx->kernels, &k->slabs, &slab, t->places[i].position, 1, row);
    eq_slab_attend(ctx->kernels, &k->slabs, &slab, &range,
                   alone ? (void *)o : k->partial + at * group * D,
                   alone ? NULL : k->lse + at * group, q, scratch);
}

/* out[h] = sum over pieces of exp(lse - lse of all) partial, of query head h of token i. */
static void join_pieces(eq_ctx *ctx, const tokens *t, int64_t i, int64_t h)
{
    const eq_cache *k = t->cache;
    const eq_config *c = k->config;
    const int64_t group = group_of(c), D = c->D, pieces = pieces_of(t->places[i].position + 1);
    const int64_t first = (i * c->Hkv + h / group) * k->pieces * group + h % group;
    const float *lse = k->lse + first;
    float *sum = k->partial + first * D, most = lse[0], total = 0;
    for (int64_t p = 1; p < pieces; p++)
        most = fmaxf(most, lse[p * group]);
    for (int64_t p = 0; p < pieces; p++) {
        const float weight = expf(lse[p * group] - most), *from = sum + p * group * D;
        for (int64_t d = 0; d < D; d++)
            sum[d] = (p ? sum[d] : 0) + weight * from[d];
        total += weight;
    }
    for (int64_t d = 0; d < D; d++)
        sum[d] /= total;
    ctx->kernels->unpack(t->out + (size_t)((i * c->H + h) * D) * eq_elem_bytes(k->type), k->type,
                         sum, EQ_F32, D);
}

void eq_cache_attend(eq_ctx *ctx, eq_cache *k, int64_t block, const eq_place *places, int64_t n,
                     void *out, const void *qkv)
{
    const eq_config *c = k->config;
    tokens t = {.cache = k, .places = places, .block = block, .out = out, .qkv = qkv};
    for (int64_t i = 0; i < n; i++) {
        const int64_t pieces = pieces_of(places[i].position + 1);
        t.pieces = pieces > t.pieces ? pieces : t.pieces;
    }
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t unit = 0; unit < t.pieces * n * c->Hkv; unit++)
        attend_piece(ctx, &t, unit / c->Hkv % n, unit % c->Hkv, unit / c->Hkv / n);
    if (t.pieces == 1) return;
#pragma omp parallel for schedule(static)                                                          \
    num_threads(ctx->threads) if (n * c->H * c->D * t.pieces > SERIAL)
    for (int64_t unit = 0; unit < n * c->H; unit++)
        join_pieces(ctx, &t, unit / c->H, unit % c->H);
}

/* ---- many tokens of one sequence ----------------------------------------------------------- */

/* Keys that a step up to position `end` multiplies with. */
static int64_t keys_until(const eq_cache *k, int64_t end)
{
    int64_t grain = STEP;
    while (end > 2 * SHAPES * grain)
        grain *= 2;
    int64_t keys = round_up(end, grain);
    return keys < k->room ? keys : k->room;
}

/* The first tokens of a call, and what all of its steps share. */
typedef struct extension {
    eq_cache *cache;
    eq_place place;
    int64_t T, block, keys; /* keys of the last step */
    char *out;
    const char *qkv;
} extension;

static eq_slab slab_of(const extension *e, int64_t kv)
{
    return (eq_slab){e->block, e->place.sequence, kv};
}

/* Buffer of the keys of a head as products read them, and of its values. */
static char *columns_of(const eq_cache *k, int64_t kv)
{
    return k->columns + (size_t)(kv * k->config->D * k->room) * eq_elem_bytes(k->type);
}

static char *values_of(const extension *e, int64_t kv)
{
    const eq_cache *k = e->cache;
    const eq_slab slab = slab_of(e, kv);
    if (!k->rows) return eq_slab_values(&k->slabs, &slab);
    return k->rows + (size_t)(kv * k->room * k->config->D) * eq_elem_bytes(k->type);
}

/* Keep the new tokens, then make ready for products all keys and values up to the last of these:
 * what they see of themselves is what is kept. Values behind it become 0, which products multiply
 * with 0. */
static void keep(eq_ctx *ctx, const extension *e)
{
    eq_cache *k = e->cache;
    int64_t Hkv = k->config->Hkv, end = e->place.position + e->T, blocks = e->keys / EQ_KEY_BLOCK;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t kv = 0; kv < Hkv; kv++) {
        const eq_slab slab = slab_of(e, kv);
        eq_slab_put(ctx->kernels, &k->slabs, &slab, e->place.position, e->T, e->qkv);
    }
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t i = 0; i < Hkv * blocks; i++) {
        int64_t kv = i / blocks, first = i % blocks * EQ_KEY_BLOCK;
        const eq_slab slab = slab_of(e, kv);
        char *tile = k->scratch + (size_t)eq_this_thread() * k->part;
        eq_slab_load(ctx->kernels, &k->slabs, &slab, first, end, columns_of(k, kv),
                     values_of(e, kv), tile);
    }
}

/* `rows` tokens from number t of the call on, the first `real` of which are more than padding. */
typedef struct step {
    int64_t t, rows, real, keys;
    const eq_gemm_plan *scores, *mix;
} step;

/* The queries of a step, and of the heads that share key-value head kv, out of qkv. */
static void gather(const extension *e, const step *s, int64_t kv, char *q)
{
    const eq_config *c = e->cache->config;
    size_t head = (size_t)c->D * eq_elem_bytes(e->cache->type);
    int64_t group = group_of(c), width = c->H + 2 * c->Hkv;
    for (int64_t h = 0; h < group; h++)
        for (int64_t r = 0; r < s->rows; r++, q += head)
            memcpy(q, e->qkv + (size_t)((s->t + r) * width + kv * group + h) * head, head);
}

/* The results to their places in out. */
static void scatter(const eq_kernels *kernels, const extension *e, const step *s, int64_t kv,
                    const float *o)
{
    const eq_config *c = e->cache->config;
    size_t head = (size_t)c->D * eq_elem_bytes(e->cache->type);
    int64_t group = group_of(c);
    for (int64_t h = 0; h < group; h++)
        for (int64_t r = 0; r < s->rows; r++, o += c->D)
            kernels->unpack(e->out + (size_t)((s->t + r) * c->H + kv * group + h) * head,
                            e->cache->type, o, EQ_F32, c->D);
}

static void run_step(eq_ctx *ctx, const extension *e, const step *s, int64_t kv)
{
    eq_cache *k = e->cache;
    int64_t D = k->config->D;
    size_t elem = eq_elem_bytes(k->type);
    int thread = eq_this_thread();
    eq_arena part = {k->scratch + (size_t)thread * k->part, k->part, 0};
    buffers b = step_buffers(&part, k);
    const eq_causal tile = {.rows = s->real,
                            .cols = s->keys,
                            .ld = s->keys,
                            .first = e->place.position + s->t,
                            .scale = 1.0f / sqrtf((float)D),
                            .type = k->type};
    gather(e, s, kv, b.q);
    eq_gemm_serial(ctx, s->scores, thread, b.s, b.q, columns_of(k, kv));
    for (int64_t h = 0; h < group_of(k->config); h++)
        ctx->kernels->softmax_causal(b.p + (size_t)(h * s->rows * s->keys) * elem, NULL,
                                     b.s + h * s->rows * s->keys, &tile);
    eq_gemm_serial(ctx, s->mix, thread, b.o, b.p, values_of(e, kv));
    scatter(ctx->kernels, e, s, kv, b.o);
}

static bool prepare(eq_ctx *ctx, const extension *e, step *s, int64_t t)
{
    const eq_cache *k = e->cache;
    int64_t rows = eq_cache_rows(e->T) - t, real = e->T - t, D = k->config->D;
    *s = (step){.t = t, .rows = rows < STEP ? rows : STEP, .real = real < STEP ? real : STEP};
    s->keys = keys_until(k, e->place.position + t + s->real);
    int64_t R = s->rows * group_of(k->config);
    eq_gemm scores = eq_gemm_input_gradient(R, D, s->keys, k->type, EQ_F32);
    eq_gemm mix = eq_gemm_input_gradient(R, s->keys, D, k->type, EQ_F32);
    scores.ldb = k->room;
    s->scores = eq_gemm_prepare(ctx, &scores);
    s->mix = eq_gemm_prepare(ctx, &mix);
    return s->scores && s->mix;
}

void eq_cache_extend(eq_ctx *ctx, eq_cache *k, int64_t block, const eq_place *place, int64_t T,
                     void *out, const void *qkv)
{
    enum { AT_ONCE = 32 };
    int64_t end = place->position + T, Hkv = k->config->Hkv;
    assert(T <= k->chunk && end <= k->room);
    const extension e = {k, *place, T, block, keys_until(k, end), out, qkv};
    keep(ctx, &e);
    for (int64_t t = 0; t < T;) {
        step steps[AT_ONCE];
        int64_t n = 0;
        for (; n < AT_ONCE && t < T; n++, t += STEP)
            if (!prepare(ctx, &e, &steps[n], t)) return;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
        for (int64_t unit = 0; unit < n * Hkv; unit++)
            run_step(ctx, &e, &steps[unit / Hkv], unit % Hkv);
    }
}
