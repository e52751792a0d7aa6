/* Depthwise convolution: one filter a channel, vectors over channels, weights [kh][kw][cmax]. One item is one row of pixels.
 * Kernels are 1, 3 or 5 wide. */
#include "affine.h"
#include "arena.h"
#include "columns.h"
#include "parallel.h"
#include "simd.h"

/* Outputs that are computed together: their inputs overlap, so each input is loaded fewer times. */
enum { STRIP = VL == 16 ? 7 : VL == 8 ? 2 : 4 };

typedef struct {
  const float *x, *w, *scale, *shift;
  float *y, *means;
  int h, width, c, kernel, stride, pad, oh, ow, cmax, flip, act, far, accumulate;
} DepthwiseJob;

/* What lies beside the image. */
static const float outside[VL];

/* `count` outputs of a row, of VL channels: y[o] = act(scale * sum over taps of x[o * stride - pad + kw] * w + shift), one
 * chain of sums over (kh, kw) each. `x` is the kernel's first row inside the image, `w` its taps; rows of the kernel that
 * lie outside are left out, columns that do count as zero where `edge` is set. `flip` reads the kernel backwards. `accumulate`
 * adds to what is there, but for the first `done` outputs, which have had theirs. */
INLINE void depthwise_strip(const DepthwiseJob *j, const int kernel, const int stride, const int count, const int edge, int rows,
                            const float *x, int iw0, const float *w, int w_step, const vf scale, const vf shift, int done, float *y,
                            int lanes) {
  vf acc[STRIP];
  UNROLL for (int o = 0; o < count; o++) acc[o] = (vf){0};
  for (int kh = 0; kh < rows; kh++, x += (size_t)j->width * j->c, w += (ptrdiff_t)kernel * w_step) {
    vf taps[5];
    UNROLL for (int kw = 0; kw < kernel; kw++) taps[kw] = vf_load(w + (ptrdiff_t)kw * w_step);
    UNROLL for (int i = 0; i < (count - 1) * stride + kernel; i++) {
      const int iw = iw0 + i;
      const vf in = vf_load(!edge || (unsigned)iw < (unsigned)j->width ? x + (ptrdiff_t)iw * j->c : outside);
      UNROLL for (int o = 0; o < count; o++)
        if (i >= o * stride && i < o * stride + kernel) acc[o] = vf_fma(in, taps[i - o * stride], acc[o]);
    }
  }
  if (FINISH_IN_REGISTERS) {
    if (j->scale) UNROLL for (int o = 0; o < count; o++) acc[o] = vf_fma(acc[o], scale, shift);
    else if (j->shift) UNROLL for (int o = 0; o < count; o++) acc[o] = acc[o] + shift;
    if (j->act == ACT_SWISH) UNROLL for (int o = 0; o < count; o++) acc[o] = vf_act(acc[o], ACT_SWISH);
    else if (j->act) UNROLL for (int o = 0; o < count; o++) acc[o] = vf_act(acc[o], j->act);
  }
  if (j->accumulate) UNROLL for (int o = 0; o < count; o++) acc[o] = vf_load(y + (size_t)o * j->c) + acc[o];
  UNROLL for (int o = 0; o < count; o++)
    if (o < done) continue;
    else if (lanes == VL) vf_store(y + (size_t)o * j->c, acc[o]);
    else vf_store_n(y + (size_t)o * j->c, acc[o], lanes);
}

/* One row of outputs, channels [from, to). The last strip may overlap the one before: what both compute is the same. */
INLINE void depthwise_row(const DepthwiseJob *j, const int kernel, const int stride, const float *x, int oh, int from, int to, float *y) {
  const int ih0 = oh * stride - j->pad, kh0 = imax(0, -ih0), rows = imin(kernel, j->h - ih0) - kh0;
  const int w_step = j->flip ? -j->cmax : j->cmax;
  const float *w = j->w + (ptrdiff_t)(j->flip ? kernel * kernel - 1 : 0) * j->cmax + (ptrdiff_t)kh0 * kernel * w_step;
  const int strip = j->ow < STRIP ? 1 : STRIP, span = (STRIP - 1) * stride + kernel;
  x += (ptrdiff_t)(ih0 + kh0) * j->width * j->c;
  y += (size_t)oh * j->ow * j->c;
  for (int ch = from; ch < to; ch += VL) {
    const int lanes = imin(VL, to - ch);
    const vf scale = j->scale ? vf_load(j->scale + ch) : (vf){0}, shift = j->shift ? vf_load(j->shift + ch) : (vf){0};
    for (int next = 0; next < j->ow; next += strip) {
      const int ow = imin(next, j->ow - strip), done = j->accumulate ? next - ow : 0, iw0 = ow * stride - j->pad;
      float *out = y + (size_t)ow * j->c + ch;
      if (strip == 1) depthwise_strip(j, kernel, stride, 1, 1, rows, x + ch, iw0, w + ch, w_step, scale, shift, 0, out, lanes);
      else if (iw0 >= 0 && iw0 + span <= j->width && !done)
        depthwise_strip(j, kernel, stride, STRIP, 0, rows, x + ch, iw0, w + ch, w_step, scale, shift, 0, out, lanes);
      else depthwise_strip(j, kernel, stride, STRIP, 1, rows, x + ch, iw0, w + ch, w_step, scale, shift, done, out, lanes);
    }
  }
  if (!FINISH_IN_REGISTERS) finish_rows(j->act, j->scale, j->shift, from, to, j->ow, j->c, y);
}

/* An item is a band of rows times a group of channels: few enough that the rows which the next one reads again are still in
 * the first cache. A group's bands follow each other, as a convolution of many channels shares out columns first. */
enum { BAND_CHANNELS = 128 };

INLINE void depthwise_band(const DepthwiseJob *j, const int kernel, const int stride, int item) {
  const int bands = ceil_div(j->oh, DSN_BAND), groups = ceil_div(j->c, BAND_CHANNELS);
  const int image = item / (bands * groups), from = item / bands % groups * BAND_CHANNELS, to = imin(from + BAND_CHANNELS, j->c);
  const int band = item % bands, first = band * DSN_BAND;
  const float *x = j->x + (size_t)image * j->h * j->width * j->c;
  float *y = j->y + (size_t)image * j->oh * j->ow * j->c;
  float *means = j->means ? j->means + ((size_t)image * bands + band) * j->c : 0;
  const float share = (float)bands / (float)(j->oh * j->ow);
  for (int oh = first; oh < imin(first + DSN_BAND, j->oh); oh++) {
    /* The lines that the next row of outputs reads and this one does not. */
    const int next = oh * stride - j->pad + kernel;
    for (int pixel = imax(0, next) * j->width; j->far && pixel < imin(next + stride, j->h) * j->width; pixel++)
      prefetch(x + (size_t)pixel * j->c + from, (size_t)(to - from));
    depthwise_row(j, kernel, stride, x, oh, from, to, y);
    /* The row is still in the first cache, and in this core's. */
    for (int ch = from; means && ch < to; ch += VL) {
      const vf sum = sum_down(y + (size_t)oh * j->ow * j->c + ch, j->ow, j->c) * share;
      vf_store_n(means + ch, oh == first ? sum : vf_load(means + ch) + sum, imin(VL, to - ch));
    }
  }
}

static void depthwise_chunk(const void *context, int item, int thread) {
  (void)thread;
  const DepthwiseJob job = *(const DepthwiseJob *)context, *j = &job; /* a copy: no store to y can change it */
  /* Constants let the compiler keep everything in registers. */
  if (j->kernel == 3 && j->stride == 1) depthwise_band(j, 3, 1, item);
  else if (j->kernel == 3) depthwise_band(j, 3, 2, item);
  else if (j->kernel == 5 && j->stride == 1) depthwise_band(j, 5, 1, item);
  else if (j->kernel == 5) depthwise_band(j, 5, 2, item);
  else depthwise_band(j, 1, j->stride, item);
}

static void run_depthwise(const DepthwiseJob *j, int n) {
  dsn_parallel_for(depthwise_chunk, j, n * ceil_div(j->oh, DSN_BAND) * ceil_div(j->c, BAND_CHANNELS));
}

static void op_depthwise(const DepthwiseRecord *r) {
  const DepthwiseJob job = {FLOATS(r->x), FLOATS(r->w), FLOATS_IF(r->scale), FLOATS_IF(r->shift), FLOATS(r->y), FLOATS_IF(r->means),
                            r->h, r->width, r->c, r->kernel, r->stride, r->pad, r->oh, r->ow, r->cmax, 0, r->act,
                            is_far((size_t)r->n * r->h * r->width * r->c), 0};
  run_depthwise(&job, r->n);
}

/* ---- gradient of the input ---- */

static void depthwise_dx_strided(const void *context, int item, int thread) {
  (void)thread;
  const DepthwiseDxRecord *r = context;
  const int image = item / r->h, ih = item % r->h;
  const float *dy = FLOATS(r->dy) + (size_t)image * r->oh * r->ow * r->c, *w = FLOATS(r->w);
  float *dx = FLOATS(r->dx) + (size_t)item * r->width * r->c;
  for (int iw = 0; iw < r->width; iw++, dx += r->c) {
    const float *in[25], *taps[25]; /* what meets in this pixel */
    int count = 0;
    for (int kh = 0; kh < r->kernel; kh++) {
      const int oh = ih + r->pad - kh;
      if (oh < 0 || oh % r->stride || oh / r->stride >= r->oh) continue;
      for (int kw = 0; kw < r->kernel; kw++) {
        const int ow = iw + r->pad - kw;
        if (ow < 0 || ow % r->stride || ow / r->stride >= r->ow) continue;
        in[count] = dy + ((size_t)(oh / r->stride) * r->ow + ow / r->stride) * r->c;
        taps[count++] = w + (size_t)(kh * r->kernel + kw) * r->cmax;
      }
    }
    for (int ch = 0; ch < r->c; ch += VL) {
      vf acc = {0};
      for (int tap = 0; tap < count; tap++) acc = vf_fma(vf_load(in[tap] + ch), vf_load(taps[tap] + ch), acc);
      vf_store_n(dx + ch, r->accumulate ? vf_load(dx + ch) + acc : acc, imin(VL, r->c - ch));
    }
  }
}

static void op_depthwise_dx(const DepthwiseDxRecord *r) {
  if (r->stride == 1) {
    const DepthwiseJob job = {FLOATS(r->dy), FLOATS(r->w), 0, 0, FLOATS(r->dx), 0, r->oh, r->ow, r->c, r->kernel, 1,
                              r->kernel - 1 - r->pad, r->h, r->width, r->cmax, 1, 0,
                              is_far((size_t)r->n * r->oh * r->ow * r->c), r->accumulate};
    run_depthwise(&job, r->n);
  } else {
    dsn_parallel_for(depthwise_dx_strided, r, r->n * r->h);
  }
}

/* ---- gradient of the weight ---- */

/* acc[kh][kw] += dy[ow] * x[kh][ow * stride - pad + kw] over one row of outputs, for `rows` rows of the kernel and VL channels. */
INLINE void depthwise_dw_row(const int kernel, const int rows, const DepthwiseDwRecord *r, const float *x, const float *dy, vf *acc) {
  const int c = r->c, width = r->width;
  const size_t line = (size_t)width * c;
  for (int ow = 0; ow < r->ow; ow++, dy += c) {
    const int iw0 = ow * r->stride - r->pad;
    const vf d = vf_load(dy);
    const float *in = x + (ptrdiff_t)iw0 * c;
    if (iw0 >= 0 && iw0 + kernel <= width) {
      UNROLL for (int kh = 0; kh < rows; kh++)
        UNROLL for (int kw = 0; kw < kernel; kw++)
          acc[kh * kernel + kw] = vf_fma(vf_load(in + kh * line + (size_t)kw * c), d, acc[kh * kernel + kw]);
    } else {
      UNROLL for (int kw = 0; kw < kernel; kw++)
        if (iw0 + kw >= 0 && iw0 + kw < width)
          UNROLL for (int kh = 0; kh < rows; kh++)
            acc[kh * kernel + kw] = vf_fma(vf_load(in + kh * line + (ptrdiff_t)kw * c), d, acc[kh * kernel + kw]);
    }
  }
}

/* Adds one row of outputs to `rows` rows of the kernel's gradient, [kh][kw][c]. */
INLINE void depthwise_dw_add(const int kernel, const int rows, const DepthwiseDwRecord *r, const float *x, const float *dy, int lanes,
                             float *partial) {
  vf acc[25];
  UNROLL for (int kh = 0; kh < rows; kh++) UNROLL for (int kw = 0; kw < kernel; kw++) acc[kh * kernel + kw] = (vf){0};
  depthwise_dw_row(kernel, rows, r, x, dy, acc);
  UNROLL for (int kh = 0; kh < rows; kh++)
    UNROLL for (int kw = 0; kw < kernel; kw++) {
      float *out = partial + (size_t)(kh * kernel + kw) * r->c;
      vf_store_n(out, vf_load(out) + acc[kh * kernel + kw], lanes);
    }
}

/* The whole kernel at once reads dy once and hides the additions' latency; where its sums do not fit into the registers, and at
 * the image's edge, it goes row by row. */
INLINE void depthwise_dw_rows(const int kernel, const DepthwiseDwRecord *r, int from, int to, float *partial) {
  const int together = kernel <= 3 || VL == 16;
  for (int row = from; row < to; row++) {
    const int image = row / r->oh, ih0 = row % r->oh * r->stride - r->pad, kh0 = imax(0, -ih0), kh1 = imin(kernel, r->h - ih0);
    const float *x = FLOATS(r->x) + ((ptrdiff_t)image * r->h + ih0) * r->width * r->c, *dy = FLOATS(r->dy) + (size_t)row * r->ow * r->c;
    for (int ch = 0; ch < r->c; ch += VL) {
      const int lanes = imin(VL, r->c - ch);
      if (together && kh1 - kh0 == kernel) {
        depthwise_dw_add(kernel, kernel, r, x + ch, dy + ch, lanes, partial + ch);
        continue;
      }
      for (int kh = kh0; kh < kh1; kh++)
        depthwise_dw_add(kernel, 1, r, x + (size_t)kh * r->width * r->c + ch, dy + ch, lanes, partial + (size_t)kh * kernel * r->c + ch);
    }
  }
}

INLINE int depthwise_dw_chunks(const DepthwiseDwRecord *r) { return imax(1, imin(32, r->n * r->oh / 16)); }

static void depthwise_dw_chunk(const void *context, int chunk, int thread) {
  (void)thread;
  const DepthwiseDwRecord *r = context;
  const int rows = r->n * r->oh, chunks = depthwise_dw_chunks(r);
  const int from = (int)((int64_t)rows * chunk / chunks), to = (int)((int64_t)rows * (chunk + 1) / chunks);
  const size_t floats = (size_t)r->kernel * r->kernel * r->c;
  float *partial = FLOATS(r->scratch) + (size_t)chunk * floats;
  __builtin_memset(partial, 0, floats * 4);
  switch (r->kernel) {
    case 1: depthwise_dw_rows(1, r, from, to, partial); break;
    case 3: depthwise_dw_rows(3, r, from, to, partial); break;
    case 5: depthwise_dw_rows(5, r, from, to, partial); break;
  }
}

static void op_depthwise_dw(const DepthwiseDwRecord *r) {
  const int chunks = depthwise_dw_chunks(r), taps = r->kernel * r->kernel;
  dsn_parallel_for(depthwise_dw_chunk, r, chunks);
  for (int tap = 0; tap < taps; tap++)
    for (int ch = 0; ch < r->c; ch += VL) {
      float *out = FLOATS(r->dw) + (size_t)tap * r->cmax + ch;
      vf sum = vf_load(out);
      for (int chunk = 0; chunk < chunks; chunk++)
        sum = sum + vf_load(FLOATS(r->scratch) + ((size_t)chunk * taps + tap) * r->c + ch);
      vf_store_n(out, sum, imin(VL, r->c - ch));
    }
}

static uint32_t scratch_depthwise_dw(const DepthwiseDwRecord *r) {
  return (uint32_t)depthwise_dw_chunks(r) * (uint32_t)(r->kernel * r->kernel * r->c) * 4u + 64u;
}
