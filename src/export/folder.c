#include "export/folder.h"

#include "io/json_file.h"

#include <stdio.h>

enum { COPY_ROWS = 256, NAME = EQ_MODULE_NAME + 24 };

typedef char tensor_name[NAME];

/* Tensors of all weights, in the order of the files. */
typedef struct contents {
    eq_tensor_entry *entries; /* owned, [count] */
    tensor_name *names;       /* owned */
    int64_t count;
} contents;

static void contents_free(contents *c)
{
    eq_free(c->entries);
    eq_free(c->names);
}

static void list_weight(contents *c, const eq_weight *w, const eq_export_layout *layout)
{
    const char *suffixes[EQ_LAYOUT_TENSORS] = {w->suffix};
    eq_tensor_entry *e = c->entries + c->count;
    int n = 1;
    if (w->packed)
        n = eq_layout_describe(layout->kind, w, e, suffixes);
    else if (w->vector)
        *e = (eq_tensor_entry){NULL, w->type, 1, {w->K}};
    else
        *e = (eq_tensor_entry){NULL, w->type, 2, {w->N, w->K}};
    for (int t = 0; t < n; t++, c->count++) {
        snprintf(c->names[c->count], NAME, "%s.%s", w->module, suffixes[t]);
        e[t].name = c->names[c->count];
    }
}

/* n numbers as bytes of another type, which may take their place. */
static void convert(void *out, const float *in, int64_t n, eq_dtype type)
{
    uint16_t *half = out;
    for (int64_t i = 0; i < n && type != EQ_F32; i++)
        half[i] = type == EQ_F16 ? eq_f32_f16(in[i]) : eq_f32_bf16(in[i]);
}

static eq_status write_plain(eq_ctx *ctx, const eq_weight *w, eq_shards *shards)
{
    int64_t K = w->K, most = w->N < COPY_ROWS ? w->N : COPY_ROWS;
    float *rows = eq_alloc(ctx, most * K, sizeof *rows);
    uint16_t *halves = eq_alloc(ctx, most * K, sizeof *halves);
    eq_status st = rows && halves ? EQ_OK : EQ_ENOMEM;
    for (int64_t r = 0; st == EQ_OK && r < w->N; r += most) {
        int64_t n = w->N - r < most ? w->N - r : most;
        eq_weight_rows(rows, w, r, n);
        convert(halves, rows, n * K, w->type);
        st = eq_shards_write(shards, w->type == EQ_F32 ? (const void *)rows : halves,
                             eq_dtype_bytes(w->type, n * K));
    }
    eq_free(rows);
    eq_free(halves);
    return st;
}

static eq_status write_weights(eq_ctx *ctx, const eq_export_job *job, const char *folder,
                               const eq_export_layout *layout)
{
    int64_t most = job->count * EQ_LAYOUT_TENSORS;
    contents c = {.entries = eq_alloc(ctx, most, sizeof *c.entries),
                  .names = eq_alloc(ctx, most, sizeof *c.names)};
    eq_shards shards = {0};
    eq_status st = c.entries && c.names ? EQ_OK : EQ_ENOMEM;
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++)
        list_weight(&c, &job->weights[i], layout);
    if (st == EQ_OK)
        st = eq_shards_begin(ctx, &shards, folder, c.entries, c.count, job->options->shard_bytes);
    for (int64_t i = 0; st == EQ_OK && i < job->count; i++) {
        const eq_weight *w = &job->weights[i];
        st = eq_export_progress(ctx, job, "writing", i);
        if (st == EQ_OK)
            st = w->packed ? eq_layout_write(ctx, layout->kind, w, &shards)
                           : write_plain(ctx, w, &shards);
    }
    if (st == EQ_OK) st = eq_shards_commit(&shards);
    eq_shards_abandon(&shards);
    contents_free(&c);
    return st;
}

/* The type that most readers load a model in, and its scales with it, which are halves. */
static void set_type(json_t *config, eq_dtype type)
{
    const char *name = type == EQ_F32 ? "float32" : type == EQ_BF16 ? "bfloat16" : "float16";
    json_object_set_new(config, "torch_dtype", json_string(name));
    json_object_set_new(config, "dtype", json_string(name));
}

static eq_status write_config(eq_ctx *ctx, const eq_export_job *job, const char *folder,
                              const eq_export_layout *layout)
{
    json_t *config = json_deep_copy(eq_checkpoint_config(job->decoder->checkpoint));
    json_t *quantization = layout->quantization ? layout->quantization(ctx, job) : NULL;
    eq_status st = config ? eq_ctx_status(ctx) : EQ_ENOMEM;
    json_object_del(config, "quantization_config");
    /* A GPTQ folder is what quantize writes, whose configuration is that of the source. */
    if (!layout->own_file) set_type(config, layout->quantization ? EQ_F16 : job->weights[0].type);
    if (quantization) json_object_set(config, "quantization_config", quantization);
    if (st == EQ_OK) st = eq_json_save(ctx, folder, "config.json", config);
    if (st == EQ_OK && layout->own_file)
        st = eq_json_save(ctx, folder, "quantize_config.json", quantization);
    json_decref(quantization);
    json_decref(config);
    return st;
}

eq_status eq_folder_export(eq_ctx *ctx, const eq_export_job *job, const char *folder,
                           const eq_export_layout *layout)
{
    eq_status st = write_weights(ctx, job, folder, layout);
    return st == EQ_OK ? write_config(ctx, job, folder, layout) : st;
}
