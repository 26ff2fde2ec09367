"""Base class of the layers of Keras, and access to their configuration.

A layer is made from its configuration and its variables. It takes and returns values and a mask:
``y, mask = layer(x, mask)`` with x (B, T, width), (B, width) or, for ids, (B, T). The mask is bool
(B, T), True at valid steps, or None. Both are tuples if there are several outputs, and lists if a
layer merges several inputs. Equations, weights and masks are those of Keras 3: kernels are
(inputs, gates * units), gates i, f, c, o and z, r, h.

Source: https://keras.io/api/layers/ and the code of Keras 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import check_bool, check_choice, check_positive_int
from fastrnn.interop.keras.activations import ACTIVATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastrnn.interop.keras.files import Weights
    from fastrnn.layers.base import Module

Mask = np.ndarray | None  # bool (B, T)

# Settings that have no effect at inference.
INERT = {
    "activity_regularizer", "dropout", "name", "noise_shape", "rate", "recurrent_dropout", "seed",
    "stddev", "trainable", "unit_forget_bias", "unroll", "use_cudnn", "implementation",
    "momentum", "renorm_momentum", "synchronized",
    *(f"{part}_{kind}"
      for part in ("kernel", "recurrent", "bias", "embeddings", "beta", "gamma", "moving_mean",
                   "moving_variance")
      for kind in ("initializer", "regularizer", "constraint")),
}  # fmt: skip


class Settings:
    """A layer's configuration. The layer takes each setting that has an effect; see `finish`.

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
        build = config.get("build_config")
        self._shapes = build.get("input_shape") if isinstance(build, dict) else None
        self.name = self._values.get("name")

    def take(self, key: str, default: Any = None) -> Any:
        """Return a setting."""
        return self._values.pop(key, default)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a setting that is True or False."""
        return check_bool(key, self.take(key, default))

    def size(self, key: str, default: int | None = None) -> int:
        """Return a setting that is a positive integer."""
        return check_positive_int(key, self.take(key, default))

    def single(self, key: str, default: int | None = None) -> int:
        """Return a setting that is a positive integer, or a list of one integer."""
        value = self.take(key, default)
        alone = isinstance(value, list) and len(value) == 1
        return check_positive_int(key, value[0] if alone else value)

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a setting that is a list of integers, or a single integer."""
        value = self.take(key)
        values = value if isinstance(value, list) else [value]
        if not all(type(number) is int for number in values):
            raise ValueError(f"{key} must be integers, got {value!r:.80}")
        return tuple(values)

    def last_axis(self, key: str) -> int:
        """Return the axis along which several inputs are merged; it must be their last."""
        axis, shapes = self.take(key, -1), self._shapes if isinstance(self._shapes, list) else []
        known = [len(shape) - 1 for shape in shapes if isinstance(shape, list)] or [axis]
        if type(axis) is not int or (axis != -1 and axis not in known):
            raise ValueError(f"{key} must be the last, got {axis!r:.80}")
        return axis

    def channels_last(self) -> None:
        """Take the order of the axes; the channels must be the last."""
        check_choice("data_format", self.take("data_format", "channels_last"), ("channels_last",))

    def activation(self, key: str, default: str = "linear") -> Callable[[np.ndarray], np.ndarray]:
        """Return a setting that is an activation function."""
        value = self.take(key, default)
        return ACTIVATIONS[check_choice(key, "linear" if value is None else value, ACTIVATIONS)]

    def dtype(self) -> np.dtype:
        """Return the dtype of weights and results; for mixed precision the dtype of the weights."""
        policy = self.take("dtype", "float32")
        if isinstance(policy, dict) and policy.get("class_name") in ("DTypePolicy", "Policy"):
            policy = dict(policy.get("config") or {}).get("name")
        if policy in ("mixed_float16", "mixed_bfloat16"):
            policy = "float32"
        return np.dtype(check_choice("dtype", policy, ("float32", "float64")))

    def finish(self) -> None:
        """Refuse settings that were not taken, have an effect and are switched on; ValueError."""
        for key, value in self._values.items():
            if key not in INERT and value not in (None, False):
                raise ValueError(f"setting {key} = {value!r:.80} is not supported")


class Layer:
    """Base class of the layers.

    Attributes
    ----------
    name, kind : str
        The layer's name in the Keras model, and the name of its class in Keras.
    input_width, output_width : int or None
        Sizes of the last axis. None: any input is accepted; the output is as wide as the input.
    module : str
        Class attribute: the module in which Keras defines the class.
    """

    module = "keras.layers"
    takes_state = False  # whether a call may have an initial state
    sequences = 0  # with `takes_state`: how many of its outputs have a vector for each step
    stateful = False  # whether a call continues from the state of the call before

    def __init__(self, settings: Settings) -> None:
        self.name, self.kind = settings.name, settings.kind
        self.dtype = settings.dtype()
        self.input_width: int | None = None
        self.output_width: int | None = None

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the widths of the outputs for input widths; ValueError if these do not fit."""
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
        """Forget the state that a ``stateful`` layer keeps between calls."""

    def own(self) -> Module:
        """Return a layer of `fastrnn.layers` with a copy of the weights; ValueError without one."""
        kinds = "Embedding, Dense, SimpleRNN, LSTM, GRU or Bidirectional"
        raise ValueError(f"layer {self.name!r} must be an {kinds}, got {self.kind}")


def _of_cell(config: Any) -> Any:
    """Return LSTM's configuration for that of RNN(LSTMCell), whose variables are the same."""
    settings = config.get("config") if isinstance(config, dict) else None
    if not isinstance(settings, dict) or config.get("class_name") != "RNN":
        return config
    cell = settings.get("cell")
    cell = cell if isinstance(cell, dict) and isinstance(cell.get("config"), dict) else {}
    if cell.get("class_name") not in ("SimpleRNNCell", "LSTMCell", "GRUCell"):
        return config
    own = {key: value for key, value in settings.items() if key != "cell"}
    kind = cell["class_name"].removesuffix("Cell")
    return config | {"class_name": kind, "config": cell["config"] | own}


def make_layer(
    config: Any, weights: Weights, group: str, allowed: Mapping[str, type[Layer]]
) -> Layer:
    """Return the layer of a configuration, with its variables.

    Parameters
    ----------
    config : dict
        As Keras writes it.
    weights : Weights
        The group that contains the layer's group.
    group : str
        Name of the layer's group.
    allowed : mapping
        From the names of classes in Keras to our classes.

    Raises
    ------
    ValueError
        If the layer or a setting of it is not supported, or its variables do not fit; the message
        begins with the layer.
    """
    settings = Settings(_of_cell(config))
    where = f"layer {settings.name!r} ({settings.kind})"
    known = isinstance(settings.kind, str) and settings.kind in allowed
    if not known or config.get("module") != allowed[settings.kind].module:
        raise ValueError(f"{where} is not supported here; supported are {', '.join(allowed)}")
    try:
        layer = allowed[settings.kind](settings, weights[group])
        settings.finish()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    return layer
