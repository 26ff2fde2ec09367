"""The one time loop: any cell, one layer, one direction, forward and back.

A cell is a list of stages (`fr_cell`), a stage a recurrent product followed by a pointwise
function. After the loop's adjoint come the gradients of weights, products over all steps at once.
The product with the input and the gradient of the input are computed step by step where a step has
enough rows for the register tile: what they read and write is then still in the cache. Otherwise
they are hoisted out of the loop and computed for many steps at once.

Rows are packed: step t owns the rows offsets[t]:offsets[t + 1] of x (N, I), one for each sequence
that still runs, so the rows of a step are always the first of the state's.

Threads divide either the rows of a step (each thread then runs its sequences through all steps and
waits for no other) or, where rows are few, the hidden units (all meet at a barrier before each
product). Where steps are too small for that, a second thread follows the loop of the adjoint and
computes the products over all steps.
Only the kernels know element types: buffers are untyped here and strides are in elements.
Nothing here knows of Python but the check for Ctrl-C; `scan.pyx` checks and allocates.
"""
from libc.string cimport memcpy, memset

from fastrnn._core.blas cimport Matrix, as_matrix, gemm
from fastrnn._core.kernels cimport (
    FR_OPERAND_EXTRA,
    FR_WEIGHT_HH,
    FR_WORKSPACE,
    add_weight_gradient,
    barrier,
    for_each,
    fr_few_rows,
    fr_frame,
    fr_masked,
    fr_product,
    fr_stage,
    fr_team,
    fr_thin,
    fr_zoneout,
    parallel,
    range_of,
    share,
    vectors_of,
    wait_for,
)
from fastrnn._core.signals cimport PyErr_CheckSignals

# Between two checks for Ctrl-C.
cdef double FLOPS_A_POLL = 2e8
# Rows that the gradients of all weights read, one after the other, while they are in the cache.
cdef Py_ssize_t GRADIENT_ROWS = 256
# Rows that a thread takes at a time which follows the loop of the adjoint.
cdef Py_ssize_t ROWS_BEHIND = 32
# Bytes of gates of a block of units: they stay in L1 from the product to the pointwise function.
cdef Py_ssize_t BLOCK_BYTES = 16 * 1024
# Rows of a long product that are multiplied by all panels of the weights, and so stay in L2, before
# the next rows are.
cdef Py_ssize_t BLOCK_ROWS = 96


# ---------------------------------------------------------------------------------- small helpers

cdef inline Py_ssize_t step_of(const Run *r, Py_ssize_t s) noexcept nogil:
    """Time of the s-th step that is run."""
    return r.T - 1 - s if r.reverse else s


cdef inline Py_ssize_t running(const Run *r, Py_ssize_t s) noexcept nogil:
    """How many rows the s-th step has; none outside the sequence."""
    cdef Py_ssize_t t = step_of(r, s)
    return 0 if t < 0 or t >= r.T else r.offsets[t + 1] - r.offsets[t]


cdef inline char *state_at(const Run *r, int k, Py_ssize_t s) noexcept nogil:
    """State k before the s-th step: on a tape one for each step, else two places used in turn."""
    cdef Py_ssize_t row = r.offsets[step_of(r, s)] if r.keep else (s & 1) * r.B
    return r.state[k] + row * r.state_row[k] * r.item


cdef inline char *extra_at(const Run *r, Py_ssize_t s) noexcept nogil:
    cdef Py_ssize_t row = r.offsets[step_of(r, s)] if r.keep else 0
    return r.extra + row * r.extra_row * r.item


cdef inline int writer_of(const fr_cell *cell, int k) noexcept nogil:
    """The stage that makes state k: the last one h, the first one all others."""
    return cell.stages - 1 if k == 0 else 0


cdef bint packs_weights(const Run *r) noexcept nogil:
    """Whether recurrent weights are packed: for one sequence never, and not for few rows."""
    return r.B > 1 and r.N > fr_few_rows(r.P)


cdef inline char *workspace_of(const Run *r, int task) noexcept nogil:
    """Memory in which a task packs weights block by block, or NULL: few rows read them unpacked.

    The rows of the whole run decide, so that bits do not depend on how rows are divided.
    """
    return NULL if r.N <= fr_few_rows(r.inputs) else r.workspace + task * FR_WORKSPACE


cdef inline bint is_masked(const Run *r, int k) noexcept nogil:
    """Whether the operand of a stage has recurrent dropout."""
    return r.recurrent_mask != NULL and r.cell.stage[k].weight == FR_WEIGHT_HH


cdef void poll(Run *r, Py_ssize_t s) noexcept nogil:
    """Look for Ctrl-C. Threads may be a step apart between barriers, so all stop two later."""
    with gil:
        if PyErr_CheckSignals() != 0:
            r.stop_at = s + 2
            r.stopped = True
            if r.other != NULL:
                r.other.stop_at = 0
                r.other.stopped = True


cdef void rows_of(const Run *r, int rank, int size, Py_ssize_t *low,
                  Py_ssize_t *high) noexcept nogil:
    """The rank's rows of the state, chosen so that the steps of all ranks sum to about the same."""
    cdef Py_ssize_t row, t = r.T, steps = 0
    cdef Py_ssize_t bound_low = share(r.N, rank, size), bound_high = share(r.N, rank + 1, size)
    if r.N == r.T * r.B:
        low[0] = share(r.B, rank, size)
        high[0] = share(r.B, rank + 1, size)
        return
    low[0] = high[0] = 0
    for row in range(r.B):
        while t > 0 and r.offsets[t] - r.offsets[t - 1] <= row:
            t -= 1
        if steps < bound_low:
            low[0] = row + 1
        if steps < bound_high:
            high[0] = row + 1
        steps += t


cdef void unit_range(const Run *r, Py_ssize_t units, int rank, int size, Py_ssize_t *low,
                     Py_ssize_t *high) noexcept nogil:
    """The rank's range of units, where units are divided; else all of them.

    In panels, or in lines of the cache where nothing is packed.
    """
    low[0] = 0
    high[0] = units
    if r.split_units:
        range_of(units, r.kernels.tile_cols if packs_weights(r) else 64 // r.item, rank, size, low,
                 high)


# ------------------------------------------------------------------------------- products of rows

cdef void pack_weights(const Run *r, bint adjoint, int rank, int size) noexcept nogil:
    """Pack the rank's share of the weights."""
    cdef const fr_kernels *kernels = r.kernels
    cdef Py_ssize_t tile = kernels.tile_cols, item = r.item, low, high, panels, row
    cdef Py_ssize_t columns = r.inputs if adjoint else r.cell.gates * r.H
    cdef const StageWeights *w
    cdef int k, g
    if r.packed_ih != NULL:
        panels = (columns + tile - 1) // tile
        low = share(panels, rank, size)
        high = share(panels, rank + 1, size)
        if high > low:
            kernels.pack(min(columns, high * tile) - low * tile,
                         r.cell.gates * r.H if adjoint else r.inputs,
                         r.weight_ih + low * tile * (1 if adjoint else r.inputs) * item, r.inputs,
                         not adjoint, r.packed_ih + low * r.panel_ih * item)
    for k in range(r.cell.stages):
        w = &r.stage[k]
        if adjoint and w.adjoint != NULL:
            row = w.units * r.cell.stage[k].gates
            panels = (w.depth + tile - 1) // tile
            low = share(panels, rank, size)
            high = share(panels, rank + 1, size)
            if high > low:
                kernels.pack(min(w.depth, high * tile) - low * tile, row,
                             w.weight + low * tile * item, w.row, 0,
                             w.adjoint + low * w.adjoint_panel * item)
        elif not adjoint and w.forward != NULL:
            low = share(w.gate_panels, rank, size)
            high = share(w.gate_panels, rank + 1, size)
            for g in range(r.cell.stage[k].gates):
                if high > low:
                    kernels.pack(min(w.units, high * tile) - low * tile, w.depth,
                                 w.weight + (g * w.units + low * tile) * w.row * item, w.row, 1,
                                 w.forward + (g * w.gate_panels + low) * w.forward_panel * item)


cdef inline fr_thin thin_product(Py_ssize_t rows, Py_ssize_t n, Py_ssize_t whole, Py_ssize_t k,
                                 const char *weight, Py_ssize_t weight_row, const char *x,
                                 Py_ssize_t x_row, char *y, Py_ssize_t y_row, bint add,
                                 bint descending) noexcept nogil:
    """y (+)= x W^T or x W, for W (n, k), of a weight with `whole` rows."""
    cdef fr_thin p
    p.rows = rows
    p.n = n
    p.whole = whole
    p.terms = 1
    p.term[0].w = weight
    p.term[0].w_row = weight_row
    p.term[0].x = x
    p.term[0].x_row = x_row
    p.term[0].k = k
    p.add = y if add else NULL
    p.add_row = p.y_row = y_row
    p.y = y
    p.descending = descending
    return p


cdef void recurrent_product(const Run *r, int k, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                            const char *operand, Py_ssize_t operand_row, char *gates,
                            bint descending) noexcept nogil:
    """Units low:high of every gate of a stage: gates (rows, slots, units) (+)= operand W^T."""
    cdef const fr_kernels *kernels = r.kernels
    cdef const fr_stage *stage = &r.cell.stage[k]
    cdef const StageWeights *w = &r.stage[k]
    cdef Py_ssize_t unit, units, item = r.item
    cdef fr_product p
    cdef fr_thin v
    cdef int g = stage.gates - 1 if descending else 0, step = -1 if descending else 1, first, n
    cdef bint add
    cdef char *to
    while 0 <= g < stage.gates:
        n = neighbours(stage, g, step, w.forward == NULL and high - low == r.H)
        first = g - n + 1 if descending else g
        g += n * step
        add = stage.slot[first] < r.cell.gates
        to = gates + (stage.slot[first] * r.H + low) * item
        unit = first * w.units + low
        units = n * (high - low)
        if w.forward != NULL:
            p.rows = rows
            p.cols = units
            p.depth = w.depth
            p.a = operand
            p.a_row = operand_row
            p.b = (w.forward + (first * w.gate_panels + low // kernels.tile_cols)
                   * w.forward_panel * item)
            p.b_panel = w.forward_panel
            p.c = to
            p.c_row = p.add_row = r.gates_row
            p.add = to if add else NULL
            kernels.product(&p)
            continue
        if w.transposed != NULL:
            v = thin_product(rows, w.depth, w.depth, units, w.transposed + unit * item,
                             w.transposed_row, operand, operand_row, to, r.gates_row, add,
                             descending)
            kernels.thin_transposed(&v)
        else:
            v = thin_product(rows, units, stage.gates * w.units, w.depth,
                             w.weight + unit * w.row * item, w.row, operand, operand_row, to,
                             r.gates_row, add, descending)
            kernels.thin(&v)


cdef void operand_gradient(const Run *r, int k, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                           const char *gates, char *d_operand, Py_ssize_t d_row, bint add,
                           bint descending) noexcept nogil:
    """Columns low:high of d_operand (rows, depth) (+)= d_gates W, over the gates of a stage."""
    cdef const fr_kernels *kernels = r.kernels
    cdef const fr_stage *stage = &r.cell.stage[k]
    cdef const StageWeights *w = &r.stage[k]
    cdef Py_ssize_t item = r.item
    cdef fr_product p
    cdef fr_thin v
    cdef int g = 0, n
    cdef const char *source
    while g < stage.gates:
        n = neighbours(stage, g, 1, w.units == r.H)
        source = gates + stage.slot[g] * r.H * item
        if w.adjoint == NULL:
            v = thin_product(rows, n * w.units, stage.gates * w.units, high - low,
                             w.weight + (g * w.units * w.row + low) * item, w.row, source,
                             r.gates_row, d_operand + low * item, d_row, add, descending)
            kernels.thin_transposed(&v)
        else:
            p.rows = rows
            p.cols = high - low
            p.depth = n * w.units
            p.a = source
            p.a_row = r.gates_row
            p.b = (w.adjoint + (low // kernels.tile_cols * w.adjoint_panel
                                + g * w.units * kernels.tile_cols) * item)
            p.b_panel = w.adjoint_panel
            p.c = d_operand + low * item
            p.c_row = p.add_row = d_row
            p.add = p.c if add else NULL
            kernels.product(&p)
        add = True
        g += n


cdef int neighbours(const fr_stage *stage, int g, int step, bint full_width) noexcept nogil:
    """How many gates from g on, in direction `step`, have adjacent slots: one product is enough."""
    cdef int n = 1, other = g + step
    while full_width and 0 <= other < stage.gates and stage.slot[other] == stage.slot[g] + n * step:
        n += 1
        other += step
    return n


cdef void long_product(const Run *r, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth,
                       const char *a, Py_ssize_t a_row, const char *packed, char *c,
                       Py_ssize_t c_row) noexcept nogil:
    """c (rows, cols) = a (rows, depth) times panels of the packed input weight."""
    cdef fr_product p
    cdef Py_ssize_t row = 0
    p.cols = cols
    p.depth = depth
    p.a_row = a_row
    p.b = packed
    p.b_panel = r.panel_ih
    p.c_row = c_row
    p.add = NULL
    while row < rows:
        p.rows = min(BLOCK_ROWS, rows - row)
        p.a = a + row * a_row * r.item
        p.c = c + row * c_row * r.item
        r.kernels.product(&p)
        row += p.rows


cdef void polled_gemm(Run *r, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Matrix a, Matrix b,
                      bint accumulate, Matrix c, bint polls) noexcept nogil:
    """c (m, n) (+)= a (m, k) b (k, n), with checks for Ctrl-C between blocks of rows."""
    cdef Py_ssize_t most = 64 + <Py_ssize_t>(10 * FLOPS_A_POLL / (1. + n * k)), row = 0, rows
    while row < m and not r.stopped:
        rows = min(most, m - row)
        gemm(r.item, rows, n, k, a, b, accumulate, c)
        a.data += rows * (1 if a.transposed else a.row) * r.item
        c.data += rows * c.row * r.item
        row += rows
        if polls and row < m:
            poll(r, 0)


# ----------------------------------------------------------------------------------- forward

cdef void fill_table_product(Run *r, int rank, int size, bint polls) noexcept nogil:
    """table_product = table W_ih^T, the rank's share of its rows."""
    cdef Py_ssize_t low = share(r.symbols, rank, size), high = share(r.symbols, rank + 1, size)
    cdef Py_ssize_t columns = r.cell.gates * r.H, start = low * columns * r.item
    if r.table == NULL:
        memset(r.table_product + start, 0, (high - low) * columns * r.item)
        r.kernels.add_transposed(columns, high - low, r.weight_ih + low * r.item, r.inputs,
                                 r.table_product + start, columns)
        return
    polled_gemm(r, high - low, columns, r.inputs,
                as_matrix(r.table + low * r.inputs * r.item, r.inputs, False),
                as_matrix(r.weight_ih, r.inputs, True), False,
                as_matrix(r.table_product + start, columns, False), polls)


cdef void look_up(const Run *r, Py_ssize_t row, char *z) noexcept nogil:
    """z (gates * H) = the input product of a row whose input is an id."""
    cdef Py_ssize_t columns = r.cell.gates * r.H
    if r.table_product != NULL:
        memcpy(z, r.table_product + r.ids[row] * columns * r.item, columns * r.item)
        return
    # A column of the weight: the product with a unit vector.
    memset(z, 0, columns * r.item)
    r.kernels.add_transposed(columns, 1, r.weight_ih + r.ids[row] * r.item, r.inputs, z, columns)


cdef inline char *gates_at(const Run *r, Py_ssize_t row) noexcept nogil:
    """A row of gates: kept for all rows on a tape, else for those of a chunk."""
    return r.gates + (row if r.keep else row - r.first_row) * r.gates_row * r.item


cdef char *gates_of(const Run *r, Py_ssize_t s) noexcept nogil:
    """The gates of the s-th step."""
    if r.keep or r.hoist:
        return gates_at(r, r.offsets[step_of(r, s)])
    return r.gates


cdef void input_product(const Run *r, Py_ssize_t low, Py_ssize_t high, char *z) noexcept nogil:
    """z (high - low, slots, H) = rows low:high of x W_ih^T, in a step."""
    cdef Py_ssize_t row
    if r.x == NULL:
        for row in range(low, high):
            look_up(r, row, z + (row - low) * r.gates_row * r.item)
    else:
        long_product(r, high - low, r.cell.gates * r.H, r.inputs,
                     r.x + low * r.inputs * r.item, r.inputs, r.packed_ih, z, r.gates_row)


cdef void hoisted_product(const Run *r, int task, Py_ssize_t low, Py_ssize_t high,
                          Py_ssize_t column, Py_ssize_t end) noexcept nogil:
    """Columns column:end of the input product of many steps; `column` is the first of a panel.

    Weights are packed block by block on the way; a run that is repeated has them packed already.
    """
    cdef Py_ssize_t x_row = r.inputs * r.item
    cdef fr_product p
    if r.packed_ih != NULL:
        long_product(r, high - low, end - column, r.inputs, r.x + low * x_row, r.inputs,
                     r.packed_ih + column // r.kernels.tile_cols * r.panel_ih * r.item,
                     gates_at(r, low) + column * r.item, r.gates_row)
        return
    p.rows = high - low
    p.cols = end - column
    p.depth = p.a_row = p.b_panel = r.inputs
    p.a = r.x + low * x_row
    p.b = r.weight_ih + column * x_row
    p.c = gates_at(r, low) + column * r.item
    p.c_row = r.gates_row
    p.add = NULL
    r.kernels.multiply(&p, True, workspace_of(r, task))


cdef void begin_rows(const Run *r, Py_ssize_t s, Py_ssize_t low, Py_ssize_t high,
                     int rank) noexcept nogil:
    """Give the sequences that begin at the s-th step their initial state."""
    cdef int k
    cdef Py_ssize_t first = max(low, running(r, s - 1)), last = min(high, running(r, s)), row
    if first >= last or (r.split_units and rank > 0):
        return
    for k in range(r.cell.states):
        for row in range(first, last):
            memcpy(state_at(r, k, s) + row * r.state_row[k] * r.item,
                   r.initial[k] + row * r.width[k] * r.item, r.width[k] * r.item)


cdef const char *mask_operand(const Run *r, int k, Py_ssize_t s, Py_ssize_t low, Py_ssize_t high,
                              int rank, int size, fr_team *team,
                              const char *operand) noexcept nogil:
    """Rows low:high of a stage's operand (rows, depth) with recurrent dropout."""
    cdef Py_ssize_t item = r.item, unit, unit_high, row
    cdef char *to
    if r.cell.stage[k].operand == FR_OPERAND_EXTRA:
        to = <char *>operand
        row = r.extra_row
    else:
        row = r.state_row[0]
        to = r.masked + ((r.offsets[step_of(r, s)] if r.keep else 0) + low) * row * item
    unit_range(r, r.stage[k].depth, rank, size, &unit, &unit_high)
    apply_mask(r, low, high, unit, unit_high, operand, row, to, False)
    if r.split_units:
        barrier(team)
    return to


cdef void apply_mask(const Run *r, Py_ssize_t low, Py_ssize_t high, Py_ssize_t unit,
                     Py_ssize_t unit_high, const char *x, Py_ssize_t row, char *y,
                     bint add) noexcept nogil:
    """Units unit:unit_high of y (rows, P) (+)= x * recurrent_mask, x and y from row `low` on."""
    cdef fr_masked m
    m.rows = high - low
    m.cols = unit_high - unit
    m.x = x + unit * r.item
    m.mask = r.recurrent_mask + (low * r.P + unit) * r.item
    m.y = y + unit * r.item
    m.x_row = m.y_row = row
    m.mask_row = r.P
    m.accumulate = add
    r.kernels.mask(&m)


cdef void zone_out(const Run *r, int k, const fr_frame *f, Py_ssize_t row,
                   Py_ssize_t unit) noexcept nogil:
    """Zoneout of the states that stage k has made, from packed row `row` on."""
    cdef fr_zoneout z
    cdef int j
    z.rows = f.rows
    z.cols = f.units
    for j in range(r.cell.states):
        if writer_of(r.cell, j) == k:
            z.mask = r.zoneout[j] + (row * r.zoneout_row[j] + unit) * r.item
            z.mask_row = r.zoneout_row[j]
            z.state = <void *>f.state[j]
            z.state_row = f.state_row[j]
            z.next = f.next[j]
            z.next_row = f.next_row[j]
            z.out = f.out if j == 0 else NULL
            z.out_row = f.out_row
            r.kernels.zoneout(&z)


cdef void set_vectors(const Run *r, fr_frame *f, Py_ssize_t unit, Py_ssize_t task) noexcept nogil:
    """Point a frame at the cell's own parameters and, backwards, at a task's gradients."""
    cdef char *d = r.d_vectors
    cdef int v
    f.vector_slot = r.H
    f.cell_clip = r.cell_clip
    if d != NULL:
        d += (task * r.vector_size + unit) * r.item
    for v in range(vectors_of(r.cell)):
        f.vector[v] = r.vector[v] + unit * r.item
        f.d_vector[v] = d
        if d != NULL:
            d += r.cell.vector[v].blocks * r.H * r.item


cdef void pointwise(const Run *r, int k, Py_ssize_t s, Py_ssize_t low, Py_ssize_t high,
                    Py_ssize_t unit, Py_ssize_t units, char *gates) noexcept nogil:
    """The stage's pointwise function on rows low:high and some units."""
    cdef const fr_cell *cell = r.cell
    cdef Py_ssize_t item = r.item, first = low, last, going_on = running(r, s + 1), row
    cdef Py_ssize_t offset = r.offsets[step_of(r, s)]
    cdef fr_frame f
    cdef int j
    f.units = units
    f.gates_row = r.gates_row
    f.gates_slot = r.H
    f.bias = NULL if r.bias == NULL else r.bias + unit * item
    f.bias_slot = r.H
    f.keep = r.keep
    set_vectors(r, &f, unit, 0)
    # Sequences that go on hand their state to the next step; those that end, to the final state.
    while first < high:
        last = min(high, going_on) if first < going_on else high
        f.rows = last - first
        f.gates = gates + (first * f.gates_row + unit) * item
        for j in range(cell.states):
            row = r.state_row[j]
            f.state[j] = state_at(r, j, s) + (first * row + unit) * item
            f.state_row[j] = row
            if first < going_on:
                f.next[j] = state_at(r, j, s + 1) + (first * row + unit) * item
            else:
                row = r.width[j]
                f.next[j] = r.final[j] + (first * row + unit) * item
            f.next_row[j] = row
        f.out = r.out + ((offset + first) * r.out_row + unit) * item
        f.out_row = r.out_row
        f.extra = NULL if r.extra == NULL else (extra_at(r, s)
                                                + (first * r.extra_row + unit) * item)
        f.extra_row = r.extra_row
        cell.stage[k].forward(&f)
        if r.zoneout[0] != NULL:
            zone_out(r, k, &f, offset + first, unit)
        first = last


cdef void forward_step(const Run *r, Py_ssize_t s, Py_ssize_t low, Py_ssize_t high, int rank,
                       int size, fr_team *team) noexcept nogil:
    """The s-th step of rows low:high: of each stage the product, then the pointwise function."""
    cdef const fr_cell *cell = r.cell
    cdef char *gates = gates_of(r, s)
    cdef Py_ssize_t unit, unit_low, unit_high, units, tile = r.kernels.tile_cols
    cdef Py_ssize_t rows = high - low, block, operand_row
    cdef const char *operand
    cdef int k
    if not r.hoist:
        unit = r.offsets[step_of(r, s)]
        input_product(r, unit + low, unit + high, gates + low * r.gates_row * r.item)
    for k in range(cell.stages):
        if r.split_units:
            barrier(team)
        unit_range(r, r.stage[k].units, rank, size, &unit_low, &unit_high)
        if cell.stage[k].operand == FR_OPERAND_EXTRA:
            operand_row = r.extra_row
            operand = extra_at(r, s) + low * operand_row * r.item
        else:
            operand_row = r.state_row[0]
            operand = state_at(r, 0, s) + low * operand_row * r.item
        if is_masked(r, k):
            operand = mask_operand(r, k, s, low, high, rank, size, team, operand)
        block = r.H
        if r.stage[k].forward != NULL and not cell.whole_rows:
            block = max(1, BLOCK_BYTES // (rows * cell.slots * tile * r.item)) * tile
        unit = unit_low
        while unit < unit_high:
            units = min(block, unit_high - unit)
            recurrent_product(r, k, rows, unit, unit + units, operand, operand_row,
                              gates + low * r.gates_row * r.item, s & 1)
            pointwise(r, k, s, low, high, unit, units, gates)
            unit += units


cdef void pack_task(void *context, int i, int tasks, int rank) noexcept nogil:
    cdef Run *r = <Run *>context
    if not r.weights_packed:
        pack_weights(r, r.backwards, i, tasks)
    if r.table_product != NULL and not r.backwards:
        fill_table_product(r, i, tasks, rank == 0)


cdef void input_task(void *context, int i, int tasks, int rank) noexcept nogil:
    """The i-th part of a chunk's input product: of its columns, or of its rows if they are more.

    With parts of the columns, each weight is packed once and by one task.
    """
    cdef Run *r = <Run *>context
    cdef Py_ssize_t low = r.first_row, high = r.last_row, rows = high - low
    cdef Py_ssize_t column = 0, end = r.cell.gates * r.H
    if r.x == NULL or rows > end:
        low = r.first_row + share(rows, i, tasks)
        high = r.first_row + share(rows, i + 1, tasks)
    else:
        range_of(end, r.kernels.tile_cols, i, tasks, &column, &end)
    while low < high and not r.stopped:
        rows = min(high - low, product_rows(r))
        if r.x == NULL:
            input_product(r, low, low + rows, gates_at(r, low))
        else:
            hoisted_product(r, i, low, low + rows, column, end)
        low += rows
        if rank == 0 and low < high:
            poll(r, r.first_step)


cdef void steps_of(Run *r, int i, int tasks, bint polls, fr_team *team) noexcept nogil:
    """Run the steps of a chunk on the i-th part of the rows, or of the units."""
    cdef Py_ssize_t s, low = 0, high = r.B, top, every = poll_interval(r)
    if not r.split_units:
        rows_of(r, i, tasks, &low, &high)
    for s in range(r.first_step, r.last_step):
        if s >= r.stop_at:
            break
        top = min(high, running(r, s))
        begin_rows(r, s, low, high, i)
        if top > low:
            forward_step(r, s, low, top, i, tasks, team)
        if polls and s % every == every - 1 and not r.stopped:
            poll(r, s)


cdef void rows_task(void *context, int i, int tasks, int rank) noexcept nogil:
    steps_of(<Run *>context, i, tasks, rank == 0, NULL)


cdef void units_work(void *context, int rank, int size, fr_team *team) noexcept nogil:
    steps_of(<Run *>context, rank, size, rank == 0, team)


cdef void run_forward(Run *r, int size) noexcept nogil:
    cdef Py_ssize_t s = 0, rows
    cdef int product_size = size + r.follow
    r.backwards = False
    for_each(size, size, pack_task, r)
    while s < r.T and not r.stopped:
        # The next chunk of steps; their rows are neighbours in x.
        r.first_step = s
        rows = 0
        while s < r.T and (r.keep or not r.hoist or rows == 0
                           or rows + running(r, s) <= r.chunk_rows):
            rows += running(r, s)
            s += 1
        r.last_step = s
        r.first_row = r.offsets[min(step_of(r, r.first_step), step_of(r, s - 1))]
        r.last_row = r.first_row + rows
        if r.hoist:
            for_each(product_size, product_size, input_task, r)
        if r.split_units:
            parallel(size, units_work, r)
        else:
            for_each(size, size, rows_task, r)


cdef Py_ssize_t poll_interval(const Run *r) noexcept nogil:
    """Steps between two checks for Ctrl-C."""
    return 1 + <Py_ssize_t>(FLOPS_A_POLL / (1. + 2. * r.B * r.cell.gates * r.H * (r.inputs + r.P)))


cdef Py_ssize_t product_rows(const Run *r) noexcept nogil:
    """Rows of the products over all steps that are multiplied between two checks for Ctrl-C."""
    return 64 + <Py_ssize_t>(10 * FLOPS_A_POLL / (1. + r.cell.gates * r.H * (r.inputs + r.P)))


# ----------------------------------------------------------------------------------- adjoint

cdef void zone_out_adjoint(const Run *r, Py_ssize_t offset, Py_ssize_t low, Py_ssize_t high,
                           int rank, int size) noexcept nogil:
    """Move to d_kept the gradient that zoneout carries past a step; leave the cell's in d_state."""
    cdef Py_ssize_t unit, unit_high, item = r.item
    cdef fr_zoneout z
    cdef int j
    z.rows = high - low
    for j in range(r.cell.states):
        unit_range(r, r.width[j], rank, size, &unit, &unit_high)
        z.cols = unit_high - unit
        z.mask = r.zoneout[j] + (offset * r.zoneout_row[j] + unit) * item
        z.mask_row = r.zoneout_row[j]
        z.state_row = z.next_row = r.state_row[j]
        z.state = r.d_kept[j] + (low * z.state_row + unit) * item
        z.next = r.d_state[j] + (low * z.next_row + unit) * item
        z.out = NULL
        if j == 0 and r.d_out != NULL:
            z.out = r.d_out + (offset * r.d_out_row + unit) * item
        z.out_row = r.d_out_row
        r.kernels.zoneout_adjoint(&z)


cdef void add_kept(const Run *r, Py_ssize_t low, Py_ssize_t high, int rank,
                   int size) noexcept nogil:
    """Add what zone_out_adjoint has moved to d_kept."""
    cdef Py_ssize_t unit, unit_high, row, start
    cdef int j
    for j in range(r.cell.states):
        unit_range(r, r.width[j], rank, size, &unit, &unit_high)
        for row in range(low, high):
            start = (row * r.state_row[j] + unit) * r.item
            r.kernels.add_column_sums(1, unit_high - unit, r.d_kept[j] + start, 0,
                                      r.d_state[j] + start)


cdef void masked_gradient(const Run *r, int k, Py_ssize_t low, Py_ssize_t high, Py_ssize_t unit,
                          Py_ssize_t unit_high, const char *gates,
                          bint descending) noexcept nogil:
    """The gradient of an operand that had recurrent dropout."""
    cdef Py_ssize_t row = r.state_row[0]
    cdef char *product = r.d_masked
    cdef char *to = r.d_state[0]
    cdef bint add = r.cell.d_state_direct
    if r.cell.stage[k].operand == FR_OPERAND_EXTRA:
        row = r.extra_row
        product = to = r.d_extra
        add = False
    product += low * row * r.item
    operand_gradient(r, k, high - low, unit, unit_high, gates, product, row, False, descending)
    apply_mask(r, low, high, unit, unit_high, product, row, to + low * row * r.item, add)


cdef void adjoint_step(const Run *r, Py_ssize_t s, Py_ssize_t low, Py_ssize_t high, int rank,
                       int size, fr_team *team) noexcept nogil:
    """The adjoint of the s-th step of rows low:high, which goes through the stages backwards."""
    cdef const fr_cell *cell = r.cell
    cdef Py_ssize_t item = r.item, unit, unit_high, offset = r.offsets[step_of(r, s)] + low, row
    cdef char *gates = r.gates + offset * r.gates_row * item
    cdef fr_frame f
    cdef int k, j
    f.rows = high - low
    f.gates_row = r.gates_row
    f.gates_slot = r.H
    if r.zoneout[0] != NULL:
        zone_out_adjoint(r, offset, low, high, rank, size)
    for k in range(cell.stages - 1, -1, -1):
        unit_range(r, r.stage[k].units, rank, size, &unit, &unit_high)
        set_vectors(r, &f, unit, rank)
        f.units = unit_high - unit
        f.gates = gates + unit * item
        for j in range(cell.states):
            row = r.state_row[j]
            f.state[j] = state_at(r, j, s) + (low * row + unit) * item
            f.state_row[j] = row
            f.d_state[j] = r.d_state[j] + (low * row + unit) * item
            f.d_state_row[j] = row
        f.d_out = NULL
        if r.d_out != NULL and r.zoneout[0] == NULL:
            f.d_out = r.d_out + (offset * r.d_out_row + unit) * item
        f.d_out_row = r.d_out_row
        f.d_extra = NULL if r.d_extra == NULL else r.d_extra + (low * r.extra_row + unit) * item
        f.d_extra_row = r.extra_row
        cell.stage[k].adjoint(&f)
        if r.split_units:
            barrier(team)
        unit_range(r, r.stage[k].depth, rank, size, &unit, &unit_high)
        if is_masked(r, k):
            masked_gradient(r, k, low, high, unit, unit_high, gates, s & 1)
        elif cell.stage[k].operand == FR_OPERAND_EXTRA:
            operand_gradient(r, k, high - low, unit, unit_high, gates,
                             r.d_extra + low * r.extra_row * item, r.extra_row, False, s & 1)
        else:
            operand_gradient(r, k, high - low, unit, unit_high, gates,
                             r.d_state[0] + low * r.state_row[0] * item, r.state_row[0],
                             cell.d_state_direct, s & 1)
    if r.d_x != NULL and not r.hoist:
        input_gradient(r, rank, offset, offset + high - low)
    if r.zoneout[0] != NULL:
        add_kept(r, low, high, rank, size)


cdef void weight_gradients(const Run *r, int rank, int size, Py_ssize_t row,
                           Py_ssize_t rows) noexcept nogil:
    """The rank's share of the gradients of all weights and biases, over some rows."""
    cdef const fr_stage *stage
    cdef Py_ssize_t item = r.item, depth, h_row, start
    cdef const char *gates = r.gates + row * r.gates_row * item
    cdef const char *h
    cdef char *workspace = r.workspace + rank * FR_WORKSPACE
    cdef char *d_bias
    cdef int k, g, n
    if r.x != NULL:
        add_weight_gradient(r.kernels, rank, size, rows, r.cell.gates * r.H, r.inputs, gates,
                            r.gates_row, r.x + row * r.inputs * item, r.inputs, r.d_weight_ih,
                            r.d_bias_ih, workspace)
    for k in range(r.cell.stages):
        stage = &r.cell.stage[k]
        depth = r.stage[k].depth
        if stage.operand == FR_OPERAND_EXTRA:
            h = r.extra
            h_row = r.extra_row
        else:
            h = r.state[0] if r.masked == NULL else r.masked
            h_row = r.state_row[0]
        g = 0
        while g < stage.gates:
            n = neighbours(stage, g, 1, r.stage[k].units == r.H)
            start = g * r.stage[k].units
            d_bias = r.d_stage_bias[k]
            if d_bias != NULL:
                d_bias += start * item
            add_weight_gradient(r.kernels, rank, size, rows, n * r.stage[k].units, depth,
                                gates + stage.slot[g] * r.H * item, r.gates_row,
                                h + row * h_row * item, h_row,
                                r.d_stage_weight[k] + start * depth * item, d_bias, workspace)
            g += n


cdef void input_gradient(const Run *r, int task, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    """Rows low:high of d_x = d_gates W_ih."""
    cdef Py_ssize_t columns = r.cell.gates * r.H, gates_row = r.gates_row * r.item
    cdef Py_ssize_t x_row = r.inputs * r.item
    cdef fr_product p
    if r.packed_ih != NULL:
        long_product(r, high - low, r.inputs, columns, r.gates + low * gates_row, r.gates_row,
                     r.packed_ih, r.d_x + low * x_row, r.inputs)
    else:
        p.rows = high - low
        p.cols = p.b_panel = p.c_row = r.inputs
        p.depth = columns
        p.a = r.gates + low * gates_row
        p.a_row = r.gates_row
        p.b = r.weight_ih
        p.c = r.d_x + low * x_row
        p.add = NULL
        r.kernels.multiply(&p, False, workspace_of(r, task))


cdef void id_gradients(Run *r, int rank, int size, bint polls) noexcept nogil:
    """The rank's rows of the gradients of W_ih and b_ih, through that of the table product."""
    cdef const fr_kernels *kernels = r.kernels
    cdef Py_ssize_t item = r.item, columns = r.cell.gates * r.H, row
    cdef Py_ssize_t low = share(columns, rank, size), high = share(columns, rank + 1, size)
    cdef char *d_gates = r.gates + low * item
    cdef char *d_weight = r.d_weight_ih + low * r.inputs * item
    if r.d_bias_ih != NULL:
        kernels.add_column_sums(r.N, high - low, d_gates, r.gates_row, r.d_bias_ih + low * item)
    if r.table_product == NULL:
        for row in range(r.N):
            kernels.add_transposed(1, high - low, d_gates + row * r.gates_row * item, 0,
                                   d_weight + r.ids[row] * item, r.inputs)
        return
    for row in range(r.symbols):
        memset(r.d_table_product + (row * columns + low) * item, 0, (high - low) * item)
    for row in range(r.N):
        kernels.add_column_sums(1, high - low, d_gates + row * r.gates_row * item, 0,
                                r.d_table_product + (r.ids[row] * columns + low) * item)
    if r.table == NULL:
        kernels.add_transposed(r.symbols, high - low, r.d_table_product + low * item, columns,
                               d_weight, r.inputs)
        return
    polled_gemm(r, high - low, r.inputs, r.symbols,
                as_matrix(r.d_table_product + low * item, columns, True),
                as_matrix(r.table, r.inputs, False), True,
                as_matrix(d_weight, r.inputs, False), polls)


cdef void table_gradient(Run *r, int rank, int size, bint polls) noexcept nogil:
    """The rank's rows of d_table += d_table_product W_ih."""
    cdef Py_ssize_t low = share(r.symbols, rank, size), high = share(r.symbols, rank + 1, size)
    cdef Py_ssize_t columns = r.cell.gates * r.H
    polled_gemm(r, high - low, r.inputs, columns,
                as_matrix(r.d_table_product + low * columns * r.item, columns, False),
                as_matrix(r.weight_ih, r.inputs, False), True,
                as_matrix(r.d_table + low * r.inputs * r.item, r.inputs, False), polls)


cdef void end_block(const Run *r, int i, int tasks) noexcept nogil:
    """Add the i-th task's gradients of the cell's vectors to the sum over its earlier blocks."""
    cdef Py_ssize_t row = r.vector_size * r.item
    r.kernels.add_column_sums(1, r.vector_size, r.d_vectors + i * row, 0,
                              r.d_vectors + (tasks + i) * row)
    memset(r.d_vectors + i * row, 0, row)


cdef void steps_back(Run *r, int i, int tasks, bint polls, fr_team *team) noexcept nogil:
    """Run the adjoint of all steps on the i-th part of the rows, or of the units."""
    cdef Py_ssize_t s, low = 0, high = r.B, top, every = poll_interval(r), summed = 0, done = 0
    if not r.split_units:
        rows_of(r, i, tasks, &low, &high)
    for s in range(r.T):
        # stop_at counts steps in the order in which they are run, which is backwards here.
        if s >= r.stop_at:
            break
        top = min(high, running(r, r.T - 1 - s))
        if top > low:
            adjoint_step(r, r.T - 1 - s, low, top, i, tasks, team)
            summed += top - low
            done += top - low
        if r.follow and (done >= r.done + ROWS_BEHIND or done == r.N):
            r.done = done
        if r.vector_size > 0 and summed >= GRADIENT_ROWS:
            end_block(r, i, tasks)
            summed = 0
        if polls and s % every == every - 1 and not r.stopped:
            poll(r, s)


cdef void rows_back_task(void *context, int i, int tasks, int rank) noexcept nogil:
    steps_back(<Run *>context, i, tasks, rank == 0, NULL)


cdef void units_back_work(void *context, int rank, int size, fr_team *team) noexcept nogil:
    steps_back(<Run *>context, rank, size, rank == 0, team)


cdef void table_task(void *context, int i, int tasks, int rank) noexcept nogil:
    table_gradient(<Run *>context, i, tasks, rank == 0)


cdef void gradients_task(void *context, int i, int tasks, int rank) noexcept nogil:
    """The i-th part of the products over all steps, after the loop."""
    cdef Run *r = <Run *>context
    cdef Py_ssize_t row, rows, high, every, done = 0
    if r.x == NULL:
        id_gradients(r, i, tasks, rank == 0)
    elif r.hoist and r.d_x != NULL:
        row = share(r.N, i, tasks)
        high = share(r.N, i + 1, tasks)
        while row < high and not r.stopped:
            rows = min(high - row, product_rows(r))
            input_gradient(r, i, row, row + rows)
            row += rows
            if rank == 0 and row < high:
                poll(r, 0)
    every = 1 + product_rows(r) // GRADIENT_ROWS
    row = 0
    while row < r.N and not r.stopped:
        rows = min(GRADIENT_ROWS, r.N - row)
        weight_gradients(r, i, tasks, row, rows)
        row += rows
        done += 1
        if rank == 0 and done % every == 0:
            poll(r, 0)


cdef bint wait_for_rows(Run *r, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t *low) noexcept nogil:
    """Wait until the adjoint's loop has done `rows` rows from its `first` on; low is the lowest.

    False if the loop was stopped before that: the rows then hold no gradients.
    """
    wait_for(&r.done, first + rows)
    low[0] = first if r.reverse else r.N - first - rows
    return not r.stopped


cdef void follow_task(void *context, int i, int tasks, int rank) noexcept nogil:
    """Task 0 is the loop of the adjoint; the others wait for its rows and compute products.

    Task 1 computes the gradients of the weights: they are sums, so one task does all of them, with
    a workspace of its own. Each further task computes the gradient of a block of the input's rows.
    """
    cdef Run *r = <Run *>context
    cdef Py_ssize_t first = 0, rows, row, polled = 0
    if i == 0:
        steps_back(r, 0, 1, rank == 0, NULL)
        r.done = r.N
    elif i == 1:
        while first < r.N:
            rows = min(ROWS_BEHIND, r.N - first)
            if not wait_for_rows(r, first, rows, &row):
                return
            weight_gradients(r, 0, 1, row, rows)
            first += rows
            if rank == 0 and first >= polled + poll_interval(r):
                poll(r, 0)
                polled = first
    elif r.x == NULL:
        if wait_for_rows(r, 0, r.N, &row):
            id_gradients(r, 0, 1, rank == 0)
    else:
        first = (i - 2) * ROWS_BEHIND
        rows = min(ROWS_BEHIND, r.N - first)
        if wait_for_rows(r, first, rows, &row):
            input_gradient(r, 1 + rank, row, row + rows)


cdef void run_adjoint(Run *r, int size) noexcept nogil:
    cdef int blocks = 0
    r.backwards = True
    for_each(size, size, pack_task, r)
    if r.follow:
        if r.x == NULL:
            blocks = 1
        elif r.d_x != NULL:
            blocks = <int>((r.N + ROWS_BEHIND - 1) // ROWS_BEHIND)
        for_each(2 + blocks, 2, follow_task, r)
    else:
        if r.split_units:
            parallel(size, units_back_work, r)
        else:
            for_each(size, size, rows_back_task, r)
        # An interrupted call may have added some of the gradients.
        if not r.stopped:
            for_each(size, size, gradients_task, r)
    if r.table != NULL and r.table_product != NULL and not r.stopped:
        for_each(size, size, table_task, r)
