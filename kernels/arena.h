/* Offsets to pointers. The native build keeps the arena's first byte in one global, set under the lock of dsn_run;
 * on WASM the arena is the linear memory itself. */
#ifndef DSN_ARENA_H
#define DSN_ARENA_H
#include "dsn.h"

#if defined(__wasm__)
#define DSN_BASE ((char *)0)
#else
extern char *dsn_base;
#define DSN_BASE dsn_base
#endif

#define AT(type, off) ((type *)(DSN_BASE + (size_t)(off)))
#define FLOATS(off) AT(float, off)
/* NULL where the record's offset is 0: absent */
#define FLOATS_IF(off) ((off) ? FLOATS(off) : (float *)0)

#endif
