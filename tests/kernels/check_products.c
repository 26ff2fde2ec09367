/* Matrix products against plain loops, on small integers, whose sums have the same bits in every
 * order. */
#include "selftest.h"

enum { MOST_ROWS = 40, SKIPPED = 2 /* packed rows before those that are multiplied */ };

static matrix pack(matrix b, fr_index cols, fr_index depth, int transposed) {
    const fr_index panels = (cols + K->tile_cols - 1) / K->tile_cols;
    const matrix packed = new_matrix(1, panels * K->tile_cols * depth);
    K->pack(cols, depth, b.data, b.row, transposed, packed.data);
    return packed;
}

/* What is added to a product. */
enum { NOTHING, C_ITSELF, A_BIAS, ADDENDS };

static fr_product product_of(matrix a, matrix packed, matrix c) {
    return (fr_product){.rows = a.rows,
                        .cols = c.cols,
                        .depth = a.cols,
                        .a = a.data,
                        .a_row = a.row,
                        .b = packed.data + SKIPPED * K->tile_cols * K->item_size,
                        .b_panel = (SKIPPED + a.cols) * K->tile_cols,
                        .c = c.data,
                        .c_row = c.row};
}

static const void *addend_data(int addend, matrix c, matrix bias) {
    return addend == NOTHING ? NULL : addend == C_ITSELF ? c.data : bias.data;
}

static void set_addend(fr_product *p, int addend, matrix c, matrix bias) {
    p->add = addend_data(addend, c, bias);
    p->add_row = addend == C_ITSELF ? c.row : 0;
}

/* What a product is expected to add to. */
static matrix addend_of(int addend, matrix c, matrix bias) {
    const matrix start = copy(c);
    for (fr_index i = 0; i < c.rows && addend != C_ITSELF; i++)
        for (fr_index j = 0; j < c.cols; j++)
            set(start, i, j, addend == A_BIAS ? at(bias, 0, j) : 0);
    return start;
}

static void check_product(fr_index cols, fr_index depth, int transposed, int addend) {
    const fr_index all = SKIPPED + depth;
    const matrix b = drawn(transposed ? cols : all, transposed ? all : cols, small_integer);
    const matrix packed = pack(b, cols, all, transposed);
    for (fr_index rows = 0; rows <= MOST_ROWS; rows++) {
        const matrix a = drawn(rows, depth, small_integer);
        const matrix c = drawn(rows, cols, small_integer);
        const matrix bias = drawn(1, cols, small_integer);
        const matrix expected = addend_of(addend, c, bias);
        for (fr_index i = 0; i < rows; i++)
            for (fr_index j = 0; j < cols; j++)
                for (fr_index k = 0, s = SKIPPED; k < depth; k++, s++)
                    add(expected, i, j, at(a, i, k) * (transposed ? at(b, j, s) : at(b, s, j)));
        fr_product p = product_of(a, packed, c);
        set_addend(&p, addend, c, bias);
        K->product(&p);
        expect(same_bits(c, expected, rows), "product (%td, %td, %td), transposed %d, addend %d",
               rows, cols, depth, transposed, addend);
        free_matrices(2);
    }
    free_matrices(0);
}

/* `multiply` is `product` with the weights packed on the way, or read where they are. */
static void check_multiply(fr_index rows, fr_index cols, fr_index depth, int transposed,
                           int addend) {
    const matrix b = drawn(transposed ? cols : depth, transposed ? depth : cols, small_integer);
    const matrix a = drawn(rows, depth, small_integer);
    const matrix bias = drawn(1, cols, small_integer), c = drawn(rows, cols, small_integer);
    const matrix expected = addend_of(addend, c, bias);
    const matrix workspace = new_matrix(1, FR_WORKSPACE / (fr_index)K->item_size);
    for (fr_index i = 0; i < rows; i++)
        for (fr_index j = 0; j < cols; j++)
            for (fr_index k = 0; k < depth; k++)
                add(expected, i, j, at(a, i, k) * (transposed ? at(b, j, k) : at(b, k, j)));
    fr_product p = {.rows = rows,
                    .cols = cols,
                    .depth = depth,
                    .a = a.data,
                    .a_row = a.row,
                    .b = b.data,
                    .b_panel = b.row,
                    .c = c.data,
                    .c_row = c.row};
    for (int packs = 0; packs < 2; packs++) {
        const matrix result = copy(c);
        p.c = result.data;
        p.c_row = result.row;
        set_addend(&p, addend, result, bias);
        K->multiply(&p, transposed, packs ? workspace.data : NULL);
        expect(same_bits(result, expected, rows),
               "multiply (%td, %td, %td), transposed %d, addend %d, packs %d", rows, cols, depth,
               transposed, addend, packs);
    }
    free_matrices(0);
}

/* A row's bits do not depend on how many rows are beside it. */
static void check_rows_alone(fr_index cols, fr_index depth) {
    const matrix a = drawn(MOST_ROWS, depth, real_number);
    const matrix b = drawn(SKIPPED + depth, cols, real_number);
    const matrix most = new_matrix(MOST_ROWS, cols), few = new_matrix(MOST_ROWS, cols);
    fr_product p = product_of(a, pack(b, cols, b.rows, 0), most);
    K->product(&p);
    p.c = few.data;
    for (p.rows = 1; p.rows < MOST_ROWS; p.rows++) {
        K->product(&p);
        expect(same_bits(few, most, p.rows), "a row's bits depend on there being %td", p.rows);
    }
    free_matrices(0);
}

/* Thin products, of one term or two and with all that may be added, from either end. */
static void check_thin(fr_index rows, fr_index n, fr_index k) {
    const matrix w = drawn(n, k, small_integer), x = drawn(rows, k, small_integer);
    const matrix back = drawn(rows, n, small_integer);
    for (int variant = 0; variant < 4 * ADDENDS; variant++) {
        const int addend = variant >> 2, descending = variant >> 1 & 1, terms = 1 + (variant & 1);
        const fr_index first_k = terms == 1 || descending ? k : k / 3;
        const matrix bias = drawn(1, n + k, small_integer);
        const matrix y = drawn(rows, n, small_integer), z = drawn(rows, k, small_integer);
        const matrix expected_y = addend_of(addend, y, bias),
                     expected_z = addend_of(addend, z, bias);
        for (fr_index row = 0; row < rows; row++)
            for (fr_index i = 0; i < n; i++)
                for (fr_index j = 0; j < k; j++) {
                    const int times = terms == 2 && j < first_k ? 2 : 1;
                    add(expected_y, row, i, times * at(w, i, j) * at(x, row, j));
                    add(expected_z, row, j, at(w, i, j) * at(back, row, i));
                }
        const fr_term term = {.w = w.data, .w_row = w.row, .x = x.data, .x_row = x.row, .k = k};
        fr_term first = term;
        first.k = first_k;
        fr_thin p = {.rows = rows,
                     .n = n,
                     .whole = n,
                     .terms = terms,
                     .term = {first, term},
                     .add = addend_data(addend, y, bias),
                     .add_row = addend == C_ITSELF ? y.row : 0,
                     .y = y.data,
                     .y_row = y.row,
                     .descending = descending};
        K->thin(&p);
        expect(same_bits(y, expected_y, rows), "thin (%td, %td, %td), variant %d", rows, n, k,
               variant);
        p.terms = 1;
        p.term[0].k = k;
        p.term[0].x = back.data;
        p.term[0].x_row = back.row;
        p.add = addend_data(addend, z, bias);
        p.add_row = addend == C_ITSELF ? z.row : 0;
        p.y = z.data;
        p.y_row = z.row;
        K->thin_transposed(&p);
        expect(same_bits(z, expected_z, rows), "thin_transposed (%td, %td, %td), variant %d", rows,
               n, k, variant);
    }
    free_matrices(0);
}

/* A row's bits in thin products do not depend on how many rows are beside it. (One alone has
 * others by a W that L1 does not hold, of long rows or in two terms.) */
static void check_thin_rows_alone(fr_index n, fr_index k) {
    const matrix w = drawn(n, k, real_number), x = drawn(MOST_ROWS, n + k, real_number);
    const matrix most = new_matrix(MOST_ROWS, n + k), few = new_matrix(MOST_ROWS, n + k);
    fr_thin p = {.n = n,
                 .whole = n,
                 .terms = 1,
                 .term = {{.w = w.data, .w_row = w.row, .x = x.data, .x_row = x.row, .k = k}},
                 .y_row = most.row};
    for (fr_index rows = MOST_ROWS; rows > 0; rows--) {
        p.rows = rows;
        p.y = rows == MOST_ROWS ? most.data : few.data;
        K->thin(&p);
        p.y = (char *)p.y + n * K->item_size;
        K->thin_transposed(&p);
        if (rows < MOST_ROWS)
            expect(same_bits(few, most, rows), "a thin row's bits depend on there being %td", rows);
    }
    free_matrices(0);
}

/* Sums of columns and transposes. */
static void check_columns(fr_index n, fr_index k) {
    const matrix w = drawn(n, k, small_integer), sums = drawn(1, k, small_integer);
    const matrix expected_sums = copy(sums);
    const matrix turned = drawn(k, n, small_integer), expected_turned = copy(turned);
    const matrix transposed = new_matrix(k, n), expected_transposed = new_matrix(k, n);
    for (fr_index i = 0; i < n; i++)
        for (fr_index j = 0; j < k; j++) {
            add(expected_sums, 0, j, at(w, i, j));
            add(expected_turned, j, i, at(w, i, j));
            set(expected_transposed, j, i, at(w, i, j));
        }
    K->add_transposed(n, k, w.data, w.row, turned.data, turned.row);
    K->transpose(n, k, w.data, w.row, transposed.data, transposed.row);
    K->add_column_sums(n, k, w.data, w.row, sums.data);
    expect(same_bits(turned, expected_turned, k), "add_transposed (%td, %td)", n, k);
    expect(same_bits(transposed, expected_transposed, k), "transpose (%td, %td)", n, k);
    expect(same_bits(sums, expected_sums, 1), "add_column_sums (%td, %td)", n, k);
    free_matrices(0);
}

/* c += a^T b, also where the columns of b are more than a workspace holds. */
static void check_outer_products(fr_index n, fr_index rows, fr_index cols) {
    const matrix a = drawn(n, rows, small_integer), b = drawn(n, cols, small_integer);
    const matrix c = drawn(rows, cols, small_integer), expected = copy(c);
    const matrix workspace = new_matrix(1, FR_WORKSPACE / (fr_index)K->item_size);
    for (fr_index k = 0; k < n; k++)
        for (fr_index i = 0; i < rows; i++)
            for (fr_index j = 0; j < cols; j++) add(expected, i, j, at(a, k, i) * at(b, k, j));
    K->add_outer_products(n, rows, cols, a.data, a.row, b.data, b.row, c.data, c.row,
                          workspace.data);
    expect(same_bits(c, expected, rows), "add_outer_products (%td, %td, %td)", n, rows, cols);
    free_matrices(0);
}

void check_products(void) {
    const fr_index tile = K->tile_cols;
    const struct {
        fr_index cols, depth;
    } sizes[] = {{1, 1},
                 {5, 0},
                 {tile - 1, 9},
                 {2 * tile, 16},
                 {4 * tile + 1, 7},
                 {2 * tile + 3, 259}}; /* over a block's depth */
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int variant = 0; variant < 2 * ADDENDS; variant++)
            check_product(sizes[s].cols, sizes[s].depth, variant & 1, variant >> 1);
    check_rows_alone(4 * tile + 3, 300);
    for (int variant = 0; variant < 2 * ADDENDS; variant++) {
        const int transposed = variant & 1, addend = variant >> 1;
        check_multiply(3, 7, 0, transposed, addend);
        check_multiply(100, tile + 3, 17, transposed, addend);
        const fr_index size = FR_WORKSPACE / (fr_index)K->item_size;
        check_multiply(2, 5 * tile + 1, size / (4 * tile) + 1, transposed, addend);
    }
    for (fr_index rows = 1; rows <= 27; rows++) check_outer_products(3, rows, tile + 1);
    check_outer_products(0, 5, 7);
    check_outer_products(259, 13, 2 * tile - 1);
    check_outer_products(5, 3, FR_WORKSPACE / (fr_index)K->item_size / 256 + 2 * tile + 1);
    const fr_index ns[] = {0, 1, 3, 4, 5, 7, 8, 9, 12, 17};
    const fr_index ks[] = {0,  1,  2,  3,  4,  5,  7,  8,   9,   15,  16, 17,
                           31, 32, 33, 47, 63, 64, 65, 100, 127, 128, 129};
    for (fr_index rows = 0; rows < 10; rows++)
        for (size_t n = 0; n < sizeof ns / sizeof *ns; n++)
            for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) check_thin(rows, ns[n], ks[k]);
    check_thin(6, 300, 70); /* more than a part of W */
    for (fr_index k = 8; k < 300; k += 8) {
        const fr_index n = 65536 / K->item_size / k + 5; /* more than L1 keeps */
        check_thin(1, n, k - 3);
        check_thin(1, n, k);
    }
    check_thin(1, 65537, 1);
    check_thin(1, 77, 700); /* more than registers keep */
    check_thin_rows_alone(300, 70);
    check_thin_rows_alone(10, 700);
    for (fr_index n = 0; n < 18; n++)
        for (fr_index k = 0; k < 140; k++) check_columns(n, k);
}
