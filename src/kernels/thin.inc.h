/* Thin products: few rows, by a weight W that is read where it is. See fr_thin.
 *
 * At one row they are bound by reading W. A few rows share what is read, THIN_ROWS at a time, and
 * take less than packing W would.
 */

/* A block of a thin product: `xs` rows of y from `row` on, and `m` of `ws` columns from i on. Rows
 * of W share the loads of x, and those of x the loads of W. */
INLINE void FN(thin_block)(const int terms, const int xs, const int ws, const int m,
                           const fr_thin *p, fr_index row, fr_index i) {
    enum { MOST = 16 };
    V sum[MOST]; /* (xs, ws) */
    UNROLL
    for (int s = 0; s < MOST; s++) sum[s] = v_set1(0);
    UNROLL
    for (int t = 0; t < terms; t++) {
        const fr_term *term = &p->term[t];
        const fr_index k = term->k;
        const real *x[MOST], *w[MOST];
        V xj[MOST];
        UNROLL
        for (int q = 0; q < xs; q++) x[q] = (const real *)term->x + (row + q) * term->x_row;
        w[0] = (const real *)term->w + i * term->w_row;
        UNROLL
        for (int r = 1; r < ws; r++) w[r] = w[0] + (r < m ? r : 0) * term->w_row;
        fr_index j = 0;
        for (; j + V_WIDTH <= k; j += V_WIDTH) {
            UNROLL
            for (int q = 0; q < xs; q++) xj[q] = v_load(x[q] + j);
            UNROLL
            for (int r = 0; r < ws; r++) {
                V wj = v_load(w[r] + j);
                v_keep(wj);
                UNROLL
                for (int q = 0; q < xs; q++) sum[q * ws + r] = v_fma(wj, xj[q], sum[q * ws + r]);
            }
        }
        if (j < k) {
            UNROLL
            for (int q = 0; q < xs; q++) xj[q] = v_load_n(x[q] + j, k - j);
            UNROLL
            for (int r = 0; r < ws; r++) {
                const V wj = v_load_n(w[r] + j, k - j);
                UNROLL
                for (int q = 0; q < xs; q++) sum[q * ws + r] = v_fma(wj, xj[q], sum[q * ws + r]);
            }
        }
    }
    real sums[MOST];
    UNROLL
    for (int s = 0; s < xs * ws; s += 8) v_sum8(sum + s, sums + s);
    const fr_index y_row = p->y_row, add_row = p->add_row;
    real *y = (real *)p->y + row * y_row + i;
    const real *add = p->add ? (const real *)p->add + row * add_row + i : NULL;
    UNROLL
    for (int q = 0; q < xs; q++) {
        real *all = sums + q * ws, *to = y + q * y_row;
        for (int r = 0; add && r < m; r++) all[r] += add[q * add_row + r];
        if (m == ws)
            memcpy(to, all, (size_t)ws * sizeof(real));
        else
            for (int r = 0; r < m; r++) to[r] = all[r];
    }
}

/* Columns i to i + n of `xs` rows. Eight rows of W are read at a time: so many streams of memory
 * are faster than four (LSTM 256: 21.6 in place of 23.0 us for 2 MiB), and of one row of x they
 * leave the sums that hide the latency of the FMA. More rows of x leave registers for four. */
INLINE void FN(thin_rows)(const int terms, const int xs, const fr_thin *p, fr_index row, fr_index i,
                          fr_index n) {
    enum { FEW = 4, MANY = 8 };
    const int ws = xs == 1 || (xs == 2 && THIN_ROWS > 3) ? MANY : FEW;
    const fr_index whole = n & -ws;
    for (fr_index done = 0; done < whole; done += ws)
        FN(thin_block)(terms, xs, ws, ws, p, row, i + (p->descending ? whole - ws - done : done));
    for (i += whole, n -= whole; n > 0; i += FEW, n -= FEW)
        FN(thin_block)(terms, xs, FEW, n < FEW ? (int)n : FEW, p, row, i);
}

/* clang-format off */
#if THIN_ROWS > 3
#define ALL_ROWS ROWS(1, 1) ROWS(1, 2) ROWS(1, 3) ROWS(1, 4) ROWS(2, 1) ROWS(2, 2) ROWS(2, 3) ROWS(2, 4)
#else
#define ALL_ROWS ROWS(1, 1) ROWS(1, 2) ROWS(1, 3) ROWS(2, 1) ROWS(2, 2) ROWS(2, 3)
#endif
/* Functions of their own, so that what one row costs does not depend on the code for more. */
#define ROWS(TERMS, XS)                                                                            \
    static __attribute__((noinline)) void FN(thin_rows_##TERMS##_##XS)(                            \
        const fr_thin *p, fr_index row, fr_index i, fr_index n) {                                  \
        FN(thin_rows)(TERMS, XS, p, row, i, n);                                                    \
    }
ALL_ROWS
#undef ROWS
/* clang-format on */

/* Rows of x that do not pass together have W in parts that stay in L1. A row's bits do not depend on
 * those beside it. */
static void FN(thin)(const fr_thin *p) {
    enum { LOG_PART = 14 }; /* 16 KiB */
    const int log_row = 64 - __builtin_clzll((uint64_t)p->term[0].k * sizeof(real) | 1);
    const int log_rows = LOG_PART - log_row > 3 ? LOG_PART - log_row : 3;
    const fr_index deep = (fr_index)1 << (p->rows > THIN_ROWS ? log_rows : 62);
    for (fr_index done = 0; done < p->n; done += deep) {
        const fr_index i = p->descending ? ((p->n - 1) & -deep) - done : done;
        const fr_index n = p->n - i < deep ? p->n - i : deep;
        for (fr_index row = 0, xs; row < p->rows; row += xs) {
            xs = p->rows - row < THIN_ROWS ? p->rows - row : THIN_ROWS;
#define ROWS(TERMS, XS)                                                                            \
    case 8 * TERMS + XS:                                                                           \
        FN(thin_rows_##TERMS##_##XS)(p, row, i, n);                                                \
        break;
            switch (8 * p->terms + xs) { ALL_ROWS }
#undef ROWS
        }
    }
}
#undef ALL_ROWS

/* A block of a thin product with the transpose: `xs` rows of y from `row` on, `vectors` vectors of
 * each from column j on, of whose last one `last` elements are real; y = add + the part of the
 * product that is made of n rows of W from the `first` on. */
INLINE void FN(thin_strip)(const int xs, const int vectors, const fr_index last, const fr_thin *p,
                           fr_index row, fr_index j, fr_index first, fr_index n) {
    enum { MOST = 16 };
    const fr_term *term = &p->term[0];
    const fr_index step = p->descending ? -1 : 1;
    const real *w = (const real *)term->w + first * term->w_row + j;
    const real *add = p->add ? (const real *)p->add + row * p->add_row + j : NULL, *x[MOST];
    real *y = (real *)p->y + row * p->y_row + j;
    V sum[MOST], xi[MOST]; /* (xs, vectors), (xs,) */
    UNROLL
    for (int q = 0; q < xs; q++) {
        x[q] = (const real *)term->x + (row + q) * term->x_row + first;
        UNROLL
        for (int v = 0; v < vectors; v++)
            sum[q * vectors + v] =
                add ? FN(load)(add + q * p->add_row + v * V_WIDTH, v < vectors - 1 ? V_WIDTH : last)
                    : v_set1(0);
    }
    for (fr_index i = 0; i < n; i++, w += step * term->w_row) {
        UNROLL
        for (int q = 0; q < xs; q++) xi[q] = v_set1(x[q][step * i]);
        UNROLL
        for (int v = 0; v < vectors; v++) {
            V wv = FN(load)(w + v * V_WIDTH, v < vectors - 1 ? V_WIDTH : last);
            v_keep(wv);
            UNROLL
            for (int q = 0; q < xs; q++) {
                V *to = &sum[q * vectors + v];
                *to = v_fma(xi[q], wv, *to);
            }
        }
    }
    UNROLL
    for (int q = 0; q < xs; q++) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            FN(store)(y + q * p->y_row + v * V_WIDTH, sum[q * vectors + v],
                      v < vectors - 1 ? V_WIDTH : last);
    }
}

/* Strips have as many vectors as hide the latency of the FMA. A part of W, DEEP rows of a strip,
 * passes all rows of x while it is near (512 columns by 2048, 24 rows: 360 to 262 us). */
static void FN(thin_transposed)(const fr_thin *p) {
    enum { FEW = 4, MANY = 8, DEEP = 128 };
    const fr_index k = p->term[0].k;
    const fr_index wide = (p->rows > (THIN_ROWS > 3 ? 2 : 1) ? FEW : MANY) * V_WIDTH;
    const fr_index strips = (k + wide - 1) / wide;
    fr_thin part = *p;
    for (fr_index done = 0; done < p->n || done == 0; done += DEEP) {
        const fr_index n = p->n - done < DEEP ? p->n - done : DEEP;
        const fr_index first = p->descending && n > 0 ? p->n - 1 - done : done;
        for (fr_index strip = 0; strip < strips; strip++) {
            const fr_index j = (p->descending ? strips - 1 - strip : strip) * wide;
            const fr_index left = k - j < wide ? k - j : wide;
            const int vectors = (int)((left + V_WIDTH - 1) / V_WIDTH);
            const fr_index last = left - (vectors - 1) * V_WIDTH;
            for (fr_index row = 0, xs; row < p->rows; row += xs) {
                xs = p->rows - row < THIN_ROWS ? p->rows - row : THIN_ROWS;
#define STRIP(XS, N)                                                                               \
    case 16 * XS + N:                                                                              \
        if ((N == FEW || N == MANY) && last == V_WIDTH)                                            \
            FN(thin_strip)(XS, N, V_WIDTH, &part, row, j, first, n);                               \
        else                                                                                       \
            FN(thin_strip)(XS, N, last, &part, row, j, first, n);                                  \
        break;
#define FEW_STRIPS(XS) STRIP(XS, 1) STRIP(XS, 2) STRIP(XS, 3) STRIP(XS, 4)
#define MANY_STRIPS(XS) FEW_STRIPS(XS) STRIP(XS, 5) STRIP(XS, 6) STRIP(XS, 7) STRIP(XS, 8)
                switch (16 * (int)xs + vectors) {
                    MANY_STRIPS(1)
                    FEW_STRIPS(3)
#if THIN_ROWS > 3
                    MANY_STRIPS(2)
                    FEW_STRIPS(4)
#else
                    FEW_STRIPS(2)
#endif
                }
#undef MANY_STRIPS
#undef FEW_STRIPS
#undef STRIP
            }
        }
        part.add = p->y;
        part.add_row = p->y_row;
    }
}
