cdef class Block:
    cdef char *start
    cdef size_t size


cdef Block allocate(size_t size)
cpdef object empty(tuple shape, dtype)
