"""Cross-entropy of several variables that are predicted together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import as_array, check_floats, check_positive_int
from fastrnn.losses.cross_entropy import softmax_cross_entropy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def joint_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, sizes: Sequence[int], mask: ArrayLike | None = None
) -> tuple[float, np.ndarray]:
    r"""Sum of the cross-entropies of K variables, each with a softmax over scores of its own.

    .. math:: L = \sum_{k=1}^K L_k(x_k, t_k)

    with the :math:`L_k` of :func:`softmax_cross_entropy`.

    Parameters
    ----------
    logits : array_like, shape (..., V_1 + ... + V_K)
        Scores of the first variable's values, then of the second's, and so on; float32 or taken as
        float64.
    targets : array_like of int, shape (..., K)
        Values of the variables, in 0 to V_k - 1.
    sizes : sequence of int
        Numbers of values V_1 to V_K.
    mask : array_like of bool, shape (...), optional
        True where an element, which is a value of each variable, counts. Default: all do.

    Returns
    -------
    loss : float
        Nats, sum over the variables, mean over the elements that count.
    d_logits : ndarray, shape and dtype of `logits`
        Gradient of that mean.

    Raises
    ------
    ValueError, TypeError
        As from :func:`softmax_cross_entropy`; ValueError if the sizes are not those of the logits.
    """
    logits = check_floats("logits", logits)
    try:
        sizes = list(sizes)
    except TypeError:
        found = type(sizes).__name__
        raise TypeError(f"sizes must be a sequence of int, got {found}") from None
    sizes = [check_positive_int("sizes", size) for size in sizes]
    if logits.ndim == 0 or logits.shape[-1] != sum(sizes) or not sizes:
        raise ValueError(
            f"logits must be (..., {sum(sizes)}) for sizes {sizes}, got {logits.shape}"
        )
    targets = as_array("targets", targets)
    if targets.shape != (*logits.shape[:-1], len(sizes)):
        raise ValueError(f"targets must be {(*logits.shape[:-1], len(sizes))}, got {targets.shape}")
    blocks = np.split(logits, np.cumsum(sizes)[:-1], axis=-1)
    parts = [softmax_cross_entropy(x, targets[..., k], mask) for k, x in enumerate(blocks)]
    losses, gradients = zip(*parts)
    return sum(losses), np.concatenate(gradients, axis=-1)
