"""One time step of a stack of layers, with the states kept in place.

With few rows a step is bound by reading the weights, so they are read as they are: nothing is
packed, and a weight that was changed in place is in effect at once. Threads divide the units of
large layers.
"""
cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject
from libc.math cimport INFINITY
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from fastrnn._core.arrays cimport check_number, checked, data, matrix
from fastrnn._core.kernels cimport (
    FR_MAX_STATES,
    FR_MAX_VECTORS,
    FR_OPERAND_EXTRA,
    FR_WEIGHT_HR,
    active,
    barrier,
    cell_named,
    fr_cell,
    fr_frame,
    fr_kernels,
    fr_stage,
    fr_team,
    fr_term,
    fr_thin,
    fr_zoneout,
    flush_denormals,
    is_projected,
    parallel,
    range_of,
    restore_denormals,
    thread_count,
    vectors_of,
)
from fastrnn._core.memory cimport Block, allocate

import os

import numpy as np

cnp.import_array()

# Steps with less work than this, some 10 us, keep the GIL, which costs 0.1 us to release and take.
cdef double FLOPS_WITHOUT_GIL = 5e5
# Work that is worth a second thread, some 100 us: one that sleeps takes 50 us to wake.
cdef double FLOPS_A_THREAD = 4e6
# Threads divide units in whole cache lines.
cdef Py_ssize_t UNITS = 16

# A call marks its stream with this number. A child of fork() has another one, as the calls that the
# parent's other threads were in never end there.
cdef int process = 1


def count_fork():
    """Tell the calls of a child of fork() from those of its parent's threads."""
    global process
    process += 1


os.register_at_fork(after_in_child=count_fork)

cdef extern from *:
    """
    /* Whether the reference that the caller owns is the only one. Without the interpreter's lock
       that takes Python 3.14 to say. */
    #ifndef Py_GIL_DISABLED
    #define fr_sole_reference(object) (Py_REFCNT(object) == 1)
    #elif PY_VERSION_HEX >= 0x030E0000
    #define fr_sole_reference(object) PyUnstable_Object_IsUniquelyReferenced(object)
    #else
    #define fr_sole_reference(object) 0
    #endif
    """
    bint fr_sole_reference(PyObject *)


cdef struct Layer:
    Py_ssize_t inputs
    char *weight_ih
    char *weight_hh
    char *weight_hr
    char *bias_ih               # NULL without biases
    char *bias_hh
    char *x                     # (B, inputs)
    fr_frame frame              # of all units; without `out` the next layer reads the state


cdef struct Stack:
    # What threads read.
    const fr_kernels *kernels
    const fr_cell *cell
    Layer *layers
    Py_ssize_t n_layers, B, H, P, item
    Py_ssize_t width[FR_MAX_STATES]
    bint descending
    char *gates                 # (B, slots, H)
    char *extra                 # (B, H), operand of a second stage
    char *zoneout[FR_MAX_STATES]  # masks (width,), or NULL
    char *before[FR_MAX_STATES]  # the states of all rows before the step, with zoneout


cdef void step_work(void *context, int rank, int size, fr_team *team) noexcept nogil:
    """The rank's units of a step of all layers."""
    cdef const Stack *s = <const Stack *>context
    cdef Py_ssize_t n
    for n in range(s.n_layers):
        run_layer(s, &s.layers[n], rank, size, team)


cdef void run_layer(const Stack *s, const Layer *layer, int rank, int size,
                    fr_team *team) noexcept nogil:
    cdef const fr_stage *stage
    cdef Py_ssize_t low, high
    cdef int k
    if s.zoneout[0] != NULL:
        keep_states(s, layer, rank, size)
    for k in range(s.cell.stages):
        stage = &s.cell.stage[k]
        range_of(s.P if stage.weight == FR_WEIGHT_HR else s.H, UNITS, rank, size, &low, &high)
        products(s, layer, stage, low, high)
        # States are advanced in place, once all have read them.
        if size > 1:
            barrier(team)
        pointwise(s, layer, stage, low, high)
        if k == s.cell.stages - 1 and s.zoneout[0] != NULL:
            zone_out(s, layer, rank, size)
        if size > 1:
            barrier(team)


cdef void pointwise(const Stack *s, const Layer *layer, const fr_stage *stage, Py_ssize_t low,
                    Py_ssize_t high) noexcept nogil:
    """The stage's pointwise function on some units of all rows."""
    cdef fr_frame part
    cdef const fr_frame *frame = &layer.frame
    if high - low < layer.frame.units:
        part = units_of(frame, s.cell, low, high, s.item)
        frame = &part
    stage.forward(frame)


cdef fr_frame units_of(const fr_frame *all_units, const fr_cell *cell, Py_ssize_t low,
                       Py_ssize_t high, Py_ssize_t item) noexcept nogil:
    """The frame of some of the units."""
    cdef fr_frame f = all_units[0]
    cdef int j
    f.units = high - low
    f.gates = <char *>f.gates + low * item
    f.extra = <char *>f.extra + low * item
    for j in range(cell.states):
        f.next[j] = <char *>f.next[j] + low * item
        f.state[j] = f.next[j]
    if f.out != NULL:
        f.out = <char *>f.out + low * item
    for j in range(FR_MAX_VECTORS):
        if f.vector[j] != NULL:
            f.vector[j] = <const char *>f.vector[j] + low * item
    return f


cdef void keep_states(const Stack *s, const Layer *layer, int rank, int size) noexcept nogil:
    """Copy the rank's units of the states before a step."""
    cdef Py_ssize_t row, low, high, start
    cdef int j
    for j in range(s.cell.states):
        range_of(s.width[j], UNITS, rank, size, &low, &high)
        for row in range(s.B):
            start = (row * s.width[j] + low) * s.item
            memcpy(s.before[j] + start, <char *>layer.frame.next[j] + start, (high - low) * s.item)


cdef void zone_out(const Stack *s, const Layer *layer, int rank, int size) noexcept nogil:
    """Zoneout of the rank's units of the states, which are the expected ones."""
    cdef Py_ssize_t low, high, start
    cdef fr_zoneout z
    cdef int j
    memset(&z, 0, sizeof(z))
    z.rows = s.B
    for j in range(s.cell.states):
        range_of(s.width[j], UNITS, rank, size, &low, &high)
        start = low * s.item
        z.cols = high - low
        z.mask = s.zoneout[j] + start
        z.state = s.before[j] + start
        z.next = <char *>layer.frame.next[j] + start
        z.state_row = z.next_row = s.width[j]
        z.out = NULL
        if j == 0 and layer.frame.out != NULL:
            z.out = <char *>layer.frame.out + start
        z.out_row = s.P
        s.kernels.zoneout(&z)


cdef void products(const Stack *s, const Layer *layer, const fr_stage *stage, Py_ssize_t low,
                   Py_ssize_t high) noexcept nogil:
    """Some units of a stage's slots: W_ih x + b_ih and W_hh operand + b_hh, or their sum in one."""
    cdef Py_ssize_t H = s.H, item = s.item, depth = s.P, first, whole
    cdef const char *operand = <const char *>layer.frame.state[0]
    cdef const char *bias_ih
    cdef const char *bias_hh
    cdef char *to
    cdef fr_term terms[2]
    cdef int turn = 0, g, n, shared
    if stage.operand == FR_OPERAND_EXTRA:
        depth = H
        operand = s.extra
    if stage.weight == FR_WEIGHT_HR:
        terms[0] = term(layer.weight_hr + low * depth * item, depth, operand)
        multiply(s, high - low, s.P, terms, 1, NULL, NULL,
                 s.gates + (stage.slot[0] * H + low) * item)
        return
    while turn < stage.gates:
        # Steps go through the gates in alternating order: what was read last is still in the cache.
        g = stage.gates - 1 - turn if s.descending else turn
        shared = sharing(stage, g, -1 if s.descending else 1)
        n = max(shared, 1) if high - low == H else 1
        turn += n
        if s.descending:
            g -= n - 1
        first = (stage.first_gate + g) * H + low
        to = s.gates + (stage.slot[g] * H + low) * item
        terms[0] = term(layer.weight_ih + first * layer.inputs * item, layer.inputs, layer.x)
        terms[1] = term(layer.weight_hh + first * depth * item, depth, operand)
        bias_ih = bias_hh = NULL
        if layer.bias_ih != NULL:
            bias_ih = layer.bias_ih + first * item
            bias_hh = layer.bias_hh + first * item
        if shared > 0:
            whole = (sharing(stage, g, 1) + sharing(stage, g, -1) - 1) * H
            multiply(s, (n - 1) * H + high - low, whole, terms, 2, bias_ih, bias_hh, to)
        else:
            multiply(s, high - low, H, terms, 1, bias_ih, NULL, s.gates + first * item)
            multiply(s, high - low, H, &terms[1], 1, bias_hh, NULL, to)


cdef void multiply(const Stack *s, Py_ssize_t n, Py_ssize_t whole, const fr_term *terms, int count,
                   const char *bias, const char *other_bias, char *y) noexcept nogil:
    """y (B, n) = the sum of the terms' products, by n of `whole` rows of W, and of the biases."""
    cdef Py_ssize_t row
    cdef fr_thin p
    p.rows = s.B
    p.n = n
    p.whole = whole
    p.terms = count
    p.term[0] = terms[0]
    if count > 1:
        p.term[1] = terms[1]
    p.add = bias
    p.add_row = 0
    p.y = y
    p.y_row = s.cell.slots * s.H
    p.descending = s.descending
    if other_bias != NULL:
        for row in range(s.B):
            memcpy(y + row * p.y_row * s.item, bias, n * s.item)
            s.kernels.add_column_sums(1, n, other_bias, n, y + row * p.y_row * s.item)
        p.add = y
        p.add_row = p.y_row
    s.kernels.thin(&p)


cdef inline int sharing(const fr_stage *stage, int g, int direction) noexcept nogil:
    """How many gates from g on have both products in one slot; their slots are adjacent."""
    cdef int n = 0
    while 0 <= g < stage.gates and stage.slot[g] == stage.first_gate + g:
        n += 1
        g += direction
    return n


cdef inline fr_term term(const char *weight, Py_ssize_t columns, const char *x) noexcept nogil:
    cdef fr_term t
    t.w = weight
    t.w_row = t.x_row = t.k = columns
    t.x = x
    return t


cdef class Stepper:
    """Advances a stack of one cell step by step.

    Parameters
    ----------
    cell : str
    current_weights : callable
        Returns a list with the weights of each layer, by name, as they now are.
    buffers : list
        Its first is the buffer of the weights; when that is another, `current_weights` is called.
    states : tuple of ndarray, each (layers, B, width)
        Are advanced in place.
    check : callable
        ``x, out = check(x, out)`` brings a step's arguments into the form this class takes, arrays
        of the element type, (B, inputs) or (inputs,) and as wide, the first contiguous; raises on
        what cannot be.
    extras : Extras or None
        The bound of the cell, and zoneout masks (1, width).
    """
    cdef Stack stack
    cdef object current_weights, bound, check
    cdef tuple states, masks
    cdef list buffers, owners
    cdef object output, other_output
    cdef Py_ssize_t inputs
    cdef double cell_clip
    cdef int typenum, most_threads, running
    cdef bint long_step

    def __cinit__(self, str cell, object current_weights, list buffers not None, tuple states,
                  object check, object extras=None):
        cdef Stack *s = &self.stack
        cdef cnp.ndarray first = states[0]
        memset(s, 0, sizeof(Stack))
        if cnp.PyArray_NDIM(first) != 3 or cnp.PyArray_DIM(first, 0) == 0:
            raise ValueError(f"states must be (layers, B, width), got {(<object>first).shape}")
        self.typenum = cnp.PyArray_TYPE(first)
        s.item = cnp.PyArray_ITEMSIZE(first)
        s.kernels = active(s.item)
        s.cell = cell_named(s.kernels, cell)
        self.current_weights = current_weights
        self.buffers = buffers
        self.states = states
        self.check = check
        s.n_layers = first.shape[0]
        s.B = first.shape[1]
        s.P = first.shape[2]
        self.cell_clip = INFINITY
        if extras is not None:
            self.cell_clip = extras.cell_clip
            self.masks = extras.zoneout
        scratch = np.empty(s.n_layers * sizeof(Layer), np.uint8)
        self.owners = [scratch]
        s.layers = <Layer *>data(scratch)
        self.bind()

    cdef int bind(self) except -1:
        """Look up where the weights and the states are."""
        cdef Stack *s = &self.stack
        cdef Layer *layer
        cdef Py_ssize_t n, rows, size
        cdef double flops = 0
        cdef int k
        weights = self.current_weights()
        if len(weights) != s.n_layers:
            raise ValueError(f"states must be of {len(weights)} layers, got {s.n_layers}")
        self.bound = None
        del self.owners[1:]
        self.owners.append(weights)
        s.H = matrix("weight_ih", weights[0]["weight_ih"]).shape[0] // s.cell.gates
        rows = s.cell.gates * s.H
        for n in range(s.n_layers):
            layer = &s.layers[n]
            memset(layer, 0, sizeof(Layer))
            named = weights[n]
            layer.inputs = s.P if n > 0 else named["weight_ih"].shape[1]
            layer.weight_ih = self.weight("weight_ih", named, rows, layer.inputs)
            layer.weight_hh = self.weight("weight_hh", named, rows, s.P)
            if is_projected(s.cell):
                layer.weight_hr = self.weight("weight_hr", named, s.P, s.H)
            if "bias_ih" in named:
                layer.bias_ih = self.weight("bias_ih", named, rows, -1)
                layer.bias_hh = self.weight("bias_hh", named, rows, -1)
            for k in range(vectors_of(s.cell)):
                name = s.cell.vector[k].name.decode()
                size = s.cell.vector[k].blocks * s.H
                if name in named:
                    layer.frame.vector[k] = self.weight(name, named, size, -1)
                else:
                    layer.frame.vector[k] = self.zeros(size)
            flops += 2. * s.B * s.cell.gates * s.H * (layer.inputs + s.P)
        s.gates = self.zeros(s.B * s.cell.slots * s.H)
        s.extra = self.zeros(s.B * s.H)
        for n in range(s.n_layers):
            self.fill_frame(&s.layers[n].frame)
        self.find_states()
        self.inputs = s.layers[0].inputs
        self.long_step = flops > FLOPS_WITHOUT_GIL
        self.most_threads = 1
        if not s.cell.whole_rows:
            self.most_threads = <int>min(flops / FLOPS_A_THREAD + 1, <double>(s.H // UNITS + 1))
        self.bound = self.buffers[0]
        return 0

    cdef void fill_frame(self, fr_frame *f) noexcept:
        """What the frames of all layers have in common."""
        cdef Stack *s = &self.stack
        f.rows = s.B
        f.units = f.gates_slot = f.vector_slot = f.extra_row = s.H
        f.gates_row = s.cell.slots * s.H
        f.gates = s.gates
        f.extra = s.extra
        f.out_row = s.P
        f.cell_clip = self.cell_clip

    cdef int find_states(self) except -1:
        """Look up where the states of each layer are, what it reads, and the masks of zoneout."""
        cdef Stack *s = &self.stack
        cdef fr_frame *f
        cdef Py_ssize_t n
        cdef cnp.ndarray array
        cdef int k
        check_number("states", s.cell.states, len(self.states))
        if self.masks is not None:
            check_number("zoneout", s.cell.states, len(self.masks))
        for k in range(s.cell.states):
            s.width[k] = s.P if k == 0 and is_projected(s.cell) else s.H
            array = self.states[k]
            shape = (s.n_layers, s.B, s.width[k])
            if (cnp.PyArray_TYPE(array) != self.typenum or not cnp.PyArray_ISCARRAY(array)
                    or (<object>array).shape != shape):
                raise ValueError(f"states must be contiguous {self.states[0].dtype} {shape}, "
                                 f"got {(<object>array).dtype} {(<object>array).shape}")
            for n in range(s.n_layers):
                f = &s.layers[n].frame
                f.state[k] = f.next[k] = data(array) + n * s.B * s.width[k] * s.item
                f.state_row[k] = f.next_row[k] = s.width[k]
            if self.masks is not None:
                s.before[k] = self.zeros(s.B * s.width[k])
                s.zoneout[k] = data(
                    checked("zoneout", self.masks[k], self.typenum, 1, s.width[k]))
        for n in range(1, s.n_layers):
            s.layers[n].x = <char *>s.layers[n - 1].frame.next[0]
        return 0

    cdef char *weight(self, str name, dict named, Py_ssize_t rows,
                      Py_ssize_t columns) except NULL:
        return data(checked(name, named[name], self.typenum, rows, columns))

    cdef char *zeros(self, Py_ssize_t n) except NULL:
        """Memory of this many elements, as long as the weights stay where they are.

        It begins at a line of the cache: in the middle of one, a step of 64 units took 0.1 us more.
        """
        cdef Block block = allocate(n * self.stack.item)
        self.owners.append(block)
        memset(block.start, 0, n * self.stack.item)
        return block.start

    cdef inline int take(self, bint from_parent=False) except -1:
        """Refuse the call while another runs; with `from_parent` not one that fork() has cut off.

        The interpreter's lock guards `running`, and where there is none that of this object.
        """
        with cython.critical_section(self):
            if self.running and not (from_parent and self.running != process):
                raise RuntimeError(
                    "a stream must be one thread's at a time, got another thread's call")
            self.running = process
        return 0

    cdef inline void give_back(self) noexcept:
        with cython.critical_section(self):
            self.running = 0

    def copy_states(self):
        """Return copies of the states, none of them of the middle of a step; see the reference."""
        # No signal handler runs in here, which might raise and leave `running` set.
        self.take()
        try:
            return tuple([array.copy() for array in self.states])
        finally:
            self.give_back()

    def set_states(self, tuple values):
        """Let the states have these values; see the reference."""
        self.take(from_parent=True)
        try:
            for array, value in zip(self.states, values):
                array[...] = value
        finally:
            self.give_back()

    def step(self, object x, object out=None):
        """Advance every sequence by one step; see :meth:`fastrnn.streaming.Stream.step`."""
        cdef object scattered = None
        if not (self.plain(x, self.inputs, False)
                and (out is None or self.plain(out, self.stack.P, True))):
            x, out = self.check(x, out)
            if out is not None and not cnp.PyArray_ISCARRAY(<cnp.ndarray>out):
                scattered, out = out, None
            # As wide as the weights, whatever the layer's attributes say by now.
            if not (self.plain(x, self.inputs, False)
                    and (out is None or self.plain(out, self.stack.P, True))):
                raise ValueError(f"x must be {self.inputs} wide, and out {self.stack.P}, got "
                                 f"{(<object>x).shape} and {None if out is None else out.shape}")
        # A long step releases the GIL, and another step would replace its arguments.
        self.take()
        try:
            out = self.advance(x, out)
        finally:
            self.give_back()
        if scattered is not None:
            scattered[...] = out
            return scattered
        return out

    cdef object advance(self, cnp.ndarray rows, object out):
        if self.buffers[0] is not self.bound:
            self.bind()
        if out is None:
            out = self.next_output(cnp.PyArray_NDIM(rows))
        self.stack.layers[0].x = cnp.PyArray_BYTES(rows)
        self.stack.layers[self.stack.n_layers - 1].frame.out = data(out)
        if self.long_step:
            with nogil:
                self.run()
        else:
            self.run()
        return out

    cdef object next_output(self, int ndim):
        """The output before the last, if nobody else refers to it any more, or a new array.

        A new one takes 0.1 us. After ``y = stream.step(x)``, `y` still refers to the last one.
        """
        cdef cnp.npy_intp shape[2]
        self.output, self.other_output = self.other_output, self.output
        if not (fr_sole_reference(<PyObject *>self.output)
                and self.plain(self.output, self.stack.P, True)
                and cnp.PyArray_NDIM(<cnp.ndarray>self.output) == ndim):
            shape[0] = self.stack.B
            shape[1] = self.stack.P
            self.output = cnp.PyArray_SimpleNew(ndim, &shape[2 - ndim], self.typenum)
        return self.output

    cdef bint plain(self, object value, Py_ssize_t width, bint written):
        """Whether the value can be used as it is; whatever cannot is left to `check`."""
        cdef cnp.ndarray array
        if not cnp.PyArray_CheckExact(value):
            return False
        array = value
        cdef int ndim = cnp.PyArray_NDIM(array)
        return (cnp.PyArray_TYPE(array) == self.typenum and cnp.PyArray_ISCARRAY_RO(array)
                and (not written or cnp.PyArray_ISWRITEABLE(array))
                and ((ndim == 1 and self.stack.B == 1 and cnp.PyArray_DIM(array, 0) == width)
                     or (ndim == 2 and cnp.PyArray_DIM(array, 0) == self.stack.B
                         and cnp.PyArray_DIM(array, 1) == width)))

    cdef void run(self) noexcept nogil:
        cdef int threads = 1
        cdef uint64_t saved
        if self.most_threads > 1:
            threads = min(self.most_threads, thread_count())
        if threads > 1:
            parallel(threads, step_work, &self.stack)
        else:
            saved = flush_denormals()
            step_work(&self.stack, 0, 1, NULL)
            restore_denormals(saved)
        self.stack.descending = not self.stack.descending
