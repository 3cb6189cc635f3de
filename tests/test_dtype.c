#include "tensor/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Every f16 value survives the way to f32 and back; so the inverse and the subnormals are right. */
static void f16_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = eq_f16_f32((uint16_t)h);
        if (isnan(f)) continue;
        assert_int_equal(eq_f32_f16(f), h);
    }
}

static void f16_rounds_half_to_even(void **state)
{
    (void)state;
    assert_int_equal(eq_f32_f16(1.0f + 0x1p-11f), 0x3c00);     /* tie, down to even */
    assert_int_equal(eq_f32_f16(1.0f + 3 * 0x1p-11f), 0x3c02); /* tie, up to even */
    assert_int_equal(eq_f32_f16(65519.0f), 0x7bff);
    assert_int_equal(eq_f32_f16(65520.0f), 0x7c00); /* infinity */
    assert_int_equal(eq_f32_f16(0x1p-25f), 0);      /* tie with 0 */
    assert_int_equal(eq_f32_f16(0x1.8p-25f), 1);
}

static void bf16_rounds_half_to_even(void **state)
{
    (void)state;
    assert_int_equal(eq_f32_bf16(1.0f + 0x1p-8f), 0x3f80);
    assert_int_equal(eq_f32_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
    assert_true(isnan(eq_bf16_f32(eq_f32_bf16(NAN))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_round_trip),
        cmocka_unit_test(f16_rounds_half_to_even),
        cmocka_unit_test(bf16_rounds_half_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
