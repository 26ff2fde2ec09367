"""Times that no implementation can go below: ``python -m bench.floors --write docs/zen5.md``.

The floor of a case is a sum of times. First, its matrix products at the highest speed that was
seen: of a library's large product measured with the case, or of our product measured here. For a
single sequence, the recurrent products count as the time to read their weights once a step, which
is measured here as the faster of SciPy's ``gemv`` and our one-row product. Then, the sigmoids and
tanhs of the forward pass, on as many threads, over an array in L1. For a training step also the
loss of as many scores and Adam over as many parameters, each measured alone. Not included are
copies of rows, other work element by element, calls, and threads that wait for each other.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.linalg import blas

from fastrnn._core import kernels
from fastrnn.backends import active_backend

from . import report
from .cases import GATES, Case
from .peers import Problem, use_threads
from .report import Result, Row

FUNCTIONS = {"rnn": 1, "lstm": 5, "gru": 3}  # sigmoids and tanhs of a unit in a step


def multiplying_speed(threads: int, dtype: str) -> float:
    """Return the floating-point operations a second of a product of ours that stays in cache."""
    rows, columns, depth = 768 * threads, 1024, 256
    x, weight = np.ones((rows, depth), dtype), np.ones((columns, depth), dtype)
    product = partial(active_backend().affine, x, weight, None)
    with use_threads(threads):
        seconds = min(timeit.repeat(product, number=5, repeat=15)) / 5
    return 2 * rows * columns * depth / seconds


def reading_seconds(size: int) -> float:
    """Return the seconds of the fastest product of a vector with a matrix of `size` bytes.

    Ours goes through quarters of a large matrix, and back from the last one to the first, as a
    loop does with its rows. Those of calls that multiply next to nothing are taken off.
    """
    parts = 4 if size >= 1 << 20 else 1
    backend = active_backend()

    def seconds(rows: int, columns: int) -> list[float]:
        x, weight = np.ones((1, columns), np.float32), np.ones((rows, columns), np.float32)
        there = np.array_split(weight, parts)
        there_and_back = there + there[::-1]
        products = [
            (1, lambda: blas.sgemv(1.0, weight.T, x[0], trans=1)),
            (2, lambda: [backend.affine(x, part, None) for part in there_and_back]),
        ]
        number = max(3, 50_000_000 // weight.nbytes)
        return [
            min(timeit.repeat(product, number=number, repeat=15)) / number / vectors
            for vectors, product in products
        ]

    with use_threads(1):
        return min(
            whole - call
            for columns in (128, 256, 512, 1008)
            for whole, call in zip(seconds(size // (4 * columns), columns), seconds(4, columns))
        )


def function_seconds(dtype: str) -> float:
    """Return the seconds of an element of a tanh, on one thread; a sigmoid takes about as long."""
    x = np.linspace(-3, 3, 1024, dtype=dtype)
    one = x[:1].copy()
    whole, call = (
        min(timeit.repeat(lambda x=x: kernels.apply("tanh", x), number=1000, repeat=15)) / 1000
        for x in (x, one)
    )
    return (whole - call) / x.size


def step_seconds(case: Case, threads: int) -> float:
    """Return the seconds of the loss of a training step, and of Adam."""
    backend = active_backend()
    scores = np.zeros((case.batch * case.steps, case.vocabulary), case.dtype)
    ids = np.zeros(len(scores), np.int64)
    buffers = np.full((4, Problem(case).model().parameters.flat_values.size), 1e-3, case.dtype)
    settings = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    passes = [
        lambda: backend.softmax_cross_entropy(scores, ids),
        lambda: backend.adam(*buffers, step=1, weight_decay=0.0, shrink=1.0, **settings),
    ]
    with use_threads(threads):
        return sum(min(timeit.repeat(f, number=3, repeat=15)) / 3 for f in passes)


def demands(case: Case) -> tuple[float, float, int]:
    """Return floating-point operations of products, bytes read a step, and steps that read them."""
    gates, H, B, T = GATES[case.cell], case.hidden, case.batch, case.steps
    item = np.dtype(case.dtype).itemsize
    flops = float(case.flops)
    if case.vocabulary and (not case.embedding or case.vocabulary <= B * T):
        # The first layer's input product is a row of a table, or of the weight.
        flops -= 6 * B * T * gates * H * case.input_size
    if case.kind == "stream":
        return 0, gates * H * (case.input_size + H) * item, 1
    if B > 1:
        return flops, 0, 0
    passes = 2 if case.trains else 1  # the adjoint reads them as well
    return flops - passes * 2 * T * gates * H * H, gates * H * H * item, passes * T


def floors(results: Iterable[Result]) -> Iterator[Row]:
    """Yield the rows on how near each case is to its floor, heading first."""
    yield "case", "threads", "fastrnn", "floor", "floor / fastrnn", "target"
    results = [r for r in results if r.case.kind in ("stream", "infer", "fwdbwd", "train-step")]
    speeds = {
        (threads, dtype): max(
            multiplying_speed(threads, dtype),
            *[
                run["ceiling"] or 0
                for case, _, runs in results
                for run in runs
                if run["threads"] == threads and case.dtype == dtype
            ],
        )
        for threads in {run["threads"] for _, _, runs in results for run in runs}
        for dtype in {case.dtype for case, _, _ in results}
    }
    for case, _, runs in results:
        for run in [run for run in runs if not run["neighbour"]]:
            wanted = [
                run["sides"][name]["value"][1] / target.ratio
                for peer, name in report.fastest(run).items()
                for target in case.targets
                if target.peer == peer and run["threads"] in target.threads
            ]
            if not wanted:
                continue
            flops, size, steps = demands(case)
            floor = flops / speeds[run["threads"], case.dtype]
            threads = 1 if case.kind == "stream" else run["threads"]
            floor += steps * reading_seconds(size // threads) if steps else 0
            functions = case.batch * case.steps * case.layers * case.hidden * FUNCTIONS[case.cell]
            floor += functions * function_seconds(case.dtype) / threads
            floor += step_seconds(case, run["threads"]) if case.kind == "train-step" else 0
            ours = report.ours(run)
            least = min(wanted)
            yield (
                case.name,
                str(run["threads"]),
                report.amount(ours, "s"),
                report.amount(floor, "s"),
                f"{floor / ours:.0%}",
                report.amount(least, "s") + (": below the floor" if least < floor else ""),
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or put it where documents are marked for it."""
    parser = argparse.ArgumentParser(prog="python -m bench.floors", description=__doc__)
    parser.add_argument("--results", type=Path, default=report.RESULTS, metavar="FOLDER")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="DOCUMENT")
    args = parser.parse_args(arguments)
    table = report.markdown(floors(report.load(args.results)))
    for path in args.write:
        report.rewrite(path, {"floors": table})
    if not args.write:
        print(table)


if __name__ == "__main__":
    main()
