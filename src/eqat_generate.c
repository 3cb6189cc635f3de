/* eq_generate, and the tokens that generation needs to know of. */
#include "eqat_internal.h"

#include "infer/generate.h"

eq_generate_options eq_generate_defaults(void)
{
    return (eq_generate_options){.max_tokens = 128, .top_p = 1.0, .precision = EQ_PRECISION_AUTO};
}

int64_t eq_end_tokens(const eq_checkpoint *checkpoint, int32_t ends[EQ_MAX_ENDS])
{
    const json_t *eos = json_object_get(eq_checkpoint_config(checkpoint), "eos_token_id");
    int64_t n = 0;
    if (json_is_integer(eos)) ends[n++] = (int32_t)json_integer_value(eos);
    for (size_t i = 0; i < json_array_size(eos) && n < EQ_MAX_ENDS; i++)
        ends[n++] = (int32_t)json_integer_value(json_array_get(eos, i));
    return n;
}

eq_status eq_generate(eq_ctx *ctx, const eq_model *model, const int32_t *ids, int64_t count,
                      const eq_generate_options *options, bool (*emit)(void *user, int32_t id),
                      void *user)
{
    int32_t ends[EQ_MAX_ENDS];
    eq_dtype type = EQ_F32;
    eq_status st = eq_precision_type(ctx, &type, options->precision);
    if (st != EQ_OK) return st;
    const eq_listener listener = {ends, eq_end_tokens(model->checkpoint, ends), emit, user};
    return eq_generate_tokens(ctx, model->decoder, ids, count, options, type, &listener);
}
