/* Recipes: what rules do to the grids of a model's units, each way to be wrong, and that what is
 * written reads back. */
#include "base/file.h"
#include "quant/recipe.h"
#include "support_files.h"
#include "support_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { L = 5 };

static const eq_config CONFIG = {
    .L = L, .C = 64, .F = 96, .H = 4, .Hkv = 2, .D = 16, .V = 32, .positions = 64};
static const eq_scheme BASE = {.bits = 2, .group = 32};

static eq_ctx ctx;
static char *folder;

static eq_status read_text(eq_block_scheme schemes[L], const char *text)
{
    char path[256];
    for (int i = 0; i < L; i++)
        schemes[i] = eq_scheme_block(&BASE);
    folder_write(folder, "r.json", text);
    snprintf(path, sizeof path, "%s/r.json", folder);
    eq_ctx_clear(&ctx);
    return eq_recipe_read(&ctx, schemes, &CONFIG, path);
}

#define RULES(text) "{\"rules\": [" text "]}"

/* Bits and group of a unit in each block, as "4/32 2/32 ...". */
static void expect(const eq_block_scheme schemes[L], eq_unit unit, const char *expected)
{
    char text[128] = "";
    for (int i = 0; i < L; i++) {
        const eq_scheme *s = &schemes[i].units[unit];
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%s%d/%lld", n ? " " : "", s->bits,
                 (long long)s->group);
    }
    assert_string_equal(text, expected);
}

static void rules_are_applied_in_order(void **state)
{
    (void)state;
    eq_block_scheme s[L];
    assert_int_equal(
        read_text(s, RULES("{\"modules\": [\"down_proj\"], \"bits\": 4},"
                           "{\"layers\": \"0-1, 4\", \"modules\": [\"v_proj\", \"q_proj\","
                           " \"k_proj\"], \"bits\": 8, \"group\": -1},"
                           "{\"layers\": \"3\", \"group\": 16, \"comment\": \"all of block 3\"},"
                           "{\"layers\": \"4\", \"bits\": 3}")),
        EQ_OK);
    expect(s, EQ_QKV, "8/-1 8/-1 2/32 2/16 3/-1");
    expect(s, EQ_OUT, "2/32 2/32 2/32 2/16 3/32");
    expect(s, EQ_GATE_UP, "2/32 2/32 2/32 2/16 3/32");
    expect(s, EQ_DOWN, "4/32 4/32 4/32 4/16 3/32");
}

/* Parts of a unit may differ between rules, as long as they end equal. */
static void units_may_be_put_together_by_several_rules(void **state)
{
    (void)state;
    eq_block_scheme s[L];
    assert_int_equal(read_text(s, RULES("{\"modules\": [\"gate_proj\"], \"bits\": 4},"
                                        "{\"modules\": [\"up_proj\"], \"bits\": 4}")),
                     EQ_OK);
    expect(s, EQ_GATE_UP, "4/32 4/32 4/32 4/32 4/32");
    assert_int_equal(read_text(s, "{\"comment\": \"nothing\", \"rules\": []}"), EQ_OK);
    expect(s, EQ_DOWN, "2/32 2/32 2/32 2/32 2/32");
}

static void wrong_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } CASES[] = {
        {"[]", "r.json: is not a JSON object"},
        {"{\"rules\": [}", "r.json: line 1"},
        {"{}", "r.json: has no list of rules"},
        {"{\"rules\": {}}", "has no list of rules"},
        {"{\"rules\": [], \"rule\": 1}", "rules and comment, not \"rule\""},
        {RULES("7"), "r.json: rule 1: is not an object"},
        {RULES("{\"bits\": 4}, {\"bit\": 4}"), "r.json: rule 2: known keys are layers"},
        {RULES("{\"layers\": \"0\"}"), "rule 1: names neither bits, group nor grid"},
        {RULES("{\"bits\": 5}"), "rule 1: bits must be 2, 3, 4 or 8"},
        {RULES("{\"bits\": \"4\"}"), "bits must be"},
        {RULES("{\"bits\": 4.0}"), "bits must be"},
        {RULES("{\"bits\": null}"), "bits must be"},
        {RULES("{\"group\": 0}"), "rule 1: group must be"},
        {RULES("{\"group\": -2}"), "group must be"},
        {RULES("{\"layers\": 3, \"bits\": 4}"), "layers must be a text"},
        {RULES("{\"layers\": \"\", \"bits\": 4}"), "layers must be as \"0-3,29\", not \"\""},
        {RULES("{\"layers\": \"1,\", \"bits\": 4}"), "not \"1,\""},
        {RULES("{\"layers\": \"1 2\", \"bits\": 4}"), "not \"1 2\""},
        {RULES("{\"layers\": \"-1\", \"bits\": 4}"), "not \"-1\""},
        {RULES("{\"layers\": \"1-\", \"bits\": 4}"), "not \"1-\""},
        {RULES("{\"layers\": \"all\", \"bits\": 4}"), "not \"all\""},
        {RULES("{\"layers\": \"3-1\", \"bits\": 4}"), "begins behind its end: \"3-1\""},
        {RULES("{\"layers\": \"5\", \"bits\": 4}"), "layers 0 to 4, not all of \"5\""},
        {RULES("{\"layers\": \"0-99999999999999999999\", \"bits\": 4}"), "layers 0 to 4"},
        {RULES("{\"modules\": [\"qkv_proj\"], \"bits\": 4}"),
         "rule 1: modules are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, not "
         "\"qkv_proj\""},
        {RULES("{\"modules\": [1], \"bits\": 4}"), "modules are"},
        {RULES("{\"modules\": [], \"bits\": 4}"), "modules must be a list"},
        {RULES("{\"modules\": \"q_proj\", \"bits\": 4}"), "modules must be a list"},
        {RULES("{\"layers\": \"2\", \"modules\": [\"k_proj\"], \"bits\": 4}"),
         "r.json: block 2: q_proj has 2 bits in groups of 32 (asymmetric), k_proj 4 in groups"},
        {RULES("{\"modules\": [\"up_proj\"], \"group\": 16}"),
         "block 0: gate_proj has 2 bits in groups of 32 (asymmetric), up_proj 2 in groups of 16"},
        {RULES("{\"layers\": \"1\", \"group\": 48}"),
         "r.json: block 1: self_attn.q_proj: a group of 48 does not divide its row of 64"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        eq_block_scheme s[L];
        if (read_text(s, CASES[i].text) == EQ_OK) fail_msg("%s: was read", CASES[i].text);
        if (!strstr(ctx.message, CASES[i].message))
            fail_msg("%s: expected: %s", ctx.message, CASES[i].message);
    }
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    static const int BITS[L] = {4, 4, 2, 3, 4};
    eq_block_scheme s[L], again[L];
    char path[256], *text = NULL;
    size_t size;
    for (int i = 0; i < L; i++) {
        s[i] = eq_scheme_block(&BASE);
        s[i].units[EQ_DOWN].bits = BITS[i];
        s[i].units[EQ_QKV].group = i == 2 ? -1 : 16;
    }
    snprintf(path, sizeof path, "%s/w.json", folder);
    assert_int_equal(eq_recipe_write(&ctx, path, s, &CONFIG, "a \"comment\""), EQ_OK);
    assert_int_equal(eq_file_read(&ctx, path, 4096, &text, &size), EQ_OK);
    assert_non_null(strstr(text, "{\"layers\": \"0-1,4\", \"modules\": [\"down_proj\"], "
                                 "\"grid\": \"asymmetric\", \"bits\": 4, \"group\": 32}"));
    const eq_scheme other = {.bits = 8, .group = -1, .grid = EQ_GRID_SYMMETRIC};
    for (int i = 0; i < L; i++)
        again[i] = eq_scheme_block(&other);
    assert_int_equal(eq_recipe_read(&ctx, again, &CONFIG, path), EQ_OK);
    for (int i = 0; i < L; i++)
        for (int u = 0; u < EQ_UNITS; u++)
            assert_true(eq_scheme_equal(&s[i].units[u], &again[i].units[u]));
    eq_free(text);
}

static int setup(void **state)
{
    (void)state;
    context_init(&ctx, 1);
    folder = folder_make();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_are_applied_in_order),
        cmocka_unit_test(units_may_be_put_together_by_several_rules),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(what_is_written_reads_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
