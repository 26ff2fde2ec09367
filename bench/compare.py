"""Compare the libraries call against call: ``python -m bench.compare --help``.

In each round every side runs for a moment, one after the other, so that other work of the machine
slows all of them alike. A ratio is the median of the rounds' ratios, its spread their quartiles.
All sides of a case share a process, and each case has a new one for each number of threads, because
the state of the C library's allocator after one case changes the times of another.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import time
import timeit
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import blas

import fastrnn as fr

from . import cases, peers, processes, report
from .cases import Case

PEERS = tuple(report.LIBRARIES)
GEMM_SIZE = 2048
# Idle threads of OpenBLAS and OpenMP spin for up to 30 ms after a call, on cores that the next
# side needs.
SETTLE_SECONDS = 0.05
SLOW_SECONDS = 0.2  # a call that takes this long needs no warm-up


def measure(
    case: Case,
    threads: int,
    names: Iterable[str] = PEERS,
    *,
    rounds: int = 15,
    seconds: float = 0.05,
    beside: bool = False,
) -> dict[str, Any]:
    """Measure all sides of a case in turns, after a check that they agree.

    Parameters
    ----------
    case : Case
    threads : int
        For every library.
    names : iterable of str
        Peers to compare with; those that are not installed are left out.
    rounds : int
        Samples of each side; at most 5 of memory, which hardly varies.
    seconds : float
        Length of a sample, at least one call.
    beside : bool
        Whether another process spins meanwhile.

    Returns
    -------
    run : dict
        ``threads``, ``neighbour``, ``rounds``; ``unit`` of the values, ``"s"`` or ``"B"``;
        ``ceiling``, the FLOP/s of a large matrix product where gradients are timed, else None; and
        ``sides``: for each its ``value`` and, but for ours, its ``ratio`` to ours, both as
        ``[lower quartile, median, upper quartile]``. Where gradients are timed on several threads,
        ours on one thread is another side.
    """
    samplers = _samplers(case, threads, names, seconds)
    taken: dict[str, list[float]] = {name: [] for name in samplers}
    products = _large_products(case.dtype) if case.trains else []
    fastest = np.inf
    with processes.neighbour() if beside else nullcontext(), peers.use_threads(threads):
        for _ in range(min(rounds, 5) if case.kind == "memory" else rounds):
            for name, sample in samplers.items():
                time.sleep(SETTLE_SECONDS if threads > 1 else 0)
                taken[name].append(sample())
            for product in products:
                fastest = min(fastest, timeit.timeit(product, number=1))
    ours = np.array(taken["fastrnn"])
    sides = {name: {"value": quartiles(values)} for name, values in taken.items()}
    for name in sides.keys() - {"fastrnn"}:
        sides[name]["ratio"] = quartiles(np.array(taken[name]) / ours)
    return {
        "threads": threads,
        "neighbour": beside,
        "rounds": len(ours),
        "unit": "B" if case.kind == "memory" else "s",
        "ceiling": 2 * GEMM_SIZE**3 / fastest if products else None,
        "sides": sides,
    }


def _samplers(
    case: Case, threads: int, names: Iterable[str], seconds: float
) -> dict[str, Callable[[], float]]:
    if case.kind == "import":
        modules = {"fastrnn": "fastrnn", "numpy": "numpy, scipy.linalg.cython_blas"}
        return {name: partial(processes.import_seconds, m) for name, m in modules.items()}
    here = peers.side_names(case, names)
    if case.kind == "memory":
        return {name: partial(processes.peak_memory, name, case, threads) for name in here}
    problem = peers.Problem(case)
    sides = {name: peers.SIDES[case.kind][name](problem, threads) for name in here}
    with peers.use_threads(threads):
        peers.check(case, sides)
        if case.trains and threads > 1:
            one_thread = partial(peers.use_threads, 1)
            sides[report.ONE_THREAD] = sides["fastrnn"]._replace(context=one_thread)
        return {name: _timer(side, seconds) for name, side in sides.items()}


def _timer(side: peers.Side, seconds: float) -> Callable[[], float]:
    """Return a function that takes one sample: the mean seconds of enough calls, warmed up."""
    number = 1
    with side.context():  # timeit switches the garbage collector off and reads perf_counter
        while (best := min(timeit.repeat(side.call, number=number, repeat=3))) < seconds / 4:
            number *= 4
    one = best / number
    number = max(1, round(seconds / one))
    warm_up = 0 if one > SLOW_SECONDS else max(1, number // 4)

    def sample() -> float:
        with side.context():
            timeit.timeit(side.call, number=warm_up)
            return timeit.timeit(side.call, number=number) / number

    return sample


def quartiles(values: Any) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    return np.quantile(values, [0.25, 0.5, 0.75]).tolist()


def _large_products(dtype: str) -> list[Callable[[], object]]:
    """Return the large matrix product of SciPy's BLAS, and PyTorch's: the machine's ceiling."""
    a, b = np.random.default_rng(0).standard_normal((2, GEMM_SIZE, GEMM_SIZE)).astype(dtype)
    product = blas.sgemm if dtype == "float32" else blas.dgemm
    products = [partial(product, 1.0, a.T, b.T)]  # transposed: BLAS counts along columns
    try:
        import torch
    except ImportError:
        return products
    return [*products, partial(torch.mm, torch.from_numpy(a), torch.from_numpy(b))]


def environment() -> dict[str, Any]:
    """Return the facts that results depend on, by the name under which to print them."""
    config = fr.show_config(mode="dicts")
    kept = ("platform", "instruction set", "BLAS", "fastrnn", "Python", "NumPy", "SciPy")
    versions = {"PyTorch": "torch", "ONNX Runtime": "onnxruntime"}
    installed = {d.name for d in importlib.metadata.distributions()}
    return {
        "CPU": _cpu(),
        "cores": os.cpu_count(),
        **{name: config[name] for name in kept},
        **{t: importlib.metadata.version(n) for t, n in versions.items() if n in installed},
        "date": datetime.date.today().isoformat(),
        "load at the start": round(os.getloadavg()[0], 1),
    }


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    fields = {
        name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines)
    }
    name = fields.get("model name", platform.processor())
    if not {"cpu family", "model"} <= fields.keys():  # other architectures
        return name
    # Several generations may share a name.
    return f"{name} (family {fields['cpu family']}, model {fields['model']})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write ``results/<case>.json``."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    add = parser.add_argument
    add("--cases", nargs="+", default=[], metavar="WORD", help="those with a WORD in their names")
    example = "fwdbwd lstm hidden=300 layers=2 input=40 batch=16 steps=80 dtype=float64"
    more = f'another case, such as "{example}"; kinds are {", ".join(cases.KINDS)}'
    add("--case", action="append", default=[], metavar="SPEC", help=more)
    default = [n for n in (1, 2) if n <= fr.get_num_threads()]
    add("--threads", nargs="+", type=int, default=default, metavar="N")
    add("--peers", nargs="*", default=PEERS, choices=PEERS)
    add("--rounds", type=int, default=15, metavar="N")
    add("--quick", action="store_true", help="3 short rounds to see that all runs; nothing written")
    add("--neighbour", action="store_true", help="each also beside a process that spins")
    add("--output", type=Path, default=report.RESULTS, metavar="FOLDER")
    args = parser.parse_args(arguments)
    if fr.show_config(mode="dicts")["backend"] != "compiled":
        parser.error("the compiled backend is not active; build it with `pip install -e .`")
    try:
        chosen = [cases.parse(spec) for spec in args.case]
        chosen += cases.select(args.cases) if args.cases or not chosen else []
    except ValueError as error:
        parser.error(str(error))
    effort = {"rounds": 3, "seconds": 0.01} if args.quick else {"rounds": args.rounds}
    where = environment()
    print(report.describe(where))
    for case in chosen:
        runs = [
            processes.alone(measure, case, threads, args.peers, **effort, beside=beside)
            for beside in ((False, True) if args.neighbour else (False,))
            for threads in (args.threads[:1] if case.kind == "import" else args.threads)
        ]
        result = report.Result(case, where, runs)
        print(f"\n{report.as_text(result)}", flush=True)
        if not args.quick:
            args.output.mkdir(parents=True, exist_ok=True)
            content = {"case": case.name, "spec": case.spec, "environment": where, "runs": runs}
            path = args.output / f"{case.slug}.json"
            path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
