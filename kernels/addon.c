/* Node-API glue: checks arguments, hands over pointers, nothing else. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <node_api.h>
#include <pthread.h>
#include <sys/mman.h>

#include "dsn.h"
#include "threads.h"

char *dsn_base;

/* ---- instruction sets: those compiled in that this processor has, best first ---- */

typedef struct {
  const char *name;
  const DsnKernels *kernels;
} Isa;

static Isa isas[3];
static uint32_t isa_count;

static void find_isas(void) {
#if defined(DSN_AVX512)
  extern const DsnKernels dsn_kernels_avx512;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    isas[isa_count++] = (Isa){"avx512", &dsn_kernels_avx512};
#endif
#if defined(DSN_AVX2)
  extern const DsnKernels dsn_kernels_avx2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas[isa_count++] = (Isa){"avx2", &dsn_kernels_avx2};
#endif
  extern const DsnKernels dsn_kernels_baseline;
#if defined(__aarch64__)
  isas[isa_count++] = (Isa){"neon", &dsn_kernels_baseline};
#else
  isas[isa_count++] = (Isa){"baseline", &dsn_kernels_baseline};
#endif
}

/* The library must never be unloaded, as a JavaScript worker's end may ask for: its threads run on. */
static void load_once(void) {
  Dl_info self;
  if (dladdr(&dsn_base, &self)) dlopen(self.dli_fname, RTLD_NOW);
  find_isas();
}

/* ---- arguments ---- */

static int read_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values) {
  size_t got = count;
  if (napi_get_cb_info(env, info, &got, values, 0, 0) == napi_ok && got == count) return 1;
  napi_throw_type_error(env, 0, "wrong number of arguments");
  return 0;
}

static int read_arena(napi_env env, napi_value value, char **base, size_t *bytes) {
  if (napi_get_arraybuffer_info(env, value, (void **)base, bytes) == napi_ok && *bytes) return 1;
  napi_throw_type_error(env, 0, "the arena must be an ArrayBuffer of createArena that was not freed");
  return 0;
}

/* A number in [from, to] */
static int read_integer(napi_env env, napi_value value, int64_t from, int64_t to, int64_t *result) {
  if (napi_get_value_int64(env, value, result) == napi_ok && *result >= from && *result <= to) return 1;
  napi_throw_range_error(env, 0, "argument out of range");
  return 0;
}

/* ---- functions ---- */

/* isas() -> names, best first; the `isa` of a call is an index into them */
static napi_value js_isas(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value names, name;
  napi_create_array_with_length(env, isa_count, &names);
  for (uint32_t i = 0; i < isa_count; i++) {
    napi_create_string_utf8(env, isas[i].name, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, names, i, name);
  }
  return names;
}

/* lacksBf16(isa) -> why these kernels cannot compute in bf16 here; "" where they can */
static napi_value js_lacks_bf16(napi_env env, napi_callback_info info) {
  napi_value argument, reason;
  int64_t isa;
  if (!read_arguments(env, info, 1, &argument) || !read_integer(env, argument, 0, (int64_t)isa_count - 1, &isa)) return 0;
  const char *lacks = isas[isa].kernels->lacks_bf16();
  napi_create_string_utf8(env, lacks ? lacks : "", NAPI_AUTO_LENGTH, &reason);
  return reason;
}

static void unmap_arena(napi_env env, void *base, void *bytes) {
  (void)env;
  munmap(base, (size_t)(uintptr_t)bytes);
}

/* createArena(maxBytes) -> ArrayBuffer of address space that costs memory only where it is touched. Smaller, by halves, where the
 * system refuses. */
static napi_value js_create_arena(napi_env env, napi_callback_info info) {
  napi_value argument, arena;
  int64_t bytes;
  if (!read_arguments(env, info, 1, &argument) || !read_integer(env, argument, 1 << 20, 1ll << 32, &bytes)) return 0;
  void *base = MAP_FAILED;
  for (; bytes >= 1 << 20; bytes = bytes / 2 & ~(int64_t)0xffff) {
    base = mmap(0, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base != MAP_FAILED) break;
  }
  if (base == MAP_FAILED) {
    napi_throw_error(env, 0, "the system gives no memory");
    return 0;
  }
#if defined(MADV_HUGEPAGE)
  madvise(base, (size_t)bytes, MADV_HUGEPAGE); /* touching and streaming take half the time or less; refusal does no harm */
#endif
  void *hint = (void *)(uintptr_t)bytes;
  if (napi_create_external_arraybuffer(env, base, (size_t)bytes, unmap_arena, hint, &arena) == napi_ok) return arena;
  munmap(base, (size_t)bytes);
  napi_throw_error(env, 0, "this runtime does not take memory from outside");
  return 0;
}

/* freeArena(arena): its views become empty and its memory goes back at once, its addresses when the engine finalises it. */
static napi_value js_free_arena(napi_env env, napi_callback_info info) {
  napi_value arena;
  char *base;
  size_t bytes;
  if (!read_arguments(env, info, 1, &arena) || !read_arena(env, arena, &base, &bytes)) return 0;
  madvise(base, bytes, MADV_DONTNEED);
  napi_detach_arraybuffer(env, arena);
  return 0;
}

/* run(arena, records, count, n, threads, isa) */
static napi_value js_run(napi_env env, napi_callback_info info) {
  napi_value v[6];
  char *base;
  size_t bytes;
  int64_t records, count, n, threads, isa;
  if (!read_arguments(env, info, 6, v) || !read_arena(env, v[0], &base, &bytes)) return 0;
  if (!read_integer(env, v[1], 0, (int64_t)bytes, &records)) return 0;
  if (!read_integer(env, v[2], 0, ((int64_t)bytes - records) / (DSN_RECORD_WORDS * 4), &count)) return 0;
  if (!read_integer(env, v[3], 0, INT32_MAX, &n) || !read_integer(env, v[4], 1, DSN_MAX_THREADS, &threads)) return 0;
  if (!read_integer(env, v[5], 0, (int64_t)isa_count - 1, &isa)) return 0;
  dsn_enter((int)threads);
  dsn_base = base;
  isas[isa].kernels->run((const int32_t *)(base + records), (int32_t)count, (int32_t)n);
  dsn_leave();
  return 0;
}

/* scratch(arena, record, threads, isa) -> bytes */
static napi_value js_scratch(napi_env env, napi_callback_info info) {
  napi_value v[4], result;
  char *base;
  size_t bytes;
  int64_t record, threads, isa;
  if (!read_arguments(env, info, 4, v) || !read_arena(env, v[0], &base, &bytes)) return 0;
  if (!read_integer(env, v[1], 0, (int64_t)bytes - DSN_RECORD_WORDS * 4, &record)) return 0;
  if (!read_integer(env, v[2], 1, DSN_MAX_THREADS, &threads)) return 0;
  if (!read_integer(env, v[3], 0, (int64_t)isa_count - 1, &isa)) return 0;
  dsn_enter((int)threads);
  const uint32_t need = isas[isa].kernels->scratch((const int32_t *)(base + record));
  dsn_leave();
  napi_create_uint32(env, need, &result);
  return result;
}

NAPI_MODULE_INIT() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load_once);
  const napi_property_descriptor functions[] = {
      {"isas", 0, js_isas, 0, 0, 0, napi_enumerable, 0},       {"createArena", 0, js_create_arena, 0, 0, 0, napi_enumerable, 0},
      {"freeArena", 0, js_free_arena, 0, 0, 0, napi_enumerable, 0}, {"run", 0, js_run, 0, 0, 0, napi_enumerable, 0},
      {"scratch", 0, js_scratch, 0, 0, 0, napi_enumerable, 0}, {"lacksBf16", 0, js_lacks_bf16, 0, 0, 0, napi_enumerable, 0},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}
