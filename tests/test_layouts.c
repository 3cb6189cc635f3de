/* AWQ and compressed-tensors: linears whose bits are set one by one, read and written. */
#include "io/packing.h"

#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MOST = 128, PARTS = 5 };

typedef folder_fixture fixture;

/* A linear to be written, and what is wrong with it. */
typedef struct spec {
    eq_packing_kind kind; /* AWQ or compressed-tensors */
    int bits;
    int64_t N, K, g;
    eq_dtype scales;
    bool padded, symmetric, ordered;
    int change[PARTS]; /* added to the first dimension of weight, zeros, scales, shape, order */
    int wrong_order;   /* group of column 3, if not 0 */
    int64_t wrong_n;   /* added to the N that is stored */
} spec;

static int code_of(const spec *s, int64_t n, int64_t k)
{
    return (int)((n * 7 + k * 3 + n * k / 5) % (1 << s->bits));
}

static int zero_of(const spec *s, int64_t n, int64_t group)
{
    return s->symmetric ? 1 << (s->bits - 1) : (int)((n * 5 + group * 3) % (1 << s->bits));
}

/* Either sign; halves hold it. */
static float scale_of(int64_t n, int64_t group)
{
    return (n % 3 ? 0.25f : -0.5f) * (float)(1 + (n + group) % 4);
}

static int64_t group_of(const spec *s, int64_t k)
{
    return s->ordered ? (k * 5 + 1) % (s->K / s->g) : k / s->g;
}

static int64_t words_of(const spec *s, int64_t n)
{
    int per_word = 32 / s->bits;
    return s->padded ? (n + per_word - 1) / per_word : (n * s->bits + 31) / 32;
}

/* Bit b of field i of a line, as a bit of the line. */
static int64_t bit_of(const spec *s, int64_t i, int b)
{
    static const int OUTPUTS[] = {0, 2, 4, 6, 1, 3, 5, 7}; /* of AWQ's nibbles */
    int per_word = 32 / s->bits;
    if (s->kind != EQ_PACKING_AWQ)
        return (s->padded ? i / per_word * 32 + i % per_word * s->bits : i * s->bits) + b;
    int nibble = 0;
    while (OUTPUTS[nibble] != i % 8)
        nibble++;
    return i / 8 * 32 + 4 * nibble + b;
}

/* The content of the parts. */
typedef struct parts {
    uint32_t weight[MOST * MOST], zeros[MOST * MOST];
    float scales[MOST * MOST];
    uint16_t halves[MOST * MOST];
    int64_t shape[2];
    int32_t order[MOST];
} parts;

static void put_bit(uint32_t *words, int64_t word, int64_t bit, int value)
{
    words[word] |= (uint32_t)(value & 1) << bit;
}

static void fill(parts *p, const spec *s)
{
    bool awq = s->kind == EQ_PACKING_AWQ;
    int64_t groups = s->K / s->g, row = words_of(s, s->K);
    memset(p, 0, sizeof *p);
    for (int64_t n = 0; n < s->N; n++) {
        for (int64_t i = 0; i < s->K * s->bits; i++) {
            int64_t k = i / s->bits, bit = bit_of(s, awq ? n : k, (int)(i % s->bits));
            int64_t line = awq ? k * s->N / 8 : n * row;
            put_bit(p->weight, line + bit / 32, bit % 32, code_of(s, n, k) >> i % s->bits);
        }
        for (int64_t i = 0; i < groups * s->bits; i++) {
            int64_t group = i / s->bits, bit = bit_of(s, n, (int)(i % s->bits));
            int64_t word = awq ? group * s->N / 8 + bit / 32 : bit / 32 * groups + group;
            put_bit(p->zeros, word, bit % 32, zero_of(s, n, group) >> i % s->bits);
        }
        for (int64_t group = 0; group < groups; group++)
            p->scales[awq ? group * s->N + n : n * groups + group] = scale_of(n, group);
    }
    for (int64_t i = 0; i < groups * s->N; i++)
        p->halves[i] = s->scales == EQ_BF16 ? eq_f32_bf16(p->scales[i]) : eq_f32_f16(p->scales[i]);
    for (int64_t k = 0; k < s->K; k++)
        p->order[k] = s->ordered ? (int32_t)group_of(s, k) : -1;
    if (s->wrong_order) p->order[3] = s->wrong_order;
    p->shape[0] = s->N + s->wrong_n;
    p->shape[1] = s->K;
}

static int list_entries(eq_tensor_entry entries[PARTS], const void *data[PARTS], const spec *s,
                        const parts *p)
{
    bool awq = s->kind == EQ_PACKING_AWQ;
    int64_t groups = s->K / s->g, row = words_of(s, s->K), across = words_of(s, s->N);
    const eq_tensor_entry all[PARTS] = {
        {awq ? "a.qweight" : "a.weight_packed", EQ_I32, 2, {awq ? s->K : s->N, awq ? across : row}},
        {awq ? "a.qzeros" : "a.weight_zero_point",
         EQ_I32,
         2,
         {awq ? groups : across, awq ? across : groups}},
        {awq ? "a.scales" : "a.weight_scale",
         s->scales,
         2,
         {awq ? groups : s->N, awq ? s->N : groups}},
        {"a.weight_shape", EQ_I64, 1, {2}},
        {awq ? "a.g_idx" : "a.weight_g_idx", EQ_I32, 1, {s->K}}};
    const void *const content[PARTS] = {p->weight, p->zeros,
                                        s->scales == EQ_F32 ? (const void *)p->scales : p->halves,
                                        p->shape, p->order};
    int count = 0;
    for (int i = 0; i < PARTS; i++) {
        bool left_out = (i == 1 && s->symmetric) || (i == 3 && awq) || (i == 4 && awq);
        if (left_out || all[i].shape[0] + s->change[i] == 0) continue;
        data[count] = content[i];
        entries[count] = all[i];
        entries[count++].shape[0] += s->change[i];
    }
    return count;
}

static void write_linear(fixture *f, const char *config, const spec *s)
{
    eq_tensor_entry entries[PARTS];
    const void *data[PARTS];
    parts *p = malloc(sizeof *p);
    fill(p, s);
    int count = list_entries(entries, data, s, p);
    eq_safetensors_writer w;
    char *path = eq_path_join(&f->ctx, f->folder, "model.safetensors");
    assert_int_equal(eq_safetensors_begin(&f->ctx, &w, path, entries, count), EQ_OK);
    for (int i = 0; i < count; i++)
        assert_int_equal(eq_safetensors_write(&w, data[i], eq_tensor_entry_bytes(&entries[i])),
                         EQ_OK);
    assert_int_equal(eq_safetensors_commit(&w), EQ_OK);
    folder_write(f->folder, "config.json", config);
    eq_free(path);
    free(p);
}

static void config_text(char out[512], const spec *s, const char *rest)
{
    const char *tail = s->ordered ? ", \"actorder\": \"group\"" : "";
    if (s->kind == EQ_PACKING_AWQ)
        snprintf(out, 512,
                 "{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": %d, "
                 "\"group_size\": %d, \"version\": \"gemm\"%s}}",
                 s->bits, s->g == s->K ? -1 : (int)s->g, rest);
    else
        snprintf(out, 512,
                 "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": "
                 "\"pack-quantized\", \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], "
                 "\"weights\": {\"num_bits\": %d, \"type\": \"int\", \"symmetric\": %s, "
                 "\"strategy\": \"%s\", \"group_size\": %d%s}}}%s}}",
                 s->bits, s->symmetric ? "true" : "false", s->g == s->K ? "channel" : "group",
                 s->g == s->K ? -1 : (int)s->g, tail, rest);
}

static eq_checkpoint *open_linear(fixture *f, const char *config, const spec *s)
{
    eq_checkpoint *ck = NULL;
    write_linear(f, config, s);
    eq_ctx_clear(&f->ctx);
    eq_status st = eq_checkpoint_open(&f->ctx, &ck, f->folder);
    assert_string_equal(f->ctx.message, "");
    assert_int_equal(st, EQ_OK);
    return ck;
}

/* How many codes, zero points, scales and weights, all and in pieces, are not those of the spec. */
static int differences(const eq_qmatrix *q, const spec *s)
{
    static float w[MOST * MOST], scales[MOST], zeros[MOST];
    static uint16_t piece[MOST * MOST];
    uint8_t codes[MOST];
    int count = 0;
    eq_qmatrix_unpack(w, EQ_F32, q, 0, s->N);
    eq_qmatrix_unpack(piece, EQ_BF16, q, s->N / 8, s->N - s->N / 8);
    for (int64_t n = 0; n < s->N; n++) {
        eq_qmatrix_codes(codes, q, n);
        eq_qmatrix_grid(scales, zeros, q, n);
        for (int64_t k = 0; k < s->K; k++) {
            int64_t group = group_of(s, k), at = n * s->K + k, first = s->N / 8 * s->K;
            int code = code_of(s, n, k), zero = zero_of(s, n, group);
            float weight = (float)(code - zero) * scale_of(n, group);
            count += codes[k] != code || (int)zeros[group] != zero ||
                     scales[group] != scale_of(n, group) || w[at] != weight ||
                     (at >= first && piece[at - first] != eq_f32_bf16(weight));
            assert_int_equal(eq_qmatrix_group(q, k), group);
        }
    }
    return count;
}

/* What eq_qmatrix_pack makes of the codes are the bytes of the spec, and no more. */
static void check_packing(const eq_qmatrix *q, const spec *s)
{
    static uint8_t codes[MOST * MOST], zeros[MOST * MOST];
    static float scales[MOST * MOST];
    parts *want = malloc(sizeof *want), *got = calloc(1, sizeof *got);
    int64_t groups = s->K / s->g;
    fill(want, s);
    for (int64_t i = 0; i < s->N * s->K; i++)
        codes[i] = (uint8_t)code_of(s, i / s->K, i % s->K);
    for (int64_t i = 0; i < s->N * groups; i++) {
        zeros[i] = (uint8_t)zero_of(s, i / groups, i % groups);
        scales[i] = scale_of(i / groups, i % groups);
    }
    eq_qmatrix_pack(got->weight, got->zeros, got->halves, codes, zeros, scales, q);
    assert_memory_equal(got->weight, want->weight, sizeof got->weight);
    assert_memory_equal(got->zeros, want->zeros, sizeof got->zeros);
    if (s->scales == EQ_F16) assert_memory_equal(got->halves, want->halves, sizeof got->halves);
    free(want);
    free(got);
}

static void expect_linear(fixture *f, const char *config, const spec *s)
{
    eq_packing packing = {0};
    eq_qmatrix q = {.N = s->N, .K = s->K};
    eq_checkpoint *ck = open_linear(f, config, s);
    assert_true(eq_packing_has(ck, "a"));
    assert_false(eq_packing_has(ck, "b"));
    eq_status st = eq_packing_linear(&f->ctx, &packing, ck, "a", &q);
    assert_string_equal(f->ctx.message, "");
    assert_int_equal(st, EQ_OK);
    assert_int_equal(packing.kind, s->kind);
    assert_int_equal(packing.bits, s->bits);
    assert_int_equal(packing.group, s->g == s->K ? -1 : s->g);
    assert_true(q.bits == s->bits && q.g == s->g && q.scale_type == s->scales);
    assert_true(q.symmetric == s->symmetric && q.layout.padded == (s->padded && s->bits == 3));
    assert_int_equal(differences(&q, s), 0);
    check_packing(&q, s);
    eq_checkpoint_close(ck);
}

static void read_spec(fixture *f, const spec *s)
{
    char config[512];
    config_text(config, s, "");
    expect_linear(f, config, s);
}

static const eq_dtype TYPES[] = {EQ_F16, EQ_BF16, EQ_F32};

/* Blocks of rows and single ones, whole rows, sizes that are no whole runs. */
static void awq(void **state)
{
    static const int64_t SHAPES[][3] = {{32, 96, 32}, {24, 40, 8}, {48, 64, 64}, {8, 21, 7}};
    for (int i = 0; i < 4 * 3; i++) {
        const int64_t *shape = SHAPES[i / 3];
        const spec s = {.kind = EQ_PACKING_AWQ,
                        .bits = 4,
                        .N = shape[0],
                        .K = shape[1],
                        .g = shape[2],
                        .scales = TYPES[i % 3]};
        read_spec(*state, &s);
    }
}

/* All bits, grids and packings; N that fills no whole words of zero points. */
static void compressed(void **state)
{
    static const int64_t SHAPES[][3] = {{32, 96, 32}, {20, 72, 36}, {48, 64, 64}, {17, 63, 9}};
    static const int BITS[] = {2, 3, 4, 8};
    for (int i = 0; i < 4 * 4 * 4; i++) {
        const int64_t *shape = SHAPES[i % 4];
        const spec s = {.kind = EQ_PACKING_COMPRESSED,
                        .bits = BITS[i / 16],
                        .N = shape[0],
                        .K = shape[1],
                        .g = shape[2],
                        .scales = TYPES[i % 3],
                        .padded = i / 4 % 4 / 2,
                        .symmetric = i / 4 % 2,
                        .ordered = i % 5 == 0};
        read_spec(*state, &s);
    }
}

/* More groups than are kept at hand, in an order that drives them out. */
static void many_groups(void **state)
{
    const spec s = {.kind = EQ_PACKING_COMPRESSED,
                    .bits = 4,
                    .N = 17,
                    .K = 128,
                    .g = 1,
                    .scales = EQ_F16,
                    .ordered = true};
    read_spec(*state, &s);
}

/* The comparison finds a single wrong code, zero point, scale or group. */
static void one_wrong_value_is_noticed(void **state)
{
    fixture *f = *state;
    const spec s = {EQ_PACKING_COMPRESSED, 3, 20, 72, 36, .scales = EQ_F32, .padded = true,
                    .ordered = true};
    char config[512];
    eq_packing packing = {0};
    eq_qmatrix q = {.N = s.N, .K = s.K};
    config_text(config, &s, "");
    eq_checkpoint *ck = open_linear(f, config, &s);
    assert_int_equal(eq_packing_linear(&f->ctx, &packing, ck, "a", &q), EQ_OK);
    assert_int_equal(differences(&q, &s), 0);
    const eq_qshapes shapes = eq_qmatrix_shapes(&q);
    const void **parts_of_q[] = {&q.qweight, &q.qzeros, &q.scales};
    const int64_t *const sizes[] = {shapes.weight, shapes.zeros, shapes.scales};
    for (int i = 0; i < 3; i++) {
        const void *stored = *parts_of_q[i];
        size_t size = (size_t)(sizes[i][0] * sizes[i][1]) * 4;
        uint8_t *copy = malloc(size);
        memcpy(copy, stored, size);
        *parts_of_q[i] = copy;
        copy[0] ^= 1;
        assert_int_equal(differences(&q, &s), i == 0 ? 1 : s.g);
        *parts_of_q[i] = stored;
        free(copy);
    }
    eq_checkpoint_close(ck);
}

/* The forms in which the settings are written. */
static void settings(void **state)
{
    const spec s = {EQ_PACKING_AWQ, 4, 32, 64, 32, .scales = EQ_F16};
    expect_linear(*state,
                  "{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4, "
                  "\"group_size\": 32, \"version\": \"GEMM\", \"zero_point\": true, "
                  "\"modules_to_not_convert\": null}}",
                  &s);
    expect_linear(*state,
                  "{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4, "
                  "\"group_size\": 32, \"checkpoint_format\": \"gemm\"}}",
                  &s);
    expect_linear(*state,
                  "{\"quantization_config\": {\"quant_method\": \"auto-round\", \"bits\": 4, "
                  "\"group_size\": 32, \"sym\": false, \"data_type\": \"int\", \"act_bits\": 16, "
                  "\"packing_format\": \"auto_round:auto_awq\"}}",
                  &s);
}

#define LLM(groups, rest)                                                                          \
    "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"config_groups\": "     \
    "{" groups "}" rest "}}"
#define SCHEME(name, targets, bits, rest)                                                          \
    "\"" name "\": {\"targets\": [" targets "], \"weights\": {\"num_bits\": " bits "" rest "}}"
#define G32 ", \"group_size\": 32"

/* A scheme of several: that which names the module, else the one that has its shapes. */
static void schemes(void **state)
{
    const spec s = {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .scales = EQ_BF16, .symmetric = true};
    static const char *const CASES[] = {
        LLM(SCHEME("a", "\"Linear\"", "4", G32), ""),
        LLM(SCHEME("a", "\"Linear\"", "4", G32),
            ", \"ignore\": [\"lm_head\"], \"kv_cache_scheme\": null, \"sparsity_config\": {}, "
            "\"quantization_status\": \"compressed\", \"transform_config\": {}"),
        LLM(SCHEME("a", "\"re:.*x\"", "4", G32) "," SCHEME("b", "\"a\"", "4", G32), ""),
        LLM(SCHEME("a", "\"c\", \"a\"", "4", G32) "," SCHEME("b", "\"Linear\"", "8", G32), "")};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        expect_linear(*state, CASES[i], &s);
    /* Bits of the model are those of the first scheme. */
    eq_packing packing = {0};
    eq_qmatrix q = {.N = s.N, .K = s.K};
    fixture *f = *state;
    eq_checkpoint *ck =
        open_linear(f,
                    LLM(SCHEME("b", "\"re:.*\"", "8", G32) "," SCHEME("a", "\"Linear\"", "4", G32),
                        ", \"format\": \"mixed-precision\""),
                    &s);
    assert_int_equal(eq_packing_linear(&f->ctx, &packing, ck, "a", &q), EQ_OK);
    assert_true(packing.bits == 8 && q.bits == 4);
    assert_int_equal(differences(&q, &s), 0);
    eq_checkpoint_close(ck);
}

static void refuse(fixture *f, const char *config, const spec *s, const char *part)
{
    eq_packing packing = {0};
    eq_qmatrix q = {.N = s->N, .K = s->K};
    eq_checkpoint *ck = open_linear(f, config, s);
    eq_status st = eq_packing_linear(&f->ctx, &packing, ck, "a", &q);
    if (!strstr(f->ctx.message, part) || !strstr(f->ctx.message, f->folder))
        fail_msg("%s: expected: %s", f->ctx.message, part);
    assert_int_equal(st, EQ_EFORMAT);
    eq_checkpoint_close(ck);
}

static void settings_that_are_refused(void **state)
{
    const spec s = {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .scales = EQ_F16, .symmetric = true};
    static const char *const CASES[][2] = {
        {"{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4, \"version\": "
         "\"gemv\"}}",
         "AWQ version \"gemv\""},
        {"{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 8}}",
         "bits is 8, expected 4, as AWQ has"},
        {"{\"quantization_config\": {\"quant_method\": \"auto-round\", \"bits\": 4}}",
         "packing_format \"(none)\""},
        {"{\"quantization_config\": {\"quant_method\": \"auto-round\", \"packing_format\": "
         "\"auto_round:llm_compressor\"}}",
         "packing_format \"auto_round:llm_compressor\""},
        {"{\"quantization_config\": {\"quant_method\": \"auto-round\", \"act_bits\": 8}}",
         "act_bits is 8"},
        {"{\"quantization_config\": {\"quant_method\": \"auto-round\", \"data_type\": \"mx_fp\"}}",
         "data_type \"mx_fp\""},
        {LLM("", ""), "has no config_groups"},
        {LLM("\"W4A16\": [\"Linear\"]", ""), "W4A16: is no object"},
        {LLM("\"a\": {\"targets\": [\"Linear\"]}", ""), "a: has no weights"},
        {LLM(SCHEME("a", "\"b\"", "4", G32), ""), "a is a target of no group"},
        {LLM(SCHEME("a", "\"Linear\"", "5", G32), ""), "num_bits is 5"},
        {LLM(SCHEME("a", "\"Linear\"", "4", ""), ""), "group_size is 0"},
        {LLM(SCHEME("a", "\"Linear\"", "4", ", \"group_size\": 48"), ""), "in groups of 48"},
        {LLM(SCHEME("a", "\"Linear\"", "4", ", \"group_size\": 64"), ""),
         "a.weight_scale is 2-dimensional [32, 2], expected [32, 1]"},
        {LLM(SCHEME("a", "\"Linear\"", "8", G32), ""),
         "a.weight_packed is 2-dimensional [32, 8], expected [32, 16]"},
        {LLM(SCHEME("a", "\"Linear\"", "8", G32) "," SCHEME("b", "\"a\"", "2", G32), ""),
         "a.weight_packed is 2-dimensional [32, 8], expected [32, 4]"},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32 ", \"symmetric\": false"), ""),
         "a has no zero points, its scheme is not symmetric"},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32 ", \"strategy\": \"tensor\""), ""),
         "strategy \"tensor\""},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32 ", \"type\": \"float\""), ""), "type \"float\""},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32 ", \"dynamic\": true"), ""), "has dynamic"},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32 ", \"actorder\": \"group\""), ""),
         "a.weight_g_idx is not there"},
        {LLM("\"a\": {\"input_activations\": {\"num_bits\": 8}}", ""), "a: has input_activations"},
        {LLM("\"a\": {\"format\": \"int-quantized\"}", ""), "format \"int-quantized\""},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32), ", \"format\": \"marlin-24\""),
         "format \"marlin-24\" is not read, pack-quantized is"},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32), ", \"kv_cache_scheme\": {\"num_bits\": 8}"),
         "has kv_cache_scheme"},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32),
             ", \"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}"),
         "sparsity_config: format \"sparse-24-bitmask\""},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32), ", \"quantization_status\": \"frozen\""),
         "quantization_status \"frozen\""},
        {LLM(SCHEME("a", "\"Linear\"", "4", G32), ", \"transform_config\": {\"a\": 1}"),
         "has transform_config"}};
    spec plain = s;
    plain.change[4] = -64; /* without weight_g_idx */
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        refuse(*state, CASES[i][0], &plain, CASES[i][1]);
}

static void linears_that_are_refused(void **state)
{
    static const struct {
        const char *part;
        spec spec;
    } CASES[] = {
        {"a.qweight is 2-dimensional [65, 4], expected [64, 4]",
         {EQ_PACKING_AWQ, 4, 32, 64, 32, .change = {1}}},
        {"a.qzeros is 2-dimensional [1, 4], expected [2, 4]",
         {EQ_PACKING_AWQ, 4, 32, 64, 32, .change = {0, -1}}},
        {"a.scales is 2-dimensional [3, 32], expected [2, 32]",
         {EQ_PACKING_AWQ, 4, 32, 64, 32, .change = {0, 0, 1}}},
        {"a.qzeros is not there", {EQ_PACKING_AWQ, 4, 32, 64, 32, .change = {0, -2}}},
        {"a.weight_packed is 2-dimensional [33, 8], expected [32, 8]",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .change = {1}}},
        {"a.weight_zero_point is 2-dimensional [3, 2], expected [4, 2]",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .change = {0, -1}}},
        {"a.weight_scale is 2-dimensional [31, 2], expected [32, 2]",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .change = {0, 0, -1}}},
        {"a has no zero points", {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .change = {0, -4}}},
        {"a.weight_shape is not there",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .change = {0, 0, 0, -2}}},
        {"a.weight_shape is [0, 0], expected [32, 64]",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .change = {0, 0, 0, -1}}},
        {"a.weight_shape is [33, 64], expected [32, 64]",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .wrong_n = 1}},
        {"a.weight_g_idx has 63 groups of columns, expected 64",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .ordered = true, .change = {0, 0, 0, 0, -1}}},
        {"a.weight_g_idx: column 3 is of group 2, expected 0 to 1",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .ordered = true, .wrong_order = 2}},
        {"a.weight_g_idx: column 3 is of group -2, expected 0 to 1",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .wrong_order = -2}},
        {"a.weight_g_idx: column 3 is of group -1, expected 0 to 1",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .ordered = true, .wrong_order = -1}},
        {"a.weight_g_idx: column 3 is of group 1, expected 0 to 1",
         {EQ_PACKING_COMPRESSED, 4, 32, 64, 32, .wrong_order = 1}},
        {"whether 3 bits cross words cannot be told for [32, 16]",
         {EQ_PACKING_COMPRESSED, 3, 32, 16, 16, .symmetric = true}}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char config[512];
        config_text(config, &CASES[i].spec, "");
        refuse(*state, config, &CASES[i].spec, CASES[i].part);
    }
    /* N must fill words along which AWQ packs. */
    const spec narrow = {EQ_PACKING_AWQ, 4, 12, 64, 32, .scales = EQ_F16};
    char config[512];
    config_text(config, &narrow, "");
    refuse(*state, config, &narrow, "[12, 64] does not fit 4 bits");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(awq, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(compressed, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(many_groups, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(one_wrong_value_is_noticed, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(settings, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(schemes, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(settings_that_are_refused, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(linears_that_are_refused, folder_fixture_make,
                                        folder_fixture_destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
