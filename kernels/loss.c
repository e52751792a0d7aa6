/* Softmax and cross-entropy against smoothed labels or soft targets. */
#include "arena.h"
#include "parallel.h"
#include "simd.h"

/* Natural logarithm of a positive, normal double: x = m * 2^e, log m = 2 atanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)). */
static double log_double(double x) {
  union {
    double d;
    uint64_t u;
  } bits = {x};
  int e = (int)(bits.u >> 52) - 1023;
  bits.u = (bits.u & 0xfffffffffffffull) | 0x3ff0000000000000ull;
  if (bits.d > 1.4142135623730951) {
    bits.d *= 0.5;
    e++;
  }
  const double s = (bits.d - 1) / (bits.d + 1), z = s * s;
  double sum = 0;
  for (int k = 17; k >= 1; k -= 2) sum = sum * z + 1.0 / k;
  return 2 * s * sum + e * 0.6931471805599453;
}

/* y = exp(x - max x) for one row; returns the sum, and the maximum in *top. */
static double exp_row(const float *x, int c, float *y, float *top) {
  float max = x[0];
  for (int i = 1; i < c; i++)
    if (x[i] > max || x[i] != x[i]) max = x[i]; /* NaN must show */
  double sum = 0;
  for (int i = 0; i < c; i += VL) {
    vf_store_n(y + i, vf_exp(vf_load(x + i) - max), imin(VL, c - i));
    for (int lane = i; lane < imin(c, i + VL); lane++) sum += (double)y[lane];
  }
  *top = max;
  return sum;
}

static void op_softmax(const SoftmaxRecord *r) {
  for (int row = 0; row < r->n; row++) {
    float *y = FLOATS(r->y) + (size_t)row * r->c, top;
    const double sum = exp_row(FLOATS(r->x) + (size_t)row * r->c, r->c, y, &top);
    for (int i = 0; i < r->c; i++) y[i] = (float)((double)y[i] / sum);
  }
}

static void op_cross_entropy(const CrossEntropyRecord *r) {
  const int c = r->c;
  const double smooth = (double)r->smoothing;
  for (int row = 0; row < r->n; row++) {
    const float *x = FLOATS(r->x) + (size_t)row * c;
    const float *probs = r->probs ? FLOATS(r->probs) + (size_t)row * c : 0;
    const int label = r->probs ? -1 : AT(int32_t, r->labels)[row];
    float *dx = FLOATS(r->dx) + (size_t)row * c, top;
    const double sum = exp_row(x, c, dx, &top), lse = (double)top + log_double(sum);
    double loss = 0, total = 0;
    for (int i = 0; i < c; i++) {
      const double target = probs ? (double)probs[i] : smooth / c + (i == label ? 1 - smooth : 0);
      total += target;
      loss += target * (lse - (double)x[i]);
    }
    FLOATS(r->loss)[row] = (float)loss;
    for (int i = 0; i < c; i++) {
      const double target = probs ? (double)probs[i] : smooth / c + (i == label ? 1 - smooth : 0);
      dx[i] = (float)((double)r->weight * (total * (double)dx[i] / sum - target));
    }
  }
}
