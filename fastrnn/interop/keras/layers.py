"""The layers of Keras that a model may have, at inference.

Each is made from its configuration and the variables that it finds, and takes and returns values
and a mask: ``y, mask = layer(x, mask)`` with x (B, T, width), (B, width) or, for ids, (B, T), and
the mask bool (B, T), True where a step counts, or None. Both are tuples where there are several
outputs, and lists where a layer merges several inputs. Equations, weights and masks are those of
Keras 3: kernels are (inputs, gates * units), gates i, f, c, o and z, r, h.

Source: https://keras.io/api/layers/ and the code of Keras 3.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    check_array,
    check_bool,
    check_choice,
    check_ids,
    check_positive_int,
)
from fastrnn.backends import active_backend
from fastrnn.interop._cells import gru_cell, lstm_cell, run, simple_cell
from fastrnn.interop.keras.activations import ACTIVATIONS
from fastrnn.layers.packing import Packing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastrnn.interop.keras.files import Weights

    Mask = np.ndarray | None

# Settings of training alone, and names.
INERT = {
    "activity_regularizer", "dropout", "name", "noise_shape", "rate", "recurrent_dropout", "seed",
    "stddev", "trainable", "unit_forget_bias", "unroll", "use_cudnn", "implementation",
    *(f"{part}_{kind}"
      for part in ("kernel", "recurrent", "bias", "embeddings")
      for kind in ("initializer", "regularizer", "constraint")),
}  # fmt: skip


class Settings:
    """A layer's configuration, from which every setting that has an effect must be taken.

    Parameters
    ----------
    config : dict
        ``{"class_name": ..., "config": {...}}`` as Keras writes it.
    """

    def __init__(self, config: Any) -> None:
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise ValueError(f"a layer must be a dict with its config, got {config!r:.80}")
        self.kind = config.get("class_name")
        self._values = dict(config["config"])
        self.name = self._values.get("name")

    def take(self, key: str, default: Any = None) -> Any:
        """Return a setting."""
        return self._values.pop(key, default)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a setting that is True or False."""
        return check_bool(key, self.take(key, default))

    def size(self, key: str) -> int:
        """Return a setting that is a positive integer."""
        return check_positive_int(key, self.take(key))

    def activation(self, key: str, default: str = "linear") -> Callable[[np.ndarray], np.ndarray]:
        """Return a setting that is an activation function."""
        value = self.take(key, default)
        return ACTIVATIONS[check_choice(key, "linear" if value is None else value, ACTIVATIONS)]

    def dtype(self) -> np.dtype:
        """Return the dtype of weights and results."""
        policy = self.take("dtype", "float32")
        if isinstance(policy, dict) and policy.get("class_name") == "DTypePolicy":
            policy = dict(policy.get("config") or {}).get("name")
        return np.dtype(check_choice("dtype", policy, ("float32", "float64")))

    def finish(self) -> None:
        """Refuse what was not taken, has an effect and is switched on."""
        for key, value in self._values.items():
            if key not in INERT and value not in (None, False):
                raise ValueError(f"setting {key} = {value!r:.80} is not supported")


class Layer:
    """What layers share.

    Attributes
    ----------
    name : str
    input_width, output_width : int or None
        Sizes of the last axis; None for any, and for whatever the input's is.
    """

    takes_state = False  # whether a call may have an initial state

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self.dtype = settings.dtype()
        self.input_width: int | None = None
        self.output_width: int | None = None

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the widths of the outputs for inputs of these; ValueError if they do not fit."""
        if len(inputs) != 1:
            raise ValueError(f"layer {self.name!r} must take one input, got {len(inputs)}")
        if None not in (inputs[0], self.input_width) and inputs[0] != self.input_width:
            raise ValueError(
                f"layer {self.name!r} must take {inputs[0]} inputs, got {self.input_width}"
            )
        return (self.output_width or inputs[0],)

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[Any, Mask]:
        """Return the layer's output and its mask."""
        return x, mask

    def reset_states(self) -> None:
        """Forget what a layer that is ``stateful`` has kept of the call before."""


class InputLayer(Layer):
    """The place of the input."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        # The layer that follows knows what it takes; Keras calls ids float32 as well.
        for key in ("batch_shape", "dtype"):
            settings.take(key)
        super().__init__(settings)


class Dropout(Layer):
    """Nothing at inference."""

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
        if x.dtype.kind == "f":  # as in batches padded by hand; Keras would take 1.5 for 1
            with np.errstate(invalid="ignore"):
                whole = x.astype(np.int64)
            x = whole if (whole == x).all() else x
        ids = check_ids("ids", x, len(self.table))
        return self.table.take(ids, axis=0), ids != 0 if self.mask_zero else None


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
        rows = x.reshape(-1, self.input_width)
        y = self.activation(active_backend().affine(rows, self.weight, self.bias))
        return y.reshape(*x.shape[:-1], self.output_width), mask


class TimeDistributed(Layer):
    """Another layer at every step, which for those it may hold is the layer itself."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.layer = make_layer(settings.take("layer"), weights, "layer", OF_STEPS)
        self.input_width = self.layer.input_width
        self.output_width = self.layer.output_width

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        return self.layer(x, mask)


class Recurrent(Layer, ABC):
    """What the recurrent layers share: everything but the cell.

    A masked step keeps the state. Its output is that of the step before, zero in front of the
    first that counts, or zero everywhere with ``zero_output_for_mask``.
    """

    order: tuple[int, ...] = (0,)  # our gates, by their places in the kernels
    states = 1
    two_biases = False
    takes_state = True

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.units = H = settings.size("units")
        self.output_width = H
        self.return_sequences = settings.flag("return_sequences")
        self.return_state = settings.flag("return_state")
        self.stateful = settings.flag("stateful")
        self._kept: list[np.ndarray] = []
        self.go_backwards = settings.flag("go_backwards")
        self.zero_output_for_mask = settings.flag("zero_output_for_mask")
        use_bias = settings.flag("use_bias", True)
        self.cell = self._cell(settings)
        G = len(self.order)
        bias = (2, G * H) if self.two_biases else (G * H,)
        shapes = [(None, G * H), (H, G * H), bias][: 3 if use_bias else 2]
        kernel, recurrent, *bias = weights["cell"].variables(shapes, self.dtype)
        self.input_width = len(kernel)
        self.weights = {"weight_ih": self._ordered(kernel), "weight_hh": self._ordered(recurrent)}
        if use_bias:
            rows = [self._ordered(row) for row in np.atleast_2d(bias[0])]
            self.weights["bias_ih"] = rows[0]
            self.weights["bias_hh"] = rows[1] if len(rows) == 2 else np.zeros_like(rows[0])

    @abstractmethod
    def _cell(self, settings: Settings) -> Any:
        """Return the cell that the settings ask for."""

    def _ordered(self, array: np.ndarray) -> np.ndarray:
        """Return (..., gates * units) with our gates in rows."""
        blocks = array.T.reshape(len(self.order), self.units, -1)[list(self.order)]
        return np.ascontiguousarray(blocks.reshape(array.T.shape))

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        super().widths(inputs)
        return (self.units,) * (1 + self.return_state * self.states)

    def __call__(
        self, x: np.ndarray, mask: Mask, state: Sequence[np.ndarray] = ()
    ) -> tuple[Any, Any]:
        x = check_array("x", x, self.dtype, ("B", "T", self.input_width))
        steps = mask
        if self.go_backwards:
            x, steps = x[:, ::-1], None if mask is None else mask[:, ::-1]
        lengths = None
        if steps is not None:
            # The steps that count come first, so that each sequence is one without gaps.
            order = np.argsort(~steps, axis=1, kind="stable")
            x = np.take_along_axis(x, order[..., None], axis=1)
            lengths = steps.sum(axis=1)
        packing = Packing(x.shape[:2], True, lengths)
        rows = np.ascontiguousarray(packing.pack(x))
        out = np.empty((len(rows), self.units), self.dtype)
        if self._kept and len(self._kept[0]) != packing.B:
            before = f"{len(self._kept[0])} sequences, as before reset_states()"
            raise ValueError(f"x must have {before}, got {packing.B}")
        zero = np.zeros((packing.B, self.units), self.dtype)
        state = state or self._kept or [zero] * self.states
        if len(state) != self.states:
            raise ValueError(f"initial_state must be {self.states} arrays, got {len(state)}")
        first = [
            packing.sort(check_array("initial_state", a, self.dtype, (packing.B, self.units))[None])
            for a in state
        ]
        final = run(self.cell, self.weights, rows, packing.offsets, [a[0] for a in first], out)
        final = [packing.restore(array[None])[0] for array in final]
        if self.stateful:
            self._kept = final
        y, mask = self._output(packing.unpack(out), final[0], mask, steps)
        if self.return_state:
            return (y, *final), (mask, *[None] * self.states)
        return y, mask

    def reset_states(self) -> None:
        self._kept = []

    def _output(
        self, y: np.ndarray, last: np.ndarray, mask: Mask, steps: Mask
    ) -> tuple[np.ndarray, Mask]:
        """Return h at each step, or the last, as Keras returns it."""
        if not self.return_sequences:
            if steps is not None:
                shown = steps[:, -1] if self.zero_output_for_mask else steps.any(axis=1)
                last = np.where(shown[:, None], last, 0)
            return last, None
        if steps is not None:
            before = np.cumsum(steps, axis=1) - 1
            shown = steps if self.zero_output_for_mask else before >= 0
            y = np.take_along_axis(y, np.maximum(before, 0)[..., None], axis=1)
            y = np.where(shown[..., None], y, 0)
        return y, mask


class SimpleRNN(Recurrent):
    """h' = f(x W + h U + b)."""

    def _cell(self, settings: Settings) -> Any:
        return simple_cell(settings.activation("activation", "tanh"))


class LSTM(Recurrent):
    """Gates i, f, c, o in the kernels."""

    order = (0, 1, 2, 3)
    states = 2

    def _cell(self, settings: Settings) -> Any:
        f = settings.activation("recurrent_activation", "sigmoid")
        g = settings.activation("activation", "tanh")
        return lstm_cell(f, g, g)


class GRU(Recurrent):
    """Gates z, r, h in the kernels; two biases with ``reset_after``."""

    order = (1, 0, 2)

    def _cell(self, settings: Settings) -> Any:
        self.two_biases = settings.flag("reset_after", True)
        f = settings.activation("recurrent_activation", "sigmoid")
        return gru_cell(f, settings.activation("activation", "tanh"), self.two_biases)


MERGE = {
    "concat": lambda forward, backward: np.concatenate((forward, backward), axis=-1),
    "sum": np.add,
    "mul": np.multiply,
    "ave": lambda forward, backward: (forward + backward) / 2,
}


class Bidirectional(Layer):
    """Two recurrent layers that read from either end; ``merge_mode`` None returns both outputs."""

    takes_state = True

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        merge_mode = settings.take("merge_mode", "concat")
        self.merge = merge_mode and MERGE[check_choice("merge_mode", merge_mode, MERGE)]
        forward, backward = settings.take("layer"), settings.take("backward_layer")
        self.forward = make_layer(forward, weights, "forward_layer", RECURRENT)
        if backward is None:
            options = forward["config"]
            backward = forward | {
                "config": options | {"go_backwards": not self.forward.go_backwards}
            }
        self.backward = make_layer(backward, weights, "backward_layer", RECURRENT)
        for setting in ("return_sequences", "return_state"):
            if getattr(self.forward, setting) != getattr(self.backward, setting):
                raise ValueError(f"{setting} must be the same in both directions")
        if self.forward.go_backwards == self.backward.go_backwards:
            raise ValueError("go_backwards must be different in the two directions")
        for layer in (self.forward, self.backward):
            layer.zero_output_for_mask = layer.return_sequences
        self.input_width = self.forward.input_width
        if self.input_width != self.backward.input_width:
            raise ValueError(
                f"backward_layer must take {self.input_width} inputs, "
                f"got {self.backward.input_width}"
            )
        widths = self.forward.output_width, self.backward.output_width
        if merge_mode not in ("concat", None) and widths[0] != widths[1]:
            raise ValueError(f"units must be the same for merge_mode {merge_mode!r}, got {widths}")
        self.output_width = sum(widths) if merge_mode == "concat" else widths[0]

    def reset_states(self) -> None:
        self.forward.reset_states()
        self.backward.reset_states()

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        super().widths(inputs)
        forward, *states = self.forward.widths(inputs)
        backward, *other = self.backward.widths(inputs)
        merged = (forward, backward) if self.merge is None else (self.output_width,)
        return (*merged, *states, *other)

    def __call__(
        self, x: np.ndarray, mask: Mask, state: Sequence[np.ndarray] = ()
    ) -> tuple[Any, Any]:
        half = len(state) // 2
        forward, mask_after = self.forward(x, mask, state[:half])
        backward, _ = self.backward(x, mask, state[half:])
        states: tuple[np.ndarray, ...] = ()
        if self.forward.return_state:
            (forward, *states), (backward, *other) = forward, backward
            mask_after, states = mask_after[0], (*states, *other)
        if self.backward.return_sequences:
            backward = backward[:, ::-1]
        nothing = (None,) * len(states)
        if self.merge is None:
            return (forward, backward, *states), (mask_after, mask_after, *nothing)
        merged = self.merge(forward, backward)
        return ((merged, *states), (mask_after, *nothing)) if states else (merged, mask_after)


class GlobalPooling(Layer):
    """The mean of the steps that count, or the largest values of all steps."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.mean = settings.kind == "GlobalAveragePooling1D"
        if settings.take("data_format", "channels_last") != "channels_last":
            raise ValueError("data_format must be 'channels_last'")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "T", "width"))
        if not self.mean:
            return x.max(axis=1), None
        if mask is None:
            return x.mean(axis=1), None
        with np.errstate(invalid="ignore"):  # Keras too says NaN where no step counts
            total = np.where(mask[..., None], x, 0).sum(axis=1)
            return total / mask.sum(axis=1, keepdims=True).astype(self.dtype), None


class RepeatVector(Layer):
    """A vector at each of n steps."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.n = settings.size("n")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        x = check_array("x", x, self.dtype, ("B", "width"))
        return np.repeat(x[:, None], self.n, axis=1), None


class Activation(Layer):
    """An activation function alone."""

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.activation = settings.activation("activation")

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        return self.activation(check_array("x", x, self.dtype, (None,) * np.ndim(x))), mask


class Merge(Layer):
    """Several inputs of one shape to one, element by element, or side by side in the last axis."""

    functions = {
        "Add": sum,
        "Average": lambda arrays: sum(arrays) / len(arrays),
        "Concatenate": lambda arrays: np.concatenate(arrays, axis=-1),
        "Maximum": np.maximum.reduce,
        "Minimum": np.minimum.reduce,
        "Multiply": math.prod,
        "Subtract": lambda arrays: arrays[0] - arrays[1],
    }

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.concatenates = settings.kind == "Concatenate"
        self.function = self.functions[settings.kind]
        if self.concatenates and settings.take("axis", -1) != -1:
            raise ValueError("axis must be -1")

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        if len(inputs) < 2:
            raise ValueError(f"layer {self.name!r} must take two inputs or more, got {len(inputs)}")
        if None in inputs:
            return (None,)
        if self.concatenates:
            return (sum(inputs),)
        if len(set(inputs)) > 1:
            raise ValueError(f"layer {self.name!r} must take inputs of one width, got {inputs}")
        return (inputs[0],)

    def __call__(self, x: Sequence[np.ndarray], mask: Sequence[Mask]) -> tuple[np.ndarray, Mask]:
        shape = np.shape(x[0])
        shape = (*shape[:-1], None) if self.concatenates else shape
        y = self.function([check_array("x", array, self.dtype, shape) for array in x])
        if any(one is None for one in mask):
            # To Keras all steps count then that are put side by side.
            some = self.concatenates and any(one is not None for one in mask)
            return y, np.ones(y.shape[:-1], bool) if some else None
        return y, np.logical_or.reduce(mask)


class Operation(Layer):
    """What functional models compute masks with, as ``Any(NotEqual(x, 0))``, all on bool arrays."""

    kinds = {
        "Any": 1,
        "Concatenate": None,
        "ExpandDims": 1,
        "LogicalOr": 2,
        "NotEqual": 2,
        "OnesLike": 1,
        "ZerosLike": 1,
    }

    def __init__(self, settings: Settings, weights: Weights) -> None:
        self.name, self.numbers = settings.name, ()
        self.arguments = self.kinds[settings.kind]
        check_choice("dtype", settings.take("dtype", "bool"), ("bool",))
        axis, keepdims = settings.take("axis", -1), settings.flag("keepdims")
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ValueError(f"axis must be an integer, got {axis!r:.80}")
        self.function = {
            "Any": lambda x: x.any(axis=axis, keepdims=keepdims),
            "Concatenate": lambda *arrays: np.concatenate(arrays, axis=axis),
            "ExpandDims": lambda x: np.expand_dims(x, axis),
            "LogicalOr": np.logical_or,
            "NotEqual": np.not_equal,
            "OnesLike": lambda x: np.ones(x.shape, bool),
            "ZerosLike": lambda x: np.zeros(x.shape, bool),
        }[settings.kind]

    def of(self, inputs: int, numbers: Sequence[Any]) -> Operation:
        """Return the operation on so many inputs and these numbers."""
        known = all(type(number) in (int, float) for number in numbers)
        if not known or self.arguments not in (None, inputs + len(numbers)):
            raise ValueError(f"arguments {list(numbers)!r:.80} are not supported")
        operation = copy(self)
        operation.numbers = tuple(numbers)
        return operation

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        return (None,)

    def __call__(self, x: Sequence[np.ndarray], mask: Any) -> tuple[np.ndarray, Mask]:
        return self.function(*x, *self.numbers), None


RECURRENT = {"SimpleRNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU}
LAYERS = RECURRENT | {
    "InputLayer": InputLayer,
    "Embedding": Embedding,
    "Masking": Masking,
    "Bidirectional": Bidirectional,
    "TimeDistributed": TimeDistributed,
    "Dense": Dense,
    "Activation": Activation,
    "RepeatVector": RepeatVector,
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise"), Dropout),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalMaxPooling1D"), GlobalPooling),
    **dict.fromkeys(Merge.functions, Merge),
}
OF_STEPS = {name: LAYERS[name] for name in ("Activation", "Dense", "Dropout")}
OPERATIONS = dict.fromkeys(Operation.kinds, Operation)


def snake_case(kind: str) -> str:
    """Return the name of a class as Keras writes it in a weights file: SimpleRNN, simple_rnn."""
    kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
    return re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()


def make_layer(
    config: Any, weights: Weights, group: str, allowed: Mapping[str, type[Layer]]
) -> Layer:
    """Return the layer of a configuration, with its variables.

    Parameters
    ----------
    config : dict
        As Keras writes it.
    weights : Weights
        Where the layer's group is.
    group : str
        Its name there.
    allowed : mapping
        Names of the classes in Keras, and ours.

    Raises
    ------
    ValueError
        If the layer or a setting of it is not supported, or its variables do not fit; the message
        begins with the layer.
    """
    settings = Settings(config)
    where = f"layer {settings.name!r} ({settings.kind})"
    home = "keras.src.ops.numpy" if allowed is OPERATIONS else "keras.layers"
    known = isinstance(settings.kind, str) and settings.kind in allowed
    if not known or config.get("module") != home:
        raise ValueError(f"{where} is not supported here; supported are {', '.join(allowed)}")
    try:
        layer = allowed[settings.kind](settings, weights[group])
        settings.finish()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    return layer
