/* The interpreter: records one after another; OP_ROUTE goes on where the gate says. */
#include "arena.h"
#include "dsn.h"

/* A copy of the record whose batch size is the call's where it was left open. */
#define WITH_N(TYPE)                     \
  TYPE r = *(const TYPE *)at;            \
  if (r.n == 0) r.n = n;

static int32_t op_route(const RouteRecord *r) {
  const float *scores = FLOATS(r->scores), *bias = FLOATS_IF(r->bias);
  int best = 0;
  float top = 0;
  for (int k = 0; k < r->count; k++) {
    const float score = bias ? scores[k] + bias[k] : scores[k];
    if (k == 0 || score > top) {
      top = score;
      best = k;
    }
  }
  *AT(int32_t, r->choice) = best;
  return AT(int32_t, r->targets)[best];
}

static void run(const int32_t *records, int32_t count, int32_t n) {
  for (int32_t pc = 0; pc < count; pc++) {
    const int32_t *at = records + (size_t)pc * DSN_RECORD_WORDS;
    switch ((Op)*at) {
      case OP_END: return;
      case OP_CONV: { WITH_N(ConvRecord) op_conv(&r); break; }
      case OP_CONV_DX: { WITH_N(ConvDxRecord) op_conv_dx(&r); break; }
      case OP_CONV_DW: { WITH_N(ConvDwRecord) op_conv_dw(&r); break; }
      case OP_TRANSPOSE: op_transpose((const TransposeRecord *)at); break;
      case OP_DEPTHWISE: { WITH_N(DepthwiseRecord) op_depthwise(&r); break; }
      case OP_DEPTHWISE_DX: { WITH_N(DepthwiseDxRecord) op_depthwise_dx(&r); break; }
      case OP_DEPTHWISE_DW: { WITH_N(DepthwiseDwRecord) op_depthwise_dw(&r); break; }
      case OP_BATCH_NORM: op_batch_norm((const BatchNormRecord *)at); break;
      case OP_BATCH_NORM_DX: op_batch_norm_dx((const BatchNormDxRecord *)at); break;
      case OP_GROUP_NORM: { WITH_N(GroupNormRecord) op_group_norm(&r); break; }
      case OP_GROUP_NORM_DX: { WITH_N(GroupNormDxRecord) op_group_norm_dx(&r); break; }
      case OP_AFFINE: { WITH_N(AffineRecord) op_affine(&r); break; }
      case OP_AFFINE_DX: { WITH_N(AffineDxRecord) op_affine_dx(&r); break; }
      case OP_POOL: { WITH_N(PoolRecord) op_pool(&r); break; }
      case OP_POOL_DX: { WITH_N(PoolDxRecord) op_pool_dx(&r); break; }
      case OP_ADD: { WITH_N(AddRecord) op_add(&r); break; }
      case OP_ADD_DX: { WITH_N(AddDxRecord) op_add_dx(&r); break; }
      case OP_SOFTMAX: { WITH_N(SoftmaxRecord) op_softmax(&r); break; }
      case OP_CROSS_ENTROPY: { WITH_N(CrossEntropyRecord) op_cross_entropy(&r); break; }
      case OP_COLUMN_SUM: op_column_sum((const ColumnSumRecord *)at); break;
      case OP_SGD: op_sgd((const SgdRecord *)at); break;
      case OP_EMA: op_ema((const EmaRecord *)at); break;
      case OP_FILL: op_fill((const FillRecord *)at); break;
      case OP_COUNT_NONFINITE: op_count_nonfinite((const CountNonfiniteRecord *)at); break;
      case OP_ROUTE: pc = op_route((const RouteRecord *)at) - 1; break;
      case OP_CONV_BF16: { WITH_N(ConvBf16Record) op_conv_bf16(&r); break; }
      case OP_TO_BF16: { WITH_N(ToBf16Record) op_to_bf16(&r); break; }
    }
  }
}

static uint32_t scratch(const int32_t *at) {
  switch ((Op)*at) {
    case OP_CONV: return scratch_conv((const ConvRecord *)at);
    case OP_CONV_DX: return scratch_conv_dx((const ConvDxRecord *)at);
    case OP_CONV_DW: return scratch_conv_dw((const ConvDwRecord *)at);
    case OP_DEPTHWISE_DW: return scratch_depthwise_dw((const DepthwiseDwRecord *)at);
    case OP_BATCH_NORM: {
      const BatchNormRecord *r = (const BatchNormRecord *)at;
      return scratch_batch_norm(r->rows, r->c);
    }
    case OP_BATCH_NORM_DX: {
      const BatchNormDxRecord *r = (const BatchNormDxRecord *)at;
      return scratch_batch_norm(r->rows, r->c);
    }
    case OP_GROUP_NORM: {
      const GroupNormRecord *r = (const GroupNormRecord *)at;
      return (uint32_t)(group_scratch(r->c) * (size_t)r->n);
    }
    case OP_GROUP_NORM_DX: {
      const GroupNormDxRecord *r = (const GroupNormDxRecord *)at;
      return (uint32_t)(group_scratch(r->c) * (size_t)r->n);
    }
    case OP_AFFINE_DX: return scratch_affine_dx((const AffineDxRecord *)at);
    case OP_COLUMN_SUM: {
      const ColumnSumRecord *r = (const ColumnSumRecord *)at;
      return column_scratch(r->rows, r->c);
    }
    case OP_CONV_BF16: return scratch_conv_bf16((const ConvBf16Record *)at);
    default: return 0;
  }
}
