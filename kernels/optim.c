/* Element-wise work on flat parameter arrays: SGD, EMA, fill, and the check for NaN and infinity. */
#include "arena.h"
#include "parallel.h"
#include "simd.h"

enum { FLAT_BLOCK = 16 << 10 };

static void sgd_chunk(const void *context, int item, int thread) {
  (void)thread;
  const SgdRecord *r = context;
  float *p = FLOATS(r->p), *m = FLOATS(r->m);
  const float *g = FLOATS(r->g);
  const int to = imin((item + 1) * FLAT_BLOCK, r->count);
  for (int i = item * FLAT_BLOCK; i < to; i += VL) {
    const int lanes = imin(VL, to - i);
    const vf param = vf_load(p + i), grad = vf_load(g + i) + param * r->decay;
    const vf momentum = vf_load(m + i) * r->momentum + grad;
    const vf step = r->nesterov ? grad + momentum * r->momentum : momentum;
    vf_store_n(m + i, momentum, lanes);
    vf_store_n(p + i, param - step * r->lr, lanes);
  }
}

static void op_sgd(const SgdRecord *r) { dsn_parallel_for(sgd_chunk, r, ceil_div(r->count, FLAT_BLOCK)); }

static void ema_chunk(const void *context, int item, int thread) {
  (void)thread;
  const EmaRecord *r = context;
  float *t = FLOATS(r->t);
  const float *s = FLOATS(r->s);
  const int to = imin((item + 1) * FLAT_BLOCK, r->count);
  for (int i = item * FLAT_BLOCK; i < to; i += VL)
    vf_store_n(t + i, vf_load(t + i) * r->decay + vf_load(s + i) * (1.0f - r->decay), imin(VL, to - i));
}

static void op_ema(const EmaRecord *r) { dsn_parallel_for(ema_chunk, r, ceil_div(r->count, FLAT_BLOCK)); }

static void op_fill(const FillRecord *r) {
  float *x = FLOATS(r->x);
  for (int i = 0; i < r->count; i += VL) vf_store_n(x + i, vf_splat(r->value), imin(VL, r->count - i));
}

static void op_count_nonfinite(const CountNonfiniteRecord *r) {
  const float *x = FLOATS(r->x);
  int bad = 0;
  for (int i = 0; i < r->count; i++) bad += !(x[i] - x[i] == 0.0f);
  *AT(int32_t, r->result) = bad;
}
