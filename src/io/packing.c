#include "io/packing.h"

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

/* A part that is I32, or with `floating` F16, BF16 or F32. */
static eq_status get_part(eq_ctx *ctx, const linear *l, const char *part, bool floating,
                          eq_tensor *t)
{
    char name[NAME_BYTES];
    part_name(name, l, part);
    eq_status st = eq_checkpoint_tensor(ctx, l->checkpoint, name, t);
    if (st != EQ_OK) return st;
    bool real = t->type == EQ_F16 || t->type == EQ_BF16 || t->type == EQ_F32;
    if (floating ? real : t->type == EQ_I32) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s is %s, expected %s", eq_checkpoint_path(l->checkpoint),
                   name, eq_dtype_get(t->type)->name, floating ? "F16, BF16 or F32" : "I32");
}

/* quantization_config, or the absence of one. */
static eq_status read_settings(eq_ctx *ctx, eq_packing *p, const eq_checkpoint *ck)
{
    const char *path = eq_checkpoint_path(ck);
    const json_t *c = json_object_get(eq_checkpoint_config(ck), "quantization_config");
    p->known = true;
    p->by_shapes = !json_is_object(c);
    if (p->by_shapes) return EQ_OK;
    const char *method = json_string_value(json_object_get(c, "quant_method"));
    const char *format = json_string_value(json_object_get(c, "checkpoint_format"));
    if (!format) format = json_string_value(json_object_get(c, "format"));
    if (!method || strcmp(method, "gptq"))
        return eq_fail(ctx, EQ_EFORMAT, "%s: quantization method %s is not read, gptq is", path,
                       method ? method : "(none)");
    if (format && strcmp(format, "gptq") && strcmp(format, "gptq_v2"))
        return eq_fail(ctx, EQ_EFORMAT, "%s: GPTQ format \"%s\" is not read", path, format);
    int64_t bits = json_integer_value(json_object_get(c, "bits"));
    if (!eq_qmatrix_has_bits(bits))
        return eq_fail(ctx, EQ_EFORMAT,
                       "%s: quantization_config: bits is %lld, expected 2, 3, 4 or 8", path,
                       (long long)bits);
    p->bits = (int)bits;
    p->group = json_integer_value(json_object_get(c, "group_size"));
    p->zero_offset = !format || !strcmp(format, "gptq");
    p->act_order = json_is_true(json_object_get(c, "desc_act"));
    return EQ_OK;
}

/* Bits and group that the rows of qweight and scales have; -1 for what cannot be. */
static eq_override found_in_shapes(const linear *l)
{
    int64_t K = l->q->K, bits = l->weight.shape[0] * 32 / K, groups = l->scales.shape[0];
    bool fits = groups > 0 && K % groups == 0 && eq_qmatrix_fits(l->q->N, K, bits);
    return fits ? (eq_override){.bits = bits, .group = K / groups}
                : (eq_override){.bits = -1, .group = -1};
}

/* Bits and group by the configuration, which may have others for single modules. */
static eq_status take_settings(eq_ctx *ctx, const linear *l)
{
    eq_qmatrix *q = l->q;
    const json_t *config =
        json_object_get(eq_checkpoint_config(l->checkpoint), "quantization_config");
    eq_override found = found_in_shapes(l), said;
    if (!eq_override_allows(config, l->prefix, &found, q->K, &said)) found = said;
    q->zero_offset = l->packing->zero_offset;
    q->bits = (int)found.bits;
    q->g = found.group == -1 ? q->K : found.group;
    if (q->g > 0 && q->K % q->g == 0 && eq_qmatrix_fits(q->N, q->K, q->bits)) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT, "%s: %s: [%lld, %lld] does not fit %d bits in groups of %lld",
                   eq_checkpoint_path(l->checkpoint), l->prefix, (long long)q->N, (long long)q->K,
                   q->bits, (long long)found.group);
}

static void set_bits(eq_qmatrix *q, int bits)
{
    q->bits = bits;
    q->padded = 32 % bits != 0;
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
                             int64_t rows, int64_t columns)
{
    const eq_qmatrix *q = l->q;
    if (t->dims == 2 && t->shape[0] == rows && t->shape[1] == columns) return EQ_OK;
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: %s.%s is %d-dimensional [%lld, %lld], expected [%lld, %lld] for [%lld, "
                   "%lld] at %d bits in groups of %lld",
                   eq_checkpoint_path(l->checkpoint), l->prefix, part, t->dims,
                   (long long)t->shape[0], (long long)t->shape[1], (long long)rows,
                   (long long)columns, (long long)q->N, (long long)q->K, q->bits, (long long)q->g);
}

static eq_status check_shapes(eq_ctx *ctx, const linear *l)
{
    const eq_qmatrix *q = l->q;
    int64_t groups = q->K / q->g;
    eq_status st = check_shape(ctx, l, "qweight", &l->weight, eq_qmatrix_words(q, q->K), q->N);
    if (st == EQ_OK)
        st = check_shape(ctx, l, "qzeros", &l->zeros, groups, eq_qmatrix_words(q, q->N));
    return st == EQ_OK ? check_shape(ctx, l, "scales", &l->scales, groups, q->N) : st;
}

/* Groups that follow each other, as without activation order. */
static eq_status check_order(eq_ctx *ctx, const linear *l)
{
    eq_tensor t;
    const char *path = eq_checkpoint_path(l->checkpoint);
    if (!has_part(l, "g_idx") && !l->packing->act_order) return EQ_OK;
    eq_status st = get_part(ctx, l, "g_idx", false, &t);
    for (int64_t k = 0; st == EQ_OK && k < l->q->K; k++) {
        int32_t g = -1;
        if (k < eq_tensor_elems(&t)) memcpy(&g, (const char *)t.data + (size_t)k * 4, sizeof g);
        if (g != k / l->q->g)
            st = eq_fail(ctx, EQ_EFORMAT,
                         "%s: %s.g_idx: column %lld is of group %d, expected %lld: activation "
                         "order (desc_act) is not read",
                         path, l->prefix, (long long)k, g, (long long)(k / l->q->g));
    }
    return st;
}

/* Some programs write a bias of zeros for linears that have none. */
static eq_status check_bias(eq_ctx *ctx, const linear *l)
{
    eq_tensor t;
    if (!has_part(l, "bias")) return EQ_OK;
    eq_status st = get_part(ctx, l, "bias", true, &t);
    size_t size = st == EQ_OK ? eq_elem_bytes(t.type) : 0;
    for (int64_t n = 0; st == EQ_OK && n < eq_tensor_elems(&t); n++) {
        float value = 0;
        eq_dtype_to_f32(&value, (const char *)t.data + (size_t)n * size, t.type, 1);
        if (value != 0)
            st = eq_fail(ctx, EQ_EFORMAT, "%s: %s.bias is not 0: a bias is not supported",
                         eq_checkpoint_path(l->checkpoint), l->prefix);
    }
    return st;
}

eq_status eq_packing_linear(eq_ctx *ctx, eq_packing *packing, const eq_checkpoint *checkpoint,
                            const char *prefix, eq_qmatrix *q)
{
    linear l = {.checkpoint = checkpoint, .prefix = prefix, .packing = packing, .q = q};
    *q = (eq_qmatrix){.N = q->N, .K = q->K};
    eq_status st = get_part(ctx, &l, "qweight", false, &l.weight);
    if (st == EQ_OK) st = get_part(ctx, &l, "qzeros", false, &l.zeros);
    if (st == EQ_OK) st = get_part(ctx, &l, "scales", true, &l.scales);
    if (st == EQ_OK && !packing->known) st = read_settings(ctx, packing, checkpoint);
    if (st == EQ_OK && !packing->by_shapes) st = take_settings(ctx, &l);
    if (st == EQ_OK && packing->by_shapes) st = find_bits(ctx, &l);
    if (st == EQ_OK && packing->by_shapes) st = find_group(ctx, &l);
    if (st == EQ_OK) st = check_shapes(ctx, &l);
    if (st == EQ_OK) st = check_order(ctx, &l);
    if (st == EQ_OK) st = check_bias(ctx, &l);
    q->qweight = l.weight.data;
    q->qzeros = l.zeros.data;
    q->scales = l.scales.data;
    q->scale_type = l.scales.type;
    return st;
}
