/* Convolution as matrix multiplication over nested panels: forward, gradient of the input, gradient of the weight.
 *
 * Rows are output pixels, K runs over (tap, input channel), columns are output channels in panels of 16. A tile of
 * TILE_ROWS x TILE_VECS vectors stays in registers over the whole of K, so that an output is one chain of sums.
 * A tile's rows are neighbours in a line of the image and read the pixels under the kernel where they lie: in x itself, or, with
 * padding, in a copy of the lines that a block of rows needs, zeros around it. For the gradient of the weight they are gathered
 * into a matrix first. */
#include "affine.h"
#include "arena.h"
#include "parallel.h"
#include "simd.h"

enum {
  ROW_BLOCK = 4 * TILE_ROWS,
  TILE_COLS = TILE_VECS * VL,
  WIDE_VECS = 8, /* vectors of a tile of one row, which waits for weights, not for arithmetic */
  TILE_SIZE = TILE_ROWS * TILE_VECS > WIDE_VECS ? TILE_ROWS * TILE_VECS : WIDE_VECS,
  DW_ROWS = 128,
  COLUMN_GROUP = 128
};

/* ---- where rows come from ---- */

/* Rows are `oh, ow` places of a window over the image x, `stride` pixels apart: `taps_h` by `taps_w` pixels, the first of them
 * `pad_h, pad_w` pixels before the image, or inside it where that is negative. Backward: the taps of the weights run the other way. */
typedef struct {
  const float *x;
  int h, width, c, taps_h, taps_w, stride, pad_h, pad_w, oh, ow, backward;
} Source;

/* Whether rows are pixels. */
INLINE int source_is_dense(const Source *s) {
  return s->taps_h * s->taps_w == 1 && s->stride == 1 && !s->pad_h && !s->pad_w && s->oh == s->h && s->ow == s->width;
}

/* Copies rows [from, to) into `out`, each taps_h * taps_w * c floats. */
static void gather_rows(const Source *s, int from, int to, float *out) {
  const int pixels = s->oh * s->ow;
  for (int row = from; row < to; row++) {
    const int image = row / pixels, top = row % pixels / s->ow * s->stride - s->pad_h, left = row % s->ow * s->stride - s->pad_w;
    for (int ih = top; ih < top + s->taps_h; ih++)
      for (int iw = left; iw < left + s->taps_w; iw++, out += s->c) {
        if (ih < 0 || ih >= s->h || iw < 0 || iw >= s->width) {
          __builtin_memset(out, 0, (size_t)s->c * 4);
        } else {
          __builtin_memcpy(out, s->x + (((size_t)image * s->h + ih) * s->width + iw) * s->c, (size_t)s->c * 4);
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
  *ld = s->taps_h * s->taps_w * s->c;
  gather_rows(s, from, to, scratch);
  return scratch;
}

/* Pixels of a line as a window reads it, padding included, and whether there is any. */
INLINE int window_width(const Source *s) { return imax((s->ow - 1) * s->stride + s->taps_w, s->pad_w + s->width); }
INLINE int window_is_padded(const Source *s) {
  return s->pad_h > 0 || s->pad_w > 0 || (s->oh - 1) * s->stride + s->taps_h - s->pad_h > s->h ||
         (s->ow - 1) * s->stride + s->taps_w - s->pad_w > s->width;
}
/* Pixels from line to line where the window reads: of the padded copy, or of the image. */
INLINE int window_pitch(const Source *s) { return window_is_padded(s) ? window_width(s) : s->width; }

/* Source lines [from, from + lines) of an image, which may lie outside, with zeros for the padding. */
static void copy_lines(const Source *s, const float *image, int from, int lines, float *out) {
  const int before = imax(s->pad_w, 0), skipped = before - s->pad_w;
  const size_t line = (size_t)(s->width - skipped) * s->c, left = (size_t)before * s->c, all = (size_t)window_width(s) * s->c;
  for (int ih = from; ih < from + lines; ih++, out += all) {
    const int inside = ih >= 0 && ih < s->h;
    __builtin_memset(out, 0, (inside ? left : all) * 4);
    if (!inside) continue;
    __builtin_memcpy(out + left, image + ((size_t)ih * s->width + skipped) * s->c, line * 4);
    __builtin_memset(out + left + line, 0, (all - left - line) * 4);
  }
}

/* ---- forward tile ---- */

/* How K runs: `outer` times `inner` groups of k inputs; floats between groups in x, and in a panel of the weights. `line_skip`: those
 * that an outer group leaves out behind its inner ones. */
typedef struct {
  int outer, inner, k;
  ptrdiff_t x_outer, x_inner;
  size_t tap_stride, line_skip, panel_stride;
} PanelShape;

INLINE const float *panel_column(const float *wp, const PanelShape *s, int column) {
  return wp + (size_t)(column / DSN_PANEL) * s->panel_stride + column % DSN_PANEL;
}

/* What a tile fetches into the caches before it is needed: the lines that it will write, and a share of the weights that the next
 * columns multiply with, from `offset` bytes on in each panel, `step` bytes for each k. Past the last columns the share is useless. */
typedef struct {
  ptrdiff_t offset;
  int step;
} Ahead;

typedef struct {
  const char *at[TILE_VECS];
  int step;
} Fetch;

INLINE Fetch fetch_ahead(const int rows, const int vecs, const PanelShape *s, const Ahead *ahead, const float *const *w, const float *y,
                         int ldy) {
  Fetch f = {.step = ahead->step};
  if (VL < DSN_PANEL || vecs > TILE_VECS) return f;
  UNROLL for (int v = 0; v < vecs; v++) {
    f.at[v] = (const char *)(w[v] + TILE_COLS / DSN_PANEL * s->panel_stride) + ahead->offset;
    UNROLL for (int r = 0; r < rows; r++) __builtin_prefetch(y + (size_t)r * ldy + v * VL, 1);
  }
  return f;
}

INLINE void fetch_on(const int vecs, Fetch *f) {
  if (VL < DSN_PANEL || vecs > TILE_VECS) return;
  UNROLL for (int v = 0; v < vecs; v++) {
    __builtin_prefetch(f->at[v], 0, 2);
    f->at[v] += f->step;
  }
}

/* What becomes of the accumulators: scale, shift, then add to what is there (accumulate) or activate. */
typedef struct {
  const float *scale, *shift;
  int accumulate, act;
} Epilogue;

INLINE void store_tile(const int rows, const int vecs, const int act, const vf *acc, const Epilogue *e, float *y, int ldy, int column,
                       int columns) {
  UNROLL for (int v = 0; v < vecs; v++) {
    const int c = column + v * VL, lanes = imin(columns - c, VL);
    if (lanes <= 0) continue;
    const int scaled = FINISH_IN_REGISTERS && e->scale, shifted = FINISH_IN_REGISTERS && e->shift;
    const vf scale = scaled ? vf_load(e->scale + c) : vf_splat(1.0f);
    const vf shift = shifted ? vf_load(e->shift + c) : (vf){0};
    UNROLL for (int r = 0; r < rows; r++) {
      float *out = y + (size_t)r * ldy + c;
      vf value = acc[r * vecs + v];
      if (scaled) value = vf_fma(value, scale, shift);
      else if (shifted) value = value + shift;
      if (act == ACT_NONE && e->accumulate) value = value + vf_load(out);
      value = vf_act(value, act);
      if (lanes == VL) vf_store(out, value);
      else vf_store_n(out, value, lanes);
    }
  }
}

/* store_tile with a constant activation, so that each is compiled into its own loop. */
INLINE void finish_tile(const int rows, const int vecs, const vf *acc, const Epilogue *e, float *y, int ldy, int column, int columns) {
  switch (FINISH_IN_REGISTERS ? e->act : ACT_NONE) {
    case ACT_SWISH: store_tile(rows, vecs, ACT_SWISH, acc, e, y, ldy, column, columns); break;
    case ACT_RELU: store_tile(rows, vecs, ACT_RELU, acc, e, y, ldy, column, columns); break;
    case ACT_SIGMOID: store_tile(rows, vecs, ACT_SIGMOID, acc, e, y, ldy, column, columns); break;
    default: store_tile(rows, vecs, ACT_NONE, acc, e, y, ldy, column, columns);
  }
}

INLINE void gemm_tile(const int rows, const int vecs, const PanelShape *s, const float *x, int ldx, const float *wp, int column,
                      const Epilogue *e, float *y, int ldy, int columns, const Ahead *ahead) {
  vf acc[TILE_SIZE];
  UNROLL for (int i = 0; i < rows * vecs; i++) acc[i] = (vf){0};
  const float *w[WIDE_VECS];
  UNROLL for (int v = 0; v < vecs; v++) w[v] = panel_column(wp, s, column + v * VL);
  Fetch fetch = fetch_ahead(rows, vecs, s, ahead, w, y + column, ldy);
  for (int outer = 0; outer < s->outer; outer++) {
    const float *xk = x + outer * s->x_outer;
    for (int inner = 0; inner < s->inner; inner++, xk += s->x_inner) {
      for (int k = 0; k < s->k; k++) {
        vf wv[WIDE_VECS];
        UNROLL for (int v = 0; v < vecs; v++) wv[v] = vf_load(w[v] + (size_t)k * DSN_PANEL);
        fetch_on(vecs, &fetch);
        if (vecs == WIDE_VECS) UNROLL for (int v = 0; v < vecs; v++) __builtin_prefetch(w[v] + (size_t)(k + 32) * DSN_PANEL);
        UNROLL for (int r = 0; r < rows; r++) {
          const vf a = vf_splat(xk[(size_t)r * ldx + k]);
          UNROLL for (int v = 0; v < vecs; v++) acc[r * vecs + v] = vf_fma(a, wv[v], acc[r * vecs + v]);
        }
      }
      UNROLL for (int v = 0; v < vecs; v++) w[v] += s->tap_stride;
    }
    UNROLL for (int v = 0; v < vecs; v++) w[v] += s->line_skip;
  }
  finish_tile(rows, vecs, acc, e, y, ldy, column, columns);
}

typedef void (*TileFn)(const PanelShape *, const float *, int, const float *, int, const Epilogue *, float *, int, int, const Ahead *);
#define TILE(ROWS, VECS)                                                                                                    \
  static __attribute__((noinline)) void tile_##ROWS##_##VECS(const PanelShape *s, const float *x, int ldx, const float *wp, \
                                                             int column, const Epilogue *e, float *y, int ldy, int n,       \
                                                             const Ahead *ahead) {                                          \
    gemm_tile(ROWS, VECS, s, x, ldx, wp, column, e, y, ldy, n, ahead);                                                      \
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
TILE(1, 8)
#define TILE_NAME(ROWS, VECS) tile_##ROWS##_##VECS,
/* By vectors and rows, and the one for a single row. */
typedef struct {
  TileFn of[TILE_VECS][TILE_ROWS], wide;
} Tiles;
static const Tiles float_tiles = {{{EACH_TILE_ROW(TILE_NAME, 1)}, {EACH_TILE_ROW(TILE_NAME, 2)}}, tile_1_8};

/* `lines` lines of `rows` rows each: floats between rows and between lines, of x and of y; whether the rows are still to be fetched. */
typedef struct {
  const float *x;
  float *y;
  int lines, rows, ldx, ldy, far;
  size_t line_step, y_line_step;
} Block;

/* A block times the columns [from, to); `to` is a multiple of TILE_COLS or the last. A line's rows are shared out evenly
 * over its tiles: a tile of one row would take as long as one of four. */
static void gemm_block(const Tiles *tiles, const PanelShape *s, const Block *b, const float *wp, int from, int to, const Epilogue *e) {
  const int tiles_of_line = ceil_div(b->rows, TILE_ROWS);
  Ahead ahead = {0, DSN_PANEL * 4 / (b->lines * tiles_of_line)};
  const ptrdiff_t share = (ptrdiff_t)s->outer * s->inner * s->k * ahead.step;
  int column = from;
  if (b->lines * b->rows == 1)
    for (; column + WIDE_VECS * VL <= to; column += WIDE_VECS * VL) tiles->wide(s, b->x, 0, wp, column, e, b->y, 0, to, &ahead);
  for (; column < to; column += TILE_COLS) {
    const int vecs = ceil_div(imin(TILE_COLS, to - column), VL);
    ahead.offset = 0;
    for (int line = 0; line < b->lines; line++) {
      const float *x = b->x + line * b->line_step;
      float *y = b->y + line * b->y_line_step;
      for (int tile = 0, row = 0; tile < tiles_of_line; tile++) {
        const int rows = ceil_div(b->rows - row, tiles_of_line - tile);
        if (b->far && column == 0) prefetch(x + (size_t)(row + rows) * b->ldx, (size_t)rows * b->ldx); /* what the next tile reads */
        tiles->of[vecs - 1][rows - 1](s, x + (size_t)row * b->ldx, b->ldx, wp, column, e, y + (size_t)row * b->ldy, b->ldy, to,
                                  &ahead);
        ahead.offset += share;
        row += rows;
      }
    }
  }
}

/* ---- forward and gradient of the input: one job ---- */

typedef struct {
  const Tiles *tiles;
  Source source;
  PanelShape shape;
  Epilogue epilogue;
  const float *wp;
  float *y, *scratch;
  size_t scratch_floats;         /* of one thread */
  size_t y_row, y_line, y_image; /* floats between rows, lines of rows and images of y */
  int images, columns, blocks, column_groups, weights_first, dense; /* dense: all rows are one line, of x and of y */
} GemmJob;

/* Lines of rows that one block takes where the source is read as a window over an image. Blocks copy the lines again that their
 * neighbours read too, so they are larger where an image has enough for eight of them. */
INLINE int window_lines(const Source *s) {
  const int least = ceil_div(ROW_BLOCK, s->ow), most = ceil_div(4 * ROW_BLOCK, s->ow);
  return imin(s->oh, imax(least, imin(most, s->oh / 8)));
}
INLINE int window_source_lines(const Source *s, int lines) { return (lines - 1) * s->stride + s->taps_h; }

INLINE uint64_t gemm_scratch_floats(const Source *s) {
  if (source_is_dense(s) || !window_is_padded(s)) return 0;
  return (uint64_t)window_source_lines(s, window_lines(s)) * window_width(s) * s->c;
}

/* More than an arena can hold stays more. */
INLINE uint32_t scratch_bytes(uint64_t floats) { return floats < UINT32_MAX / 4 ? (uint32_t)floats * 4u : UINT32_MAX; }

/* The block of output lines [from, from + lines) of one image. */
static Block window_block(const Source *s, int image, int from, int lines, float *scratch) {
  const int width = window_pitch(s), first = from * s->stride - s->pad_h;
  const float *x = s->x + (size_t)image * s->h * s->width * s->c;
  if (window_is_padded(s)) {
    copy_lines(s, x, first, window_source_lines(s, lines), scratch);
    x = scratch;
  } else {
    x += ((ptrdiff_t)first * s->width - s->pad_w) * s->c;
  }
  if (s->backward) x += ((ptrdiff_t)(s->taps_h - 1) * width + s->taps_w - 1) * s->c;
  return (Block){.x = x, .lines = lines, .rows = s->ow, .ldx = s->stride * s->c, .line_step = (size_t)s->stride * width * s->c};
}

INLINE int job_rows(const GemmJob *job) { return job->images * job->source.oh * job->source.ow; }

/* The first row of a block where rows lie in a matrix: they are shared out evenly over the tiles, and those over the blocks. */
INLINE int block_start(const GemmJob *job, int block) {
  const int rows = job_rows(job), tiles = ceil_div(rows, TILE_ROWS), tile = (int)((int64_t)tiles * block / job->blocks);
  return (int)((int64_t)rows * tile / tiles);
}

static void gemm_chunk(const void *context, int chunk, int thread) {
  const GemmJob *job = context;
  const Source *s = &job->source;
  const int block = job->weights_first ? chunk % job->blocks : chunk / job->column_groups;
  const int group = job->weights_first ? chunk / job->blocks : chunk % job->column_groups;
  const int from = group * COLUMN_GROUP, to = imin(from + COLUMN_GROUP, job->columns);
  float *scratch = job->scratch ? job->scratch + (size_t)thread * job->scratch_floats : 0;
  Block b;
  if (job->dense) {
    const int first = block_start(job, block);
    b = (Block){.x = s->x + (size_t)first * s->c, .lines = 1, .rows = block_start(job, block + 1) - first, .ldx = s->c};
    b.y = job->y + (size_t)first * job->y_row;
  } else {
    const int lines = window_lines(s), blocks = ceil_div(s->oh, lines), image = block / blocks, line = block % blocks * lines;
    b = window_block(s, image, line, imin(lines, s->oh - line), scratch);
    b.y = job->y + (size_t)image * job->y_image + (size_t)line * job->y_line;
  }
  b.ldy = (int)job->y_row;
  b.y_line_step = job->y_line;
  b.far = is_far((size_t)job_rows(job) * s->c);
  const Epilogue *e = &job->epilogue;
  gemm_block(job->tiles, &job->shape, &b, job->wp, from, to, e);
  /* Only forward is there anything to finish, where all rows of y lie behind each other. */
  if (!FINISH_IN_REGISTERS) finish_rows(e->act, e->scale, e->shift, from, to, b.lines * b.rows, job->columns, b.y);
}

/* Of `taps` in the weights, the window's are `tap_step` apart within a line and `tap_line` from line to line. `k_max`: inputs of each
 * tap that the weights hold, of which the source's c are used. */
static void run_gemm(GemmJob *job, int k_max, int taps, int tap_step, int tap_line) {
  const Source *s = &job->source;
  const ptrdiff_t line = (ptrdiff_t)window_pitch(s) * s->c, sign = s->backward ? -1 : 1;
  const size_t tap = (size_t)k_max * DSN_PANEL;
  PanelShape shape = {
      .outer = s->taps_h,
      .inner = s->taps_w,
      .k = s->c,
      .x_outer = sign * line,
      .x_inner = sign * s->c,
      .tap_stride = tap_step * tap,
      .line_skip = (size_t)(tap_line - s->taps_w * tap_step) * tap,
      .panel_stride = taps * tap,
  };
  if (!s->backward && tap_step == 1 && s->c == k_max) { /* the inner groups lie behind each other, in x and in the weights */
    shape.k *= shape.inner;
    shape.tap_stride *= shape.inner;
    shape.inner = 1;
  }
  job->shape = shape;
  job->scratch_floats = gemm_scratch_floats(s);
  job->column_groups = ceil_div(job->columns, COLUMN_GROUP);
  const int rows = job_rows(job);
  job->dense = source_is_dense(s) && job->y_line == s->ow * job->y_row && job->y_image == s->oh * job->y_line;
  if (job->dense) {
    /* Few rows (batch 1, linear layers): smaller blocks, so that both threads find work. Bits do not depend on it. */
    job->blocks = ceil_div(rows, rows >= 8 * ROW_BLOCK ? ROW_BLOCK : TILE_ROWS);
  } else {
    job->blocks = job->images * ceil_div(s->oh, window_lines(s));
  }
  /* What is larger, weights or rows, goes through the cache once. */
  job->weights_first = (size_t)job->columns * s->taps_h * s->taps_w > (size_t)rows;
  dsn_parallel_for(gemm_chunk, job, job->blocks * job->column_groups);
}

static Source forward_source(const float *x, int h, int width, int c, int kernel, int stride, int pad, int oh, int ow) {
  return (Source){x, h, width, c, kernel, kernel, stride, pad, pad, oh, ow, 0};
}

static Source conv_source(const ConvRecord *r) {
  return forward_source(FLOATS(r->x), r->h, r->width, r->cin, r->kernel, r->stride, r->pad, r->oh, r->ow);
}

static void run_conv(const ConvRecord *r, const Tiles *tiles) {
  const size_t row = (size_t)r->cout, line = row * r->ow;
  GemmJob job = {
      .tiles = tiles,
      .source = conv_source(r),
      .epilogue = {FLOATS_IF(r->scale), FLOATS_IF(r->shift), 0, r->act},
      .wp = FLOATS(r->w),
      .y = FLOATS(r->y),
      .scratch = FLOATS_IF(r->scratch),
      .y_row = row,
      .y_line = line,
      .y_image = line * r->oh,
      .images = r->n,
      .columns = r->cout,
  };
  run_gemm(&job, r->cin_max, r->kernel * r->kernel, 1, r->kernel);
}

static void op_conv(const ConvRecord *r) { run_conv(r, &float_tiles); }

static uint32_t scratch_conv(const ConvRecord *r) {
  const Source source = conv_source(r);
  return scratch_bytes(gemm_scratch_floats(&source) * (uint64_t)dsn_threads());
}

/* Gradient of the input. Its pixels `stride` apart are one phase: the same taps reach them, each `stride` taps from the next, from
 * neighbouring pixels of dy. So a phase is a convolution of dy with stride 1, and each is run by itself. */
typedef struct {
  int first; /* tap */
  int taps, pad, size;
} Phase;

static Phase phase_of(int phase, int kernel, int stride, int pad, int size) {
  const int first = (phase + pad) % stride, rows = ceil_div(size - phase, stride);
  if (first >= kernel) return (Phase){0, 0, 0, rows}; /* nothing reaches these pixels */
  const int taps = ceil_div(kernel - first, stride);
  return (Phase){first, taps, taps - 1 - (phase + pad - first) / stride, rows};
}

static Source phase_source(const ConvDxRecord *r, Phase v, Phase h) {
  return (Source){FLOATS(r->dy), r->oh, r->ow, r->cout, v.taps, h.taps, 1, v.pad, h.pad, v.size, h.size, 1};
}

static void op_conv_dx(const ConvDxRecord *r) {
  const int stride = r->stride;
  const size_t row = (size_t)r->cin, line = row * r->width;
  for (int ph = 0; ph < imin(stride, r->h); ph++) {
    const Phase v = phase_of(ph, r->kernel, stride, r->pad, r->h);
    for (int pw = 0; pw < imin(stride, r->width); pw++) {
      const Phase h = phase_of(pw, r->kernel, stride, r->pad, r->width);
      GemmJob job = {
          .tiles = &float_tiles,
          .source = phase_source(r, v, h),
          .epilogue = {0, 0, r->accumulate, ACT_NONE},
          .wp = FLOATS(r->wt) + (size_t)(v.first * r->kernel + h.first) * r->cout_max * DSN_PANEL,
          .y = FLOATS(r->dx) + ph * line + pw * row,
          .scratch = FLOATS_IF(r->scratch),
          .y_row = stride * row,
          .y_line = stride * line,
          .y_image = line * r->h,
          .images = r->n,
          .columns = r->cin,
      };
      run_gemm(&job, r->cout_max, r->kernel * r->kernel, stride, stride * r->kernel);
    }
  }
}

static uint32_t scratch_conv_dx(const ConvDxRecord *r) {
  uint64_t most = 0;
  for (int ph = 0; ph < imin(r->stride, r->h); ph++)
    for (int pw = 0; pw < imin(r->stride, r->width); pw++) {
      const Source source = phase_source(r, phase_of(ph, r->kernel, r->stride, r->pad, r->h),
                                         phase_of(pw, r->kernel, r->stride, r->pad, r->width));
      const uint64_t floats = gemm_scratch_floats(&source);
      if (floats > most) most = floats;
    }
  return scratch_bytes(most * (uint64_t)dsn_threads());
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
  const int dense = source_is_dense(&job->source), joined = job->source.c == cin_max; /* taps lie behind each other */
  const int cin = joined ? job->taps * cin_max : job->source.c, taps = joined ? 1 : job->taps;
  const int tiles = ceil_div(to_column - from_column, TILE_COLS) * taps * ceil_div(cin, TILE_ROWS);
  for (int row = from; row < to; row += DW_ROWS) {
    const int count = imin(DW_ROWS, to - row);
    int ldx;
    const float *x = source_rows(&job->source, row, row + count, gathered, &ldx);
    const float *dy = job->dy + (size_t)row * job->cout;
    int tile = 0; /* each asks for its share of the next rows */
    for (int column = from_column; column < to_column; column += TILE_COLS) {
      const int vecs = ceil_div(imin(TILE_COLS, to_column - column), VL);
      for (int tap = 0; tap < taps; tap++)
        for (int k = 0; k < cin; k += TILE_ROWS) {
          const int r = imin(TILE_ROWS, cin - k);
          if (dense) prefetch_share(x + (size_t)count * ldx, (size_t)count * ldx, tile, tiles);
          prefetch_share(dy + (size_t)count * job->cout, (size_t)count * job->cout, tile++, tiles);
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

static Source conv_dw_source(const ConvDwRecord *r) {
  return forward_source(FLOATS(r->x), r->h, r->width, r->cin, r->kernel, r->stride, r->pad, r->oh, r->ow);
}

static void op_conv_dw(const ConvDwRecord *r) {
  if (!r->n) return;
  const int taps = r->kernel * r->kernel;
  DwJob job = {
      .source = conv_dw_source(r),
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
  const int taps = r->kernel * r->kernel, chunks = dw_chunks(r->n * r->oh * r->ow, r->cout, r->cin, taps);
  const Source source = conv_dw_source(r);
  const uint64_t gathered = dw_gathered_floats(source_is_dense(&source), taps * r->cin) * (uint64_t)dsn_threads();
  return scratch_bytes(gathered + (chunks > 1 ? (uint64_t)chunks * dw_partial_floats(r->cout, r->cin, taps) : 0));
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
