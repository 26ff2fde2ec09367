/* Losses and optimisers. Each is bound by memory, so it reads and writes its buffers once. */

/* Cross-entropy of the softmax of rows of scores x (rows, columns) against ids (rows,), and its
 * gradient times `scale`; losses (rows,) in nats. The scores are shifted by their largest. Sums of
 * blocks are added in double precision, in which a vocabulary's rounding errors do not grow. */
static void FN(softmax_cross_entropy)(fr_index rows, fr_index columns, const void *x_,
                                      const int64_t *ids, double scale, void *d_x_,
                                      double *losses) {
    enum { SUMMED = 1024 };
    for (fr_index row = 0; row < rows; row++) {
        const real *x = (const real *)x_ + row * columns;
        real *d_x = (real *)d_x_ + row * columns;
        real largest = x[0];
        fr_index col = 0;
        if (columns >= V_WIDTH) {
            V most = v_load(x);
            for (col = V_WIDTH; col + V_WIDTH <= columns; col += V_WIDTH)
                most = v_max(most, v_load(x + col));
            real lanes[V_WIDTH];
            v_store(lanes, most);
            for (int i = 0; i < V_WIDTH; i++) largest = lanes[i] > largest ? lanes[i] : largest;
        }
        for (; col < columns; col++) largest = x[col] > largest ? x[col] : largest;

        const V shift = v_set1(largest);
        double total = 0;
        for (col = 0; col + V_WIDTH <= columns;) {
            const fr_index end = columns - col < SUMMED ? columns : col + SUMMED;
            V sum = v_set1(0);
            for (; col + V_WIDTH <= end; col += V_WIDTH) {
                const V e = FN(v_exp)(v_load(x + col) - shift);
                v_store(d_x + col, e);
                sum += e;
            }
            total += (double)v_sum(sum);
        }
        if (col < columns) {
            const fr_index n = columns - col;
            v_store_n(d_x + col, FN(v_exp)(v_load_n(x + col, n) - shift), n);
            for (; col < columns; col++) total += (double)d_x[col];
        }
        const double shifted = (double)x[ids[row]] - (double)largest;
        losses[row] = log(total) - shifted;

        const V factor = v_set1((real)(scale / total));
        for (col = 0; col + V_WIDTH <= columns; col += V_WIDTH)
            v_store(d_x + col, v_load(d_x + col) * factor);
        if (col < columns)
            v_store_n(d_x + col, v_load_n(d_x + col, columns - col) * factor, columns - col);
        d_x[ids[row]] -= (real)scale;
    }
}

/* Sum of squares. Those of blocks are added in double precision, where float32 cannot overflow. */
static double FN(sum_of_squares)(fr_index n, const void *x_) {
    const real *x = x_;
    double total = 0;
    for (fr_index first = 0; first < n; first += 512) {
        const fr_index last = first + 512 < n ? first + 512 : n;
        V sum[4] = {v_set1(0), v_set1(0), v_set1(0), v_set1(0)};
        fr_index i = first;
        for (; i + 4 * V_WIDTH <= last; i += 4 * V_WIDTH)
            for (int j = 0; j < 4; j++) {
                const V v = v_load(x + i + j * V_WIDTH);
                sum[j] = v_fma(v, v, sum[j]);
            }
        for (; i < last; i += V_WIDTH) {
            const V v = FN(load)(x + i, last - i < V_WIDTH ? last - i : V_WIDTH);
            sum[0] = v_fma(v, v, sum[0]);
        }
        double block = (double)v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
        if (!isfinite(block))
            for (block = 0, i = first; i < last; i++) block += (double)x[i] * (double)x[i];
        total += block;
    }
    return total;
}

/* One step of SGD; the equations stand in fastrnn/optim/sgd.py. */
INLINE void FN(sgd_at)(const fr_sgd *s, fr_index i, fr_index n) {
    real *value = (real *)s->values + i;
    const V x = FN(load)(value, n), momentum = v_set1((real)s->momentum);
    V g = FN(load)((const real *)s->gradients + i, n);
    if (s->weight_decay > 0) g = v_fma(v_set1((real)s->weight_decay), x, g); /* 0 * inf is NaN */
    if (s->momentum_buffer) {
        real *buffer = (real *)s->momentum_buffer + i;
        const V b = v_fma(FN(load)(buffer, n), momentum, g);
        FN(store)(buffer, b, n);
        g = s->nesterov ? v_fma(b, momentum, g) : b;
    }
    FN(store)(value, x - v_set1((real)s->learning_rate) * g, n);
}

static void FN(sgd)(const fr_sgd *s, fr_index first, fr_index last) {
    fr_index i = first;
    for (; i + V_WIDTH <= last; i += V_WIDTH) FN(sgd_at)(s, i, V_WIDTH);
    if (i < last) FN(sgd_at)(s, i, last - i);
}

/* One step of Adam (or AdamW); the equations stand in fastrnn/optim/adam.py. */
INLINE void FN(adam_at)(const fr_adam *a, fr_index i, fr_index n) {
    real *value = (real *)a->values + i, *average = (real *)a->exp_avg + i;
    real *square = (real *)a->exp_avg_sq + i;
    const V x = FN(load)(value, n);
    const V g =
        v_fma(v_set1((real)a->weight_decay), x, FN(load)((const real *)a->gradients + i, n));
    V m = FN(load)(average, n), v = FN(load)(square, n);
    m = v_fma(g, v_set1((real)(1 - a->beta1)), m * v_set1((real)a->beta1));
    v = v_fma(g * g, v_set1((real)(1 - a->beta2)), v * v_set1((real)a->beta2));
    const V root = v_fma(v_sqrt(v), v_set1((real)a->root_scale), v_set1((real)a->eps));
    FN(store)(average, m, n);
    FN(store)(square, v, n);
    FN(store)(value, x * v_set1((real)a->shrink) - v_set1((real)a->step) * m / root, n);
}

static void FN(adam)(const fr_adam *a, fr_index first, fr_index last) {
    fr_index i = first;
    for (; i + V_WIDTH <= last; i += V_WIDTH) FN(adam_at)(a, i, V_WIDTH);
    if (i < last) FN(adam_at)(a, i, last - i);
}
