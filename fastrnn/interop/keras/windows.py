"""The layers of Keras that look at a few neighbouring steps; see `fastrnn.interop.keras.base`.

A window begins at every `stride`-th step. With padding "valid" all of it is within the sequence;
with "same" there are ``ceil(T / stride)`` windows, and padding is added at both ends, one step more
at the later end if the number is odd; with "causal" padding is added at the beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_array, check_choice
from fastrnn.backends import active_backend
from fastrnn.interop.keras.base import Layer, Mask, Settings

if TYPE_CHECKING:
    from fastrnn.interop.keras.files import Weights


class Windows(Layer):
    """Base class of these layers.

    Parameters
    ----------
    size : str
        Name of the setting that is the number of steps in a window.
    paddings : tuple of str
        Allowed values of the setting ``padding``.
    """

    def __init__(self, settings: Settings, size: str, paddings: tuple[str, ...]) -> None:
        super().__init__(settings)
        self.size = settings.single(size)
        self.stride = settings.single("strides", self.size)
        self.dilation = settings.single("dilation_rate", 1)
        self.padding = check_choice("padding", settings.take("padding", "valid"), paddings)
        settings.channels_last()

    def _windows(self, x: np.ndarray, missing: float) -> np.ndarray:
        """Return windows (B, n, width, size) of x (B, T, width), padded with a number."""
        T, span = x.shape[1], (self.size - 1) * self.dilation + 1
        lacking = 0
        if self.padding == "causal":
            lacking = before = span - 1
        elif self.padding == "same":
            lacking = max((-(-T // self.stride) - 1) * self.stride + span - T, 0)
            before = lacking // 2
        if lacking:
            around = ((0, 0), (before, lacking - before), (0, 0))
            x = np.pad(x, around, constant_values=missing)
        if x.shape[1] < span:
            raise ValueError(f"x must have {span} steps or more in layer {self.name!r}, got {T}")
        windows = np.lib.stride_tricks.sliding_window_view(x, span, axis=1)
        return windows[:, :: self.stride, :, :: self.dilation]


class Conv1D(Windows):
    """An affine map of each window and an activation."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings, "kernel_size", ("valid", "same", "causal"))
        self.output_width = filters = settings.size("filters")
        self.groups = groups = settings.size("groups", 1)
        self.activation = settings.activation("activation")
        shapes = [(self.size, None, filters), (filters,)]
        use_bias = settings.flag("use_bias", True)
        kernel, *bias = weights.variables(shapes[: 2 if use_bias else 1], self.dtype)
        if filters % groups:
            raise ValueError(f"filters must be a multiple of groups {groups}, got {filters}")
        self.input_width = groups * kernel.shape[1]
        # Rows of the filters, each (inputs of its group, size) as the windows are.
        self.weight = np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(filters, -1))
        self.bias = bias[0] if bias else np.zeros(filters, self.dtype)

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "T", self.input_width))
        windows = self._windows(x, 0)
        B, n = windows.shape[:2]
        weights, biases = (np.split(array, self.groups) for array in (self.weight, self.bias))
        parts = [
            active_backend().affine(
                np.ascontiguousarray(part).reshape(B * n, weight.shape[1]), weight, bias
            )
            for part, weight, bias in zip(np.split(windows, self.groups, axis=2), weights, biases)
        ]
        return self.activation(np.concatenate(parts, axis=1)).reshape(B, n, self.output_width), None


class Pooling(Windows):
    """The largest value, or the mean, of each window; padding does not count."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        self.mean = settings.kind == "AveragePooling1D"
        super().__init__(settings, "pool_size", ("valid", "same"))

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "T", "width"))
        if not self.mean:
            return self._windows(x, -np.inf).max(axis=3), None
        counts = self._windows(np.ones((1, x.shape[1], 1), self.dtype), 0).sum(axis=3)
        return self._windows(x, 0).sum(axis=3) / counts, None


WINDOWS = {"Conv1D": Conv1D, **dict.fromkeys(("AveragePooling1D", "MaxPooling1D"), Pooling)}
