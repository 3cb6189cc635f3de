#include "base/rng.h"

#include <math.h>

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void eq_rng_init(eq_rng *rng, uint64_t seed, uint64_t stream)
{
    uint64_t x = stream;
    uint64_t mixed = seed ^ splitmix(&x);
    for (int i = 0; i < 4; i++)
        rng->state[i] = splitmix(&mixed);
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t eq_rng_next(eq_rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

double eq_rng_uniform(eq_rng *rng)
{
    return (double)(eq_rng_next(rng) >> 11) * 0x1p-53;
}

uint64_t eq_rng_below(eq_rng *rng, uint64_t n)
{
    uint64_t threshold = -n % n; /* 2^64 mod n: draws below it would favour small results */
    uint64_t x = 0;
    do {
        x = eq_rng_next(rng);
    } while (x < threshold);
    return x % n;
}

double eq_rng_normal(eq_rng *rng)
{
    double u = 1.0 - eq_rng_uniform(rng), v = eq_rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
