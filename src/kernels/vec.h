/* What the SIMD kernels are written in: vectors of LANES floats. vec_avx2.h and vec_avx512.h supply
 * the operations, the only place with intrinsics; a kernels_<isa>.c includes one of them, then this
 * file, then the bodies.
 *
 *   v_part(left)               the lanes to work on when `left` elements remain; ALL: every lane
 *   v_load*(p, m) v_store*(p, a, m)   f32, bf16, f16 in memory of any alignment; lanes outside m
 *                              are read as 0 or not written, and their memory is not touched
 *   v_f16(p)                   one f16 as a number
 *   v_load_i8, _low, _high(p)  LANES bytes as signed numbers, or their lower or upper four bits
 *   v_codes(p, bits)           LANES packed codes (eq_codes_pack) as numbers; reads up to 16 bytes
 *   v_round                    to nearest, ties to even
 *   v_scale(a, n)              a 2^n for whole n in [-151, 129]
 *   v_min(a, b), v_max(a, b)   b when either is NaN
 *   v_less, v_equal            false for NaN
 *   v_fill(m, a, b)            a in the lanes of m, b in the others
 *   v_sum, v_largest           over all lanes, in an order that does not depend on the values
 */
#ifndef EQ_KERNELS_VEC_H
#define EQ_KERNELS_VEC_H

#include "kernels/loops.h"

/* Lanes m of the elements from i on, EQ_F32 or EQ_BF16. */
VEC vec v_get(const void *x, int64_t i, eq_dtype type, part m)
{
    if (type == EQ_F32) return v_load((const float *)x + i, m);
    return v_load_bf16((const char *)x + 2 * i, m);
}

VEC void v_put(void *x, int64_t i, eq_dtype type, vec a, part m)
{
    if (type == EQ_F32)
        v_store((float *)x + i, a, m);
    else
        v_store_bf16((char *)x + 2 * i, a, m);
}

VEC vec v_neg(vec a)
{
    return v_sub(v_set(-0.0f), a);
}

/* a b - c, rounded once. */
VEC vec v_fms(vec a, vec b, vec c)
{
    return v_fma(a, b, v_neg(c));
}

/* e^a to 2 units in the last place; 0 and infinity beyond the range of f32; NaN stays.
 * a = n ln 2 + r with |r| <= ln(2) / 2; e^r = 1 + r + r^2 p(r), p of degree 4, fitted to the
 * least largest relative error (4e-9). ln 2 is taken in two parts, so that r is exact to f32. */
VEC vec v_exp(vec a)
{
    a = v_min(v_set(89.0f), v_max(v_set(-105.0f), a));
    vec n = v_round(v_mul(a, v_set(0x1.715476p+0f)));
    vec r = v_fma(n, v_set(-0x1.62e43p-1f), a);
    r = v_fma(n, v_set(0x1.05c61p-29f), r);
    vec p = v_fma(r, v_set(0x1.6a23c8p-10f), v_set(0x1.123a2p-7f));
    p = v_fma(p, r, v_set(0x1.5558f4p-5f));
    p = v_fma(p, r, v_set(0x1.555492p-3f));
    p = v_fma(p, r, v_set(0x1.fffffcp-2f));
    vec e = v_add(v_fma(v_mul(r, r), p, r), v_set(1));
    return v_scale(e, n);
}

VEC vec v_sigmoid(vec a)
{
    return v_div(v_set(1), v_add(v_set(1), v_exp(v_neg(a))));
}

#endif
