"""What is asked of arrays before their addresses are taken."""
cimport numpy as cnp


cdef inline char *data(cnp.ndarray array) noexcept:
    return cnp.PyArray_BYTES(array)


cdef inline char *writable(str name, cnp.ndarray array) except? NULL:
    """The memory of an array that is written to, which may be that of a read-only file."""
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{name} must be writable, got a read-only array")
    return data(array)


cdef inline cnp.ndarray checked(str name, object value, int typenum, Py_ssize_t rows,
                                Py_ssize_t columns):
    """A contiguous array (rows, columns) of the element type, or (rows,) for columns = -1."""
    cdef cnp.ndarray array
    if not cnp.PyArray_Check(value):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}")
    array = value
    cdef int axes = 1 if columns < 0 else 2
    if (cnp.PyArray_TYPE(array) != typenum or not cnp.PyArray_IS_C_CONTIGUOUS(array)
            or cnp.PyArray_NDIM(array) != axes or cnp.PyArray_DIM(array, 0) != rows
            or (axes == 2 and cnp.PyArray_DIM(array, 1) != columns)):
        expected = f"{cnp.PyArray_DescrFromType(typenum)} {(rows, columns)[:axes]}"
        raise ValueError(f"{name} must be contiguous {expected}, "
                         f"got {(<object>array).dtype} {(<object>array).shape}")
    return array


cdef inline cnp.ndarray matrix(str name, object value):
    """An array of two axes."""
    if not cnp.PyArray_Check(value) or cnp.PyArray_NDIM(value) != 2:
        raise ValueError(f"{name} must be an array of two axes, got {value!r:.80}")
    return value


cdef inline int check_number(str name, Py_ssize_t expected, Py_ssize_t found) except -1:
    """Refuse too few or too many arrays: what is compiled does not look at a list's end."""
    if found != expected:
        raise ValueError(f"{name} must have {expected} arrays, got {found}")
    return 0
