"""The time loop of `fastrnn._core`, behind the same two functions as the NumPy reference."""

from collections.abc import Mapping, Sequence

import numpy as np

from fastrnn._core.ctc import ctc
from fastrnn._core.memory import empty
from fastrnn._core.passes import adam, affine, affine_adjoint, norm, softmax_cross_entropy
from fastrnn._core.scan import Scan
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
