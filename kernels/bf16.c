/* Convolution in bf16 with sums in float, for the AVX-512 build on a processor with AVX512-BF16. An instruction multiplies two pairs
 * where the one for floats multiplies two numbers, so a convolution of c channels is gemm.c's of ceil(c / 2) words with another tile. */
#include "columns.h"

#if defined(__AVX512F__) && (__GNUC__ >= 11 || __clang_major__ >= 12) /* those know the instructions and can ask for them */

#define BF16 __attribute__((target("avx512bf16")))

static const char *lacks_bf16(void) {
  return __builtin_cpu_supports("avx512bf16") ? 0 : "this processor lacks AVX512-BF16";
}

/* ---- convolution ---- */

/* gemm_tile with another multiplication. Written out again: the other is compiled for processors without it. */
BF16 INLINE void pair_tile(const int rows, const int vecs, const PanelShape *s, const float *x, int ldx, const float *wp, int column,
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
          const vf a = _mm512_set1_ps(xk[(size_t)r * ldx + k]); /* moved, never computed with: a pair may look like a NaN */
          UNROLL for (int v = 0; v < vecs; v++)
            acc[r * vecs + v] = _mm512_dpbf16_ps(acc[r * vecs + v], (__m512bh)a, (__m512bh)wv[v]);
        }
      }
      UNROLL for (int v = 0; v < vecs; v++) w[v] += s->tap_stride;
    }
    UNROLL for (int v = 0; v < vecs; v++) w[v] += s->line_skip;
  }
  finish_tile(rows, vecs, acc, e, y, ldy, column, columns);
}

#define PAIR_TILE(ROWS, VECS)                                                                                               \
  BF16 static __attribute__((noinline)) void pair_tile_##ROWS##_##VECS(const PanelShape *s, const float *x, int ldx,        \
                                                                       const float *wp, int column, const Epilogue *e,     \
                                                                       float *y, int ldy, int n, const Ahead *ahead) {     \
    pair_tile(ROWS, VECS, s, x, ldx, wp, column, e, y, ldy, n, ahead);                                                      \
  }
EACH_TILE_ROW(PAIR_TILE, 1)
EACH_TILE_ROW(PAIR_TILE, 2)
PAIR_TILE(1, 8)
#define PAIR_TILE_NAME(ROWS, VECS) pair_tile_##ROWS##_##VECS,
static const Tiles pair_tiles = {{{EACH_TILE_ROW(PAIR_TILE_NAME, 1)}, {EACH_TILE_ROW(PAIR_TILE_NAME, 2)}}, pair_tile_1_8};

/* The record whose channels are words. */
static ConvRecord in_words(const ConvBf16Record *r) {
  ConvRecord words = *r;
  words.cin = ceil_div(r->cin, 2);
  words.cin_max = ceil_div(r->cin_max, 2);
  return words;
}

static void op_conv_bf16(const ConvBf16Record *r) {
  const ConvRecord words = in_words(r);
  run_conv(&words, &pair_tiles);
}

static uint32_t scratch_conv_bf16(const ConvBf16Record *r) {
  const ConvRecord words = in_words(r);
  return scratch_conv(&words);
}

/* ---- activations ---- */

/* A block of rows of one image. */
BF16 static void to_bf16_chunk(const void *context, int item, int thread) {
  (void)thread;
  const ToBf16Record *r = context;
  const int c = r->c, padded = 2 * ceil_div(c, 2), block = block_rows(c), blocks = ceil_div(r->hw, block);
  const int image = item / blocks, from = item % blocks * block, rows = imin(block, r->hw - from);
  const float *x = FLOATS(r->x) + ((size_t)image * r->hw + from) * c, *scale = r->scale ? FLOATS(r->scale) + (size_t)image * c : 0;
  uint16_t *y = AT(uint16_t, r->y) + ((size_t)image * r->hw + from) * padded;
  for (int row = 0; row < rows; row++, x += c, y += padded)
    for (int ch = 0; ch < c; ch += VL) {
      vf v = vf_load(x + ch);
      if (scale) v = v * vf_load(scale + ch);
      const __mmask16 values = (__mmask16)((1u << imin(VL, c - ch)) - 1), stored = (__mmask16)((1u << imin(VL, padded - ch)) - 1);
      _mm256_mask_storeu_epi16(y + ch, stored, (__m256i)_mm512_maskz_cvtneps_pbh(values, v));
    }
}

static void op_to_bf16(const ToBf16Record *r) { dsn_parallel_for(to_bf16_chunk, r, r->n * ceil_div(r->hw, block_rows(r->c))); }

#else

static const char *lacks_bf16(void) {
#if defined(__AVX512F__)
  return "the C compiler that built the kernels does not know AVX512-BF16";
#else
  return "only the AVX-512 kernels compute in bf16";
#endif
}

static void op_conv_bf16(const ConvBf16Record *r) { (void)r; }
static uint32_t scratch_conv_bf16(const ConvBf16Record *r) { return (void)r, 0; }
static void op_to_bf16(const ToBf16Record *r) { (void)r; }

#endif
