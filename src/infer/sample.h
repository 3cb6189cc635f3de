/* The next token from logits. */
#ifndef EQ_INFER_SAMPLE_H
#define EQ_INFER_SAMPLE_H

#include "base/rng.h"
#include "kernels/kernels.h"

/* Applied in this order; what is left is drawn in proportion to its probability. */
typedef struct eq_sampling {
    double temperature; /* divides the logits; 0: the most likely token, and nothing below counts */
    int64_t top_k;      /* keep the most likely so many; 0: all */
    double top_p;       /* of these keep the most likely that have this share together; 1: all */
    double min_p;       /* of these keep those with this share of the most likely one's; 0: all */
} eq_sampling;

typedef struct eq_candidate {
    float logit;
    int32_t id;
} eq_candidate;

/* Whether eq_sample needs a scratch of candidates. */
bool eq_sampling_ranks(const eq_sampling *sampling);

/* Draw a token; one number of rng is used, none when greedy. Of equally likely tokens the first
 * counts as the more likely.
 *
 * logits   in/out [V]: divided by the temperature
 * rng      in/out, may be NULL when greedy
 * scratch  [V]; may be NULL unless eq_sampling_ranks
 * Returns -1 when the logits are not finite. */
int32_t eq_sample(const eq_kernels *kernels, float *logits, int64_t V, const eq_sampling *sampling,
                  eq_rng *rng, eq_candidate *scratch);

/* Make tokens that were there less likely, whatever the temperature, those with seen[i]:
 *   x[i] / penalty where x[i] > 0, x[i] * penalty elsewhere       [Keskar et al. 2019, 4.1]
 * logits in/out [V]; seen [V], 0 or 1; penalty above 0, 1: nothing happens. */
void eq_penalize(float *logits, const uint8_t *seen, int64_t V, double penalty);

/* The n most likely tokens, the most likely first; of equally likely ones the first.
 * out [n]; logits [V], finite, n <= V. */
void eq_most_likely(eq_candidate *out, int64_t n, const float *logits, int64_t V);

#endif
