"""One time step of a stack of layers, with the states kept in place.

At one row a step is bound by reading the weights, so they are read as they are: nothing is packed,
and a weight that was changed in place is in effect at once.
"""
cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset, strcmp

from fastrnn._core.kernels cimport (
    FR_MAX_VECTORS,
    FR_OPERAND_EXTRA,
    FR_WEIGHT_HR,
    active,
    fr_cell,
    fr_frame,
    fr_kernels,
    fr_matvec,
    fr_stage,
    fr_term,
    fr_zoneout,
    flush_denormals,
    restore_denormals,
)

import numpy as np

cnp.import_array()

# Steps with less work than this, some 10 us, keep the GIL, which costs 0.1 us to release and take.
cdef double FLOPS_WITHOUT_GIL = 5e5

cdef enum:
    MAX_STATES = 2


cdef struct Layer:
    Py_ssize_t inputs
    char *weight_ih
    char *weight_hh
    char *weight_hr
    char *bias_ih               # NULL without biases
    char *bias_hh
    char *vector[6]             # the cell's own parameters
    char *state[MAX_STATES]     # (B, width) each
    char *x                     # (B, inputs)
    char *out                   # (B, P), or NULL: the next layer reads the state


cdef class Stepper:
    """Advances a stack of one cell step by step.

    Parameters
    ----------
    cell : str
    passes : callable
        Returns a list with the weights of each layer, by name, as they now are.
    parameters : Parameters
        Of the stack; when its buffer changes, `passes` is asked again.
    states : tuple of ndarray, each (layers, B, width)
        Are advanced in place.
    check : callable
        ``x, out = check(x, out)`` brings a step's arguments into the form this class takes,
        contiguous arrays of the element type, (B, inputs) or (inputs,) and as wide; raises on what
        cannot be.
    extras : Extras or None
        The bound of the cell, and zoneout masks (1, width).
    """
    cdef const fr_kernels *kernels
    cdef const fr_cell *cell
    cdef Layer *layers
    cdef object parameters, bound, passes, check
    cdef tuple states, masks
    cdef list owners
    cdef Py_ssize_t n_layers, B, H, P, inputs, item
    cdef Py_ssize_t width[MAX_STATES]
    cdef int typenum
    cdef bint long_step, descending
    cdef char *gates
    cdef char *extra
    cdef char *zoneout[MAX_STATES]
    cdef char *before[MAX_STATES]   # the states of a row before the step
    cdef double cell_clip

    def __cinit__(self, str cell, object passes, object parameters, tuple states, object check,
                  object extras=None):
        cdef cnp.ndarray first = states[0]
        cdef int k
        self.typenum = cnp.PyArray_TYPE(first)
        self.item = cnp.PyArray_ITEMSIZE(first)
        self.kernels = active(self.item)
        self.cell = self.kernels.cells
        name = cell.encode()
        while self.cell.name != NULL and strcmp(self.cell.name, <bytes>name) != 0:
            self.cell += 1
        if self.cell.name == NULL:
            raise ValueError(f"cell must have compiled kernels, got {cell!r}")
        self.passes = passes
        self.parameters = parameters
        self.states = states
        self.check = check
        self.n_layers = first.shape[0]
        self.B = first.shape[1]
        self.P = first.shape[2]
        for k in range(self.cell.states):
            self.width[k] = states[k].shape[2]
        self.cell_clip = INFINITY
        self.masks = None
        if extras is not None:
            self.cell_clip = extras.cell_clip
            self.masks = extras.zoneout
        scratch = np.empty(self.n_layers * sizeof(Layer), np.uint8)
        self.owners = [scratch]
        self.layers = <Layer *>cnp.PyArray_DATA(<cnp.ndarray>scratch)
        self.bind()

    cdef int bind(self) except -1:
        """Look up where the weights and the states are."""
        cdef Layer *layer
        cdef Py_ssize_t n, row
        cdef cnp.ndarray array
        cdef double flops = 0
        cdef int k
        first = self.states[0]
        weights = self.passes()
        del self.owners[1:]
        self.owners.append(weights)
        self.H = weights[0]["weight_ih"].shape[0] // self.cell.gates
        for n in range(self.n_layers):
            layer = &self.layers[n]
            memset(layer, 0, sizeof(Layer))
            named = weights[n]
            layer.inputs = named["weight_ih"].shape[1]
            layer.weight_ih = address(named["weight_ih"])
            layer.weight_hh = address(named["weight_hh"])
            if "weight_hr" in named:
                layer.weight_hr = address(named["weight_hr"])
            if "bias_ih" in named:
                layer.bias_ih = address(named["bias_ih"])
                layer.bias_hh = address(named["bias_hh"])
            k = 0
            while k < FR_MAX_VECTORS and self.cell.vector[k].name != NULL:
                name = self.cell.vector[k].name.decode()
                if name not in named:
                    array = np.zeros(self.cell.vector[k].blocks * self.H, first.dtype)
                    self.owners.append(array)
                    layer.vector[k] = address(array)
                else:
                    layer.vector[k] = address(named[name])
                k += 1
            for k in range(self.cell.states):
                row = self.B * self.width[k] * self.item
                layer.state[k] = address(self.states[k]) + n * row
            if n > 0:
                layer.x = self.layers[n - 1].state[0]
            flops += 2. * self.B * self.cell.gates * self.H * (layer.inputs + self.P)
        self.inputs = self.layers[0].inputs
        self.long_step = flops > FLOPS_WITHOUT_GIL
        array = np.empty((self.B * (self.cell.slots + 1) * self.H,), weights[0]["weight_ih"].dtype)
        self.owners.append(array)
        self.gates = address(array)
        self.extra = self.gates + self.B * self.cell.slots * self.H * self.item
        if self.masks is not None:
            for k in range(self.cell.states):
                array = np.empty((self.width[k],), first.dtype)
                self.owners.append(array)
                self.before[k] = address(array)
                self.zoneout[k] = address(self.masks[k])
        self.bound = self.parameters.flat_values
        return 0

    def step(self, object x, object out=None):
        """Advance every sequence by one step; see :meth:`fastrnn.streaming.Stream.step`."""
        cdef cnp.npy_intp shape[2]
        if self.parameters.flat_values is not self.bound:
            self.bind()
        if not self.plain(x, self.inputs) or (out is not None and not self.plain(out, self.P)):
            x, out = self.check(x, out)
        cdef cnp.ndarray rows = x
        if out is None:
            shape[0] = self.B
            shape[1] = self.P
            if cnp.PyArray_NDIM(rows) == 1:
                out = cnp.PyArray_SimpleNew(1, &shape[1], self.typenum)
            else:
                out = cnp.PyArray_SimpleNew(2, shape, self.typenum)
        self.layers[0].x = cnp.PyArray_BYTES(rows)
        self.layers[self.n_layers - 1].out = address(out)
        if self.long_step:
            with nogil:
                self.run()
        else:
            self.run()
        return out

    cdef bint plain(self, object value, Py_ssize_t width):
        """Whether the value can be used as it is; whatever cannot is left to `check`."""
        cdef cnp.ndarray array
        if type(value) is not np.ndarray:
            return False
        array = value
        cdef int ndim = cnp.PyArray_NDIM(array)
        return (cnp.PyArray_TYPE(array) == self.typenum and cnp.PyArray_ISCARRAY(array)
                and ((ndim == 1 and self.B == 1 and cnp.PyArray_DIM(array, 0) == width)
                     or (ndim == 2 and cnp.PyArray_DIM(array, 0) == self.B
                         and cnp.PyArray_DIM(array, 1) == width)))

    cdef void run(self) noexcept nogil:
        cdef uint64_t saved = flush_denormals()
        cdef Py_ssize_t n
        for n in range(self.n_layers):
            self.run_layer(&self.layers[n])
        restore_denormals(saved)
        self.descending = not self.descending

    cdef void run_layer(self, const Layer *layer) noexcept nogil:
        cdef const fr_cell *cell = self.cell
        cdef const fr_stage *stage
        cdef Py_ssize_t item = self.item, H = self.H, row
        cdef char *gates
        cdef fr_frame f
        cdef int k, j
        memset(&f, 0, sizeof(f))
        f.gates_slot = f.vector_slot = H
        f.rows = 1
        f.cell_clip = self.cell_clip
        for j in range(FR_MAX_VECTORS):
            f.vector[j] = layer.vector[j]
        for row in range(self.B):
            if self.zoneout[0] != NULL:
                for j in range(cell.states):
                    memcpy(self.before[j], layer.state[j] + row * self.width[j] * item,
                           self.width[j] * item)
            gates = self.gates + row * cell.slots * H * item
            for k in range(cell.stages):
                stage = &cell.stage[k]
                self.products(layer, stage, row, gates)
                f.units = self.P if stage.weight == FR_WEIGHT_HR else H
                f.gates = gates
                f.extra = self.extra + row * H * item
                for j in range(cell.states):
                    f.next[j] = layer.state[j] + row * self.width[j] * item
                    f.state[j] = f.next[j]
                f.out = NULL if layer.out == NULL else layer.out + row * self.P * item
                stage.forward(&f)
            if self.zoneout[0] != NULL:
                self.zone_out(&f)

    cdef void zone_out(self, const fr_frame *f) noexcept nogil:
        """Zoneout of a row's states, which are the expected ones."""
        cdef fr_zoneout z
        cdef int j
        memset(&z, 0, sizeof(z))
        z.rows = 1
        for j in range(self.cell.states):
            z.cols = self.width[j]
            z.mask = self.zoneout[j]
            z.state = self.before[j]
            z.next = f.next[j]
            z.out = f.out if j == 0 else NULL
            self.kernels.zoneout(&z)

    cdef void products(self, const Layer *layer, const fr_stage *stage, Py_ssize_t row,
                       char *gates) noexcept nogil:
        """What a stage's slots hold: W_ih x + b_ih and W_hh operand + b_hh, in one where shared."""
        cdef Py_ssize_t H = self.H, item = self.item, depth = self.P, first
        cdef const char *x = layer.x + row * layer.inputs * item
        cdef const char *operand = layer.state[0] + row * self.P * item
        cdef const char *bias_ih
        cdef const char *bias_hh
        cdef char *to
        cdef fr_term terms[2]
        cdef int turn, g, n, shared
        if stage.operand == FR_OPERAND_EXTRA:
            depth = H
            operand = self.extra + row * H * item
        if stage.weight == FR_WEIGHT_HR:
            terms[0] = term(layer.weight_hr, depth, operand)
            self.multiply(self.P, terms, 1, NULL, NULL, gates + stage.slot[0] * H * item)
            return
        turn = 0
        while turn < stage.gates:
            # What was read last is read first: gates in turn from the first and from the last.
            g = stage.gates - 1 - turn if self.descending else turn
            shared = sharing(stage, g, -1 if self.descending else 1)
            n = max(shared, 1)
            turn += n
            if self.descending:
                g -= n - 1
            first = (stage.first_gate + g) * H
            to = gates + stage.slot[g] * H * item
            terms[0] = term(layer.weight_ih + first * layer.inputs * item, layer.inputs, x)
            terms[1] = term(layer.weight_hh + first * depth * item, depth, operand)
            bias_ih = bias_hh = NULL
            if layer.bias_ih != NULL:
                bias_ih = layer.bias_ih + first * item
                bias_hh = layer.bias_hh + first * item
            if shared > 0:
                self.multiply(n * H, terms, 2, bias_ih, bias_hh, to)
            else:
                self.multiply(H, terms, 1, bias_ih, NULL, gates + first * item)
                self.multiply(H, &terms[1], 1, bias_hh, NULL, to)

    cdef void multiply(self, Py_ssize_t n, const fr_term *terms, int count, const char *bias,
                       const char *other_bias, char *y) noexcept nogil:
        """y (n) = the terms' products and the biases that there are."""
        cdef fr_matvec p
        if bias != NULL:
            memcpy(y, bias, n * self.item)
        if other_bias != NULL:
            self.kernels.add_column_sums(1, n, other_bias, n, y)
        p.n = n
        p.terms = count
        p.term[0] = terms[0]
        if count > 1:
            p.term[1] = terms[1]
        p.y = y
        p.accumulate = bias != NULL
        p.descending = self.descending
        self.kernels.matvec(&p)


cdef inline int sharing(const fr_stage *stage, int g, int direction) noexcept nogil:
    """How many gates from g on have both products in one slot; they lie side by side."""
    cdef int n = 0
    while 0 <= g < stage.gates and stage.slot[g] == stage.first_gate + g:
        n += 1
        g += direction
    return n


cdef inline fr_term term(const char *weight, Py_ssize_t columns, const char *x) noexcept nogil:
    cdef fr_term t
    t.w = weight
    t.w_row = t.k = columns
    t.x = x
    return t


cdef char *address(object array):
    return cnp.PyArray_BYTES(<cnp.ndarray?>array)
