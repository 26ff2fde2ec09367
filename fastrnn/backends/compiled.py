"""The functions of the NumPy reference, by `fastrnn._core`."""

from collections.abc import Mapping, Sequence

import numpy as np

from fastrnn._core.ctc import ctc
from fastrnn._core.memory import empty
from fastrnn._core.passes import adam, affine, affine_adjoint, norm, softmax_cross_entropy
from fastrnn._core.scan import Scan, scan_adjoints, scans
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
    return scans([(cell, weights, x, offsets, tuple(state), out, reverse, keep_tape, extras)])[0]


def scan_adjoint(
    tape: Scan,
    d_out: np.ndarray | None,
    d_final: Sequence[np.ndarray | None] | None,
    gradients: Weights,
    input_gradient: bool = True,
) -> tuple[np.ndarray | None, tuple[np.ndarray, ...]]:
    """Run the adjoint of `scan`, as :func:`fastrnn.backends.reference.scan_adjoint` does."""
    call = (d_out, d_final and tuple(d_final), gradients, input_gradient)
    return scan_adjoints([tape], [call])[0]
