"""The layers of Keras that move values to other places; see `fastrnn.interop.keras.base`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_array
from fastrnn.interop.keras.base import Layer, Mask, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastrnn.interop.keras.files import Weights


class Reshape(Layer):
    """Each example in another shape, of which one size may be -1; ids stay what they are."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        if settings.kind == "Flatten":
            settings.channels_last()
            self.shape = (-1,)
        else:
            self.shape = settings.integers("target_shape")

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        super().widths(inputs)
        last = self.shape[-1] if self.shape else -1
        return (last if last > 0 else None,)

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        size, known = math.prod(x.shape[1:]), math.prod(n for n in self.shape if n != -1)
        shape = tuple(size // max(known, 1) if n == -1 else n for n in self.shape)
        if math.prod(shape) != size:
            raise ValueError(f"x must fit shape {self.shape} of {self.name!r}, got {x.shape}")
        return x.reshape(len(x), *shape), None


class Permute(Layer):
    """The axes of each example in another order, counted from 1."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.dims = settings.integers("dims")
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"dims must be the numbers of the axes, from 1 on, got {self.dims}")

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        super().widths(inputs)
        return (None,)

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        if x.ndim != len(self.dims) + 1:
            raise ValueError(f"x must have {len(self.dims) + 1} axes, got {x.shape}")
        return x.transpose(0, *self.dims), None


class RepeatVector(Layer):
    """A vector at each of n steps."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.n = settings.size("n")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "width"))
        return np.repeat(x[:, None], self.n, axis=1), None


class UpSampling(Layer):
    """Each step several times."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.size = settings.single("size")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "T", "width"))
        return np.repeat(x, self.size, axis=1), None


class Ends(Layer):
    """Zeros added as steps before and after a sequence, or steps left out there."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.crops = settings.kind == "Cropping1D"
        if not self.crops:
            settings.channels_last()
        key = "cropping" if self.crops else "padding"
        self.ends = settings.integers(key)
        if len(self.ends) != 2 or min(self.ends) < 0:
            raise ValueError(f"{key} must be two numbers of steps, got {self.ends}")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "T", "width"))
        if not self.crops:
            return np.pad(x, ((0, 0), self.ends, (0, 0))), None
        if x.shape[1] <= sum(self.ends):
            most = sum(self.ends)
            raise ValueError(f"x must have more than {most} steps in {self.name!r}, got {x.shape}")
        return x[:, self.ends[0] : x.shape[1] - self.ends[1]], None


SHAPES = {
    "Cropping1D": Ends,
    "Flatten": Reshape,
    "Permute": Permute,
    "RepeatVector": RepeatVector,
    "Reshape": Reshape,
    "UpSampling1D": UpSampling,
    "ZeroPadding1D": Ends,
}
