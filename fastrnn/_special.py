"""SciPy's special functions, imported at first use: this takes longer than to import fastrnn."""

from __future__ import annotations

from typing import Any

import numpy as np


def softmax(x: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return :func:`scipy.special.softmax`."""
    import scipy.special

    with np.errstate(under="ignore"):  # as NumPy has it, whatever the caller has set
        return scipy.special.softmax(x, axis=axis)


def log_softmax(x: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return :func:`scipy.special.log_softmax`."""
    import scipy.special

    with np.errstate(under="ignore"):
        return scipy.special.log_softmax(x, axis=axis)


def logsumexp(a: np.ndarray, axis: int | None = None, **options: Any) -> np.ndarray:
    """Return :func:`scipy.special.logsumexp`."""
    import scipy.special

    with np.errstate(under="ignore"):
        return scipy.special.logsumexp(a, axis=axis, **options)
