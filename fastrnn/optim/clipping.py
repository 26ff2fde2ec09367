"""Clipping of gradients by their common norm."""

from __future__ import annotations

import math

import numpy as np

from fastrnn._validation import check_positive_float
from fastrnn.backends import active_backend
from fastrnn.optim.base import check_parameters
from fastrnn.parameters import Parameters

# By bytes of an element, the mean of squares below which squares that underflow may matter.
_LOWEST = {info.bits // 8: float(info.tiny / info.eps) for info in map(np.finfo, "fd")}


def clip_gradient_norm(parameters: Parameters, max_norm: float) -> float:
    """Scale all gradients together so that their Euclidean norm is at most `max_norm`.

    Parameters
    ----------
    parameters : Parameters
        Their gradients are changed in place where the norm is larger; those of frozen ones neither
        count nor change.
    max_norm : float
        Positive.

    Returns
    -------
    norm : float
        The norm before. Where it is infinite or NaN the gradients were left as they are.

    Raises
    ------
    ValueError, TypeError
        If `parameters` are no `Parameters`, or `max_norm` is not a positive number.

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks" (2013), algorithm 1,
    with the 1e-6 of ``torch.nn.utils.clip_grad_norm_``.
    """
    check_parameters(parameters)
    max_norm = check_positive_float("max_norm", max_norm)
    pieces = parameters.trainable(parameters.flat_gradients)
    norm = math.hypot(*[_norm(gradients) for (gradients,) in pieces])
    scale = max_norm / (norm + 1e-6)
    if math.isfinite(norm) and scale < 1:
        for (gradients,) in pieces:
            gradients *= scale
    return norm


def _norm(x: np.ndarray) -> float:
    norm = active_backend().norm(x)
    if x.size * _LOWEST[x.itemsize] < norm * norm < math.inf:
        return norm
    return _scaled_norm(x)


def _scaled_norm(x: np.ndarray) -> float:
    """Return the Euclidean norm of a buffer whose squares leave the range of its type."""
    largest = float(np.abs(x).max(initial=0))
    if not 0 < largest < math.inf:
        return largest
    scaled = np.divide(x, largest, dtype=np.float64)
    return largest * math.sqrt(np.dot(scaled, scaled))
