"""The C kernels (src/kernels/fastrnn_kernels.h) as the other extensions see them."""
from libc.stdint cimport int64_t, uint64_t


# What one thread writes and others read meanwhile.
cdef extern from "<stdatomic.h>" nogil:
    ctypedef int atomic_int
    ctypedef Py_ssize_t atomic_ptrdiff_t


cdef extern from "fastrnn_kernels.h" nogil:
    enum:
        FR_MAX_STATES
        FR_MAX_GATES
        FR_MAX_STAGES
        FR_MAX_VECTORS
        FR_OPERAND_EXTRA
        FR_WEIGHT_HH
        FR_WEIGHT_HR

    ctypedef Py_ssize_t fr_index

    ctypedef struct fr_frame:
        fr_index rows, units
        void *gates
        fr_index gates_row, gates_slot
        const void *bias
        fr_index bias_slot
        const void *state[FR_MAX_STATES]
        fr_index state_row[FR_MAX_STATES]
        void *next[FR_MAX_STATES]
        fr_index next_row[FR_MAX_STATES]
        void *out
        fr_index out_row
        void *extra
        fr_index extra_row
        const void *d_out
        fr_index d_out_row
        void *d_state[FR_MAX_STATES]
        fr_index d_state_row[FR_MAX_STATES]
        void *d_extra
        fr_index d_extra_row
        const void *vector[FR_MAX_VECTORS]
        void *d_vector[FR_MAX_VECTORS]
        fr_index vector_slot
        double cell_clip
        int keep

    ctypedef void (*fr_pointwise)(const fr_frame *frame) noexcept nogil

    ctypedef struct fr_stage:
        int operand
        int weight
        int first_gate, gates
        int slot[FR_MAX_GATES]
        fr_pointwise forward, adjoint

    ctypedef struct fr_vector:
        const char *name
        int blocks

    ctypedef struct fr_cell:
        const char *name
        int states, gates, slots, stages
        int d_state_direct, whole_rows
        fr_stage stage[FR_MAX_STAGES]
        fr_vector vector[FR_MAX_VECTORS]

    ctypedef struct fr_product:
        fr_index rows, cols, depth
        const void *a
        fr_index a_row
        const void *b
        fr_index b_panel
        const void *add
        fr_index add_row
        void *c
        fr_index c_row

    ctypedef struct fr_term:
        const void *w
        fr_index w_row
        const void *x
        fr_index x_row, k

    ctypedef struct fr_thin:
        fr_index rows, n, whole
        int terms
        fr_term term[2]
        const void *add
        fr_index add_row
        void *y
        fr_index y_row
        int descending

    fr_index fr_few_rows(fr_index depth) noexcept nogil

    enum:
        FR_WORKSPACE

    ctypedef struct fr_masked:
        fr_index rows, cols
        const void *x
        const void *mask
        void *y
        fr_index x_row, mask_row, y_row
        int accumulate

    ctypedef struct fr_zoneout:
        fr_index rows, cols
        const void *mask
        void *state
        void *next
        void *out
        fr_index mask_row, state_row, next_row, out_row

    ctypedef struct fr_sgd:
        void *values
        const void *gradients
        void *momentum_buffer
        double learning_rate, momentum, weight_decay
        int nesterov

    ctypedef struct fr_adam:
        void *values
        const void *gradients
        void *exp_avg
        void *exp_avg_sq
        double beta1, beta2, eps
        double weight_decay, shrink, step, root_scale

    ctypedef void (*fr_map)(fr_index n, const void *x, void *y) noexcept nogil

    ctypedef struct fr_kernels:
        const char *isa
        fr_index item_size
        fr_index tile_cols
        void (*pack)(fr_index cols, fr_index depth, const void *b, fr_index b_row, int transposed,
                     void *packed) noexcept nogil
        void (*product)(const fr_product *p) noexcept nogil
        void (*multiply)(const fr_product *p, int transposed, void *workspace) noexcept nogil
        void (*add_outer_products)(fr_index n, fr_index rows, fr_index cols, const void *a,
                                   fr_index a_row, const void *b, fr_index b_row, void *c,
                                   fr_index c_row, void *workspace) noexcept nogil
        void (*thin)(const fr_thin *p) noexcept nogil
        void (*thin_transposed)(const fr_thin *p) noexcept nogil
        void (*transpose)(fr_index rows, fr_index cols, const void *x, fr_index x_row, void *y,
                          fr_index y_row) noexcept nogil
        void (*add_transposed)(fr_index rows, fr_index cols, const void *x, fr_index x_row, void *y,
                               fr_index y_row) noexcept nogil
        void (*add_column_sums)(fr_index rows, fr_index cols, const void *x, fr_index x_row,
                                void *y) noexcept nogil
        void (*mask)(const fr_masked *m) noexcept nogil
        void (*zoneout)(const fr_zoneout *z) noexcept nogil
        void (*zoneout_adjoint)(const fr_zoneout *z) noexcept nogil
        fr_map exp
        fr_map tanh
        fr_map sigmoid
        void (*softmax_cross_entropy)(fr_index rows, fr_index columns, const void *x,
                                      const int64_t *ids, double scale, void *d_x,
                                      double *losses) noexcept nogil
        double (*sum_of_squares)(fr_index n, const void *x) noexcept nogil
        void (*sgd)(const fr_sgd *sgd, fr_index first, fr_index last) noexcept nogil
        void (*adam)(const fr_adam *adam, fr_index first, fr_index last) noexcept nogil
        const fr_cell *cells

    ctypedef void (*fr_task)(void *context, int i, int tasks, int rank) noexcept nogil
    ctypedef struct fr_team:
        pass
    ctypedef void (*fr_work)(void *context, int rank, int size, fr_team *team) noexcept nogil


cdef inline int vectors_of(const fr_cell *cell) noexcept nogil:
    """How many parameters of its own a cell has."""
    cdef int v = 0
    while v < FR_MAX_VECTORS and cell.vector[v].name != NULL:
        v += 1
    return v


cdef inline bint is_projected(const fr_cell *cell) noexcept nogil:
    """Whether h is a projection, of a width of its own."""
    return cell.stage[cell.stages - 1].weight == FR_WEIGHT_HR


cdef inline Py_ssize_t share(Py_ssize_t n, int rank, int size) noexcept nogil:
    """Where the rank's share of n things begins; rank `size` is the end."""
    return n * rank // size


cdef inline void range_of(Py_ssize_t n, Py_ssize_t block, int rank, int size, Py_ssize_t *low,
                          Py_ssize_t *high) noexcept nogil:
    """The rank's range of n columns or units, in whole blocks."""
    cdef Py_ssize_t blocks = (n + block - 1) // block
    low[0] = min(n, share(blocks, rank, size) * block)
    high[0] = min(n, share(blocks, rank + 1, size) * block)


cdef inline void add_weight_gradient(const fr_kernels *kernels, int rank, int size, Py_ssize_t n,
                                     Py_ssize_t rows, Py_ssize_t cols, const char *d_y,
                                     Py_ssize_t d_y_row, const char *x, Py_ssize_t x_row,
                                     char *d_weight, char *d_bias, char *workspace) noexcept nogil:
    """The rank's part of d_weight (rows, cols) += d_y^T x over n rows, and of d_bias (or NULL).

    It is a part of the longer side: so packing x is divided where that is the larger one.
    """
    cdef Py_ssize_t item = kernels.item_size, low = share(rows, rank, size)
    cdef Py_ssize_t high = share(rows, rank + 1, size), first = 0, last = cols
    if d_bias != NULL and high > low:
        kernels.add_column_sums(n, high - low, d_y + low * item, d_y_row, d_bias + low * item)
    if cols > rows and cols > size * kernels.tile_cols:
        low = 0
        high = rows
        range_of(cols, kernels.tile_cols, rank, size, &first, &last)
    if high > low and last > first:
        kernels.add_outer_products(n, high - low, last - first, d_y + low * item, d_y_row,
                                   x + first * item, x_row, d_weight + (low * cols + first) * item,
                                   cols, workspace)


# The kernels are linked into this one extension; the others call them through these.
cdef const fr_kernels *active(Py_ssize_t item_size) noexcept nogil
cdef const fr_cell *cell_named(const fr_kernels *kernels, str name) except NULL
cdef void for_each(int tasks, int threads, fr_task task, void *context) noexcept nogil
cdef void wait_for(atomic_ptrdiff_t *counter, Py_ssize_t value) noexcept nogil
cdef void parallel(int size, fr_work work, void *context) noexcept nogil
cdef void barrier(fr_team *team) noexcept nogil
cdef int thread_count() noexcept nogil
cdef uint64_t flush_denormals() noexcept nogil
cdef void restore_denormals(uint64_t saved) noexcept nogil
