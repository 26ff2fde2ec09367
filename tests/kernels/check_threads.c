/* Tasks, teams and their barrier, for several callers at once; denormals inside and outside. */
#define _GNU_SOURCE
#include "selftest.h"

#include <float.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

enum { MOST_THREADS = 6, TASKS = 40, ROUNDS = 20, REPEATS = 30, CALLERS = 3 };

static int flushes_denormals(void) {
    volatile double smallest = DBL_MIN;
    return smallest / 4 == 0;
}

/* What tasks and members note down, each where no other does at that time. */
typedef struct {
    int runs[TASKS];                                                          /* of each task */
    int work[MOST_THREADS], flushes[MOST_THREADS], out_of_step[MOST_THREADS]; /* of each rank */
    int size;
} notes;

static void task(void *context, int i, int tasks, int rank) {
    notes *n = context;
    n->runs[i] += tasks == TASKS;
    n->work[rank]++;
    n->flushes[rank] = flushes_denormals();
}

/* After a barrier every member sees that all have come as far. */
static void member(void *context, int rank, int size, fr_team *team) {
    notes *n = context;
    if (rank == 0) n->size = size;
    n->flushes[rank] = flushes_denormals();
    for (int round = 1; round <= ROUNDS; round++) {
        n->work[rank] = round;
        fr_barrier(team);
        for (int other = 0; other < size; other++) n->out_of_step[rank] += n->work[other] != round;
        fr_barrier(team);
    }
}

/* Whether every task runs once, on ranks below `threads`. */
static int tasks_run(int threads) {
    notes n = {0};
    fr_for_each(TASKS, threads, task, &n);
    int right = 1, done = 0;
    for (int i = 0; i < TASKS; i++) right &= n.runs[i] == 1;
    for (int rank = 0; rank < MOST_THREADS; rank++) {
        done += n.work[rank];
        right &= n.flushes[rank] == (n.work[rank] > 0);
        right &= n.work[rank] == 0 || rank == 0 || rank < threads;
    }
    return right && done == TASKS && !flushes_denormals();
}

/* Whether a team of at most `threads` meets at its barriers. */
static int team_meets(int threads) {
    notes n = {0};
    fr_parallel(threads, member, &n);
    int right = n.size == 1 || (n.size > 1 && n.size <= threads);
    for (int rank = 0; rank < MOST_THREADS; rank++) {
        right &= n.work[rank] == (rank < n.size ? ROUNDS : 0);
        right &= n.flushes[rank] == (rank < n.size) && n.out_of_step[rank] == 0;
    }
    return right && !flushes_denormals();
}

/* A task that asks for threads itself. */
static void nesting_task(void *wrong, int i, int tasks, int rank) {
    (void)tasks, (void)rank;
    notes n = {0};
    fr_for_each(TASKS, MOST_THREADS, task, &n);
    ((int *)wrong)[i] = n.work[0] != TASKS;
}

static void *call(void *wrong) {
    for (int repeat = 0; repeat < REPEATS; repeat++)
        for (int threads = -1; threads <= MOST_THREADS; threads++)
            *(int *)wrong += !tasks_run(threads) + !team_meets(threads);
    return NULL;
}

#if defined(__linux__)
/* Where a member begins; it ends on the caller's core, to which it goes. */
static void note_core(void *cores, int rank, int size, fr_team *team) {
    (void)size, (void)team;
    int *core = cores;
    core[rank] = sched_getcpu();
    if (rank == 0) return;
    cpu_set_t all, one;
    sched_getaffinity(0, sizeof(all), &all);
    CPU_ZERO(&one);
    CPU_SET(core[2], &one);
    sched_setaffinity(0, sizeof(one), &one);
    sched_setaffinity(0, sizeof(all), &all);
}

/* A member that sleeps on the caller's core does not stay there, but where others hold the rest. */
static void check_cores(void) {
    enum { MEETINGS = 20 };
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof(all), &all) != 0 || CPU_COUNT(&all) < 2) return;
    int core[3] = {-1, -1, sched_getcpu()}, same = 0;
    fr_parallel(2, note_core, core); /* the member is made here, which may run anywhere */
    CPU_ZERO(&one);
    CPU_SET(core[2], &one);
    sched_setaffinity(0, sizeof(one), &one);
    for (int i = 0; i < MEETINGS; i++) {
        core[1] = -1;
        fr_parallel(2, note_core, core);
        same += core[1] == core[2];
        usleep(1000);
    }
    sched_setaffinity(0, sizeof(all), &all);
    expect(same < MEETINGS / 4, "%d members share their caller's core", same);
}
#else
static void check_cores(void) {}
#endif

void check_threads(void) {
    int wrong[CALLERS] = {0}, wrong_inside[TASKS] = {0};
    check_cores();
    call(&wrong[0]);
    expect(wrong[0] == 0, "%d regions fail", wrong[0]);
    pthread_t callers[CALLERS];
    for (int c = 0; c < CALLERS; c++) pthread_create(&callers[c], NULL, call, &wrong[c]);
    for (int c = 0; c < CALLERS; c++) {
        pthread_join(callers[c], NULL);
        expect(wrong[c] == 0, "%d regions fail beside those of other callers", wrong[c]);
    }
    fr_for_each(TASKS, MOST_THREADS, nesting_task, wrong_inside);
    for (int i = 0; i < TASKS; i++) expect(!wrong_inside[i], "a region inside task %d fails", i);
    fr_for_each(0, MOST_THREADS, task, NULL);
    printf("threads: %s\n", failures ? "FAILED" : "passed");
}
