/* Bits and groups of single modules in a quantization_config: what a key decides, and what it lets
 * pass. */
#include "io/overrides.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { K = 128 };

/* Whether a model of 2 bits in groups of 64 with these overrides may have, in module
 * "model.layers.1.mlp.up_proj", this. */
static bool allows(const char *dynamic, int64_t bits, int64_t group, eq_override *said)
{
    json_t *config = json_pack("{s:i, s:i}", "bits", 2, "group_size", 64);
    json_t *overrides = json_loads(dynamic, JSON_DECODE_ANY, NULL);
    assert_non_null(overrides);
    json_object_set_new(config, "dynamic", overrides);
    const eq_override found = {bits, group};
    bool fine = eq_override_allows(config, "model.layers.1.mlp.up_proj", &found, K, said);
    json_decref(config);
    return fine;
}

static bool fits(const char *dynamic, int64_t bits, int64_t group)
{
    eq_override unused;
    return allows(dynamic, bits, group, &unused);
}

#define UP "model\\\\.layers\\\\.1\\\\.mlp\\\\.up_proj"

static void literal_keys_decide(void **state)
{
    (void)state;
    static const char *const ENDS[] = {
        "{\"+:" UP "\": {\"bits\": 4, \"group_size\": 32}}",
        "{\"" UP "\": {\"bits\": 4, \"group_size\": 32}}",
        "{\"^" UP "$\": {\"bits\": 4, \"group_size\": 32}}",
        "{\"model\\\\.layers\\\\.1\": {\"bits\": 4, \"group_size\": 32}}"};
    for (size_t i = 0; i < sizeof ENDS / sizeof *ENDS; i++) {
        assert_true(fits(ENDS[i], 4, 32));
        assert_false(fits(ENDS[i], 2, 64)); /* what the others have */
        assert_false(fits(ENDS[i], 4, 64));
        assert_false(fits(ENDS[i], 3, 32));
    }
    /* The group of the model, and whole rows. */
    assert_true(fits("{\"" UP "\": {\"bits\": 4}}", 4, 64));
    assert_true(fits("{\"" UP "\": {\"group_size\": -1}}", 2, K));
    /* The first that matches. */
    const char *two = "{\"" UP "\": {\"bits\": 4}, \"+:" UP "\": {\"bits\": 8}}";
    assert_true(fits(two, 4, 64));
    assert_false(fits(two, 8, 64));
}

static void other_modules_are_not_meant(void **state)
{
    (void)state;
    static const char *const CASES[] = {
        "{}",
        "{\"+:model\\\\.layers\\\\.1\\\\.mlp\\\\.down_proj\": {\"bits\": 4}}",
        "{\"+:model\\\\.layers\\\\.11\\\\.mlp\\\\.up_proj\": {\"bits\": 4}}",
        "{\"+:layers\\\\.1\\\\.mlp\\\\.up_proj\": {\"bits\": 4}}",
        "{\"" UP "2\": {\"bits\": 4}}",
        "{\"model\\\\.layers$\": {\"bits\": 4}}",
        "{\"-:lm_head\": {}}",
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        assert_true(fits(CASES[i], 2, 64));
        assert_false(fits(CASES[i], 4, 64));
    }
}

static void patterns_let_pass_what_they_give(void **state)
{
    (void)state;
    const char *pattern = "{\"+:.*\\\\.[0-9]\\\\..*up.*\": {\"bits\": 8, \"group_size\": 32}}";
    assert_true(fits(pattern, 8, 32));
    assert_true(fits(pattern, 2, 64));
    assert_false(fits(pattern, 8, 64));
    assert_false(fits(pattern, 4, 32));
    /* Behind a literal key that matches, a pattern has no say; before it, it may have. */
    assert_false(fits("{\"" UP "\": {\"bits\": 4}, \".*\": {\"bits\": 8}}", 8, 64));
    assert_true(fits("{\".*\": {\"bits\": 8}, \"" UP "\": {\"bits\": 4}}", 8, 64));
    assert_false(fits("{\".*\": {\"bits\": 8}, \"" UP "\": {\"bits\": 4}}", 2, 64));
}

static void what_is_not_quantized_or_odd(void **state)
{
    (void)state;
    eq_override said;
    assert_false(allows("{\"-:" UP "\": {}}", 2, 64, &said));
    assert_int_equal(said.bits, 0);
    assert_false(allows("{\"" UP "\": {\"bits\": 3}}", 2, 64, &said));
    assert_int_equal(said.bits, 3);
    assert_int_equal(said.group, 64);
    /* No overrides at all, and values of other types. */
    assert_true(fits("[]", 2, 64));
    assert_true(fits("null", 2, 64));
    assert_true(fits("{\"" UP "\": 7}", 2, 64));
    assert_false(fits("{\"" UP "\": {\"bits\": \"4\"}}", 4, 64));
    assert_true(fits("{\"\\\\\": {\"bits\": 4}}", 2, 64)); /* ends in its escape */
}

static void what_is_added_is_found(void **state)
{
    (void)state;
    json_t *dynamic = json_object();
    assert_true(eq_override_add(dynamic, "model.layers.1.mlp.up_proj", &(eq_override){3, -1}));
    assert_true(eq_override_add(dynamic, "model.layers.10.mlp.up_proj", &(eq_override){4, 32}));
    assert_non_null(json_object_get(dynamic, "+:model\\.layers\\.1\\.mlp\\.up_proj"));
    char *text = json_dumps(dynamic, 0);
    assert_true(fits(text, 3, K));
    assert_false(fits(text, 2, 64));
    assert_false(fits(text, 4, 32));
    free(text);
    json_decref(dynamic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literal_keys_decide),
        cmocka_unit_test(other_modules_are_not_meant),
        cmocka_unit_test(patterns_let_pass_what_they_give),
        cmocka_unit_test(what_is_not_quantized_or_odd),
        cmocka_unit_test(what_is_added_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
