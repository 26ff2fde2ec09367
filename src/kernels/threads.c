/* A pool of threads for parallel regions.
 *
 * The calling thread always works itself and waits only for members that have begun: where another
 * process holds the other cores, a region costs what it costs on one thread, not a time slice more.
 * Regions come in bursts: idle members wait for some 20 us on their core, then for 100 us while
 * they yield it to others, and then sleep. A caller that finds the pool in use by another thread
 * works alone.
 * A forked child starts with an empty pool.
 *
 * Linux may wake a member on the core of its caller and leave it there for milliseconds, though
 * another core is free: at each barrier the two then wait for each other in turn. So a caller that
 * wakes members yields its core once; a member that finds itself there moves to another (2 ms after
 * the last call, on two threads of the Zen 5: LSTM 128, B1 T100 1816 to 204 us; LSTM 256, B32 T20
 * 1841 to 1018).
 *
 * Only at a barrier may a thread wait for one that has lost its core. Where that happens,
 * regions with barriers run on one thread for a while.
 */
#define _GNU_SOURCE /* sched_getcpu and sets of cores */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "fastrnn_kernels.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
static inline void relax(void) { _mm_pause(); }
#elif defined(__aarch64__)
static inline void relax(void) { __asm__ __volatile__("yield"); }
#else
static inline void relax(void) {}
#endif

enum { MAX_THREADS = 256, SPINS = 1000 };
/* A wait of so many turns means that a member has lost its core. */
enum { STALL = 2 * SPINS };
/* Nanoseconds on one thread after such a wait; doubled where the next wait comes soon. */
static const int64_t SHORTEST = 10 * 1000 * 1000, LONGEST = 1000 * 1000 * 1000;

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Nanoseconds. An idle member waits awake for LINGER. If a yield takes longer than TAKEN, other
 * threads need the core; for CROWDED all idle members then sleep at once, so that they are woken in
 * time. */
static const int64_t LINGER = 100 * 1000, TAKEN = 300 * 1000, CROWDED = 100 * 1000 * 1000;

struct fr_team {
    atomic_int arrived, round, size, stalled;
};

/* A turn of a wait: spin for a few microseconds, then yield to a thread that has lost its core.
 * Returns the number of turns so far, at most STALL + 1. */
static inline int wait_a_turn(int turns) {
    if (turns < SPINS)
        relax();
    else
        sched_yield();
    return turns <= STALL ? turns + 1 : turns;
}

void fr_wait_for(atomic_ptrdiff_t *counter, ptrdiff_t value) {
    for (int turns = 0; atomic_load_explicit(counter, memory_order_acquire) < value;)
        turns = wait_a_turn(turns);
}

/* The last to arrive opens the next round. */
void fr_barrier(fr_team *team) {
    const int size = atomic_load_explicit(&team->size, memory_order_relaxed);
    if (size == 1) return;
    const int round = atomic_load_explicit(&team->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == size - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->round, round + 1, memory_order_release);
        return;
    }
    for (int turns = 0; atomic_load_explicit(&team->round, memory_order_acquire) == round;) {
        turns = wait_a_turn(turns);
        if (turns == STALL) atomic_store_explicit(&team->stalled, 1, memory_order_relaxed);
    }
}

/* What is open to members now. `busy` is held by the caller of a region, `mutex` guards the rest;
 * `generation` and `inside` are also read without it. */
static struct {
    pthread_mutex_t busy, mutex;
    pthread_cond_t opened;
    int workers, asleep, open, most, joined, core;
    void (*member)(void *argument, int rank);
    void *argument;
    atomic_uint generation;
    atomic_int inside;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .opened = PTHREAD_COND_INITIALIZER};

/* A child of fork() has none of its parent's other threads. */
static void forget_workers(void) {
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.opened, NULL);
    pool.workers = pool.asleep = pool.open = 0;
    atomic_store(&pool.inside, 0);
}

#if defined(__linux__)
static int current_core(void) { return sched_getcpu(); }

/* Move to another core if this is the one given and the thread may run on others. */
static void leave_core(int core) {
    cpu_set_t all, others;
    if (sched_getcpu() != core || core < 0 || core >= CPU_SETSIZE ||
        sched_getaffinity(0, sizeof(all), &all) != 0)
        return;
    others = all;
    CPU_CLR(core, &others);
    if (sched_setaffinity(0, sizeof(others), &others) == 0) sched_setaffinity(0, sizeof(all), &all);
}
#else
static int current_core(void) { return -1; }
static void leave_core(int core) { (void)core; }
#endif

/* Wait awake for the next region (100 us after the last, on two threads of the Zen 5: an affine layer
 * of 2500 by 128 by 65 135 to 111 us, Adam over 230,000 parameters 48 to 27). */
static void linger(unsigned seen) {
    static _Atomic int64_t crowded_until;
    for (int spins = 0; spins < SPINS; spins++) {
        if (atomic_load(&pool.generation) != seen) return;
        relax();
    }
    int64_t time = now();
    if (time < atomic_load(&crowded_until)) return;
    for (const int64_t end = time + LINGER; time < end;) {
        if (atomic_load(&pool.generation) != seen) return;
        const int64_t before = time;
        sched_yield();
        time = now();
        if (time > before + TAKEN) {
            atomic_store(&crowded_until, time + CROWDED);
            return;
        }
    }
}

static void *worker(void *argument) {
    unsigned seen = (unsigned)(uintptr_t)argument;
    fr_flush_denormals();
    for (;;) {
        linger(seen);
        pthread_mutex_lock(&pool.mutex);
        pool.asleep++;
        while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.opened, &pool.mutex);
        pool.asleep--;
        seen = atomic_load(&pool.generation);
        const int joins = pool.open && pool.joined < pool.most;
        const int rank = joins ? ++pool.joined : 0, core = pool.core;
        if (joins) atomic_fetch_add(&pool.inside, 1);
        pthread_mutex_unlock(&pool.mutex);
        if (joins) {
            leave_core(core);
            pool.member(pool.argument, rank);
            atomic_fetch_sub(&pool.inside, 1);
        }
    }
    return NULL;
}

/* Add workers up to `wanted`; fewer where the system has none left. No signal is for them. */
static void hire(int wanted) {
    static int prepared;
    if (pool.workers >= wanted) return;
    if (!prepared) prepared = !pthread_atfork(NULL, NULL, forget_workers);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    void *seen = (void *)(uintptr_t)atomic_load(&pool.generation);
    pthread_t thread;
    for (; pool.workers < wanted; pool.workers++) {
        if (pthread_create(&thread, NULL, worker, seen) != 0) break;
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Let up to `most` members in; returns 0 where the pool is taken. */
static int open_region(int most, void (*member)(void *, int), void *argument) {
    if (most < 1 || pthread_mutex_trylock(&pool.busy) != 0) return 0;
    hire(most);
    pthread_mutex_lock(&pool.mutex);
    pool.open = 1;
    pool.most = most;
    pool.joined = 0;
    pool.member = member;
    pool.argument = argument;
    pool.core = current_core();
    atomic_fetch_add(&pool.generation, 1);
    const int asleep = pool.asleep;
    pthread_cond_broadcast(&pool.opened);
    pthread_mutex_unlock(&pool.mutex);
    if (asleep > 0) sched_yield();
    return 1;
}

/* Let nobody in any more; returns how many came. */
static int close_region(void) {
    pthread_mutex_lock(&pool.mutex);
    pool.open = 0;
    const int joined = pool.joined;
    pthread_mutex_unlock(&pool.mutex);
    return joined;
}

static void leave_region(void) {
    for (int turns = 0; atomic_load(&pool.inside) > 0;) turns = wait_a_turn(turns);
    pthread_mutex_unlock(&pool.busy);
}

typedef struct {
    fr_task task;
    void *context;
    int tasks;
    atomic_int next;
} task_list;

static void take_tasks(void *argument, int rank) {
    task_list *list = argument;
    for (int i; (i = atomic_fetch_add(&list->next, 1)) < list->tasks;)
        list->task(list->context, i, list->tasks, rank);
}

void fr_for_each(int tasks, int threads, fr_task task, void *context) {
    const uint64_t saved = fr_flush_denormals();
    task_list list = {task, context, tasks, 0};
    if (threads > tasks) threads = tasks;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    const int opened = open_region(threads - 1, take_tasks, &list);
    take_tasks(&list, 0);
    if (opened) {
        close_region();
        leave_region();
    }
    fr_restore_denormals(saved);
}

typedef struct {
    fr_team team;
    fr_work work;
    void *context;
} gang;

/* A member waits until the size of the team is final. */
static void work_in_gang(void *argument, int rank) {
    gang *g = argument;
    int size, turns = 0;
    while ((size = atomic_load_explicit(&g->team.size, memory_order_acquire)) == 0)
        turns = wait_a_turn(turns);
    g->work(g->context, rank, size, &g->team);
}

static _Atomic int64_t alone_until;

/* Called with `busy` held. */
static void note_stall(void) {
    static int64_t penalty;
    const int64_t time = now(), since = time - atomic_load(&alone_until);
    penalty = since > 10 * penalty || penalty == 0 ? SHORTEST : 2 * penalty;
    if (penalty > LONGEST) penalty = LONGEST;
    atomic_store(&alone_until, time + penalty);
}

void fr_parallel(int size, fr_work work, void *context) {
    const uint64_t saved = fr_flush_denormals();
    gang g = {.work = work, .context = context};
    if (size > MAX_THREADS) size = MAX_THREADS;
    if (size > 1 && now() < atomic_load(&alone_until)) size = 1;
    const int opened = open_region(size - 1, work_in_gang, &g);
    /* Whoever is not here in some 50 us has no core: the work is divided among the others. */
    for (int spins = 0; opened && spins < 2 * SPINS && atomic_load(&pool.inside) < size - 1;
         spins++)
        relax();
    const int members = opened ? close_region() : 0;
    atomic_store_explicit(&g.team.size, members + 1, memory_order_release);
    work(context, 0, members + 1, &g.team);
    if (atomic_load_explicit(&g.team.stalled, memory_order_relaxed)) note_stall();
    if (opened) leave_region();
    fr_restore_denormals(saved);
}

/* Denormal operands make many CPUs trap into microcode, a hundred times slower. */
#if defined(__x86_64__)
enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x0040 };
uint64_t fr_flush_denormals(void) {
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO);
    return saved;
}
void fr_restore_denormals(uint64_t saved) { _mm_setcsr((unsigned)saved); }
#elif defined(__aarch64__)
static const uint64_t FLUSH_TO_ZERO = 1u << 24;
uint64_t fr_flush_denormals(void) {
    uint64_t saved;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(saved | FLUSH_TO_ZERO));
    return saved;
}
void fr_restore_denormals(uint64_t saved) { __asm__ __volatile__("msr fpcr, %0" : : "r"(saved)); }
#else
uint64_t fr_flush_denormals(void) { return 0; }
void fr_restore_denormals(uint64_t saved) { (void)saved; }
#endif
