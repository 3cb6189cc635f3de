/* eq_bench. */
#include "eqat_internal.h"

#include "train/bench.h"

eq_bench_options eq_bench_defaults(void)
{
    return (eq_bench_options){.prompt = 512, .texts = 1};
}

eq_status eq_bench(eq_ctx *ctx, const eq_model *model, const eq_bench_options *options,
                   void (*row)(void *user, const eq_bench_row *row), void *user)
{
    const eq_config config = model ? model->decoder->config : eq_bench_config();
    return eq_bench_run(ctx, &config, model ? model->decoder : NULL, options, row, user);
}
