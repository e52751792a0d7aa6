/* parallel_for on a pool of workers that spin while a run is on and for a moment after, then sleep.
 *
 * A job's threads and the chunks not yet taken share one 64-bit ticket, and a chunk is taken by changing the ticket whole. So a late
 * worker either takes a chunk of the job that is on, whose fn and context then stay until the chunk is done, or nothing.
 * The caller takes chunks from the front, workers from the back: what one kernel left in a core's cache, the next finds there.
 * The caller works too and waits by spinning: a browser's main thread may not sleep. */
#include "parallel.h"
#include "threads.h"

#if defined(__wasm__) && !defined(__wasm_atomics__)

void dsn_enter(int threads) { (void)threads; }
void dsn_leave(void) {}
int dsn_threads(void) { return 1; }

void dsn_parallel_for(ChunkFn fn, const void *context, int chunks) {
  for (int chunk = 0; chunk < chunks; chunk++) fn(context, chunk, 0);
}

#else

#include <stdatomic.h>

#define OWN_LINE _Alignas(64)

static struct {
  OWN_LINE _Atomic uint64_t ticket; /* threads : 8, end : 28, first : 28 of the chunks not yet taken */
  ChunkFn fn;
  const void *context;
  OWN_LINE _Atomic int done;       /* chunks finished */
  OWN_LINE _Atomic int running;    /* threads in force, 0 between runs */
  OWN_LINE _Atomic uint32_t epoch; /* runs begun: what sleepers wait on */
  _Atomic int sleepers;
} pool;

enum { FIELD_BITS = 28, FIELD_MASK = (1 << FIELD_BITS) - 1 };

static uint64_t ticket_of(int threads, int first, int end) {
  return (uint64_t)threads << (2 * FIELD_BITS) | (uint64_t)end << FIELD_BITS | (uint64_t)first;
}
static int ticket_threads(uint64_t ticket) { return (int)(ticket >> (2 * FIELD_BITS)); }
static int ticket_end(uint64_t ticket) { return (int)(ticket >> FIELD_BITS) & FIELD_MASK; }
static int ticket_first(uint64_t ticket) { return (int)ticket & FIELD_MASK; }

/* ---- what the two targets do differently ---- */

#if defined(__wasm__)

enum { IDLE_SPINS = 20000 }; /* 50 to 100 us */

static void pause_thread(void) {}
static void yield_thread(void) {}
static void sleep_while(uint32_t epoch) { __builtin_wasm_memory_atomic_wait32((int *)&pool.epoch, (int)epoch, -1); }
static void wake_sleepers(void) { __builtin_wasm_memory_atomic_notify((int *)&pool.epoch, DSN_MAX_THREADS); }
static void take_pool(int threads) { (void)threads; }
static void give_pool(void) {}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum { IDLE_SPINS = 2000 }; /* 20 to 100 us, as long as the processor's pause is */

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* held for a run */
static pthread_mutex_t bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bell = PTHREAD_COND_INITIALIZER;
static int workers; /* started so far; under `owner` */

static void pause_thread(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void yield_thread(void) { sched_yield(); }

static void sleep_while(uint32_t epoch) {
  pthread_mutex_lock(&bed);
  while (atomic_load(&pool.epoch) == epoch) pthread_cond_wait(&bell, &bed);
  pthread_mutex_unlock(&bed);
}

static void wake_sleepers(void) {
  pthread_mutex_lock(&bed);
  pthread_cond_broadcast(&bell);
  pthread_mutex_unlock(&bed);
}

static void *start_worker(void *id) {
  dsn_worker((int)(intptr_t)id);
  return 0;
}

/* Detached and deaf to signals, which belong to the host's threads. Where the system refuses a thread, fewer serve: the
 * result is the same. */
static void take_pool(int threads) {
  pthread_mutex_lock(&owner);
  if (workers >= threads - 1) return;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (workers < threads - 1) {
    pthread_t thread;
    if (pthread_create(&thread, 0, start_worker, (void *)(intptr_t)(workers + 1))) break;
    pthread_detach(thread);
    workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, 0);
}

static void give_pool(void) { pthread_mutex_unlock(&owner); }

#endif

/* ---- workers ---- */

/* Works on the current job until no chunk is left; returns how many it did. */
static int take_chunks(int thread) {
  int taken = 0;
  uint64_t ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
  while (thread < ticket_threads(ticket) && ticket_first(ticket) < ticket_end(ticket)) {
    const int first = ticket_first(ticket), end = ticket_end(ticket), front = thread == 0;
    const uint64_t rest = ticket_of(ticket_threads(ticket), first + front, end - !front);
    if (!atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, rest, memory_order_acq_rel, memory_order_acquire)) continue;
    pool.fn(pool.context, front ? first : end - 1, thread);
    taken++;
    ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
  }
  if (taken) atomic_fetch_add_explicit(&pool.done, taken, memory_order_release);
  return taken;
}

void dsn_worker(int id) {
  for (int idle = 0;;) {
    const uint32_t epoch = atomic_load(&pool.epoch);
    if (take_chunks(id) || id < atomic_load(&pool.running)) {
      idle = 0;
    } else if (++idle > IDLE_SPINS) {
      atomic_fetch_add(&pool.sleepers, 1);
      sleep_while(epoch);
      atomic_fetch_sub(&pool.sleepers, 1);
    }
    pause_thread();
  }
}

/* ---- the caller ---- */

void dsn_enter(int threads) {
  take_pool(threads);
  atomic_store(&pool.running, threads);
  if (threads == 1) return;
  atomic_fetch_add(&pool.epoch, 1);
  if (atomic_load(&pool.sleepers)) wake_sleepers();
}

void dsn_leave(void) {
  atomic_store(&pool.running, 0);
  give_pool();
}

int dsn_threads(void) { return atomic_load_explicit(&pool.running, memory_order_relaxed); }

void dsn_parallel_for(ChunkFn fn, const void *context, int chunks) {
  const int threads = dsn_threads();
  if (threads == 1 || chunks < 2 || chunks > FIELD_MASK) {
    for (int chunk = 0; chunk < chunks; chunk++) fn(context, chunk, 0);
    return;
  }
  pool.fn = fn;
  pool.context = context;
  atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
  atomic_store_explicit(&pool.ticket, ticket_of(threads, 0, chunks), memory_order_release);
  take_chunks(0);
  for (int spins = 0; atomic_load_explicit(&pool.done, memory_order_acquire) < chunks; spins++) {
    if (spins < 10000) pause_thread();
    else yield_thread(); /* more threads than cores: the one that is waited for needs one */
  }
}

#endif
