"""Instruction sets, threads and elementwise functions of the C kernels."""
cimport numpy as cnp
from libc.stdint cimport uint64_t
from libc.string cimport strcmp

import numpy as np

from fastrnn._core.kernels cimport fr_cell, fr_kernels, fr_map, fr_task, fr_team, fr_work

cnp.import_array()


cdef extern from "fastrnn_kernels.h" nogil:
    void fr_initialise()
    const char *const *fr_available_isas()
    int fr_use_isa(const char *isa)
    const fr_kernels *fr_active(Py_ssize_t item_size)
    void fr_for_each(int tasks, int threads, fr_task task, void *context)
    void fr_wait_for(atomic_ptrdiff_t *counter, Py_ssize_t value)
    void fr_parallel(int size, fr_work work, void *context)
    void fr_barrier(fr_team *team)
    uint64_t fr_flush_denormals()
    void fr_restore_denormals(uint64_t saved)

cdef extern from *:
    unsigned long CYTHON_HEX_VERSION


# Is read without the interpreter's lock.
cdef atomic_int n_threads = 1


cdef const fr_kernels *active(Py_ssize_t item_size) noexcept nogil:
    return fr_active(item_size)


cdef const fr_cell *cell_named(const fr_kernels *kernels, str name) except NULL:
    cdef const fr_cell *cell = kernels.cells
    cdef bytes wanted = name.encode()
    while cell.name != NULL and strcmp(cell.name, wanted) != 0:
        cell += 1
    if cell.name == NULL:
        raise ValueError(f"cell must have compiled kernels, got {name!r}")
    return cell


cdef void for_each(int tasks, int threads, fr_task task, void *context) noexcept nogil:
    fr_for_each(tasks, threads, task, context)


cdef void wait_for(atomic_ptrdiff_t *counter, Py_ssize_t value) noexcept nogil:
    fr_wait_for(counter, value)


cdef void parallel(int size, fr_work work, void *context) noexcept nogil:
    fr_parallel(size, work, context)


cdef void barrier(fr_team *team) noexcept nogil:
    fr_barrier(team)


cdef uint64_t flush_denormals() noexcept nogil:
    return fr_flush_denormals()


cdef void restore_denormals(uint64_t saved) noexcept nogil:
    fr_restore_denormals(saved)


cdef int thread_count() noexcept nogil:
    return n_threads


def cython_version():
    """Version of the Cython that wrote this module's C."""
    cdef unsigned long version = CYTHON_HEX_VERSION     # 0x030301F0 for 3.3.1
    return f"{version >> 24}.{version >> 16 & 255}.{version >> 8 & 255}"


def available_isas():
    """Names of the instruction sets that this build and this CPU have, best last."""
    cdef const char *const *name = fr_available_isas()
    names = []
    while name[0] != NULL:
        names.append(name[0].decode())
        name += 1
    return tuple(names)


def isa():
    """Name of the instruction set in use."""
    return fr_active(4).isa.decode()


def use_isa(str name):
    """Use an instruction set of `available_isas` for all calls that follow."""
    if fr_use_isa(name.encode()) != 0:
        raise ValueError(f"isa must be one of {', '.join(available_isas())}, got {name!r}")


def set_num_threads(int n):
    """Use at most `n` threads in all calls that follow; `n` is validated by the caller."""
    global n_threads
    n_threads = n


def get_num_threads():
    """Number of threads that a call may use."""
    return n_threads


def apply(str function, cnp.ndarray x):
    """exp, tanh or sigmoid of a contiguous float array, by the vector kernels of the active ISA."""
    cdef fr_map kernel
    if x.dtype not in (np.float32, np.float64) or not x.flags.c_contiguous:
        raise TypeError(f"x must be a contiguous float32 or float64 array, got {x.dtype}")
    cdef const fr_kernels *kernels = fr_active(x.itemsize)
    if function == "exp":
        kernel = kernels.exp
    elif function == "tanh":
        kernel = kernels.tanh
    elif function == "sigmoid":
        kernel = kernels.sigmoid
    else:
        raise ValueError(f"function must be exp, tanh or sigmoid, got {function!r}")
    y = np.empty_like(x)
    kernel(x.size, cnp.PyArray_DATA(x), cnp.PyArray_DATA(y))
    return y


fr_initialise()
