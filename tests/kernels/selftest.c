/* Self-test of the kernels, without Python: every instruction set of this CPU, for float32 and
 * float64, against plain loops and the C library. `bash tests/kernels/run` builds and runs it.
 * With -DEMULATED=fr_kernels_avx512 that table is tested too, whatever the CPU.
 */
#include "selftest.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const fr_kernels *K;
int failures;

void expect(int holds, const char *what, ...) {
    enum { MOST_PRINTED = 20 };
    if (holds || ++failures > MOST_PRINTED) return;
    va_list arguments;
    va_start(arguments, what);
    if (K) printf("%s float%d: ", K->isa, (int)(8 * K->item_size));
    vprintf(what, arguments);
    printf("\n");
    va_end(arguments);
}

static struct {
    char *pages;
    size_t size;
} pool[64];
static int pooled;

void free_matrices(int kept) {
    for (; pooled > kept; pooled--) munmap(pool[pooled - 1].pages, pool[pooled - 1].size);
}

/* The size of the first rows; behind the last one is no element. */
static size_t bytes(matrix m, fr_index rows) {
    return (size_t)((rows * m.row - (rows > 0 && rows == m.rows)) * K->item_size);
}

matrix new_matrix(fr_index rows, fr_index cols) {
    matrix m = {.rows = rows, .cols = cols, .row = cols + 1};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = bytes(m, rows);
    const size_t before = (size + page - 1) / page * page;
    char *pages = mmap(NULL, before + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + before, page, PROT_NONE) != 0) abort();
    pool[pooled].pages = pages;
    pool[pooled++].size = before + page;
    m.data = pages + before - size;
    memset(m.data, 0xFF, size);
    return m;
}

matrix drawn(fr_index rows, fr_index cols, double (*draw)(void)) {
    const matrix m = new_matrix(rows, cols);
    for (fr_index i = 0; i < rows; i++)
        for (fr_index j = 0; j < cols; j++) set(m, i, j, draw());
    return m;
}

matrix copy(matrix m) {
    const matrix c = new_matrix(m.rows, m.cols);
    memcpy(c.data, m.data, bytes(m, m.rows));
    return c;
}

double at(matrix m, fr_index i, fr_index j) {
    const fr_index n = i * m.row + j;
    return K->item_size == 4 ? (double)((float *)m.data)[n] : ((double *)m.data)[n];
}

void set(matrix m, fr_index i, fr_index j, double v) {
    const fr_index n = i * m.row + j;
    if (K->item_size == 4)
        ((float *)m.data)[n] = (float)v;
    else
        ((double *)m.data)[n] = v;
}

void add(matrix m, fr_index i, fr_index j, double v) { set(m, i, j, at(m, i, j) + v); }

int same_bits(matrix a, matrix b, fr_index rows) {
    return memcmp(a.data, b.data, bytes(a, rows)) == 0;
}

int gaps_untouched(matrix m) {
    int untouched = 1;
    for (fr_index i = 0; i + 1 < m.rows; i++) untouched &= isnan(at(m, i, m.cols)) != 0;
    return untouched;
}

double uniform(double low, double high) {
    static uint64_t seed = 1;
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * ((double)(seed >> 11) * 0x1p-53);
}
void grow(double *worst, double got, double exact) {
    const double error = fabs(got - exact) / (1 + fabs(exact));
    if (!(error <= *worst)) *worst = error; /* NaN too */
}

double real_number(void) { return (float)uniform(-2, 2); }
double small_integer(void) { return floor(uniform(-4, 5)); }

static void check(const fr_kernels *kernels) {
    const int before = failures;
    double ulp[3] = {0}, cells[2] = {0}, training = 0;
    K = kernels;
    check_products();
    check_functions(ulp);
    check_cells(cells);
    check_training(&training);
    printf("%-6s float%d: %s; exp %.2f, tanh %.2f, sigmoid %.2f ULP; cells %.1e, adjoint %.1e, "
           "losses and optimisers %.1e\n",
           K->isa, (int)(8 * K->item_size), failures == before ? "passed" : "FAILED", ulp[0],
           ulp[1], ulp[2], cells[0], cells[1], training);
}

int main(void) {
    check_threads();
    fr_initialise();
    for (const char *const *isa = fr_available_isas(); *isa; isa++) {
        expect(fr_use_isa(*isa) == 0 && strcmp(fr_active(4)->isa, *isa) == 0, "use %s", *isa);
        check(fr_active(4));
        check(fr_active(8));
    }
#ifdef EMULATED
    extern const fr_kernels *const EMULATED[2];
    check(EMULATED[0]);
    check(EMULATED[1]);
#endif
    K = NULL;
    expect(fr_use_isa("sse9") == -1, "an unknown instruction set is accepted");
    expect(fr_active(2) == NULL, "there are kernels for elements of two bytes");
    return failures > 0;
}
