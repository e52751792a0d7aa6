/* parallel_for: splits a record's fixed chunks over the threads. Which thread takes which chunk never changes a bit. */
#ifndef DSN_PARALLEL_H
#define DSN_PARALLEL_H
#include "dsn.h"

typedef void (*ChunkFn)(const void *context, int chunk, int thread);

/* Calls fn(context, c, thread) once for every c < chunks, on the caller and the workers, and returns when all are done. */
void dsn_parallel_for(ChunkFn fn, const void *context, int chunks);
/* Threads in force, the caller included. */
int dsn_threads(void);

#endif
