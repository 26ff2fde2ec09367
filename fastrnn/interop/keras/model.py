"""Models that Keras 3 saved: chains of the layers of `fastrnn.interop.keras.layers`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.interop.keras.files import (
    Weights,
    open_weights,
    parse_json,
    read_archive,
    reading_weights,
)
from fastrnn.interop.keras.layers import (
    LAYERS,
    RECURRENT,
    Bidirectional,
    Layer,
    make_layer,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class KerasModel:
    """A chain of layers, for inference; made by `load`.

    Attributes
    ----------
    layers : list of Layer
        In the order in which they run, with their names in the Keras model.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def __call__(self, x: ArrayLike) -> Any:
        """Return what ``model.predict(x)`` returns in Keras.

        Parameters
        ----------
        x : array_like
            (B, T, I), (B, I), or integer ids (B, T), as the first layer takes it.

        Returns
        -------
        y : ndarray, or pair of ndarray
            A pair where the last layer is Bidirectional with ``merge_mode=None``.

        Raises
        ------
        ValueError, TypeError
            If `x` has the wrong shape or type, or T = 0.
        """
        y, mask = np.asarray(x), None
        for layer in self.layers:
            y, mask = layer(y, mask)
        return y


def load(path: str | os.PathLike[str], config: str | Mapping[str, Any] | None = None) -> KerasModel:
    """Load a Keras 3 model, without Keras.

    Sequential models and functional ones that are a chain, made of Embedding, Masking, SimpleRNN,
    LSTM, GRU, Bidirectional, Dense, Dropout and TimeDistributed (of Dense or Dropout).

    Parameters
    ----------
    path : path-like
        A ``.keras`` or ``.weights.h5`` file. It may come from a stranger: it is read, not run.
    config : str or mapping, optional
        What a ``.weights.h5`` file does not hold: ``model.to_json()``, or that as a dict.

    Returns
    -------
    model : KerasModel

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated or is not what Keras 3 writes, or a layer or setting is not
        supported; the message names it.
    """
    name = os.fspath(path)
    if name.endswith(".keras"):
        if config is not None:
            raise ValueError("config must be None for a .keras file, which holds its own")
        config, file = read_archive(path)
    elif name.endswith(".h5"):
        if config is None:
            raise ValueError("config must be model.to_json() for a .weights.h5 file, got None")
        config = parse_json("config", config) if isinstance(config, str) else config
        file = open_weights(path)
    else:
        raise ValueError(f"path must end with .keras or .weights.h5, got {name!r}")
    with file, reading_weights():
        return _model(config, Weights(file)["layers"])


def _model(config: Any, weights: Weights) -> KerasModel:
    kind = config.get("class_name") if isinstance(config, Mapping) else None
    if kind not in ("Sequential", "Functional"):
        raise ValueError(f"model must be Sequential or Functional, got {kind!r:.80}")
    settings = config.get("config")
    configs = settings.get("layers") if isinstance(settings, Mapping) else None
    if not isinstance(configs, list) or not configs:
        raise ValueError("model must have a list of layers")
    if kind == "Functional":
        configs = _chain(configs, settings)
    layers = []
    seen: Counter[str] = Counter()
    for one in configs:
        kind = one.get("class_name") if isinstance(one, Mapping) else None
        group = LAYERS[kind].group if isinstance(kind, str) and kind in LAYERS else ""
        # Groups are called by their kind: dense, dense_1, dense_2.
        numbered = f"{group}_{seen[group]}" if seen[group] else group
        seen[group] += 1
        layers.append(make_layer(one, weights, numbered, LAYERS))
    _check_widths(layers)
    return KerasModel(layers)


def _check_widths(layers: list[Layer]) -> None:
    """Refuse layers of which one does not take what the one before returns."""
    width, last = None, None
    for layer in layers:
        if isinstance(last, Bidirectional) and last.merge is None:
            raise ValueError(f"layer {last.name!r}: merge_mode None must be in the last layer")
        if None not in (width, layer.input_width) and width != layer.input_width:
            raise ValueError(
                f"layer {layer.name!r} must take {width} inputs, got {layer.input_width}"
            )
        width, last = layer.output_width or width, layer


def _chain(configs: list[Any], settings: Mapping[str, Any]) -> list[Any]:
    """Return the layers of a functional model in the order in which they run.

    Keras writes masks down as nodes of their own, ``Any(NotEqual(x, 0))``, and as arguments of the
    layers that use them. Our layers hand masks on themselves; here those are only compared.
    """
    nodes: dict[str, Mapping[str, Any]] = {}
    for config in configs:
        if not isinstance(config, Mapping) or not isinstance(config.get("name"), str):
            raise ValueError("every layer of a functional model must have a name")
        if config["name"] in nodes:
            raise ValueError(f"layer {config['name']!r} must be there once, found twice")
        nodes[config["name"]] = config
    last = _name(settings.get("input_layers"), "input_layers")
    output = _name(settings.get("output_layers"), "output_layers")
    masks: dict[str, tuple[Any, ...]] = {}
    mask: tuple[Any, ...] | None = None
    chain: list[Any] = []
    for name, config in nodes.items():
        inputs, arguments, given = _inbound(config)
        if not chain:
            if name != last or inputs:
                raise ValueError(f"layer {name!r} must be the model's only input")
            chain.append(config)
            continue
        kind = config.get("class_name")
        if kind == "NotEqual" and len(inputs) == 1:
            masks[name] = ("not equal", inputs[0], *arguments)
            continue
        if kind == "Any" and len(inputs) == 1 and inputs[0] in masks:
            options = _mapping(config.get("config"))
            masks[name] = ("any", options.get("axis"), options.get("keepdims"), masks[inputs[0]])
            continue
        if inputs != [last] or arguments:
            raise ValueError(f"layer {name!r} must take the output of {last!r} alone")
        if given is not None and masks.get(given) != mask:
            raise ValueError(f"layer {name!r}: mask must be that of the layers before it")
        mask = _mask_after(config, last, mask)
        chain.append(config)
        last = name
    if last != output:
        raise ValueError(f"output_layers must be {last!r}, got {output!r}")
    return chain


def _mask_after(config: Mapping[str, Any], before: str, mask: Any) -> Any:
    """Return the mask of a layer's output, which follows the layer `before`, in nested tuples."""
    kind, options = config.get("class_name"), _mapping(config.get("config"))
    if kind == "Embedding":
        return ("not equal", before, 0) if options.get("mask_zero") else None
    if kind == "Masking":
        return ("any", -1, False, ("not equal", before, options.get("mask_value")))
    if kind == "Bidirectional":
        options = _mapping(_mapping(options.get("layer")).get("config"))
    elif kind not in RECURRENT:
        return mask
    return mask if options.get("return_sequences") else None


def _inbound(config: Mapping[str, Any]) -> tuple[list[str], list[Any], str | None]:
    """Return the layers whose outputs a layer takes, its other arguments, and its mask's node."""
    name, calls = config["name"], config.get("inbound_nodes")
    if calls == []:
        return [], [], None
    if not isinstance(calls, list) or len(calls) != 1:
        raise ValueError(f"layer {name!r} must be called once")
    call = _mapping(calls[0])
    inputs, arguments = [], []
    for value in call.get("args") or ():
        source = _source(value)
        if source is None:
            arguments.append(value)
        else:
            inputs.append(source)
    options = dict(_mapping(call.get("kwargs")))
    options.pop("training", None)
    mask = _source(options.pop("mask", None))
    used = [key for key, value in options.items() if value is not None]
    if used:
        raise ValueError(f"layer {name!r}: argument {used[0]} is not supported")
    return inputs, arguments, mask


def _source(value: Any) -> str | None:
    """Return the name of the layer whose only output a value is, or None."""
    value = _mapping(value)
    if value.get("class_name") != "__keras_tensor__":
        return None
    return _name(_mapping(value.get("config")).get("keras_history"), "keras_history")


def _name(history: Any, key: str) -> str:
    """Return the layer of ``[name, 0, 0]``, also where that stands in a list of its own."""
    if isinstance(history, list) and len(history) == 1:
        history = history[0]
    match history:
        case [str(name), 0, 0]:
            return name
    raise ValueError(f"{key} must be one layer's only output, got {history!r:.80}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
