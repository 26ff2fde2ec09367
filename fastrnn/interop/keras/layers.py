"""The layers of Keras that a model may have, at inference.

Each is made from its configuration and the variables that it finds, and takes and returns values
and a mask: ``y, mask = layer(x, mask)`` with x (B, T, width), (B, width) or, for ids, (B, T), and
the mask bool (B, T), True where a step counts, or None. Equations, weights and masks are those of
Keras 3: kernels are (inputs, gates * units), gates i, f, c, o and z, r, h.

Source: https://keras.io/api/layers/ and the code of Keras 3.
"""

from __future__ import annotations

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
    from collections.abc import Callable, Mapping

    from fastrnn.interop.keras.files import Weights

    Mask = np.ndarray | None

# Settings of training alone, and names.
INERT = {
    "activity_regularizer", "dropout", "name", "noise_shape", "rate", "recurrent_dropout", "seed",
    "trainable", "unit_forget_bias", "unroll", "use_cudnn", "implementation",
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

    group = ""  # its name in the weights file, where it has to have one

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self.dtype = settings.dtype()
        self.input_width: int | None = None
        self.output_width: int | None = None

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[Any, Mask]:
        """Return the layer's output and its mask."""
        return x, mask


class InputLayer(Layer):
    """The place of the input."""

    group = "input_layer"

    def __init__(self, settings: Settings, weights: Weights) -> None:
        # The layer that follows knows what it takes; Keras calls ids float32 as well.
        for key in ("batch_shape", "dtype"):
            settings.take(key)
        super().__init__(settings)


class Dropout(Layer):
    """Nothing at inference."""

    group = "dropout"

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)


class Embedding(Layer):
    """A vector for each id; ``mask_zero`` masks id 0."""

    group = "embedding"

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        shape = (settings.size("input_dim"), settings.size("output_dim"))
        settings.take("input_length")
        self.mask_zero = settings.flag("mask_zero")
        (self.table,) = weights.variables([shape], self.dtype)
        self.output_width = shape[1]

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        ids = check_ids("ids", x, len(self.table))
        return self.table.take(ids, axis=0), ids != 0 if self.mask_zero else None


class Masking(Layer):
    """Masks the steps at which all values are `mask_value`, and sets them to zero."""

    group = "masking"

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

    group = "dense"

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

    group = "time_distributed"
    inner = {"Dense": Dense, "Dropout": Dropout}

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.layer = make_layer(settings.take("layer"), weights, "layer", self.inner)
        self.input_width = self.layer.input_width
        self.output_width = self.layer.output_width

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        return self.layer(x, mask)


class Recurrent(Layer):
    """What the recurrent layers share: everything but the cell.

    A masked step keeps the state. Its output is that of the step before, zero in front of the
    first that counts, or zero everywhere with ``zero_output_for_mask``.
    """

    order: tuple[int, ...] = (0,)  # our gates, by their places in the kernels
    states = 1
    two_biases = False

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.units = H = settings.size("units")
        self.output_width = H
        self.return_sequences = settings.flag("return_sequences")
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

    def _cell(self, settings: Settings) -> Any:
        """Return the cell that the settings ask for."""
        raise NotImplementedError

    def _ordered(self, array: np.ndarray) -> np.ndarray:
        """Return (..., gates * units) with our gates in rows."""
        blocks = array.T.reshape(len(self.order), self.units, -1)[list(self.order)]
        return np.ascontiguousarray(blocks.reshape(array.T.shape))

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
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
        state = [np.zeros((packing.B, self.units), self.dtype)] * self.states
        h = run(self.cell, self.weights, rows, packing.offsets, state, out)[0]
        if not self.return_sequences:
            last = packing.restore(h[None])[0]
            if steps is not None and self.zero_output_for_mask:
                last = np.where(steps[:, -1:], last, 0)
            return last, None
        y = packing.unpack(out)
        if steps is not None:
            before = np.cumsum(steps, axis=1) - 1
            shown = steps if self.zero_output_for_mask else before >= 0
            y = np.take_along_axis(y, np.maximum(before, 0)[..., None], axis=1)
            y = np.where(shown[..., None], y, 0)
        return y, mask


class SimpleRNN(Recurrent):
    """h' = f(x W + h U + b)."""

    group = "simple_rnn"

    def _cell(self, settings: Settings) -> Any:
        return simple_cell(settings.activation("activation", "tanh"))


class LSTM(Recurrent):
    """Gates i, f, c, o in the kernels."""

    group = "lstm"
    order = (0, 1, 2, 3)
    states = 2

    def _cell(self, settings: Settings) -> Any:
        f = settings.activation("recurrent_activation", "sigmoid")
        g = settings.activation("activation", "tanh")
        return lstm_cell(f, g, g)


class GRU(Recurrent):
    """Gates z, r, h in the kernels; two biases with ``reset_after``."""

    group = "gru"
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

    group = "bidirectional"

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
        if self.forward.return_sequences != self.backward.return_sequences:
            raise ValueError("return_sequences must be the same in both directions")
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

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[Any, Mask]:
        forward, mask_after = self.forward(x, mask)
        backward, _ = self.backward(x, mask)
        if self.backward.return_sequences:
            backward = backward[:, ::-1]
        if self.merge is None:
            return (forward, backward), None
        return self.merge(forward, backward), mask_after


RECURRENT = {"SimpleRNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU}
LAYERS = RECURRENT | {
    "InputLayer": InputLayer,
    "Embedding": Embedding,
    "Masking": Masking,
    "Bidirectional": Bidirectional,
    "Dropout": Dropout,
    "TimeDistributed": TimeDistributed,
    "Dense": Dense,
}


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
    known = isinstance(settings.kind, str) and config.get("module") == "keras.layers"
    if not known or settings.kind not in allowed:
        raise ValueError(f"{where} is not supported here; supported are {', '.join(allowed)}")
    try:
        layer = allowed[settings.kind](settings, weights[group])
        settings.finish()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    return layer
