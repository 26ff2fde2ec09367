"""What the losses share: their arrays, and what a mask leaves of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import as_array, check_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def check_floats(name: str, value: ArrayLike) -> np.ndarray:
    """Return float32 as it is and everything else that is real as float64."""
    array = as_array(name, value)
    dtype = _FLOAT32 if array.dtype == _FLOAT32 else _FLOAT64
    return check_array(name, array, dtype, array.shape)


def check_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a mask of this shape, or None where everything counts."""
    if mask is None:
        return None
    mask = as_array("mask", mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must be boolean, got dtype {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"mask must be {shape}, got {mask.shape}")
    return mask


def unmask(d_kept: np.ndarray, mask: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """Return the gradient in the shape of `like`, zero where the mask is False."""
    if mask is None:
        return d_kept.reshape(like.shape)
    gradient = np.zeros_like(like)
    gradient[mask] = d_kept
    return gradient
