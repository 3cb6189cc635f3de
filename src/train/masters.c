#include "train/masters.h"

#include "train/state_file.h"

enum { VECTORS = 3 * EQ_UNITS };

static eq_parameters list_vectors(eq_parameter list[VECTORS], const eq_fake fakes[EQ_UNITS])
{
    for (int u = 0; u < EQ_UNITS; u++) {
        const eq_fake *f = &fakes[u];
        const int64_t weights = f->N * f->shape.K, groups = weights / f->shape.g;
        list[3 * u] = (eq_parameter){.w = f->w, .n = weights};
        list[3 * u + 1] = (eq_parameter){.w = f->s, .n = groups};
        list[3 * u + 2] = (eq_parameter){.w = f->z, .n = groups};
    }
    return (eq_parameters){list, VECTORS};
}

eq_status eq_masters_write(eq_ctx *ctx, const char *path, const eq_fake fakes[EQ_UNITS])
{
    eq_parameter list[VECTORS];
    const eq_parameters vectors = list_vectors(list, fakes);
    return eq_state_write(ctx, path, &vectors, NULL);
}

eq_status eq_masters_read(eq_ctx *ctx, const char *path, const eq_fake fakes[EQ_UNITS])
{
    eq_parameter list[VECTORS];
    const eq_parameters vectors = list_vectors(list, fakes);
    return eq_state_read(ctx, path, &vectors, NULL);
}
