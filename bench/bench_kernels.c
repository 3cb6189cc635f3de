/* Speed of every kernel in every table, on one thread.   Usage: bench_kernels [WORD], to run only
 * the kernels whose name contains WORD.
 *
 * For each instruction set two columns: nanoseconds per element of our table, and how many times
 * faster that is than the compiler's own vectorization of the reference. The rows are as long as in
 * a model of width 576; a case works on about 1 MB, so that it measures the second-level cache. */
#include "base/context.h"
#include "base/rng.h"
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>

extern const eq_kernels eq_kernels_ref_avx2, eq_kernels_ref_avx512;

enum { C = 576, F = 1536, T = 512, V = 49152, ROWS = 128, ALL = ROWS * C, LARGEST = 2 * ROWS * F };
static const double SECONDS = 0.01;
/* Buffers must not start at the same place of a page: stores would delay loads that only look like
 * the same address. STAGGER is in floats. */
enum { TRIES = 5, STAGGER = 176 };

typedef struct work {
    float *a, *b, *c, *d, *e; /* each LARGEST floats */
    eq_dtype type;
    int bits, g;
} work;

typedef struct bench_case {
    const char *name;
    void (*run)(const eq_kernels *k, work *w);
    int64_t elems; /* per call */
    double bytes;  /* read and written per element */
    eq_dtype type; /* of the typed buffers, or of what is unpacked */
    int bits, g;
} bench_case;

static void to_bf16(const eq_kernels *k, work *w)
{
    k->f32_to_bf16((uint16_t *)w->a, w->b, ALL);
}

static void to_f32(const eq_kernels *k, work *w)
{
    k->bf16_to_f32(w->a, (const uint16_t *)w->b, ALL);
}

static void unpack_f32(const eq_kernels *k, work *w)
{
    k->unpack(w->a, EQ_F32, w->e, w->type, ALL);
}

static void unpack_bf16(const eq_kernels *k, work *w)
{
    k->unpack(w->a, EQ_BF16, w->e, w->type, ALL);
}

static void add(const eq_kernels *k, work *w)
{
    k->add(w->a, w->b, ALL);
}

static void rmsnorm_forward(const eq_kernels *k, work *w)
{
    k->rmsnorm_forward(w->a, w->d, w->b, w->c, ROWS, C, 1e-5f, w->type);
}

static void rmsnorm_backward(const eq_kernels *k, work *w)
{
    k->rmsnorm_backward(w->a, w->d, w->e, w->b, w->c, w->d + C, ROWS, C, w->type);
}

static void rope(const eq_kernels *k, work *w)
{
    k->rope(w->a, C, w->d, w->e, ROWS, C / 64, 64, 1, w->type);
}

static void swiglu_forward(const eq_kernels *k, work *w)
{
    k->swiglu_forward(w->a, w->b, ROWS, F, w->type);
}

static void swiglu_backward(const eq_kernels *k, work *w)
{
    k->swiglu_backward(w->a, w->c, w->b, ROWS, F, w->type);
}

/* The last 64 queries of a window of 512. */
static void softmax(const eq_kernels *k, work *w)
{
    const eq_causal tile = {64, T, T, T - 64, 0.125f, w->type};
    k->softmax_causal(w->a, w->d, w->b, &tile);
}

static void softmax_backward(const eq_kernels *k, work *w)
{
    const eq_causal tile = {64, T, T, T - 64, 0.125f, w->type};
    k->softmax_causal_backward(w->a, w->c, w->b, w->e, w->d, w->d + T, &tile);
}

static void dot_rows(const eq_kernels *k, work *w)
{
    k->dot_rows(w->d, 1, w->a, 64, w->b, 64, ALL / 64, 64, w->type);
}

/* Three query heads of 64 over the keys and values of 8 sequences of 512 tokens. */
static void attend(const eq_kernels *k, work *w)
{
    const eq_attend shape = {3, T, 64, 0.125f, w->type, w->type};
    const int64_t floats = w->type == EQ_F32 ? T * 64 : T * 32;
    for (int64_t i = 0; i < 8; i++)
        k->attend(w->e, NULL, w->c, w->a + i * floats, w->b + i * floats, w->d, &shape);
}

/* The same over packed ones. */
static void attend_packed(const eq_kernels *k, work *w)
{
    const eq_attend shape = {3, T, 64, 0.125f, EQ_BF16, EQ_BF16};
    uint16_t *grids = (uint16_t *)w->c;
    for (int64_t i = 0; i < 8; i++) {
        const int64_t at = i * T * eq_kv_bytes(64, w->bits);
        const eq_kv kv = {
            w->bits, (uint8_t *)w->a + at, (uint8_t *)w->b + at, grids, grids, w->c, w->c, w->c,
            w->c};
        k->attend_packed(w->e, NULL, w->c, &kv, w->d, &shape);
    }
}

static void kv_pack(const eq_kernels *k, work *w)
{
    for (int64_t i = 0; i < ALL; i += 64) {
        const eq_kv_row row = {(uint8_t *)w->b + i, (uint16_t *)w->c, 1, 1};
        k->kv_pack(&row, w->a + i, 64, w->bits, w->type);
    }
}

static void kv_unpack(const eq_kernels *k, work *w)
{
    for (int64_t i = 0; i < ALL; i += 64) {
        const eq_kv_row row = {(uint8_t *)w->b + i, (uint16_t *)w->c, 1, 1};
        k->kv_unpack(w->a + i, &row, 64, w->bits, w->type);
    }
}

static eq_quant_shape shape_of(const work *w)
{
    return (eq_quant_shape){.K = ALL / 96, .g = w->g, .bits = w->bits};
}

static void fakequant_forward(const eq_kernels *k, work *w)
{
    eq_quant_shape shape = shape_of(w);
    for (int64_t i = 0; i < ALL; i += shape.K)
        k->fakequant_forward(w->a + i, w->b + i, w->c, w->d, &shape, w->type);
}

static void fakequant_backward(const eq_kernels *k, work *w)
{
    eq_quant_shape shape = shape_of(w);
    for (int64_t i = 0; i < ALL; i += shape.K)
        k->fakequant_backward(w->a + i, w->e, w->e + C, w->b + i, w->c, w->d, &shape);
}

static void codes(const eq_kernels *k, work *w)
{
    eq_quant_shape shape = shape_of(w);
    for (int64_t i = 0; i < ALL; i += shape.K)
        k->quantize_codes((uint8_t *)w->a + i, w->b + i, w->c, w->d, &shape);
}

static void adamw(const eq_kernels *k, work *w)
{
    const eq_adamw step = {0.9f, 0.999f, 1e-8f, 1e-5f, 1e-5f, 1.1f};
    k->adamw(w->a, w->b, w->c, w->d, ALL, &step);
}

static void start_search(const eq_kernels *k, work *w)
{
    const eq_start_search search = {{.g = w->g, .bits = w->bits}, 33, 0.4f, 1.05f, 1e-4f};
    for (int64_t i = 0; i < ALL / 16; i += w->g)
        k->start_search(w->d, w->d + 1, w->a + i, w->b, &search);
}

static void error_row(const eq_kernels *k, work *w)
{
    for (int64_t i = 0; i < ALL; i += C)
        w->d[0] = k->error_row(w->a + i, w->b + i, w->c, 0.1f, C, w->type);
}

static void sum_squares(const eq_kernels *k, work *w)
{
    for (int64_t i = 0; i < ALL; i += C)
        w->d[0] = k->sum_squares(w->a + i, C, w->type);
}

static void logsumexp(const eq_kernels *k, work *w)
{
    int64_t best;
    w->d[0] = k->logsumexp(w->a, V, &best);
}

static void kl_row(const eq_kernels *k, work *w)
{
    w->d[0] = k->kl_row(w->a, 11, w->b, 11, V);
}

enum { PANEL_N = 192, PANEL_ELEMS = PANEL_N * C };

/* Packed codes and scales are whatever the buffer holds: finite numbers. */
static void panel_rows_of(const eq_kernels *k, work *w, int64_t rows)
{
    const uintptr_t data = ((uintptr_t)w->e + 63) / 64 * 64;
    eq_panels panels = {.bits = w->bits,
                        .N = PANEL_N,
                        .K = C,
                        .g = w->g,
                        .zero = EQ_ZERO_SAME,
                        .same = 1 << (w->bits - 1),
                        .scale_type = EQ_F16,
                        .data = (uint8_t *)data};
    const eq_panel_inputs inputs = {.columns = C,
                                    .segments = C / EQ_SEGMENT,
                                    .groups = C / w->g,
                                    .codes = (int8_t *)w->b,
                                    .scales = w->c,
                                    .sums = w->d};
    eq_panels_set_places(&panels);
    k->panel_product(w->a, PANEL_N, &panels, 0, PANEL_N / EQ_PANEL_ROWS, &inputs, 0, rows);
}

static void panel_product_1(const eq_kernels *k, work *w)
{
    panel_rows_of(k, w, 1);
}

static void panel_product_8(const eq_kernels *k, work *w)
{
    panel_rows_of(k, w, 8);
}

static const bench_case CASES[] = {
    {"f32_to_bf16", to_bf16, ALL, 6, EQ_F32, 0, 0},
    {"bf16_to_f32", to_f32, ALL, 6, EQ_F32, 0, 0},
    {"unpack f16 to f32", unpack_f32, ALL, 6, EQ_F16, 0, 0},
    {"unpack f16 to bf16", unpack_bf16, ALL, 4, EQ_F16, 0, 0},
    {"unpack f32 to bf16", unpack_bf16, ALL, 6, EQ_F32, 0, 0},
    {"unpack q8_0 to f32", unpack_f32, ALL, 5.06, EQ_Q8_0, 0, 0},
    {"unpack q8_0 to bf16", unpack_bf16, ALL, 3.06, EQ_Q8_0, 0, 0},
    {"unpack q4_0 to bf16", unpack_bf16, ALL, 2.56, EQ_Q4_0, 0, 0},
    {"unpack q4_1 to f32", unpack_f32, ALL, 4.63, EQ_Q4_1, 0, 0},
    {"unpack q4_1 to bf16", unpack_bf16, ALL, 2.63, EQ_Q4_1, 0, 0},
    {"add", add, ALL, 12, EQ_F32, 0, 0},
    {"rmsnorm_forward f32", rmsnorm_forward, ALL, 8, EQ_F32, 0, 0},
    {"rmsnorm_forward bf16", rmsnorm_forward, ALL, 6, EQ_BF16, 0, 0},
    {"rmsnorm_backward f32", rmsnorm_backward, ALL, 16, EQ_F32, 0, 0},
    {"rmsnorm_backward bf16", rmsnorm_backward, ALL, 14, EQ_BF16, 0, 0},
    {"rope f32", rope, ALL, 8, EQ_F32, 0, 0},
    {"rope bf16", rope, ALL, 4, EQ_BF16, 0, 0},
    {"swiglu_forward f32", swiglu_forward, ROWS *F, 12, EQ_F32, 0, 0},
    {"swiglu_forward bf16", swiglu_forward, ROWS *F, 6, EQ_BF16, 0, 0},
    {"swiglu_backward f32", swiglu_backward, ROWS *F, 24, EQ_F32, 0, 0},
    {"swiglu_backward bf16", swiglu_backward, ROWS *F, 12, EQ_BF16, 0, 0},
    {"softmax_causal f32", softmax, 64 * T, 8, EQ_F32, 0, 0},
    {"softmax_causal bf16", softmax, 64 * T, 6, EQ_BF16, 0, 0},
    {"softmax_backward f32", softmax_backward, 64 * T, 16, EQ_F32, 0, 0},
    {"softmax_backward bf16", softmax_backward, 64 * T, 12, EQ_BF16, 0, 0},
    {"dot_rows 64 f32", dot_rows, ALL, 8, EQ_F32, 0, 0},
    {"dot_rows 64 bf16", dot_rows, ALL, 4, EQ_BF16, 0, 0},
    {"attend f32", attend, 16 * 64 * T, 4, EQ_F32, 0, 0},
    {"attend bf16", attend, 16 * 64 * T, 2, EQ_BF16, 0, 0},
    {"attend 8 bits", attend_packed, 16 * 64 * T, 1.03, EQ_BF16, 8, 0},
    {"attend 4 bits", attend_packed, 16 * 64 * T, 0.63, EQ_BF16, 4, 0},
    {"kv_pack 8 bits", kv_pack, ALL, 3, EQ_BF16, 8, 0},
    {"kv_pack 4 bits", kv_pack, ALL, 2.5, EQ_BF16, 4, 0},
    {"kv_unpack 8 bits", kv_unpack, ALL, 3, EQ_BF16, 8, 0},
    {"kv_unpack 4 bits", kv_unpack, ALL, 2.5, EQ_BF16, 4, 0},
    {"fakequant_forward g32 f32", fakequant_forward, ALL, 8, EQ_F32, 2, 32},
    {"fakequant_forward g64 f32", fakequant_forward, ALL, 8, EQ_F32, 2, 64},
    {"fakequant_forward g64 bf16", fakequant_forward, ALL, 6, EQ_BF16, 2, 64},
    {"fakequant_backward g32", fakequant_backward, ALL, 12, EQ_F32, 2, 32},
    {"fakequant_backward g64", fakequant_backward, ALL, 12, EQ_F32, 2, 64},
    {"quantize_codes g64", codes, ALL, 5, EQ_F32, 2, 64},
    {"adamw", adamw, ALL, 28, EQ_F32, 0, 0},
    {"start_search 2 bits g64", start_search, ALL / 16, 4, EQ_F32, 2, 64},
    {"start_search 3 bits g64", start_search, ALL / 16, 4, EQ_F32, 3, 64},
    {"start_search 4 bits g64", start_search, ALL / 16, 4, EQ_F32, 4, 64},
    {"panel_product 2 bits", panel_product_1, PANEL_ELEMS, 0.28, EQ_F32, 2, 64},
    {"panel_product 2 bits, 8 rows", panel_product_8, 8 * PANEL_ELEMS, 0.04, EQ_F32, 2, 64},
    {"panel_product 4 bits", panel_product_1, PANEL_ELEMS, 0.53, EQ_F32, 4, 64},
    {"panel_product 8 bits", panel_product_1, PANEL_ELEMS, 1.06, EQ_F32, 8, 32},
    {"error_row f32", error_row, ALL, 8, EQ_F32, 0, 0},
    {"error_row bf16", error_row, ALL, 8, EQ_BF16, 0, 0},
    {"sum_squares f32", sum_squares, ALL, 4, EQ_F32, 0, 0},
    {"logsumexp", logsumexp, V, 4, EQ_F32, 0, 0},
    {"kl_row", kl_row, V, 8, EQ_F32, 0, 0},
};

/* Numbers that keep every kernel away from overflow and subnormals. Both halves of each word,
 * read as bf16 or f16, are all of ordinary size. */
static void fill(float *x, uint64_t stream)
{
    eq_rng rng;
    eq_rng_init(&rng, 1, stream);
    for (int64_t i = 0; i < LARGEST; i++) {
        uint16_t h = eq_f32_bf16(0.5f + 0.5f * (float)eq_rng_uniform(&rng));
        x[i] = eq_bits_f32((uint32_t)h << 16 | h);
    }
}

/* A rotation by one angle, so that repeating it neither grows nor shrinks anything. */
static void fill_rotation(work *w)
{
    for (int64_t i = 0; i < LARGEST; i++) {
        w->d[i] = 0.6f;
        w->e[i] = 0.8f;
    }
}

/* Nanoseconds per element: the fastest of TRIES runs of at least SECONDS. */
static double measure(const eq_kernels *k, const bench_case *c, work *w)
{
    double best = 1e9;
    w->type = c->type;
    w->bits = c->bits;
    w->g = c->g;
    float *buffers[] = {w->a, w->b, w->c, w->d, w->e};
    for (int i = 0; i < 5; i++)
        fill(buffers[i], (uint64_t)i);
    if (c->run == rope) fill_rotation(w);
    for (int t = 0; t < TRIES; t++) {
        int64_t calls = 0;
        double start = eq_seconds(), now = start;
        while (now - start < SECONDS) {
            c->run(k, w);
            calls++;
            now = eq_seconds();
        }
        double each = (now - start) / (double)(calls * c->elems);
        best = each < best ? each : best;
    }
    return 1e9 * best;
}

static void report(const bench_case *c, work *w)
{
    const struct {
        const char *name;
        const eq_kernels *compiler;
    } sets[] = {{"avx2", &eq_kernels_ref_avx2}, {"avx512", &eq_kernels_ref_avx512}};
    printf("%-27s %9.3f", c->name, measure(eq_kernels_get("ref"), c, w));
    for (int i = 0; i < 2; i++) {
        const eq_kernels *ours = eq_kernels_get(sets[i].name);
        if (!ours) {
            printf(" %9s %9s %8s %8s", "-", "-", "-", "-");
            continue;
        }
        double theirs = measure(sets[i].compiler, c, w), own = measure(ours, c, w);
        printf(" %9.3f %9.3f %8.1f %7.2fx", theirs, own, c->bytes / own, theirs / own);
    }
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    eq_ctx ctx;
    eq_ctx_init(&ctx, 1);
    work w = {0};
    float **buffers[] = {&w.a, &w.b, &w.c, &w.d, &w.e}, *memory[5];
    for (int i = 0; i < 5; i++) {
        memory[i] = eq_alloc(&ctx, LARGEST + 5 * STAGGER, sizeof(float));
        if (!memory[i]) return EXIT_FAILURE;
        *buffers[i] = memory[i] + i * STAGGER;
    }
    printf("%-27s %9s %9s %9s %8s %8s %9s %9s %8s %8s\n", "ns per element", "ref", "compiler",
           "avx2", "GB/s", "gain", "compiler", "avx512", "GB/s", "gain");
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        if (argc < 2 || strstr(CASES[i].name, argv[1])) report(&CASES[i], &w);
    for (int i = 0; i < 5; i++)
        eq_free(memory[i]);
    return EXIT_SUCCESS;
}
