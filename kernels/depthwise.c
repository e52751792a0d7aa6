/* Depthwise convolution: one filter a channel, vectors over channels, weights [kh][kw][cmax]. One item is one row of pixels.
 * Kernels are 1, 3 or 5 wide. */
#include "arena.h"
#include "parallel.h"
#include "simd.h"

/* out[ow][c] = sum over taps of in[..][c] * w[tap][c] for one output row, rows kh in [kh0, kh1) of the kernel.
 * `flip` reads the kernel backwards: the gradient of the input at stride 1. */
INLINE void depthwise_row(const int kernel, const int kh0, const int kh1, const float *x, int width, int c, const float *w, int cmax,
                          int flip, int stride, int pad, int ih0, float *y, int ow_count) {
  for (int ch = 0; ch < c; ch += VL) {
    const int lanes = imin(VL, c - ch);
    vf taps[5 * 5];
    for (int kh = kh0; kh < kh1; kh++)
      for (int kw = 0; kw < kernel; kw++) {
        const int at = kh * kernel + kw;
        taps[at] = vf_load(w + (size_t)(flip ? kernel * kernel - 1 - at : at) * cmax + ch);
      }
    for (int ow = 0; ow < ow_count; ow++) {
      const int iw0 = ow * stride - pad;
      vf acc = {0};
      if (iw0 >= 0 && iw0 + kernel <= width) {
        for (int kh = kh0; kh < kh1; kh++) {
          const float *in = x + ((size_t)(ih0 + kh) * width + iw0) * c + ch;
          UNROLL for (int kw = 0; kw < kernel; kw++) acc = vf_fma(vf_load(in + (size_t)kw * c), taps[kh * kernel + kw], acc);
        }
      } else {
        for (int kh = kh0; kh < kh1; kh++)
          for (int kw = imax(0, -iw0); kw < imin(kernel, width - iw0); kw++)
            acc = vf_fma(vf_load(x + ((size_t)(ih0 + kh) * width + iw0 + kw) * c + ch), taps[kh * kernel + kw], acc);
      }
      float *out = y + (size_t)ow * c + ch;
      if (lanes == VL) vf_store(out, acc);
      else vf_store_n(out, acc, lanes);
    }
  }
}

typedef struct {
  const float *x, *w, *scale, *shift;
  float *y;
  int h, width, c, kernel, stride, pad, oh, ow, cmax, flip, act;
} DepthwiseJob;

static void depthwise_chunk(const void *context, int item, int thread) {
  (void)thread;
  const DepthwiseJob *j = context;
  const int image = item / j->oh, oh = item % j->oh, ih0 = oh * j->stride - j->pad;
  const int kh0 = imax(0, -ih0), kh1 = imax(kh0, imin(j->kernel, j->h - ih0));
  const float *x = j->x + (size_t)image * j->h * j->width * j->c;
  float *y = j->y + (size_t)item * j->ow * j->c;
  /* Constant bounds let the compiler keep the taps in registers. */
  if (j->kernel == 3 && kh0 == 0 && kh1 == 3)
    depthwise_row(3, 0, 3, x, j->width, j->c, j->w, j->cmax, j->flip, j->stride, j->pad, ih0, y, j->ow);
  else if (j->kernel == 5 && kh0 == 0 && kh1 == 5)
    depthwise_row(5, 0, 5, x, j->width, j->c, j->w, j->cmax, j->flip, j->stride, j->pad, ih0, y, j->ow);
  else
    depthwise_row(j->kernel, kh0, kh1, x, j->width, j->c, j->w, j->cmax, j->flip, j->stride, j->pad, ih0, y, j->ow);
  if (!j->scale && !j->shift && !j->act) return;
  for (int ow = 0; ow < j->ow; ow++, y += j->c)
    for (int ch = 0; ch < j->c; ch += VL) {
      vf v = vf_load(y + ch);
      if (j->scale) v = vf_fma(v, vf_load(j->scale + ch), j->shift ? vf_load(j->shift + ch) : (vf){0});
      else if (j->shift) v = v + vf_load(j->shift + ch);
      vf_store_n(y + ch, vf_act(v, j->act), imin(VL, j->c - ch));
    }
}

static void op_depthwise(const DepthwiseRecord *r) {
  const DepthwiseJob job = {FLOATS(r->x), FLOATS(r->w), FLOATS_IF(r->scale), FLOATS_IF(r->shift), FLOATS(r->y),
                            r->h, r->width, r->c, r->kernel, r->stride, r->pad, r->oh, r->ow, r->cmax, 0, r->act};
  dsn_parallel_for(depthwise_chunk, &job, r->n * r->oh);
}

/* ---- gradient of the input ---- */

static void depthwise_dx_strided(const void *context, int item, int thread) {
  (void)thread;
  const DepthwiseDxRecord *r = context;
  const int image = item / r->h, ih = item % r->h;
  const float *dy = FLOATS(r->dy) + (size_t)image * r->oh * r->ow * r->c, *w = FLOATS(r->w);
  float *dx = FLOATS(r->dx) + (size_t)item * r->width * r->c;
  for (int iw = 0; iw < r->width; iw++)
    for (int ch = 0; ch < r->c; ch += VL) {
      vf acc = {0};
      for (int kh = 0; kh < r->kernel; kh++) {
        const int oh = ih + r->pad - kh;
        if (oh < 0 || oh % r->stride || oh / r->stride >= r->oh) continue;
        for (int kw = 0; kw < r->kernel; kw++) {
          const int ow = iw + r->pad - kw;
          if (ow < 0 || ow % r->stride || ow / r->stride >= r->ow) continue;
          acc = vf_fma(vf_load(dy + ((size_t)(oh / r->stride) * r->ow + ow / r->stride) * r->c + ch),
                       vf_load(w + (size_t)(kh * r->kernel + kw) * r->cmax + ch), acc);
        }
      }
      vf_store_n(dx + (size_t)iw * r->c + ch, acc, imin(VL, r->c - ch));
    }
}

static void op_depthwise_dx(const DepthwiseDxRecord *r) {
  if (r->stride == 1) {
    const DepthwiseJob job = {FLOATS(r->dy), FLOATS(r->w), 0, 0, FLOATS(r->dx), r->oh, r->ow, r->c, r->kernel, 1,
                              r->kernel - 1 - r->pad, r->h, r->width, r->cmax, 1, 0};
    dsn_parallel_for(depthwise_chunk, &job, r->n * r->h);
  } else {
    dsn_parallel_for(depthwise_dx_strided, r, r->n * r->h);
  }
}

/* ---- gradient of the weight ---- */

/* acc[kw] += dy[ow] * x[ow * stride - pad + kw] over one row of outputs, for one row of the kernel and VL channels. */
INLINE void depthwise_dw_row(const int kernel, const float *x, int width, const float *dy, int ow_count, int c, int stride, int pad,
                             vf *acc) {
  for (int ow = 0; ow < ow_count; ow++, dy += c) {
    const int iw0 = ow * stride - pad;
    const vf d = vf_load(dy);
    if (iw0 >= 0 && iw0 + kernel <= width) {
      const float *in = x + (size_t)iw0 * c;
      UNROLL for (int kw = 0; kw < kernel; kw++) acc[kw] = vf_fma(vf_load(in + (size_t)kw * c), d, acc[kw]);
    } else {
      UNROLL for (int kw = 0; kw < kernel; kw++)
        if (iw0 + kw >= 0 && iw0 + kw < width) acc[kw] = vf_fma(vf_load(x + (size_t)(iw0 + kw) * c), d, acc[kw]);
    }
  }
}

INLINE void depthwise_dw_rows(const int kernel, const DepthwiseDwRecord *r, int from, int to, float *partial) {
  for (int ch = 0; ch < r->c; ch += VL) {
    const int lanes = imin(VL, r->c - ch);
    for (int row = from; row < to; row++) {
      const int image = row / r->oh, ih0 = row % r->oh * r->stride - r->pad;
      const float *dy = FLOATS(r->dy) + (size_t)row * r->ow * r->c + ch;
      for (int kh = imax(0, -ih0); kh < imin(kernel, r->h - ih0); kh++) {
        const float *x = FLOATS(r->x) + ((size_t)image * r->h + ih0 + kh) * r->width * r->c + ch;
        vf acc[5] = {{0}};
        depthwise_dw_row(kernel, x, r->width, dy, r->ow, r->c, r->stride, r->pad, acc);
        UNROLL for (int kw = 0; kw < kernel; kw++) {
          float *out = partial + (size_t)(kh * kernel + kw) * r->c + ch;
          vf_store_n(out, vf_load(out) + acc[kw], lanes);
        }
      }
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
