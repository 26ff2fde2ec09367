"""Row-major matrix products through SciPy's BLAS.

The functions are taken from `scipy.linalg.cython_blas` at import. BLAS wants pointers to its
integers: int32 in common builds of SciPy (LP64), int64 in others (ILP64). We point to int64 whose
values are below 2**31: on little-endian machines, which are all that we support, both read them
right, and one wheel serves both.

Our threads call BLAS side by side, each on its own slice, so BLAS itself must keep to one: two
pools of threads awake on the same cores slow each other down many times over.
"""
cimport cython
from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.stdint cimport int64_t

import os

from scipy.linalg import cython_blas

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *path, int mode)
    void *dlsym(void *handle, const char *name)
    int RTLD_LAZY

ctypedef void (*blas_gemm)(char *trans_a, char *trans_b, int64_t *m, int64_t *n, int64_t *k,
                           void *alpha, void *a, int64_t *lda, void *b, int64_t *ldb, void *beta,
                           void *c, int64_t *ldc) noexcept nogil
ctypedef int (*thread_getter)() noexcept nogil
ctypedef void (*thread_setter)(int n) noexcept nogil


cdef void *address_of(str name) except NULL:
    capsule = cython_blas.__pyx_capi__[name]
    return PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


cdef blas_gemm sgemm = <blas_gemm>address_of("sgemm")
cdef blas_gemm dgemm = <blas_gemm>address_of("dgemm")


cdef void gemm(Py_ssize_t item_size, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Matrix a, Matrix b,
               bint accumulate, Matrix c) noexcept nogil:
    """c (m, n) = a (m, k) b (k, n), or += with `accumulate`."""
    cdef int64_t rows = m, cols = n, depth = k, a_row = a.row, b_row = b.row, c_row = c.row
    cdef char trans_a = b"T" if a.transposed else b"N"
    cdef char trans_b = b"T" if b.transposed else b"N"
    cdef float one32 = 1, beta32 = 1 if accumulate else 0
    cdef double one64 = 1, beta64 = 1 if accumulate else 0
    if m == 0 or n == 0:
        return
    # BLAS is column-major, where our arrays are their transposes: c' = b' a'.
    if item_size == 4:
        sgemm(&trans_b, &trans_a, &cols, &rows, &depth, &one32, b.data, &b_row, a.data, &a_row,
              &beta32, c.data, &c_row)
    else:
        dgemm(&trans_b, &trans_a, &cols, &rows, &depth, &one64, b.data, &b_row, a.data, &a_row,
              &beta64, c.data, &c_row)


cdef thread_getter get_threads = NULL
cdef thread_setter set_threads = NULL
cdef object guard = object()
cdef int callers = 0
cdef int saved_threads = 1


cdef void find_thread_control():
    """Look for OpenBLAS's switches in the library that SciPy's BLAS comes from."""
    global get_threads, set_threads
    cdef void *library = dlopen(cython_blas.__file__.encode(), RTLD_LAZY)
    if library == NULL:
        return
    for name in ("scipy_openblas_{}_num_threads", "scipy_openblas_{}_num_threads64_",
                 "openblas_{}_num_threads", "openblas_{}_num_threads64_"):
        get_threads = <thread_getter>dlsym(library, name.format("get").encode())
        set_threads = <thread_setter>dlsym(library, name.format("set").encode())
        if get_threads != NULL and set_threads != NULL:
            return
    get_threads = set_threads = NULL


find_thread_control()


# The interpreter's lock guards the count of callers, and where there is none that of `guard`.
cdef void use_one_thread() noexcept:
    global callers, saved_threads
    if set_threads == NULL:
        return
    with cython.critical_section(guard):
        if callers == 0:
            saved_threads = get_threads()
            if saved_threads != 1:
                set_threads(1)
        callers += 1


cdef void restore_threads() noexcept:
    global callers
    if set_threads == NULL:
        return
    with cython.critical_section(guard):
        callers -= 1
        if callers == 0 and saved_threads != 1:
            set_threads(saved_threads)


def forget_callers():
    """Give BLAS its threads back in a child of fork(), where no other caller is left to do it."""
    global callers
    if callers > 0:
        callers = 1
        restore_threads()


os.register_at_fork(after_in_child=forget_callers)
