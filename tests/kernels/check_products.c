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

static void set_addend(fr_product *p, int addend, matrix c, matrix bias) {
    p->add = addend == NOTHING ? NULL : addend == C_ITSELF ? c.data : bias.data;
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

/* `multiply` is `product` with the weights packed on the way. */
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
    set_addend(&p, addend, c, bias);
    K->multiply(&p, transposed, workspace.data);
    expect(same_bits(c, expected, rows), "multiply (%td, %td, %td), transposed %d, addend %d", rows,
           cols, depth, transposed, addend);
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

/* The products of one row, sums of columns and transposes. */
static void check_vectors(fr_index n, fr_index k, int accumulate) {
    const matrix w = drawn(n, k, small_integer), x = drawn(1, n + k, small_integer);
    const matrix y = drawn(1, n, small_integer), z = drawn(1, k, small_integer), sums = copy(z);
    const matrix expected_y = copy(y), expected_z = copy(z), expected_sums = copy(z);
    const matrix turned = drawn(k, n, small_integer), expected_turned = copy(turned);
    const matrix transposed = new_matrix(k, n), expected_transposed = new_matrix(k, n);
    for (fr_index i = 0; i < n && !accumulate; i++) set(expected_y, 0, i, 0);
    for (fr_index j = 0; j < k && !accumulate; j++) set(expected_z, 0, j, 0);
    for (fr_index i = 0; i < n; i++)
        for (fr_index j = 0; j < k; j++) {
            add(expected_y, 0, i, at(w, i, j) * at(x, 0, j));
            add(expected_z, 0, j, at(w, i, j) * at(x, 0, i));
            add(expected_sums, 0, j, at(w, i, j));
            add(expected_turned, j, i, at(w, i, j));
            set(expected_transposed, j, i, at(w, i, j));
        }
    fr_matvec p = {.n = n,
                   .terms = 1,
                   .term = {{w.data, x.data, w.row, k}, {w.data, x.data, w.row, k}},
                   .y = y.data,
                   .accumulate = accumulate};
    K->matvec(&p);
    K->add_transposed(n, k, w.data, w.row, turned.data, turned.row);
    K->transpose(n, k, w.data, w.row, transposed.data, transposed.row);
    K->add_column_sums(n, k, w.data, w.row, sums.data);
    expect(same_bits(y, expected_y, 1), "matvec (%td, %td), accumulate %d", n, k, accumulate);
    for (p.terms = 1; p.terms <= 2; p.terms++) {
        p.accumulate = p.descending = 1;
        K->matvec(&p);
        for (fr_index i = 0; i < n; i++)
            for (fr_index j = 0; j < p.terms * k; j++)
                add(expected_y, 0, i, at(w, i, j % k) * at(x, 0, j % k));
        expect(same_bits(y, expected_y, 1), "matvec (%td, %td) of %d terms, from the last row", n,
               k, p.terms);
    }
    p.terms = 1;
    p.y = z.data;
    p.accumulate = accumulate;
    for (p.descending = 0; p.descending <= 1; p.descending++) {
        K->matvec_transposed(&p);
        expect(same_bits(z, expected_z, 1), "matvec_transposed (%td, %td), accumulate %d", n, k,
               accumulate);
        for (fr_index j = 0; j < k && accumulate; j++)
            for (fr_index i = 0; i < n; i++) add(expected_z, 0, j, at(w, i, j) * at(x, 0, i));
    }
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
    for (fr_index n = 0; n < 18; n++)
        for (fr_index k = 0; k < 140; k++)
            for (int accumulate = 0; accumulate < 2; accumulate++) check_vectors(n, k, accumulate);
    check_vectors(9, 520, 0);
}
