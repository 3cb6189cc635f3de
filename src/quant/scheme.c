#include "quant/scheme.h"

#include "model/decoder.h"
#include "tensor/super_block.h"

#include <stdio.h>

/* Grids by their numbers; those of super-blocks go by the name of these. */
static const struct {
    const char *name;
    eq_dtype super;
} GRIDS[] = {[EQ_GRID_ASYMMETRIC] = {"asymmetric", EQ_F32},
             [EQ_GRID_SYMMETRIC] = {"symmetric", EQ_F32},
             [EQ_GRID_Q2_K] = {NULL, EQ_Q2_K},
             [EQ_GRID_Q3_K] = {NULL, EQ_Q3_K},
             [EQ_GRID_Q4_K] = {NULL, EQ_Q4_K}};
enum { GRID_COUNT = sizeof GRIDS / sizeof *GRIDS };

eq_scheme eq_scheme_of(const eq_quantize_options *options)
{
    return (eq_scheme){options->bits, options->group, options->grid};
}

eq_dtype eq_scheme_super(const eq_scheme *scheme)
{
    return GRIDS[scheme->grid].super;
}

void eq_scheme_complete(eq_scheme *scheme)
{
    const eq_dtype super = eq_scheme_super(scheme);
    if (!super) return;
    scheme->bits = eq_ggml_form_of(super)->bits;
    scheme->group = eq_ggml_form_of(super)->group;
}

eq_grid eq_grid_of_super(eq_dtype type)
{
    int grid = GRID_COUNT - 1;
    while (GRIDS[grid].super != type)
        grid--;
    return (eq_grid)grid;
}

bool eq_grid_from_name(eq_grid *grid, const char *name)
{
    for (int i = 0; i < GRID_COUNT; i++) {
        if (strcmp(eq_grid_name((eq_grid)i), name)) continue;
        *grid = (eq_grid)i;
        return true;
    }
    return false;
}

const char *eq_grid_name(eq_grid grid)
{
    return GRIDS[grid].super ? eq_super_suffix(GRIDS[grid].super) : GRIDS[grid].name;
}

int64_t eq_scheme_group(const eq_scheme *scheme, int64_t K)
{
    return scheme->group == -1 ? K : scheme->group;
}

eq_status eq_scheme_check(eq_ctx *ctx, const eq_scheme *scheme, const char *name, int64_t K)
{
    int bits = scheme->bits;
    if (!eq_qmatrix_has_bits(bits))
        return eq_fail(ctx, EQ_EINVAL, "%d bits are not supported, choose 2, 3, 4 or 8", bits);
    int64_t g = eq_scheme_group(scheme, K);
    if (eq_scheme_super(scheme) && K % EQ_SUPER_BLOCK)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: a row of %lld weights is no whole number of super-blocks of %d", name,
                       (long long)K, EQ_SUPER_BLOCK);
    if (g < 1 || K % g)
        return eq_fail(ctx, EQ_EINVAL,
                       "%s: a group of %lld does not divide its row of %lld weights", name,
                       (long long)scheme->group, (long long)K);
    return EQ_OK;
}

bool eq_scheme_equal(const eq_scheme *a, const eq_scheme *b)
{
    return a->bits == b->bits && a->group == b->group && a->grid == b->grid;
}

bool eq_scheme_symmetric(const eq_scheme *scheme)
{
    return scheme->grid == EQ_GRID_SYMMETRIC || scheme->grid == EQ_GRID_Q3_K;
}

eq_quant_shape eq_scheme_shape(const eq_scheme *scheme, int64_t K)
{
    return (eq_quant_shape){.K = K,
                            .g = eq_scheme_group(scheme, K),
                            .bits = scheme->bits,
                            .symmetric = eq_scheme_symmetric(scheme),
                            .super = eq_scheme_super(scheme)};
}

int64_t eq_scheme_stored_bits(const eq_scheme *scheme, int64_t N, int64_t K)
{
    const eq_dtype super = eq_scheme_super(scheme);
    if (super) return 8 * (int64_t)eq_dtype_bytes(super, N * K);
    return eq_qmatrix_stored_bits(N, K, eq_scheme_group(scheme, K), scheme->bits);
}

eq_block_scheme eq_scheme_block(const eq_scheme *scheme)
{
    eq_block_scheme block;
    for (int u = 0; u < EQ_UNITS; u++)
        block.units[u] = *scheme;
    return block;
}

bool eq_schemes_plain(eq_block_scheme *schemes, const eq_config *config)
{
    bool any = false;
    for (int64_t i = 0; i < config->L * EQ_UNITS; i++) {
        eq_scheme *s = &schemes[i / EQ_UNITS].units[i % EQ_UNITS];
        const int64_t K = eq_unit_columns(config, (eq_unit)(i % EQ_UNITS));
        if (!eq_scheme_super(s) || K % EQ_SUPER_BLOCK == 0) continue;
        const bool two = s->bits == 2 && K % 64 == 0;
        *s = (eq_scheme){two ? 2 : 4, two ? 64 : 32, EQ_GRID_SYMMETRIC};
        any = true;
    }
    return any;
}

eq_block_scheme *eq_schemes_uniform(eq_ctx *ctx, const eq_scheme *scheme, int64_t L)
{
    eq_block_scheme *schemes = eq_alloc(ctx, L, sizeof *schemes);
    for (int64_t i = 0; schemes && i < L; i++)
        schemes[i] = eq_scheme_block(scheme);
    return schemes;
}

static eq_status check_unit(eq_ctx *ctx, const eq_scheme *scheme, const eq_config *config,
                            eq_unit unit, const char *where)
{
    eq_part parts[EQ_MAX_PARTS];
    int count = eq_unit_parts(config, unit, parts);
    int64_t K = eq_unit_columns(config, unit);
    for (int p = 0; p < count; p++) {
        char name[256];
        snprintf(name, sizeof name, "%s%s", where, parts[p].name);
        eq_status st = eq_scheme_check(ctx, scheme, name, K);
        if (st != EQ_OK) return st;
        if (!eq_scheme_super(scheme) && !eq_qmatrix_fits(parts[p].rows, K, scheme->bits))
            return eq_fail(ctx, EQ_EINVAL,
                           "%s: [%lld, %lld] at %d bits does not fill whole words of the GPTQ "
                           "layout",
                           name, (long long)parts[p].rows, (long long)K, scheme->bits);
    }
    return EQ_OK;
}

eq_status eq_schemes_check(eq_ctx *ctx, const eq_block_scheme *schemes, const eq_config *config,
                           const char *file)
{
    for (int64_t i = 0; i < config->L * EQ_UNITS; i++) {
        char where[192] = "";
        int64_t block = i / EQ_UNITS;
        if (file) snprintf(where, sizeof where, "%.128s: block %lld: ", file, (long long)block);
        eq_unit unit = (eq_unit)(i % EQ_UNITS);
        eq_status st = check_unit(ctx, &schemes[block].units[unit], config, unit, where);
        if (st != EQ_OK) return st;
    }
    return EQ_OK;
}

/* docs/formats.md, what is exported as which type; 2 bits with zero points of any group would take
 * twice their size. */
eq_dtype eq_scheme_ggml(const eq_scheme *s, int64_t K)
{
    const int64_t g = eq_scheme_group(s, K);
    const bool symmetric = eq_scheme_symmetric(s);
    if (eq_scheme_super(s)) return eq_scheme_super(s);
    if (s->bits == 2 && !symmetric) return g % EQ_SUPER_BLOCK ? EQ_F32 : EQ_Q2_K;
    if (s->bits == 2) return g % 64 ? EQ_F32 : EQ_Q2_0;
    if (g % 32 || (s->bits == 8 && !symmetric)) return EQ_F32;
    if (s->bits == 8) return EQ_Q8_0;
    if (s->bits == 3 || symmetric) return EQ_Q4_0;
    return g % EQ_SUPER_BLOCK ? EQ_Q5_0 : EQ_Q4_K;
}

eq_status eq_schemes_check_ggml(eq_ctx *ctx, const eq_block_scheme *schemes,
                                const eq_config *config, bool any)
{
    for (int64_t i = 0; i < config->L * EQ_UNITS; i++) {
        const eq_unit unit = (eq_unit)(i % EQ_UNITS);
        const int64_t K = eq_unit_columns(config, unit);
        eq_part parts[EQ_MAX_PARTS];
        eq_scheme own = schemes[i / EQ_UNITS].units[unit];
        if (any) own.bits = 4; /* which ask for least */
        if (eq_scheme_ggml(&own, K)) continue;
        eq_unit_parts(config, unit, parts);
        return eq_fail(ctx, EQ_EINVAL,
                       "block %lld: %s: no ggml type of about its size holds %d bits in groups of "
                       "%lld, %s; the symmetric grid in groups of 64 (2 bits) or 32 is held",
                       (long long)(i / EQ_UNITS), parts[0].name, own.bits, (long long)own.group,
                       eq_grid_name(own.grid));
    }
    return EQ_OK;
}

bool eq_schemes_have_super(const eq_block_scheme *schemes, int64_t L)
{
    for (int64_t i = 0; i < L * EQ_UNITS; i++)
        if (eq_scheme_super(&schemes[i / EQ_UNITS].units[i % EQ_UNITS])) return true;
    return false;
}

bool eq_schemes_are(const eq_block_scheme *schemes, int64_t L, const eq_scheme *scheme)
{
    for (int64_t i = 0; i < L * EQ_UNITS; i++)
        if (!eq_scheme_equal(&schemes[i / EQ_UNITS].units[i % EQ_UNITS], scheme)) return false;
    return true;
}
