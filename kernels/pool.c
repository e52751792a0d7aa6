/* Average and maximum pooling; global pooling is kernel 0. Averages divide by the pixels inside the image. */
#include "columns.h"

/* The window [h0, h1) x [w0, w1) of output pixel (oh, ow), cut at the image's edges. */
typedef struct {
  int h0, h1, w0, w1;
} Window;

INLINE Window pool_window(int oh, int ow, int kernel, int stride, int pad, int h, int width) {
  const int h0 = oh * stride - pad, w0 = ow * stride - pad;
  return (Window){imax(0, h0), imin(h, h0 + kernel), imax(0, w0), imin(width, w0 + kernel)};
}

/* Channels of an item: enough that sharing them out pays. */
INLINE int pool_channels(const PoolRecord *r) { return ceil_div(32768 / (r->h * r->width) + 1, 64) * 64; }

static void global_pool_group(const void *context, int item, int thread) {
  (void)thread;
  const PoolRecord *r = context;
  const int hw = r->h * r->width, c = r->c, step = pool_channels(r), groups = ceil_div(c, step);
  const int image = item / groups, first = item % groups * step;
  const float *x = FLOATS(r->x) + (size_t)image * hw * c;
  float *y = FLOATS(r->y) + (size_t)image * c;
  for (int ch = first; ch < imin(first + step, c); ch += VL) {
    /* Blocks keep the error small; a fixed order keeps the bits. */
    vf total = {0};
    for (int from = 0; from < hw; from += SUM_ROWS) total = total + sum_down(x + (size_t)from * c + ch, imin(SUM_ROWS, hw - from), c);
    vf_store_n(y + ch, total / (float)hw, imin(VL, c - ch));
  }
}

static void pool_row(const void *context, int item, int thread) {
  (void)thread;
  const PoolRecord *r = context;
  const int image = item / r->oh, oh = item % r->oh, c = r->c;
  const float *x = FLOATS(r->x) + (size_t)image * r->h * r->width * c;
  float *y = FLOATS(r->y) + (size_t)item * r->ow * c;
  for (int ow = 0; ow < r->ow; ow++) {
    const Window w = pool_window(oh, ow, r->kernel, r->stride, r->pad, r->h, r->width);
    for (int ch = 0; ch < c; ch += VL) {
      vf acc = r->kind ? vf_load(x + ((size_t)w.h0 * r->width + w.w0) * c + ch) : (vf){0};
      for (int ih = w.h0; ih < w.h1; ih++)
        for (int iw = w.w0; iw < w.w1; iw++) {
          const vf v = vf_load(x + ((size_t)ih * r->width + iw) * c + ch);
          acc = r->kind ? vf_select((v > acc) | (v != v), v, acc) : acc + v;
        }
      if (!r->kind) acc = acc / (float)((w.h1 - w.h0) * (w.w1 - w.w0));
      vf_store_n(y + (size_t)ow * c + ch, acc, imin(VL, c - ch));
    }
  }
}

static void op_pool(const PoolRecord *r) {
  if (r->kernel == 0) dsn_parallel_for(global_pool_group, r, r->n * ceil_div(r->c, pool_channels(r)));
  else dsn_parallel_for(pool_row, r, r->n * r->oh);
}

/* ---- gradients: an item is an image ---- */

static void pool_dx_image(const void *context, int image, int thread) {
  (void)thread;
  const PoolDxRecord *r = context;
  const int c = r->c, hw = r->h * r->width;
  const float *dy = FLOATS(r->dy) + (size_t)image * r->oh * r->ow * c;
  float *dx = FLOATS(r->dx) + (size_t)image * hw * c;
  if (r->kernel == 0) {
    const float share = 1.0f / (float)hw;
    for (int p = 0; p < hw; p++, dx += c)
      for (int ch = 0; ch < c; ch += VL) {
        const vf mean = vf_load(dy + ch) * share;
        vf_store_n(dx + ch, r->accumulate ? vf_load(dx + ch) + mean : mean, imin(VL, c - ch));
      }
    return;
  }
  if (!r->accumulate) __builtin_memset(dx, 0, (size_t)hw * c * 4);
  const float *x = r->kind ? FLOATS(r->x) + (size_t)image * hw * c : 0;
  for (int oh = 0; oh < r->oh; oh++)
    for (int ow = 0; ow < r->ow; ow++, dy += c) {
      const Window w = pool_window(oh, ow, r->kernel, r->stride, r->pad, r->h, r->width);
      if (r->kind == 0) {
        const float count = (float)((w.h1 - w.h0) * (w.w1 - w.w0));
        for (int ih = w.h0; ih < w.h1; ih++)
          for (int iw = w.w0; iw < w.w1; iw++) {
            float *out = dx + ((size_t)ih * r->width + iw) * c;
            for (int ch = 0; ch < c; ch += VL)
              vf_store_n(out + ch, vf_load(out + ch) + vf_load(dy + ch) / count, imin(VL, c - ch));
          }
        continue;
      }
      for (int ch = 0; ch < c; ch++) {
        size_t best = ((size_t)w.h0 * r->width + w.w0) * c + ch;
        for (int ih = w.h0; ih < w.h1; ih++)
          for (int iw = w.w0; iw < w.w1; iw++) {
            const size_t at = ((size_t)ih * r->width + iw) * c + ch;
            if (x[at] > x[best]) best = at;
          }
        dx[best] += dy[ch];
      }
    }
}

static void op_pool_dx(const PoolDxRecord *r) { dsn_parallel_for(pool_dx_image, r, r->n); }
