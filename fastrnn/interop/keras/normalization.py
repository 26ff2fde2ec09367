"""The normalising layers of Keras, at inference; see `fastrnn.interop.keras.base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_array, check_positive_float
from fastrnn.interop.keras.base import Layer, Mask, Settings

if TYPE_CHECKING:
    from fastrnn.interop.keras.files import Weights


class Normalization(Layer):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta``, with vectors along some axes.

    Parameters
    ----------
    stored : tuple of str
        Arrays that the weights have after those of `scale` and `center`.
    """

    def __init__(self, settings: Settings, weights: Weights, stored: tuple[str, ...] = ()) -> None:
        super().__init__(settings)
        self.axes = settings.integers("axis")
        self.epsilon = check_positive_float("epsilon", settings.take("epsilon", 1e-3))
        kinds = {"scale": "gamma", "center": "beta"}
        names = [kinds[key] for key in kinds if settings.flag(key, True)] + list(stored)
        settings.finish()  # before arrays are missed that a setting has left out
        shapes = [(None,) * len(self.axes)] * len(names)
        arrays = weights.variables(shapes, self.dtype) if names else []
        self.arrays = dict(zip(names, arrays))
        if self.axes == (-1,) and names:
            self.input_width = len(arrays[0])

    def _spread(self, x: np.ndarray) -> tuple[tuple[int, ...], dict[str, np.ndarray]]:
        """Return the axes of x to normalise, and the arrays with as many axes as x."""
        if not all(-x.ndim <= axis < x.ndim and axis % x.ndim for axis in self.axes):
            raise ValueError(f"x must have the axes {self.axes} of {self.name!r}, got {x.shape}")
        axes = tuple(axis % x.ndim for axis in self.axes)
        shape = [n if k in axes else 1 for k, n in enumerate(x.shape)]
        for array in self.arrays.values():
            found = tuple(x.shape[k] for k in axes)
            if found != array.shape:
                raise ValueError(f"x must be {array.shape} along axes {self.axes}, got {found}")
        return axes, {name: array.reshape(shape) for name, array in self.arrays.items()}

    def _normalized(
        self, x: np.ndarray, mean: np.ndarray, variance: np.ndarray, arrays: dict[str, np.ndarray]
    ) -> np.ndarray:
        y = (x - mean) / np.sqrt(variance + self.dtype.type(self.epsilon))
        return y * arrays.get("gamma", 1) + arrays.get("beta", 0)


class LayerNormalization(Normalization):
    """Mean and variance are those of each example, or step, over the axes."""

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, (None,) * np.ndim(x))
        axes, arrays = self._spread(x)
        mean, variance = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
        return self._normalized(x, mean, variance, arrays), mask


class BatchNormalization(Normalization):
    """Mean and variance are those of the training data, in the weights."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings, weights, ("mean", "variance"))

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, (None,) * np.ndim(x))
        _, arrays = self._spread(x)
        return self._normalized(x, arrays["mean"], arrays["variance"], arrays), mask


NORMALIZATIONS = {
    "BatchNormalization": BatchNormalization,
    "LayerNormalization": LayerNormalization,
}
