"""Connectionist temporal classification, in log space and double precision.

The equations and names stand in fastrnn/backends/ctc.py. Sequences are divided among threads, each
with a workspace of its own, so results do not depend on their number.
"""
cimport numpy as cnp
from libc.math cimport INFINITY, exp, log
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastrnn._core.kernels cimport for_each, thread_count

import numpy as np

from fastrnn._core.memory import empty

cnp.import_array()

cdef extern from "Python.h":
    int PyErr_CheckSignals()

# Terms of sums that are worth a thread.
cdef double TERMS_A_THREAD = 1e4
# Between two looks for Ctrl-C.
cdef double TERMS_A_POLL = 1e7

ctypedef fused real:
    float
    double

cdef struct Batch:
    Py_ssize_t T, B, V, S       # S: the longest target
    Py_ssize_t item
    char *logits                # (T, B, V)
    char *d_logits              # (T, B, V)
    const int64_t *lengths      # (B,)
    const int64_t *targets      # (S, B)
    const int64_t *target_lengths
    const double *weights
    double *losses
    int64_t blank
    double *workspace           # (threads, room)
    int64_t *symbols            # (threads, 2 S + 1)
    Py_ssize_t room
    double terms                # since the last look for Ctrl-C
    bint stopped                # by it


cdef double log_sum(double a, double b, double c) noexcept nogil:
    """log(exp a + exp b + exp c)."""
    if b > a:
        a, b = b, a
    if c > a:
        a, c = c, a
    if a == -INFINITY:
        return a + b + c    # one of them may be NaN
    return a + log(1 + exp(b - a) + exp(c - a))


cdef double log_total(const real *x, Py_ssize_t n) noexcept nogil:
    """log sum exp x."""
    cdef double most = x[0], total = 0
    cdef Py_ssize_t k
    for k in range(1, n):
        if x[k] > most:
            most = x[k]
    for k in range(n):
        total += exp(x[k] - most)
    return most + log(total)


cdef bint poll(Batch *batch, Py_ssize_t terms, int rank) noexcept nogil:
    """Whether to stop after so many terms more. The caller, rank 0, is who may hear signals."""
    if rank == 0:
        batch.terms += terms
        if batch.terms > TERMS_A_POLL:
            batch.terms = 0
            with gil:
                if PyErr_CheckSignals() != 0:
                    batch.stopped = True
    return batch.stopped


cdef void align(Batch *batch, Py_ssize_t b, int rank, const real *logits,
                real *d_logits) noexcept nogil:
    """Loss and gradient of sequence b, whose frames start at logits and at d_logits."""
    cdef Py_ssize_t T = batch.lengths[b], S = batch.target_lengths[b], L = 2 * S + 1, V = batch.V
    cdef Py_ssize_t row = batch.B * V, width = L + 2, t, s, k
    cdef double log_p, value, beta, weight = batch.weights[b]
    cdef int64_t *symbols = batch.symbols + rank * (2 * batch.S + 1)
    cdef double *shift = batch.workspace + rank * batch.room    # (T,)
    cdef double *skip = shift + T           # (L + 2,): log of whether s is entered from s - 2
    cdef double *after = skip + width       # (L + 2,): log gamma of the next frame
    cdef double *occupied = after + width   # (V,)
    cdef double *alpha = occupied + V + 2   # (T, L + 2), s from -2
    cdef double *before

    for t in range(T, batch.T):
        memset(d_logits + t * row, 0, V * sizeof(real))
    batch.losses[b] = 0
    if T == 0:
        return
    for s in range(L):
        symbols[s] = batch.targets[s // 2 * batch.B + b] if s % 2 else batch.blank
    for s in range(width):
        skip[s] = after[s] = -INFINITY
        if s % 2 and 3 <= s < L and symbols[s] != symbols[s - 2]:
            skip[s] = 0
    for k in range(V):
        occupied[k] = 0
    for t in range(T):
        shift[t] = log_total(logits + t * row, V)
        if poll(batch, V, rank):
            return

    # In frame t only the places from L - 2 (T - t) and below 2 (t + 1) are on a whole walk.
    for t in range(T):
        before = alpha + max(0, t - 1) * width
        for s in range(-2, L):
            alpha[t * width + s] = -INFINITY
        for s in range(max(0, L - 2 * (T - t)), min(L, 2 * (t + 1))):
            value = logits[t * row + symbols[s]] - shift[t]
            if t:
                value += log_sum(before[s], before[s - 1], before[s - 2] + skip[s])
            alpha[t * width + s] = value
        if poll(batch, L, rank):
            return
    before = alpha + (T - 1) * width
    log_p = log_sum(before[L - 1], before[L - 2], -INFINITY)
    batch.losses[b] = -log_p

    for t in range(T - 1, -1, -1):
        for s in range(max(0, L - 2 * (T - t)), min(L, 2 * (t + 1))):
            beta = 0    # of the last frame, where these are the last two places
            if t < T - 1:
                beta = log_sum(after[s], after[s + 1], after[s + 2] + skip[s + 2])
            occupied[symbols[s]] += exp(alpha[t * width + s] + beta - log_p)
            after[s] = beta + (logits[t * row + symbols[s]] - shift[t])
        for k in range(V):
            d_logits[t * row + k] = <real>(weight * (exp(logits[t * row + k] - shift[t])
                                                     - occupied[k]))
            occupied[k] = 0
        if poll(batch, L + V, rank):
            return


cdef void align_work(void *context, int i, int tasks, int rank) noexcept nogil:
    cdef Batch *batch = <Batch *>context
    cdef Py_ssize_t start = i * batch.V * batch.item
    if batch.item == 4:
        align[float](batch, i, rank, <const float *>(batch.logits + start),
                     <float *>(batch.d_logits + start))
    else:
        align[double](batch, i, rank, <const double *>(batch.logits + start),
                      <double *>(batch.d_logits + start))


def ctc(cnp.ndarray logits, cnp.ndarray lengths, cnp.ndarray targets, cnp.ndarray target_lengths,
        Py_ssize_t blank, cnp.ndarray weights, cnp.ndarray d_logits):
    """Losses (B,) of scores (T, B, V) against int64 targets (S, B); see fastrnn/backends/ctc.py."""
    cdef Batch batch
    batch.T, batch.B, batch.V = logits.shape[0], logits.shape[1], logits.shape[2]
    batch.S = target_lengths.max()
    batch.item = cnp.PyArray_ITEMSIZE(logits)
    batch.logits = <char *>cnp.PyArray_DATA(logits)
    batch.d_logits = <char *>cnp.PyArray_DATA(d_logits)
    batch.lengths = <const int64_t *>cnp.PyArray_DATA(lengths)
    batch.targets = <const int64_t *>cnp.PyArray_DATA(targets)
    batch.target_lengths = <const int64_t *>cnp.PyArray_DATA(target_lengths)
    batch.weights = <const double *>cnp.PyArray_DATA(weights)
    batch.blank = blank
    batch.terms = 0
    batch.stopped = False
    cdef cnp.ndarray losses = np.empty(batch.B)
    batch.losses = <double *>cnp.PyArray_DATA(losses)

    cdef Py_ssize_t T = lengths.max(), width = 2 * batch.S + 3
    cdef double terms = <double>T * batch.B * (width + batch.V)
    cdef int size = <int>min(<double>thread_count(), 1 + terms / TERMS_A_THREAD)
    batch.room = T * (width + 1) + 2 * width + batch.V
    cdef cnp.ndarray workspace = empty((size, batch.room), np.float64)
    cdef cnp.ndarray symbols = empty((size, width), np.int64)
    batch.workspace = <double *>cnp.PyArray_DATA(workspace)
    batch.symbols = <int64_t *>cnp.PyArray_DATA(symbols)
    with nogil:
        for_each(<int>batch.B, size, align_work, &batch)
    if batch.stopped:
        reraise()
    return losses


cdef int reraise() except -1:
    """Let the exception go on that a look for Ctrl-C has set."""
    return -1
