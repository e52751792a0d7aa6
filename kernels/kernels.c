/* All kernels as one translation unit, so that the compiler sees through every call. Everything in it is local but the table
 * DSN_SYMBOL; the native build compiles it once per instruction set, each under its own name. */
#include "gemm.c"
#include "bf16.c"
#include "depthwise.c"
#include "norm.c"
#include "affine.c"
#include "pool.c"
#include "loss.c"
#include "optim.c"
#include "run.c"

const DsnKernels DSN_SYMBOL = {run, scratch, lacks_bf16};
