/* Matrix products for recurrent weights, and for their gradients.
 *
 * The weights are packed once a call and used at every time step, so a step runs at the speed of
 * the register tile: TILE_ROWS rows of a, read in place and broadcast, by TILE_VECTORS vectors of a
 * packed panel of b. Sums run over the depth in order, whatever the tile: a row's bits do not
 * depend on the rows beside it.
 */
#define TILE_COLS (TILE_VECTORS * V_WIDTH)

/* Depth of b that is multiplied before the next panel, so that a panel's part stays in L1 while all
 * rows are multiplied by it: 256 * TILE_COLS * sizeof(real) = 16 KiB on AVX2. */
enum { FN(depth_block) = 256 };

/* Bring the line of an element into L2; one past the end of an array does no harm. */
INLINE void FN(fetch_soon)(const real *p, fr_index i) {
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)i * sizeof(real)), 0, 2);
}

/* to (4, 4) = the transpose of from (4, 4). */
INLINE void FN(transpose4)(const real *from, fr_index from_row, real *to, fr_index to_row) {
#ifdef FR_SHUFFLE
    typedef real V4 __attribute__((vector_size(4 * sizeof(real))));
    V4 row[4];
    UNROLL
    for (int i = 0; i < 4; i++) memcpy(&row[i], from + i * from_row, sizeof(V4));
    const V4 ab_low = FR_SHUFFLE(row[0], row[1], 0, 4, 1, 5);
    const V4 ab_high = FR_SHUFFLE(row[0], row[1], 2, 6, 3, 7);
    const V4 cd_low = FR_SHUFFLE(row[2], row[3], 0, 4, 1, 5);
    const V4 cd_high = FR_SHUFFLE(row[2], row[3], 2, 6, 3, 7);
    row[0] = FR_SHUFFLE(ab_low, cd_low, 0, 1, 4, 5);
    row[1] = FR_SHUFFLE(ab_low, cd_low, 2, 3, 6, 7);
    row[2] = FR_SHUFFLE(ab_high, cd_high, 0, 1, 4, 5);
    row[3] = FR_SHUFFLE(ab_high, cd_high, 2, 3, 6, 7);
    UNROLL
    for (int i = 0; i < 4; i++) memcpy(to + i * to_row, &row[i], sizeof(V4));
#else
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) to[j * to_row + i] = from[i * from_row + j];
#endif
}

/* to (depth, n) = the transpose of b (n, depth), n <= TILE_COLS; the rows after these come next.
 * Rows of b are read in short runs, so that what is written stays in L1. The hardware does not
 * prefetch from run to run, so each run fetches the same columns of the next panel (16 to 24 GB/s
 * from memory). */
static void FN(transpose_panel)(fr_index n, fr_index depth, const real *b, fr_index b_row, real *to,
                                fr_index to_row) {
    enum { RUN = 16 };
    for (fr_index first = 0; first < depth; first += RUN) {
        const fr_index end = depth - first < RUN ? depth : first + RUN;
        for (fr_index c = 0; c < n;) {
            const int side = n - c < 4 ? 1 : 4;
            fr_index k = first;
            for (int i = 0; i < side; i++) FN(fetch_soon)(b, (c + i + TILE_COLS) * b_row + first);
            for (; side == 4 && k + 4 <= end; k += 4)
                FN(transpose4)(b + c * b_row + k, b_row, to + k * to_row + c, to_row);
            for (; k < end; k++)
                for (int i = 0; i < side; i++) to[k * to_row + c + i] = b[(c + i) * b_row + k];
            c += side;
        }
    }
}

static void FN(transpose)(fr_index rows, fr_index cols, const void *x_, fr_index x_row, void *y_,
                          fr_index y_row) {
    const real *x = x_;
    real *y = y_;
    for (fr_index row = 0; row < rows; row += TILE_COLS)
        FN(transpose_panel)(rows - row < TILE_COLS ? rows - row : TILE_COLS, cols, x + row * x_row,
                            x_row, y + row, y_row);
}

static void FN(pack)(fr_index cols, fr_index depth, const void *b_, fr_index b_row, int transposed,
                     void *packed_) {
    const real *b = b_;
    real *panel = packed_;
    for (fr_index first = 0; first < cols; first += TILE_COLS, panel += depth * TILE_COLS) {
        const fr_index n = cols - first < TILE_COLS ? cols - first : TILE_COLS;
        if (n < TILE_COLS) memset(panel, 0, (size_t)(depth * TILE_COLS) * sizeof(real));
        if (transposed) {
            FN(transpose_panel)(n, depth, b + first * b_row, b_row, panel, TILE_COLS);
            continue;
        }
        for (fr_index k = 0; k < depth; k++) {
            const real *from = b + k * b_row + first;
            real *to = panel + k * TILE_COLS;
            for (int i = 0; i < TILE_COLS; i += 64 / (int)sizeof(real))
                FN(fetch_soon)(from, TILE_COLS + i);
            if (n < TILE_COLS) {
                memcpy(to, from, (size_t)n * sizeof(real));
                continue;
            }
            UNROLL
            for (int v = 0; v < TILE_VECTORS; v++)
                v_store(to + v * V_WIDTH, v_load(from + v * V_WIDTH));
        }
    }
}

/* The register tile: c (m, vectors * V_WIDTH) = a (m, depth) b + add, with a's elements a_row
 * and a_step apart. m, vectors and one of the strides, 1, are constants where it is called, so
 * that the accumulators are registers and rows are addressed without arithmetic. `cols` says how
 * many columns are real. */
INLINE void FN(tile)(const int m, const int vectors, fr_index cols, fr_index depth, const real *a,
                     fr_index a_row, fr_index a_step, const real *b, fr_index b_panel,
                     const real *add, fr_index add_row, real *c, fr_index c_row) {
    V sum[TILE_ROWS][TILE_VECTORS * 4];
    UNROLL
    for (int i = 0; i < m; i++) {
        UNROLL
        for (int j = 0; j < vectors; j++) sum[i][j] = v_set1(0);
    }

    /* c is prefetched for writing (Zen 4, 400 by 10000 by 200: 100 to 106 GFLOP/s). */
    if (add != c) {
        UNROLL
        for (int i = 0; i < m; i++) {
            UNROLL
            for (int j = 0; j < vectors; j++) __builtin_prefetch(c + i * c_row + j * V_WIDTH, 1);
        }
    }

    for (fr_index k = 0; k < depth; k++) {
        /* Keeps GCC 11 and 12 from vectors of two steps, which would read past the last one. */
        if (V_WIDTH == 1 && m == 2) __asm__ volatile("");
        V bk[TILE_VECTORS * 4];
        UNROLL
        for (int j = 0; j < vectors; j++) {
            bk[j] = v_load(b + (j / TILE_VECTORS) * b_panel + k * TILE_COLS +
                           (j % TILE_VECTORS) * V_WIDTH);
            /* Stays in a register for all rows (Zen 5, 3 rows by 4 vectors: 164 to 240 GFLOP/s). */
            if (m > 1 && (m + 1) * vectors < V_REGISTERS) v_keep(bk[j]);
        }
        UNROLL
        for (int i = 0; i < m; i++) {
            const V ak = v_set1(a[i * a_row + k * a_step]);
            UNROLL
            for (int j = 0; j < vectors; j++) sum[i][j] = v_fma(ak, bk[j], sum[i][j]);
        }
    }

    UNROLL
    for (int i = 0; i < m; i++) {
        UNROLL
        for (int j = 0; j < vectors; j++) {
            real *to = c + i * c_row + j * V_WIDTH;
            const real *more = add ? add + i * add_row + j * V_WIDTH : NULL;
            const fr_index n = cols - j * V_WIDTH;
            if (n >= V_WIDTH)
                FN(store_sum)(to, sum[i][j], more, V_WIDTH);
            else if (n > 0)
                FN(store_sum)(to, sum[i][j], more, n);
        }
    }
}

/* A tile of any size, at most TILE_ROWS high; a_row or a_step is 1. Fewer rows leave accumulators
 * free: they take more panels, to hide the latency of the FMA. */
static void FN(tile_of)(int m, int vectors, fr_index cols, fr_index depth, const real *a,
                        fr_index a_row, fr_index a_step, const real *b, fr_index b_panel,
                        const real *add, fr_index add_row, real *c, fr_index c_row) {
#define TILE(M, VECTORS)                                                                           \
    case 16 * M + VECTORS:                                                                         \
        if (a_step == 1)                                                                           \
            FN(tile)(M, VECTORS, cols, depth, a, a_row, 1, b, b_panel, add, add_row, c, c_row);    \
        else                                                                                       \
            FN(tile)(M, VECTORS, cols, depth, a, 1, a_step, b, b_panel, add, add_row, c, c_row);   \
        break;
#define TILES(M) TILE(M, 1) TILE(M, TILE_VECTORS)
    /* clang-format off */
    switch (16 * m + vectors) {
        TILES(1) TILES(2) TILES(3) TILES(4)
        TILE(1, 4 * TILE_VECTORS) TILE(2, 2 * TILE_VECTORS) TILE(3, 2 * TILE_VECTORS)
#if TILE_ROWS > 4
        TILES(5) TILES(6)
#endif
#if TILE_ROWS > 6
        TILE(4, 2 * TILE_VECTORS) TILE(5, 2 * TILE_VECTORS) TILE(6, 2 * TILE_VECTORS)
        TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12)
#endif
    }
    /* clang-format on */
#undef TILES
#undef TILE
}

/* Vectors of a tile that begins where `cols` columns are left. */
INLINE int FN(vectors_of)(fr_index cols, int wide) {
    if (cols >= wide * TILE_COLS) return wide * TILE_VECTORS;
    return cols <= V_WIDTH ? 1 : TILE_VECTORS;
}

static void FN(product)(const fr_product *p) {
    const real *a = p->a, *b = p->b, *add = p->add;
    fr_index add_row = p->add_row;
    real *c = p->c;
    if (p->rows <= 0) return;
    /* Rows are dealt evenly: 25 rows are 5 tiles of 5, not 4 of 6 and a slow one of 1. */
    const fr_index tiles = (p->rows + TILE_ROWS - 1) / TILE_ROWS;
    const fr_index most = (p->rows + tiles - 1) / tiles;
    int wide = 1; /* panels a tile */
    if (most == 1)
        wide = 4;
    else if (most <= TILE_ROWS / 2)
        wide = 2;
    for (fr_index k = 0; k < p->depth; k += FN(depth_block)) {
        const fr_index left = p->depth - k;
        const fr_index depth = left < FN(depth_block) ? left : FN(depth_block);
        for (fr_index col = 0; col < p->cols;) {
            const int vectors = FN(vectors_of)(p->cols - col, wide);
            const real *bk = b + col / TILE_COLS * p->b_panel + k * TILE_COLS;
            for (fr_index tile = 0, row = 0; tile < tiles; tile++) {
                const fr_index m = p->rows / tiles + (tile < p->rows % tiles);
                FN(tile_of)((int)m, vectors, p->cols - col, depth, a + row * p->a_row + k, p->a_row,
                            1, bk, p->b_panel, add ? add + row * add_row + col : NULL, add_row,
                            c + row * p->c_row + col, p->c_row);
                row += m;
            }
            col += vectors * V_WIDTH;
        }
        add = c;
        add_row = p->c_row;
    }
    if (p->depth == 0)
        for (fr_index row = 0; row < p->rows; row++)
            for (fr_index col = 0; col < p->cols; col++)
                c[row * p->c_row + col] = add ? add[row * add_row + col] : 0;
}

/* The product with a b that is read where it is. */
static void FN(multiply_unpacked)(const fr_product *p, int transposed) {
    const fr_index n = transposed ? p->cols : p->depth;
    const fr_thin thin = {.rows = p->rows,
                          .n = n,
                          .whole = n,
                          .terms = 1,
                          .term = {{.w = p->b,
                                    .w_row = p->b_panel,
                                    .x = p->a,
                                    .x_row = p->a_row,
                                    .k = transposed ? p->depth : p->cols}},
                          .add = p->add,
                          .add_row = p->add_row,
                          .y = p->c,
                          .y_row = p->c_row};
    if (transposed)
        FN(thin)(&thin);
    else
        FN(thin_transposed)(&thin);
}

/* The product with a b that is used once: it is packed block by block. All rows of a are multiplied
 * by a block before the next one is packed, in parts that stay in L2 beside it. */
static void FN(multiply)(const fr_product *p, int transposed, void *workspace) {
    enum { ROWS = 96, SIZE = FR_WORKSPACE / sizeof(real), MOST_DEPTH = SIZE / (4 * TILE_COLS) };
    const fr_index depth = p->depth < MOST_DEPTH ? p->depth : MOST_DEPTH;
    const fr_index cols = depth ? SIZE / depth / TILE_COLS * TILE_COLS : SIZE;
    fr_product part = *p;
    if (!workspace) {
        FN(multiply_unpacked)(p, transposed);
        return;
    }
    part.b = workspace;
    for (fr_index k = 0; k < p->depth || k == 0; k += depth) {
        part.depth = p->depth - k < depth ? p->depth - k : depth;
        part.b_panel = part.depth * TILE_COLS;
        for (fr_index col = 0; col < p->cols; col += cols) {
            const real *b = p->b;
            b += transposed ? col * p->b_panel + k : k * p->b_panel + col;
            part.cols = p->cols - col < cols ? p->cols - col : cols;
            FN(pack)(part.cols, part.depth, b, p->b_panel, transposed, workspace);
            for (fr_index row = 0; row < p->rows; row += ROWS) {
                part.rows = p->rows - row < ROWS ? p->rows - row : ROWS;
                part.a = (const real *)p->a + row * p->a_row + k;
                part.c = (real *)p->c + row * p->c_row + col;
                if (k > 0)
                    part.add = part.c;
                else if (p->add)
                    part.add = (const real *)p->add + row * p->add_row + col;
                FN(product)(&part);
            }
        }
        if (depth == 0) break;
        part.add_row = p->c_row;
    }
}

/* The gradient of a weight: c (rows, cols) += a^T b for a (n, rows) and b (n, cols), n long.
 *
 * A block of b is packed and stays in L2. The columns of a that a tile takes are neighbours in
 * each row, so a is read in place: a step of the tile needs one cache line of it. On a Zen 4, at
 * n = 2500, 256 by 128, that is 108 GFLOP/s where OpenBLAS, which packs a as well, has 81. */
static void FN(add_outer_products)(fr_index n, fr_index rows, fr_index cols, const void *a_,
                                   fr_index a_row, const void *b_, fr_index b_row, void *c_,
                                   fr_index c_row, void *workspace) {
    enum {
        DEPTH = 2 * FN(depth_block),
        MOST_COLS = FR_WORKSPACE / sizeof(real) / DEPTH / TILE_COLS * TILE_COLS
    };
    const real *a = a_, *b = b_;
    real *c = c_, *packed = workspace;
    const fr_index tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (fr_index k = 0; k < n; k += DEPTH) {
        const fr_index depth = n - k < DEPTH ? n - k : DEPTH;
        for (fr_index first = 0; first < cols; first += MOST_COLS) {
            const fr_index end = cols - first < MOST_COLS ? cols : first + MOST_COLS;
            FN(pack)(end - first, depth, b + k * b_row + first, b_row, 0, packed);
            for (fr_index tile = 0, row = 0; tile < tiles; tile++) {
                const fr_index m = rows / tiles + (tile < rows % tiles);
                for (fr_index col = first; col < end; col += TILE_COLS) {
                    real *to = c + row * c_row + col;
                    FN(tile_of)((int)m, FN(vectors_of)(end - col, 1), end - col, depth,
                                a + k * a_row + row, 1, a_row, packed + (col - first) * depth, 0,
                                to, c_row, to, c_row);
                }
                row += m;
            }
        }
    }
}

/* y (cols, rows) += the transpose of x (rows, cols). */
static void FN(add_transposed)(fr_index rows, fr_index cols, const void *x_, fr_index x_row,
                               void *y_, fr_index y_row) {
    const real *x = x_;
    real *y = y_;
    enum { BLOCK = 16 };
    for (fr_index first = 0; first < cols; first += BLOCK) {
        const fr_index last = first + BLOCK < cols ? first + BLOCK : cols;
        for (fr_index row = 0; row < rows; row++)
            for (fr_index col = first; col < last; col++)
                y[col * y_row + row] += x[row * x_row + col];
    }
}

/* y (n) = x (n), or y += x. */
INLINE void FN(put_row)(fr_index n, const real *x, real *y, int add) {
    fr_index i = 0;
    for (; i + V_WIDTH <= n; i += V_WIDTH) FN(store_or_add)(y + i, v_load(x + i), V_WIDTH, add);
    if (i < n) FN(store_or_add)(y + i, v_load_n(x + i, n - i), n - i, add);
}

/* y (cols) += the sums over the rows of x (rows, cols). Sums of blocks are added, as in a weight's
 * gradient: float32 would round a sum of a million terms that is made one by one to 1 %. */
static void FN(add_column_sums)(fr_index rows, fr_index cols, const void *x_, fr_index x_row,
                                void *y_) {
    enum { ROWS = 512, COLS = 1024 };
    real sums[COLS];
    for (fr_index first = 0; first < cols; first += COLS) {
        const fr_index n = cols - first < COLS ? cols - first : COLS;
        const real *x = (const real *)x_ + first;
        real *y = (real *)y_ + first;
        for (fr_index row = 0; row < rows;) {
            const fr_index end = rows - row < ROWS ? rows : row + ROWS;
            if (end - row == 1) {
                FN(put_row)(n, x + row * x_row, y, 1);
                break;
            }
            FN(put_row)(n, x + row * x_row, sums, 0);
            for (row++; row < end; row++) FN(put_row)(n, x + row * x_row, sums, 1);
            FN(put_row)(n, sums, y, 1);
        }
    }
}
