"""Settings of the whole process: threads and instruction set, read from the environment at import.

``FASTRNN_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the cores that the process may use give the
number of threads; ``FASTRNN_ISA`` names an instruction set lower than the best one. A value that
makes no sense is a `RuntimeWarning` and is passed over.
"""

import math
import os
import platform
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, overload

import numpy as np

from fastrnn._validation import check_choice, check_positive_int
from fastrnn._version import __version__

_kernels: ModuleType | None
try:
    from fastrnn._core import kernels as _kernels
except ImportError:  # built without a compiler: the NumPy backend runs everything
    _kernels = None

MAX_THREADS = 256  # as in src/kernels/threads.c
# The processor time that a container may use in a period, and that period: in one file in version 2
# of control groups, with "max" for no limit; in two files in version 1, with -1.
CGROUP = Path("/sys/fs/cgroup")
LIMITS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
_num_threads = 1


def set_num_threads(n: int) -> None:
    """Let every call that follows use at most `n` threads.

    Parameters
    ----------
    n : int
        1 to 256. Small work stays on one thread whatever `n` is.

    Raises
    ------
    TypeError, ValueError
        If `n` is anything else; the number stays as it was.
    """
    global _num_threads
    number = check_positive_int("n", n)
    if number > MAX_THREADS:
        raise ValueError(f"n must be at most {MAX_THREADS} threads, got {number}")
    if _kernels is not None:
        _kernels.set_num_threads(number)
    _num_threads = number


def get_num_threads() -> int:
    """Return the number of threads that a call may use."""
    return _num_threads


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print versions, BLAS, instruction set, threads and backend: what a bug report needs.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        ``"dicts"`` returns the table as a dictionary and prints nothing, as in `numpy.show_config`.

    Returns
    -------
    config : dict of str to str, int or tuple of str, or None

    Raises
    ------
    ValueError
        If `mode` is another.
    """
    check_choice("mode", mode, ("stdout", "dicts"))
    config = _config()
    if mode == "dicts":
        return config
    width = max(map(len, config))
    for name, value in config.items():
        text = ", ".join(value) if isinstance(value, tuple) else value
        print(f"{name:{width}}  {text}")
    return None


def _config() -> dict[str, Any]:
    import scipy

    from fastrnn.backends import active_backend

    try:
        backend = active_backend().__name__.rpartition(".")[2]
    except (ImportError, ValueError) as error:  # the report is to show it
        backend = f"none ({error})"
    # The compiled backend calls SciPy's BLAS, the reference NumPy's.
    provider = scipy if backend == "compiled" else np
    blas = provider.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "fastrnn": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "Cython": "none" if _kernels is None else _kernels.cython_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "BLAS": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "backend": backend,
        "instruction set": "none" if _kernels is None else _kernels.isa(),
        "available": () if _kernels is None else _kernels.available_isas(),
        "threads": get_num_threads(),
    }


def _cores() -> int:
    """Cores that this process may run on, at most as many as its container gets the time of."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for files in LIMITS:
        try:
            text = " ".join([(CGROUP / name).read_text() for name in files])
            quota, period = map(int, text.split())
            if quota > 0:
                return min(cores, math.ceil(quota / period))
        except (OSError, ValueError, ZeroDivisionError):  # of the other version, or "max"
            continue
    return cores


def _read_environment() -> None:
    if isa := os.environ.get("FASTRNN_ISA"):
        available = _kernels.available_isas() if _kernels else ()
        if isa in available:
            _kernels.use_isa(isa)
        else:
            _warn("FASTRNN_ISA", " or ".join(available) or "unset without the extension", isa)
    for name in ("FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"):
        if text := os.environ.get(name):
            try:
                # OpenMP takes a list, "4,2": a number for every level of nesting.
                return set_num_threads(int(text.partition(",")[0]))
            except ValueError:
                _warn(name, f"a number of threads from 1 to {MAX_THREADS}", text)
    return set_num_threads(min(_cores(), MAX_THREADS))


def _warn(variable: str, expected: str, text: str) -> None:
    message = f"{variable} must be {expected}, got {text!r}; it is ignored"
    warnings.warn(message, RuntimeWarning, stacklevel=1)


_read_environment()
