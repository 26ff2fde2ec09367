"""The functions of the NumPy reference, by `fastrnn._core`."""

from fastrnn._core.ctc import ctc
from fastrnn._core.functional import (
    adam,
    affine,
    affine_adjoint,
    norm,
    sgd,
    softmax_cross_entropy,
)
from fastrnn._core.memory import empty
from fastrnn._core.scan import MOST_KEPT, replay, scan_adjoints, scans
from fastrnn._core.scan import Scan as Run
from fastrnn._core.stream import Stepper

__all__ = [
    "MOST_KEPT",
    "Run",
    "Stepper",
    "adam",
    "affine",
    "affine_adjoint",
    "ctc",
    "empty",
    "norm",
    "replay",
    "scan_adjoints",
    "scans",
    "sgd",
    "softmax_cross_entropy",
]
