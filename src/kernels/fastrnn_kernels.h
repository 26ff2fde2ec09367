/* The C kernels of fastrnn: the only header that Cython sees.
 *
 * Every kernel exists for float32 and float64 and for each instruction set, from one text; a
 * fr_kernels table holds one such set. Kernels take untyped pointers whose element type is the
 * table's. All strides are in elements, all matrices row-major with unit column stride. Kernels do
 * not allocate, do no I/O and keep no state.
 */
#ifndef FASTRNN_KERNELS_H
#define FASTRNN_KERNELS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if UINTPTR_MAX < UINT64_MAX || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fastrnn is compiled for 64-bit little-endian machines; set FASTRNN_NO_EXTENSION=1 elsewhere"
#endif

typedef ptrdiff_t fr_index;

enum {
    FR_MAX_STATES = 2,
    FR_MAX_GATES = 4,
    FR_MAX_SLOTS = 13,
    FR_MAX_STAGES = 2,
    FR_MAX_VECTORS = 6
};

/* ---- the pointwise part of a cell ------------------------------------------------------- */

/* What one pointwise call sees: `rows` sequences by `units` neighbouring hidden units of one time
 * step, every pointer at the first of them.
 *
 *   gates  (rows, slots, units)  forward: pre-activations without bias in, activations out
 *                                adjoint: activations in, gradients of the pre-activations out
 *   bias   (slots, units)        added to the pre-activations; NULL for none
 *   state  (rows, units) each    the state before the step (h, then c)
 *   next   (rows, units) each    the state after it
 *   out    (rows, units)         h once more, where the caller wants it; NULL for none
 *   extra  (rows, units)         operand of the next stage (r*h, or the h before a projection)
 *   vector (blocks, units) each  the cell's own parameters, such as peepholes
 * adjoint only:
 *   d_out   (rows, units)        gradient of `out`, or NULL for zero
 *   d_state (rows, units) each   in: gradient of `next`; out: the part of the gradient of `state`
 *                                that does not pass through a recurrent product
 *   d_extra (rows, units)        gradient of `extra`
 *   d_vector (blocks, units) each  gradients of `vector`, which are added into
 */
typedef struct {
    fr_index rows, units;
    void *gates;
    fr_index gates_row, gates_slot;
    const void *bias;
    fr_index bias_slot;
    const void *state[FR_MAX_STATES];
    fr_index state_row[FR_MAX_STATES];
    void *next[FR_MAX_STATES];
    fr_index next_row[FR_MAX_STATES];
    void *out;
    fr_index out_row;
    void *extra;
    fr_index extra_row;
    const void *d_out;
    fr_index d_out_row;
    void *d_state[FR_MAX_STATES];
    fr_index d_state_row[FR_MAX_STATES];
    void *d_extra;
    fr_index d_extra_row;
    const void *vector[FR_MAX_VECTORS];
    void *d_vector[FR_MAX_VECTORS];
    fr_index vector_slot;
    double cell_clip; /* the largest |c'|, infinite for no bound */
    int keep;         /* forward: write the activations back for the adjoint */
} fr_frame;

typedef void (*fr_pointwise)(const fr_frame *frame);

/* A stage of a step: a product of `operand` with blocks of rows of a weight, then a pointwise
 * function. Gate g of the stage is block first_gate + g of the weight and lands in slot[g]. */
typedef struct {
    enum { FR_OPERAND_H, FR_OPERAND_EXTRA } operand;
    enum { FR_WEIGHT_HH, FR_WEIGHT_HR } weight;
    int first_gate, gates;
    int slot[FR_MAX_GATES];
    fr_pointwise forward, adjoint;
} fr_stage;

/* A parameter of a cell that is not a matrix: (blocks * units,), by its name among the weights. */
typedef struct {
    const char *name;
    int blocks;
} fr_vector;

/* A cell. The input product fills slots 0 .. gates-1 in the order of the weight's blocks; a
 * recurrent product that lands in one of them is added, in a further slot it stands alone. */
typedef struct {
    const char *name;
    int states, gates, slots, stages;
    int d_state_direct; /* the adjoint leaves a direct part in d_state[0]: products add to it */
    int whole_rows;     /* the pointwise functions want all units of a row at once */
    fr_stage stage[FR_MAX_STAGES];
    fr_vector vector[FR_MAX_VECTORS]; /* ends with a NULL name, unless it is full */
} fr_cell;

/* ---- matrix products ---------------------------------------------------------------------- */

/* c (rows, cols) = a (rows, depth) b (depth, cols) + add (rows, cols).
 * b is packed: panels of `tile_cols` columns, each (depth, tile_cols), `b_panel` elements apart,
 * the last one padded with zeros. `add` is NULL, c itself, or a bias, the same for all rows: its
 * add_row is 0. */
typedef struct {
    fr_index rows, cols, depth;
    const void *a;
    fr_index a_row;
    const void *b;
    fr_index b_panel;
    const void *add;
    fr_index add_row;
    void *c;
    fr_index c_row;
} fr_product;

/* y (rows, n) = add (rows, n) + the sum of x W^T over one or two terms, each x (rows, k) with its
 * own W (n, k), which is read where it is; `add` as above. A caller that repeats a product should
 * reverse the order of the rows of W each time (`descending`): what was read last is then still in
 * the cache. The order changes no bit of `thin`, but may change some of `thin_transposed`, which
 * sums over the rows of W. Where several calls divide the rows of W, `whole` is the number of all
 * rows, so that results do not depend on the division. */
typedef struct {
    const void *w;
    fr_index w_row;
    const void *x;
    fr_index x_row, k;
} fr_term;
typedef struct {
    fr_index rows, n, whole;
    int terms;
    fr_term term[2];
    const void *add;
    fr_index add_row;
    void *y;
    fr_index y_row;
    int descending;
} fr_thin;

/* Up to this many rows it is faster to multiply by weights (n, depth) that are not packed. To pack
 * them takes as long as 20 rows; after that a product over a depth of 64 takes half the time, over
 * 256 and more five sixths. With more than 128 rows, runs of many short steps would lose more than
 * runs of a few long ones gain. */
static inline fr_index fr_few_rows(fr_index depth) {
    return depth < 20 ? 4 : depth < 640 ? depth / 5 : 128;
}

enum { FR_WORKSPACE = 512 * 1024 }; /* bytes that stay in L2 */

/* ---- masks of dropout and zoneout, for the states of any cell ------------------------------- */

/* y (rows, cols) = x * mask, or += with `accumulate`; y may be x. */
typedef struct {
    fr_index rows, cols;
    const void *x, *mask;
    void *y;
    fr_index x_row, mask_row, y_row;
    int accumulate;
} fr_masked;

/* Zoneout of a state, all (rows, cols): next = mask * state + (1 - mask) * next, and `out` the
 * same where it is not NULL. The adjoint takes d_out or NULL in `out` and the gradient d of the
 * result in `next`: state = mask * (d + d_out), next = (1 - mask) * (d + d_out). */
typedef struct {
    fr_index rows, cols;
    const void *mask;
    void *state, *next, *out;
    fr_index mask_row, state_row, next_row, out_row;
} fr_zoneout;

/* ---- optimisers ----------------------------------------------------------------------------- */

/* A step of SGD on buffers (n,): values and, where there is one, momentum_buffer in place. */
typedef struct {
    void *values;
    const void *gradients;
    void *momentum_buffer; /* or NULL */
    double learning_rate, momentum;
    double weight_decay; /* of the gradient: g + weight_decay * value */
    int nesterov;
} fr_sgd;

/* A step of Adam on buffers (n,): values, exp_avg and exp_avg_sq in place. */
typedef struct {
    void *values;
    const void *gradients;
    void *exp_avg, *exp_avg_sq;
    double beta1, beta2, eps;
    double weight_decay; /* of the gradient: g + weight_decay * value */
    double shrink;       /* of the value, past the moments: AdamW's decay */
    double step;         /* learning rate / (1 - beta1^t) */
    double root_scale;   /* 1 / sqrt(1 - beta2^t) */
} fr_adam;

/* ---- one set of kernels --------------------------------------------------------------------- */

typedef void (*fr_map)(fr_index n, const void *x, void *y);

typedef struct {
    const char *isa;
    fr_index item_size; /* bytes of an element: 4 or 8 */
    fr_index tile_cols; /* columns of a packed panel */

    /* Pack b (depth, cols) for `product`; `transposed` says that the source is (cols, depth). */
    void (*pack)(fr_index cols, fr_index depth, const void *b, fr_index b_row, int transposed,
                 void *packed);
    void (*product)(const fr_product *p);
    /* The same with a b that is not packed, its rows b_panel apart; transposed: it is (cols,
     * depth). It is packed block by block into `workspace`, here and below FR_WORKSPACE bytes, or
     * read as it is where that is NULL, which is faster for few rows. */
    void (*multiply)(const fr_product *p, int transposed, void *workspace);
    /* c (rows, cols) += a^T b for a (n, rows), b (n, cols). */
    void (*add_outer_products)(fr_index n, fr_index rows, fr_index cols, const void *a,
                               fr_index a_row, const void *b, fr_index b_row, void *c,
                               fr_index c_row, void *workspace);
    /* Few rows, by weights that are not packed. */
    void (*thin)(const fr_thin *p);
    /* y (rows, k) = add (rows, k) + x W, with x (rows, n) and W (n, k) of the only term. */
    void (*thin_transposed)(const fr_thin *p);
    /* y (cols, rows) = the transpose of x (rows, cols). */
    void (*transpose)(fr_index rows, fr_index cols, const void *x, fr_index x_row, void *y,
                      fr_index y_row);
    /* The same, added to y. */
    void (*add_transposed)(fr_index rows, fr_index cols, const void *x, fr_index x_row, void *y,
                           fr_index y_row);
    /* y (cols) += sum of the rows of x (rows, cols). */
    void (*add_column_sums)(fr_index rows, fr_index cols, const void *x, fr_index x_row, void *y);

    void (*mask)(const fr_masked *m);
    void (*zoneout)(const fr_zoneout *z);
    void (*zoneout_adjoint)(const fr_zoneout *z);

    /* Elementwise functions; error bounds in ULP stand in math.inc.h. */
    fr_map exp, tanh, sigmoid;

    /* Losses (rows,) of scores x (rows, columns) for ids; d_x gets `scale` times the gradient. */
    void (*softmax_cross_entropy)(fr_index rows, fr_index columns, const void *x,
                                  const int64_t *ids, double scale, void *d_x, double *losses);
    double (*sum_of_squares)(fr_index n, const void *x);
    void (*sgd)(const fr_sgd *sgd, fr_index first, fr_index last);
    void (*adam)(const fr_adam *adam, fr_index first, fr_index last);

    const fr_cell *cells; /* ends with a NULL name */
} fr_kernels;

/* ---- choice of the instruction set ----------------------------------------------------------- */

/* Probe the CPU once and fill the table; call it before anything else, from one thread. */
void fr_initialise(void);
/* Names of the sets that this build and this CPU have, best last; NULL at the end. */
const char *const *fr_available_isas(void);
/* Make `isa` the active one; returns 0, or -1 for a name that is not available. */
int fr_use_isa(const char *isa);
/* The active kernels for elements of `item_size` bytes; NULL for other sizes than 4 and 8. */
const fr_kernels *fr_active(fr_index item_size);

/* ---- threads --------------------------------------------------------------------------------- */

/* Run task(context, i, tasks, rank) for i = 0 .. tasks-1 on up to `threads` threads, each taking
 * the next one when it is free. rank 0 is the calling thread, which works in any case. */
typedef void (*fr_task)(void *context, int i, int tasks, int rank);
void fr_for_each(int tasks, int threads, fr_task task, void *context);
/* In a task: wait until one that has begun before has raised the counter to `value`. */
void fr_wait_for(atomic_ptrdiff_t *counter, ptrdiff_t value);

/* Run work(context, rank, size, team) on up to `size` threads at once, the caller being rank 0.
 * `size` in the call says how many there are. Every member calls the barrier equally often. */
typedef struct fr_team fr_team;
typedef void (*fr_work)(void *context, int rank, int size, fr_team *team);
void fr_parallel(int size, fr_work work, void *context);
void fr_barrier(fr_team *team);

/* Flush denormals to zero in this thread; returns what fr_restore_denormals takes back. */
uint64_t fr_flush_denormals(void);
void fr_restore_denormals(uint64_t saved);

#endif
