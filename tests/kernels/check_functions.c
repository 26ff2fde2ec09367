/* exp, tanh and sigmoid against those of long double. */
#include "selftest.h"

#include <float.h>
#include <math.h>
#include <string.h>

static double wide(void) { return K->item_size == 4 ? uniform(-110, 110) : uniform(-760, 760); }
static double any_magnitude(void) { return ldexp(real_number(), (int)uniform(-1080, 1030)); }
static double special(void) {
    static const double values[] = {
        0.,        -0.,      INFINITY, -INFINITY, NAN,      1e-45,   -1e-40,
        5e-324,    FLT_MIN,  -DBL_MIN, 1e38,      -FLT_MAX, 1e308,   -DBL_MAX,
        -87.33654, 88.72283, -103.97,  709.7827,  -708.4,   -745.13,
    };
    static size_t next;
    return values[next++ % (sizeof values / sizeof *values)];
}

static long double sigmoidl(long double x) { return 1 / (1 + expl(-x)); }

/* Error in units in the last place of the exact result. Infinity counts as the number after the
 * largest; where the exact result is denormal, all below the smallest normal number is right. */
static double ulps(double got, long double exact) {
    const int single = K->item_size == 4;
    const long double infinity = ldexpl(1, single ? FLT_MAX_EXP : DBL_MAX_EXP);
    const long double smallest = single ? FLT_MIN : DBL_MIN;
    if (isnan(got) || isnan(exact)) return isnan(got) && isnan(exact) ? 0 : INFINITY;
    const long double error = fabsl(fminl(got, infinity) - fminl(exact, infinity));
    if (fabsl(exact) < smallest) return error < smallest ? 0 : INFINITY;
    int exponent;
    frexpl(fminl(exact, infinity), &exponent);
    return (double)(error / ldexpl(1, exponent - (single ? FLT_MANT_DIG : DBL_MANT_DIG)));
}

static double worst_error(const char *name, fr_map map, long double (*exact)(long double),
                          double bound) {
    double (*const draws[])(void) = {special, wide, real_number, any_magnitude};
    double worst = 0;
    for (int d = 0; d < 4; d++) {
        const matrix x = drawn(1, d == 0 ? 100 : 20003, draws[d]), y = new_matrix(1, x.cols);
        map(x.cols, x.data, y.data);
        for (fr_index i = 0; i < x.cols; i++) {
            const double error = ulps(at(y, 0, i), exact(at(x, 0, i)));
            expect(error <= bound, "%s(%.17g) = %.17g, off by %.2f ULP", name, at(x, 0, i),
                   at(y, 0, i), error);
            worst = fmax(worst, error);
        }
        /* An element's bits do not depend on where it stands. */
        for (fr_index n = 0; n < 40; n++) {
            const matrix first = new_matrix(1, n);
            map(n, x.data, first.data);
            expect(memcmp(first.data, y.data, (size_t)(n * K->item_size)) == 0,
                   "%s of %td elements", name, n);
            free_matrices(2);
        }
        free_matrices(0);
    }
    return worst;
}

void check_functions(double worst_ulp[3]) {
    worst_ulp[0] = worst_error("exp", K->exp, expl, 1.5);
    worst_ulp[1] = worst_error("tanh", K->tanh, tanhl, 3);
    worst_ulp[2] = worst_error("sigmoid", K->sigmoid, sigmoidl, 2.5);
}
