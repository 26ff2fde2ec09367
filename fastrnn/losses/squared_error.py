"""Squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import as_array, check_array, check_floats
from fastrnn.losses._masks import check_mask, refuse_nothing, unmask

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None
) -> tuple[float, np.ndarray]:
    r"""Mean of squared differences.

    .. math:: L = \frac{1}{N} \sum_n (y_n - t_n)^2, \qquad
              \frac{\partial L}{\partial y_n} = \frac{2}{N} (y_n - t_n)

    Parameters
    ----------
    predictions : array_like, any shape
        Predicted values :math:`y`, float32 or taken as float64. NaN gives NaN, as in NumPy.
    targets : array_like, shape of `predictions`
        True values :math:`t`, cast to the type of the predictions.
    mask : array_like of bool, shape of the leading axes of `predictions`, optional
        True where an element, or all that share the leading indices, counts. Default: all do.

    Returns
    -------
    loss : float
        In squared units of the predictions, mean over the N elements that count.
    d_predictions : ndarray, shape and dtype of `predictions`
        Gradient of that mean.

    Raises
    ------
    ValueError
        If a shape is wrong or nothing counts.
    TypeError
        If an array is not of real numbers or the mask not boolean.
    """
    predictions = check_floats("predictions", predictions)
    targets = check_array("targets", targets, predictions.dtype, predictions.shape)
    if mask is not None:
        mask = as_array("mask", mask)
        mask = check_mask(mask, predictions.shape[: mask.ndim])
    kept = ... if mask is None else mask
    difference = np.atleast_1d(predictions[kept]) - np.atleast_1d(targets[kept])
    refuse_nothing(difference.size, "element")
    loss = float(np.square(difference, dtype=np.float64).mean())
    difference *= 2 / difference.size
    return loss, unmask(difference, mask, predictions)
