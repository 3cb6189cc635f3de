/* The schemes in a compressed-tensors quantization_config: groups of modules that are quantized
 * alike.
 *
 *   "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int",
 *     "symmetric": false, "strategy": "group", "group_size": 64, ...}, ...}, ...}
 *
 * A target is the name of a module, a class of modules, or "re:" and a regular expression that must
 * match the beginning of a name. */
#ifndef EQ_IO_CONFIG_GROUPS_H
#define EQ_IO_CONFIG_GROUPS_H

#include "io/overrides.h"

/* Refuse with EQ_EFORMAT, by path, group and setting, all but weights of 2, 3, 4 or 8 bits packed
 * as integers, by groups of columns or whole rows, and anything else that is quantized, sparse or
 * transformed.
 *
 * first    out  the first scheme
 * ordered  out  whether columns of a scheme have an order of their own (actorder: group) */
eq_status eq_config_groups_check(eq_ctx *ctx, const json_t *config, const char *path,
                                 eq_override *first, bool *ordered);
/* Scheme i of those that a module may have: those that name it, or if none does, those with a class
 * or a regular expression, which is not evaluated. False when there are no more. */
bool eq_config_groups_get(const json_t *config, const char *module, int i, eq_override *scheme);

#endif
