#include "quant/scheme.h"

eq_scheme eq_scheme_of(const eq_quantize_options *options)
{
    return (eq_scheme){options->bits, options->group, options->grid};
}

int64_t eq_scheme_group(const eq_scheme *scheme, int64_t K)
{
    return scheme->group == -1 ? K : scheme->group;
}

eq_status eq_scheme_check(eq_ctx *ctx, const eq_scheme *scheme, const char *name, int64_t K)
{
    int bits = scheme->bits;
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
        return eq_fail(ctx, EQ_EINVAL, "%d bits are not supported, choose 2, 3, 4 or 8", bits);
    int64_t g = eq_scheme_group(scheme, K);
    if (g < 1 || K % g)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: a group of %lld does not divide its row of %lld weights", name,
                       (long long)scheme->group, (long long)K);
    return EQ_OK;
}
