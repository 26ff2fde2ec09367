"""Measurements in a separate process: a case, peak memory, import time; and a busy neighbour."""

from __future__ import annotations

import ctypes
import multiprocessing
import site
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .cases import Case
from .peers import SIDES, Problem, use_threads

ROOT = Path(__file__).resolve().parents[1]
_IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def alone(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what a function returns in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    # pytest imports this package without its folder on the path, which the process inherits.
    with ProcessPoolExecutor(1, spawn, site.addsitedir, (str(ROOT),)) as process:
        return process.submit(function, *args, **kwargs).result()


def import_seconds(modules: str) -> float:
    """Return the seconds that ``import modules`` takes, the interpreter's own start left out."""
    command = [sys.executable, "-c", _IMPORT.format(modules)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def peak_memory(name: str, case: Case, threads: int) -> int:
    """Return the bytes that one call of a side adds at its peak, in a fresh process."""
    return alone(_peak_of_call, name, case, threads)


@contextmanager
def neighbour() -> Iterator[None]:
    """Keep another process spinning."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def _peak_of_call(name: str, case: Case, threads: int) -> int:
    make = SIDES["fwdbwd"][name]
    small = make(Problem(replace(case, steps=2)), threads)
    side = make(Problem(case), threads)
    with use_threads(threads), side.context():
        small.call()  # loads libraries and starts threads
        # ru_maxrss of a child starts at its parent's peak, so the kernel's own mark is reset and
        # read. What malloc has kept of freed memory would hide as much of the call's.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        side.call()
        return _status("VmHWM") - before


def _status(field: str) -> int:
    """Return a field of Linux's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
