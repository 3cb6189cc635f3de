#include "io/packing_settings.h"

#include "io/config_groups.h"
#include "io/json_file.h"

#include <strings.h>

static const eq_packing_format FORMATS[EQ_PACKINGS] = {
    [EQ_PACKING_GPTQ_V1] = {"GPTQ version 1", "qweight", "qzeros", "scales", "g_idx", NULL,
                            .layout = {.zero_offset = 1}},
    [EQ_PACKING_GPTQ_V2] = {"GPTQ version 2", "qweight", "qzeros", "scales", "g_idx", NULL,
                            .layout = {.zero_offset = 0}},
    [EQ_PACKING_AWQ] = {"AWQ", "qweight", "qzeros", "scales", "g_idx", NULL,
                        .layout = {.across = true, .interleaved = true}},
    [EQ_PACKING_EFFICIENTQAT] = {"EfficientQAT's layout", "qweight", "qzeros", "scales", "g_idx",
                                 NULL, .layout = {.padded = true}},
    [EQ_PACKING_COMPRESSED] = {"compressed-tensors", "weight_packed", "weight_zero_point",
                               "weight_scale", "weight_g_idx", "weight_shape",
                               .layout = {.rows_first = true}}};

const eq_packing_format *eq_packing_format_get(eq_packing_kind kind)
{
    return &FORMATS[kind];
}

static void set_kind(eq_packing *p, eq_packing_kind kind)
{
    p->kind = kind;
    p->format = &FORMATS[kind];
}

/* The settings that GPTQ, AWQ and auto-round have in common. */
static eq_status read_grid(eq_ctx *ctx, eq_packing *p, const json_t *c, const char *path)
{
    int64_t bits = json_integer_value(json_object_get(c, "bits"));
    bool awq = p->kind == EQ_PACKING_AWQ;
    if (awq ? bits != 4 : !eq_qmatrix_has_bits(bits))
        return eq_fail(ctx, EQ_EFORMAT, "%s: quantization_config: bits is %lld, expected %s", path,
                       (long long)bits, awq ? "4, as AWQ has" : "2, 3, 4 or 8");
    p->bits = (int)bits;
    p->group = json_integer_value(json_object_get(c, "group_size"));
    p->act_order = json_is_true(json_object_get(c, "desc_act"));
    return EQ_OK;
}

static eq_status read_gptq(eq_ctx *ctx, eq_packing *p, const json_t *c, const char *path)
{
    const char *format =
        eq_json_text_or(c, "checkpoint_format", eq_json_text_or(c, "format", "gptq"));
    bool first = !strcmp(format, "gptq");
    if (!first && strcmp(format, "gptq_v2"))
        return eq_fail(ctx, EQ_EFORMAT, "%s: GPTQ format \"%s\" is not read", path, format);
    set_kind(p, first ? EQ_PACKING_GPTQ_V1 : EQ_PACKING_GPTQ_V2);
    return read_grid(ctx, p, c, path);
}

static eq_status read_awq(eq_ctx *ctx, eq_packing *p, const json_t *c, const char *path)
{
    const char *version =
        eq_json_text_or(c, "version", eq_json_text_or(c, "checkpoint_format", "gemm"));
    if (strcasecmp(version, "gemm"))
        return eq_fail(ctx, EQ_EFORMAT, "%s: AWQ version \"%s\" is not read, gemm is", path,
                       version);
    set_kind(p, EQ_PACKING_AWQ);
    return read_grid(ctx, p, c, path);
}

/* Intel's auto-round has layouts of others; only what it calls auto_gptq stores zero points less
 * one. Activations of 16 bits or more are not quantized. */
static eq_status read_auto_round(eq_ctx *ctx, eq_packing *p, const json_t *c, const char *path)
{
    static const struct {
        const char *packing;
        eq_packing_kind kind;
    } KINDS[] = {{"auto_round:auto_gptq", EQ_PACKING_GPTQ_V1},
                 {"auto_round:gptqmodel", EQ_PACKING_GPTQ_V2},
                 {"auto_round:auto_awq", EQ_PACKING_AWQ},
                 {"auto_round", EQ_PACKING_GPTQ_V2}};
    const char *packing = eq_json_text_or(c, "packing_format", "(none)"),
               *type = eq_json_text_or(c, "data_type", "int");
    const json_t *activations = json_object_get(c, "act_bits");
    if (activations && !json_is_null(activations) && json_integer_value(activations) < 16)
        return eq_fail(ctx, EQ_EFORMAT, "%s: act_bits is %lld: quantized activations are not read",
                       path, (long long)json_integer_value(activations));
    if (strcmp(type, "int"))
        return eq_fail(ctx, EQ_EFORMAT, "%s: data_type \"%s\" is not read, int is", path, type);
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        if (strcmp(packing, KINDS[i].packing)) continue;
        set_kind(p, KINDS[i].kind);
        return read_grid(ctx, p, c, path);
    }
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: packing_format \"%s\" is not read; auto_round:auto_gptq, "
                   "auto_round:gptqmodel and auto_round:auto_awq are",
                   path, packing);
}

/* Bits and group are those of the first group of modules. */
static eq_status read_compressed(eq_ctx *ctx, eq_packing *p, const json_t *c, const char *path)
{
    eq_override first;
    eq_status st = eq_config_groups_check(ctx, c, path, &first, &p->act_order);
    if (st != EQ_OK) return st;
    set_kind(p, EQ_PACKING_COMPRESSED);
    p->bits = (int)first.bits;
    p->group = first.group;
    return EQ_OK;
}

eq_status eq_packing_read(eq_ctx *ctx, eq_packing *p, const eq_checkpoint *ck)
{
    static const struct {
        const char *method;
        eq_status (*read)(eq_ctx *ctx, eq_packing *p, const json_t *c, const char *path);
    } METHODS[] = {{"gptq", read_gptq},
                   {"eqat", read_gptq}, /* the same beside super-blocks */
                   {"awq", read_awq},
                   {"auto-round", read_auto_round},
                   {"intel/auto-round", read_auto_round},
                   {"compressed-tensors", read_compressed}};
    const json_t *c = json_object_get(eq_checkpoint_config(ck), "quantization_config");
    if (!json_is_object(c)) {
        set_kind(p, EQ_PACKING_EFFICIENTQAT);
        return EQ_OK;
    }
    const char *method = eq_json_text_or(c, "quant_method", "(none)"),
               *path = eq_checkpoint_path(ck);
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS; i++)
        if (!strcmp(method, METHODS[i].method)) return METHODS[i].read(ctx, p, c, path);
    return eq_fail(ctx, EQ_EFORMAT,
                   "%s: quantization method %s is not read; gptq, awq, auto-round and "
                   "compressed-tensors are",
                   path, method);
}
