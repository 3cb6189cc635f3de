/* eq_export: write beside the output, read back, compare, let it generate, rename. */
#include "eqat_internal.h"

#include "export/export.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { TOKENS = 8 };

eq_export_options eq_export_defaults(eq_export_format format)
{
    return (eq_export_options){
        .format = format, .gptq_version = 2, .shard_bytes = (int64_t)5 << 30};
}

/* A file, or a folder with the files in it. */
static void remove_output(eq_ctx *ctx, const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        char *file = eq_path_join(ctx, path, e->d_name);
        if (file && e->d_type != DT_DIR) unlink(file);
        eq_free(file);
    }
    if (dir) closedir(dir);
    if (dir)
        rmdir(path);
    else
        unlink(path);
}

static bool count_token(void *user, int32_t id)
{
    (void)id;
    ++*(int64_t *)user;
    return true;
}

/* Vocabulary, ids and template are those of the model. */
static eq_status check_tokenizer(eq_ctx *ctx, const eq_model *model, const eq_model *written)
{
    const eq_tokenizer *a = model->tokenizer, *b = written->tokenizer;
    bool same = a && b && eq_tokenizer_bos(a) == eq_tokenizer_bos(b) &&
                eq_tokenizer_eos(a) == eq_tokenizer_eos(b) &&
                eq_tokenizer_add_bos(a) == eq_tokenizer_add_bos(b);
    const char *ta = a ? eq_tokenizer_chat_template(a) : NULL;
    const char *tb = b ? eq_tokenizer_chat_template(b) : NULL;
    same = same && !ta == !tb && (!ta || !strcmp(ta, tb));
    for (int32_t id = 0; same && id < eq_tokenizer_vocab_size(a); id++) {
        size_t na = 0, nb = 0;
        const char *pa = eq_tokenizer_piece(a, id, &na), *pb = eq_tokenizer_piece(b, id, &nb);
        same = eq_tokenizer_is_special(a, id) == eq_tokenizer_is_special(b, id) &&
               (eq_tokenizer_is_special(a, id) || (na == nb && !memcmp(pa, pb, na)));
    }
    if (same || !a) return EQ_OK;
    return eq_fail(ctx, EQ_EINTERNAL, "%s: the tokenizer reads back as another one",
                   eq_checkpoint_path(written->checkpoint));
}

/* Open what was written, compare it, continue a token. */
static eq_status check_output(eq_ctx *ctx, const eq_model *model, const eq_export_job *job,
                              const char *path, eq_export_result *result)
{
    eq_model *written = NULL;
    eq_generate_options options = eq_generate_defaults();
    options.max_tokens = TOKENS;
    int32_t start = model->tokenizer ? eq_tokenizer_bos(model->tokenizer) : 0;
    if (start < 0) start = 0;
    eq_status st = eq_model_open(ctx, &written, path);
    if (st == EQ_OK) st = eq_export_verify(ctx, job, written->decoder, result);
    if (st == EQ_OK) st = check_tokenizer(ctx, model, written);
    if (st == EQ_OK)
        st = eq_generate(ctx, written, &start, 1, &options, count_token, &result->tokens);
    if (st == EQ_OK) result->bytes = eq_checkpoint_bytes(written->checkpoint);
    eq_model_close(written);
    return st;
}

static eq_status write_output(eq_ctx *ctx, const eq_model *model, const eq_export_job *job,
                              const char *path)
{
    const eq_export_kind *kind = eq_export_kind_of(job->options->format);
    eq_status st = kind->folder ? eq_folder_make(ctx, path) : EQ_OK;
    if (st == EQ_OK) st = kind->write(ctx, job, path);
    if (st == EQ_OK && kind->folder)
        st = eq_tokenizer_files(ctx, model->checkpoint, model->tokenizer, path);
    return st;
}

/* Write to `temporary`, check it, rename it to `out`. */
static eq_status make_output(eq_ctx *ctx, const eq_model *model, const eq_export_job *job,
                             const char *temporary, const char *out, eq_export_result *result)
{
    eq_status st = write_output(ctx, model, job, temporary);
    if (st == EQ_OK) st = check_output(ctx, model, job, temporary, result);
    if (st == EQ_OK && rename(temporary, out))
        st = eq_fail(ctx, EQ_EIO, "%s: cannot rename to it: %s", out, strerror(errno));
    if (st == EQ_OK) eq_folder_sync(out);
    if (st != EQ_OK) remove_output(ctx, temporary);
    return st;
}

eq_status eq_export(eq_ctx *ctx, const eq_model *model, const char *out,
                    const eq_export_options *options, eq_export_result *result)
{
    char *name = eq_path_name(ctx, eq_checkpoint_path(model->checkpoint));
    char *target = eq_path_trimmed(ctx, out);
    char *temporary = target ? eq_format(ctx, "%s.tmp-%ld", target, (long)getpid()) : NULL;
    eq_export_job job = {
        .decoder = model->decoder, .tokenizer = model->tokenizer, .options = options, .name = name};
    *result = (eq_export_result){0};
    eq_status st = name && temporary ? EQ_OK : EQ_ENOMEM;
    if (st == EQ_OK && !access(out, F_OK))
        st = eq_fail(ctx, EQ_EINVAL, "%s: is there already; an export makes a new one", out);
    if (st == EQ_OK) st = eq_weights_list(ctx, model->decoder, &job.weights, &job.count);
    if (st == EQ_OK) st = eq_export_kind_of(options->format)->plan(ctx, &job);
    if (st == EQ_OK) st = make_output(ctx, model, &job, temporary, target, result);
    eq_free(job.weights);
    eq_free(temporary);
    eq_free(target);
    eq_free(name);
    return st;
}
