"""Weights of classes, so that a rare one is not drowned by the others."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_ids, check_num_classes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def balanced_class_weights(labels: ArrayLike, num_classes: int) -> np.ndarray:
    r"""Return weights with which every class of a training set counts the same.

    .. math:: w_k = \frac{N}{K N_k}

    Parameters
    ----------
    labels : array_like of int, any shape
        The N labels, 0 to K - 1; every class must occur.
    num_classes : int
        Number of classes K, 2 at least.

    Returns
    -------
    class_weights : ndarray of float64, shape (K,)
        Their mean over the labels is 1.

    Raises
    ------
    ValueError
        If a label is outside 0 to K - 1, or a class has none.
    TypeError
        If the labels are not integers.

    References
    ----------
    King and Zeng, "Logistic regression in rare events data", Political Analysis 9 (2001), as
    scikit-learn's ``class_weight="balanced"``.
    """
    num_classes = check_num_classes("num_classes", num_classes)
    labels = check_ids("labels", labels, num_classes)
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < num_classes:
        seen = set(present.tolist())
        none = (number for number in range(num_classes) if number not in seen)
        absent = ", ".join(map(str, islice(none, 10)))
        raise ValueError(f"labels must have every class of {num_classes}, got none of {absent}")
    return labels.size / (num_classes * counts)


def reweight(
    rows: np.ndarray, ids: np.ndarray, d_rows: np.ndarray, class_weights: np.ndarray
) -> float:
    """Return the weighted mean loss of (N, V) scores and (N,) ids.

    `d_rows` (N, V), the gradient of the plain mean, becomes that of the weighted one.
    """
    weights = class_weights[ids]
    weights /= weights.sum()
    d_rows *= (len(rows) * weights).astype(d_rows.dtype)[:, None]
    nats, count = np.empty(len(rows)), max(1, 2**16 // rows.shape[1])  # rows that the cache holds
    for first in range(0, len(rows), count):
        part = slice(first, first + count)
        # Infinity less infinity is NaN and flows on.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            shifted = rows[part] - rows[part].max(axis=1, keepdims=True)  # large scores would round
            nats[part] = -shifted[np.arange(len(shifted)), ids[part]]
            nats[part] += np.log(np.exp(shifted, out=shifted).sum(axis=1))
    return float(weights @ nats)
