/* Tasks, teams and their barrier, for several callers at once; denormals inside and outside. */
#include "selftest.h"

#include <float.h>
#include <pthread.h>
#include <stdio.h>

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

void check_threads(void) {
    int wrong[CALLERS] = {0}, wrong_inside[TASKS] = {0};
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
