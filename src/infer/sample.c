#include "infer/sample.h"

#include <float.h>
#include <math.h>

bool eq_sampling_ranks(const eq_sampling *s)
{
    return s->temperature > 0 && (s->top_k > 0 || s->top_p < 1 || s->min_p > 0);
}

/* Draw from all V. Chunks are weighed by the kernel first, so that only one is walked token by
 * token. */
static int32_t draw_any(const eq_kernels *kernels, const float *x, int64_t V, float total,
                        double uniform)
{
    enum { CHUNK = 512 };
    int64_t unused, chunk = 0, last = -1;
    double left = uniform, mass = 0;
    for (int64_t i = 0; i < V; i += CHUNK) {
        int64_t n = V - i < CHUNK ? V - i : CHUNK;
        mass = exp((double)kernels->logsumexp(x + i, n, &unused) - (double)total);
        if (!(mass > 0))
            continue; /* none of them can be drawn; not a number if all are -infinity */
        chunk = i;
        if (left < mass) break;
        left -= mass;
    }
    /* Rounding may leave a rest behind the last token: it falls to the last one that can be
     * drawn. */
    for (int64_t i = chunk; i < V && i < chunk + CHUNK; i++) {
        double p = exp((double)x[i] - (double)total);
        if (p > 0) last = i;
        if (left < p) break;
        left -= p;
    }
    return (int32_t)last;
}

static bool before(const eq_candidate *a, const eq_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* Let the entry at i of a heap of n sink to its place; the most likely is at the top. */
static void sink(eq_candidate *heap, int64_t n, int64_t i)
{
    for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &heap[i])) return;
        eq_candidate swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
        i = child;
    }
}

static void make_heap(eq_candidate *heap, const float *x, int64_t V)
{
    for (int64_t i = 0; i < V; i++)
        heap[i] = (eq_candidate){x[i], (int32_t)i};
    for (int64_t i = V / 2 - 1; i >= 0; i--)
        sink(heap, V, i);
}

/* Move the most likely of the n left in the heap behind them, to heap[n - 1]. */
static const eq_candidate *pop(eq_candidate *heap, int64_t n)
{
    eq_candidate top = heap[0];
    heap[0] = heap[n - 1];
    heap[n - 1] = top;
    sink(heap, n - 1, 0);
    return &heap[n - 1];
}

/* Draw from the most likely tokens, which are sorted to the end of the scratch one by one. */
static int32_t draw_ranked(const float *x, int64_t V, float total, const eq_sampling *s,
                           double uniform, eq_candidate *heap)
{
    int64_t most = s->top_k > 0 && s->top_k < V ? s->top_k : V, kept = 0;
    double mass = 0, all = 1;
    make_heap(heap, x, V);
    if (most < V) {
        all = 0;
        for (; kept < most; kept++)
            all += exp((double)pop(heap, V - kept)->logit - (double)total);
    }
    int64_t sorted = kept;
    double least = 0;
    for (kept = 0; kept < most && (kept == 0 || mass < s->top_p * all); kept++) {
        const eq_candidate *next = kept < sorted ? &heap[V - 1 - kept] : pop(heap, V - kept);
        double p = exp((double)next->logit - (double)total);
        if (kept == 0) least = s->min_p * p;
        if (p < least) break;
        mass += p;
    }
    double left = uniform * mass;
    int64_t i = 0;
    for (; i < kept - 1; i++) {
        double p = exp((double)heap[V - 1 - i].logit - (double)total);
        if (left < p) break;
        left -= p;
    }
    return heap[V - 1 - i].id;
}

/* Divide by the temperature. The largest logit becomes 0, so that the smallest temperatures do
 * not overflow. */
static void cool(float *x, int64_t V, float most, double temperature)
{
    float inverse = fminf((float)(1 / temperature), FLT_MAX);
    for (int64_t i = 0; i < V; i++)
        x[i] = (x[i] - most) * inverse;
}

int32_t eq_sample(const eq_kernels *kernels, float *x, int64_t V, const eq_sampling *s, eq_rng *rng,
                  eq_candidate *scratch)
{
    int64_t best = 0;
    float total = kernels->logsumexp(x, V, &best);
    if (!isfinite(total)) return -1;
    if (!(s->temperature > 0)) return (int32_t)best;
    if (s->temperature != 1) {
        cool(x, V, x[best], s->temperature);
        total = kernels->logsumexp(x, V, &best);
    }
    double uniform = eq_rng_uniform(rng);
    if (!eq_sampling_ranks(s)) return draw_any(kernels, x, V, total, uniform);
    return draw_ranked(x, V, total, s, uniform, scratch);
}

void eq_penalize(float *x, const uint8_t *seen, int64_t V, double penalty)
{
    const float less = (float)(1 / penalty), more = (float)penalty;
    for (int64_t i = 0; i < V; i++)
        if (seen[i]) x[i] *= x[i] > 0 ? less : more;
}

void eq_most_likely(eq_candidate *out, int64_t n, const float *x, int64_t V)
{
    int64_t count = 0;
    for (int64_t i = 0; n > 0 && i < V; i++) {
        if (count == n && x[i] <= out[n - 1].logit) continue;
        int64_t at = count < n ? count++ : n - 1;
        for (; at > 0 && out[at - 1].logit < x[i]; at--)
            out[at] = out[at - 1];
        out[at] = (eq_candidate){x[i], (int32_t)i};
    }
}
