/* Random test data and the comparison of arrays. */
#ifndef SUPPORT_NUMBERS_H
#define SUPPORT_NUMBERS_H

#include <stdint.h>

/* n numbers uniform in [low, high), from a stream of their own. */
void fill_uniform(float *x, int64_t n, float low, float high, uint64_t stream);
/* The largest |got[i] - want[i]| / (absolute + relative * |want[i]|): at most 1 when all are
 * within bounds. Equal values, infinities included, count as 0, NaN on one side as infinite. */
double worst_error(const float *got, const float *want, int64_t n, double absolute,
                   double relative);
/* sum_i a[i] b[i] in f64. */
double dot_f64(const float *a, const float *b, int64_t n);

#endif
