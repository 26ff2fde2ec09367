/* Threads for one parallel region: started for it and joined at its end.
 *
 * There is no pool, so nothing spins between calls, nothing is left to hang in a forked child, and
 * no idle thread competes with those of BLAS. Starting a thread costs 10-20 us, which only work of
 * a millisecond is worth; the caller decides by size.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "fastrnn_kernels.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
static inline void relax(void) { _mm_pause(); }
#elif defined(__aarch64__)
static inline void relax(void) { __asm__ __volatile__("yield"); }
#else
static inline void relax(void) {}
#endif

enum { MAX_THREADS = 256, SPINS = 2000 };

struct fr_team {
    atomic_int arrived, round, size;
};

/* The last to arrive opens the next round. The others spin a few microseconds, then yield, so that
 * a member that has lost its core can have one. */
void fr_barrier(fr_team *team) {
    const int size = atomic_load_explicit(&team->size, memory_order_relaxed);
    if (size == 1) return;
    const int round = atomic_load_explicit(&team->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == size - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->round, round + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&team->round, memory_order_acquire) == round; spins++) {
        if (spins < SPINS)
            relax();
        else
            sched_yield();
    }
}

typedef struct {
    fr_team *team;
    fr_work work;
    void *context;
    int rank;
} member;

static void run(const member *m) {
    const uint64_t saved = fr_flush_denormals();
    const int size = atomic_load_explicit(&m->team->size, memory_order_acquire);
    m->work(m->context, m->rank, size, m->team);
    fr_restore_denormals(saved);
}

/* A member waits until the size of the team is final. */
static void *start(void *argument) {
    const member *m = argument;
    while (atomic_load_explicit(&m->team->size, memory_order_acquire) == 0) sched_yield();
    run(m);
    return NULL;
}

void fr_parallel(int size, fr_work work, void *context) {
    fr_team team;
    atomic_init(&team.arrived, 0);
    atomic_init(&team.round, 0);
    atomic_init(&team.size, 0);
    if (size > MAX_THREADS) size = MAX_THREADS;
    pthread_t threads[MAX_THREADS];
    member members[MAX_THREADS];
    int started = 1;
    for (; started < size; started++) {
        members[started] = (member){&team, work, context, started};
        if (pthread_create(&threads[started], NULL, start, &members[started]) != 0) break;
    }
    members[0] = (member){&team, work, context, 0};
    atomic_store_explicit(&team.size, started, memory_order_release);
    run(&members[0]);
    for (int i = 1; i < started; i++) pthread_join(threads[i], NULL);
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
void fr_restore_denormals(uint64_t saved) {
    __asm__ __volatile__("msr fpcr, %0" : : "r"(saved));
}
#else
uint64_t fr_flush_denormals(void) { return 0; }
void fr_restore_denormals(uint64_t saved) { (void)saved; }
#endif
