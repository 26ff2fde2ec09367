"""From a file of Keras to a model: the configuration, and the layers with their variables."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastrnn.interop.keras.base import Layer, Mask, Settings, make_layer
from fastrnn.interop.keras.files import (
    Weights,
    open_weights,
    parse_json,
    read_archive,
    reading_weights,
)
from fastrnn.interop.keras.layers import LAYERS, OPERATIONS, Operation
from fastrnn.interop.keras.legacy import (
    LegacyWeights,
    is_legacy,
    modern,
    stored_config,
    stored_version,
)
from fastrnn.interop.keras.model import Call, KerasModel, Key, Submodel, keys, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from fastrnn.layers.base import Module

INPUT: Key = ("input", 0, 0)  # of a Sequential model


def load(path: str | os.PathLike[str], config: str | Mapping[str, Any] | None = None) -> KerasModel:
    """Load a model of Keras 3 or 2, without Keras.

    Sequential and functional models, nested ones too, of the layers that docs/keras.md names.

    Parameters
    ----------
    path : path-like
        A ``.keras``, ``.weights.h5`` or ``.h5`` file. It need not be trusted: nothing in it is
        executed.
    config : str or mapping, optional
        For a file that holds only weights: ``model.to_json()``, or that as a dict.

    Returns
    -------
    model : KerasModel

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `config` is neither text nor a mapping.
    ValueError
        If it is a folder or a pipe, the file is truncated or is not what Keras writes, or a layer
        or setting is not supported; the message names it.
    """
    name = os.fsdecode(path)
    if not isinstance(config, (str, Mapping, type(None))):
        found = type(config).__name__
        raise TypeError(f"config must be model.to_json(), or that as a dict, got {found}")
    if not name.endswith((".keras", ".h5", ".hdf5")):
        raise ValueError(f"path must end with .keras, .h5 or .hdf5, got {name!r}")
    # Opening a pipe would wait for ever; HDF5 would cut a name at a null byte.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"path must be that of a regular file, got {name!r}")
    if name.endswith(".keras"):
        if config is not None:
            raise ValueError("config must be None for a .keras file, which holds its own")
        config, version, file = read_archive(path)
    else:
        config = parse_json("config", config) if isinstance(config, str) else config
        version, file = None, open_weights(path)
    with file, reading_weights():
        try:
            weights: Weights | LegacyWeights = Weights(file)["layers"]
            if is_legacy(file):
                config = stored_config(file) if config is None else config
                if "module" not in _mapping(config):  # as in what Keras 3 writes to JSON
                    version = stored_version(file)
                weights = LegacyWeights(file)
            if config is None and not name.endswith(".keras"):
                raise ValueError("config must be model.to_json() for a file of weights, got None")
            return _model(modern(config, version), weights)
        except RecursionError:
            raise ValueError("config must not be nested deeper than Python's stack") from None


def _model(config: Any, weights: Weights) -> KerasModel:
    kind = config.get("class_name") if isinstance(config, Mapping) else None
    if kind is None and isinstance(config, Mapping) and "layers" in config:
        raise ValueError("config must be model.to_json(), got what model.get_config() returns")
    if not isinstance(kind, str) or kind not in MODELS:
        raise ValueError(f"model must be Sequential or Functional, got {kind!r:.80}")
    settings = config.get("config")
    configs = settings.get("layers") if isinstance(settings, Mapping) else None
    if not isinstance(configs, list) or not configs:
        raise ValueError("model must have a list of layers")
    return MODELS[kind](settings, configs, _layers(configs, weights))


def _layers(configs: list[Any], weights: Weights) -> list[Layer]:
    """Return the layers of a model, with their variables."""
    layers = []
    seen: Counter[str] = Counter()
    for one in configs:
        kind, module = (_mapping(one).get(key) for key in ("class_name", "module"))
        if isinstance(module, str) and module.startswith("keras.src.ops"):
            layers.append(make_layer(one, weights, "", OPERATIONS))
            continue
        # Groups are called by their kind: dense, dense_1, dense_2.
        group = _snake_case(kind) if isinstance(kind, str) else ""
        numbered = f"{group}_{seen[group]}" if seen[group] else group
        seen[group] += 1
        inside = weights.layer(str(_mapping(_mapping(one).get("config")).get("name")))
        layers.append(_layer(one, inside, numbered))
        inside.finish()
    return layers


def _layer(config: Any, weights: Weights, group: str) -> Layer:
    """Return a layer that may be a model, with the variables of its group."""
    kind = _mapping(config).get("class_name")
    if not isinstance(kind, str) or kind not in MODELS:
        return make_layer(config, weights, group, LAYERS | {"TimeDistributed": TimeDistributed})
    name = _mapping(config.get("config")).get("name")
    try:
        return Submodel(name, _model(config, weights[group]["layers"]))
    except ValueError as error:
        raise ValueError(f"model {name!r}: {error}") from error


class TimeDistributed(Layer):
    """Another layer, or a model, at every step; in this module because it needs `_layer`.

    The inner layer sees the steps of all sequences as separate examples.
    """

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.masks_of_keras_2 = settings.flag("masks_of_keras_2")
        self.layer = _layer(settings.take("layer"), weights, "layer")
        if self.layer.stateful:
            raise ValueError("stateful must be False in a layer of single steps, got True")

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        super().widths(inputs)
        outputs = self.layer.widths(inputs)
        if len(outputs) != 1:
            raise ValueError(f"layer {self.name!r} must have one output, got {len(outputs)}")
        return outputs

    def own(self) -> Module:
        return self.layer.own()

    def __call__(self, x: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        if x.ndim < 3:
            raise ValueError(f"x must be (B, T, ...) in layer {self.name!r}, got {x.shape}")
        B, T = x.shape[:2]
        # A mask of these steps is not one of the steps within an example.
        inner = None if mask is None or mask.ndim < 3 else mask.reshape(B * T, *mask.shape[2:])
        y, after = self.layer(x.reshape(B * T, *x.shape[2:]), inner)
        y = y.reshape(B, T, *y.shape[1:])
        if self.masks_of_keras_2 and after is not None:
            mask = after.reshape(B, T, *after.shape[1:])
        elif self.masks_of_keras_2 and mask is not None and mask.ndim > 2:
            mask = mask.any(axis=tuple(range(2, mask.ndim)))
        return y, mask


def _snake_case(kind: str) -> str:
    """Return the name of a class as Keras writes it in a weights file: SimpleRNN, simple_rnn."""
    kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
    return re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()


def _sequential(settings: Mapping[str, Any], configs: list[Any], layers: list[Layer]) -> KerasModel:
    key = INPUT
    calls = []
    for k, layer in enumerate(layers):
        calls.append(Call(str(k), 0, layer, key))
        key = (str(k), 0, 0)
    known = _ordered(calls, [INPUT])[1]
    outputs = [other for other in known if other[0] == key[0]]
    return KerasModel(layers, calls, INPUT, outputs if len(outputs) > 1 else key)


def _functional(settings: Mapping[str, Any], configs: list[Any], layers: list[Layer]) -> KerasModel:
    names: set[str] = set()
    inner = [one.get("name") for one in configs if one["class_name"] == "Functional"]

    def as_output(history: Any) -> Key:
        # Only here does Keras count the construction of a functional model as its first call.
        name, number, k = _as_key(history)
        return name, number - (name in inner), k

    inputs = replaced(settings.get("input_layers"), _as_key)
    outputs = replaced(settings.get("output_layers"), as_output)
    calls = []
    for config, layer in zip(configs, layers):
        name, nodes = config.get("name"), config.get("inbound_nodes")
        if not isinstance(name, str) or not isinstance(nodes, list):
            raise ValueError("every layer of a functional model must have a name and its calls")
        if name in names:
            raise ValueError(f"layer {name!r} must be there once, found twice")
        names.add(name)
        for number, node in enumerate(nodes):
            try:
                calls.append(_call(name, number, layer, _mapping(node)))
            except ValueError as error:
                raise ValueError(f"layer {name!r}: {error}") from error
    calls, known = _ordered(calls, keys(inputs))
    for key in keys(outputs):
        if key not in known:
            raise ValueError(f"output_layers must be outputs of layers, got {list(key)}")
    if isinstance(outputs, list) and len(outputs) == 1:  # Keras returns the array, not a list
        (outputs,) = outputs
    return KerasModel(layers, calls, inputs, outputs)


MODELS = {"Sequential": _sequential, "Functional": _functional}


def _call(name: str, number: int, layer: Layer, node: Mapping[str, Any]) -> Call:
    """Return one call of a layer, with its arguments from the configuration."""
    arguments = node.get("args")
    if not isinstance(arguments, list) or not arguments:
        raise ValueError(f"a call must have arguments, got {arguments!r:.80}")
    options = dict(_mapping(node.get("kwargs")))
    if not options.get("training"):
        options.pop("training", None)
    mask, state = options.pop("mask", None), options.pop("initial_state", None)
    used = [key for key, value in options.items() if value is not None]
    if used:
        raise ValueError(f"argument {used[0]} is not supported")
    if isinstance(layer, Operation) and mask is None and state is None:
        listed = arguments[0] if isinstance(arguments[0], list) else arguments
        tensors = [value for value in listed if _is_tensor(value)]
        dtypes = [_mapping(value.get("config")).get("dtype") for value in tensors]
        operation = layer.of([... if _is_tensor(value) else value for value in listed], dtypes)
        return Call(name, number, operation, [_tensor(value) for value in tensors])
    x, *more = arguments
    if more and state is None:
        state, *more = more
    if more or (state is not None and not layer.takes_state):
        raise ValueError(f"argument {(more or [state])[0]!r:.80} is not supported")
    names = layer.model.input_names if isinstance(layer, Submodel) else []
    inputs, mask = _in_order(x, names, _tensor), _in_order(mask, names, _mask)
    return Call(
        name,
        number,
        layer,
        inputs,
        mask,
        [] if state is None else keys(replaced(state, _tensor)),
        # Keras 3 passes on the mask of the input only if a call has no other tensor.
        unmasked=state is not None and mask is None and not node.get("keeps_mask"),
    )


def _in_order(values: Any, names: Sequence[str], function: Callable[[Any], Any]) -> Any:
    """Return an argument of a call, or a list of several, by the names of a model's inputs."""
    if isinstance(values, Mapping) and "class_name" not in values:
        if not names or set(values) != set(names):
            raise ValueError(f"arguments {list(values)} are not supported")
        values = [values[name] for name in names]
    if not isinstance(values, list) or not values:
        return function(values)
    found = [function(value) for value in values]
    return found[0] if len(found) == 1 else found


def _ordered(calls: list[Call], given: list[Key]) -> tuple[list[Call], dict[Key, int | None]]:
    """Return the calls in an order in which they can be run, and the widths of all values.

    Raises
    ------
    ValueError
        If a call needs a value that no other call makes, or does not accept a width.
    """
    widths: dict[Key, int | None] = dict.fromkeys(given)
    ordered, waiting = [], calls
    while waiting:
        ready = []
        left = []
        for call in waiting:
            if all(key in widths for key in call.needs):
                ready.append(call)
                inputs = keys(call.inputs)
                found = call.layer.widths([widths[key] for key in inputs])
                if call.mask is not None and len(keys(call.mask)) != len(inputs):
                    raise ValueError(f"layer {call.name!r} must take one mask for each input")
                widths.update({(call.name, call.number, k): w for k, w in enumerate(found)})
            else:
                left.append(call)
        if not ready:
            missing = [key for key in left[0].needs if key not in widths]
            raise ValueError(f"layer {left[0].name!r} must take outputs of layers, got {missing}")
        ordered, waiting = ordered + ready, left
    return ordered, widths


def _tensor(value: Any) -> Key:
    """Return the value that an argument of a call refers to."""
    if not _is_tensor(value):
        raise ValueError("arguments must be outputs of layers")
    return _as_key(_mapping(value.get("config")).get("keras_history"))


def _is_tensor(value: Any) -> bool:
    return _mapping(value).get("class_name") == "__keras_tensor__"


def _mask(value: Any) -> Key | None:
    """Return the value that a mask refers to."""
    return None if value is None else _tensor(value)


def _as_key(history: Any) -> Key:
    match history:
        case [str(name), int(number), int(k)]:
            return name, number, k
    raise ValueError(f"keras_history must be an output of a layer, got {history!r:.80}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
