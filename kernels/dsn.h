/* Every kernel's contract. A kernel is called by a record: 24 32-bit words in the arena, the first of them the op.
 * Records run one after another, each split over the threads; src/backend/records.ts mirrors the structs field by field
 * (a test compares the two).
 *
 * Memory    offsets are bytes from the arena's start, 0 means absent, every tensor begins on 64 bytes.
 *           Loads may run up to 64 bytes past a tensor (the arena ends with a guard); stores never do.
 * Shapes    activations are N, H, W, C, dense, C the active width. rows = n * h * w. `n` may be 0: the batch size then
 *           is the one given to the run, so one compiled plan serves every batch size.
 * Weights   convolution: wp[o / 16][kh][kw][i][o % 16], each panel with the full input width `cin_max`, the last one padded
 *           with zeros. Every (cin, cout) prefix reads the same bytes. Depthwise: [kh][kw][cmax]. Gradients likewise.
 * bf16      the upper half of a float. Two neighbouring channels share a 32-bit word, the lower first; an odd last one is paired
 *           with zero. Activations [n][h][w][ceil(c / 2)] words, weights wp[o / 16][kh][kw][ceil(i / 2)][o % 16] words: an odd
 *           width multiplies the next channel's weight by that zero, so that every prefix still reads the same bytes.
 * Bits      an output is one chain of sums in fixed order (kh, kw, i), whatever the batch, the width, the tile or the thread.
 *           Sums over rows are cut into chunks whose number depends on the shape alone, added in order.
 * act       0 none, 1 ReLU, 2 Swish (x * sigmoid(x)), 3 sigmoid.
 * Scratch   the kernels' scratch(record) bytes at `scratch`, where a struct has the field. */
#ifndef DSN_H
#define DSN_H
#include <stddef.h>
#include <stdint.h>

typedef uint32_t Off;
enum { DSN_RECORD_WORDS = 24, DSN_PANEL = 16, DSN_BAND = 7 };
enum { ACT_NONE = 0, ACT_RELU = 1, ACT_SWISH = 2, ACT_SIGMOID = 3 };

typedef enum {
  OP_END = 0,
  OP_CONV = 1,
  OP_CONV_DX = 2,
  OP_CONV_DW = 3,
  OP_TRANSPOSE = 4,
  OP_DEPTHWISE = 5,
  OP_DEPTHWISE_DX = 6,
  OP_DEPTHWISE_DW = 7,
  OP_BATCH_NORM = 8,
  OP_BATCH_NORM_DX = 9,
  OP_GROUP_NORM = 10,
  OP_GROUP_NORM_DX = 11,
  OP_AFFINE = 12,
  OP_AFFINE_DX = 13,
  OP_POOL = 14,
  OP_POOL_DX = 15,
  OP_ADD = 16,
  OP_ADD_DX = 17,
  OP_SOFTMAX = 18,
  OP_CROSS_ENTROPY = 19,
  OP_COLUMN_SUM = 20,
  OP_SGD = 21,
  OP_EMA = 22,
  OP_FILL = 23,
  OP_COUNT_NONFINITE = 24,
  OP_ROUTE = 25,
  OP_CONV_BF16 = 26,
  OP_TO_BF16 = 27
} Op;

/* y = act(scale[o] * conv(x, w) + shift[o]); scale and shift may be absent. Linear layers are 1x1 on 1x1 images. */
typedef struct {
  int32_t op;
  Off x, w, y, scale, shift, scratch;
  int32_t n, h, width, cin, cout, kernel, stride, pad, oh, ow, cin_max, act;
} ConvRecord;

/* The same with x and w in bf16; sums, scale, shift and y stay float. See DsnKernels.lacks_bf16. */
typedef ConvRecord ConvBf16Record;

/* y = x in bf16, rounded to nearest even; times scale [n][c], if present. */
typedef struct {
  int32_t op;
  Off x, y, scale;
  int32_t n, hw, c;
} ToBf16Record;

/* dx = transposed convolution of dy; wt = OP_TRANSPOSE of w. accumulate: dx += instead of dx =. */
typedef struct {
  int32_t op;
  Off dy, wt, dx, scratch;
  int32_t n, h, width, cin, cout, kernel, stride, pad, oh, ow, cout_max, accumulate;
} ConvDxRecord;

/* dw += x * dy over all rows, written into the (cin, cout) prefix of the full-size gradient. */
typedef struct {
  int32_t op;
  Off x, dy, dw, scratch;
  int32_t n, h, width, cin, cout, kernel, stride, pad, oh, ow, cin_max;
} ConvDwRecord;

/* wt[i / 16][tap][o][i % 16] = w[o / 16][tap][i][o % 16]; padding zero. */
typedef struct {
  int32_t op;
  Off w, wt;
  int32_t taps, cin_max, cout_max;
} TransposeRecord;

/* y = act(scale[c] * depthwise(x, w) + shift[c]). means, if present: [n][bands][c], of y's bands of DSN_BAND rows, such that their
 * mean is that over y's pixels: what global pooling of a (bands, 1) image makes of them. */
typedef struct {
  int32_t op;
  Off x, w, y, scale, shift, means;
  int32_t n, h, width, c, kernel, stride, pad, oh, ow, cmax, act;
} DepthwiseRecord;

/* accumulate: dx += instead of dx =. */
typedef struct {
  int32_t op;
  Off dy, w, dx;
  int32_t n, h, width, c, kernel, stride, pad, oh, ow, cmax, accumulate;
} DepthwiseDxRecord;

/* dw += */
typedef struct {
  int32_t op;
  Off x, dy, dw, scratch;
  int32_t n, h, width, c, kernel, stride, pad, oh, ow, cmax;
} DepthwiseDwRecord;

/* Training-mode batch norm with activation: y = act(gamma * (x - mean) * inv + beta), biased variance over the rows.
 * Writes the batch's mean and inv = 1 / sqrt(var + eps) ([c] each, for the backward pass), and where they are present updates
 * running_mean and running_var (unbiased): r += momentum * (batch - r).  batch_var: the unbiased variance, if present. */
typedef struct {
  int32_t op;
  Off x, y, gamma, beta, mean, inv, running_mean, running_var, batch_var, scratch;
  int32_t rows, c, act;
  float eps, momentum;
} BatchNormRecord;

/* dgamma += , dbeta += , dx = (dx may be absent, or dy) */
typedef struct {
  int32_t op;
  Off x, dy, dx, gamma, beta, mean, inv, dgamma, dbeta, scratch;
  int32_t rows, c, act;
} BatchNormDxRecord;

/* Group norm with `group` channels to a group (the last may be smaller): statistics of each image alone.
 * Writes mean and inv as [n][groups]. y may be x. */
typedef struct {
  int32_t op;
  Off x, y, gamma, beta, mean, inv, scratch;
  int32_t n, hw, c, group, act;
  float eps;
} GroupNormRecord;

/* dx may be absent, or dy. dgamma and dbeta: +=. */
typedef struct {
  int32_t op;
  Off x, dy, dx, gamma, beta, mean, inv, dgamma, dbeta, scratch;
  int32_t n, hw, c, group, act;
} GroupNormDxRecord;

/* y = act(scale * x + shift), scale and shift [c], or [n][c] where per_image. Absent: 1 and 0. y may be x.
 * The attention's multiplication, activations. */
typedef struct {
  int32_t op;
  Off x, y, scale, shift;
  int32_t n, hw, c, per_image, act;
} AffineRecord;

/* Any of dx, dscale, dshift may be absent; dx may be dy. dx = ; dscale and dshift: += when per channel, = when per_image. */
typedef struct {
  int32_t op;
  Off x, dy, dx, scale, shift, dscale, dshift, scratch;
  int32_t n, hw, c, per_image, act;
} AffineDxRecord;

/* kind 0: average over the pixels inside the image; 1: maximum. Global pooling: kernel = 0 (oh = ow = 1). */
typedef struct {
  int32_t op;
  Off x, y;
  int32_t n, h, width, c, kernel, stride, pad, oh, ow, kind;
} PoolRecord;

/* dx = , or += with accumulate; the maximum's gradient goes to the first largest pixel in row order. x is read for kind 1
 * only. */
typedef struct {
  int32_t op;
  Off x, dy, dx;
  int32_t n, h, width, c, kernel, stride, pad, oh, ow, kind, accumulate;
} PoolDxRecord;

/* y[r][j] = act(a[r][j] + b[r][j]), r < n * hw, j < max(ca, cb); beyond a's or b's width the other passes unchanged. y may be a or b
 * when it is as wide as y. */
typedef struct {
  int32_t op;
  Off a, b, y;
  int32_t n, hw, ca, cb, act;
} AddRecord;

/* da, db = dy * act'(a + b), each as wide as what it is the gradient of; either may be absent. The one that is as wide as dy may be
 * dy. a and b are the sum's as they were: its y was neither. */
typedef struct {
  int32_t op;
  Off a, b, dy, da, db;
  int32_t n, hw, ca, cb, act;
} AddDxRecord;

typedef struct {
  int32_t op;
  Off x, y;
  int32_t n, c;
} SoftmaxRecord;

/* Per-sample loss[n] and dx = weight * dloss/dx. Targets: labels (int32) smoothed, or probs ([n][c], float) where present. */
typedef struct {
  int32_t op;
  Off x, labels, probs, loss, dx;
  int32_t n, c;
  float smoothing, weight;
} CrossEntropyRecord;

/* y[c] += sum over rows of x */
typedef struct {
  int32_t op;
  Off x, y, scratch;
  int32_t rows, c;
} ColumnSumRecord;

/* g += decay * p; m = momentum * m + g; p -= lr * (nesterov ? g + momentum * m : m). m must start at zero. g is not changed. */
typedef struct {
  int32_t op;
  Off p, g, m;
  int32_t count, nesterov;
  float lr, momentum, decay;
} SgdRecord;

/* t = decay * t + (1 - decay) * s */
typedef struct {
  int32_t op;
  Off t, s;
  int32_t count;
  float decay;
} EmaRecord;

typedef struct {
  int32_t op;
  Off x;
  int32_t count;
  float value;
} FillRecord;

/* result (int32) = how many of x are NaN or infinite */
typedef struct {
  int32_t op;
  Off x, result;
  int32_t count;
} CountNonfiniteRecord;

/* Batch 1: chooses k = argmax(scores[k] + bias[k]) (first on ties), writes it to `choice` (int32) and goes on at record
 * targets[k] (int32 index from the first record of the run). */
typedef struct {
  int32_t op;
  Off scores, bias, choice, targets;
  int32_t count;
} RouteRecord;

/* ---- one set per kernel build ---- */

typedef struct {
  /* Runs records until OP_END or `count` of them. n: batch size for records with n = 0. */
  void (*run)(const int32_t *records, int32_t count, int32_t n);
  /* Bytes of scratch the record needs with the threads in force. */
  uint32_t (*scratch)(const int32_t *record);
  /* Why OP_CONV_BF16 and OP_TO_BF16 cannot be run; null where they can. */
  const char *(*lacks_bf16)(void);
} DsnKernels;

#endif
