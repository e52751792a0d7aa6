/* Sums down the columns of a (rows, c) matrix, two at a time: statistics, gradients of scales and shifts, averages.
 * Blocks of SUM_ROWS rows are summed in float, blocks in double, so the error does not grow with the number of rows. */
#ifndef DSN_COLUMNS_H
#define DSN_COLUMNS_H
#include "arena.h"
#include "parallel.h"
#include "simd.h"

enum { SUM_ROWS = 64 };

typedef enum {
  SUM_PLAIN,  /* x,            -         */
  SUM_STATS,  /* x - mean,     (x - mean)^2; `mean` is any value near the mean */
  SUM_NORM,   /* g,            g * xhat, xhat = (x - mean) * inv, g = dy * act'(gamma * xhat + beta) */
  SUM_AFFINE, /* g,            g * x,    g = dy * act'(gamma * x + beta) */
} SumKind;

typedef struct {
  const float *x, *dy, *mean, *inv, *gamma, *beta; /* absent gamma: 1, absent beta: 0 */
  int c, act;
  float *g; /* SUM_NORM leaves g here, so that who needs it again need not evaluate the activation's gradient twice */
} Columns;

typedef struct {
  vf mean, inv, gamma, beta;
} ColumnFactors;

INLINE ColumnFactors column_factors(const Columns *s, int ch) {
  return (ColumnFactors){
      s->mean ? vf_load(s->mean + ch) : (vf){0},
      s->inv ? vf_load(s->inv + ch) : vf_splat(1.0f),
      s->gamma ? vf_load(s->gamma + ch) : vf_splat(1.0f),
      s->beta ? vf_load(s->beta + ch) : (vf){0},
  };
}

INLINE void column_terms(const SumKind kind, const int act, const ColumnFactors *f, const float *x, const float *dy, vf *a, vf *b) {
  switch (kind) {
    case SUM_PLAIN:
      *a = vf_load(x);
      *b = (vf){0};
      return;
    case SUM_STATS:
      *a = vf_load(x) - f->mean;
      *b = *a * *a;
      return;
    case SUM_NORM: {
      const vf hat = (vf_load(x) - f->mean) * f->inv;
      *a = act ? vf_load(dy) * vf_act_grad(vf_fma(hat, f->gamma, f->beta), act) : vf_load(dy);
      *b = *a * hat;
      return;
    }
    case SUM_AFFINE: {
      const vf in = vf_load(x);
      *a = act ? vf_load(dy) * vf_act_grad(vf_fma(in, f->gamma, f->beta), act) : vf_load(dy);
      *b = *a * in;
      return;
    }
  }
}

INLINE void store_lanes(float *p, vf v, int lanes) {
  if (lanes == VL) vf_store(p, v);
  else vf_store_n(p, v, lanes);
}

INLINE void sum_columns_as(const SumKind kind, const int act, const Columns *s, int from, int to, double *out) {
  const int c = s->c;
  for (int i = 0; i < 2 * c; i++) out[i] = 0;
  for (int row = from; row < to; row += SUM_ROWS) {
    const int count = imin(SUM_ROWS, to - row);
    for (int ch = 0; ch < c; ch += VL) {
      const ColumnFactors f = column_factors(s, ch);
      const int lanes = imin(VL, c - ch);
      const float *x = s->x + (size_t)row * c + ch, *dy = s->dy ? s->dy + (size_t)row * c + ch : 0;
      float *g = kind == SUM_NORM && s->g ? s->g + (size_t)row * c + ch : 0;
      const size_t next = (size_t)(row + SUM_ROWS) * c; /* each vector of channels asks for its share of the next block */
      prefetch_share(s->x + next, (size_t)SUM_ROWS * c, ch / VL, ceil_div(c, VL));
      if (s->dy) prefetch_share(s->dy + next, (size_t)SUM_ROWS * c, ch / VL, ceil_div(c, VL));
      vf a[4] = {{0}}, b[4] = {{0}}; /* four chains hide the latency of the additions */
      int r = 0;
      for (; r + 4 <= count; r += 4)
        UNROLL for (int u = 0; u < 4; u++) {
          vf ta, tb;
          column_terms(kind, act, &f, x + (size_t)(r + u) * c, dy + (size_t)(r + u) * c, &ta, &tb);
          if (g) store_lanes(g + (size_t)(r + u) * c, ta, lanes);
          a[u] = a[u] + ta;
          b[u] = b[u] + tb;
        }
      for (; r < count; r++) {
        vf ta, tb;
        column_terms(kind, act, &f, x + (size_t)r * c, dy + (size_t)r * c, &ta, &tb);
        if (g) store_lanes(g + (size_t)r * c, ta, lanes);
        a[0] = a[0] + ta;
        b[0] = b[0] + tb;
      }
      const vf sa = (a[0] + a[1]) + (a[2] + a[3]), sb = (b[0] + b[1]) + (b[2] + b[3]);
      for (int lane = 0; lane < lanes; lane++) {
        out[ch + lane] += (double)sa[lane];
        out[c + ch + lane] += (double)sb[lane];
      }
    }
  }
}

/* out[0..c) and out[c..2c): the two sums over rows [from, to). */
static void sum_columns(SumKind kind, const Columns *s, int from, int to, double *out) {
  if (kind == SUM_PLAIN) sum_columns_as(SUM_PLAIN, 0, s, from, to, out);
  else if (kind == SUM_STATS) sum_columns_as(SUM_STATS, 0, s, from, to, out);
  else if (kind == SUM_NORM) {
    if (s->act == ACT_SWISH) sum_columns_as(SUM_NORM, ACT_SWISH, s, from, to, out);
    else if (s->act == ACT_RELU) sum_columns_as(SUM_NORM, ACT_RELU, s, from, to, out);
    else sum_columns_as(SUM_NORM, s->act, s, from, to, out);
  } else sum_columns_as(SUM_AFFINE, s->act, s, from, to, out);
}

/* The sum of VL columns over `rows` rows of c floats, in four chains. */
INLINE vf sum_down(const float *x, int rows, int c) {
  vf sum[4] = {{0}};
  int row = 0;
  for (; row + 4 <= rows; row += 4)
    UNROLL for (int u = 0; u < 4; u++) sum[u] = sum[u] + vf_load(x + (size_t)(row + u) * c);
  for (; row < rows; row++) sum[0] = sum[0] + vf_load(x + (size_t)row * c);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* ---- over all rows, in a fixed number of chunks ---- */

INLINE int column_chunks(int rows) { return imax(1, imin(64, rows / 256)); }
INLINE uint32_t column_scratch(int rows, int c) { return (uint32_t)column_chunks(rows) * 2u * (uint32_t)c * 8u; }

typedef struct {
  SumKind kind;
  Columns columns;
  double *partial;
  int rows, chunks;
} ColumnJob;

static void column_chunk(const void *context, int chunk, int thread) {
  (void)thread;
  const ColumnJob *j = context;
  const int from = (int)((int64_t)j->rows * chunk / j->chunks), to = (int)((int64_t)j->rows * (chunk + 1) / j->chunks);
  sum_columns(j->kind, &j->columns, from, to, j->partial + (size_t)chunk * 2 * j->columns.c);
}

/* The two sums over all rows, left in the first 2c doubles of scratch. */
static const double *sum_all_rows(SumKind kind, const Columns *columns, int rows, Off scratch) {
  ColumnJob job = {kind, *columns, AT(double, scratch), rows, column_chunks(rows)};
  dsn_parallel_for(column_chunk, &job, job.chunks);
  const int width = 2 * columns->c;
  for (int chunk = 1; chunk < job.chunks; chunk++)
    for (int i = 0; i < width; i++) job.partial[i] += job.partial[(size_t)chunk * width + i];
  return job.partial;
}

static void op_column_sum(const ColumnSumRecord *r) {
  const Columns columns = {.x = FLOATS(r->x), .c = r->c};
  const double *sum = sum_all_rows(SUM_PLAIN, &columns, r->rows, r->scratch);
  float *y = FLOATS(r->y);
  for (int i = 0; i < r->c; i++) y[i] += (float)sum[i];
}

/* ---- element-wise work over (rows, c), shared out in blocks ---- */

/* Rows to an item: about 16 Ki floats, enough to pay for handing it out. */
INLINE int block_rows(int c) { return imax(1, (16 << 10) / c); }

#endif
