cimport numpy as cnp


cdef class Block:
    cdef char *start
    cdef size_t size


cdef Block allocate(size_t size)
cdef cnp.ndarray new_array(int axes, cnp.npy_intp *sizes, int typenum)
cdef cnp.ndarray new_like(cnp.ndarray array, Py_ssize_t width)
cdef cnp.ndarray new_of_shape(tuple shape, int typenum)
