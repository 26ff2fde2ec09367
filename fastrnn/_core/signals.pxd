"""Ctrl-C: work without the interpreter's lock looks for it, and is then left by hand."""

cdef extern from "Python.h":
    # Where it is not 0 an exception is set.
    int PyErr_CheckSignals()


cdef inline int reraise() except -1:
    """Let the exception go on that a check for Ctrl-C has set."""
    return -1
