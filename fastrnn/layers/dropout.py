"""Dropout between layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    check_array,
    check_floats,
    check_non_negative_int,
    check_probability,
    check_seed,
)
from fastrnn.layers.base import Module, Pullback
from fastrnn.parameters import Parameters

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Dropout(Module):
    """Set each element to zero with probability `p` while training.

    What stays is scaled by ``1 / (1 - p)``, so that the expected output equals the input and
    inference does nothing. Only :meth:`vjp` draws masks, a fresh one for each call.

    Parameters
    ----------
    p : float
        Probability of zero, in [0, 1].
    shared_axis : int or None
        An axis along which one mask holds: with 0, time in (T, B, I), the same elements are dropped
        at every step (variational or locked dropout). None draws each element independently.
    seed : int, numpy.random.Generator or None
        Source of the masks.

    Attributes
    ----------
    generator : numpy.random.Generator
        Its state is what a resumed training run has to restore.
    parameters : Parameters
        Empty.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15
    (2014), in the inverted form of ``torch.nn.Dropout``; the shared mask: Y. Gal, Z. Ghahramani, "A
    theoretically grounded application of dropout in recurrent neural networks", NIPS 2016.
    """

    def __init__(self, p: float = 0.5, *, shared_axis: int | None = None, seed: Any = None) -> None:
        self.p = p
        self.shared_axis = shared_axis
        self.generator = check_seed(seed)
        self.parameters = Parameters({}, "float32")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "p":
            value = check_probability(name, value)
        elif name == "shared_axis" and value is not None:
            value = check_non_negative_int(name, value)
        super().__setattr__(name, value)

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Return `x` of any shape: itself where it is a contiguous float32 or float64 array."""
        return check_floats("x", x)

    def vjp(self, x: ArrayLike) -> tuple[np.ndarray, Pullback]:
        """Return `x` with a fresh mask applied, and the pullback that applies the same mask.

        Parameters
        ----------
        x : array_like, any shape
            Other dtypes than float32 are taken as float64.

        Returns
        -------
        output : ndarray, shape and dtype of `x`
        pullback : callable
            ``d_x = pullback(d_output)``.

        Raises
        ------
        ValueError, TypeError
            If `x` is not of real numbers or has no `shared_axis`; the pullback for another shape.
        """
        x = check_floats("x", x)
        shape, dtype = x.shape, x.dtype
        if self.p == 0:
            return x.copy(), Pullback(
                lambda d_output: check_array("d_output", d_output, dtype, shape)
            )
        factor = self.draw(self._mask_shape(shape), dtype)

        def adjoint(d_output: ArrayLike) -> np.ndarray:
            return check_array("d_output", d_output, dtype, shape) * factor

        return x * factor, Pullback(adjoint)

    def draw(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return a mask: zero with probability `p`, else ``1 / (1 - p)``."""
        kept = self.generator.random(shape, dtype) >= self.p
        # At p = 1 nothing is kept and the scale has no meaning.
        return kept * dtype.type(1 / (1 - self.p) if self.p < 1 else 0)

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        axis = self.shared_axis
        if axis is None:
            return shape
        if axis >= len(shape):
            raise ValueError(f"x must have an axis {axis} to share a mask along, got {shape}")
        return (*shape[:axis], 1, *shape[axis + 1 :])
