/* eq_generate, and the tokens that generation needs to know of. */
#include "eqat_internal.h"

#include "infer/engine.h"
#include "io/chat.h"
#include "io/json_file.h"

eq_generate_options eq_generate_defaults(void)
{
    return (eq_generate_options){.max_tokens = 128,
                                 .repetition_penalty = 1,
                                 .top_p = 1,
                                 .precision = EQ_PRECISION_AUTO,
                                 .activations = EQ_ACTIVATIONS_8BIT};
}

eq_engine_options eq_engine_defaults(void)
{
    return (eq_engine_options){
        .slots = 1, .precision = EQ_PRECISION_AUTO, .activations = EQ_ACTIVATIONS_8BIT};
}

static int64_t add_end(int32_t ends[EQ_MAX_ENDS], int64_t n, int64_t id)
{
    for (int64_t i = 0; i < n; i++)
        if (ends[i] == id) return n;
    if (id < 0 || id > INT32_MAX || n == EQ_MAX_ENDS) return n;
    ends[n] = (int32_t)id;
    return n + 1;
}

/* The ids of a configuration, one or a list. */
static int64_t add_ends(int32_t ends[EQ_MAX_ENDS], int64_t n, const json_t *config)
{
    const json_t *eos = json_object_get(config, "eos_token_id");
    if (json_is_integer(eos)) n = add_end(ends, n, json_integer_value(eos));
    for (size_t i = 0; i < json_array_size(eos); i++)
        n = add_end(ends, n, json_integer_value(json_array_get(eos, i)));
    return n;
}

int64_t eq_end_tokens(const eq_checkpoint *checkpoint, int32_t ends[EQ_MAX_ENDS])
{
    return add_ends(ends, 0, eq_checkpoint_config(checkpoint));
}

/* What ends a text for other programs too: also the ends in generation_config.json, and what
 * stands between texts. */
static eq_status engine_ends(eq_ctx *ctx, const eq_model *model, int32_t ends[EQ_MAX_ENDS],
                             int64_t *n)
{
    *n = eq_end_tokens(model->checkpoint, ends);
    if (model->tokenizer) *n = add_end(ends, *n, eq_tokenizer_separator(model->tokenizer));
    if (eq_checkpoint_gguf(model->checkpoint)) return EQ_OK;
    char *path = eq_path_join(ctx, eq_checkpoint_path(model->checkpoint), "generation_config.json");
    json_t *config = NULL;
    eq_status st = path ? EQ_OK : EQ_ENOMEM;
    if (path && eq_file_exists(path)) st = eq_json_load(ctx, &config, path);
    if (config) *n = add_ends(ends, *n, config);
    json_decref(config);
    eq_free(path);
    return st;
}

eq_status eq_engine_new(eq_ctx *ctx, eq_engine **engine, const eq_model *model,
                        const eq_engine_options *options)
{
    int32_t ends[EQ_MAX_ENDS];
    eq_engine_model parts = {model->decoder, model->tokenizer, ends, 0};
    eq_status st = engine_ends(ctx, model, ends, &parts.end_count);
    return st == EQ_OK ? eq_engine_open(ctx, engine, &parts, options) : st;
}

/* The steps of one request. */
static eq_status run(eq_ctx *ctx, eq_engine *engine, bool (*emit)(void *user, int32_t id),
                     void *user)
{
    for (bool more = true; more;) {
        eq_event event;
        eq_status st = eq_engine_step(ctx, engine);
        if (st != EQ_OK) return st;
        if (!eq_engine_poll(engine, &event)) continue; /* within the prompt */
        if (event.finish == EQ_FINISH_FAILED)
            return eq_fail(ctx, EQ_ENUMERIC, "the model's logits are not finite");
        more = emit(user, event.token) && event.finish == EQ_FINISH_NONE;
    }
    return EQ_OK;
}

eq_status eq_generate(eq_ctx *ctx, const eq_model *model, const int32_t *ids, int64_t count,
                      const eq_generate_options *options, bool (*emit)(void *user, int32_t id),
                      void *user)
{
    const int64_t positions = model->decoder->config.positions;
    const eq_request request = {.ids = ids, .count = count, .options = *options};
    eq_engine_options o = eq_engine_defaults();
    eq_engine *engine = NULL;
    int64_t unused;
    if (options->max_tokens > 0 && count > 0 && options->max_tokens < positions - count)
        o.context = count + options->max_tokens;
    o.precision = options->precision;
    o.activations = options->activations;
    o.kv_bits = options->kv_bits;
    eq_status st = eq_engine_new(ctx, &engine, model, &o);
    if (st == EQ_OK) st = eq_engine_submit(ctx, engine, &request, &unused);
    if (st == EQ_OK) st = run(ctx, engine, emit, user);
    eq_engine_free(engine);
    return st;
}

/* ---- chats --------------------------------------------------------------------------------- */

static eq_status find_role(eq_ctx *ctx, eq_role *role, const char *name)
{
    static const char *const names[] = {"system", "user", "assistant"};
    for (int i = 0; i < 3; i++) {
        *role = (eq_role)i;
        if (!strcmp(names[i], name)) return EQ_OK;
    }
    return eq_fail(ctx, EQ_EINVAL, "role '%s' is none of system, user, assistant", name);
}

eq_status eq_chat_ids(eq_ctx *ctx, const eq_model *model, const char *format,
                      const char *const *roles, const char *const *texts, int64_t n, int32_t **ids,
                      int64_t *count, int32_t *end)
{
    eq_chat chat = {0};
    eq_marked list = {0};
    eq_message *messages = NULL;
    eq_status st = eq_model_need_tokenizer(ctx, model);
    if (st != EQ_OK) return st;
    st = eq_chat_init(ctx, &chat, model->tokenizer, format, eq_checkpoint_path(model->checkpoint));
    if (st != EQ_OK) goto done;
    messages = eq_alloc(ctx, n, sizeof *messages);
    if (!messages) st = EQ_ENOMEM;
    for (int64_t i = 0; st == EQ_OK && i < n; i++) {
        messages[i].content = (eq_text){texts[i], strlen(texts[i])};
        st = find_role(ctx, &messages[i].role, roles[i]);
    }
    if (st == EQ_OK) st = eq_chat_render(ctx, &chat, messages, n, true, &list);
    if (st != EQ_OK) goto done;
    *ids = list.ids;
    *count = list.count;
    *end = chat.end;
    list.ids = NULL;
done:
    eq_free(messages);
    eq_marked_deinit(&list);
    eq_chat_deinit(&chat);
    return st;
}
