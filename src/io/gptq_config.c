#include "io/gptq_config.h"

json_t *eq_gptq_config(const eq_override *base, bool lm_head, int version)
{
    const char *format = version == 1 ? "gptq" : "gptq_v2";
    json_t *q = json_pack("{s:s, s:s, s:I, s:I, s:b, s:b, s:b, s:s, s:s, s:s, s:b}", "quant_method",
                          "gptq", "method", "gptq", "bits", (json_int_t)base->bits, "group_size",
                          (json_int_t)base->group, "sym", base->symmetric, "desc_act", 0, "lm_head",
                          lm_head, "checkpoint_format", format, "format", format, "pack_dtype",
                          "int32", "true_sequential", 1);
    json_object_set_new(q, "meta", json_pack("{s:[s]}", "quantizer", "eqat:" EQAT_VERSION));
    return q;
}
