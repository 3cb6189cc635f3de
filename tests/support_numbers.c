#include "support_numbers.h"

#include "base/rng.h"
#include <math.h>

void fill_uniform(float *x, int64_t n, float low, float high, uint64_t stream)
{
    eq_rng rng;
    eq_rng_init(&rng, 20240711, stream);
    for (int64_t i = 0; i < n; i++)
        x[i] = low + (high - low) * (float)eq_rng_uniform(&rng);
}

double worst_error(const float *got, const float *want, int64_t n, double absolute, double relative)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        if (got[i] == want[i] || (isnan(got[i]) && isnan(want[i]))) continue;
        double error = fabs((double)got[i] - want[i]) / (absolute + relative * fabs(want[i]));
        if (isnan(error)) return INFINITY;
        worst = error > worst ? error : worst;
    }
    return worst;
}

double dot_f64(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}
