/* What the checks share: the table under test, and matrices of its element type. */
#ifndef SELFTEST_H
#define SELFTEST_H

#include "fastrnn_kernels.h"

extern const fr_kernels *K; /* under test; NULL for what has no table */
extern int failures;

/* Counts and prints a failure, unless `holds`. */
void expect(int holds, const char *what, ...);

/* A matrix with one element between its rows. That element and what is not yet written are NaN of
 * all bits set: to read one spoils a result, to write one is seen. Behind the last row stands a
 * page that may not be touched: to read it, even if nothing comes of what is read, or to write it
 * is a segmentation fault. */
typedef struct {
    fr_index rows, cols, row;
    char *data;
} matrix;

matrix new_matrix(fr_index rows, fr_index cols);
matrix drawn(fr_index rows, fr_index cols, double (*draw)(void));
matrix copy(matrix m);
/* Frees all but the first `kept` of the matrices there are. */
void free_matrices(int kept);

double at(matrix m, fr_index i, fr_index j);
void set(matrix m, fr_index i, fr_index j, double v);
void add(matrix m, fr_index i, fr_index j, double v);
/* Whether the first rows of two matrices have the same bits, those between the rows included. */
int same_bits(matrix a, matrix b, fr_index rows);
int gaps_untouched(matrix m);

double uniform(double low, double high);
double real_number(void); /* -2 to 2, exact in float32 */
double small_integer(void);

/* The larger of `worst` and the error of `got`, relative to a number of 1 or more. */
void grow(double *worst, double got, double exact);

/* Each check raises `worst` to the worst error of what it names. */
void check_threads(void);
void check_products(void);
void check_functions(double worst_ulp[3]); /* exp, tanh, sigmoid */
void check_cells(double worst[2]);         /* forward, adjoint */
void check_training(double *worst);

#endif
