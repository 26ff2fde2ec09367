"""Cross-entropy against ids, and its units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import as_array, check_class_weights, check_floats, check_ids
from fastrnn.backends import active_backend
from fastrnn.losses._masks import check_mask, refuse_nothing, unmask
from fastrnn.losses.class_weights import reweight

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    mask: ArrayLike | None = None,
    class_weights: ArrayLike | None = None,
) -> tuple[float, np.ndarray]:
    r"""Cross-entropy of the softmax of scores against target ids.

    .. math:: L = \frac{1}{N} \sum_n \Big(\log \sum_v e^{x_{nv}} - x_{n t_n}\Big), \qquad
              \frac{\partial L}{\partial x_{nv}} = \frac{1}{N} (\mathrm{softmax}(x_n)_v - [v = t_n])

    Parameters
    ----------
    logits : array_like, shape (..., V)
        Scores :math:`x`, float32 or taken as float64. NaN gives NaN, as in NumPy.
    targets : array_like of int, shape (...)
        Ids :math:`t` in 0 to V - 1.
    mask : array_like of bool, shape (...), optional
        True where a token counts. Default: all do.
    class_weights : array_like, shape (V,), optional
        Positive: the mean is weighted by ``class_weights[targets]``, such as those of
        :func:`fastrnn.losses.balanced_class_weights`. Default: all weigh the same.

    Returns
    -------
    loss : float
        Nats, mean over the N tokens that count.
    d_logits : ndarray, shape and dtype of `logits`
        Gradient of that mean.

    Raises
    ------
    ValueError
        If a shape is wrong, a target that counts is outside 0 to V - 1, nothing counts, or a weight
        is not positive.
    TypeError
        If the logits are not real numbers, the targets not integers or the mask not boolean.

    References
    ----------
    The scores are shifted by their largest, as in Goodfellow et al., "Deep learning" (2016),
    section 4.1; weights as ``torch.nn.CrossEntropyLoss`` has them.
    """
    logits = check_floats("logits", logits)
    shape = logits.shape
    if not shape or shape[-1] == 0:
        raise ValueError(f"logits must be (..., V) with V >= 1, got {shape}")
    targets = as_array("targets", targets)
    if targets.shape != shape[:-1]:
        raise ValueError(f"targets must be {shape[:-1]}, got {targets.shape}")
    rows, V = logits, shape[-1]
    if mask is not None:  # targets that do not count may be anything
        mask = check_mask(mask, targets.shape)
        targets = np.where(mask, targets, np.zeros((), targets.dtype))
    ids = check_ids("targets", targets, V)
    if mask is not None:
        rows, ids = logits[mask], ids[mask]
    refuse_nothing(ids.size, "token")
    loss, d_rows = active_backend().softmax_cross_entropy(rows, ids)
    if class_weights is not None:
        weights = check_class_weights("class_weights", class_weights, V)
        loss = reweight(rows.reshape(-1, V), ids.ravel(), d_rows.reshape(-1, V), weights)
    return loss, d_rows if mask is None else unmask(d_rows, mask, logits)


def bits_per_token(nats: float) -> float:
    """Convert a mean loss in nats to bits, such as bits per character."""
    return nats / math.log(2)


def perplexity(nats: float) -> float:
    """Return the exponential of a mean loss in nats; infinity where that overflows."""
    with np.errstate(over="ignore"):
        return float(np.exp(np.float64(nats)))
