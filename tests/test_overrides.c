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
    const eq_override found = {.bits = bits, .group = group};
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
    const eq_override rows = {3, -1, true}, groups = {4, 32, false};
    assert_true(eq_override_add(dynamic, "model.layers.1.mlp.up_proj", &rows));
    assert_true(eq_override_add(dynamic, "model.layers.10.mlp.up_proj", &groups));
    assert_true(eq_override_add(dynamic, "model.layers.1", &groups)); /* all of this name */
    assert_non_null(json_object_get(dynamic, "+:^model\\.layers\\.1\\.mlp\\.up_proj$"));
    char *text = json_dumps(dynamic, 0);
    assert_true(fits(text, 3, K));
    assert_false(fits(text, 2, 64));
    assert_false(fits(text, 4, 32));
    free(text);
    json_decref(dynamic);
}

/* A name is not the beginning of another one; one that no module has is cut. */
static void whole_names(void **state)
{
    (void)state;
    const eq_override head = {8, 32, true}, base = {2, 64, false};
    eq_override said;
    char longest[600];
    memset(longest, '.', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    json_t *dynamic = json_object();
    assert_true(eq_override_add(dynamic, "lm_head", &head));
    assert_true(eq_override_add(dynamic, longest, &head));
    json_t *config = json_pack("{s:i, s:i, s:O}", "bits", 2, "group_size", 64, "dynamic", dynamic);
    assert_true(eq_override_allows(config, "lm_head", &head, K, &said));
    assert_false(eq_override_allows(config, "lm_head", &base, K, &said));
    assert_true(eq_override_allows(config, "lm_head2", &base, K, &said));
    assert_false(eq_override_allows(config, "lm_head.up_proj", &head, K, &said));
    json_decref(config);
    json_decref(dynamic);
}

/* The grid is said, not asked for. */
static void grids(void **state)
{
    (void)state;
    eq_override said;
    assert_true(allows("{\"" UP "\": {\"sym\": true}}", 2, 64, &said) && said.symmetric);
    assert_true(allows("{\"" UP "\": {\"sym\": false}}", 2, 64, &said) && !said.symmetric);
    assert_true(allows("{\"" UP "\": {\"sym\": 1}}", 2, 64, &said) && !said.symmetric);
    assert_true(allows("{\"-:lm_head\": {\"sym\": true}}", 2, 64, &said) && !said.symmetric);
    json_t *config = json_pack("{s:i, s:i, s:b}", "bits", 2, "group_size", 64, "sym", 1);
    const eq_override found = {.bits = 2, .group = 64};
    assert_true(eq_override_allows(config, "lm_head", &found, K, &said) && said.symmetric);
    json_decref(config);
}

/* auto-round's keys are whole names; what may be a pattern is not evaluated. */
static void extra_config(void **state)
{
    (void)state;
    json_t *config = json_loads("{\"bits\": 2, \"group_size\": 64, \"extra_config\": {\"a.b\": "
                                "{\"bits\": 8}, \"lm_head\": {\"bits\": 16}, \"c.*\": {\"bits\": "
                                "4, \"group_size\": 32, \"sym\": true}}}",
                                0, NULL);
    assert_non_null(config);
    const eq_override base = {2, 64, false}, eight = {8, 64, false}, four = {4, 32, false};
    eq_override said;
    assert_true(eq_override_allows(config, "a.b", &eight, K, &said));
    assert_false(eq_override_allows(config, "a.b", &base, K, &said));
    assert_false(eq_override_allows(config, "aXb", &eight, K, &said));
    assert_false(eq_override_allows(config, "a.b.c", &eight, K, &said));
    assert_false(eq_override_allows(config, "lm_head", &base, K, &said));
    assert_true(eq_override_allows(config, "c.d", &four, K, &said) && said.symmetric);
    assert_true(eq_override_allows(config, "c.d", &base, K, &said) && !said.symmetric);
    json_decref(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literal_keys_decide),
        cmocka_unit_test(other_modules_are_not_meant),
        cmocka_unit_test(patterns_let_pass_what_they_give),
        cmocka_unit_test(what_is_not_quantized_or_odd),
        cmocka_unit_test(what_is_added_is_found),
        cmocka_unit_test(whole_names),
        cmocka_unit_test(grids),
        cmocka_unit_test(extra_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
