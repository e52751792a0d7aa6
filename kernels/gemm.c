/* Convolution as matrix multiplication over nested panels: forward, gradient of the input, gradient of the weight.
 *
 * Rows are output pixels, K runs over (tap, input channel), columns are output channels in panels of 16. A tile of
 * TILE_ROWS x TILE_VECS vectors stays in registers over the whole of K, so that an output is one chain of sums.
 * 1x1 kernels of stride 1 read x in place; others gather the rows of a block into scratch first, zeros outside the image. */
#include "arena.h"
#include "parallel.h"
#include "simd.h"

enum { ROW_BLOCK = 4 * TILE_ROWS, TILE_COLS = TILE_VECS * VL, DW_ROWS = 128, COLUMN_GROUP = 128 };

/* ---- gathering rows ---- */

/* How a row of the matrix comes from an image. Forward: the input pixel under tap (kh, kw) is oh * stride + kh - pad.
 * Transposed: it is (oh + pad - kh) / stride where that divides. `h, width` are the source image's, `oh, ow` the rows'. */
typedef struct {
  const float *x;
  int h, width, c, kernel, stride, pad, oh, ow, transposed;
} Source;

INLINE int source_is_dense(const Source *s) { return s->kernel == 1 && s->stride == 1 && s->pad == 0; }

INLINE int source_index(const Source *s, int out, int tap, int size) {
  if (!s->transposed) {
    const int in = out * s->stride + tap - s->pad;
    return in >= 0 && in < size ? in : -1;
  }
  const int in = out + s->pad - tap;
  if (in < 0 || in % s->stride) return -1;
  return in / s->stride < size ? in / s->stride : -1;
}

/* Copies rows [from, to) into `out`, each kernel * kernel * c floats. */
static void gather_rows(const Source *s, int from, int to, float *out) {
  const int pixels = s->oh * s->ow;
  for (int row = from; row < to; row++) {
    const int image = row / pixels, oh = row % pixels / s->ow, ow = row % s->ow;
    for (int kh = 0; kh < s->kernel; kh++) {
      const int ih = source_index(s, oh, kh, s->h);
      for (int kw = 0; kw < s->kernel; kw++, out += s->c) {
        const int iw = ih < 0 ? -1 : source_index(s, ow, kw, s->width);
        if (iw < 0) {
          __builtin_memset(out, 0, (size_t)s->c * 4);
        } else {
          __builtin_memcpy(out, s->x + (((size_t)image * s->h + ih) * s->width + iw) * s->c, (size_t)s->c * 4);
        }
      }
    }
  }
}

/* Rows [from, to) as a matrix with *ld floats a row: in place if dense, else gathered into scratch. */
INLINE const float *source_rows(const Source *s, int from, int to, float *scratch, int *ld) {
  if (source_is_dense(s)) {
    *ld = s->c;
    return s->x + (size_t)from * s->c;
  }
  *ld = s->kernel * s->kernel * s->c;
  gather_rows(s, from, to, scratch);
  return scratch;
}

/* ---- forward tile ---- */

typedef struct {
  int taps, k, tap_stride; /* k input channels of each tap; floats between taps of a panel */
  size_t panel_stride;     /* floats between panels */
} PanelShape;

INLINE const float *panel_column(const float *wp, const PanelShape *s, int column) {
  return wp + (size_t)(column / DSN_PANEL) * s->panel_stride + column % DSN_PANEL;
}

/* What becomes of the accumulators: scale, shift, then add to what is there (accumulate) or activate. */
typedef struct {
  const float *scale, *shift;
  int accumulate;
} Epilogue;

INLINE void gemm_tile(const int rows, const int vecs, const PanelShape *s, const float *x, int ldx, const float *wp, int column,
                      const Epilogue *e, float *y, int ldy, int columns) {
  vf acc[TILE_ROWS][TILE_VECS];
  UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vecs; v++) acc[r][v] = (vf){0};
  const float *w[TILE_VECS];
  UNROLL for (int v = 0; v < vecs; v++) w[v] = panel_column(wp, s, column + v * VL);
  for (int tap = 0; tap < s->taps; tap++) {
    const float *xk = x + (size_t)tap * s->k;
    for (int k = 0; k < s->k; k++) {
      vf wv[TILE_VECS];
      UNROLL for (int v = 0; v < vecs; v++) wv[v] = vf_load(w[v] + (size_t)k * DSN_PANEL);
      UNROLL for (int r = 0; r < rows; r++) {
        const vf a = vf_splat(xk[(size_t)r * ldx + k]);
        UNROLL for (int v = 0; v < vecs; v++) acc[r][v] = vf_fma(a, wv[v], acc[r][v]);
      }
    }
    UNROLL for (int v = 0; v < vecs; v++) w[v] += s->tap_stride;
  }
  UNROLL for (int v = 0; v < vecs; v++) {
    const int c = column + v * VL, lanes = imin(columns - c, VL);
    if (lanes <= 0) continue;
    const vf scale = e->scale ? vf_load(e->scale + c) : vf_splat(1.0f);
    const vf shift = e->shift ? vf_load(e->shift + c) : (vf){0};
    UNROLL for (int r = 0; r < rows; r++) {
      float *out = y + (size_t)r * ldy + c;
      vf value = acc[r][v];
      if (e->scale) value = vf_fma(value, scale, shift);
      else if (e->shift) value = value + shift;
      if (e->accumulate) value = value + vf_load(out);
      if (lanes == VL) vf_store(out, value);
      else vf_store_n(out, value, lanes);
    }
  }
}

typedef void (*TileFn)(const PanelShape *, const float *, int, const float *, int, const Epilogue *, float *, int, int);
#define TILE(ROWS, VECS)                                                                                                    \
  static __attribute__((noinline)) void tile_##ROWS##_##VECS(const PanelShape *s, const float *x, int ldx, const float *wp, \
                                                             int column, const Epilogue *e, float *y, int ldy, int n) {     \
    gemm_tile(ROWS, VECS, s, x, ldx, wp, column, e, y, ldy, n);                                                             \
  }
#if TILE_ROWS == 12
#define EACH_TILE_ROW(F, V) F(1, V) F(2, V) F(3, V) F(4, V) F(5, V) F(6, V) F(7, V) F(8, V) F(9, V) F(10, V) F(11, V) F(12, V)
#elif TILE_ROWS == 6
#define EACH_TILE_ROW(F, V) F(1, V) F(2, V) F(3, V) F(4, V) F(5, V) F(6, V)
#else
#define EACH_TILE_ROW(F, V) F(1, V) F(2, V) F(3, V) F(4, V)
#endif
EACH_TILE_ROW(TILE, 1)
EACH_TILE_ROW(TILE, 2)
#define TILE_NAME(ROWS, VECS) tile_##ROWS##_##VECS,
static const TileFn tiles[TILE_VECS][TILE_ROWS] = {{EACH_TILE_ROW(TILE_NAME, 1)}, {EACH_TILE_ROW(TILE_NAME, 2)}};

/* A block of rows times the columns [from, to) of n; `to` is a multiple of TILE_COLS or n. */
static void gemm_block(const PanelShape *s, const float *x, int ldx, int rows, const float *wp, int from, int to,
                       const Epilogue *e, float *y, int ldy) {
  for (int column = from; column < to; column += TILE_COLS) {
    const int vecs = ceil_div(imin(TILE_COLS, to - column), VL);
    for (int row = 0; row < rows; row += TILE_ROWS) {
      const int r = imin(TILE_ROWS, rows - row);
      tiles[vecs - 1][r - 1](s, x + (size_t)row * ldx, ldx, wp, column, e, y + (size_t)row * ldy, ldy, to);
    }
  }
}

static void activate_block(float *y, int ldy, int rows, int from, int to, int act) {
  for (int row = 0; row < rows; row++) {
    float *p = y + (size_t)row * ldy;
    int c = from;
    for (; c + VL <= to; c += VL) vf_store(p + c, vf_act(vf_load(p + c), act));
    if (c < to) vf_store_n(p + c, vf_act(vf_load(p + c), act), to - c);
  }
}

/* ---- forward and gradient of the input: one job, two sources ---- */

typedef struct {
  Source source;
  PanelShape shape;
  Epilogue epilogue;
  const float *wp;
  float *y, *scratch;
  size_t scratch_floats; /* of one thread */
  int rows, columns, row_block, column_groups, act;
} GemmJob;

INLINE int gemm_scratch_floats(int dense, int k) { return dense ? 0 : ROW_BLOCK * k; }

static void gemm_chunk(const void *context, int chunk, int thread) {
  const GemmJob *job = context;
  const int block = chunk / job->column_groups, group = chunk % job->column_groups;
  const int from_row = block * job->row_block, rows = imin(job->row_block, job->rows - from_row);
  const int from = group * COLUMN_GROUP, to = imin(from + COLUMN_GROUP, job->columns);
  float *scratch = job->scratch ? job->scratch + (size_t)thread * job->scratch_floats : 0;
  int ldx;
  const float *x = source_rows(&job->source, from_row, from_row + rows, scratch, &ldx);
  float *y = job->y + (size_t)from_row * job->columns;
  gemm_block(&job->shape, x, ldx, rows, job->wp, from, to, &job->epilogue, y, job->columns);
  if (job->act) activate_block(y, job->columns, rows, from, to, job->act);
}

static void run_gemm(GemmJob *job) {
  /* Few rows (batch 1, linear layers): smaller blocks, so that both threads find work. Bits do not depend on it. */
  job->row_block = job->rows >= 8 * ROW_BLOCK ? ROW_BLOCK : TILE_ROWS;
  job->column_groups = ceil_div(job->columns, COLUMN_GROUP);
  dsn_parallel_for(gemm_chunk, job, ceil_div(job->rows, job->row_block) * job->column_groups);
}

static void op_conv(const ConvRecord *r) {
  GemmJob job = {
      .source = {FLOATS(r->x), r->h, r->width, r->cin, r->kernel, r->stride, r->pad, r->oh, r->ow, 0},
      .shape = {r->kernel * r->kernel, r->cin, r->cin_max * DSN_PANEL, (size_t)r->kernel * r->kernel * r->cin_max * DSN_PANEL},
      .epilogue = {FLOATS_IF(r->scale), FLOATS_IF(r->shift), 0},
      .wp = FLOATS(r->w),
      .y = FLOATS(r->y),
      .scratch = FLOATS_IF(r->scratch),
      .rows = r->n * r->oh * r->ow,
      .columns = r->cout,
      .act = r->act,
  };
  job.scratch_floats = gemm_scratch_floats(source_is_dense(&job.source), r->kernel * r->kernel * r->cin);
  run_gemm(&job);
}

static uint32_t scratch_conv(const ConvRecord *r) {
  const int dense = r->kernel == 1 && r->stride == 1 && r->pad == 0;
  return (uint32_t)gemm_scratch_floats(dense, r->kernel * r->kernel * r->cin) * 4u * (uint32_t)dsn_threads();
}

static void op_conv_dx(const ConvDxRecord *r) {
  GemmJob job = {
      .source = {FLOATS(r->dy), r->oh, r->ow, r->cout, r->kernel, r->stride, r->pad, r->h, r->width, 1},
      .shape = {r->kernel * r->kernel, r->cout, r->cout_max * DSN_PANEL,
                (size_t)r->kernel * r->kernel * r->cout_max * DSN_PANEL},
      .epilogue = {0, 0, r->accumulate},
      .wp = FLOATS(r->wt),
      .y = FLOATS(r->dx),
      .scratch = FLOATS_IF(r->scratch),
      .rows = r->n * r->h * r->width,
      .columns = r->cin,
  };
  job.scratch_floats = gemm_scratch_floats(source_is_dense(&job.source), r->kernel * r->kernel * r->cout);
  run_gemm(&job);
}

static uint32_t scratch_conv_dx(const ConvDxRecord *r) {
  const int dense = r->kernel == 1 && r->stride == 1 && r->pad == 0;
  return (uint32_t)gemm_scratch_floats(dense, r->kernel * r->kernel * r->cout) * 4u * (uint32_t)dsn_threads();
}

/* ---- gradient of the weight: the sum runs over rows ---- */

/* dw[k0 + r][column ...] += sum over `count` rows of x[row][k0 + r] * dy[row][column ...] */
INLINE void outer_tile(const int rows, const int vecs, const float *x, int ldx, const float *dy, int ldy, int count, float *dw,
                       size_t panel_stride, int column, int columns) {
  vf acc[TILE_ROWS][TILE_VECS];
  UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vecs; v++) acc[r][v] = (vf){0};
  for (int p = 0; p < count; p++, x += ldx, dy += ldy) {
    vf d[TILE_VECS];
    UNROLL for (int v = 0; v < vecs; v++) d[v] = vf_load(dy + column + v * VL);
    UNROLL for (int r = 0; r < rows; r++) {
      const vf a = vf_splat(x[r]);
      UNROLL for (int v = 0; v < vecs; v++) acc[r][v] = vf_fma(a, d[v], acc[r][v]);
    }
  }
  UNROLL for (int v = 0; v < vecs; v++) {
    const int c = column + v * VL, lanes = imin(columns - c, VL);
    if (lanes <= 0) continue;
    float *out = dw + (size_t)(c / DSN_PANEL) * panel_stride + c % DSN_PANEL;
    UNROLL for (int r = 0; r < rows; r++) {
      float *at = out + (size_t)r * DSN_PANEL;
      vf_store_n(at, vf_load(at) + acc[r][v], lanes);
    }
  }
}

typedef void (*OuterFn)(const float *, int, const float *, int, int, float *, size_t, int, int);
#define OUTER(ROWS, VECS)                                                                                                   \
  static __attribute__((noinline)) void outer_##ROWS##_##VECS(const float *x, int ldx, const float *dy, int ldy, int count, \
                                                              float *dw, size_t stride, int column, int n) {                \
    outer_tile(ROWS, VECS, x, ldx, dy, ldy, count, dw, stride, column, n);                                                  \
  }
EACH_TILE_ROW(OUTER, 1)
EACH_TILE_ROW(OUTER, 2)
#define OUTER_NAME(ROWS, VECS) outer_##ROWS##_##VECS,
static const OuterFn outers[TILE_VECS][TILE_ROWS] = {{EACH_TILE_ROW(OUTER_NAME, 1)}, {EACH_TILE_ROW(OUTER_NAME, 2)}};

typedef struct {
  Source source;
  const float *dy;
  float *dw, *gathered, *partial;
  size_t gathered_floats, partial_floats, panel_stride;
  int rows, cout, cin_max, taps, chunks, chunk_rows, column_groups;
} DwJob;

/* Chunks of rows, from the shape alone: enough to share out, few enough that the partial sums stay small. */
INLINE int dw_chunks(int rows, int cout, int cin, int taps) {
  const int weights = ceil_div(cout, DSN_PANEL) * DSN_PANEL * cin * taps;
  const int by_rows = rows / (4 * DW_ROWS), by_memory = (4 << 20) / weights;
  return imax(1, imin(32, imin(by_rows, by_memory)));
}

/* Adds rows [from, to) into the prefix columns [column, to_column) of dw, whose taps hold `cin_max` inputs. */
static void dw_rows(const DwJob *job, int from, int to, int from_column, int to_column, float *dw, int cin_max, size_t panel_stride,
                    float *gathered) {
  const int cin = job->source.c;
  for (int row = from; row < to; row += DW_ROWS) {
    const int count = imin(DW_ROWS, to - row);
    int ldx;
    const float *x = source_rows(&job->source, row, row + count, gathered, &ldx);
    const float *dy = job->dy + (size_t)row * job->cout;
    for (int column = from_column; column < to_column; column += TILE_COLS) {
      const int vecs = ceil_div(imin(TILE_COLS, to_column - column), VL);
      for (int tap = 0; tap < job->taps; tap++)
        for (int k = 0; k < cin; k += TILE_ROWS) {
          const int r = imin(TILE_ROWS, cin - k);
          outers[vecs - 1][r - 1](x + (size_t)tap * cin + k, ldx, dy, job->cout, count,
                                  dw + ((size_t)tap * cin_max + k) * DSN_PANEL, panel_stride, column, to_column);
        }
    }
  }
}

static void dw_chunk(const void *context, int item, int thread) {
  const DwJob *job = context;
  const int chunk = item / job->column_groups, group = item % job->column_groups;
  const int from = chunk * job->chunk_rows, to = imin(from + job->chunk_rows, job->rows);
  const int column = group * COLUMN_GROUP, to_column = imin(column + COLUMN_GROUP, job->cout);
  float *gathered = job->gathered ? job->gathered + (size_t)thread * job->gathered_floats : 0;
  if (job->chunks == 1) {
    dw_rows(job, from, to, column, to_column, job->dw, job->cin_max, job->panel_stride, gathered);
    return;
  }
  const int cin = job->source.c;
  const size_t stride = (size_t)job->taps * cin * DSN_PANEL;
  float *partial = job->partial + (size_t)chunk * job->partial_floats;
  const size_t first = (size_t)(column / DSN_PANEL) * stride, last = (size_t)ceil_div(to_column, DSN_PANEL) * stride;
  __builtin_memset(partial + first, 0, (last - first) * 4);
  dw_rows(job, from, to, column, to_column, partial, cin, stride, gathered);
}

/* dw += the chunks' partial sums, in order; one item per panel. */
static void dw_reduce(const void *context, int panel, int thread) {
  (void)thread;
  const DwJob *job = context;
  const int cin = job->source.c, lanes = imin(DSN_PANEL, job->cout - panel * DSN_PANEL);
  for (int tap = 0; tap < job->taps; tap++) {
    float *out = job->dw + (size_t)panel * job->panel_stride + (size_t)tap * job->cin_max * DSN_PANEL;
    const float *in = job->partial + ((size_t)panel * job->taps + tap) * cin * DSN_PANEL;
    for (int k = 0; k < cin; k++, out += DSN_PANEL, in += DSN_PANEL)
      for (int lane = 0; lane < lanes; lane += VL) {
        vf sum = vf_load(out + lane);
        for (int chunk = 0; chunk < job->chunks; chunk++) sum = sum + vf_load(in + (size_t)chunk * job->partial_floats + lane);
        vf_store_n(out + lane, sum, imin(VL, lanes - lane));
      }
  }
}

INLINE size_t dw_gathered_floats(int dense, int k) { return dense ? 0 : (size_t)DW_ROWS * k; }
INLINE size_t dw_partial_floats(int cout, int cin, int taps) { return (size_t)ceil_div(cout, DSN_PANEL) * DSN_PANEL * cin * taps; }

static void op_conv_dw(const ConvDwRecord *r) {
  const int taps = r->kernel * r->kernel;
  DwJob job = {
      .source = {FLOATS(r->x), r->h, r->width, r->cin, r->kernel, r->stride, r->pad, r->oh, r->ow, 0},
      .dy = FLOATS(r->dy),
      .dw = FLOATS(r->dw),
      .panel_stride = (size_t)taps * r->cin_max * DSN_PANEL,
      .rows = r->n * r->oh * r->ow,
      .cout = r->cout,
      .cin_max = r->cin_max,
      .taps = taps,
  };
  job.chunks = dw_chunks(job.rows, r->cout, r->cin, taps);
  job.chunk_rows = ceil_div(ceil_div(job.rows, job.chunks), DW_ROWS) * DW_ROWS;
  job.chunks = ceil_div(job.rows, job.chunk_rows);
  job.column_groups = ceil_div(r->cout, COLUMN_GROUP);
  job.gathered_floats = dw_gathered_floats(source_is_dense(&job.source), taps * r->cin);
  job.partial_floats = dw_partial_floats(r->cout, r->cin, taps);
  float *scratch = FLOATS_IF(r->scratch);
  if (job.gathered_floats) job.gathered = scratch;
  job.partial = scratch + job.gathered_floats * (size_t)dsn_threads();
  dsn_parallel_for(dw_chunk, &job, job.chunks * job.column_groups);
  if (job.chunks > 1) dsn_parallel_for(dw_reduce, &job, ceil_div(r->cout, DSN_PANEL));
}

static uint32_t scratch_conv_dw(const ConvDwRecord *r) {
  const int taps = r->kernel * r->kernel, dense = r->kernel == 1 && r->stride == 1 && r->pad == 0;
  const int chunks = dw_chunks(r->n * r->oh * r->ow, r->cout, r->cin, taps);
  const size_t gathered = dw_gathered_floats(dense, taps * r->cin) * (size_t)dsn_threads();
  return (uint32_t)((gathered + (chunks > 1 ? (size_t)chunks * dw_partial_floats(r->cout, r->cin, taps) : 0)) * 4u);
}

/* ---- transposed weights for the gradient of the input ---- */

static void transpose_panel(const void *context, int panel, int thread) {
  (void)thread;
  const TransposeRecord *r = context;
  const int from = panel * DSN_PANEL, lanes = imin(DSN_PANEL, r->cin_max - from);
  const size_t w_panel = (size_t)r->taps * r->cin_max * DSN_PANEL;
  const float *w = FLOATS(r->w);
  float *out = FLOATS(r->wt) + (size_t)panel * r->taps * r->cout_max * DSN_PANEL;
  for (int tap = 0; tap < r->taps; tap++)
    for (int o = 0; o < r->cout_max; o++, out += DSN_PANEL) {
      const float *in = w + (size_t)(o / DSN_PANEL) * w_panel + ((size_t)tap * r->cin_max + from) * DSN_PANEL + o % DSN_PANEL;
      for (int i = 0; i < DSN_PANEL; i++) out[i] = i < lanes ? in[(size_t)i * DSN_PANEL] : 0.0f;
    }
}

static void op_transpose(const TransposeRecord *r) { dsn_parallel_for(transpose_panel, r, ceil_div(r->cin_max, DSN_PANEL)); }
