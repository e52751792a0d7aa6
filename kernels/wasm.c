/* The WASM modules' exports: a run, its scratch and, in the module with threads, a worker's life. The arena is the imported
 * memory beyond __heap_base. */
#define DSN_SYMBOL dsn_kernels
#include "kernels.c"
#include "parallel.c"

#define EXPORT(name) __attribute__((export_name(name)))

EXPORT("run") void wasm_run(const int32_t *records, int32_t count, int32_t n, int32_t threads) {
  dsn_enter(threads);
  dsn_kernels.run(records, count, n);
  dsn_leave();
}

EXPORT("scratch") uint32_t wasm_scratch(const int32_t *record, int32_t threads) {
  dsn_enter(threads);
  const uint32_t bytes = dsn_kernels.scratch(record);
  dsn_leave();
  return bytes;
}

#if defined(__wasm_atomics__)
EXPORT("worker") void wasm_worker(int32_t id) { dsn_worker(id); }
#endif
