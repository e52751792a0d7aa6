/* The thread pool as its owners see it: addon.c and wasm.c take it around every call of a kernel table. */
#ifndef DSN_THREADS_H
#define DSN_THREADS_H

enum { DSN_MAX_THREADS = 64 };

/* Takes the pool with `threads` in force, the caller included, and wakes the workers. Other callers wait. */
void dsn_enter(int threads);
void dsn_leave(void);
/* A worker's life, 1 <= id < DSN_MAX_THREADS; never returns. The addon starts its own, JavaScript those of WASM. */
void dsn_worker(int id);

#endif
