"""The layers of Keras that a model may have, at inference; see `fastrnn.interop.keras.base`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from fastrnn import layers
from fastrnn._validation import (
    check_array,
    check_choice,
    check_float,
    check_ids,
    check_non_negative_float,
)
from fastrnn.backends import active_backend
from fastrnn.interop.keras.activations import ACTIVATIONS
from fastrnn.interop.keras.attention import ATTENTION
from fastrnn.interop.keras.base import Layer, Mask, Settings
from fastrnn.interop.keras.normalization import NORMALIZATIONS
from fastrnn.interop.keras.recurrent import RECURRENT, Bidirectional
from fastrnn.interop.keras.shapes import SHAPES
from fastrnn.interop.keras.windows import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastrnn.interop.keras.files import Weights
    from fastrnn.layers.base import Module


class InputLayer(Layer):
    """The input."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        # The dtype is left to the next layer: Keras declares float32 for ids as well.
        for key in ("batch_shape", "dtype"):
            settings.take(key)
        super().__init__(settings)


class Dropout(Layer):
    """A layer that does nothing at inference."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)


class Embedding(Layer):
    """A vector for each id; ``mask_zero`` masks id 0."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        shape = (settings.size("input_dim"), settings.size("output_dim"))
        settings.take("input_length")
        self.mask_zero = settings.flag("mask_zero")
        (self.table,) = weights.variables([shape], self.dtype)
        self.output_width = shape[1]

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        if x.dtype.kind == "f":  # such as batches padded by hand; Keras would take 1.5 as 1
            with np.errstate(invalid="ignore"):
                whole = x.astype(np.int64)
            x = whole if (whole == x).all() else x
        ids = check_ids("ids", x, len(self.table))
        return self.table.take(ids, axis=0), ids != 0 if self.mask_zero else None

    def own(self) -> Module:
        layer = layers.Embedding(*self.table.shape, dtype=self.dtype)
        layer.load_state_dict({"weight": self.table})
        return layer


class Masking(Layer):
    """Masks the steps at which all values are `mask_value`, and sets them to zero."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.mask_value = settings.take("mask_value", 0.0)
        if isinstance(self.mask_value, bool) or not isinstance(self.mask_value, (int, float)):
            raise ValueError(f"mask_value must be a number, got {self.mask_value!r:.80}")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "T", "width"))
        mask = (x != self.dtype.type(self.mask_value)).any(axis=-1)
        return np.where(mask[..., None], x, 0), mask


class Dense(Layer):
    """An affine map of the last axis and an activation."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.output_width = units = settings.size("units")
        self.activation = settings.activation("activation")
        shapes = [(None, units), (units,)][: 2 if settings.flag("use_bias", True) else 1]
        kernel, *bias = weights.variables(shapes, self.dtype)
        self.input_width = len(kernel)
        self.weight = np.ascontiguousarray(kernel.T)
        self.bias = bias[0] if bias else None

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, (*np.shape(x)[:-1], self.input_width))
        return self.activation(active_backend().affine(x, self.weight, self.bias)), mask

    def own(self) -> Module:
        units, inputs = self.weight.shape
        layer = layers.Dense(inputs, units, self.bias is not None, dtype=self.dtype)
        weights = {"weight": self.weight, "bias": self.bias}
        layer.load_state_dict({name: weights[name] for name in layer.parameters})
        return layer


class GlobalPooling(Layer):
    """The mean of the steps that count, or the largest values of all steps."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.mean = settings.kind == "GlobalAveragePooling1D"
        settings.channels_last()

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "T", "width"))
        if not self.mean:
            return x.max(axis=1), None
        if mask is None:
            return x.mean(axis=1), None
        with np.errstate(invalid="ignore"):  # NaN where no step counts, as in Keras
            total = np.where(mask[..., None], x, 0).sum(axis=1)
            return total / mask.sum(axis=1, keepdims=True).astype(self.dtype), None


class Activation(Layer):
    """An activation function alone."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.activation = settings.activation("activation")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        return self.activation(check_array("x", x, self.dtype, (None,) * np.ndim(x))), mask


class Rectifier(Layer):
    """``x`` above a threshold, at most `largest`; beyond it a slope, or an exponential function."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.threshold = check_float("threshold", settings.take("threshold", 0.0))
        largest = settings.take("max_value")
        self.largest = np.inf if largest is None else check_non_negative_float("max_value", largest)
        self.exponential = settings.kind == "ELU"
        key = "alpha" if self.exponential else "negative_slope"
        self.slope = check_float(key, settings.take(key, 0.0) or 0.0)

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, (None,) * np.ndim(x))
        y = np.where(x <= self.threshold, 0, np.minimum(x, self.largest))
        if self.slope:  # 0 times minus infinity would be NaN
            below = np.minimum(x - self.threshold, 0)
            y += self.slope * (np.expm1(below) if self.exponential else below)
        return y, mask


class Softmax(Layer):
    """Exponentials of an axis, divided by their sum."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.axes = settings.integers("axis")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        if mask is not None:  # in Keras it would be a mask of values
            raise ValueError(f"layer {self.name!r} (Softmax) must not have a mask of steps")
        x = check_array("x", x, self.dtype, (None,) * np.ndim(x))
        if not all(-x.ndim <= axis < x.ndim for axis in self.axes):
            raise ValueError(f"x must have the axes {self.axes} of {self.name!r}, got {x.shape}")
        return softmax(x, axis=self.axes), None


class Rescaling(Layer):
    """``scale * x + offset``."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.scale = check_float("scale", settings.take("scale"))
        self.offset = check_float("offset", settings.take("offset", 0.0))

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, (None,) * np.ndim(x))
        return x * self.scale + self.offset, mask


def _product(arrays: list[np.ndarray], shown: Sequence[Mask]) -> np.ndarray:
    """Return the product of the unmasked values, zero where there are none."""
    y = math.prod(a if mask is None else np.where(mask, a, 1) for a, mask in zip(arrays, shown))
    if any(mask is None for mask in shown):
        return y
    return np.where(np.logical_or.reduce(shown), y, 0)


def _extreme(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    arrays: list[np.ndarray],
    shown: Sequence[Mask],
) -> np.ndarray:
    """Return the extreme of arrays, taken in turn: an unmasked value replaces a masked one."""
    y, counts = arrays[0], shown[0]
    for x, mask in zip(arrays[1:], shown[1:]):
        other = x if mask is None else np.where(mask, x, y)
        y = function(y if counts is None else np.where(counts, y, other), other)
        counts = None if mask is None or counts is None else counts | mask
    return y


# Of arrays and of the masks of each, (B, T, 1) or None.
MERGES: Mapping[str, Callable[[list[np.ndarray], Sequence[Mask]], np.ndarray]] = {
    "Add": lambda arrays, shown: sum(arrays),
    "Average": lambda arrays, shown: sum(arrays) / len(arrays),
    "Concatenate": lambda arrays, shown: np.concatenate(arrays, axis=-1),
    "Maximum": partial(_extreme, np.maximum),
    "Minimum": partial(_extreme, np.minimum),
    "Multiply": _product,
    "Subtract": lambda arrays, shown: arrays[0] - arrays[1],
}


class Merge(Layer):
    """Merges several inputs, element by element or by concatenation along the last axis.

    Element by element, an axis of size 1 is repeated. A product or an extreme leaves out the inputs
    that a mask hides.
    """

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.concatenates = self.kind == "Concatenate"
        self.masks_of_keras_2 = settings.flag("masks_of_keras_2")
        self.axis = settings.last_axis("axis") if self.concatenates else -1

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        if len(inputs) < 2:
            raise ValueError(f"layer {self.name!r} must take two inputs or more, got {len(inputs)}")
        if None in inputs:
            return (None,)
        if self.concatenates:
            return (sum(inputs),)
        if len({width for width in inputs if width != 1}) > 1:
            raise ValueError(f"layer {self.name!r} must take inputs of one width, got {inputs}")
        return (max(inputs),)

    def __call__(self, x: Sequence[np.ndarray], mask: Sequence[Mask]) -> tuple[np.ndarray, Mask]:
        shape = np.shape(x[0])
        if self.axis not in (-1, len(shape) - 1):  # not known before if the file lacks the shapes
            raise ValueError(f"axis of {self.name!r} must be the last of {shape}, got {self.axis}")
        shape = (*shape[:-1], None) if self.concatenates else (None,) * len(shape)
        arrays = [check_array("x", array, self.dtype, shape) for array in x]
        shown = [None if m is None or self.masks_of_keras_2 else m[..., None] for m in mask]
        try:
            y = MERGES[self.kind](arrays, shown)
        except ValueError:
            found = ", ".join(str(array.shape) for array in arrays)
            raise ValueError(f"layer {self.name!r} must have one shape, got {found}") from None
        if self.masks_of_keras_2:
            masks = [one for one in mask if one is not None]
            return y, np.logical_and.reduce(masks) if masks else None
        if any(one is None for one in mask):
            # Then in Keras all steps of the concatenation are valid.
            some = self.concatenates and any(one is not None for one in mask)
            return y, np.ones(y.shape[:-1], bool) if some else None
        return y, np.logical_or.reduce(mask)


class Dot(Layer):
    """Products of two inputs, summed over an axis of each: cosines with `normalize`."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.axes = settings.integers("axes")
        self.normalize = settings.flag("normalize")

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        if len(inputs) != 2:
            raise ValueError(f"layer {self.name!r} must take two inputs, got {len(inputs)}")
        return (None,)

    def __call__(self, x: Sequence[np.ndarray], mask: Sequence[Mask]) -> tuple[np.ndarray, Mask]:
        arrays = [check_array("x", array, self.dtype, (None,) * np.ndim(array)) for array in x]
        found = ", ".join(str(array.shape) for array in arrays)
        axes = self.axes * 2 if len(self.axes) == 1 else self.axes
        moved = []
        for array, axis in zip(arrays, axes, strict=True):
            if not -array.ndim <= axis < array.ndim or axis % array.ndim == 0:
                raise ValueError(f"x must have the axes {axes} of {self.name!r}, got {found}")
            array = np.moveaxis(array, axis, -1)
            if self.normalize:
                square = np.square(array).sum(axis=-1, keepdims=True)
                array = array / np.sqrt(np.maximum(square, self.dtype.type(1e-14)))
            moved.append(array)
        rows = [array.reshape(len(array), -1, array.shape[-1]) for array in moved]
        if rows[0].shape[::2] != rows[1].shape[::2]:
            raise ValueError(f"x must fit along the axes {axes} of {self.name!r}, got {found}")
        shape = (len(rows[0]), *moved[0].shape[1:-1], *moved[1].shape[1:-1])
        return (rows[0] @ rows[1].swapaxes(1, 2)).reshape(shape if shape[1:] else (-1, 1)), None


class Operation(Layer):
    """An operator or function in a functional model, such as ``x[:, -1]`` or ``x + y``.

    Masks end here, but some are made here: ``Any(NotEqual(x, 0))``.
    """

    module = "keras.src.ops.numpy"
    # The number of arguments, and the function.
    kinds = {
        "Absolute": (1, lambda self, x: np.abs(x)),
        "Add": (2, lambda self, x, y: x + y),
        "Any": (1, lambda self, x: x.any(axis=self.axis, keepdims=self.keepdims)),
        "Concatenate": (None, lambda self, *arrays: np.concatenate(arrays, axis=self.axis)),
        "ConvertToTensor": (1, lambda self, x: x),
        "Divide": (2, lambda self, x, y: x / y),
        "Exp": (1, lambda self, x: np.exp(x)),
        "ExpandDims": (1, lambda self, x: np.expand_dims(x, self.axis)),
        "GetItem": (2, lambda self, x, key: x[key]),
        "LogicalOr": (2, lambda self, x, y: np.logical_or(x, y)),
        "Matmul": (2, lambda self, x, y: x @ y),
        "Max": (1, lambda self, x: x.max(axis=self.axis, keepdims=self.keepdims)),
        "Maximum": (2, lambda self, x, y: np.maximum(x, y)),
        "Mean": (1, lambda self, x: x.mean(axis=self.axis, keepdims=self.keepdims)),
        "Min": (1, lambda self, x: x.min(axis=self.axis, keepdims=self.keepdims)),
        "Minimum": (2, lambda self, x, y: np.minimum(x, y)),
        "Multiply": (2, lambda self, x, y: x * y),
        "Negative": (1, lambda self, x: -x),
        "NotEqual": (2, lambda self, x, y: x != y),
        "OnesLike": (1, lambda self, x: np.ones(x.shape, bool)),
        "Sigmoid": (1, lambda self, x: ACTIVATIONS["sigmoid"](x)),
        "Softmax": (1, lambda self, x: softmax(x, axis=self.axis)),
        "Square": (1, lambda self, x: np.square(x)),
        "Squeeze": (1, lambda self, x: np.squeeze(x, self.axis)),
        "Stack": (None, lambda self, *arrays: np.stack(arrays, axis=self.axis)),
        "Subtract": (2, lambda self, x, y: x - y),
        "Sum": (1, lambda self, x: x.sum(axis=self.axis, keepdims=self.keepdims)),
        "Tanh": (1, lambda self, x: np.tanh(x)),
        "Transpose": (1, lambda self, x: x.transpose(self.axes)),
        "TrueDivide": (2, lambda self, x, y: x / y),
        "ZerosLike": (1, lambda self, x: np.zeros(x.shape, bool)),
    }

    def __init__(self, settings: Settings, weights: Weights) -> None:
        self.name, self.kind = settings.name, settings.kind
        self.constants: dict[int, Any] = {}
        self.dtypes: tuple[str | None, ...] = ()
        check_choice("dtype", settings.take("dtype") or "bool", ("bool",))
        self.axis = _axes("axis", settings.take("axis", -1))
        self.axes = _axes("axes", settings.take("axes"))
        self.keepdims = settings.flag("keepdims")

    def of(self, arguments: Sequence[Any], dtypes: Sequence[str | None]) -> Operation:
        """Return the operation on these arguments, where an array stands as ..., of these types."""
        constants = {k: value for k, value in enumerate(arguments) if value is not ...}
        if self.kind == "GetItem" and 1 in constants:
            constants[1] = _index(constants[1])
        elif not all(type(value) in (int, float) for value in constants.values()):
            raise ValueError(f"arguments {list(constants.values())!r:.80} are not supported")
        count = self.kinds[self.kind][0]
        if not dtypes or count not in (None, len(arguments)):
            raise ValueError(f"arguments {list(constants.values())!r:.80} are not supported")
        operation = copy(self)
        operation.constants, operation.dtypes = constants, tuple(dtypes)
        return operation

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        return (None,)

    def __call__(self, x: Sequence[np.ndarray], mask: Any) -> tuple[np.ndarray, Mask]:
        arguments: list[Any] = [
            check_array("x", array, np.dtype(dtype), (None,) * np.ndim(array))
            if dtype in ("float32", "float64")
            else array
            for array, dtype in zip(x, self.dtypes)
        ]
        for place, value in self.constants.items():
            arguments.insert(place, value)
        try:
            with np.errstate(all="ignore"):  # as in Keras
                return self.kinds[self.kind][1](self, *arguments), None
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise ValueError(f"operation {self.name!r} ({self.kind}): {error}") from error


def _axes(key: str, value: Any) -> int | tuple[int, ...] | None:
    """Return a setting that is an axis, several, or None for all."""
    values = value if isinstance(value, list) else [value]
    if value is not None and not all(type(axis) is int for axis in values):
        raise ValueError(f"{key} must be an integer, integers or None, got {value!r:.80}")
    return tuple(value) if isinstance(value, list) else value


def _index(value: Any) -> Any:
    """Return the index in the brackets of ``x[...]``."""
    if isinstance(value, list):
        return tuple([_index(part) for part in value])
    if value is None or type(value) is int:
        return value
    kind = value.get("class_name") if isinstance(value, Mapping) else None
    if kind == "__ellipsis__":
        return ...
    parts = value.get("config") if kind == "__slice__" else None
    if isinstance(parts, Mapping):
        ends = [parts.get(key) for key in ("start", "stop", "step")]
        if all(end is None or type(end) is int for end in ends):
            return slice(*ends)
    raise ValueError(f"index must be integers and slices, got {value!r:.80}")


class Conversion(Operation):
    """What Keras calls an array that is one already."""

    module = "keras.src.ops.core"


class Function(Operation):
    """Those that Keras has among the activations."""

    module = "keras.src.ops.nn"


INFERENCE_IDENTITIES = (
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout1D",
)
LAYERS = (
    RECURRENT
    | ATTENTION
    | NORMALIZATIONS
    | SHAPES
    | WINDOWS
    | {
        "InputLayer": InputLayer,
        "Embedding": Embedding,
        "Masking": Masking,
        "Bidirectional": Bidirectional,
        "Dense": Dense,
        "Dot": Dot,
        "Activation": Activation,
        "Rescaling": Rescaling,
        "Softmax": Softmax,
        **dict.fromkeys(("ELU", "LeakyReLU", "ReLU"), Rectifier),
        **dict.fromkeys(INFERENCE_IDENTITIES, Dropout),
        **dict.fromkeys(("GlobalAveragePooling1D", "GlobalMaxPooling1D"), GlobalPooling),
        **dict.fromkeys(MERGES, Merge),
    }
)
OPERATIONS = (
    dict.fromkeys(Operation.kinds, Operation)
    | {"ConvertToTensor": Conversion}
    | dict.fromkeys(("Sigmoid", "Softmax"), Function)
)
