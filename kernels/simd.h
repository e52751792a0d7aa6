/* The vector vocabulary, and with bf16.c the only file that names an instruction set. vf is VL floats.
 * Multiply-add rounds once where the target has it, twice on WASM and x86-64 without FMA; within a build it is always one of both. */
#ifndef DSN_SIMD_H
#define DSN_SIMD_H
#include "dsn.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define VL 16
#define TILE_ROWS 12
#define TILE_VECS 2
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VL 8
#define TILE_ROWS 6
#define TILE_VECS 2
#else /* 128 bits: WASM simd128, SSE2, NEON. V8 has 15 usable registers: 4x8 is the largest tile that does not spill. */
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#define VL 4
#define TILE_ROWS 4
#define TILE_VECS 2
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef float vf_unaligned __attribute__((vector_size(VL * 4), aligned(4), may_alias));

INLINE vf vf_load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void vf_store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE vf vf_splat(float a) { return a - (vf){0}; }

INLINE vf vf_fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

INLINE vf vf_select(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
/* max(a, 0) that keeps NaN */
INLINE vf vf_relu(vf a) { return vf_select(a < 0.0f, (vf){0}, a); }

/* Stores the first n lanes, 0 < n <= VL. */
INLINE void vf_store_n(float *p, vf v, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), v);
#else
  if (n >= VL) {
    vf_store(p, v);
    return;
  }
  for (int i = 0; i < n; i++) p[i] = v[i];
#endif
}

/* exp within 2 ulp, after Cephes: 2^k * p(r), |r| <= ln2 / 2. Clamped to [-87.3, 88.3]; NaN stays NaN. */
INLINE vf vf_exp(vf x) {
  const vf lo = vf_splat(-87.3f), hi = vf_splat(88.3f);
  x = vf_select(x < lo, lo, x);
  x = vf_select(x > hi, hi, x);
  const vf magic = vf_splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
  const vf shifted = vf_fma(x, vf_splat(1.44269504088896341f), magic);
  const vf k = shifted - magic;
  vf r = vf_fma(k, vf_splat(-0.693359375f), x);
  r = vf_fma(k, vf_splat(2.12194440e-4f), r);
  vf p = vf_splat(1.9875691500e-4f);
  p = vf_fma(p, r, vf_splat(1.3981999507e-3f));
  p = vf_fma(p, r, vf_splat(8.3334519073e-3f));
  p = vf_fma(p, r, vf_splat(4.1665795894e-2f));
  p = vf_fma(p, r, vf_splat(1.6666665459e-1f));
  p = vf_fma(p, r, vf_splat(5.0000001201e-1f));
  p = vf_fma(p, r * r, r) + 1.0f;
  /* The power of two is multiplied in, so that a NaN of any payload stays one. */
  return p * (vf)(((vi)shifted - (vi)magic + 127) << 23);
}

/* a, but at most (at least) the limit; NaN stays NaN */
INLINE vf vf_min(vf a, float limit) { return vf_select(a > limit, vf_splat(limit), a); }
INLINE vf vf_max(vf a, float limit) { return vf_select(a < limit, vf_splat(limit), a); }

/* 1 + exp(-x), the logistic function's denominator. Its own polynomials (minimax, error 7.5e-8), as activations are where the
 * time goes: relative error below 1e-6 for |x| < 20, growing as |x|. NaN stays NaN. */
INLINE vf vf_logistic_denominator(vf x) {
  const vf t = x * -1.44269504f; /* exp(-x) = 2^t */
#if defined(__AVX512F__)
  const vf f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF); /* t - floor(t), 0 for infinity */
  vf p = vf_splat(1.8775766734e-03f);
  p = vf_fma(p, f, vf_splat(8.9893400947e-03f));
  p = vf_fma(p, f, vf_splat(5.5826318050e-02f));
  p = vf_fma(p, f, vf_splat(2.4015361705e-01f));
  p = vf_fma(p, f, vf_splat(6.9315307320e-01f));
  p = vf_fma(p, f, vf_splat(9.9999992506e-01f));
  return _mm512_scalef_ps(p, t) + 1.0f; /* p * 2^floor(t) */
#else
  const vf clamped = vf_max(vf_min(t, 127.0f), -126.0f);
  const vf magic = vf_splat(12582912.0f + 127.0f); /* 1.5 * 2^23: adding it rounds; with the exponent's bias in the low bits */
  const vf shifted = clamped + magic;
  const vf f = clamped - (shifted - magic);
  vf p = vf_splat(1.3276471979e-03f);
  p = vf_fma(p, f, vf_splat(9.6755413342e-03f));
  p = vf_fma(p, f, vf_splat(5.5507132735e-02f));
  p = vf_fma(p, f, vf_splat(2.4022119724e-01f));
  p = vf_fma(p, f, vf_splat(6.9314696706e-01f));
  p = vf_fma(p, f, vf_splat(1.0000000717e+00f));
  return vf_fma(p, (vf)((vi)shifted << 23), vf_splat(1.0f));
#endif
}

INLINE vf vf_sigmoid(vf x) { return 1.0f / vf_logistic_denominator(x); }

INLINE vf vf_act(vf x, int act) {
  switch (act) {
    case ACT_RELU: return vf_relu(x);
    case ACT_SWISH: return x / vf_logistic_denominator(x);
    case ACT_SIGMOID: return vf_sigmoid(x);
    default: return x;
  }
}

/* d act(z) / dz */
INLINE vf vf_act_grad(vf z, int act) {
  switch (act) {
    case ACT_RELU: return vf_select(z > 0.0f, vf_splat(1.0f), (vf){0});
    case ACT_SWISH: {
      const vf s = vf_sigmoid(z);
      return vf_fma(s * z, 1.0f - s, s);
    }
    case ACT_SIGMOID: {
      const vf s = vf_sigmoid(z);
      return s * (1.0f - s);
    }
    default: return vf_splat(1.0f);
  }
}

/* Whether a tensor is larger than a core's own cache, so that asking for its parts ahead pays. */
INLINE int is_far(size_t floats) { return floats > (size_t)1 << 18; }

/* Asks for `floats` floats that will soon be read, in tensors larger than the caches. The address may lie past a tensor. */
INLINE void prefetch(const float *p, size_t floats) {
  for (size_t i = 0; i < floats; i += 16) __builtin_prefetch(p + i);
}

/* One of `shares` parts of it: spread over the work before, it does not hold that up. */
INLINE void prefetch_share(const float *p, size_t floats, int share, int shares) {
  const size_t lines = (floats + 15) / 16, from = lines * (size_t)share / (size_t)shares;
  prefetch(p + from * 16, (lines * (size_t)(share + 1) / (size_t)shares - from) * 16);
}

INLINE int imin(int a, int b) { return a < b ? a : b; }
INLINE int imax(int a, int b) { return a > b ? a : b; }
INLINE int ceil_div(int a, int b) { return (a + b - 1) / b; }

#endif
