/* Batch norm in training mode and group norm, each with its activation. (In evaluation mode a batch norm is part of the convolution before it.) */
#include "columns.h"

/* y = act(gamma * (x - mean) * inv + beta) over rows [from, to) */
static void normalise_rows(const Columns *s, int from, int to, float *y) {
  const int c = s->c, act = s->act;
  for (int row = from; row < to; row++)
    for (int ch = 0; ch < c; ch += VL) {
      const ColumnFactors f = column_factors(s, ch);
      const vf hat = (vf_load(s->x + (size_t)row * c + ch) - f.mean) * f.inv;
      vf_store_n(y + (size_t)row * c + ch, vf_act(vf_fma(hat, f.gamma, f.beta), act), imin(VL, c - ch));
    }
}

/* dx = inv * (gamma * g - m1 - xhat * m2) over rows [from, to): m1, m2 are the means of gamma * g and gamma * g * xhat over
 * what shares its statistics. */
INLINE void normalise_dx_rows_as(const int act, const Columns *s, const float *m1, const float *m2, int from, int to, float *dx) {
  const int c = s->c;
  for (int row = from; row < to; row++)
    for (int ch = 0; ch < c; ch += VL) {
      const ColumnFactors f = column_factors(s, ch);
      const size_t at = (size_t)row * c + ch;
      const vf hat = (vf_load(s->x + at) - f.mean) * f.inv;
      vf g = vf_load(s->dy + at);
      if (act) g = g * vf_act_grad(vf_fma(hat, f.gamma, f.beta), act);
      const vf centred = vf_fma(g, f.gamma, -vf_load(m1 + ch)) - hat * vf_load(m2 + ch);
      vf_store_n(dx + at, f.inv * centred, imin(VL, c - ch));
    }
}

static void normalise_dx_rows(const Columns *s, const float *m1, const float *m2, int from, int to, float *dx) {
  if (s->act == ACT_SWISH) normalise_dx_rows_as(ACT_SWISH, s, m1, m2, from, to, dx);
  else if (s->act == ACT_RELU) normalise_dx_rows_as(ACT_RELU, s, m1, m2, from, to, dx);
  else normalise_dx_rows_as(s->act, s, m1, m2, from, to, dx);
}

typedef struct {
  Columns columns;
  float *out;
  const float *m1, *m2;
  int rows;
} NormJob;

static void normalise_chunk(const void *context, int item, int thread) {
  (void)thread;
  const NormJob *j = context;
  const int rows = block_rows(j->columns.c), from = item * rows, to = imin(from + rows, j->rows);
  if (j->m1) normalise_dx_rows(&j->columns, j->m1, j->m2, from, to, j->out);
  else normalise_rows(&j->columns, from, to, j->out);
}

/* Takes the g that the sums left behind, where they did, for dy: the activation is in it. */
static void reuse_g(Columns *columns) {
  if (!columns->g) return;
  columns->dy = columns->g;
  columns->act = ACT_NONE;
}

/* ---- batch norm ---- */

static void op_batch_norm(const BatchNormRecord *r) {
  const int c = r->c;
  const float *x = FLOATS(r->x);
  Columns columns = {.x = x, .mean = x, .c = c, .act = r->act}; /* the first row stands for the mean */
  const double *sum = sum_all_rows(SUM_STATS, &columns, r->rows, r->scratch);
  float *mean = FLOATS(r->mean), *inv = FLOATS(r->inv), *running_mean = FLOATS_IF(r->running_mean);
  float *running_var = FLOATS_IF(r->running_var), *batch_var = FLOATS_IF(r->batch_var);
  const double rows = r->rows;
  for (int i = 0; i < c; i++) {
    const double d = sum[i] / rows, m = (double)x[i] + d;
    double var = sum[c + i] / rows - d * d;
    if (var < 0) var = 0;
    const double unbiased = r->rows > 1 ? var * rows / (rows - 1) : var;
    mean[i] = (float)m;
    inv[i] = (float)(1.0 / __builtin_sqrt(var + (double)r->eps));
    if (running_mean) {
      running_mean[i] = (float)(running_mean[i] + (double)r->momentum * (m - running_mean[i]));
      running_var[i] = (float)(running_var[i] + (double)r->momentum * (unbiased - running_var[i]));
    }
    if (batch_var) batch_var[i] = (float)unbiased;
  }
  const NormJob job = {{x, 0, mean, inv, FLOATS_IF(r->gamma), FLOATS_IF(r->beta), c, r->act, 0}, FLOATS(r->y), 0, 0, r->rows};
  dsn_parallel_for(normalise_chunk, &job, ceil_div(r->rows, block_rows(c)));
}

static uint32_t scratch_batch_norm(int rows, int c) { return column_scratch(rows, c) + 2u * (uint32_t)c * 4u + 128u; }

static void op_batch_norm_dx(const BatchNormDxRecord *r) {
  const int c = r->c;
  Columns columns = {FLOATS(r->x), FLOATS(r->dy), FLOATS(r->mean), FLOATS(r->inv), FLOATS_IF(r->gamma), FLOATS_IF(r->beta),
                     c, r->act, r->act ? FLOATS_IF(r->dx) : 0};
  const double *sum = sum_all_rows(SUM_NORM, &columns, r->rows, r->scratch);
  float *dgamma = FLOATS_IF(r->dgamma), *dbeta = FLOATS_IF(r->dbeta);
  float *m1 = (float *)(AT(char, r->scratch) + column_scratch(r->rows, c)), *m2 = m1 + c;
  for (int i = 0; i < c; i++) {
    const double gamma = columns.gamma ? (double)columns.gamma[i] : 1.0;
    m1[i] = (float)(gamma * sum[i] / r->rows);
    m2[i] = (float)(gamma * sum[c + i] / r->rows);
    if (dgamma) dgamma[i] += (float)sum[c + i];
    if (dbeta) dbeta[i] += (float)sum[i];
  }
  if (!r->dx) return;
  reuse_g(&columns);
  const NormJob job = {columns, FLOATS(r->dx), m1, m2, r->rows};
  dsn_parallel_for(normalise_chunk, &job, ceil_div(r->rows, block_rows(c)));
}

/* ---- group norm: an item is an image ---- */

/* Scratch of one image: two sums [2][c] in double, then four rows of c floats. */
INLINE size_t group_scratch(int c) { return ((size_t)c * 2 * 8 + (size_t)c * 4 * 4 + 127) & ~(size_t)63; }

static void group_norm_image(const void *context, int image, int thread) {
  (void)thread;
  const GroupNormRecord *r = context;
  const int c = r->c, groups = ceil_div(c, r->group);
  double *sum = (double *)(AT(char, r->scratch) + group_scratch(c) * (size_t)image);
  float *mean = (float *)(sum + 2 * c), *inv = mean + c;
  const size_t at = (size_t)image * r->hw * c;
  Columns columns = {.x = FLOATS(r->x) + at, .mean = mean, .c = c};
  sum_columns(SUM_PLAIN, &columns, 0, r->hw, sum);
  for (int g = 0; g < groups; g++) {
    const int from = g * r->group, to = imin(from + r->group, c);
    double total = 0;
    for (int i = from; i < to; i++) total += sum[i];
    for (int i = from; i < to; i++) mean[i] = (float)(total / ((double)r->hw * (to - from)));
  }
  sum_columns(SUM_STATS, &columns, 0, r->hw, sum);
  for (int g = 0; g < groups; g++) {
    const int from = g * r->group, to = imin(from + r->group, c);
    double total = 0;
    for (int i = from; i < to; i++) total += sum[c + i];
    const double value = 1.0 / __builtin_sqrt(total / ((double)r->hw * (to - from)) + (double)r->eps);
    for (int i = from; i < to; i++) inv[i] = (float)value;
    FLOATS(r->mean)[(size_t)image * groups + g] = mean[from];
    FLOATS(r->inv)[(size_t)image * groups + g] = inv[from];
  }
  columns = (Columns){FLOATS(r->x) + at, 0, mean, inv, FLOATS_IF(r->gamma), FLOATS_IF(r->beta), c, r->act, 0};
  normalise_rows(&columns, 0, r->hw, FLOATS(r->y) + at);
}

static void op_group_norm(const GroupNormRecord *r) { dsn_parallel_for(group_norm_image, r, r->n); }

static void group_norm_dx_image(const void *context, int image, int thread) {
  (void)thread;
  const GroupNormDxRecord *r = context;
  const int c = r->c, groups = ceil_div(c, r->group);
  double *sum = (double *)(AT(char, r->scratch) + group_scratch(c) * (size_t)image);
  float *mean = (float *)(sum + 2 * c), *inv = mean + c, *m1 = inv + c, *m2 = m1 + c;
  for (int i = 0; i < c; i++) {
    mean[i] = FLOATS(r->mean)[(size_t)image * groups + i / r->group];
    inv[i] = FLOATS(r->inv)[(size_t)image * groups + i / r->group];
  }
  const size_t at = (size_t)image * r->hw * c;
  Columns columns = {FLOATS(r->x) + at, FLOATS(r->dy) + at, mean, inv, FLOATS_IF(r->gamma), FLOATS_IF(r->beta),
                     c, r->act, r->act && r->dx ? FLOATS(r->dx) + at : 0};
  sum_columns(SUM_NORM, &columns, 0, r->hw, sum);
  if (!r->dx) return;
  reuse_g(&columns);
  for (int g = 0; g < groups; g++) {
    const int from = g * r->group, to = imin(from + r->group, c);
    double s1 = 0, s2 = 0;
    for (int i = from; i < to; i++) {
      const double gamma = columns.gamma ? (double)columns.gamma[i] : 1.0;
      s1 += gamma * sum[i];
      s2 += gamma * sum[c + i];
    }
    const double count = (double)r->hw * (to - from);
    for (int i = from; i < to; i++) {
      m1[i] = (float)(s1 / count);
      m2[i] = (float)(s2 / count);
    }
  }
  normalise_dx_rows(&columns, m1, m2, 0, r->hw, FLOATS(r->dx) + at);
}

static void op_group_norm_dx(const GroupNormDxRecord *r) {
  dsn_parallel_for(group_norm_dx_image, r, r->n);
  float *dgamma = FLOATS_IF(r->dgamma), *dbeta = FLOATS_IF(r->dbeta);
  for (int i = 0; i < r->c; i++) {
    double g = 0, b = 0;
    for (int image = 0; image < r->n; image++) {
      const double *sum = (const double *)(AT(char, r->scratch) + group_scratch(r->c) * (size_t)image);
      b += sum[i];
      g += sum[r->c + i];
    }
    if (dgamma) dgamma[i] += (float)g;
    if (dbeta) dbeta[i] += (float)b;
  }
}
