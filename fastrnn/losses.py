"""Losses: each returns the mean over what counts and its gradient.

A mask says what counts. What it leaves out is not read, so padding may hold anything, and gets a
gradient of zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_array, check_ids
from fastrnn.backends import active_backend

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["bits_per_token", "mean_squared_error", "perplexity", "softmax_cross_entropy"]


def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None
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

    Returns
    -------
    loss : float
        Nats, mean over the N tokens that count.
    d_logits : ndarray, shape and dtype of `logits`
        Gradient of that mean.

    Raises
    ------
    ValueError
        If a shape is wrong, a target that counts is outside 0 to V - 1, or nothing counts.
    TypeError
        If the logits are not real numbers, the targets not integers or the mask not boolean.

    Source: the scores are shifted by their largest, as in Goodfellow et al., "Deep
    learning" (2016), section 4.1.
    """
    logits = _check_floats("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must be (..., V) with V >= 1, got {logits.shape}")
    targets = np.asarray(targets)
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets must be {logits.shape[:-1]}, got {targets.shape}")
    mask = _check_mask(mask, logits.shape[:-1])
    rows = logits.reshape(-1, logits.shape[-1]) if mask is None else logits[mask]
    ids = check_ids("targets", targets if mask is None else targets[mask], logits.shape[-1])
    if len(rows) == 0:
        raise ValueError("there must be at least one token that counts, got none")
    d_rows = active_backend().empty(rows.shape, rows.dtype)
    loss = active_backend().softmax_cross_entropy(rows, ids.ravel(), d_rows)
    return loss, _unmask(d_rows, mask, logits)


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
    prediction = _check_floats("prediction", prediction)
    target = check_array("target", target, prediction.dtype, prediction.shape)
    mask = _check_mask(mask, prediction.shape[: np.ndim(mask)])
    kept = slice(None) if mask is None else mask
    difference = np.atleast_1d(prediction)[kept] - np.atleast_1d(target)[kept]
    if difference.size == 0:
        raise ValueError("there must be at least one element that counts, got none")
    loss = float(np.square(difference, dtype=np.float64).mean())
    difference *= 2 / difference.size
    return loss, _unmask(difference, mask, prediction)


def bits_per_token(nats: float) -> float:
    """Convert a mean loss in nats to bits, such as bits per character."""
    return nats / math.log(2)


def perplexity(nats: float) -> float:
    """Return the exponential of a mean loss in nats; infinity where that overflows."""
    with np.errstate(over="ignore"):
        return float(np.exp(np.float64(nats)))


def _check_floats(name: str, value: ArrayLike) -> np.ndarray:
    """Return float32 as it is and everything else that is real as float64."""
    dtype = np.float32 if getattr(value, "dtype", None) == np.float32 else np.float64
    return check_array(name, value, np.dtype(dtype), np.shape(value))


def _check_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must be boolean, got dtype {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"mask must be {shape}, got {mask.shape}")
    return mask


def _unmask(d_kept: np.ndarray, mask: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """Return the gradient in the shape of `like`, zero where the mask is False."""
    if mask is None:
        return d_kept.reshape(like.shape)
    gradient = np.zeros_like(like)
    gradient[mask] = d_kept
    return gradient
