"""The time loop of `fastrnn._core`, behind the same two functions as the NumPy reference."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn._core.ctc import ctc
from fastrnn._core.memory import empty
from fastrnn._core.passes import adam, affine, affine_adjoint, norm, softmax_cross_entropy
from fastrnn._core.scan import Scan, adjoint_both, forward_both
from fastrnn._core.stream import Stepper
from fastrnn.cells import CellSpec, Extras

Weights = Mapping[str, np.ndarray]

__all__ = [
    "Stepper",
    "adam",
    "affine",
    "affine_adjoint",
    "ctc",
    "empty",
    "norm",
    "scan",
    "scan_adjoint",
    "scan_adjoints",
    "scans",
    "softmax_cross_entropy",
]


def scan(
    cell: CellSpec,
    weights: Weights,
    x: np.ndarray,
    offsets: np.ndarray,
    state: Sequence[np.ndarray],
    out: np.ndarray,
    *,
    reverse: bool = False,
    keep_tape: bool = False,
    extras: Extras | None = None,
) -> tuple[tuple[np.ndarray, ...], Scan | None]:
    """Run a cell over all steps, as :func:`fastrnn.backends.reference.scan` does."""
    run = Scan(cell.name, weights, x, offsets, tuple(state), out, reverse, keep_tape, extras)
    final_state = run.forward()
    return final_state, run if keep_tape else None


def scan_adjoint(
    tape: Scan,
    d_out: np.ndarray | None,
    d_final: Sequence[np.ndarray | None] | None,
    gradients: Weights,
) -> tuple[np.ndarray | None, tuple[np.ndarray, ...]]:
    """Run the adjoint of `scan`, as :func:`fastrnn.backends.reference.scan_adjoint` does."""
    return tape.adjoint(d_out, None if d_final is None else tuple(d_final), gradients)


def scans(calls: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[np.ndarray, ...], Scan | None]]:
    """Run `scan` for each call, as :func:`fastrnn.backends.reference.scans` does."""
    if len(calls) != 2:
        return [scan(**call) for call in calls]
    runs = [
        Scan(
            call["cell"].name,
            *[call[name] for name in ("weights", "x", "offsets")],
            tuple(call["state"]),
            call["out"],
            *[call.get(name, False) for name in ("reverse", "keep_tape")],
            call.get("extras"),
        )
        for call in calls
    ]
    finals = forward_both(*runs)
    return [
        (final, run if call.get("keep_tape") else None)
        for call, run, final in zip(calls, runs, finals)
    ]


def scan_adjoints(
    tapes: Sequence[Scan], calls: Sequence[tuple[Any, ...]]
) -> list[tuple[np.ndarray | None, tuple[np.ndarray, ...]]]:
    """Run `scan_adjoint` for each, as :func:`fastrnn.backends.reference.scan_adjoints` does."""
    if len(calls) != 2:
        return [scan_adjoint(tape, *call) for tape, call in zip(tapes, calls)]
    first, second = [
        (d_out, None if d_final is None else tuple(d_final), gradients)
        for d_out, d_final, gradients in calls
    ]
    return list(adjoint_both(*tapes, first, second))
