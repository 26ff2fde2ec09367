"""Memory of large arrays, kept to be used again.

A training step takes and returns the same few blocks again and again. The C library gives large
ones back to the system at once, which then has to hand out and clear every page anew: without this
file that was 15 to 30 % of a step (LSTM 2x128, B50 T50: 3,800 page faults, 12 of 75 ms). So a block
that is let go of waits here, up to `MOST_KEPT` bytes in all, the longest-waiting leaving first.

The interpreter's lock guards the table of waiting blocks, and where there is none that of `table`.
Nothing calls Python meanwhile, which might let go of either.
"""
cimport cython
cimport numpy as cnp
from libc.string cimport memcpy

import numpy as np

cnp.import_array()

cdef extern from *:
    """
    #include <stdlib.h>
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif

    /* Large blocks get large pages where the system has them: rows of a long product then share
       an entry of the translation buffer. */
    static char *fr_allocate(size_t size)
    {
        const size_t large = (size_t)1 << 21;
        void *start = NULL;
        if (posix_memalign(&start, size >= large ? large : 64, size) != 0)
            return NULL;
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
        if (size >= large)
            madvise(start, size, MADV_HUGEPAGE);
    #endif
        return start;
    }
    """
    char *fr_allocate(size_t size) nogil
    void free(void *start) nogil

cdef enum:
    MOST_AXES = 64  # as in NumPy

# The C library handles smaller blocks well.
cdef size_t SMALLEST = 1 << 15
cdef size_t MOST_KEPT = 1 << 28

cdef struct Waiting:
    char *start
    size_t size

cdef object table = object()
# In the order in which they came, the longest-waiting first.
cdef Waiting waiting[64]
cdef int count = 0
cdef size_t kept = 0


cdef void remove(int place) noexcept:
    global count, kept
    cdef int i
    kept -= waiting[place].size
    count -= 1
    for i in range(place, count):
        waiting[i] = waiting[i + 1]


cdef void free_longest_waiting() noexcept:
    free(waiting[0].start)
    remove(0)


@cython.auto_pickle(False)  # a copy would return the same memory once more
cdef class Block:
    """Memory that is returned when the last array in it is gone."""

    def __dealloc__(self):
        global count, kept
        if self.start == NULL:
            return
        if self.size < SMALLEST or self.size > MOST_KEPT:
            free(self.start)
            return
        with cython.critical_section(table):
            while count == 64 or kept + self.size > MOST_KEPT:
                free_longest_waiting()
            waiting[count].start = self.start
            waiting[count].size = self.size
            count += 1
            kept += self.size


cdef Block allocate(size_t size):
    """Memory of at least `size` bytes at a multiple of 64, of any contents."""
    cdef Block block = Block.__new__(Block)
    block.size = max(size, <size_t>1)
    if size < SMALLEST:
        block.start = fr_allocate(block.size)
    else:
        with cython.critical_section(table):
            take_waiting(block)
        if block.start == NULL:
            block.size = (size + 4095) // 4096 * 4096
            block.start = fr_allocate(block.size)
    if block.start == NULL:
        # What waits may be what is missing.
        with cython.critical_section(table):
            while block.start == NULL and count > 0:
                free_longest_waiting()
                block.start = fr_allocate(block.size)
    if block.start == NULL:
        raise MemoryError(f"cannot allocate {size} bytes")
    return block


cdef void take_waiting(Block block) noexcept:
    """Give the block the smallest that waits of which at most a quarter is left unused."""
    cdef size_t size = block.size
    cdef int i, best = -1
    for i in range(count):
        if (size <= waiting[i].size <= size + size // 3
                and (best < 0 or waiting[i].size < waiting[best].size)):
            best = i
    if best >= 0:
        block.start = waiting[best].start
        block.size = waiting[best].size
        remove(best)


cdef cnp.ndarray new_array(int axes, cnp.npy_intp *sizes, int typenum):
    """An array of numbers of any contents."""
    cdef size_t item = cnp.PyArray_DescrFromType(typenum).itemsize, size = item
    cdef double elements = 1  # which an integer may not hold
    cdef int i
    for i in range(axes):
        size *= sizes[i]
        elements *= sizes[i]
    if elements * item < SMALLEST:
        return cnp.PyArray_SimpleNew(axes, sizes, typenum)
    if elements > 2.**60:
        raise MemoryError(f"cannot allocate {elements:.0f} elements")
    cdef Block block = allocate(size)
    cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(axes, sizes, typenum, block.start)
    cnp.set_array_base(array, block)
    return array


cdef cnp.ndarray new_like(cnp.ndarray array, Py_ssize_t width):
    """An array of any contents, shaped as another but for its last axis."""
    cdef cnp.npy_intp sizes[MOST_AXES]
    cdef int axes = cnp.PyArray_NDIM(array)
    memcpy(sizes, cnp.PyArray_DIMS(array), axes * sizeof(cnp.npy_intp))
    sizes[axes - 1] = width
    return new_array(axes, sizes, cnp.PyArray_TYPE(array))


cdef cnp.ndarray new_of_shape(tuple shape, int typenum):
    """An array of numbers of any contents."""
    cdef cnp.npy_intp sizes[MOST_AXES]
    cdef int i, axes = len(shape)
    if axes > MOST_AXES:
        raise ValueError(f"shape must have at most {MOST_AXES} axes, got {axes}")
    for i in range(axes):
        sizes[i] = shape[i]
    return new_array(axes, sizes, typenum)


def empty(tuple shape, dtype):
    """Return an array of any contents, as `numpy.empty` does."""
    cdef cnp.dtype descr = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
    return np.empty(shape, descr) if descr.hasobject else new_of_shape(shape, descr.num)
