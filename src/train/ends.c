#include "train/ends.h"

#include "base/file.h"
#include "quant/start.h"
#include "train/packed.h"

enum { GROUP = 32, ROWS = 256 }; /* rows that are worked on at a time */

const char *const eq_end_names[EQ_ENDS] = {"model.embed_tokens", "lm_head"};

eq_scheme eq_end_scheme(int bits)
{
    return (eq_scheme){bits, GROUP, EQ_GRID_SYMMETRIC};
}

bool eq_end_is_packed(const eq_config *c, const eq_scheme ends[EQ_ENDS], int which)
{
    return ends[which].bits != 16 && !(which == EQ_HEAD && c->tied);
}

eq_status eq_ends_check(eq_ctx *ctx, const eq_config *c, const eq_scheme ends[EQ_ENDS])
{
    for (int i = 0; i < EQ_ENDS; i++) {
        if (!eq_end_is_packed(c, ends, i)) continue;
        eq_status st = eq_scheme_check(ctx, &ends[i], eq_end_names[i], c->C);
        if (st != EQ_OK) return st;
        if (!eq_qmatrix_fits(c->V, c->C, ends[i].bits))
            return eq_fail(ctx, EQ_EINVAL,
                           "%s: a vocabulary of %lld at %d bits does not fill whole words of the "
                           "GPTQ layout, which takes multiples of %d",
                           eq_end_names[i], (long long)c->V, ends[i].bits, 32 / ends[i].bits);
    }
    return EQ_OK;
}

static eq_qmatrix end_shape(const eq_config *c, const eq_scheme *scheme)
{
    return (eq_qmatrix){.bits = scheme->bits, .N = c->V, .K = c->C, .g = scheme->group};
}

/* What rounding an end takes besides what it freezes to: some rows at a time. */
typedef struct rounding {
    eq_fake fake; /* [ROWS, K] */
    float *ones;  /* [K] */
    eq_arena arena;
    const char *file, *name; /* for messages */
} rounding;

static void layout(rounding *r, const eq_qmatrix *q)
{
    const eq_quant_shape shape = {.K = q->K, .g = q->g, .bits = q->bits, .symmetric = true};
    const eq_fake_kind kind = {.type = EQ_F32, .rounds = true};
    r->fake = eq_fake_layout(&r->arena, ROWS, &shape, &kind);
    r->ones = eq_arena_take(&r->arena, q->K, sizeof *r->ones);
}

static eq_status rounding_init(eq_ctx *ctx, rounding *r, const eq_qmatrix *q)
{
    *r = (rounding){.arena = eq_arena_measure()};
    layout(r, q);
    eq_status st = eq_arena_reserve(ctx, &r->arena, r->arena.used);
    if (st != EQ_OK) return st;
    layout(r, q);
    for (int64_t k = 0; k < q->K; k++)
        r->ones[k] = 1;
    return EQ_OK;
}

static eq_frozen_size frozen_size(const eq_qmatrix *q)
{
    return (eq_frozen_size){q->N * q->K, q->N * (q->K / q->g), q->K};
}

size_t eq_ends_bytes(const eq_config *c, const eq_scheme ends[EQ_ENDS])
{
    size_t most = 0;
    for (int i = 0; i < EQ_ENDS; i++) {
        if (!eq_end_is_packed(c, ends, i)) continue;
        const eq_qmatrix q = end_shape(c, &ends[i]);
        rounding r = {.arena = eq_arena_measure()};
        layout(&r, &q);
        const eq_frozen_size size = frozen_size(&q);
        size_t need = r.arena.used + (size_t)eq_frozen_bytes(&size);
        most = need > most ? need : most;
    }
    return most;
}

/* Codes, zero points and scales of all rows. */
static eq_status freeze_rows(eq_ctx *ctx, eq_frozen *frozen, rounding *r, const eq_linear *source)
{
    int64_t K = source->K, groups = K / r->fake.shape.g;
    const eq_linear fake = eq_linear_fake(ctx->kernels, &r->fake);
    for (int64_t row = 0; row < source->N; row += ROWS) {
        r->fake.N = source->N - row < ROWS ? source->N - row : ROWS;
        source->form->rows(source, r->fake.w, EQ_F32, row, r->fake.N);
        int64_t bad = eq_first_not_finite(r->fake.w, r->fake.N * K);
        if (bad < r->fake.N * K)
            return eq_fail(ctx, EQ_ENUMERIC,
                           "%s: %s.weight: row %lld has a value that is not finite", r->file,
                           r->name, (long long)(row + bad / K));
        eq_start_values(ctx, &r->fake, EQ_START_MSE, r->ones);
        fake.form->freeze(ctx, &fake, frozen->codes + row * K, frozen->scales + row * groups,
                          frozen->zeros + row * groups);
        eq_status st = eq_check_interrupt(ctx);
        if (st != EQ_OK) return st;
    }
    return EQ_OK;
}

static eq_status write_end(eq_ctx *ctx, const eq_frozen *frozen, const eq_qmatrix *shape,
                           const char *name, const char *path)
{
    eq_tensor_entry entries[EQ_PACKED_TENSORS];
    char names[EQ_PACKED_TENSORS][EQ_TENSOR_NAME];
    eq_safetensors_writer w = {0};
    eq_frozen f = *frozen;
    eq_packed_entries(entries, names, name, shape);
    eq_status st = eq_safetensors_begin(ctx, &w, path, entries, EQ_PACKED_TENSORS);
    if (st != EQ_OK) return st;
    eq_packed_write(&w, shape, 0, &f);
    return eq_safetensors_commit(&w);
}

/* Round end `which` of the source into the file `path`. */
static eq_status make_end(eq_ctx *ctx, const eq_decoder *source, int which, const eq_qmatrix *shape,
                          const char *path)
{
    const eq_linear *weight = which == EQ_EMBEDDING ? &source->embedding : &source->head;
    const char *name = eq_end_names[which];
    const eq_frozen_size size = frozen_size(shape);
    rounding r = {0};
    eq_frozen frozen = {0};
    double start = eq_seconds();
    eq_status st = rounding_init(ctx, &r, shape);
    r.file = eq_checkpoint_path(source->checkpoint);
    r.name = name;
    if (st == EQ_OK) st = eq_frozen_init(ctx, &frozen, &size);
    if (st == EQ_OK) st = freeze_rows(ctx, &frozen, &r, weight);
    if (st == EQ_OK) st = write_end(ctx, &frozen, shape, name, path);
    if (st == EQ_OK)
        eq_log(ctx, EQ_LOG_INFO, "%s: %d bits in groups of %d, %.1f s", name, shape->bits, GROUP,
               eq_seconds() - start);
    eq_frozen_deinit(&frozen);
    eq_arena_release(&r.arena);
    return st;
}

static eq_status open_end(eq_ctx *ctx, eq_safetensors **file, eq_stored *stored,
                          const eq_qmatrix *shape, const char *name, const char *path)
{
    eq_tensor_entry entries[EQ_PACKED_TENSORS];
    char names[EQ_PACKED_TENSORS][EQ_TENSOR_NAME];
    eq_packed_entries(entries, names, name, shape);
    eq_stored_part *part = &stored->parts[0];
    *part = (eq_stored_part){.rows = shape->N, .packed = true};
    eq_status st = eq_safetensors_open(ctx, file, path);
    return st == EQ_OK ? eq_packed_find(ctx, *file, &part->matrix, entries, shape) : st;
}

eq_status eq_ends_make(eq_ctx *ctx, eq_ends *ends, const eq_decoder *source,
                       const eq_scheme schemes[EQ_ENDS], const eq_run *run)
{
    static const char *const FILES[EQ_ENDS] = {"ends-embedding.safetensors",
                                               "ends-head.safetensors"};
    *ends = (eq_ends){.decoder = *source};
    eq_stored *stored[EQ_ENDS] = {&ends->decoder.embedding_stored, &ends->decoder.head_stored};
    eq_status st = EQ_OK;
    for (int i = 0; st == EQ_OK && i < EQ_ENDS; i++) {
        if (!eq_end_is_packed(&source->config, schemes, i)) continue;
        const eq_qmatrix shape = end_shape(&source->config, &schemes[i]);
        char *path = eq_path_join(ctx, run->folder, FILES[i]);
        st = path ? EQ_OK : EQ_ENOMEM;
        if (path && !eq_file_exists(path)) st = make_end(ctx, source, i, &shape, path);
        if (st == EQ_OK)
            st = open_end(ctx, &ends->files[i], stored[i], &shape, eq_end_names[i], path);
        eq_free(path);
    }
    eq_decoder_link_ends(&ends->decoder, ctx->kernels);
    return st;
}

void eq_ends_close(eq_ends *ends)
{
    for (int i = 0; i < EQ_ENDS; i++)
        eq_safetensors_close(ends->files[i]);
    *ends = (eq_ends){0};
}
