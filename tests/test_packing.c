/* Packed linears as GPTQ programs and EfficientQAT's authors write them, put together bit by bit. */
#include "io/packing.h"

#include "support_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST = 128, MOST_LINEARS = 2, PARTS = 5 };

typedef folder_fixture fixture;

typedef enum kind { STREAM_V2, STREAM_V1, PADDED } kind;
typedef enum order { NO_ORDER, TRIVIAL, ACTIVATION, TOO_LARGE, NEGATIVE } order;

/* A linear to be written, and what is wrong with it. */
typedef struct spec {
    kind kind;
    int bits;
    int64_t N, K, g;
    eq_dtype scales;
    order order;
    bool has_bias;
    float bias;
    int missing[4]; /* rows of qweight, qzeros, scales, g_idx that are left out */
} spec;

static int code_of(const spec *s, int64_t n, int64_t k)
{
    return (int)((n * 7 + k * 3 + n * k / 5) % (1 << s->bits));
}

/* The group of column k. In activation order they take turns. */
static int64_t group_of(const spec *s, int64_t k)
{
    return s->order == ACTIVATION ? k % (s->K / s->g) : k / s->g;
}

static int zero_of(const spec *s, int64_t n, int64_t group)
{
    return (int)((n * 5 + group * 3) % (1 << s->bits)); /* 0 and the largest code among them */
}

/* A value that the type holds and, where it can, f16 does not. */
static float scale_of(const spec *s, int64_t n, int64_t group)
{
    float small = (float)(1 + n % 4) * 0.25f / (float)(1 << group % 4);
    return s->scales == EQ_F16 ? small : s->scales == EQ_BF16 ? small * 0x1p20f : small + 0x1p-20f;
}

/* Put value into field i of a column of words `stride` apart, bit by bit. */
static void put_field(uint32_t *words, int64_t stride, int64_t i, int value, const spec *s)
{
    int per_word = 32 / s->bits;
    for (int b = 0; b < s->bits; b++) {
        int64_t bit = i * s->bits + b;
        int64_t word = s->kind == PADDED ? i / per_word : bit / 32;
        int64_t at = s->kind == PADDED ? i % per_word * s->bits + b : bit % 32;
        words[word * stride] |= (uint32_t)(value >> b & 1) << at;
    }
}

static int64_t words_of(const spec *s, int64_t n)
{
    int per_word = 32 / s->bits;
    return s->kind == PADDED ? (n + per_word - 1) / per_word : (n * s->bits + 31) / 32;
}

/* The content of the parts, in the order of the file. */
typedef struct parts {
    uint32_t weight[MOST * MOST], zeros[MOST * MOST];
    float scales[MOST * MOST], bias[MOST];
    uint16_t halves[MOST * MOST];
    int32_t order[MOST];
} parts;

static void fill_words(parts *p, const spec *s)
{
    int64_t width = words_of(s, s->N);
    static const uint32_t ONES[] = {0, 0, 0x55555555, 0, 0x11111111, 0, 0, 0, 0x01010101};
    for (int64_t n = 0; n < s->N; n++) {
        for (int64_t k = 0; k < s->K; k++)
            put_field(p->weight + n, s->N, k, code_of(s, n, k), s);
        for (int64_t group = 0; group < s->K / s->g; group++) {
            int zero = zero_of(s, n, group);
            if (s->kind == STREAM_V1 && s->bits == 3) zero = (zero + 7) % 8;
            put_field(p->zeros + group * width, 1, n, zero, s);
        }
    }
    for (int64_t i = 0; s->kind == STREAM_V1 && i < s->K / s->g * width; i++)
        p->zeros[i] -= ONES[s->bits];
}

static void fill(parts *p, const spec *s)
{
    memset(p, 0, sizeof *p);
    fill_words(p, s);
    for (int64_t i = 0; i < s->K / s->g * s->N; i++) {
        p->scales[i] = scale_of(s, i % s->N, i / s->N);
        p->halves[i] = s->scales == EQ_F16 ? eq_f32_f16(p->scales[i]) : eq_f32_bf16(p->scales[i]);
    }
    for (int64_t k = 0; k < s->K; k++)
        p->order[k] = (int32_t)group_of(s, k);
    if (s->order == TOO_LARGE) p->order[60] = (int32_t)(s->K / s->g);
    if (s->order == NEGATIVE) p->order[60] = -1;
    p->bias[s->N - 1] = s->bias;
}

static int list_entries(eq_tensor_entry *entries, char (*names)[32], const spec *s, char letter)
{
    int64_t groups = s->K / s->g, width = words_of(s, s->N);
    const eq_tensor_entry all[PARTS] = {
        {"qweight", EQ_I32, 2, {words_of(s, s->K) - s->missing[0], s->N}},
        {"qzeros", EQ_I32, 2, {groups - s->missing[1], width}},
        {"scales", s->scales, 2, {groups - s->missing[2], s->N}},
        {"g_idx", EQ_I32, 1, {s->K - s->missing[3]}},
        {"bias", EQ_F32, 1, {s->N}}};
    int count = 0;
    for (int i = 0; i < PARTS; i++) {
        if ((i == 3 && s->order == NO_ORDER) || (i == 4 && !s->has_bias)) continue;
        snprintf(names[count], sizeof *names, "%c.%s", letter, all[i].name);
        entries[count] = all[i];
        entries[count].name = names[count];
        count++;
    }
    return count;
}

/* Linears "a", "b" as the file `file` of the folder, with config.json. */
static void write_linears(fixture *f, const char *config, const char *file, const spec *specs,
                          int count)
{
    eq_tensor_entry entries[MOST_LINEARS * PARTS];
    char names[MOST_LINEARS * PARTS][32];
    int total = 0;
    for (int i = 0; i < count; i++)
        total += list_entries(entries + total, names + total, &specs[i], (char)('a' + i));
    eq_safetensors_writer w;
    parts *p = malloc(sizeof *p);
    char *path = eq_path_join(&f->ctx, f->folder, file);
    assert_int_equal(eq_safetensors_begin(&f->ctx, &w, path, entries, total), EQ_OK);
    for (int i = 0, at = 0; i < count; i++) {
        const spec *s = &specs[i];
        fill(p, s);
        const void *scales = s->scales == EQ_F32 ? (const void *)p->scales : p->halves;
        const void *data[PARTS] = {p->weight, p->zeros, scales, p->order, p->bias};
        for (int part = 0; part < PARTS; part++) {
            if ((part == 3 && s->order == NO_ORDER) || (part == 4 && !s->has_bias)) continue;
            assert_int_equal(
                eq_safetensors_write(&w, data[part], eq_tensor_entry_bytes(&entries[at++])), EQ_OK);
        }
    }
    assert_int_equal(eq_safetensors_commit(&w), EQ_OK);
    folder_write(f->folder, "config.json", config);
    eq_free(path);
    free(p);
}

static eq_checkpoint *open_folder(fixture *f)
{
    eq_checkpoint *ck = NULL;
    eq_ctx_clear(&f->ctx);
    eq_status st = eq_checkpoint_open(&f->ctx, &ck, f->folder);
    assert_string_equal(f->ctx.message, "");
    assert_int_equal(st, EQ_OK);
    return ck;
}

/* How many weights, codes, scales and zero points are not those of the spec. */
static int differences(const eq_qmatrix *q, const spec *s)
{
    static float w[MOST * MOST], scales[MOST], zeros[MOST];
    uint8_t codes[MOST];
    int count = 0;
    eq_qmatrix_unpack(w, EQ_F32, q, 0, s->N);
    for (int64_t n = 0; n < s->N; n++) {
        eq_qmatrix_codes(codes, q, n);
        eq_qmatrix_grid(scales, zeros, q, n);
        for (int64_t k = 0; k < s->K; k++) {
            int64_t group = group_of(s, k);
            int code = code_of(s, n, k), zero = zero_of(s, n, group);
            float scale = scale_of(s, n, group);
            count += codes[k] != code || (int)zeros[group] != zero || scales[group] != scale ||
                     w[n * s->K + k] != (float)(code - zero) * scale;
        }
    }
    return count;
}

/* Linear "a" alone must read as the spec has it. */
static void expect_linear(fixture *f, const char *config, const spec *s)
{
    eq_packing packing = {0};
    eq_qmatrix q = {.N = s->N, .K = s->K};
    write_linears(f, config, "model.safetensors", s, 1);
    eq_checkpoint *ck = open_folder(f);
    eq_status st = eq_packing_linear(&f->ctx, &packing, ck, "a", &q);
    assert_string_equal(f->ctx.message, "");
    assert_int_equal(st, EQ_OK);
    assert_true(q.bits == s->bits && q.g == s->g && q.scale_type == s->scales);
    if (packing.kind == EQ_PACKING_EFFICIENTQAT) assert_int_equal(packing.bits, s->bits);
    assert_int_equal(differences(&q, s), 0);
    eq_checkpoint_close(ck);
}

#define GPTQ(bits, group, rest)                                                                    \
    "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":" #bits                          \
    ",\"group_size\":" #group rest "}}"
#define V2 ",\"checkpoint_format\":\"gptq_v2\""
#define V1 ",\"checkpoint_format\":\"gptq\""

static void config_text(char out[256], const spec *s, const char *rest)
{
    snprintf(
        out, 256,
        "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":%d,\"group_size\":%d%s}}",
        s->bits, (int)s->g, rest);
}

static const int BITS[] = {2, 3, 4, 8};
static const eq_dtype TYPES[] = {EQ_F16, EQ_BF16, EQ_F32};

/* Both versions, all bits, all types of scales; with and without the order of the groups. */
static void gptq(void **state)
{
    static const char *const REST[] = {V2, V1};
    static const order ORDERS[] = {NO_ORDER, TRIVIAL, ACTIVATION};
    for (int i = 0; i < 4 * 3 * 2; i++) {
        spec s = {.kind = i % 2 ? STREAM_V1 : STREAM_V2,
                  .bits = BITS[i / 6],
                  .N = 32,
                  .K = 96,
                  .g = 32,
                  .scales = TYPES[i / 2 % 3],
                  .order = ORDERS[i / 2 % 3],
                  .has_bias = i % 4 == 0};
        char config[256];
        config_text(config, &s, REST[i % 2]);
        expect_linear(*state, config, &s);
    }
}

/* The forms in which the settings are written. */
static void gptq_settings(void **state)
{
    const spec v2 = {STREAM_V2, 2, 32, 64, 32, .scales = EQ_F16};
    const spec v1 = {STREAM_V1, 2, 32, 64, 32, .scales = EQ_F16, .order = TRIVIAL};
    const spec rows = {STREAM_V2, 2, 32, 64, 64, .scales = EQ_F16};
    expect_linear(*state, GPTQ(2, 32, ",\"format\":\"gptq_v2\""), &v2);
    expect_linear(*state, GPTQ(2, 32, ""), &v1);
    expect_linear(*state, GPTQ(2, 32, ",\"sym\":true,\"desc_act\":false" V1), &v1);
    expect_linear(*state, GPTQ(2, 32, ",\"desc_act\":true" V1), &v1);
    expect_linear(*state, GPTQ(2, -1, V2), &rows);
    expect_linear(*state, GPTQ(4, -1, ",\"dynamic\":{\"+:a\":{\"bits\":2,\"group_size\":32}}" V2),
                  &v2);
}

/* EfficientQAT's layout; sizes that fill no whole words, and those that are unpacked by blocks. */
static void by_shapes(void **state)
{
    static const int64_t SHAPES[][3] = {{32, 96, 32}, {20, 50, 25}, {48, 128, 64}, {17, 72, 72}};
    for (int i = 0; i < 4 * 4; i++) {
        const int64_t *shape = SHAPES[i % 4];
        for (int t = 0; t < 3; t++) {
            spec s = {.kind = PADDED,
                      .bits = BITS[i / 4],
                      .N = shape[0],
                      .K = shape[1],
                      .g = shape[2],
                      .scales = TYPES[t],
                      .order = t == 2 ? ACTIVATION
                               : t    ? TRIVIAL
                                      : NO_ORDER};
            expect_linear(*state, t ? "{}" : "{\"quantization_config\":null}", &s);
        }
    }
}

/* The comparison above finds a single wrong code, zero point or scale. */
static void one_wrong_value_is_noticed(void **state)
{
    fixture *f = *state;
    const spec s = {PADDED, 3, 20, 50, 25, .scales = EQ_F32};
    eq_packing packing = {0};
    eq_qmatrix q = {.N = s.N, .K = s.K};
    write_linears(f, "{}", "model.safetensors", &s, 1);
    eq_checkpoint *ck = open_folder(f);
    assert_int_equal(eq_packing_linear(&f->ctx, &packing, ck, "a", &q), EQ_OK);
    const void **parts_of_q[] = {&q.qweight, &q.qzeros, &q.scales};
    const size_t sizes[] = {eq_qmatrix_bytes(&q), 2 * 2 * 4, 2 * 20 * 4};
    for (int i = 0; i < 3; i++) {
        const void *stored = *parts_of_q[i];
        uint8_t *copy = malloc(sizes[i]);
        memcpy(copy, stored, sizes[i]);
        *parts_of_q[i] = copy;
        assert_int_equal(differences(&q, &s), 0);
        copy[0] ^= 1;
        assert_int_equal(differences(&q, &s), i == 0 ? 1 : s.g);
        *parts_of_q[i] = stored;
        free(copy);
    }
    eq_checkpoint_close(ck);
}

/* Stored 2-bit zero points less one: 0 borrows from its neighbour in the word, and wraps alone at 3
 * bits. */
static void zero_points_wrap(void **state)
{
    (void)state;
    float s, z;
    const uint32_t weight[2] = {0}, four = 0x1u - 0x11111111u, three[3] = {7};
    const float scale[32] = {1};
    const eq_qmatrix q4 = {.bits = 4,
                           .N = 8,
                           .K = 8,
                           .g = 8,
                           .qweight = weight,
                           .qzeros = &four,
                           .scales = scale,
                           .scale_type = EQ_F32,
                           .layout = {.zero_offset = 1}};
    eq_qmatrix q3 = q4;
    q3.bits = 3;
    q3.N = q3.K = q3.g = 32;
    q3.qzeros = three;
    for (int64_t row = 0; row < 8; row++) {
        eq_qmatrix_grid(&s, &z, &q4, row);
        assert_true(z == (row ? 0 : 1)); /* the word was 1: first field 1, all others 0 */
    }
    for (int64_t row = 0; row < 3; row++) {
        eq_qmatrix_grid(&s, &z, &q3, row);
        assert_true(z == (row ? 1 : 0)); /* 7 is 0 less one, modulo 8; no carry into the next */
    }
}

/* Reading linears "a", then "b" fails with EQ_EFORMAT at the last one and a message with the folder
 * and `part`. */
static void refuse(fixture *f, const char *config, const spec *specs, int count, const char *part)
{
    eq_packing packing = {0};
    write_linears(f, config, "model.safetensors", specs, count);
    eq_checkpoint *ck = open_folder(f);
    for (int i = 0; i < count; i++) {
        const char prefix[] = {(char)('a' + i), 0};
        eq_qmatrix q = {.N = specs[i].N, .K = specs[i].K};
        eq_status st = eq_packing_linear(&f->ctx, &packing, ck, prefix, &q);
        assert_int_equal(st, i == count - 1 ? EQ_EFORMAT : EQ_OK);
    }
    if (!strstr(f->ctx.message, part) || !strstr(f->ctx.message, f->folder))
        fail_msg("%s: expected: %s", f->ctx.message, part);
    eq_checkpoint_close(ck);
}

static void settings_that_are_refused(void **state)
{
    static const char *const CASES[][2] = {
        {"{\"quantization_config\":{\"quant_method\":\"hqq\"}}", "method hqq is not read"},
        {"{\"quantization_config\":{}}", "method (none)"},
        {GPTQ(2, 32, ",\"format\":\"gptq_p\""), "gptq_p"},
        {GPTQ(5, 32, ""), "bits is 5"},
        {GPTQ(4, 32, ""), "a.qweight is 2-dimensional [4, 32], expected [8, 32]"},
        {GPTQ(2, 64, ""), "a.qzeros is 2-dimensional [2, 2], expected [1, 2]"},
        {GPTQ(2, 0, ""), "in groups of 0"},
        {GPTQ(2, -2, ""), "in groups of -2"},
        {GPTQ(2, 24, ""), "in groups of 24"},
        {GPTQ(2, -1, ""), "a.qzeros is 2-dimensional [2, 2], expected [1, 2]"},
        {GPTQ(2, 32, ",\"desc_act\":true"), "a.g_idx is not there"},
        {GPTQ(2, 32, ",\"dynamic\":{\"a\":{\"bits\":4}}"),
         "a.qweight is 2-dimensional [4, 32], expected [8, 32]"},
        {GPTQ(2, 32, ",\"dynamic\":{\"-:a\":{}}"), "does not fit 0 bits"},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":2}}", "in groups of 0"}};
    const spec s = {STREAM_V2, 2, 32, 64, 32, .scales = EQ_F16};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        refuse(*state, CASES[i][0], &s, 1, CASES[i][1]);
}

static void linears_that_are_refused(void **state)
{
    static const struct {
        const char *config, *part;
        spec spec;
    } CASES[] = {
        {GPTQ(2, 32, V2),
         "a.g_idx: column 60 is of group 2, expected 0 to 1",
         {STREAM_V2, 2, 32, 64, 32, .scales = EQ_F16, .order = TOO_LARGE}},
        {"{}",
         "a.g_idx: column 60 is of group -1, expected 0 to 1",
         {PADDED, 2, 32, 64, 32, .scales = EQ_F16, .order = NEGATIVE}},
        {GPTQ(2, 32, V2),
         "a.g_idx has 63 groups of columns, expected 64",
         {STREAM_V2, 2, 32, 64, 32, .scales = EQ_F16, .order = TRIVIAL, .missing = {0, 0, 0, 1}}},
        {GPTQ(2, 32, V2),
         "a.bias is not 0",
         {STREAM_V2, 2, 32, 64, 32, .scales = EQ_F16, .has_bias = true, .bias = 0.5f}},
        {GPTQ(2, 32, V2),
         "a.scales is I32, expected F16",
         {STREAM_V2, 2, 32, 64, 32, .scales = EQ_I32}},
        {GPTQ(2, 32, V2),
         "a.scales is 2-dimensional [1, 32], expected [2, 32]",
         {STREAM_V2, 2, 32, 64, 32, .scales = EQ_F16, .missing = {0, 0, 1}}},
        {GPTQ(3, 32, V2),
         "[20, 64] does not fit 3 bits",
         {STREAM_V2, 3, 20, 64, 32, .scales = EQ_F16}},
        /* a row of words less fits no bits; a row of zero points, no groups */
        {"{}", "a.qweight has 3 rows", {PADDED, 2, 32, 64, 32, .scales = EQ_F32, .missing = {1}}},
        {"{}",
         "a.qzeros is 2-dimensional [1, 4], expected [2, 4]",
         {PADDED, 3, 32, 64, 32, .scales = EQ_F32, .missing = {0, 1}}},
        {"{}",
         "a.qzeros is 2-dimensional [2, 4], expected [1, 4]",
         {PADDED, 3, 32, 64, 32, .scales = EQ_F32, .missing = {0, 0, 1}}},
        {"{}",
         "a.scales has 3 rows for 32 columns, which is no whole group",
         {PADDED, 3, 20, 32, 8, .scales = EQ_F32, .missing = {0, 0, 1}}},
        {"{}", "more than one number of bits", {PADDED, 2, 8, 8, 8, .scales = EQ_F32}}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        refuse(*state, CASES[i].config, &CASES[i].spec, 1, CASES[i].part);
}

/* Without a configuration, all linears must have the bits and groups of the first. */
static void linears_that_differ(void **state)
{
    const spec first = {PADDED, 2, 32, 64, 32, .scales = EQ_F16},
               rows = {PADDED, 2, 32, 64, 64, .scales = EQ_F16};
    const spec bits[] = {first, {PADDED, 4, 32, 64, 32, .scales = EQ_F16}};
    const spec group[] = {first, {PADDED, 2, 32, 64, 16, .scales = EQ_F16}};
    const spec not_rows[] = {rows, {PADDED, 2, 32, 96, 32, .scales = EQ_F16}};
    refuse(*state, "{}", bits, 2, "b.qweight has 8 rows and .qzeros 4 columns, which for [32, 64]");
    refuse(*state, "{}", group, 2, "b.scales has 4 rows for 64 columns, which is another group");
    refuse(*state, "{}", not_rows, 2, "b.scales has 3 rows for 96 columns, which is another group");
}

static int64_t group_of_two(fixture *f, const spec *specs)
{
    eq_packing packing = {0};
    write_linears(f, "{}", "model.safetensors", specs, 2);
    eq_checkpoint *ck = open_folder(f);
    for (int i = 0; i < 2; i++) {
        eq_qmatrix q = {.N = specs[i].N, .K = specs[i].K};
        assert_int_equal(eq_packing_linear(&f->ctx, &packing, ck, i ? "b" : "a", &q), EQ_OK);
        assert_int_equal(differences(&q, &specs[i]), 0);
    }
    eq_checkpoint_close(ck);
    return packing.group;
}

/* One group in the first linear is a whole row or a group of so many columns; the others tell. */
static void whole_rows(void **state)
{
    const spec first = {PADDED, 3, 32, 64, 64, .scales = EQ_F16};
    const spec rows[] = {first, {PADDED, 3, 64, 96, 96, .scales = EQ_F16}};
    const spec groups[] = {first, {PADDED, 3, 64, 128, 64, .scales = EQ_F16}};
    assert_int_equal(group_of_two(*state, rows), -1);
    assert_int_equal(group_of_two(*state, groups), 64);
}

/* Settings and weights where older programs put them. */
static void older_folders(void **state)
{
    fixture *f = *state;
    const spec s = {STREAM_V1, 4, 32, 64, 32, .scales = EQ_F16, .order = TRIVIAL};
    static const struct {
        const char *settings, *file;
    } CASES[] = {
        {"{\"bits\":4,\"group_size\":32,\"desc_act\":false}", "gptq_model-4bit-32g.safetensors"},
        {"{\"bits\":4,\"group_size\":32,\"model_file_base_name\":\"mine\"}", "mine.safetensors"},
        {"{\"bits\":4,\"group_size\":32,\"quant_method\":\"gptq\"}", "model.safetensors"}};
    for (int i = 0; i < 3; i++) {
        eq_packing packing = {0};
        eq_qmatrix q = {.N = s.N, .K = s.K};
        folder_write(f->folder, "quantize_config.json", CASES[i].settings);
        write_linears(f, "{}", CASES[i].file, &s, 1);
        eq_checkpoint *ck = open_folder(f);
        assert_int_equal(eq_packing_linear(&f->ctx, &packing, ck, "a", &q), EQ_OK);
        assert_int_equal(differences(&q, &s), 0);
        eq_checkpoint_close(ck);
    }
    /* What quantization_config says counts, and the fingerprint sees what is read. */
    refuse(f, GPTQ(2, 32, ""), &s, 1, "expected [4, 32]");
    write_linears(f, "{}", "model.safetensors", &s, 1);
    eq_checkpoint *ck = open_folder(f);
    uint64_t hash = eq_checkpoint_fingerprint(ck);
    eq_checkpoint_close(ck);
    folder_write(f->folder, "quantize_config.json", "{\"bits\":4,\"group_size\":-1}");
    ck = open_folder(f);
    assert_true(eq_checkpoint_fingerprint(ck) != hash);
    eq_checkpoint_close(ck);
}

static void cut_file(void **state)
{
    fixture *f = *state;
    const spec s = {PADDED, 3, 32, 64, 32, .scales = EQ_F32};
    write_linears(f, "{}", "model.safetensors", &s, 1);
    char *path = eq_path_join(&f->ctx, f->folder, "model.safetensors");
    eq_checkpoint *ck = open_folder(f);
    int64_t size = eq_checkpoint_bytes(ck);
    eq_checkpoint_close(ck);
    assert_int_equal(truncate(path, size - 4), 0);
    assert_int_equal(eq_checkpoint_open(&f->ctx, &ck, f->folder), EQ_EFORMAT);
    assert_non_null(strstr(f->ctx.message, "a.scales"));
    eq_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gptq, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(gptq_settings, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(by_shapes, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(one_wrong_value_is_noticed, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test(zero_points_wrap),
        cmocka_unit_test_setup_teardown(settings_that_are_refused, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(linears_that_are_refused, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(linears_that_differ, folder_fixture_make,
                                        folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(whole_rows, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(older_folders, folder_fixture_make, folder_fixture_destroy),
        cmocka_unit_test_setup_teardown(cut_file, folder_fixture_make, folder_fixture_destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
