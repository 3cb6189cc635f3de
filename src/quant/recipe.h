/* A recipe: a JSON file that gives units of blocks bits and groups of their own.
 *
 *   {"comment": "any text",
 *    "rules": [
 *      {"modules": ["down_proj"], "bits": 4},
 *      {"layers": "0-3,29", "modules": ["q_proj", "k_proj", "v_proj"], "bits": 4, "group": 32}]}
 *
 * Rules are applied in order, so later ones win. Without `layers` a rule is for all blocks, without
 * `modules` for all linears; `grid` (also of super-blocks, "q3_k"), `bits` or `group` that it does
 * not name stay as they are. q, k and v of a block must end equal, and gate and up: each are one
 * product. */
#ifndef EQ_QUANT_RECIPE_H
#define EQ_QUANT_RECIPE_H

#include "quant/scheme.h"

/* Apply the rules of the file at `path` to schemes [L], which are in and out. EQ_EFORMAT names the
 * file, the rule and what is wrong; EQ_EINVAL names the block and linear that cannot be stored so.
 * After a failure schemes are as before or partly changed. */
eq_status eq_recipe_read(eq_ctx *ctx, eq_block_scheme *schemes, const eq_config *config,
                         const char *path);
/* Write schemes [L] as a file that gives them again, whatever the grids were before. */
eq_status eq_recipe_write(eq_ctx *ctx, const char *path, const eq_block_scheme *schemes,
                          const eq_config *config, const char *comment);

#endif
