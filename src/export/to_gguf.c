/* GGUF: each linear in the smallest ggml type that holds its codes and scales. */
#include "export/export.h"
#include "export/ggml_grid.h"
#include "io/gguf_config.h"
#include "io/gguf_write.h"

#include <stdio.h>

enum { SCAN_ROWS = 64, PACK_ROWS = 256, TENSOR_NAME = 64 };

/* ---- rows of codes ------------------------------------------------------------------------- */

/* Room for one row of codes; one for each thread. */
typedef struct row_room {
    eq_grid_row row;
    uint8_t *codes;
    float *scales, *zeros;
} row_room;

static row_room room_layout(eq_arena *arena, int64_t K)
{
    return (row_room){.row = {.K = K,
                              .q = eq_arena_take(arena, K, sizeof(int16_t)),
                              .z = eq_arena_take(arena, K, sizeof(int16_t)),
                              .s = eq_arena_take(arena, K, sizeof(float))},
                      .codes = eq_arena_take(arena, K, 1),
                      .scales = eq_arena_take(arena, K, sizeof(float)),
                      .zeros = eq_arena_take(arena, K, sizeof(float))};
}

/* Rooms for all threads, [ctx->threads]. */
static eq_status rooms_init(eq_ctx *ctx, eq_arena *arena, row_room **rooms, int64_t K)
{
    eq_arena measure = eq_arena_measure();
    room_layout(&measure, K);
    *rooms = eq_alloc(ctx, ctx->threads, sizeof **rooms);
    if (!*rooms) return EQ_ENOMEM;
    eq_status st = eq_arena_reserve(ctx, arena, measure.used * (size_t)ctx->threads);
    for (int t = 0; st == EQ_OK && t < ctx->threads; t++)
        (*rooms)[t] = room_layout(arena, K);
    return st;
}

static const eq_grid_row *read_row(row_room *room, const eq_qmatrix *q, int64_t n)
{
    eq_qmatrix_codes(room->codes, q, n);
    eq_qmatrix_grid(room->scales, room->zeros, q, n);
    for (int64_t k = 0; k < q->K; k++) {
        int64_t group = eq_qmatrix_group(q, k);
        room->row.q[k] = room->codes[k];
        room->row.z[k] = (int16_t)room->zeros[group];
        room->row.s[k] = room->scales[group];
    }
    return &room->row;
}

/* ---- the plan ------------------------------------------------------------------------------ */

/* What the types hold of a matrix. */
typedef struct verdict {
    bool holds[EQ_GGML_GRIDS];
    float error[EQ_GGML_GRIDS];
} verdict;

static void judge_rows(verdict *v, const eq_weight *w, row_room *room, int64_t row0, int64_t rows)
{
    for (int64_t n = row0; n < row0 + rows; n++) {
        const eq_grid_row *row = read_row(room, &w->stored->matrix, n);
        for (int t = 0; t < EQ_GGML_GRIDS; t++)
            v->holds[t] = v->holds[t] && eq_ggml_grid_holds(&eq_ggml_grids[t], row, &v->error[t]);
    }
}

/* Types hold a matrix if they hold every row. What threads find is joined in any order. */
static eq_status judge(eq_ctx *ctx, verdict *v, const eq_weight *w)
{
    eq_arena arena = {0};
    row_room *rooms = NULL;
    int64_t chunks = (w->N + SCAN_ROWS - 1) / SCAN_ROWS;
    eq_status st = rooms_init(ctx, &arena, &rooms, w->K);
    for (int t = 0; t < EQ_GGML_GRIDS; t++)
        v->holds[t] = st == EQ_OK;
    chunks = st == EQ_OK ? chunks : 0;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t row = c * SCAN_ROWS, rows = w->N - row < SCAN_ROWS ? w->N - row : SCAN_ROWS;
        verdict own = {0};
        memset(own.holds, true, sizeof own.holds);
        judge_rows(&own, w, &rooms[eq_this_thread()], row, rows);
#pragma omp critical(eq_export_judge)
        for (int t = 0; t < EQ_GGML_GRIDS; t++) {
            v->holds[t] = v->holds[t] && own.holds[t];
            if (own.error[t] > v->error[t]) v->error[t] = own.error[t];
        }
    }
    eq_free(rooms);
    eq_arena_release(&arena);
    return st;
}

static double type_bits(eq_dtype type)
{
    const eq_dtype_info *info = eq_dtype_get(type);
    return 8.0 * info->block_bytes / info->block_elems;
}

/* What to ask of quantize, so that a matrix of these bits and columns fits a type of its size. */
static void advice(char *out, size_t size, const eq_qmatrix *q)
{
    if (q->bits == 2 && q->K % 64 == 0)
        snprintf(out, size, "--bits 2 --grid symmetric --group 64 makes Q2_0");
    else if (q->bits == 8)
        snprintf(out, size, "--bits 8 --grid symmetric --group 32 makes Q8_0");
    else
        snprintf(out, size, "--bits 4 --grid symmetric --group 32 makes Q4_0");
}

static eq_status refuse(eq_ctx *ctx, const eq_export_job *job, const eq_weight *w,
                        const eq_ggml_grid *larger)
{
    const eq_qmatrix *q = &w->stored->matrix;
    const char *path = eq_checkpoint_path(job->decoder->checkpoint);
    char text[80];
    advice(text, sizeof text, q);
    double own = eq_weight_bits(w) / (double)(w->N * w->K);
    if (!larger)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: no ggml type holds %s exactly (%d bits, groups of %lld of %lld "
                       "columns); eqat quantize %s",
                       path, w->module, q->bits, (long long)q->g, (long long)q->K, text);
    return eq_fail(ctx, EQ_EINVAL,
                   "%s: the smallest ggml type that holds %s exactly is %s of %.3g bits a weight, "
                   "%.2f times its %.3g: --allow-larger takes it, and eqat quantize %s",
                   path, w->module, eq_dtype_get(larger->type)->name, type_bits(larger->type),
                   type_bits(larger->type) / own, own, text);
}

static eq_status choose(eq_ctx *ctx, const eq_export_job *job, eq_weight *w)
{
    verdict v = {0};
    eq_status st = judge(ctx, &v, w);
    if (st != EQ_OK) return st;
    for (int t = 0; t < EQ_GGML_GRIDS && !w->grid; t++) {
        if (!v.holds[t] || (job->options->exact && v.error[t] > 0)) continue;
        w->grid = &eq_ggml_grids[t];
        w->absolute = v.error[t];
    }
    if (!w->grid) return refuse(ctx, job, w, NULL);
    w->type = w->grid->type;
    double own = eq_weight_bits(w) / (double)(w->N * w->K);
    bool larger = type_bits(w->type) > 1.5 * own;
    return larger && !job->options->allow_larger ? refuse(ctx, job, w, w->grid) : EQ_OK;
}

eq_status eq_gguf_plan(eq_ctx *ctx, eq_export_job *job)
{
    const char *path = eq_checkpoint_path(job->decoder->checkpoint);
    if (!job->tokenizer)
        return eq_fail(ctx, EQ_EINVAL, "%s: has no tokenizer, which a GGUF file must hold", path);
    eq_status st = eq_tokenizer_fits_gguf(ctx, job->tokenizer, job->decoder->config.V, path);
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++) {
        eq_weight *w = &job->weights[i];
        st = eq_export_progress(ctx, job, "choosing types", i);
        if (!eq_weight_is_packed(w))
            w->type = eq_weight_type(w);
        else if (st == EQ_OK)
            st = choose(ctx, job, w);
    }
    return st;
}

/* ---- metadata ------------------------------------------------------------------------------ */

/* llama.cpp's number for a file that is mostly of one type. */
static uint32_t file_type(eq_dtype type)
{
    static const uint32_t NUMBERS[EQ_DTYPES] = {
        [EQ_F32] = 0,   [EQ_F16] = 1,   [EQ_BF16] = 32, [EQ_Q4_0] = 2,  [EQ_Q4_1] = 3,
        [EQ_Q8_0] = 7,  [EQ_Q5_0] = 8,  [EQ_Q5_1] = 9,  [EQ_Q2_0] = 41, [EQ_TQ2_0] = 37,
        [EQ_Q2_K] = 10, [EQ_Q3_K] = 11, [EQ_Q4_K] = 14, [EQ_Q5_K] = 16, [EQ_Q6_K] = 18};
    return NUMBERS[type];
}

/* The type that most weights of the blocks have; of equal ones the first in the list of types. */
static eq_dtype main_type(const eq_export_job *job)
{
    int64_t weights[EQ_DTYPES] = {0};
    int most = 0;
    for (int64_t i = 0; i < job->count; i++)
        if (job->weights[i].linear) weights[job->weights[i].type] += job->weights[i].N;
    for (int t = 1; t < EQ_DTYPES; t++)
        if (weights[t] > weights[most]) most = t;
    return (eq_dtype)most;
}

static void put_size(eq_gguf_writer *w, const eq_gguf_family *family, const char *name,
                     int64_t value)
{
    char key[EQ_GGUF_KEY];
    eq_gguf_put_u32(w, eq_gguf_family_key(key, family, name), (uint32_t)value);
}

static void put_real(eq_gguf_writer *w, const eq_gguf_family *family, const char *name,
                     double value)
{
    char key[EQ_GGUF_KEY];
    eq_gguf_put_f32(w, eq_gguf_family_key(key, family, name), (float)value);
}

static void put_model(eq_gguf_writer *w, const eq_gguf_family *family, const eq_config *c)
{
    put_size(w, family, "block_count", c->L);
    put_size(w, family, "context_length", c->positions);
    put_size(w, family, "embedding_length", c->C);
    put_size(w, family, "feed_forward_length", c->F);
    put_size(w, family, "attention.head_count", c->H);
    put_size(w, family, "attention.head_count_kv", c->Hkv);
    put_size(w, family, "attention.key_length", c->D);
    put_size(w, family, "attention.value_length", c->D);
    put_size(w, family, "rope.dimension_count", c->D);
    put_size(w, family, "vocab_size", c->V);
    put_real(w, family, "rope.freq_base", c->theta);
    put_real(w, family, "attention.layer_norm_rms_epsilon", (double)c->eps);
}

/* Own metadata, then what else a GGUF source has. */
static eq_status put_metadata(eq_ctx *ctx, eq_gguf_writer *w, const eq_export_job *job,
                              const eq_gguf_family *family)
{
    const eq_gguf *source = eq_checkpoint_gguf(job->decoder->checkpoint);
    eq_text name = {job->name, strlen(job->name)};
    if (source) eq_gguf_string(source, "general.name", &name);
    eq_gguf_put_text(w, "general.architecture", (eq_text){family->prefix, strlen(family->prefix)});
    eq_gguf_put_text(w, "general.type", (eq_text){"model", 5});
    eq_gguf_put_text(w, "general.name", name);
    eq_gguf_put_u32(w, "general.alignment", EQ_GGUF_ALIGNMENT);
    eq_gguf_put_u32(w, "general.file_type", file_type(main_type(job)));
    eq_gguf_put_u32(w, "general.quantization_version", 2);
    put_model(w, family, &job->decoder->config);
    eq_status st = eq_tokenizer_to_gguf(ctx, job->tokenizer, w, job->decoder->config.V);
    if (st == EQ_OK && source) eq_gguf_put_rest(w, source);
    return st;
}

/* ---- tensors ------------------------------------------------------------------------------- */

/* Row `at` of the file, as bytes. */
static void make_row(uint8_t *out, const eq_weight *w, bool pairs, int64_t at, row_room *room)
{
    int64_t row = eq_tensor_row_at(pairs ? w->head_size : 0, at);
    size_t bytes = eq_dtype_bytes(w->type, w->K);
    if (w->grid) {
        eq_ggml_grid_pack(out, w->grid, read_row(room, &w->stored->matrix, row));
        return;
    }
    const eq_tensor *t = &w->stored->tensor;
    row = eq_tensor_file_row(t->rope_pairs, row);
    memcpy(out, (const char *)t->data + (size_t)row * bytes, bytes);
}

static eq_status write_matrix(eq_ctx *ctx, eq_gguf_writer *writer, const eq_weight *w, bool pairs)
{
    size_t bytes = eq_dtype_bytes(w->type, w->K);
    eq_arena arena = {0};
    row_room *rooms = NULL;
    uint8_t *rows = eq_alloc(ctx, PACK_ROWS, bytes);
    eq_status st = rows ? rooms_init(ctx, &arena, &rooms, w->K) : EQ_ENOMEM;
    for (int64_t row = 0; st == EQ_OK && row < w->N; row += PACK_ROWS) {
        int64_t n = w->N - row < PACK_ROWS ? w->N - row : PACK_ROWS;
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
        for (int64_t r = 0; r < n; r++)
            make_row(rows + (size_t)r * bytes, w, pairs, row + r, &rooms[eq_this_thread()]);
        st = eq_gguf_write(writer, rows, (size_t)n * bytes);
    }
    eq_free(rows);
    eq_free(rooms);
    eq_arena_release(&arena);
    return st;
}

/* Numbers of a bias stand where the rows of its linear do. */
static eq_status write_vector(eq_ctx *ctx, eq_gguf_writer *writer, const eq_weight *w, bool pairs)
{
    float *turned = eq_alloc(ctx, w->K, sizeof *turned);
    if (!turned) return EQ_ENOMEM;
    for (int64_t i = 0; i < w->K; i++)
        turned[i] = w->vector[eq_tensor_row_at(pairs ? w->head_size : 0, i)];
    eq_status st = eq_gguf_write(writer, turned, (size_t)w->K * sizeof *turned);
    eq_free(turned);
    return st;
}

static eq_status list_entries(eq_ctx *ctx, const eq_export_job *job, eq_tensor_entry *entries,
                              char (*names)[TENSOR_NAME])
{
    for (int64_t i = 0; i < job->count; i++) {
        const eq_weight *w = &job->weights[i];
        char name[EQ_MODULE_NAME + 8];
        snprintf(name, sizeof name, "%s.%s", w->module, w->suffix);
        if (!eq_gguf_tensor_name(names[i], TENSOR_NAME, name))
            return eq_fail(ctx, EQ_EINTERNAL, "%s has no name in GGUF files", name);
        entries[i] = (eq_tensor_entry){names[i], w->type, 2, {w->N, w->K}};
        if (w->vector) entries[i] = (eq_tensor_entry){names[i], w->type, 1, {w->K}};
    }
    return EQ_OK;
}

static eq_status write_tensors(eq_ctx *ctx, eq_gguf_writer *writer, const eq_export_job *job,
                               const eq_gguf_family *family)
{
    eq_status st = EQ_OK;
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++) {
        const eq_weight *w = &job->weights[i];
        st = eq_export_progress(ctx, job, "writing", i);
        if (st == EQ_OK && w->vector)
            st = write_vector(ctx, writer, w, family->rotary_pairs);
        else if (st == EQ_OK)
            st = write_matrix(ctx, writer, w, family->rotary_pairs);
    }
    return st;
}

eq_status eq_gguf_export(eq_ctx *ctx, const eq_export_job *job, const char *path)
{
    const eq_gguf_family *family = eq_gguf_family_of(job->decoder->config.family);
    eq_gguf_writer writer = {0};
    eq_tensor_entry *entries = eq_alloc(ctx, job->count, sizeof *entries);
    char(*names)[TENSOR_NAME] = eq_alloc(ctx, job->count, TENSOR_NAME);
    eq_status st = entries && names ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK) st = list_entries(ctx, job, entries, names);
    if (st == EQ_OK) st = eq_gguf_writer_init(ctx, &writer, path);
    if (st == EQ_OK) st = put_metadata(ctx, &writer, job, family);
    if (st == EQ_OK) st = eq_gguf_begin(&writer, entries, job->count);
    if (st == EQ_OK) st = write_tensors(ctx, &writer, job, family);
    if (st == EQ_OK) st = eq_gguf_commit(&writer);
    eq_gguf_abandon(&writer);
    eq_free(entries);
    eq_free(names);
    return st;
}
