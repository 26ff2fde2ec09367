"""Masks of losses: which elements count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def check_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a copy of a mask, of this shape, or None where everything counts."""
    if mask is None:
        return None
    mask = as_array("mask", mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"mask must be boolean, got dtype {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"mask must be {shape}, got {mask.shape}")
    return mask.copy()


def refuse_nothing(count: int, element: str) -> None:
    """Raise ValueError where no element of the targets counts."""
    if count == 0:
        raise ValueError(f"targets must have at least one {element} that counts, got none")


def unmask(d_kept: np.ndarray, mask: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """Return the gradient in the shape of `like`, zero where the mask is False."""
    if mask is None:
        return d_kept.reshape(like.shape)
    gradient = np.zeros_like(like)
    gradient[mask] = d_kept
    return gradient
