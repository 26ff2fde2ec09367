"""Pinball loss, whose minimum is a quantile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_array, check_floats, check_quantiles
from fastrnn.losses._masks import check_mask, refuse_nothing, unmask

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def pinball(
    predictions: ArrayLike, targets: ArrayLike, quantiles: ArrayLike, mask: ArrayLike | None = None
) -> tuple[float, np.ndarray]:
    r"""Pinball (quantile) loss of several quantiles.

    .. math:: L = \frac{1}{N Q} \sum_{n,k} \max\big(q_k (t_n - y_{nk}), (q_k - 1)(t_n - y_{nk})\big)

    Parameters
    ----------
    predictions : array_like, shape (..., Q)
        Predicted quantiles :math:`y`, float32 or taken as float64. NaN gives NaN, as in NumPy.
    targets : array_like, shape (...)
        True values :math:`t`, cast to the type of the predictions.
    quantiles : array_like, shape (Q,)
        Probabilities :math:`q` in (0, 1): 0.5 is the median.
    mask : array_like of bool, shape (...), optional
        True where a value counts. Default: all do.

    Returns
    -------
    loss : float
        In the unit of the predictions, mean over the N values that count and the Q quantiles.
    d_predictions : ndarray, shape and dtype of `predictions`
        Gradient of that mean; 0 where a prediction is exact.

    Raises
    ------
    ValueError
        If a shape is wrong, a quantile is not in (0, 1), or nothing counts.
    TypeError
        If an array is not of real numbers or the mask not boolean.

    References
    ----------
    Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978).
    """
    predictions = check_floats("predictions", predictions)
    quantiles = check_quantiles("quantiles", quantiles).astype(predictions.dtype)
    shape = predictions.shape[:-1]
    predictions = check_array(
        "predictions", predictions, predictions.dtype, (*shape, len(quantiles))
    )
    targets = check_array("targets", targets, predictions.dtype, shape)
    mask = check_mask(mask, shape)
    kept = ... if mask is None else mask
    difference = targets[kept][..., None] - predictions[kept]
    refuse_nothing(difference.size, "value")
    # What is neither above nor below 0 is its own slope: 0, or NaN.
    slope = np.where(difference > 0, quantiles, np.where(difference < 0, quantiles - 1, difference))
    loss = float((slope * difference).mean(dtype=np.float64))
    return loss, unmask(slope * predictions.dtype.type(-1 / slope.size), mask, predictions)
