"""Files that Keras 2 wrote: the predictions of then, from every form of file."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

pytest.importorskip("h5py")

import h5py

from fastrnn.interop import keras as frkeras

pytestmark = pytest.mark.keras

FIXTURES = Path(__file__).parents[1] / "fixtures" / "keras"


@pytest.fixture
def weights_of_keras_2(tmp_path):
    """What ``model.save_weights("weights.h5")`` wrote, and ``model.to_json()``."""
    with h5py.File(FIXTURES / "keras_2.h5") as whole, h5py.File(tmp_path / "m.h5", "w") as file:
        for name in whole["model_weights"]:
            whole.copy(f"model_weights/{name}", file)
        file.attrs["layer_names"] = list(file)
        file.attrs["keras_version"] = whole.attrs["keras_version"]
        config = json.loads(whole.attrs["model_config"])
    return tmp_path / "m.h5", json.dumps(config | {"keras_version": "2.15.0"})


@pytest.mark.parametrize("form", ["whole", "archive", "weights", "weights and another file"])
def test_files_of_keras_2(backend, form, weights_of_keras_2):
    """Of masks that Keras 3 merges in another way, its hard sigmoid, its names of settings."""
    path, config = weights_of_keras_2
    with np.load(FIXTURES / "keras_2.npz") as stored:
        x, expected = ([stored[f"{name}{k}"] for k in range(3)] for name in "xy")
    match form:
        case "whole":
            model = frkeras.load(FIXTURES / "keras_2.h5")
        case "archive":
            model = frkeras.load(FIXTURES / "keras_2.keras")
        case "weights":
            model = frkeras.load(path, config)
        case _:
            model = frkeras.load(FIXTURES / "keras_2.h5", json.loads(config))
    for run in (model, pickle.loads(pickle.dumps(model))):
        for actual, stored in zip(run(x), expected, strict=True):
            assert_close(actual, stored, TOLERANCES["float32"])


def test_weights_of_keras_2_need_a_configuration(weights_of_keras_2):
    path, config = weights_of_keras_2
    with pytest.raises(ValueError, match=r"config must be model.to_json\(\) for a file of weights"):
        frkeras.load(path)
    without = json.loads(config)
    del without["keras_version"]
    assert frkeras.load(path, without).input_names == ["source", "target", "chars"]


def test_names_of_activations_in_keras_2(weights_of_keras_2):
    path, config = weights_of_keras_2
    models = []
    for name in ("swish", "silu"):
        changed = json.loads(config)
        layers = [one for one in changed["config"]["layers"] if one["class_name"] == "GRU"]
        layers[0]["config"]["activation"] = name
        models.append(frkeras.load(path, changed))
    with np.load(FIXTURES / "keras_2.npz") as stored:
        x = [stored[f"x{k}"] for k in range(3)]
    np.testing.assert_array_equal(models[0](x)[1], models[1](x)[1])


def elsewhere(group):
    group["lstm_cell"] = h5py.ExternalLink("other.h5", "/lstm")


def test_a_direction_that_was_not_trained_stands_last(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes((FIXTURES / "keras_2.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        attributes = file["model_weights/bidirectional"].attrs
        names = [*attributes["weight_names"]]
        attributes["weight_names"] = names[3:] + names[:3]
    with np.load(FIXTURES / "keras_2.npz") as stored:
        x = [stored[f"x{k}"] for k in range(3)]
    expected = frkeras.load(FIXTURES / "keras_2.h5")(x)
    for actual, wanted in zip(frkeras.load(path)(x), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_names_may_be_in_several_attributes(tmp_path, weights_of_keras_2):
    """As Keras writes them where one does not take them all."""
    path, config = weights_of_keras_2
    whole = tmp_path / "model.h5"
    whole.write_bytes((FIXTURES / "keras_2.h5").read_bytes())
    for one in (path, whole):
        with h5py.File(one, "r+") as file:
            group = file["model_weights"] if one == whole else file
            for attributes, key in (
                (group.attrs, "layer_names"),
                (group["sequential"].attrs, "weight_names"),
            ):
                names = attributes.pop(key)
                attributes.update({f"{key}0": names[:2], f"{key}1": names[2:]})
    with np.load(FIXTURES / "keras_2.npz") as stored:
        x = [stored[f"x{k}"] for k in range(3)]
    expected = frkeras.load(FIXTURES / "keras_2.h5")(x)
    for model in (frkeras.load(whole), frkeras.load(path, config)):
        for actual, wanted in zip(model(x), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.pop("lstm"), r"layer 'lstm' \(LSTM\): .* must have 3 arrays, got \[\]"),
        (lambda g: g["lstm"].attrs.pop("weight_names"), "must have 3 arrays, got"),
        (lambda g: g["lstm"].attrs.update(weight_names=["lstm/x:0"] * 3), "must have .*/lstm/x:0"),
        (lambda g: g["lstm"].attrs.update(weight_names=3), r"must have 3 arrays, got \['3'\]"),
        (
            lambda g: g["dense"].attrs.update(weight_names=[*g["dense"].attrs["weight_names"]] * 2),
            r"/model_weights/dense must not have more arrays, got \['dense/kernel:0', ",
        ),
        (
            lambda g: g["bidirectional"].attrs.update(
                weight_names=[*g["bidirectional"].attrs["weight_names"]][:3] * 2
            ),
            r"/bidirectional must have an array once, got '.*/forward_gru/.*/kernel:0' twice",
        ),
        (lambda g: g["lstm/lstm/lstm_cell"].pop("bias:0"), "weights must have .*/bias:0"),
        (
            lambda g: g["lstm"].attrs.update(weight_names=g["lstm"].attrs["weight_names"][::-1]),
            r"bias:0 must be \('any', 16\), got \(16,\)",
        ),
        (
            lambda g: g["lstm/lstm"].move("lstm_cell", "x") or elsewhere(g["lstm/lstm"]),
            "weights must have .*/lstm_cell",
        ),
        (lambda g: g.file.attrs.update(model_config="{"), "model_config must be JSON"),
        (lambda g: g.file.attrs.update(model_config=3), "weights must be a whole HDF5 file"),
        (
            lambda g: g.file.attrs.update(model_config="[]"),
            "model must be Sequential or Functional",
        ),
        (lambda g: g.file.attrs.pop("model_config"), r"config must be model.to_json\(\)"),
    ],
)
def test_damaged_files_of_keras_2_are_named(tmp_path, change, message):
    path = tmp_path / "model.h5"
    path.write_bytes((FIXTURES / "keras_2.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        change(group)
    with pytest.raises(ValueError, match=message):
        frkeras.load(path)
