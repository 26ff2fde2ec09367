"""A run of a cell over all steps, called from Python.

Arrays are checked and memory is allocated here; `loops.pyx` reads and writes it.
"""
cimport cython
cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy, memset

from fastrnn._core.arrays cimport check_number, checked, data, matrix, writable
from fastrnn._core.blas cimport restore_threads, use_one_thread
from fastrnn._core.kernels cimport (
    FR_OPERAND_EXTRA,
    FR_WEIGHT_HR,
    FR_WORKSPACE,
    active,
    cell_named,
    for_each,
    fr_few_rows,
    fr_kernels,
    fr_stage,
    is_projected,
    thread_count,
    vectors_of,
)
from fastrnn._core.loops cimport Run, StageWeights, packs_weights, run_adjoint, run_forward
from fastrnn._core.memory cimport Block, allocate, new_array, new_of_shape
from fastrnn._core.signals cimport reraise

import numpy as np


cnp.import_array()

# Flops that are worth a second thread: to wake it takes some microseconds, a million flops take 10.
cdef double FLOPS_A_THREAD = 2e6
# The same where threads cannot divide the sequences, and so gain less. To wake one that sleeps
# takes 50 us (Zen 4, LSTM 128, B1 T16, 1 ms after the last call: 150 us on one thread, 190 on two).
cdef double FLOPS_A_THREAD_OF_FEW = 8e6
# Flops of each of two runs from which each gets a thread of its own. They meet no barrier, and the
# second thread is woken once (GRU 128 both ways, B8, 200 rows, on two threads of the Zen 4: 455 and
# 788 us in place of 587 and 975; 5 % less with 800 rows and more).
cdef double FLOPS_TOGETHER = 4e6
# Flops of a step on each thread that are worth a barrier (LSTM 128, B1 T200: 740 to 510 us on two
# of the Zen 4).
cdef double FLOPS_A_BARRIER = 3.5e4
# Flops of a step of the adjoint, over all threads, from which dividing it at barriers is faster
# than a second thread that follows the loop.
cdef double FLOPS_A_STEP_BACK = 3e5
# Threads divide units in place of rows where each would have less than two rows of a step. Where
# the weight is large they do so up to this many rows a thread, as each then reads only its part of
# it (LSTM 256, B4 T50 on two threads of the Zen 5: 748 to 536 us, in training 2094 to 1691; small
# weights lose); where it does not stay in L2, up to more (LSTM 552, B12 T20: 2144 to 1746 us, in
# training 5549 to 5356; with 10 to 16 rows a thread LSTM 650 loses up to 6 %).
cdef Py_ssize_t ROWS_FOR_UNITS = 3
cdef Py_ssize_t LARGE_FOR_UNITS = 1 << 18
cdef Py_ssize_t ROWS_PAST_L2 = 8
# With fewer rows of a step on a thread, the input product is hoisted out of the loop; with less
# than twice as many where the input weight does not stay in L2 (Zen 4, LSTM 2x650, B20: 300 ms, in
# place of 300 to 370 where other processes use L3). Without a tape it is made for CHUNK_ROWS rows
# at a time.
cdef Py_ssize_t ROWS_A_STEP = 16
cdef Py_ssize_t LARGE_WEIGHT = 1 << 21
cdef Py_ssize_t CHUNK_ROWS = 512
# Steps of one sequence that pay for a copy of the recurrent weights that is read faster. It is
# transposed up to this many bytes, of which L1 keeps a part.
cdef Py_ssize_t STEPS_TO_COPY = 16
cdef Py_ssize_t MOST_TRANSPOSED = 80 * 1024
# Bytes that a layer may keep for repeated calls. A call that needs more takes so long that there is
# little to gain.
MOST_KEPT = 1 << 22
# Bytes of weights that are compared with those of the last call, and packed again only where they
# differ. That takes less time where they and their copies stay in L2.
cdef Py_ssize_t MOST_COMPARED = 128 * 1024
# Threads, besides the first, that may repeat the calls of one layer at the same time.
cdef int MOST_SPARES = 15


cdef cnp.ndarray strided(str name, object value, int typenum, Py_ssize_t rows, Py_ssize_t columns,
                         Py_ssize_t *row):
    """An array (rows, columns) whose columns are neighbours; sets the stride of its rows."""
    cdef cnp.ndarray array = value
    cdef Py_ssize_t item = cnp.PyArray_ITEMSIZE(array)
    if (cnp.PyArray_TYPE(array) != typenum or cnp.PyArray_NDIM(array) != 2
            or cnp.PyArray_DIM(array, 0) != rows or cnp.PyArray_DIM(array, 1) != columns
            or (rows > 0 and columns > 1 and cnp.PyArray_STRIDE(array, 1) != item)
            or (rows > 1 and cnp.PyArray_STRIDE(array, 0) % item)):
        raise ValueError(f"{name} must be ({rows}, {columns}) with neighbouring columns, "
                         f"got {(<object>array).dtype} {(<object>array).shape}")
    row[0] = cnp.PyArray_STRIDE(array, 0) // item
    return array


cdef Py_ssize_t padded(Py_ssize_t columns, Py_ssize_t item) noexcept nogil:
    """A stride for rows: whole cache lines, and no multiple of 512 bytes, at which rows would
    compete for the same few sets of the cache."""
    cdef Py_ssize_t line = 64 // item, lines = (columns + line - 1) // line
    return (lines + (lines % 8 == 0)) * line


cdef class Scan:
    """One run of a cell over all steps, which is also the tape of its adjoint.

    Takes what :class:`fastrnn.backends.runs.Run` has.

    Buffers, with N packed rows and S slots, where a tape is kept. Without one, the gates have the
    rows of a chunk of steps, the states those of two steps, the extra operand those of one::

        gates  (N, S, H)   input product, then activations, in the adjoint gradients in place
        state  (N, width)  each state before each step
        extra  (N, H)      operand of a second stage
    """
    cdef Run run
    cdef list owners
    cdef list panels            # packed weights of the forward run
    cdef object x, out
    cdef tuple initial
    cdef dict weights
    cdef char *bias_ih
    cdef char *bias_hh
    cdef Block workspace
    cdef Py_ssize_t scratch     # bytes of its other buffers
    cdef int typenum
    cdef bint used
    # Of a run that is prepared: its number of threads, 0 where there is nothing to run; whether the
    # other direction runs at the same time; and its results.
    cdef int n_threads
    cdef bint together
    cdef tuple states
    cdef dict gradients
    cdef object d_x, d_vectors

    def __cinit__(self, object cell, dict weights, object x, object offsets, tuple state,
                  object out, bint reverse=False, bint keep_tape=False, object extras=None):
        cdef Run *r = &self.run
        cdef cnp.ndarray array
        cdef int k
        memset(r, 0, sizeof(Run))
        array = matrix("weight_ih", weights["weight_ih"])
        self.typenum = cnp.PyArray_TYPE(array)
        if self.typenum not in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE):
            raise TypeError(f"weights must be float32 or float64, got {array.dtype}")
        r.item = cnp.PyArray_ITEMSIZE(array)
        r.kernels = active(r.item)
        r.cell = cell_named(r.kernels, cell.name)
        self.owners = []
        self.panels = []
        self.weights = weights
        self.initial = state
        check_number("state", r.cell.states, len(state))
        self.find_sizes(x, offsets, state)
        r.reverse = reverse
        r.keep = keep_tape
        r.stop_at = r.T + 1
        self.find_input(x)
        array = strided("out", out, self.typenum, r.N, r.P, &r.out_row)
        r.out = data(array)
        self.out = out
        for k in range(r.cell.states):
            r.width[k] = r.P if k == 0 else r.H
            r.state_row[k] = padded(r.width[k], r.item)
            array = checked("state", state[k], self.typenum, r.B, r.width[k])
            r.initial[k] = data(array)
        r.gates_row = padded(r.cell.slots * r.H, r.item)
        r.extra_row = padded(r.H, r.item)
        self.find_weights()
        self.find_biases()
        self.find_vectors()
        r.cell_clip = INFINITY
        if extras is not None:
            self.find_extras(extras)

    cdef int find_sizes(self, object x, object offsets, tuple state) except -1:
        cdef Run *r = &self.run
        cdef cnp.ndarray steps = checked("offsets", offsets, cnp.NPY_INT64, len(offsets), -1)
        cdef cnp.ndarray weight = self.weights["weight_ih"], h = matrix("state", state[0])
        cdef int64_t t, previous, size
        r.T = len(offsets) - 1
        r.offsets = <const int64_t *>data(steps)
        self.owners.append(steps)
        r.N = len(x)
        r.inputs = weight.shape[1]
        r.H = weight.shape[0] // r.cell.gates
        r.B = h.shape[0]
        r.P = h.shape[1]
        previous = r.B
        for t in range(r.T):
            size = r.offsets[t + 1] - r.offsets[t]
            if size < 0 or size > previous:
                raise ValueError("offsets must have steps that never grow")
            previous = size
        if r.T < 0 or r.offsets[0] != 0 or r.offsets[r.T] != r.N:
            raise ValueError(f"offsets must run from 0 to {r.N}")
        if max(r.cell.slots * r.H, r.inputs) >= 2**31:
            raise OverflowError("hidden_size and input_size must stay below 2**31 / slots")
        return 0

    cdef int find_input(self, object x) except -1:
        cdef Run *r = &self.run
        cdef Py_ssize_t n
        if cnp.PyArray_Check(x) and cnp.PyArray_NDIM(x) == 2:
            r.x = data(checked("x", x, self.typenum, r.N, r.inputs))
            self.x = x
            return 0
        r.ids = <const int64_t *>self.own(checked("ids", x, cnp.NPY_INT64, r.N, -1))
        r.symbols = r.inputs
        table = self.weights.get("embedding")
        if table is not None:
            r.symbols = len(table)
            r.table = self.own(checked("embedding", table, self.typenum, r.symbols, r.inputs))
        for n in range(r.N):
            if r.ids[n] < 0 or r.ids[n] >= r.symbols:
                raise ValueError(f"ids must be in 0..{r.symbols - 1}, got {r.ids[n]}")
        if r.symbols <= r.N:
            r.table_product = self.new(r.symbols, r.cell.gates * r.H)
        elif table is not None:
            r.x = self.own(table.take(x, axis=0))
        return 0

    cdef int find_weights(self) except -1:
        cdef Run *r = &self.run
        cdef const fr_stage *stage
        cdef StageWeights *w
        cdef int k
        r.weight_ih = self.weight("weight_ih", r.cell.gates * r.H, r.inputs)
        for k in range(r.cell.stages):
            stage = &r.cell.stage[k]
            w = &r.stage[k]
            w.units = r.P if stage.weight == FR_WEIGHT_HR else r.H
            w.depth = w.row = r.H if stage.operand == FR_OPERAND_EXTRA else r.P
            if stage.weight == FR_WEIGHT_HR:
                w.weight = self.weight("weight_hr", r.P, r.H)
            else:
                w.weight = self.weight("weight_hh", r.cell.gates * r.H, w.depth)
                w.weight += stage.first_gate * r.H * w.depth * r.item
            w.given = w.weight
        if r.P != r.H and not is_projected(r.cell):
            raise ValueError(f"state must be ({r.B}, {r.H}), got ({r.B}, {r.P})")
        return 0

    cdef int find_biases(self) except -1:
        cdef Run *r = &self.run
        cdef Py_ssize_t rows = r.cell.gates * r.H
        if "bias_ih" in self.weights:
            self.bias_ih = self.weight("bias_ih", rows, -1)
            self.bias_hh = self.weight("bias_hh", rows, -1)
            r.bias = self.new(r.cell.slots, r.H)
        return 0

    cdef int allocate_copies(self) except -1:
        """Make room for copies of weights that the steps of one sequence read again and again.

        Rows of the copy begin at a line of the cache: a vector that crosses into the next line
        costs two reads. The product with a transposed copy need not sum the lanes of its vectors
        (Zen 5, LSTM with 64 units: 0.31 to 0.22 us a step; with 96, more than L1 keeps, nothing is
        gained).
        """
        cdef Run *r = &self.run
        cdef StageWeights *w
        cdef Py_ssize_t rows
        cdef int k
        for k in range(r.cell.stages):
            w = &r.stage[k]
            rows = r.cell.stage[k].gates * w.units
            if rows * w.depth * r.item <= MOST_TRANSPOSED:
                w.transposed_row = padded(rows, r.item)
                w.transposed = self.new(w.depth, w.transposed_row)
            if w.depth * r.item % 64 != 0 and (r.keep or w.transposed == NULL):
                w.row = padded(w.depth, r.item)
                w.weight = self.new(rows, w.row)
        return 0

    cdef void fill_copies(self) noexcept:
        """Bring the copies of the parameters up to date."""
        cdef Run *r = &self.run
        cdef const fr_stage *stage
        cdef const StageWeights *w
        cdef Py_ssize_t rows, row, slot = r.H * r.item
        cdef int k, g
        if r.bias != NULL:
            # Laid out by slots; where the two products share a slot, their biases are added.
            memset(r.bias, 0, r.cell.slots * slot)
            memcpy(r.bias, self.bias_ih, r.cell.gates * slot)
        for k in range(r.cell.stages):
            stage = &r.cell.stage[k]
            w = &r.stage[k]
            rows = stage.gates * w.units
            if w.transposed != NULL:
                r.kernels.transpose(rows, w.depth, w.given, w.depth, w.transposed,
                                    w.transposed_row)
            if w.weight != w.given:
                for row in range(rows):
                    memcpy(w.weight + row * w.row * r.item, w.given + row * w.depth * r.item,
                           w.depth * r.item)
            if r.bias != NULL and stage.weight != FR_WEIGHT_HR:
                for g in range(stage.gates):
                    r.kernels.add_column_sums(1, r.H, self.bias_hh + (stage.first_gate + g) * slot,
                                              0, r.bias + stage.slot[g] * slot)

    cdef int allocate_packed_input(self) except -1:
        """Make room for the packed input weight."""
        cdef Run *r = &self.run
        cdef Py_ssize_t tile = r.kernels.tile_cols
        r.panel_ih = r.inputs * tile
        r.packed_ih = self.new_panels((r.cell.gates * r.H + tile - 1) // tile, r.panel_ih)
        return 0

    cdef int pack_input_once(self) except -1:
        """Have the input weight packed before it is used, not block by block each time."""
        if self.run.workspace != NULL:
            self.allocate_packed_input()
            self.workspace = None
            self.run.workspace = NULL
        return 0

    cdef int find_vectors(self) except -1:
        """Find the cell's own parameters; one that the layer does not have is zero."""
        cdef Run *r = &self.run
        cdef Py_ssize_t size
        cdef int v
        for v in range(vectors_of(r.cell)):
            name = r.cell.vector[v].name.decode()
            size = r.cell.vector[v].blocks * r.H
            r.vector_size += size
            array = self.weights.get(name)
            if array is None:
                array = np.zeros(size, element_type(self.typenum))
            r.vector[v] = self.own(checked(name, array, self.typenum, size, -1))
        return 0

    cdef int find_extras(self, object extras) except -1:
        cdef Run *r = &self.run
        cdef Py_ssize_t rows
        cdef int k
        r.cell_clip = extras.cell_clip
        if extras.recurrent_mask is not None:
            r.recurrent_mask = self.own(
                checked("recurrent_mask", extras.recurrent_mask, self.typenum, r.B, r.P))
        if extras.zoneout is None:
            return 0
        check_number("zoneout", r.cell.states, len(extras.zoneout))
        for k in range(r.cell.states):
            rows = 1 if len(extras.zoneout[k]) == 1 else r.N
            r.zoneout_row[k] = 0 if rows == 1 else r.width[k]
            r.zoneout[k] = self.own(
                checked("zoneout", extras.zoneout[k], self.typenum, rows, r.width[k]))
        return 0

    cdef char *own(self, cnp.ndarray array) except? NULL:
        """Keep the array alive with this object; return its memory."""
        self.owners.append(array)
        return data(array)

    cdef char *weight(self, str name, Py_ssize_t rows, Py_ssize_t columns) except? NULL:
        return self.own(checked(name, self.weights[name], self.typenum, rows, columns))

    cdef char *new(self, Py_ssize_t rows, Py_ssize_t columns) except? NULL:
        """New memory for (rows, columns) elements, at a multiple of 64 bytes."""
        cdef Block block = allocate(rows * columns * self.run.item)
        self.owners.append(block)
        self.scratch += rows * columns * self.run.item
        return block.start

    cdef char *new_panels(self, Py_ssize_t count, Py_ssize_t size) except? NULL:
        cdef char *start = self.new(count, size)
        self.panels.append(self.owners.pop())
        return start

    cdef int allocate_workspace(self, int count) except -1:
        self.workspace = allocate(count * FR_WORKSPACE)
        self.run.workspace = self.workspace.start
        return 0

    cdef int choose_threads(self, double work, int most, bint backwards):
        """Return the number of threads and set what they divide; both depend on sizes alone."""
        cdef Run *r = &self.run
        cdef int size = <int>min(<double>most, 1 + work / FLOPS_A_THREAD)
        cdef double step
        cdef Py_ssize_t weight = r.cell.gates * r.H * r.P * r.item
        cdef bint few = r.B < 2 * size
        if weight >= LARGE_WEIGHT:
            few = r.B <= ROWS_PAST_L2 * size
        elif weight >= LARGE_FOR_UNITS:
            few = r.B <= ROWS_FOR_UNITS * size
        if r.cell.whole_rows:
            size = <int>min(<double>size, <double>r.B)
        r.split_units = few and not r.cell.whole_rows
        if r.split_units:
            step = 2. * r.B * r.cell.gates * r.H * r.P
            if work < FLOPS_A_THREAD_OF_FEW or (backwards and step < FLOPS_A_STEP_BACK):
                size = 1
            size = <int>min(<double>size, step / FLOPS_A_BARRIER)
            size = min(size, <int>((r.H + r.kernels.tile_cols - 1) // r.kernels.tile_cols))
        size = max(1, size)
        cdef Py_ssize_t rows = ROWS_A_STEP
        if r.cell.gates * r.H * r.inputs * r.item > LARGE_WEIGHT:
            rows *= 2
        r.hoist = r.split_units or not packs_weights(r) or r.N < rows * size * r.T
        r.follow = size == 1 and most > 1 and r.hoist and work >= FLOPS_A_THREAD_OF_FEW
        r.split_units = r.split_units and size > 1
        return size

    cdef double flops_of_input(self):
        cdef Run *r = &self.run
        return 0 if r.x == NULL else 2. * r.N * r.cell.gates * r.H * r.inputs

    cdef double flops(self):
        cdef Run *r = &self.run
        return self.flops_of_input() + 2. * r.N * r.cell.gates * r.H * r.P

    cdef int prepare_forward(self, int most) except -1:
        cdef Run *r = &self.run
        cdef StageWeights *w
        cdef Py_ssize_t tile = r.kernels.tile_cols, rows
        cdef int k
        final = []
        for k in range(r.cell.states):
            rows = r.N if r.keep else 2 * r.B
            r.state[k] = self.new(rows, r.state_row[k])
            array = cnp.PyArray_NewCopy(self.initial[k], cnp.NPY_CORDER)
            r.final[k] = data(array)
            final.append(array)
        self.states = tuple(final)
        self.n_threads = 0
        if r.N == 0:
            return 0
        self.n_threads = self.choose_threads(self.flops(), most, False)
        # No thread follows the forward loop, but a second one may share the input product.
        r.follow = r.follow and self.flops_of_input() >= 2 * FLOPS_A_THREAD
        r.chunk_rows = r.N
        if not r.keep:
            r.chunk_rows = min(r.N, max(r.B, CHUNK_ROWS)) if r.hoist else r.B
        r.gates = self.new(r.chunk_rows, r.gates_row)
        if r.cell.stages > 1:
            r.extra = self.new(r.N if r.keep else r.B, r.extra_row)
        if r.recurrent_mask != NULL:
            r.masked = self.new(r.N if r.keep else r.B, r.state_row[0])
        if r.hoist and r.x != NULL and r.N > fr_few_rows(r.inputs):
            self.allocate_workspace(self.n_threads + r.follow)
        elif r.x != NULL and not r.hoist:
            self.allocate_packed_input()
        if packs_weights(r):
            for k in range(r.cell.stages):
                w = &r.stage[k]
                w.forward_panel = w.depth * tile
                w.gate_panels = (w.units + tile - 1) // tile
                w.forward = self.new_panels(r.cell.stage[k].gates * w.gate_panels,
                                            w.forward_panel)
        elif r.B == 1 and r.T >= STEPS_TO_COPY:
            self.allocate_copies()
        self.fill_copies()
        return 0

    cdef tuple finish_forward(self):
        if not self.run.keep:
            return self.states, None
        final = self.states
        self.become_tape()
        return final, self

    cdef void become_tape(self):
        """Free what the adjoint does not read: a cell called step by step has many tapes."""
        cdef int k
        self.panels.clear()
        self.initial = self.states = self.out = self.workspace = None
        self.run.packed_ih = self.run.workspace = NULL
        for k in range(self.run.cell.stages):
            self.run.stage[k].forward = NULL

    cdef int prepare_adjoint(self, object d_out, tuple d_final, dict gradients,
                             bint input_gradient, int most) except -1:
        cdef Run *r = &self.run
        cdef cnp.npy_intp sizes[2]
        cdef int k
        if self.used or not r.keep:
            raise RuntimeError("a tape can be used once")
        if d_final is not None:
            check_number("d_state", r.cell.states, len(d_final))
        r.d_out = NULL
        if d_out is not None:
            array = strided("d_out", d_out, self.typenum, r.N, r.P, &r.d_out_row)
            r.d_out = data(array)
        d_initial = []
        for k in range(r.cell.states):
            sizes[0], sizes[1] = r.B, r.state_row[k]
            d_state = cnp.PyArray_ZEROS(2, sizes, self.typenum, 0)
            if d_final is not None and d_final[k] is not None:
                d_state[:, :r.width[k]] = checked("d_state", d_final[k], self.typenum, r.B,
                                                  r.width[k])
            r.d_state[k] = data(d_state)
            d_initial.append(d_state[:, :r.width[k]])
        d_x = None
        if r.x != NULL and (input_gradient or r.ids != NULL):
            sizes[0], sizes[1] = r.N, r.inputs
            d_x = new_array(2, sizes, self.typenum)
            r.d_x = data(d_x)
        self.find_gradients(gradients)
        self.used = True
        self.states = tuple(d_initial)
        self.gradients = gradients
        self.d_x = d_x
        self.n_threads = 0
        if r.N > 0:
            self.n_threads = self.choose_threads(2 * self.flops(), most, True)
            self.allocate_adjoint()
        r.stop_at = r.T + 1
        return 0

    cdef int find_gradients(self, dict gradients) except -1:
        """Look up where the gradients of the weights are added."""
        cdef Run *r = &self.run
        cdef const fr_stage *stage
        cdef StageWeights *w
        cdef Py_ssize_t rows = r.cell.gates * r.H
        cdef int k
        if r.table != NULL:
            r.d_table = self.gradient("embedding", gradients, r.symbols, r.inputs)
        r.d_weight_ih = self.gradient("weight_ih", gradients, rows, r.inputs)
        if r.bias != NULL:
            r.d_bias_ih = self.gradient("bias_ih", gradients, rows, -1)
        for k in range(r.cell.stages):
            stage = &r.cell.stage[k]
            w = &r.stage[k]
            if stage.weight == FR_WEIGHT_HR:
                r.d_stage_weight[k] = self.gradient("weight_hr", gradients, r.P, r.H)
                continue
            r.d_stage_weight[k] = self.gradient("weight_hh", gradients, rows, w.depth)
            r.d_stage_weight[k] += stage.first_gate * r.H * w.depth * r.item
            if r.bias != NULL:
                r.d_stage_bias[k] = self.gradient("bias_hh", gradients, rows, -1)
                r.d_stage_bias[k] += stage.first_gate * r.H * r.item
        return 0

    cdef char *gradient(self, str name, dict gradients, Py_ssize_t rows,
                        Py_ssize_t columns) except? NULL:
        return writable(name, checked(name, gradients[name], self.typenum, rows, columns))

    cdef int allocate_adjoint(self) except -1:
        """Lay out what the adjoint needs besides the tape."""
        cdef Run *r = &self.run
        cdef StageWeights *w
        cdef Py_ssize_t tile = r.kernels.tile_cols
        cdef int k
        if r.table_product != NULL:
            r.d_table_product = self.new(r.symbols, r.cell.gates * r.H)
        if r.cell.stages > 1:
            r.d_extra = self.new(r.B, r.extra_row)
        if r.recurrent_mask != NULL:
            r.d_masked = self.new(r.B, r.state_row[0])
        if r.zoneout[0] != NULL:
            for k in range(r.cell.states):
                r.d_kept[k] = self.new(r.B, r.state_row[k])
        if packs_weights(r):
            for k in range(r.cell.stages):
                w = &r.stage[k]
                w.adjoint_panel = r.cell.stage[k].gates * w.units * tile
                w.adjoint = self.new((w.depth + tile - 1) // tile, w.adjoint_panel)
        r.packed_ih = NULL
        if r.d_x != NULL and not r.hoist:
            r.panel_ih = r.cell.gates * r.H * tile
            r.packed_ih = self.new((r.inputs + tile - 1) // tile, r.panel_ih)
        self.allocate_workspace(3 if r.follow else self.n_threads)
        if r.vector_size > 0:
            shape = (2 * self.n_threads, r.vector_size)
            self.d_vectors = np.zeros(shape, element_type(self.typenum))
            r.d_vectors = data(self.d_vectors)
        return 0

    cdef tuple finish_adjoint(self):
        cdef Run *r = &self.run
        cdef Py_ssize_t n
        if r.vector_size > 0 and self.n_threads > 0:
            self.add_vector_gradients(self.d_vectors.sum(axis=0), self.gradients)
        if r.ids != NULL:
            if r.d_x != NULL:
                for n in range(r.N):
                    r.kernels.add_column_sums(1, r.inputs, r.d_x + n * r.inputs * r.item, 0,
                                              r.d_table + r.ids[n] * r.inputs * r.item)
            return None, self.states
        return self.d_x, self.states

    cdef int add_vector_gradients(self, object total, dict gradients) except -1:
        cdef Py_ssize_t start = 0, size
        cdef int v
        for v in range(vectors_of(self.run.cell)):
            name = self.run.cell.vector[v].name.decode()
            size = self.run.cell.vector[v].blocks * self.run.H
            if name in gradients:
                array = checked(name, gradients[name], self.typenum, size, -1)
                array += total[start:start + size]
            start += size
        return 0


cdef object element_type(int typenum):
    return np.float32 if typenum == cnp.NPY_FLOAT else np.float64


# ------------------------------------------------------------------------- one scan, or two at once

cdef struct Task:
    Run *run
    int n_threads
    bint backwards


cdef void run_task(void *context, int i, int tasks, int rank) noexcept nogil:
    cdef Task *task = <Task *>context + i
    if task.n_threads > 0 and task.backwards:
        run_adjoint(task.run, task.n_threads)
    elif task.n_threads > 0:
        run_forward(task.run, task.n_threads)


cdef int run_prepared(list scans, bint backwards) except -1:
    """Run one scan, or two at the same time."""
    cdef Task tasks[2]
    cdef Scan scan
    cdef int i, count = len(scans)
    cdef bint calls_blas = False
    for i in range(count):
        scan = scans[i]
        tasks[i].run = &scan.run
        tasks[i].n_threads = scan.n_threads
        tasks[i].backwards = backwards
        calls_blas |= scan.run.table != NULL and scan.run.table_product != NULL
    if count == 2:
        tasks[0].run.other = tasks[1].run
        tasks[1].run.other = tasks[0].run
    if calls_blas:
        use_one_thread()
    with nogil:
        for_each(count, count, run_task, tasks)
    if calls_blas:
        restore_threads()
    for i in range(count):
        tasks[i].run.other = NULL
    if tasks[0].run.stopped:
        reraise()
    return 0


cdef bint are_better_together(list scans, bint backwards, int most):
    """Whether two scans are faster on a thread each than one after the other on all threads.

    Scans of ids never are: both may add into the gradient of one table.
    """
    if len(scans) != 2 or most == 1:
        return False
    cdef Scan first = scans[0], second = scans[1]
    cdef double work = (1 + backwards) * min(first.flops(), second.flops())
    if work < FLOPS_TOGETHER or first.run.x == NULL or second.run.x == NULL:
        return False
    return first.choose_threads(work, most, backwards) <= 2


cdef int threads_of(object most_threads) except -1:
    """How many threads a call may use."""
    return thread_count() if most_threads is None else min(thread_count(), <int>most_threads)


def scans(list runs not None, most_threads=None):
    """Run a cell over all steps, for each run; see :func:`fastrnn.backends.reference.scans`."""
    cdef Scan scan
    cdef int most = threads_of(most_threads)
    cdef bint together = are_better_together(runs, False, most)
    for scan in runs:
        scan.together = together
        scan.prepare_forward(1 if together else most)
        if not together:
            run_prepared([scan], False)
    if together:
        run_prepared(runs, False)
    return [scan.finish_forward() for scan in runs]


def scan_adjoints(list tapes not None, list runs not None, most_threads=None):
    """Run the adjoints of `scans`; see :func:`fastrnn.backends.reference.scan_adjoints`."""
    cdef Scan scan
    cdef int most = threads_of(most_threads)
    cdef bint together = are_better_together(tapes, True, most)
    cdef list results = []
    for scan, (d_out, d_final, gradients, input_gradient) in zip(tapes, runs):
        scan.prepare_adjoint(d_out, d_final, gradients, input_gradient,
                             1 if together else most)
        if not together:
            run_prepared([scan], True)
    if together:
        run_prepared(tapes, True)
    for scan in tapes:
        results.append(scan.finish_adjoint())
    return results


# ------------------------------------------------------------------------------------- replays

cdef class Replay:
    """Inference of a stack of layers, repeated on other inputs of the same shape.

    What a call checks and allocates before it computes is kept. For a small call that is most of
    the time (Zen 5, one unit and one step: 5.7 to 1.0 us). Small weights are packed again only
    where they have changed since the call before (RNN with 100 units, B1 T25: 14.7 to 9.8 us; if
    they were never packed again, 8.4).

    One thread at a time computes in it. Others take the next one of a chain of them, which grows
    where all are in use. The GIL guards `running` and `spare`; in builds of Python without it, the
    critical section of this object does.
    """
    cdef const fr_kernels *kernels
    cdef list groups
    cdef cnp.ndarray values
    cdef Block seen             # small weights as they were packed last; None where they are large
    cdef tuple x_shape, output_shape, state_shapes, zeros
    cdef int typenum, threads
    cdef bint running, has_seen, swaps_axes
    cdef Replay spare

    def run(self, object x, object state, object values):
        """Return ``(output, state)``, or None where this call is not like the first.

        Parameters
        ----------
        x, state : object
            As the caller of a layer gives them.
        values : ndarray
            The one that `replay` got, where the weights have not moved.
        """
        cdef Scan scan
        cdef tuple given = self.zeros
        if state is not None and len(self.state_shapes) == 1:
            given = (state,)
        elif type(state) is tuple or type(state) is list:
            given = tuple(state)  # a list may change during the call
        elif state is not None:
            return None
        if (values is not self.values or self.threads != thread_count()
                or self.kernels != active(cnp.PyArray_ITEMSIZE(self.values))
                or not self.is_plain(x, self.x_shape) or not self.are_plain(given)):
            return None
        cdef cnp.ndarray rows = x, output = new_of_shape(self.output_shape, self.typenum)
        if self.swaps_axes:
            rows = np.ascontiguousarray(cnp.PyArray_SwapAxes(rows, 0, 1))
        cdef tuple final = tuple([new_of_shape(s, self.typenum) for s in self.state_shapes])
        cdef Replay free = self.take()
        cdef bint complete = False
        if free is None:
            return None
        try:
            free.aim(rows, given, output, final)
            for group in free.groups:
                scan = group[0]
                if scan.together:
                    run_prepared(group, False)
                else:
                    for scan in group:
                        run_prepared([scan], False)
            complete = True
        finally:
            free.give_back(complete)
        if self.swaps_axes:
            output = cnp.PyArray_SwapAxes(output, 0, 1)
        return output, final[0] if len(final) == 1 else final

    cdef Replay take(self):
        """The first of the chain that no thread uses, now this one's; None if there is none."""
        cdef Replay following
        with cython.critical_section(self):
            following = self.spare
            if not self.running:
                self.running = True
                return self
        return None if following is None else following.take()

    cdef void give_back(self, bint complete) noexcept:
        cdef Scan scan
        if not complete:  # interrupted, and perhaps while weights were packed
            self.has_seen = False
            for group in self.groups:
                for scan in group:
                    scan.run.stop_at = scan.run.T + 1
                    scan.run.stopped = False
        with cython.critical_section(self):
            self.running = False

    cdef int add(self, Replay another, int most) except -1:
        """Put another at the end of the chain, where it is not longer than `most`."""
        cdef Replay following
        with cython.critical_section(self):
            following = self.spare
            if following is None:
                self.spare = another
        if following is not None and most > 1:
            following.add(another, most - 1)
        return 0

    cdef bint is_like(self, Replay another):
        """Whether both are for the same calls."""
        return (self.values is another.values and self.kernels == another.kernels
                and self.threads == another.threads and self.swaps_axes == another.swaps_axes
                and self.x_shape == another.x_shape and self.output_shape == another.output_shape
                and self.state_shapes == another.state_shapes)

    cdef bint is_plain(self, object value, tuple shape):
        """Whether it is an array like that of the first call, to be read as it is."""
        cdef int axis
        if (not cnp.PyArray_CheckExact(value) or cnp.PyArray_TYPE(value) != self.typenum
                or not cnp.PyArray_ISCARRAY_RO(value) or cnp.PyArray_NDIM(value) != len(shape)):
            return False
        for axis in range(len(shape)):
            if cnp.PyArray_DIM(value, axis) != <Py_ssize_t>shape[axis]:
                return False
        return True

    cdef bint are_plain(self, tuple given):
        cdef Py_ssize_t k
        if len(given) != len(self.state_shapes):
            return False
        for k in range(len(self.state_shapes)):
            if not self.is_plain(given[k], self.state_shapes[k]):
                return False
        return True

    cdef int aim(self, cnp.ndarray rows, tuple given, cnp.ndarray output, tuple final) except -1:
        """Point the scans at the arrays of a call."""
        cdef Run *r
        cdef Scan scan
        cdef list group
        cdef Py_ssize_t place = 0, i, direction, start
        cdef bint unchanged = self.weights_are_unchanged()
        cdef int k
        for i in range(len(self.groups)):
            group = self.groups[i]
            for direction in range(len(group)):
                scan = group[direction]
                r = &scan.run
                if i == 0:
                    r.x = data(rows)
                if i == len(self.groups) - 1:
                    r.out = data(output) + direction * r.P * r.item
                for k in range(r.cell.states):
                    start = place * r.B * r.width[k] * r.item
                    r.initial[k] = data(given[k]) + start
                    r.final[k] = data(final[k]) + start
                if not unchanged:
                    scan.fill_copies()
                r.weights_packed = unchanged
                place += 1
        return 0

    cdef bint weights_are_unchanged(self):
        """Whether the weights are those that were packed last; remembers them if not."""
        if self.seen is None:
            return False
        cdef size_t size = cnp.PyArray_NBYTES(self.values)
        if self.has_seen and memcmp(self.seen.start, data(self.values), size) == 0:
            return True
        memcpy(self.seen.start, data(self.values), size)
        self.has_seen = True
        return False

    cdef int read_copies(self) except -1:
        """Make the scans read small weights from the copy that later calls are compared with.

        Nobody else can change it."""
        cdef Run *r
        cdef Scan scan
        cdef StageWeights *w
        cdef int k
        self.seen = allocate(cnp.PyArray_NBYTES(self.values))
        for group in self.groups:
            for scan in group:
                scan.pack_input_once()
                r = &scan.run
                r.weight_ih = self.copy_of(r.weight_ih)
                scan.bias_ih = self.copy_of(scan.bias_ih)
                scan.bias_hh = self.copy_of(scan.bias_hh)
                for k in range(r.cell.stages):
                    w = &r.stage[k]
                    w.weight = self.copy_of(w.weight)
                    w.given = self.copy_of(w.given)
                for k in range(vectors_of(r.cell)):
                    r.vector[k] = self.copy_of(r.vector[k])
        return 0

    cdef char *copy_of(self, char *parameter) noexcept:
        """The address of the copy of a parameter; any other address unchanged."""
        cdef char *start = data(self.values)
        if start <= parameter < start + cnp.PyArray_NBYTES(self.values):
            return self.seen.start + (parameter - start)
        return parameter


def replay(list groups not None, cnp.ndarray values not None, tuple x_shape not None,
           tuple output_shape not None, tuple state_shapes not None, bint swaps_axes,
           Replay before=None):
    """Return a `Replay` of runs, or None; see :func:`fastrnn.backends.reference.replay`."""
    cdef Scan scan
    cdef Run *r
    cdef Py_ssize_t scratch = 0, i, last = len(groups) - 1
    cdef Replay again = Replay.__new__(Replay)
    cdef Replay free
    again.groups = groups
    again.values = values
    if cnp.PyArray_NBYTES(values) <= MOST_COMPARED:
        again.read_copies()
    for i in range(last + 1):
        for scan in groups[i]:
            r = &scan.run
            scratch += scan.scratch + (0 if scan.workspace is None else scan.workspace.size)
            # The caller has these arrays, and may change them.
            scan.initial = scan.states = None
            if i == 0:
                scan.x = None
            if i == last:
                scan.out = None
            else:
                scratch += r.N * r.P * r.item
            again.kernels = r.kernels
            again.typenum = scan.typenum
    if scratch > MOST_KEPT:
        return None
    again.x_shape = x_shape
    again.output_shape = output_shape
    if swaps_axes:
        again.output_shape = output_shape[1], output_shape[0], output_shape[2]
    again.swaps_axes = swaps_axes
    again.state_shapes = state_shapes
    again.threads = thread_count()
    again.zeros = tuple([np.zeros(shape, values.dtype) for shape in state_shapes])
    if before is None or not before.is_like(again):
        return again
    free = before.take()
    if free is None:
        before.add(again, MOST_SPARES)
    else:  # it was free, but not for the call, as where that one's input had to be cast
        free.give_back(True)
    return before
