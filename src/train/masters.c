#include "train/masters.h"

#include "train/state_file.h"

static eq_parameters list_vectors(eq_parameter list[EQ_UNITS], const eq_fake fakes[EQ_UNITS])
{
    for (int u = 0; u < EQ_UNITS; u++) {
        const eq_fake *f = &fakes[u];
        list[u] = (eq_parameter){.w = f->w, .n = f->N * f->shape.K};
    }
    return (eq_parameters){list, EQ_UNITS};
}

eq_status eq_masters_write(eq_ctx *ctx, const char *path, const eq_fake fakes[EQ_UNITS])
{
    eq_parameter list[EQ_UNITS];
    const eq_parameters vectors = list_vectors(list, fakes);
    return eq_state_write(ctx, path, &vectors, NULL);
}

eq_status eq_masters_read(eq_ctx *ctx, const char *path, const eq_fake fakes[EQ_UNITS])
{
    eq_parameter list[EQ_UNITS];
    const eq_parameters vectors = list_vectors(list, fakes);
    return eq_state_read(ctx, path, &vectors, NULL);
}
