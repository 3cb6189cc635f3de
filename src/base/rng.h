/* Random numbers: xoshiro256** seeded by splitmix64. The state is always the caller's, so that
 * every use has a stream of its own and runs repeat. */
#ifndef EQ_BASE_RNG_H
#define EQ_BASE_RNG_H

#include <stdint.h>

typedef struct eq_rng {
    uint64_t state[4];
} eq_rng;

/* Streams with different (seed, stream) are independent for practical purposes. */
void eq_rng_init(eq_rng *rng, uint64_t seed, uint64_t stream);
uint64_t eq_rng_next(eq_rng *rng);
/* Uniform in [0, 1) with 53 bits. */
double eq_rng_uniform(eq_rng *rng);
/* Uniform in 0 .. n-1 without bias, n >= 1. */
uint64_t eq_rng_below(eq_rng *rng, uint64_t n);
/* Standard normal (Box-Muller, one value a call). */
double eq_rng_normal(eq_rng *rng);

#endif
