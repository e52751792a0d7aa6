/* y = act(scale * x + shift), per channel or per image and channel: the attention's multiplication, activations; and sums of two
 * tensors. */
#include "affine.h"
#include "columns.h"

/* An item is a block of an image's rows, in one group of channels after the other: as the depthwise convolution before it. */
enum { AFFINE_CHANNELS = 128 };

INLINE int affine_blocks(const AffineRecord *r) { return ceil_div(r->hw, block_rows(imin(r->c, AFFINE_CHANNELS))); }

static void affine_chunk(const void *context, int item, int thread) {
  (void)thread;
  const AffineRecord *r = context;
  const int blocks = affine_blocks(r), groups = ceil_div(r->c, AFFINE_CHANNELS), image = item / (blocks * groups);
  const int block = block_rows(imin(r->c, AFFINE_CHANNELS)), from = item % blocks * block, rows = imin(block, r->hw - from);
  const int channel = item / blocks % groups * AFFINE_CHANNELS, channels = imin(AFFINE_CHANNELS, r->c - channel);
  const size_t at = ((size_t)image * r->hw + from) * r->c + channel, factors = (r->per_image ? (size_t)image * r->c : 0) + channel;
  const float *scale = r->scale ? FLOATS(r->scale) + factors : 0, *shift = r->shift ? FLOATS(r->shift) + factors : 0;
  affine_rows(r->act, FLOATS(r->x) + at, scale, shift, channels, rows, r->c, FLOATS(r->y) + at);
}

static void op_affine(const AffineRecord *r) {
  dsn_parallel_for(affine_chunk, r, r->n * affine_blocks(r) * ceil_div(r->c, AFFINE_CHANNELS));
}

/* ---- gradients ---- */

static void affine_dx_chunk(const void *context, int item, int thread) {
  (void)thread;
  const AffineDxRecord *r = context;
  const int c = r->c, block = block_rows(c), blocks = ceil_div(r->hw, block);
  const int image = item / blocks, from = item % blocks * block, rows = imin(block, r->hw - from);
  const size_t at = ((size_t)image * r->hw + from) * c, factors = r->per_image ? (size_t)image * c : 0;
  const float *scale = r->scale ? FLOATS(r->scale) + factors : 0, *shift = r->shift ? FLOATS(r->shift) + factors : 0;
  const float *x = FLOATS(r->x) + at, *dy = FLOATS(r->dy) + at;
  float *dx = FLOATS(r->dx) + at;
  for (int row = 0; row < rows; row++, x += c, dy += c, dx += c)
    for (int ch = 0; ch < c; ch += VL) {
      vf g = vf_load(dy + ch);
      const vf s = scale ? vf_load(scale + ch) : vf_splat(1.0f);
      if (r->act) g = g * vf_act_grad(vf_fma(vf_load(x + ch), s, shift ? vf_load(shift + ch) : (vf){0}), r->act);
      vf_store_n(dx + ch, g * s, imin(VL, c - ch));
    }
}

static void affine_factors_image(const void *context, int image, int thread) {
  (void)thread;
  const AffineDxRecord *r = context;
  const int c = r->c;
  const size_t at = (size_t)image * r->hw * c, factors = (size_t)image * c;
  const Columns columns = {.x = FLOATS(r->x) + at, .dy = FLOATS(r->dy) + at, .gamma = r->scale ? FLOATS(r->scale) + factors : 0,
                           .beta = r->shift ? FLOATS(r->shift) + factors : 0, .c = c, .act = r->act};
  double *sum = AT(double, r->scratch) + (size_t)image * 2 * c;
  sum_columns(SUM_AFFINE, &columns, 0, r->hw, sum);
  for (int i = 0; i < c; i++) {
    if (r->dscale) FLOATS(r->dscale)[factors + i] = (float)sum[c + i];
    if (r->dshift) FLOATS(r->dshift)[factors + i] = (float)sum[i];
  }
}

static void op_affine_dx(const AffineDxRecord *r) {
  const int c = r->c;
  if (r->dscale || r->dshift) {
    if (r->per_image) {
      dsn_parallel_for(affine_factors_image, r, r->n);
    } else {
      const Columns columns = {.x = FLOATS(r->x), .dy = FLOATS(r->dy), .gamma = FLOATS_IF(r->scale), .beta = FLOATS_IF(r->shift),
                               .c = c, .act = r->act};
      const double *sum = sum_all_rows(SUM_AFFINE, &columns, r->n * r->hw, r->scratch);
      for (int i = 0; i < c; i++) {
        if (r->dscale) FLOATS(r->dscale)[i] += (float)sum[c + i];
        if (r->dshift) FLOATS(r->dshift)[i] += (float)sum[i];
      }
    }
  }
  if (r->dx) dsn_parallel_for(affine_dx_chunk, r, r->n * ceil_div(r->hw, block_rows(c)));
}

static uint32_t scratch_affine_dx(const AffineDxRecord *r) {
  if (!r->dscale && !r->dshift) return 0;
  return r->per_image ? (uint32_t)r->n * 2u * (uint32_t)r->c * 8u : column_scratch(r->n * r->hw, r->c);
}

/* ---- sums of two tensors whose widths may differ ---- */

INLINE void add_run_as(const int act, const float *a, const float *b, int count, float *y) {
  enum { STEP = 4 * VL };
  int i = 0;
  for (; i + STEP <= count; i += STEP) UNROLL for (int v = i; v < i + STEP; v += VL)
    vf_store(y + v, vf_act(vf_load(a + v) + vf_load(b + v), act));
  for (; i < count; i += VL) vf_store_n(y + i, vf_act(vf_load(a + i) + vf_load(b + i), act), imin(VL, count - i));
}

static void add_run(int act, const float *a, const float *b, int count, float *y) {
  if (act == ACT_NONE) add_run_as(ACT_NONE, a, b, count, y);
  else add_run_as(act, a, b, count, y);
}

static void add_chunk(const void *context, int item, int thread) {
  (void)thread;
  const AddRecord *r = context;
  const int c = imax(r->ca, r->cb), both = imin(r->ca, r->cb), block = block_rows(c);
  const int from = item * block, to = imin(from + block, r->n * r->hw);
  const float *a = FLOATS(r->a) + (size_t)from * r->ca, *b = FLOATS(r->b) + (size_t)from * r->cb;
  float *y = FLOATS(r->y) + (size_t)from * c;
  if (both == c) { /* rows lie behind each other in both */
    add_run(r->act, a, b, (to - from) * c, y);
    return;
  }
  for (int row = from; row < to; row++, a += r->ca, b += r->cb, y += c) {
    const float *wide = r->ca >= r->cb ? a : b;
    add_run(r->act, a, b, both, y);
    for (int ch = both; ch < c; ch += VL) vf_store_n(y + ch, vf_act(vf_load(wide + ch), r->act), imin(VL, c - ch));
  }
}

static void op_add(const AddRecord *r) {
  dsn_parallel_for(add_chunk, r, ceil_div(r->n * r->hw, block_rows(imax(r->ca, r->cb))));
}

/* Without b, a alone went through the activation. */
INLINE void add_dx_run_as(const int act, const float *a, const float *b, const float *dy, int count, float *da, float *db) {
  for (int i = 0; i < count; i += VL) {
    vf g = vf_load(dy + i);
    if (act) g = g * vf_act_grad(b ? vf_load(a + i) + vf_load(b + i) : vf_load(a + i), act);
    if (da) vf_store_n(da + i, g, imin(VL, count - i));
    if (db) vf_store_n(db + i, g, imin(VL, count - i));
  }
}

static void add_dx_run(int act, const float *a, const float *b, const float *dy, int count, float *da, float *db) {
  if (act == ACT_NONE) add_dx_run_as(ACT_NONE, a, b, dy, count, da, db);
  else if (act == ACT_SWISH) add_dx_run_as(ACT_SWISH, a, b, dy, count, da, db);
  else add_dx_run_as(act, a, b, dy, count, da, db);
}

static void add_dx_chunk(const void *context, int item, int thread) {
  (void)thread;
  const AddDxRecord *r = context;
  const int c = imax(r->ca, r->cb), both = imin(r->ca, r->cb), block = block_rows(c);
  const int from = item * block, to = imin(from + block, r->n * r->hw);
  const float *dy = FLOATS(r->dy) + (size_t)from * c;
  const float *a = FLOATS(r->a) + (size_t)from * r->ca, *b = FLOATS(r->b) + (size_t)from * r->cb;
  float *da = r->da ? FLOATS(r->da) + (size_t)from * r->ca : 0, *db = r->db ? FLOATS(r->db) + (size_t)from * r->cb : 0;
  if (both == c) { /* rows lie behind each other in both */
    add_dx_run(r->act, a, b, dy, (to - from) * c, da, db);
    return;
  }
  for (int row = 0; row < to - from; row++, dy += c) {
    const float *x[2] = {a + (size_t)row * r->ca, b + (size_t)row * r->cb};
    float *dx[2] = {da ? da + (size_t)row * r->ca : 0, db ? db + (size_t)row * r->cb : 0};
    const int wide = r->ca < r->cb;
    add_dx_run(r->act, x[0], x[1], dy, both, dx[0], dx[1]);
    if (dx[wide]) add_dx_run(r->act, x[wide] + both, 0, dy + both, c - both, dx[wide] + both, 0);
  }
}

static void op_add_dx(const AddDxRecord *record) {
  AddDxRecord r = *record;
  if (r.act == ACT_NONE) { /* there it is already */
    if (r.da == r.dy) r.da = 0;
    if (r.db == r.dy) r.db = 0;
  }
  if (r.da || r.db) dsn_parallel_for(add_dx_chunk, &r, ceil_div(r.n * r.hw, block_rows(imax(r.ca, r.cb))));
}
