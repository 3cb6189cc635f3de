/* Rows of keys and values to codes and back, see tensor/kv.h: plain loops that every table compiles
 * for itself, with the same bits as in all others. */
#ifndef EQ_KERNELS_KV_LOOPS_H
#define EQ_KERNELS_KV_LOOPS_H

#include "kernels/loops.h"

/* Levels of `count` neighbouring elements: x^ = s q + m, low <= q <= high. */
typedef struct kv_grid {
    float s, m, low, high;
} kv_grid;

/* A row has one grid in 8 bits, and two in 4. */
static inline int64_t kv_parts(int bits)
{
    return bits == 8 ? 1 : 2;
}

static inline float kv_f16(float x)
{
    const float most = 65504;
    return eq_f16_f32(eq_f32_f16(x > most ? most : x < -most ? -most : x));
}

/* The grid of elements first .. first+n-1 of x. */
static inline kv_grid kv_choose(const void *x, int64_t first, int64_t n, int bits, eq_dtype type)
{
    float least = INFINITY, most = -INFINITY;
    bool finite = true;
    for (int64_t i = 0; i < n; i++) {
        const float value = get(x, first + i, type);
        least = value < least ? value : least;
        most = value > most ? value : most;
        finite &= fabsf(value) < INFINITY;
    }
    kv_grid g = {NAN, 0, -127, 127};
    if (bits == 8) {
        if (finite) g.s = kv_f16((most > -least ? most : -least) / 127);
        return g;
    }
    g.low = 0;
    g.high = 15;
    if (!finite) return g;
    g.m = kv_f16(least);
    g.s = kv_f16((most - g.m) / 15);
    return g;
}

static inline float kv_code(float x, const kv_grid *g)
{
    const float q = rintf((x - g->m) / g->s);
    if (!(g->s > 0)) return 0;
    return q < g->low ? g->low : q > g->high ? g->high : q;
}

static inline float kv_number(float code, const kv_grid *g)
{
    return g->s * code + g->m;
}

static void kv_pack(const eq_kv_row *row, const void *x, int64_t D, int bits, eq_dtype type)
{
    const int64_t parts = kv_parts(bits), n = D / parts;
    for (int64_t p = 0; p < parts; p++) {
        const kv_grid g = kv_choose(x, p * n, n, bits, type);
        row->grid[p * row->grid_step] = eq_f32_f16(g.s);
        if (bits == 4) row->grid[(p + parts) * row->grid_step] = eq_f32_f16(g.m);
        for (int64_t i = 0; i < n; i++) {
            const int code = (int)kv_code(get(x, p * n + i, type), &g);
            uint8_t *byte = &row->codes[i * row->code_step];
            *byte = (uint8_t)(p ? *byte | code << 4 : code);
        }
    }
}

/* The grid of part p of a packed row, and the code of that part in a byte. */
static inline kv_grid kv_grid_of(const eq_kv_row *row, int64_t p, int bits)
{
    kv_grid g = {.s = eq_f16_f32(row->grid[p * row->grid_step])};
    if (bits == 4) g.m = eq_f16_f32(row->grid[(p + 2) * row->grid_step]);
    return g;
}

static inline float kv_code_of(uint8_t byte, int64_t p, int bits)
{
    return bits == 8 ? (int8_t)byte : p ? byte >> 4 : byte & 15;
}

/* One element of a packed row. */
static inline float kv_element(const eq_kv_row *row, int64_t d, int64_t D, int bits)
{
    const int64_t n = D / kv_parts(bits), p = d / n;
    const kv_grid g = kv_grid_of(row, p, bits);
    return kv_number(kv_code_of(row->codes[d % n * row->code_step], p, bits), &g);
}

static void kv_unpack(void *x, const eq_kv_row *row, int64_t D, int bits, eq_dtype type)
{
    const int64_t parts = kv_parts(bits), n = D / parts;
    for (int64_t p = 0; p < parts; p++) {
        const kv_grid g = kv_grid_of(row, p, bits);
        for (int64_t i = 0; i < n; i++) {
            const float code = kv_code_of(row->codes[i * row->code_step], p, bits);
            put(x, p * n + i, type, kv_number(code, &g));
        }
    }
}

static void kv_round(void *x, int64_t D, int bits, eq_dtype type)
{
    const int64_t parts = kv_parts(bits), n = D / parts;
    for (int64_t p = 0; p < parts; p++) {
        const kv_grid g = kv_choose(x, p * n, n, bits, type);
        for (int64_t i = p * n; i < (p + 1) * n; i++)
            put(x, i, type, kv_number(kv_code(get(x, i, type), &g), &g));
    }
}

#endif
