/* Losses and optimisers against plain loops in double precision. */
#include "selftest.h"

#include <float.h>
#include <math.h>

static double score(void) {
    return 4 * real_number() + 300;
} /* exp(300) is too large for float32 */
static double square(void) { return fabs(real_number()); }

static void check_cross_entropy(fr_index columns, double *worst) {
    enum { ROWS = 3 };
    const double scale = 0.25;
    const matrix x = drawn(1, ROWS * columns, score), d_x = new_matrix(1, ROWS * columns);
    int64_t ids[ROWS];
    double losses[ROWS];
    for (int row = 0; row < ROWS; row++) ids[row] = (int64_t)uniform(0, (double)columns);
    K->softmax_cross_entropy(ROWS, columns, x.data, ids, scale, d_x.data, losses);
    for (int row = 0; row < ROWS; row++) {
        const fr_index first = row * columns;
        const double shift = at(x, 0, first);
        double sum = 0;
        for (fr_index j = 0; j < columns; j++) sum += exp(at(x, 0, first + j) - shift);
        grow(worst, losses[row], log(sum) - (at(x, 0, first + ids[row]) - shift));
        for (fr_index j = 0; j < columns; j++)
            grow(worst, at(d_x, 0, first + j),
                 scale * (exp(at(x, 0, first + j) - shift) / sum - (j == ids[row])));
    }
    free_matrices(0);
}

static void check_sum_of_squares(fr_index n) {
    const matrix x = drawn(1, n, small_integer);
    double expected = 0;
    for (fr_index i = 0; i < n; i++) expected += at(x, 0, i) * at(x, 0, i);
    expect(K->sum_of_squares(n, x.data) == expected, "sum_of_squares of %td", n);
    /* Squares of float32 that are too large for float32. */
    for (fr_index i = 0; i < n; i++) set(x, 0, i, ldexp(at(x, 0, i), 100));
    expect(K->sum_of_squares(n, x.data) == ldexp(expected, 200), "sum_of_squares of %td large", n);
    free_matrices(0);
}

/* Elements first:last of 50 make a step; the others stay. */
static void check_sgd(fr_index first, fr_index last, int momentum, int nesterov, double *worst) {
    const matrix x = drawn(1, 50, real_number), g = drawn(1, 50, real_number);
    const matrix b = drawn(1, 50, real_number), x0 = copy(x), b0 = copy(b);
    const fr_sgd s = {.values = x.data,
                      .gradients = g.data,
                      .momentum_buffer = momentum ? b.data : NULL,
                      .learning_rate = 0.5,
                      .momentum = 0.75,
                      .weight_decay = 0.125,
                      .nesterov = nesterov};
    K->sgd(&s, first, last);
    for (fr_index i = first; i < last; i++) {
        double step = at(g, 0, i) + s.weight_decay * at(x0, 0, i);
        if (momentum) {
            const double average = s.momentum * at(b0, 0, i) + step;
            grow(worst, at(b, 0, i), average);
            set(b0, 0, i, at(b, 0, i));
            step = nesterov ? step + s.momentum * average : average;
        }
        grow(worst, at(x, 0, i), at(x0, 0, i) - s.learning_rate * step);
        set(x0, 0, i, at(x, 0, i));
    }
    expect(same_bits(x, x0, 1) && same_bits(b, b0, 1), "sgd on %td:%td writes outside", first,
           last);
    free_matrices(0);
}

static void check_adam(fr_index first, fr_index last, double *worst) {
    const matrix x = drawn(1, 50, real_number), g = drawn(1, 50, real_number);
    const matrix m = drawn(1, 50, real_number), v = drawn(1, 50, square);
    const matrix x0 = copy(x), m0 = copy(m), v0 = copy(v);
    const fr_adam a = {.values = x.data,
                       .gradients = g.data,
                       .exp_avg = m.data,
                       .exp_avg_sq = v.data,
                       .beta1 = 0.75,
                       .beta2 = 0.9375,
                       .eps = 0.0625,
                       .weight_decay = 0.125,
                       .shrink = 0.875,
                       .step = 0.5,
                       .root_scale = 1.5};
    K->adam(&a, first, last);
    for (fr_index i = first; i < last; i++) {
        const double gradient = at(g, 0, i) + a.weight_decay * at(x0, 0, i);
        set(m0, 0, i, a.beta1 * at(m0, 0, i) + (1 - a.beta1) * gradient);
        set(v0, 0, i, a.beta2 * at(v0, 0, i) + (1 - a.beta2) * gradient * gradient);
        const double root = sqrt(at(v0, 0, i)) * a.root_scale + a.eps;
        set(x0, 0, i, a.shrink * at(x0, 0, i) - a.step * at(m0, 0, i) / root);
        grow(worst, at(m, 0, i), at(m0, 0, i));
        grow(worst, at(v, 0, i), at(v0, 0, i));
        grow(worst, at(x, 0, i), at(x0, 0, i));
        set(m0, 0, i, at(m, 0, i));
        set(v0, 0, i, at(v, 0, i));
        set(x0, 0, i, at(x, 0, i));
    }
    expect(same_bits(x, x0, 1) && same_bits(m, m0, 1) && same_bits(v, v0, 1),
           "adam on %td:%td writes outside", first, last);
    free_matrices(0);
}

void check_training(double *worst) {
    const double eps = K->item_size == 4 ? FLT_EPSILON : DBL_EPSILON;
    for (fr_index n = 1; n < 70; n++) check_cross_entropy(n, worst);
    for (fr_index n = 0; n < 1100; n += n < 70 ? 1 : 97) check_sum_of_squares(n);
    for (fr_index n = 0; n < 40; n++)
        for (int kind = 0; kind < 3; kind++) check_sgd(n % 7, n % 7 + n, kind > 0, kind > 1, worst);
    for (fr_index n = 0; n < 40; n++) check_adam(n % 7, n % 7 + n, worst);
    expect(*worst <= 16 * eps, "a loss or an optimiser is off by %.1e", *worst);
}
