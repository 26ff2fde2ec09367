"""Connectionist temporal classification, in log space and double precision.

The equations and names stand in fastrnn/backends/ctc.py. Sequences are divided among threads, each
with a workspace of its own, so results do not depend on their number.
"""
cimport numpy as cnp
from libc.math cimport INFINITY, NAN, isfinite, log
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastrnn._core.kernels cimport active, atomic_int, for_each, thread_count
from fastrnn._core.signals cimport PyErr_CheckSignals, reraise

import numpy as np

from fastrnn._core.memory import empty

cnp.import_array()

# Terms of sums that are worth a thread.
cdef double TERMS_A_THREAD = 1e4
# Between two checks for Ctrl-C.
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
    double terms                # since the last check for Ctrl-C
    atomic_int stopped          # by it; read by all threads


cdef void log_sums(Py_ssize_t n, const double *x, int step, const double *skip, double *terms,
                   double *sums) noexcept nogil:
    """sums[s] = log(exp x[s] + exp x[s + step] + exp (x[s + 2 step] + skip[s])), s below n."""
    cdef double a, b, c
    cdef Py_ssize_t s
    for s in range(n):
        a, b, c = x[s], x[s + step], x[s + 2 * step] + skip[s]
        if b > a:
            a, b = b, a
        if c > a:
            a, c = c, a
        sums[s] = a
        terms[2 * s], terms[2 * s + 1] = b - a, c - a
        if a == -INFINITY:
            sums[s] = a + b + c     # minus infinity, or NaN
            terms[2 * s] = terms[2 * s + 1] = 0
    active(sizeof(double)).exp(2 * n, terms, terms)
    for s in range(n):
        sums[s] += log(1 + terms[2 * s] + terms[2 * s + 1])


cdef double largest(Py_ssize_t n, const real *x) noexcept nogil:
    cdef double most = x[0]
    cdef Py_ssize_t k
    for k in range(1, n):
        if x[k] > most:
            most = x[k]
    return most


cdef double log_total(Py_ssize_t n, const real *x, double most, double *terms) noexcept nogil:
    """log sum exp (x - most). It is not added to `most`, in which it might get lost."""
    cdef double total = 0
    cdef Py_ssize_t k
    exp_less(n, x, most, 0, terms)
    for k in range(n):
        total += terms[k]
    return log(total)


cdef void exp_less(Py_ssize_t n, const real *x, double most, double rest,
                   double *y) noexcept nogil:
    """y = exp(x - most - rest)."""
    cdef Py_ssize_t k
    for k in range(n):
        y[k] = x[k] - most - rest
    active(sizeof(double)).exp(n, y, y)


cdef bint poll(Batch *batch, Py_ssize_t terms, int rank) noexcept nogil:
    """Whether to stop, after `terms` more terms. Rank 0, the calling thread, checks signals."""
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
    cdef Py_ssize_t row = batch.B * V, width = L + 2, low, n, t, s, k
    cdef double log_p, weight = batch.weights[b]
    cdef int64_t *symbols = batch.symbols + rank * (2 * batch.S + 1)
    cdef double *shift = batch.workspace + rank * batch.room    # (T,): largest score of a frame
    cdef double *rest = shift + T           # (T,): log sum exp of the scores less that
    cdef double *skip = rest + T            # (L + 2,): log of whether s is entered from s - 2
    cdef double *beta = skip + width        # (L,)
    cdef double *after = beta + L           # (L + 2,): log gamma of the next frame
    cdef double *occupied = after + width   # (V,): alpha beta / p, by symbol
    cdef double *y = occupied + V           # (V,)
    cdef double *terms = y + V              # (2 L,)
    cdef double *alpha = terms + 2 * L + 2  # (T, L + 2), s from -2
    cdef double *now

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
        shift[t] = largest(V, logits + t * row)
        rest[t] = log_total(V, logits + t * row, shift[t], y)
        if poll(batch, V, rank):
            return

    # In frame t a complete walk is at a place from L - 2 (T - t) on and below 2 (t + 1).
    for t in range(T):
        now = alpha + t * width
        for s in range(-2, L):
            now[s] = -INFINITY
        low = max(0, L - 2 * (T - t))
        n = min(L, 2 * (t + 1)) - low
        if t:
            log_sums(n, now - width + low, -1, skip + low, terms, now + low)
        else:
            for s in range(low, low + n):
                now[s] = 0      # a walk begins at either of the first two
        for s in range(low, low + n):
            now[s] += logits[t * row + symbols[s]] - shift[t] - rest[t]
        if poll(batch, L, rank):
            return
    now = alpha + (T - 1) * width
    log_sums(1, now + L - 1, -1, skip + L, terms, beta)
    log_p = beta[0]
    batch.losses[b] = -log_p
    if not isfinite(log_p):
        for t in range(T):
            for k in range(V):
                d_logits[t * row + k] = NAN
        return

    for t in range(T - 1, -1, -1):
        now = alpha + t * width
        low = max(0, L - 2 * (T - t))
        n = min(L, 2 * (t + 1)) - low
        for s in range(low, low + n):
            beta[s] = 0     # of the last frame
        if t < T - 1:
            log_sums(n, after + low, 1, skip + low + 2, terms, beta + low)
        for s in range(low, low + n):
            terms[s] = now[s] + beta[s] - log_p
            after[s] = beta[s] + (logits[t * row + symbols[s]] - shift[t] - rest[t])
        active(sizeof(double)).exp(n, terms + low, terms + low)
        for s in range(low, low + n):
            occupied[symbols[s]] += terms[s]
        exp_less(V, logits + t * row, shift[t], rest[t], y)
        for k in range(V):
            d_logits[t * row + k] = <real>(weight * (y[k] - occupied[k]))
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
    if batch.B >= 2**31:
        raise OverflowError(f"logits must have fewer than 2**31 sequences, got {batch.B}")
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
    batch.room = T * (width + 2) + 5 * width + 2 * batch.V
    cdef cnp.ndarray workspace = empty((size, batch.room), np.float64)
    cdef cnp.ndarray symbols = empty((size, width), np.int64)
    batch.workspace = <double *>cnp.PyArray_DATA(workspace)
    batch.symbols = <int64_t *>cnp.PyArray_DATA(symbols)
    with nogil:
        for_each(<int>batch.B, size, align_work, &batch)
    if batch.stopped:
        reraise()
    return losses
