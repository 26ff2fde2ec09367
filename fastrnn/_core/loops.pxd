"""What `loops.pyx` runs; `scan.pyx` fills it in."""
from libc.stdint cimport int64_t

from fastrnn._core.kernels cimport (
    FR_MAX_STAGES,
    FR_MAX_STATES,
    FR_MAX_VECTORS,
    atomic_int,
    atomic_ptrdiff_t,
    fr_cell,
    fr_kernels,
)

cdef struct StageWeights:
    char *given                 # (gates * units, depth), block first_gate and on
    char *weight                # the same, or a copy whose rows are whole lines of the cache
    Py_ssize_t units, depth, row
    # (depth, gates * units) for the rows of one sequence, or NULL.
    char *transposed
    Py_ssize_t transposed_row
    # Packed, or NULL where rows are few.
    char *forward
    char *adjoint
    Py_ssize_t forward_panel, adjoint_panel
    Py_ssize_t gate_panels      # panels of one gate in `forward`

cdef struct Run:
    # What a thread needs to know; every array is described at `Scan`.
    const fr_kernels *kernels
    const fr_cell *cell
    # inputs is I, a name that C's complex numbers have taken.
    Py_ssize_t item, T, N, B, inputs, H, P
    const int64_t *offsets
    bint reverse, keep
    bint weights_packed         # by the run before, of which this is a repetition
    # Whether threads divide units; whether input products are computed for many steps at once; and
    # whether a second thread follows the loop and computes the products over all steps.
    bint split_units, hoist, follow
    # The input is x (N, inputs), or row ids[n] of a table, inputs wide and `symbols` high; without
    # a table, of the identity.
    char *x
    const int64_t *ids
    Py_ssize_t symbols
    char *table
    char *table_product         # (symbols, gates * H), where it is cheaper than N rows; or NULL
    char *weight_ih
    char *packed_ih             # for the input product, or its adjoint; NULL where rows are few
    Py_ssize_t panel_ih
    StageWeights stage[FR_MAX_STAGES]
    char *gates
    char *bias
    char *state[FR_MAX_STATES]
    char *initial[FR_MAX_STATES]
    char *final[FR_MAX_STATES]
    Py_ssize_t width[FR_MAX_STATES]
    # Elements from one row to the next: widths, padded.
    Py_ssize_t gates_row, extra_row
    Py_ssize_t state_row[FR_MAX_STATES]
    char *extra
    char *out
    Py_ssize_t out_row
    Py_ssize_t chunk_rows
    # the chunk that is run now: its steps, in the order of the run, and its rows
    Py_ssize_t first_step, last_step, first_row, last_row
    bint backwards
    # options; NULL, or infinity, where the layer does not have them
    double cell_clip
    char *vector[FR_MAX_VECTORS]  # the cell's own parameters
    char *recurrent_mask        # (B, P)
    char *masked                # the masked operands, laid out like state[0]
    char *zoneout[FR_MAX_STATES]  # (N, width), or one row for all
    Py_ssize_t zoneout_row[FR_MAX_STATES]
    # adjoint
    char *d_out
    Py_ssize_t d_out_row
    char *d_state[FR_MAX_STATES]
    char *d_extra
    char *d_x
    char *d_table
    char *d_table_product
    char *d_weight_ih
    char *d_bias_ih
    char *d_stage_weight[FR_MAX_STAGES]
    char *d_stage_bias[FR_MAX_STAGES]
    char *workspace             # FR_WORKSPACE bytes a thread
    atomic_ptrdiff_t done       # rows that the loop of the adjoint has done, where a thread follows
    char *d_masked
    char *d_kept[FR_MAX_STATES]  # the gradients that zoneout carries past a step
    char *d_vectors             # (2, tasks, vector_size): a sum for each task, and of its blocks
    Py_ssize_t vector_size
    # Ctrl-C: steps from this one on, and products, are left out; one thread writes these, others
    # read them
    atomic_ptrdiff_t stop_at
    atomic_int stopped
    Run *other                  # runs at the same time, and stops when this one does; or NULL


cdef bint packs_weights(const Run *r) noexcept nogil
cdef void run_forward(Run *r, int size) noexcept nogil
cdef void run_adjoint(Run *r, int size) noexcept nogil
