/* Thin products: few rows, by a weight W that is read where it is. See fr_thin.
 *
 * At one row they are bound by reading W. A few rows share what is read, THIN_ROWS at a time, and
 * take less than packing W would.
 */

/* Vectors of one row of x that stay in registers, or of sums over the rows of W. */
#define ROW_VECTORS (V_REGISTERS / 2)

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

/* Columns i to i + n of `xs` rows. Eight rows of W are read at a time: with one row of x they are
 * the sums that hide the latency of the FMA. More rows of x leave registers for four. */
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

/* The product of a row of W with an x in registers: `vectors` vectors, of which the last has `last`
 * elements. */
INLINE V FN(row_product)(const int vectors, const fr_index last, const V *x, const real *w) {
    V sum = v_set1(0);
    UNROLL
    for (int u = 0; u < vectors; u++)
        sum = v_fma(FN(load)(w + u * V_WIDTH, u < vectors - 1 ? V_WIDTH : last), x[u], sum);
    return sum;
}

/* The same with k elements of an x in memory. */
INLINE V FN(long_row_product)(fr_index k, const real *x, const real *w) {
    enum { SUMS = 4 }; /* hide the latency of the FMA */
    V sum[SUMS];
    fr_index j = 0;
    UNROLL
    for (int s = 0; s < SUMS; s++) sum[s] = v_set1(0);
    for (; j + SUMS * V_WIDTH <= k; j += SUMS * V_WIDTH) {
        UNROLL
        for (int s = 0; s < SUMS; s++)
            sum[s] = v_fma(v_load(w + j + s * V_WIDTH), v_load(x + j + s * V_WIDTH), sum[s]);
    }
    for (; j + V_WIDTH <= k; j += V_WIDTH) sum[0] = v_fma(v_load(w + j), v_load(x + j), sum[0]);
    if (j < k) sum[0] = v_fma(v_load_n(w + j, k - j), v_load_n(x + j, k - j), sum[0]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* y (rows,) = add + the product of rows of W from i on with x, of which `vectors` vectors are in
 * registers; `is_long` says that there is more of it. A few loads go through W as it lies: what the
 * hardware fetches ahead for them is then right (Zen 5, from L2: 200 GB/s in place of 140; Zen 4,
 * 4 MiB from L3: 94 in place of 87). Sums stay in registers, since a store delays what comes from L2
 * (Zen 4: 117 in place of 98). */
INLINE void FN(row_sums)(const int vectors, const fr_index last, const int is_long,
                         const fr_term *term, fr_index i, const real *add, real *y, fr_index rows) {
    const real *x = term->x, *w = (const real *)term->w + i * term->w_row;
    V xj[ROW_VECTORS];
    UNROLL
    for (int u = 0; u < vectors; u++) {
        xj[u] = FN(load)(x + u * V_WIDTH, u < vectors - 1 ? V_WIDTH : last);
        v_keep(xj[u]);
    }
    for (fr_index r = 0; r < rows; r += 8) {
        const fr_index n = rows - r < 8 ? rows - r : 8;
        V sum[8];
        real sums[8], *of_rows = sums + 8 - n;
        UNROLL
        for (int s = 0; s < 8; s++) sum[s] = v_set1(0);
        ROLLED
        for (fr_index q = 0; q < n; q++, w += term->w_row) {
            UNROLL
            for (int s = 0; s < 7; s++) sum[s] = sum[s + 1];
            sum[7] = FN(row_product)(vectors, last, xj, w);
            const fr_index held = vectors * V_WIDTH;
            if (is_long) sum[7] = sum[7] + FN(long_row_product)(term->k - held, x + held, w + held);
        }
        v_sum8(sum, sums);
        for (fr_index q = 0; add && q < n; q++) of_rows[q] += add[r + q];
        memcpy(y + r, of_rows, (size_t)n * sizeof(real));
    }
}

/* The product of one row, with all terms for some rows of W at a time. With 16 registers, the sums
 * leave none to hold a part of a long x. */
static void FN(thin_row)(const fr_thin *p) {
    enum { ROWS = 64, HELD = ROW_VECTORS > 8 ? ROW_VECTORS : 0 };
    const fr_index blocks = (p->n + ROWS - 1) / ROWS;
    for (fr_index block = 0; block < blocks; block++) {
        const fr_index i = (p->descending ? blocks - 1 - block : block) * ROWS;
        const fr_index rows = p->n - i < ROWS ? p->n - i : ROWS;
        const real *add = p->add ? (const real *)p->add + i : NULL;
        real *y = (real *)p->y + i;
        for (int t = 0; t < p->terms; t++) {
            const fr_term *term = &p->term[t];
            if (term->k == 0) continue;
            const fr_index vectors = (term->k + V_WIDTH - 1) / V_WIDTH;
            const fr_index last = term->k - (vectors - 1) * V_WIDTH;
#define PART(N)                                                                                    \
    case N:                                                                                        \
        if (last == V_WIDTH)                                                                       \
            FN(row_sums)(N, V_WIDTH, 0, term, i, add, y, rows);                                    \
        else                                                                                       \
            FN(row_sums)(N, last, 0, term, i, add, y, rows);                                       \
        break;
            /* clang-format off */
            switch (vectors) {
                PART(1) PART(2) PART(3) PART(4) PART(5) PART(6) PART(7) PART(8)
#if ROW_VECTORS > 8
                PART(9) PART(10) PART(11) PART(12) PART(13) PART(14) PART(15) PART(16)
#endif
                default: FN(row_sums)(HELD, V_WIDTH, 1, term, i, add, y, rows);
            }
            /* clang-format on */
#undef PART
            add = y;
        }
    }
}

/* Functions of their own, so that what one row costs does not depend on the code for more. */
#define ROWS(TERMS, XS)                                                                            \
    static __attribute__((noinline)) void FN(thin_rows_##TERMS##_##XS)(                            \
        const fr_thin *p, fr_index row, fr_index i, fr_index n) {                                  \
        FN(thin_rows)(TERMS, XS, p, row, i, n);                                                    \
    }
/* clang-format off */
#if THIN_ROWS > 3
#define ALL_ROWS ROWS(1, 1) ROWS(1, 2) ROWS(1, 3) ROWS(1, 4) ROWS(2, 1) ROWS(2, 2) ROWS(2, 3) ROWS(2, 4)
#else
#define ALL_ROWS ROWS(1, 1) ROWS(1, 2) ROWS(1, 3) ROWS(2, 1) ROWS(2, 2) ROWS(2, 3)
#endif
ALL_ROWS
/* clang-format on */
#undef ROWS

/* If x has more rows than one block, W is read in parts that stay in L1. The bits of a row do not
 * depend on the rows beside it. But a single row has other bits in `thin_row`, unless x is short
 * and the only term: so the size of the whole W decides on that, not this call's share of it. LONG
 * is in bytes of a row of W. */
static void FN(thin)(const fr_thin *p) {
    enum { LOG_PART = 14, L1 = 64 * 1024, LONG = 1024 };
    const fr_index k = p->terms > 1 && p->term[1].k > p->term[0].k ? p->term[1].k : p->term[0].k;
    const fr_index row_size = k * (fr_index)sizeof(real);
    const int is_short = k <= ROW_VECTORS * V_WIDTH;
    const fr_index n = is_short && p->terms == 1 ? p->n : p->whole;
    if (p->rows == 1 && n * p->terms * row_size > L1 && (is_short || row_size > LONG)) {
        FN(thin_row)(p);
        return;
    }
    const int log_row = 64 - __builtin_clzll((uint64_t)p->term[0].k * sizeof(real) | 1);
    const int log_rows = LOG_PART - log_row > 3 ? LOG_PART - log_row : 3;
    const fr_index part = (fr_index)1 << (p->rows > THIN_ROWS ? log_rows : 62);
    for (fr_index done = 0; done < p->n; done += part) {
        const fr_index i = p->descending ? ((p->n - 1) & -part) - done : done;
        const fr_index n = p->n - i < part ? p->n - i : part;
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
    const fr_index step = p->descending ? -1 : 1, w_step = step * term->w_row;
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
    for (fr_index i = 0, at = 0; i < n; i++, at += step, w += w_step) {
        UNROLL
        for (int q = 0; q < xs; q++) xi[q] = v_set1(x[q][at]);
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

/* Functions of their own, so that the compiler gives each the registers it needs. */
#define STRIP(XS, N)                                                                               \
    static __attribute__((noinline)) void FN(thin_strip_##XS##_##N)(                               \
        const fr_thin *p, fr_index last, fr_index row, fr_index j, fr_index first, fr_index n) {   \
        if (last == V_WIDTH)                                                                       \
            FN(thin_strip)(XS, N, V_WIDTH, p, row, j, first, n);                                   \
        else                                                                                       \
            FN(thin_strip)(XS, N, last, p, row, j, first, n);                                      \
    }
/* clang-format off */
#define FEW_STRIPS(XS) STRIP(XS, 1) STRIP(XS, 2) STRIP(XS, 3) STRIP(XS, 4)
#define MANY_STRIPS(XS) FEW_STRIPS(XS) STRIP(XS, 5) STRIP(XS, 6) STRIP(XS, 7) STRIP(XS, 8)
#define MOST_STRIPS(XS) MANY_STRIPS(XS) STRIP(XS, 9) STRIP(XS, 10) STRIP(XS, 11) STRIP(XS, 12) \
    STRIP(XS, 13) STRIP(XS, 14) STRIP(XS, 15) STRIP(XS, 16)
#if ROW_VECTORS > 8
#define STRIPS MOST_STRIPS(1) MANY_STRIPS(2) FEW_STRIPS(3) FEW_STRIPS(4)
#else
#define STRIPS MANY_STRIPS(1) FEW_STRIPS(2) FEW_STRIPS(3)
#endif
STRIPS
/* clang-format on */
#undef STRIP

/* Strips have as many vectors as hide the latency of the FMA. All rows of x are multiplied by DEEP
 * rows of a strip of W while these are in the cache (Zen 5, 512 columns by 2048, 24 rows: 360 to
 * 262 us). */
static void FN(thin_transposed)(const fr_thin *p) {
    enum { FEW = 4, MANY = 8, DEEP = 128 };
    const fr_index k = p->term[0].k;
    const fr_index all = (k + V_WIDTH - 1) / V_WIDTH;
    const fr_index most = p->rows == 1 ? ROW_VECTORS : p->rows == 2 && THIN_ROWS > 3 ? MANY : FEW;
    const fr_index strips = all <= most ? all > 0 : (all + most - 1) / most;
    const fr_index wide = strips <= 1 ? k : (all + strips - 1) / strips * V_WIDTH;
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
    case 32 * XS + N:                                                                              \
        FN(thin_strip_##XS##_##N)(&part, last, row, j, first, n);                                  \
        break;
                switch (32 * (int)xs + vectors) { STRIPS }
#undef STRIP
            }
        }
        part.add = p->y;
        part.add_row = p->y_row;
    }
}
#undef STRIPS
#undef MOST_STRIPS
#undef MANY_STRIPS
#undef FEW_STRIPS
#undef ROW_VECTORS
