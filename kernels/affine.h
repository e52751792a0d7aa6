/* y = act(scale * x + shift) over rows of c channels, `ld` floats apart; scale and shift may be absent, y may be x. */
#ifndef DSN_AFFINE_H
#define DSN_AFFINE_H
#include "simd.h"

/* Whether a convolution applies its scale, shift and activation to the accumulators while they are in registers, or with finish_rows
 * to its output while that is in the first cache: the few registers of 128 bits do not hold the activation's constants beside the
 * accumulators, and V8 would make each constant anew for every tile. */
enum { FINISH_IN_REGISTERS = VL > 4 };

INLINE vf affine(const int act, vf x, const float *scale, const float *shift) {
  if (scale) x = shift ? vf_fma(x, vf_load(scale), vf_load(shift)) : x * vf_load(scale);
  else if (shift) x = x + vf_load(shift);
  return vf_act(x, act);
}

INLINE void affine_rows_as(const int act, const int scaled, const int shifted, const float *x, const float *scale, const float *shift,
                           int c, int rows, int ld, float *y) {
  enum { STEP = 4 * VL }; /* four chains hide the latency of one */
  for (int row = 0; row < rows; row++, x += ld, y += ld) {
    int ch = 0;
    for (; ch + STEP <= c; ch += STEP) {
      vf v[4];
      UNROLL for (int i = 0; i < 4; i++) {
        const int at = ch + i * VL;
        v[i] = affine(act, vf_load(x + at), scaled ? scale + at : 0, shifted ? shift + at : 0);
      }
      UNROLL for (int i = 0; i < 4; i++) vf_store(y + ch + i * VL, v[i]);
    }
    for (; ch < c; ch += VL)
      vf_store_n(y + ch, affine(act, vf_load(x + ch), scaled ? scale + ch : 0, shifted ? shift + ch : 0), imin(VL, c - ch));
  }
}

INLINE void affine_rows_act(const int act, const float *x, const float *scale, const float *shift, int c, int rows, int ld, float *y) {
  if (scale && shift) affine_rows_as(act, 1, 1, x, scale, shift, c, rows, ld, y);
  else if (scale) affine_rows_as(act, 1, 0, x, scale, shift, c, rows, ld, y);
  else if (shift) affine_rows_as(act, 0, 1, x, scale, shift, c, rows, ld, y);
  else affine_rows_as(act, 0, 0, x, scale, shift, c, rows, ld, y);
}

static void affine_rows(int act, const float *x, const float *scale, const float *shift, int c, int rows, int ld, float *y) {
  if (act == ACT_NONE) affine_rows_act(ACT_NONE, x, scale, shift, c, rows, ld, y);
  else if (act == ACT_RELU) affine_rows_act(ACT_RELU, x, scale, shift, c, rows, ld, y);
  else if (act == ACT_SWISH) affine_rows_act(ACT_SWISH, x, scale, shift, c, rows, ld, y);
  else affine_rows_act(ACT_SIGMOID, x, scale, shift, c, rows, ld, y);
}

/* In place, channels [from, to) of rows that a convolution has just written. */
INLINE void finish_rows(int act, const float *scale, const float *shift, int from, int to, int rows, int ld, float *y) {
  if (!scale && !shift && act == ACT_NONE) return;
  affine_rows(act, y + from, scale ? scale + from : 0, shift ? shift + from : 0, to - from, rows, ld, y + from);
}

#endif
