/* Teams, their barrier, and denormal numbers inside and outside of them. */
#include "selftest.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_THREADS = 256, ROUNDS = 20 };

/* What each rank notes down. */
typedef struct {
    int round, size, early, flushes;
} note;

static int flushes_denormals(void) {
    volatile double smallest = DBL_MIN;
    return smallest / 4 == 0;
}

/* After a barrier every member sees that all have come as far. */
static void meet(void *context, int rank, int size, fr_team *team) {
    note *notes = context;
    notes[rank].size = size;
    notes[rank].flushes = flushes_denormals();
    for (int round = 1; round <= ROUNDS; round++) {
        notes[rank].round = round;
        fr_barrier(team);
        for (int other = 0; other < size; other++) notes[rank].early += notes[other].round != round;
        fr_barrier(team);
    }
}

void check_threads(void) {
    static const int asked[] = {-1, 0, 1, 2, 3, 7, 40, 1000};
    for (size_t a = 0; a < sizeof asked / sizeof *asked; a++) {
        note *notes = calloc(MOST_THREADS, sizeof *notes);
        fr_parallel(asked[a], meet, notes);
        const int size = notes[0].size;
        expect(size >= 1 && (size <= asked[a] || size == 1) && size <= MOST_THREADS,
               "a team of %d where %d were asked for", size, asked[a]);
        for (int rank = 0; rank < size; rank++) {
            const note n = notes[rank];
            expect(n.size == size && n.round == ROUNDS, "rank %d of %d ran %d rounds as one of %d",
                   rank, size, n.round, n.size);
            expect(n.early == 0, "rank %d of %d passed a barrier early", rank, size);
            expect(n.flushes, "rank %d of %d keeps denormals", rank, size);
        }
        expect(size == MOST_THREADS || notes[size].size == 0, "a rank beyond %d has run", size);
        expect(!flushes_denormals(), "denormals are not restored after a team of %d", size);
        free(notes);
    }
    const uint64_t saved = fr_flush_denormals();
    expect(flushes_denormals(), "denormals are kept");
    fr_restore_denormals(saved);
    expect(!flushes_denormals(), "denormals are not restored");
    printf("threads: %s\n", failures ? "FAILED" : "passed");
}
