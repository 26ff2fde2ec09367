"""PyTorch's threads put to sleep while ours work.

The threads of GNU's OpenMP, which PyTorch's binaries for Linux use, spin for milliseconds after a
parallel region before they sleep. Ours, woken in that time, would have to share the cores with
them: on two threads a step of a 2x128 GRU took 1.4 times as long. So while our kernels run, those
threads sit in a parallel region of their own, in which they wait for a semaphore and thus sleep.

Work too small for that runs on one thread if PyTorch has several: a thread of ours next to a
spinning one costs more than it gains (Zen 5, 300 inputs, tanh RNN 256, B1 T50 between two linear
layers, a training step on two threads: 3.5 ms, on one 1.1, PyTorch's own layer 4.0).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from fastrnn._config import get_num_threads

# PyTorch's n threads are put to sleep for work of at least n**2 times this: waking them takes a
# time proportional to n (15 us for one, a time slice if another process holds its core), and the
# work is divided by n. On two threads: a fifth to a third of a millisecond of one core.
FLOPS_A_SLEEP = 8e6

_ALL, _ALONE = nullcontext(None), nullcontext(1)
_SEMAPHORE = ctypes.c_long * 8  # room for a sem_t
_libc = _openmp = None
if sys.platform == "linux":
    _libc = ctypes.CDLL(None)
    _openmp = ctypes.CDLL(torch._C.__file__)  # finds names in all that PyTorch is linked with
    # LLVM's and Intel's have GNU's names beside their own, but wait in other ways.
    if not hasattr(_openmp, "GOMP_parallel_start") or hasattr(_openmp, "__kmpc_fork_call"):
        _openmp = None


def _forget() -> None:
    """Leave OpenMP alone: in the child of a fork it would wait for threads that are not there."""
    global _openmp
    _openmp = None


if _openmp is not None:
    os.register_at_fork(after_in_child=_forget)


def asleep(flops: float) -> AbstractContextManager[int | None]:
    """Let PyTorch's threads sleep during work that is large enough.

    Inside, PyTorch's own operations run on one thread. The context is the number of threads that
    the kernels may use; None is the number of `set_num_threads`.
    """
    count = torch.get_num_threads()
    if count == 1 or get_num_threads() == 1:
        return _ALL
    if flops < FLOPS_A_SLEEP * count**2:
        return _ALONE
    return _ALL if _openmp is None else _asleep(count)


@contextmanager
def _asleep(count: int) -> Iterator[int | None]:
    semaphore, level = _SEMAPHORE(), _openmp.omp_get_level()
    _libc.sem_init(semaphore, 0, 0)
    try:
        # All threads but this one call sem_wait(semaphore).
        _openmp.GOMP_parallel_start(_libc.sem_wait, semaphore, count)
        yield None
    finally:
        # Ctrl-C may have come before the region was entered, or come between these calls: whatever
        # a handler raises waits until the region is left.
        raised = None
        while True:
            try:
                if _openmp.omp_get_level() <= level:
                    break
                for _ in range(count - 1):  # a post too many does no harm
                    _libc.sem_post(semaphore)
                _openmp.GOMP_parallel_end()
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised
