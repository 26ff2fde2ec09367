"""Squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import as_array, check_array, check_floats
from fastrnn.losses._masks import check_mask, unmask

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def mean_squared_error(
    prediction: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None
) -> tuple[float, np.ndarray]:
    r"""Mean of squared differences.

    .. math:: L = \frac{1}{N} \sum_n (y_n - t_n)^2, \qquad
              \frac{\partial L}{\partial y_n} = \frac{2}{N} (y_n - t_n)

    Parameters
    ----------
    prediction : array_like, any shape
        Predicted values :math:`y`, float32 or taken as float64. NaN gives NaN, as in NumPy.
    target : array_like, shape of `prediction`
        True values :math:`t`, cast to the type of the prediction.
    mask : array_like of bool, shape of the leading axes of `prediction`, optional
        True where an element, or all that share the leading indices, counts. Default: all do.

    Returns
    -------
    loss : float
        In squared units of the prediction, mean over the N elements that count.
    d_prediction : ndarray, shape and dtype of `prediction`
        Gradient of that mean.

    Raises
    ------
    ValueError
        If a shape is wrong or nothing counts.
    TypeError
        If an array is not of real numbers or the mask not boolean.
    """
    prediction = check_floats("prediction", prediction)
    target = check_array("target", target, prediction.dtype, prediction.shape)
    if mask is not None:
        mask = as_array("mask", mask)
        mask = check_mask(mask, prediction.shape[: mask.ndim])
    kept = slice(None) if mask is None else mask
    difference = np.atleast_1d(prediction)[kept] - np.atleast_1d(target)[kept]
    if difference.size == 0:
        raise ValueError("there must be at least one element that counts, got none")
    loss = float(np.square(difference, dtype=np.float64).mean())
    difference *= 2 / difference.size
    return loss, unmask(difference, mask, prediction)
