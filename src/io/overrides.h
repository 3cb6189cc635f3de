/* The member `dynamic` of a GPTQ quantization_config: bits, groups and grids that some modules
 * have instead of those of the model, as GPTQModel, vLLM and SGLang read it.
 *
 *   "dynamic": {"+:^model\\.layers\\.3\\.mlp\\.down_proj$": {"bits": 4, "group_size": 32,
 *                                                             "sym": false}, ...}
 *
 * A key is a regular expression that must match the beginning of the module's name, with "+:" or
 * nothing before it, or "-:" for modules that are not quantized; the first that matches decides.
 * auto-round has `extra_config` instead, with whole names as keys. */
#ifndef EQ_IO_OVERRIDES_H
#define EQ_IO_OVERRIDES_H

#include "base/context.h"
#include <jansson.h>

typedef struct eq_override {
    int64_t bits;   /* 0: not quantized */
    int64_t group;  /* group_size: -1 for whole rows */
    bool symmetric; /* sym: all zero points are the middle code */
} eq_override;

/* Whether `config`, a quantization_config, lets a module of rows of K columns have the bits and the
 * group (at least 1) of `found`. Keys that are a literal name are compared with it; those that are
 * a real pattern are not evaluated: where one could decide, what it gives is allowed as well.
 * said out: what the configuration says, the last of several possibilities. */
bool eq_override_allows(const json_t *config, const char *module, const eq_override *found,
                        int64_t K, eq_override *said);
/* Give a module an override, in `dynamic` (an object): the key is its escaped name from "^" to "$",
 * so that it is no other's. False when memory ran out. */
bool eq_override_add(json_t *dynamic, const char *module, const eq_override *value);

#endif
