"""Affine layers, cross-entropy and optimiser steps: operations without a time axis.

Every function takes contiguous arrays of one element type, which the Python callers have checked,
and divides its work among threads such that results do not depend on their number.
"""
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport sqrt
from libc.stdint cimport int64_t

from fastrnn._core.arrays cimport checked, data, writable
from fastrnn._core.kernels cimport (
    FR_WORKSPACE,
    active,
    add_weight_gradient,
    for_each,
    fr_adam,
    fr_few_rows,
    fr_kernels,
    fr_product,
    fr_sgd,
    fr_task,
    share,
    thread_count,
)
from fastrnn._core.memory cimport Block, allocate, new_array, new_like

cnp.import_array()

# Flops, or elements of a buffer, that are worth a second thread; see scan.pyx.
cdef double FLOPS_A_THREAD = 2e6
cdef double ELEMENTS_A_THREAD = 1e5
# Between two checks for Ctrl-C in an affine layer, after each of which weights are packed anew.
cdef double FLOPS_A_POLL = 1e10
# The same in cross-entropy, 20 ms on one thread.
cdef double ELEMENTS_A_POLL = 2e7
# Elements that are summed together, so that a sum does not depend on the number of threads.
cdef Py_ssize_t BLOCK = 1 << 16


cdef int threads(double work, double a_thread) noexcept:
    return <int>min(<double>thread_count(), 1 + work / a_thread)


# ------------------------------------------------------------------------------------ affine

cdef struct Affine:
    const fr_kernels *kernels
    Py_ssize_t rows, inputs, outputs
    char *x
    char *weight
    char *bias
    char *y
    char *d_weight
    char *d_bias
    char *d_x
    char *workspace     # FR_WORKSPACE bytes a task
    bint few            # rows: weights are not packed


cdef fr_product product(Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t depth, char *a,
                        Py_ssize_t a_row, char *b, Py_ssize_t b_row, char *bias, char *c,
                        Py_ssize_t c_row) noexcept nogil:
    cdef fr_product p
    p.rows = rows
    p.cols = cols
    p.depth = depth
    p.a = a
    p.a_row = a_row
    p.b = b
    p.b_panel = b_row
    p.add = bias
    p.add_row = 0
    p.c = c
    p.c_row = c_row
    return p


cdef void affine_work(void *context, int i, int tasks, int rank) noexcept nogil:
    # A task computes some outputs, so that each weight is packed once; or some rows where these are
    # more: the same thread is likely to have written them and to read them next.
    cdef const Affine *a = <const Affine *>context
    cdef Py_ssize_t item = a.kernels.item_size, first = 0, last = a.rows
    cdef Py_ssize_t low = 0, high = a.outputs
    if a.rows > a.outputs:
        first = share(a.rows, i, tasks)
        last = share(a.rows, i + 1, tasks)
    else:
        low = share(a.outputs, i, tasks)
        high = share(a.outputs, i + 1, tasks)
    cdef char *weight = a.weight + low * a.inputs * item
    cdef char *y = a.y + low * item
    cdef char *bias = NULL if a.bias == NULL else a.bias + low * item
    cdef fr_product p = product(last - first, high - low, a.inputs,
                                a.x + first * a.inputs * item, a.inputs, weight, a.inputs, bias,
                                y + first * a.outputs * item, a.outputs)
    a.kernels.multiply(&p, True, NULL if a.few else a.workspace + i * FR_WORKSPACE)


cdef void affine_adjoint_work(void *context, int i, int tasks, int rank) noexcept nogil:
    # y holds the gradient of y here.
    cdef const Affine *a = <const Affine *>context
    cdef Py_ssize_t item = a.kernels.item_size
    cdef Py_ssize_t low = share(a.rows, i, tasks), high = share(a.rows, i + 1, tasks)
    cdef char *workspace = a.workspace + i * FR_WORKSPACE
    cdef fr_product p = product(high - low, a.inputs, a.outputs, a.y + low * a.outputs * item,
                                a.outputs, a.weight, a.inputs, NULL,
                                a.d_x + low * a.inputs * item, a.inputs)
    a.kernels.multiply(&p, False, NULL if a.few else workspace)
    add_weight_gradient(a.kernels, i, tasks, a.rows, a.outputs, a.inputs, a.y, a.outputs, a.x,
                        a.inputs, a.d_weight, a.d_bias, workspace)


cdef int run_in_parts(const Affine *a, fr_task work, double flops) except -1:
    """Run the work part by part, some rows each, with a check for Ctrl-C after each part."""
    cdef Affine part = a[0]
    cdef int k, parts = <int>(1 + flops / FLOPS_A_POLL)
    cdef int size = threads(flops / parts, FLOPS_A_THREAD)
    cdef Py_ssize_t first, item = a.kernels.item_size
    cdef Block workspace = allocate(size * FR_WORKSPACE)
    part.workspace = workspace.start
    part.few = a.rows <= fr_few_rows(a.inputs)
    for k in range(parts):
        first = share(a.rows, k, parts)
        part.rows = share(a.rows, k + 1, parts) - first
        part.x = a.x + first * a.inputs * item
        part.y = a.y + first * a.outputs * item
        if a.d_x != NULL:
            part.d_x = a.d_x + first * a.inputs * item
        with nogil:
            for_each(size, size, work, &part)
        if parts > 1:
            PyErr_CheckSignals()
    return 0


cdef Affine affine_of(cnp.ndarray x, cnp.ndarray weight):
    """Sizes and memory of a map of the last axis; of the others each element is a row."""
    cdef Affine a
    cdef int axes = cnp.PyArray_NDIM(x)
    a.kernels = active(cnp.PyArray_ITEMSIZE(x))
    a.outputs = cnp.PyArray_DIM(weight, 0)
    a.inputs = cnp.PyArray_DIM(weight, 1)
    if cnp.PyArray_TYPE(weight) != cnp.PyArray_TYPE(x):
        raise TypeError(f"x must be {weight.dtype}, got {x.dtype}")
    if axes == 0 or cnp.PyArray_DIM(x, axes - 1) != a.inputs:
        raise ValueError(f"x must be {a.inputs} wide, got {(<object>x).shape}")
    a.rows = cnp.PyArray_SIZE(x) // a.inputs
    a.x = data(x)
    a.weight = data(weight)
    a.d_x = NULL
    return a


def affine(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias):
    """x W^T + b (..., outputs) for x (..., inputs), W (outputs, inputs), b (outputs,) or None."""
    cdef Affine a = affine_of(x, weight)
    cdef cnp.ndarray y = new_like(x, a.outputs)
    a.bias = NULL if bias is None else data(bias)
    a.y = data(y)
    run_in_parts(&a, affine_work, 2. * a.rows * a.inputs * a.outputs)
    return y


def affine_adjoint(cnp.ndarray d_y, cnp.ndarray x, cnp.ndarray weight, cnp.ndarray d_weight,
                   cnp.ndarray d_bias):
    """Add the gradients of W and b in `affine` into d_weight and d_bias; return that of x."""
    cdef Affine a = affine_of(x, weight)
    cdef cnp.ndarray d_x = new_like(x, a.inputs)
    cdef int axes = cnp.PyArray_NDIM(x)
    if cnp.PyArray_TYPE(d_y) != cnp.PyArray_TYPE(x):
        raise TypeError(f"d_y must be {x.dtype}, got {d_y.dtype}")
    if (cnp.PyArray_NDIM(d_y) != axes or cnp.PyArray_DIM(d_y, axes - 1) != a.outputs
            or cnp.PyArray_SIZE(d_y) != a.rows * a.outputs):
        raise ValueError(f"d_y must be as x {(<object>x).shape} and {a.outputs} wide, "
                         f"got {(<object>d_y).shape}")
    checked("d_weight", d_weight, cnp.PyArray_TYPE(x), a.outputs, a.inputs)
    if d_bias is not None:
        checked("d_bias", d_bias, cnp.PyArray_TYPE(x), a.outputs, -1)
    a.y = data(d_y)
    a.d_x = data(d_x)
    a.d_weight = writable("d_weight", d_weight)
    a.d_bias = NULL if d_bias is None else writable("d_bias", d_bias)
    run_in_parts(&a, affine_adjoint_work, 4. * a.rows * a.inputs * a.outputs)
    return d_x


# ------------------------------------------------------------------------------ cross-entropy

cdef struct CrossEntropy:
    const fr_kernels *kernels
    Py_ssize_t rows, columns
    Py_ssize_t first, last      # rows of this part
    char *x
    const int64_t *ids
    char *d_x
    double *losses


cdef void cross_entropy_work(void *context, int i, int tasks, int rank) noexcept nogil:
    cdef const CrossEntropy *c = <const CrossEntropy *>context
    cdef Py_ssize_t count = c.last - c.first
    cdef Py_ssize_t low = c.first + share(count, i, tasks)
    cdef Py_ssize_t high = c.first + share(count, i + 1, tasks)
    cdef Py_ssize_t start = low * c.columns * c.kernels.item_size
    c.kernels.softmax_cross_entropy(high - low, c.columns, c.x + start, c.ids + low, 1. / c.rows,
                                    c.d_x + start, c.losses + low)


def softmax_cross_entropy(cnp.ndarray logits, cnp.ndarray ids):
    """Mean loss of scores (..., V) against int64 ids (...), and its gradient."""
    cdef CrossEntropy c
    cdef Py_ssize_t i
    cdef double total = 0, elements = cnp.PyArray_SIZE(logits)
    cdef int k, parts = <int>(1 + elements / ELEMENTS_A_POLL)
    cdef int size = threads(elements / parts, ELEMENTS_A_THREAD)
    c.kernels = active(cnp.PyArray_ITEMSIZE(logits))
    c.rows = cnp.PyArray_SIZE(ids)
    c.columns = cnp.PyArray_DIM(logits, cnp.PyArray_NDIM(logits) - 1)
    cdef cnp.ndarray d_logits = new_like(logits, c.columns)
    c.x = data(logits)
    c.ids = <const int64_t *>data(ids)
    c.d_x = data(d_logits)
    cdef cnp.ndarray losses = new_array(1, <cnp.npy_intp *>&c.rows, cnp.NPY_DOUBLE)
    c.losses = <double *>data(losses)
    for k in range(parts):
        c.first, c.last = share(c.rows, k, parts), share(c.rows, k + 1, parts)
        with nogil:
            for_each(size, size, cross_entropy_work, &c)
        if parts > 1:
            PyErr_CheckSignals()
    with nogil:
        for i in range(c.rows):
            total += c.losses[i]
    return total / c.rows, d_logits


# --------------------------------------------------------------------------------- optimisers

cdef struct Squares:
    const fr_kernels *kernels
    Py_ssize_t n, blocks
    char *x
    double *sums


cdef void squares_work(void *context, int i, int tasks, int rank) noexcept nogil:
    cdef const Squares *s = <const Squares *>context
    cdef Py_ssize_t block
    for block in range(share(s.blocks, i, tasks), share(s.blocks, i + 1, tasks)):
        s.sums[block] = s.kernels.sum_of_squares(min(BLOCK, s.n - block * BLOCK),
                                                 s.x + block * BLOCK * s.kernels.item_size)


def norm(cnp.ndarray x):
    """Euclidean norm of a flat buffer, as far as squares are in the range of floats."""
    cdef Squares s
    cdef Py_ssize_t i
    cdef double total = 0
    s.kernels = active(cnp.PyArray_ITEMSIZE(x))
    s.n = x.shape[0]
    s.x = data(x)
    s.blocks = (s.n + BLOCK - 1) // BLOCK
    cdef cnp.ndarray sums = new_array(1, <cnp.npy_intp *>&s.blocks, cnp.NPY_DOUBLE)
    s.sums = <double *>data(sums)
    cdef int size = threads(s.n, ELEMENTS_A_THREAD)
    with nogil:
        for_each(size, size, squares_work, &s)
        for i in range(s.blocks):
            total += s.sums[i]
    return sqrt(total)


cdef struct SgdStep:
    const fr_kernels *kernels
    Py_ssize_t n
    fr_sgd sgd


cdef void sgd_work(void *context, int i, int tasks, int rank) noexcept nogil:
    cdef const SgdStep *s = <const SgdStep *>context
    s.kernels.sgd(&s.sgd, share(s.n, i, tasks), share(s.n, i + 1, tasks))


def sgd(cnp.ndarray values, cnp.ndarray gradients, cnp.ndarray momentum_buffer, *,
        double learning_rate, double momentum, double weight_decay, bint nesterov):
    """Make a step of SGD on flat buffers; values and momentum (or None) in place."""
    cdef SgdStep s
    s.kernels = active(cnp.PyArray_ITEMSIZE(values))
    s.n = values.shape[0]
    s.sgd.values = writable("values", values)
    s.sgd.gradients = data(gradients)
    s.sgd.momentum_buffer = NULL
    if momentum_buffer is not None:
        s.sgd.momentum_buffer = writable("momentum_buffer", momentum_buffer)
    s.sgd.learning_rate = learning_rate
    s.sgd.momentum = momentum
    s.sgd.weight_decay = weight_decay
    s.sgd.nesterov = nesterov
    cdef int size = threads(s.n, ELEMENTS_A_THREAD)
    with nogil:
        for_each(size, size, sgd_work, &s)


cdef struct AdamStep:
    const fr_kernels *kernels
    Py_ssize_t n
    fr_adam adam


cdef void adam_work(void *context, int i, int tasks, int rank) noexcept nogil:
    cdef const AdamStep *s = <const AdamStep *>context
    s.kernels.adam(&s.adam, share(s.n, i, tasks), share(s.n, i + 1, tasks))


def adam(cnp.ndarray values, cnp.ndarray gradients, cnp.ndarray exp_avg, cnp.ndarray exp_avg_sq,
         *, Py_ssize_t step, double learning_rate, double beta1, double beta2, double eps,
         double weight_decay, double shrink):
    """Make step number `step` >= 1 of Adam on flat buffers; values and averages in place."""
    cdef AdamStep s
    s.kernels = active(cnp.PyArray_ITEMSIZE(values))
    s.n = values.shape[0]
    s.adam.values = writable("values", values)
    s.adam.gradients = data(gradients)
    s.adam.exp_avg = writable("exp_avg", exp_avg)
    s.adam.exp_avg_sq = writable("exp_avg_sq", exp_avg_sq)
    s.adam.beta1 = beta1
    s.adam.beta2 = beta2
    s.adam.eps = eps
    s.adam.weight_decay = weight_decay
    s.adam.shrink = shrink
    s.adam.step = learning_rate / (1 - beta1 ** step)
    s.adam.root_scale = 1 / sqrt(1 - beta2 ** step)
    cdef int size = threads(s.n, ELEMENTS_A_THREAD)
    with nogil:
        for_each(size, size, adam_work, &s)
