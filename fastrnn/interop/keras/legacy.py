"""Files of Keras 2, translated to the form of Keras 3.

Configurations of Keras 2 have other names for a few settings and another form of the calls of a
functional model. HDF5 files of whole models (``model.save("model.h5")``, by Keras 3 as well) and of
weights alone have a group for each layer, by its name, with its arrays in one list.

Source: https://github.com/keras-team/tf-keras and the code of Keras 3, ``legacy_h5_format.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fastrnn.interop.keras.files import member, parse_json, read_array
from fastrnn.interop.keras.layers import MERGES, OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = ("Functional", "Model", "Sequential")
ACTIVATIONS_OF_KERAS_2 = {"hard_sigmoid": "hard_sigmoid_2", "swish": "silu"}
# Layers that made other masks than they do in Keras 3.
MASKS_OF_KERAS_2 = (*MERGES, "TimeDistributed")
# For each direction of Bidirectional, its group in Keras 3 and the prefix of its layer's name.
DIRECTIONS = {"forward_layer": "forward_", "backward_layer": "backward_"}
# Their layers take states as further inputs.
RECURRENT = ("Bidirectional", "GRU", "LSTM", "RNN", "SimpleRNN")


def is_legacy(file: h5py.File) -> bool:
    """Return whether an HDF5 file is in the format that Keras 2 had."""
    return "model_weights" in file or any(f"layer_names{k}" in file.attrs for k in ("", 0))


def stored_config(file: h5py.File) -> Any:
    """Return the configuration in a file of a whole model; None if there is none."""
    text = file.attrs.get("model_config")
    return None if text is None else parse_json("model_config", text)


def stored_version(file: h5py.File) -> str:
    """Return the version of Keras that wrote a file in this format."""
    version = file.attrs.get("keras_version", "2.")
    return version.decode() if isinstance(version, bytes) else str(version)


def modern(config: Any, version: str | None) -> Any:
    """Return a model's configuration in the form of Keras 3.

    Parameters
    ----------
    config : dict
        From any file, or ``model.to_json()``, in which Keras 2 noted its version.
    version : str or None
        Of Keras, where the file tells it.
    """
    if not isinstance(config, Mapping):
        return config
    version = str(config.get("keras_version", version))
    return _layer(config, keras_2=version.startswith("2."))


def _layer(config: Any, keras_2: bool) -> Any:
    """Return the configuration of a layer, or of a model and its layers."""
    settings = config.get("config") if isinstance(config, Mapping) else None
    kind = config.get("class_name") if isinstance(config, Mapping) else None
    if kind == "Sequential" and isinstance(settings, list):  # before Keras 2.2.3
        settings = {"layers": settings}
    if not isinstance(settings, Mapping):
        return config
    # Files of whole models do not name the module: settings tell layers from operations.
    operation = isinstance(kind, str) and kind in OPERATIONS and "trainable" not in settings
    module = OPERATIONS[kind].module if operation else "keras.layers"
    config, settings = {"module": module} | config, dict(settings)
    settings.pop("batch_input_shape", None)
    for key in ("layer", "backward_layer", "cell"):
        if key in settings:
            settings[key] = _layer(settings[key], keras_2)
    if keras_2:
        for key in ("activation", "recurrent_activation"):
            if isinstance(settings.get(key), str):
                settings[key] = ACTIVATIONS_OF_KERAS_2.get(settings[key], settings[key])
        if kind in ("GRU", "GRUCell"):
            settings.setdefault("reset_after", False)
        if kind == "LeakyReLU" and "alpha" in settings:
            settings["negative_slope"] = settings.pop("alpha")
        if kind in MASKS_OF_KERAS_2:
            settings["masks_of_keras_2"] = True
    if kind in MODELS and isinstance(settings.get("layers"), list):
        layers = [_layer(layer, keras_2) for layer in settings["layers"]]
        settings["layers"] = layers
        if kind != "Sequential":
            config["class_name"] = "Functional"
            _with_calls(settings, [one for one in layers if isinstance(one, dict)])
    return config | {"config": settings}


def _with_calls(settings: dict[str, Any], layers: list[dict[str, Any]]) -> None:
    """Put the calls of a functional model, in place, into the form of Keras 3."""
    nodes = {one.get("name"): one.get("inbound_nodes") for one in layers}
    if not any(_is_list(node) for calls in nodes.values() if _is_list(calls) for node in calls):
        return  # already in that form
    # Models as layers may count what they were made with as a call.
    inner = [one.get("name") for one in layers if one.get("class_name") in MODELS]
    counted = dict.fromkeys(inner, 0)
    ends = _histories(settings.get("output_layers"))
    for name, number, _ in [*_histories(nodes), *ends]:
        if name in counted and _is_list(nodes[name]) and number >= len(nodes[name]):
            counted[name] = 1

    def tensor(history: Sequence[Any]) -> dict[str, Any]:
        name, number, k = history[:3]
        where = [name, number - counted.get(name, 0), k]
        return {"class_name": "__keras_tensor__", "config": {"keras_history": where}}

    for one in layers:
        if _is_list(one.get("inbound_nodes")):
            one["inbound_nodes"] = [
                _call(node, tensor, one.get("class_name") in RECURRENT)
                for node in one["inbound_nodes"]
            ]
    # Here Keras 3 always counts that call of functional models.
    functional = [one.get("name") for one in layers if one.get("class_name") == "Functional"]
    if ends:
        settings["output_layers"] = [
            [name, number - counted.get(name, 0) + (name in functional), k]
            for name, number, k in ends
        ]


def _call(node: Any, tensor: Any, has_state: bool) -> Any:
    """Return one call, which Keras 2 writes as [[name, number, output, {arguments}], ...]."""
    entries = node if _is_list(node) and all(map(_is_list, node)) else []
    if not entries or not all(_is_history(entry[:3]) for entry in entries):
        return node
    tensors = [tensor(entry) for entry in entries]
    options = dict(node[0][3]) if len(node[0]) > 3 and isinstance(node[0][3], Mapping) else {}
    options = {key: tensor(v) if _is_history(v) else v for key, v in options.items()}
    if has_state and len(tensors) > 1:
        options["initial_state"] = tensors[1:]
        return {"args": tensors[:1], "kwargs": options, "keeps_mask": True}
    return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": options}


def _histories(value: Any) -> list[Any]:
    """Return every [name, number, output] in a nest."""
    if _is_list(value) and _is_history(value[:3]):
        return [value[:3]]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [one for part in value for one in _histories(part)] if _is_list(value) else []


def _is_history(value: Any) -> bool:
    return _is_list(value) and [type(part) for part in value] == [str, int, int]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _weight_names(group: h5py.Group) -> list[str]:
    """Return the names of a layer's arrays; an attribute of HDF5 holds only 64 kB of them."""
    parts = [group.attrs["weight_names"]] if "weight_names" in group.attrs else []
    while (key := f"weight_names{len(parts)}") in group.attrs:
        parts.append(group.attrs[key])
    names = [name for part in parts for name in np.ravel(part).tolist()]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


class LegacyWeights:
    """The arrays of a layer, or of all, which its parts take in turn; see `Weights`.

    Parameters
    ----------
    group : h5py.Group
        Of the layer; of all layers where there are no names.
    names : list of str, optional
        Of the arrays that are left in the group.
    owner : str
        Names of the layer that has them and of the models that it is in, with slashes between.
    """

    def __init__(self, group: h5py.Group, names: list[str] | None = None, owner: str = "") -> None:
        whole = names is None and "model_weights" in group
        self._group = member(group, "model_weights", h5py.Group) if whole else group
        self._names, self._owner = names, owner
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> LegacyWeights:
        """Return the list for a part of the layer: the same one, a direction's own arrays first.

        Arrays of a direction that was not trained come after all trained ones.
        """
        if self._names and name in DIRECTIONS:
            prefix = DIRECTIONS[name]  # of the part of a path in front of the cell, or the array
            self._names.sort(
                key=lambda path: not any(p.startswith(prefix) for p in path.split("/")[-3:-1])
            )
        return self

    def layer(self, name: str) -> LegacyWeights:
        """Return the arrays of the layer of this name, also of one in a model in another."""
        if self._names is not None:
            # Keras 3 names the models in front; another layer in there may have the same name.
            places = f"/{self._owner}/{name}/", f"/{name}/"
            found = ([n for n in self._names if place in f"/{n}"] for place in places)
            inner = next(filter(None, found), [])
            self._names = [array for array in self._names if array not in inner]
            return LegacyWeights(self._group, inner, f"{self._owner}/{name}")
        if name not in self._group:  # as that of an input
            return LegacyWeights(self._group, [])
        found = member(self._group, name, h5py.Group)
        return LegacyWeights(found, _weight_names(found), name)

    def finish(self) -> None:
        """Refuse arrays that no part has taken."""
        if self._names:
            raise ValueError(f"{self._group.name} must not have more arrays, got {self._names}")

    def variables(
        self, shapes: Sequence[tuple[int | None, ...]], dtype: np.dtype
    ) -> list[np.ndarray]:
        """Return the arrays that come next; see `Weights.variables`."""
        left = self._names or []
        names, self._names = left[: len(shapes)], left[len(shapes) :]
        if len(names) < len(shapes):
            raise ValueError(f"{self._group.name} must have {len(shapes)} arrays, got {names}")
        arrays = []
        for name, shape in zip(names, shapes):
            if name in self._read:  # as in what Keras 3.0 leaves behind where it fails to save
                raise ValueError(f"{self._group.name} must have an array once, got {name!r} twice")
            self._read.add(name)
            stored = self._group
            *groups, last = name.split("/")
            for part in groups:
                stored = member(stored, part, h5py.Group)
            arrays.append(read_array(member(stored, last, h5py.Dataset), shape, dtype))
        return arrays
