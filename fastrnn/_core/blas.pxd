"""Row-major matrix products through SciPy's BLAS: the one place that knows BLAS."""


cdef struct Matrix:
    # Row-major, `row` elements from one row to the next; `transposed` for the operand as stored.
    void *data
    Py_ssize_t row
    bint transposed


cdef inline Matrix as_matrix(void *data, Py_ssize_t row, bint transposed) noexcept nogil:
    cdef Matrix m
    m.data = data
    m.row = row
    m.transposed = transposed
    return m


cdef void gemm(Py_ssize_t item_size, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Matrix a, Matrix b,
               bint accumulate, Matrix c) noexcept nogil
cdef void use_one_thread() noexcept
cdef void restore_threads() noexcept
