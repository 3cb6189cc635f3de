#include "io/packing.h"

#include "io/config_groups.h"
#include "io/overrides.h"

#include <stdio.h>

enum { NAME_BYTES = 256 };

/* The linear that is being read. */
typedef struct linear {
    const eq_checkpoint *checkpoint;
    const char *prefix;
    eq_packing *packing;
    eq_qmatrix *q;
    eq_tensor weight, zeros, scales;
} linear;

static void part_name(char name[NAME_BYTES], const linear *l, const char *part)
{
    snprintf(name, NAME_BYTES, "%s.%s", l->prefix, part);
}

static bool has_part(const linear *l, const char *part)
{
    char name[NAME_BYTES];
    part_name(name, l, part);
    return eq_checkpoint_has(l->checkpoint, name);
}

typedef enum part_type { WORDS, FLOATING, SIZES } part_type;

static eq_status get_part(eq_ctx *ctx, const linear *l, const char *part, part_type type,
                          eq_tensor *t)
{
    static const char *const EXPECTED[] = {"I32", "F16, BF16 or F32", "I64"};
    char name[NAME_BYTES];
    part_name(name, l, part);
    eq_status st = eq_checkpoint_tensor(ctx, l->checkpoint, name, t);
    if (st != EQ_OK) return st;
    bool real = t->type == EQ_F16 || t->type == EQ_BF16 || t->type == EQ_F32;
    if (type == FLOATING ? real : t->type == (type == WORDS ? EQ_I32 : EQ_I64)) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s is %s, expected %s", eq_checkpoint_path(l->checkpoint),
                   name, eq_dtype_get(t->type)->name, EXPECTED[type]);
}

static const json_t *settings_of(const linear *l)
{
    return json_object_get(eq_checkpoint_config(l->checkpoint), "quantization_config");
}

/* Whether a matrix with these bits can be stored in its layout. */
static bool fits(const eq_qmatrix *q)
{
    const eq_qlayout *layout = &q->layout;
    if (q->g < 1 || q->K % q->g || !eq_qmatrix_has_bits(q->bits)) return false;
    if (layout->interleaved && q->bits != 4) return false;
    if (layout->across) return q->N * q->bits % 32 == 0;
    return layout->rows_first || layout->padded || eq_qmatrix_fits(q->N, q->K, q->bits);
}

/* Bits and group that the shapes of GPTQ's or AWQ's tensors have; -1 for what cannot be. */
static eq_override found_in_shapes(const linear *l)
{
    int64_t N = l->q->N, K = l->q->K, groups = l->scales.shape[0];
    bool across = l->q->layout.across;
    int64_t words = eq_tensor_elems(&l->weight) ? l->weight.shape[across] : 0;
    int64_t bits = words * 32 / (across ? N : K);
    eq_qmatrix q = {.N = N, .K = K, .layout = l->q->layout};
    q.bits = (int)bits;
    q.g = groups > 0 && K % groups == 0 ? K / groups : 0;
    return fits(&q) ? (eq_override){.bits = bits, .group = q.g}
                    : (eq_override){.bits = -1, .group = -1};
}

static eq_status check_fit(eq_ctx *ctx, const linear *l, int64_t group)
{
    const eq_qmatrix *q = l->q;
    if (fits(q)) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s: [%lld, %lld] does not fit %d bits in groups of %lld",
                   eq_checkpoint_path(l->checkpoint), l->prefix, (long long)q->N, (long long)q->K,
                   q->bits, (long long)group);
}

static void set_grid(eq_qmatrix *q, const eq_override *grid)
{
    q->bits = (int)grid->bits;
    q->g = grid->group == -1 ? q->K : grid->group;
    q->symmetric = grid->symmetric;
}

/* Bits and group by the configuration, which may have others for single modules. */
static eq_status take_settings(eq_ctx *ctx, const linear *l)
{
    eq_override found = found_in_shapes(l), said;
    if (eq_override_allows(settings_of(l), l->prefix, &found, l->q->K, &said)) {
        said.bits = found.bits;
        said.group = found.group;
    }
    set_grid(l->q, &said);
    return check_fit(ctx, l, said.group);
}

static bool has_shape(const eq_tensor *t, const int64_t shape[2])
{
    return t->dims == 2 && t->shape[0] == shape[0] && t->shape[1] == shape[1];
}

/* Whether the tensors have the shapes that a scheme gives them. */
static bool shapes_match(const linear *l)
{
    if (!fits(l->q) || l->q->symmetric != !l->zeros.data) return false;
    const eq_qshapes s = eq_qmatrix_shapes(l->q);
    return has_shape(&l->weight, s.weight) && has_shape(&l->scales, s.scales) &&
           (!l->zeros.data || has_shape(&l->zeros, s.zeros));
}

/* One of the schemes that the module may have. Before 2026 fields did not cross words; the two
 * packings have different numbers of words if K is a multiple of 32 or above 160. */
static eq_status take_scheme(eq_ctx *ctx, const linear *l)
{
    eq_override scheme = {.bits = 0};
    int count = 0;
    for (; eq_config_groups_get(settings_of(l), l->prefix, count, &scheme); count++) {
        set_grid(l->q, &scheme);
        bool stream = shapes_match(l);
        l->q->layout.padded = 32 % scheme.bits != 0;
        bool padded = shapes_match(l);
        l->q->layout.padded = padded && !stream;
        if (padded && stream && 32 % scheme.bits != 0)
            return eq_fail(ctx, EQ_EFORMAT,
                           "%s: %s: whether %d bits cross words cannot be told for [%lld, %lld]",
                           eq_checkpoint_path(l->checkpoint), l->prefix, l->q->bits,
                           (long long)l->q->N, (long long)l->q->K);
        if (padded || stream) return EQ_OK;
    }
    if (!count)
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s is a target of no group in quantization_config",
                       eq_checkpoint_path(l->checkpoint), l->prefix);
    if (l->q->symmetric != !l->zeros.data)
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s has %szero points, its scheme is %s",
                       eq_checkpoint_path(l->checkpoint), l->prefix, l->zeros.data ? "" : "no ",
                       l->q->symmetric ? "symmetric" : "not symmetric");
    return check_fit(ctx, l, scheme.group);
}

static void set_bits(eq_qmatrix *q, int bits)
{
    q->bits = bits;
    q->layout.padded = 32 % bits != 0;
}

/* Whether EfficientQAT's layout at these bits needs as many words as are there. */
static bool bits_match(const linear *l, int bits)
{
    eq_qmatrix q = {.N = l->q->N, .K = l->q->K};
    set_bits(&q, bits);
    return l->weight.shape[0] == eq_qmatrix_words(&q, q.K) &&
           l->zeros.shape[1] == eq_qmatrix_words(&q, q.N);
}

/* The only bits that match. */
static eq_status find_bits(eq_ctx *ctx, const linear *l)
{
    static const int BITS[] = {2, 3, 4, 8};
    int count = 0, found = 0;
    for (int i = 0; i < 4; i++) {
        if (!bits_match(l, BITS[i])) continue;
        found = BITS[i];
        count++;
    }
    bool other = count == 1 && l->packing->bits && l->packing->bits != found;
    if (count == 1 && !other) {
        l->packing->bits = found;
        set_bits(l->q, found);
        return EQ_OK;
    }
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: %s.qweight has %lld rows and .qzeros %lld columns, which for [%lld, %lld] "
                   "is %s (there is no quantization_config)",
                   eq_checkpoint_path(l->checkpoint), l->prefix, (long long)l->weight.shape[0],
                   (long long)l->zeros.shape[1], (long long)l->q->N, (long long)l->q->K,
                   other       ? "another number of bits than that of the linears before"
                   : count > 1 ? "more than one number of bits"
                               : "neither 2, 3, 4 nor 8 bits");
}

/* Groups of as many columns as in all linears before, or whole rows in all of them. */
static eq_status find_group(eq_ctx *ctx, const linear *l)
{
    eq_packing *p = l->packing;
    eq_qmatrix *q = l->q;
    int64_t groups = l->scales.shape[0];
    bool divides = groups > 0 && q->K % groups == 0, first = !p->group;
    q->g = divides ? q->K / groups : 0;
    bool same = divides && (first || q->g == p->group);
    p->whole = divides && q->g == q->K && (first || p->whole);
    p->group = same ? q->g : -1;
    if (same || p->whole) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: %s.scales has %lld rows for %lld columns, which is %s (there is no "
                   "quantization_config)",
                   eq_checkpoint_path(l->checkpoint), l->prefix, (long long)groups, (long long)q->K,
                   divides ? "another group than that of the linears before" : "no whole group");
}

static eq_status check_shape(eq_ctx *ctx, const linear *l, const char *part, const eq_tensor *t,
                             const int64_t shape[2])
{
    const eq_qmatrix *q = l->q;
    if (has_shape(t, shape)) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: %s.%s is %d-dimensional [%lld, %lld], expected [%lld, %lld] for [%lld, "
                   "%lld] at %d bits in groups of %lld",
                   eq_checkpoint_path(l->checkpoint), l->prefix, part, t->dims,
                   (long long)t->shape[0], (long long)t->shape[1], (long long)shape[0],
                   (long long)shape[1], (long long)q->N, (long long)q->K, q->bits, (long long)q->g);
}

static eq_status check_shapes(eq_ctx *ctx, const linear *l)
{
    const eq_qshapes s = eq_qmatrix_shapes(l->q);
    const eq_packing_format *f = l->packing->format;
    eq_status st = check_shape(ctx, l, f->weight, &l->weight, s.weight);
    if (st == EQ_OK && l->zeros.data) st = check_shape(ctx, l, f->zeros, &l->zeros, s.zeros);
    return st == EQ_OK ? check_shape(ctx, l, f->scales, &l->scales, s.scales) : st;
}

/* The shape of the weight that some formats store: N, K. */
static eq_status check_stored_shape(eq_ctx *ctx, const linear *l)
{
    eq_tensor t;
    int64_t stored[2] = {0};
    eq_status st = get_part(ctx, l, l->packing->format->shape, SIZES, &t);
    if (st != EQ_OK) return st;
    if (eq_tensor_elems(&t) == 2) memcpy(stored, t.data, sizeof stored);
    if (stored[0] == l->q->N && stored[1] == l->q->K) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s.%s is [%lld, %lld], expected [%lld, %lld]",
                   eq_checkpoint_path(l->checkpoint), l->prefix, l->packing->format->shape,
                   (long long)stored[0], (long long)stored[1], (long long)l->q->N,
                   (long long)l->q->K);
}

static int32_t order_at(const eq_tensor *t, int64_t k)
{
    int32_t group;
    memcpy(&group, (const char *)t->data + (size_t)k * sizeof group, sizeof group);
    return group;
}

/* Which group a column is of; the matrix keeps it only if it is not k / g. All -1 is what
 * compressed-tensors writes where there is no order. */
static eq_status read_order(eq_ctx *ctx, const linear *l)
{
    eq_tensor t;
    eq_qmatrix *q = l->q;
    const char *part = l->packing->format->order, *path = eq_checkpoint_path(l->checkpoint);
    int64_t ordinary = 0, unset = 0, groups = q->K / q->g;
    if (!has_part(l, part) && !l->packing->act_order) return EQ_OK;
    eq_status st = get_part(ctx, l, part, WORDS, &t);
    if (st != EQ_OK) return st;
    if (t.dims != 1 || t.shape[0] != q->K)
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s.%s has %lld groups of columns, expected %lld", path,
                       l->prefix, part, (long long)eq_tensor_elems(&t), (long long)q->K);
    for (int64_t k = 0; k < q->K; k++) {
        int32_t group = order_at(&t, k);
        ordinary += group == k / q->g;
        unset += q->layout.rows_first && group == -1;
        if (group < groups && unset == (group < 0 ? k + 1 : 0)) continue;
        return eq_fail(ctx, EQ_EFORMAT, "%s: %s.%s: column %lld is of group %d, expected 0 to %lld",
                       path, l->prefix, part, (long long)k, group, (long long)(groups - 1));
    }
    if (ordinary < q->K && !unset) q->order = t.data;
    return EQ_OK;
}

/* Some programs write a bias of zeros for linears that have none. */
static eq_status check_bias(eq_ctx *ctx, const linear *l)
{
    eq_tensor t;
    if (l->packing->biased || !has_part(l, "bias")) return EQ_OK;
    eq_status st = get_part(ctx, l, "bias", FLOATING, &t);
    size_t size = st == EQ_OK ? eq_elem_bytes(t.type) : 0;
    for (int64_t n = 0; st == EQ_OK && n < eq_tensor_elems(&t); n++) {
        float value = 0;
        eq_dtype_to_f32(&value, (const char *)t.data + (size_t)n * size, t.type, 1);
        if (value != 0)
            st = eq_fail(ctx, EQ_EFORMAT, "%s: %s.bias is not 0, but the model has no such bias",
                         eq_checkpoint_path(l->checkpoint), l->prefix);
    }
    return st;
}

bool eq_packing_has(const eq_checkpoint *checkpoint, const char *prefix)
{
    const linear l = {.checkpoint = checkpoint, .prefix = prefix};
    bool found = false;
    for (int i = 0; i < EQ_PACKINGS; i++)
        found = found || has_part(&l, eq_packing_format_get((eq_packing_kind)i)->weight);
    return found;
}

static eq_status get_parts(eq_ctx *ctx, linear *l)
{
    const eq_packing_format *f = l->packing->format;
    bool zeros = !f->layout.rows_first || has_part(l, f->zeros);
    eq_status st = get_part(ctx, l, f->weight, WORDS, &l->weight);
    if (st == EQ_OK && zeros) st = get_part(ctx, l, f->zeros, WORDS, &l->zeros);
    if (st == EQ_OK) st = get_part(ctx, l, f->scales, FLOATING, &l->scales);
    return st == EQ_OK && f->shape ? check_stored_shape(ctx, l) : st;
}

/* Bits, group and grid, from where the format has them. */
static eq_status find_grid(eq_ctx *ctx, const linear *l)
{
    if (l->packing->kind == EQ_PACKING_COMPRESSED) return take_scheme(ctx, l);
    if (l->packing->kind != EQ_PACKING_EFFICIENTQAT) return take_settings(ctx, l);
    eq_status st = find_bits(ctx, l);
    return st == EQ_OK ? find_group(ctx, l) : st;
}

eq_status eq_packing_linear(eq_ctx *ctx, eq_packing *packing, const eq_checkpoint *checkpoint,
                            const char *prefix, eq_qmatrix *q)
{
    linear l = {.checkpoint = checkpoint, .prefix = prefix, .packing = packing, .q = q};
    eq_status st = packing->format ? EQ_OK : eq_packing_read(ctx, packing, checkpoint);
    if (st != EQ_OK) return st;
    *q = (eq_qmatrix){.N = q->N, .K = q->K, .layout = packing->format->layout};
    st = get_parts(ctx, &l);
    if (st == EQ_OK) st = find_grid(ctx, &l);
    if (st == EQ_OK) st = check_shapes(ctx, &l);
    if (st == EQ_OK) st = read_order(ctx, &l);
    if (st == EQ_OK) st = check_bias(ctx, &l);
    q->qweight = l.weight.data;
    q->qzeros = l.zeros.data;
    q->scales = l.scales.data;
    q->scale_type = l.scales.type;
    return st;
}
