#include "export/ggml_grid.h"
#include "tensor/super_block.h"

#include <math.h>

const eq_ggml_grid eq_ggml_grids[EQ_GGML_GRIDS] = {
    {.type = EQ_TQ2_0, .low = -1, .high = 1},
    {.type = EQ_Q2_0, .low = -1, .high = 2},
    {.type = EQ_Q2_K, .most = 3, .sub = 16},
    {.type = EQ_Q3_K, .low = -4, .high = 3},
    {.type = EQ_Q4_0, .low = -8, .high = 7},
    {.type = EQ_Q4_K, .most = 15, .sub = 32},
    {.type = EQ_Q4_1, .most = 15, .sub = 32, .rounds = true},
    {.type = EQ_Q5_0, .low = -16, .high = 15},
    {.type = EQ_Q8_0, .low = -128, .high = 127},
};

/* Sub-blocks of Q2_K and Q4_K have an offset of whole steps, this many at most here: 4 bits in the
 * one, and of the 6 in the other no more than zero points of 4 bits need. */
enum { MOST_OFFSET = 15 };

static int64_t block_columns(const eq_ggml_grid *grid)
{
    return eq_dtype_get(grid->type)->block_elems;
}

static bool is_half(float s)
{
    return isfinite(s) && eq_f16_f32(eq_f32_f16(s)) == s;
}

/* One scale, a half, for the block of n columns from k on. */
static bool one_scale(const eq_grid_row *r, int64_t k, int64_t n)
{
    for (int64_t i = k; i < k + n; i++)
        if (r->s[i] != r->s[k]) return false;
    return is_half(r->s[k]);
}

static void level_range(const eq_grid_row *r, int64_t k, int64_t n, int *least, int *largest)
{
    *least = *largest = r->q[k] - r->z[k];
    for (int64_t i = k; i < k + n; i++) {
        int level = r->q[i] - r->z[i];
        if (level < *least) *least = level;
        if (level > *largest) *largest = level;
    }
}

/* 1 or -1: the levels of a block fit as they are or negated; else 0. */
static int level_sign(const eq_ggml_grid *grid, const eq_grid_row *r, int64_t k)
{
    int least, largest;
    level_range(r, k, block_columns(grid), &least, &largest);
    if (least >= grid->low && largest <= grid->high) return 1;
    return -largest >= grid->low && -least <= grid->high ? -1 : 0;
}

/* The offset of Q4_1 for the zero point z. */
static float offset_of(float s, int z)
{
    return eq_f16_f32(eq_f32_f16(-s * (float)z));
}

/* Codes and offsets of a block that has one scale. */
static bool offsets_fit(const eq_ggml_grid *grid, const eq_grid_row *r, int64_t k, float *error)
{
    for (int64_t i = k; i < k + block_columns(grid); i++) {
        if (r->q[i] > grid->most || r->z[i] != r->z[i - i % grid->sub]) return false;
        if (!grid->rounds && r->z[i] > MOST_OFFSET) return false;
        if (!grid->rounds) continue;
        float off = fabsf(offset_of(r->s[i], r->z[i]) + r->s[i] * (float)r->z[i]);
        if (!isfinite(off)) return false;
        if (off > *error) *error = off;
    }
    return true;
}

bool eq_ggml_grid_holds(const eq_ggml_grid *grid, const eq_grid_row *r, float *error)
{
    int64_t n = block_columns(grid);
    if (r->K % n) return false;
    for (int64_t k = 0; k < r->K; k += n) {
        if (!one_scale(r, k, n)) return false;
        if (grid->most ? !offsets_fit(grid, r, k, error) : !level_sign(grid, r, k)) return false;
    }
    return true;
}

/* Codes of 32 columns in half bytes: of i < 16 low, of i >= 16 high. */
static void put_4(uint8_t *out, const uint8_t *code)
{
    for (int j = 0; j < 16; j++)
        out[j] = (uint8_t)((code[j] & 15) | (code[j + 16] & 15) << 4);
}

static void pack_q2_0(uint8_t *out, const uint8_t *code, float d)
{
    eq_ggml_put_half(out, d);
    memset(out + 2, 0, 16);
    for (int e = 0; e < 64; e++)
        out[2 + e / 4] |= (uint8_t)(code[e] << 2 * (e % 4));
}

static void pack_tq2_0(uint8_t *out, const uint8_t *code, float d)
{
    eq_ggml_put_rounds(out, code);
    eq_ggml_put_half(out + 64, d);
}

static void pack_q4_0(uint8_t *out, const uint8_t *code, float d)
{
    eq_ggml_put_half(out, d);
    put_4(out + 2, code);
}

static void pack_q5_0(uint8_t *out, const uint8_t *code, float d)
{
    eq_ggml_put_half(out, d);
    memset(out + 2, 0, 4);
    for (int e = 0; e < 32; e++)
        out[2 + e / 8] |= (uint8_t)((code[e] >> 4) << e % 8);
    put_4(out + 6, code);
}

static void pack_q8_0(uint8_t *out, const uint8_t *code, float d)
{
    eq_ggml_put_half(out, d);
    for (int e = 0; e < 32; e++)
        out[2 + e] = (uint8_t)(code[e] - 128);
}

/* Scales of 1, and offsets of z steps. */
static void pack_super(uint8_t *out, const eq_ggml_grid *grid, const uint8_t *code, float d,
                       const int16_t *z)
{
    eq_super_block block = {.d = d, .dmin = z ? d : 0};
    for (int i = 0; i < EQ_GGML_MOST_GROUPS; i++) {
        block.scale[i] = 1;
        if (z && i < EQ_SUPER_BLOCK / grid->sub) block.min[i] = (uint8_t)z[grid->sub * i];
    }
    eq_super_block_write(out, grid->type, &block, code);
}

/* Types of levels: code = level - low, and low stands for -8 in Q4_0 and so on. */
static void pack_levels(uint8_t *out, const eq_ggml_grid *grid, const eq_grid_row *r, int64_t k)
{
    uint8_t code[256];
    const int sign = level_sign(grid, r, k);
    for (int64_t i = 0; i < block_columns(grid); i++)
        code[i] = (uint8_t)(sign * (r->q[k + i] - r->z[k + i]) - grid->low);
    float d = (float)sign * r->s[k];
    switch (grid->type) {
    case EQ_Q2_0:
        pack_q2_0(out, code, d);
        break;
    case EQ_TQ2_0:
        pack_tq2_0(out, code, d);
        break;
    case EQ_Q3_K:
        pack_super(out, grid, code, d, NULL);
        break;
    case EQ_Q4_0:
        pack_q4_0(out, code, d);
        break;
    case EQ_Q5_0:
        pack_q5_0(out, code, d);
        break;
    default:
        pack_q8_0(out, code, d);
    }
}

static void pack_offsets(uint8_t *out, const eq_ggml_grid *grid, const eq_grid_row *r, int64_t k)
{
    uint8_t code[256];
    for (int64_t i = 0; i < block_columns(grid); i++)
        code[i] = (uint8_t)r->q[k + i];
    if (grid->type != EQ_Q4_1) {
        pack_super(out, grid, code, r->s[k], r->z + k);
        return;
    }
    eq_ggml_put_half(out, r->s[k]);
    eq_ggml_put_half(out + 2, offset_of(r->s[k], r->z[k]));
    put_4(out + 4, code);
}

void eq_ggml_grid_pack(uint8_t *out, const eq_ggml_grid *grid, const eq_grid_row *r)
{
    const eq_dtype_info *info = eq_dtype_get(grid->type);
    for (int64_t k = 0; k < r->K; k += info->block_elems, out += info->block_bytes) {
        if (grid->most)
            pack_offsets(out, grid, r, k);
        else
            pack_levels(out, grid, r, k);
    }
}
