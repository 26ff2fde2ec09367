"""Keras files that cannot be run: truncated, damaged, incomplete or not supported."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("h5py")

import h5py

from fastrnn.interop import keras as frkeras

pytestmark = pytest.mark.keras

FIXTURES = Path(__file__).parents[1] / "fixtures" / "keras"


def members(name="classifier"):
    """Return the files of a stored archive."""
    with zipfile.ZipFile(FIXTURES / f"{name}.keras") as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def write(path, files, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def with_config(path, change, name="classifier"):
    """Write a stored model with a changed configuration."""
    files = members(name)
    config = json.loads(files["config.json"])
    change(config)
    return write(path, files | {"config.json": json.dumps(config)})


def with_weights(path, change):
    """Write the stored classifier with changed weights."""
    files = members("classifier")
    buffer = io.BytesIO(files["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    return write(path, files | {"model.weights.h5": buffer.getvalue()})


def test_truncated_archives(tmp_path):
    path, whole = tmp_path / "model.keras", (FIXTURES / "classifier.keras").read_bytes()
    for kept in {*range(0, len(whole), 97), 1, len(whole) - 1}:
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"must be a \.keras archive"):
            frkeras.load(path)


def test_truncated_weights(tmp_path):
    whole = (FIXTURES / "classifier.weights.h5").read_bytes()
    config = (FIXTURES / "classifier.json").read_text()
    path = tmp_path / "model.weights.h5"
    for kept in {*range(0, len(whole), 97), 1, len(whole) - 1}:
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="weights must be a whole HDF5 file"):
            frkeras.load(path, config)


DAMAGE = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=8)


def assert_loads_or_is_refused(path, config=None):
    try:
        model = frkeras.load(path, config)
    except ValueError:
        return
    with np.errstate(all="ignore"):
        assert model([[1, 2]]).shape == (1, 2)


@given(DAMAGE)
@settings(max_examples=100, deadline=None)
def test_damaged_weights_load_or_are_refused(tmp_path_factory, damage):
    path = tmp_path_factory.mktemp("keras") / "model.weights.h5"
    path.write_bytes(damaged((FIXTURES / "classifier.weights.h5").read_bytes(), damage))
    assert_loads_or_is_refused(path, (FIXTURES / "classifier.json").read_text())


@given(DAMAGE)
@example([(27844, 255)])  # members that begin before the file does
@settings(max_examples=100, deadline=None)
def test_damaged_archives_load_or_are_refused(tmp_path_factory, damage):
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    path.write_bytes(damaged((FIXTURES / "classifier.keras").read_bytes(), damage))
    assert_loads_or_is_refused(path)


def damaged(data, damage):
    """Return the data with bytes changed at these places, by these bits."""
    data = bytearray(data)
    for place, difference in damage:
        data[place % len(data)] ^= difference
    return bytes(data)


@pytest.mark.parametrize("missing", ["metadata.json", "config.json", "model.weights.h5"])
def test_missing_members_are_named(tmp_path, missing):
    files = members()
    del files[missing]
    with pytest.raises(ValueError, match=missing):
        frkeras.load(write(tmp_path / "model.keras", files))


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        frkeras.load(tmp_path / "none.keras")
    with pytest.raises(FileNotFoundError):
        frkeras.load(tmp_path / "none.weights.h5", {})
    with pytest.raises(ValueError, match=r"path must end with \.keras, \.h5 or \.hdf5, got"):
        frkeras.load(tmp_path / "model.pkl")
    files = members() | {"metadata.json": '{"keras_version": "4.0.0"}'}
    with pytest.raises(ValueError, match=r"keras_version must be 2\.x or 3\.x, got '4\.0\.0'"):
        frkeras.load(write(tmp_path / "model.keras", files))
    for config in ("[", "[" * 100000, "[]", "{}", "null", '{"class_name": "Sequential"}'):
        path = write(tmp_path / "model.keras", members() | {"config.json": config})
        with pytest.raises(ValueError, match=r"config.json must be JSON|model must"):
            frkeras.load(path)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_only_regular_files_are_read(tmp_path, kind, name):
    path = tmp_path / name
    (os.mkfifo if kind == "pipe" else os.mkdir)(path)
    writer = os.open(path, os.O_RDWR) if kind == "pipe" else None  # else a reader waits for one
    try:
        with pytest.raises(ValueError, match=rf"path must be that of a regular file, got .*{name}"):
            frkeras.load(path)
    finally:
        if writer is not None:
            os.close(writer)


def test_a_name_does_not_end_at_its_null_byte(tmp_path):
    (tmp_path / "model").write_bytes(members()["model.weights.h5"])
    with pytest.raises(ValueError, match=r"null byte"):
        frkeras.load(f"{tmp_path}/model\0.h5", members()["config.json"].decode())


def test_archives_that_explode(tmp_path):
    files = members() | {"config.json": b" " * 10**7}
    path = write(tmp_path / "model.keras", files, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"config\.json must not expand to more than"):
        frkeras.load(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_of_other_methods(tmp_path, method):
    path = write(tmp_path / "model.keras", members(), method)
    with pytest.raises(ValueError, match=rf"metadata\.json must be deflated, got method {method}"):
        frkeras.load(path)


def layer(config, k):
    return config["config"]["layers"][k]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: layer(c, 1).update(class_name="Conv2D"), r"\(Conv2D\) is not supported"),
        (lambda c: layer(c, 1).update(class_name=["GRU"]), "is not supported"),
        (lambda c: layer(c, 1).update(module="mine"), r"\(Embedding\) is not supported"),
        (lambda c: layer(c, 2)["config"].update(stateful=1), r"\(GRU\): stateful must be True or"),
        (lambda c: layer(c, 2)["config"].update(return_state=1), "return_state must be True or"),
        (lambda c: layer(c, 2)["config"].update(new_option=2), "setting new_option = 2"),
        (lambda c: layer(c, 2)["config"].update(units=-3), "units must be a positive integer"),
        (lambda c: layer(c, 2)["config"].update(units=10**12), r"vars/0 must be \('any', 3"),
        (lambda c: layer(c, 2)["config"].update(units="3"), "units must be a positive integer"),
        (lambda c: layer(c, 2)["config"].update(activation="glu"), "activation must be one of"),
        (lambda c: layer(c, 2)["config"].update(activation={"a": 1}), "activation must be one of"),
        (lambda c: layer(c, 2)["config"].update(dtype="float16"), "dtype must be one of"),
        (lambda c: layer(c, 2)["config"].update(use_bias="yes"), "use_bias must be True or False"),
        (lambda c: layer(c, 2).update(config=[]), "a layer must be a dict with its config"),
        (lambda c: c["config"]["layers"].append(3), "a layer must be a dict"),
        (lambda c: c["config"]["layers"].append(layer(c, 4)), "weights must have .*dense_1"),
        (lambda c: c["config"].update(layers=[]), "model must have a list of layers"),
        (lambda c: c.update(class_name="MyModel"), "model must be Sequential or Functional"),
    ],
)
def test_unsupported_configurations_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        frkeras.load(with_config(tmp_path / "model.keras", change))


def test_what_does_not_fit_a_layer_is_refused_by_its_call(tmp_path):
    model = frkeras.load(FIXTURES / "convolved.keras")
    with pytest.raises(ValueError, match=r"x must be \(B, T, 4\), got \(1, 2\)"):
        model(np.zeros((1, 2)))
    for k, option, message in (
        (0, {"padding": "valid"}, r"x must have 3 steps or more in layer 'conv1d', got 2"),
        (1, {"axis": 3}, r"x must have the axes \(3,\) of 'batch_normalization', got \(1, 2, 4\)"),
        (1, {"axis": 1}, r"x must be \(4,\) along axes \(1,\), got \(2,\)"),
        (6, {"target_shape": [3, 5]}, r"x must fit shape \(3, 5\) of 'reshape', got \(1, 1, 4\)"),
        (7, {"axis": 3}, r"x must have the axes \(3,\) of 'softmax', got \(1, 2, 2\)"),
    ):
        changed = with_config(
            tmp_path / "model.keras",
            lambda c, k=k, option=option: layer(c, k + 1)["config"].update(option),
            "convolved",
        )
        with pytest.raises(ValueError, match=message):
            frkeras.load(changed)(np.zeros((1, 2, 4)))


@pytest.mark.parametrize(
    ("k", "option", "message"),
    [
        (0, {"padding": "full"}, r"\(Conv1D\): padding must be one of 'valid', 'same', 'causal'"),
        (0, {"kernel_size": [3, 3]}, "kernel_size must be a positive integer, got list"),
        (0, {"groups": 3}, "filters must be a multiple of groups 3, got 4"),
        (0, {"data_format": "channels_first"}, "data_format must be one of 'channels_last'"),
        (1, {"epsilon": 0}, "epsilon must be a positive number, got 0"),
        (1, {"axis": "last"}, "axis must be integers, got 'last'"),
        (1, {"renorm": True}, "setting renorm = True is not supported"),
        (2, {"negative_slope": "steep"}, "negative_slope must be a finite number"),
        (3, {"padding": "causal"}, "padding must be one of 'valid', 'same', got 'causal'"),
        (5, {"rms_scaling": True, "axis": [1, 2]}, "setting rms_scaling = True is not supported"),
        (6, {"target_shape": [2.0]}, r"target_shape must be integers, got \[2.0\]"),
        (7, {"axis": None}, "axis must be integers, got None"),
    ],
)
def test_unsupported_settings_are_named(tmp_path, k, option, message):
    changed = with_config(
        tmp_path / "model.keras", lambda c: layer(c, k + 1)["config"].update(option), "convolved"
    )
    with pytest.raises(ValueError, match=message):
        frkeras.load(changed)


def inbound(config, k):
    return layer(config, k)["inbound_nodes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: inbound(c, -1)[0]["args"].append(2), "arguments must be outputs of layers"),
        (lambda c: inbound(c, -1)[0].update(args=[]), "a call must have arguments"),
        (lambda c: inbound(c, -1)[0].update(args=[[]]), "arguments must be outputs of layers"),
        (
            lambda c: inbound(c, 1)[0].update(args=[2, 0.0]),
            r"arguments \[2, 0.0\] are not supported",
        ),
        (lambda c: inbound(c, -1)[0].update(args=[{}]), r"arguments \[\] are not supported"),
        (
            lambda c: inbound(c, -1)[0].update(args=[{"a": inbound(c, 2)[0]["args"][0]}]),
            r"arguments \[.a.\] are not supported",
        ),
        (
            lambda c: inbound(c, -1)[0].update(args=[inbound(c, -1)[0]["args"] * 2]),
            "must take one input, got 2",
        ),
        (lambda c: inbound(c, -1)[0]["kwargs"].update(initial_state=[1]), "outputs of layers"),
        (lambda c: inbound(c, -1)[0]["kwargs"].update(mask=[None] * 2), "one mask for each input"),
        (lambda c: inbound(c, -1)[0]["kwargs"].update(training=True), "argument training is not"),
        (lambda c: inbound(c, -1)[0]["kwargs"].update(constants=[1]), "argument constants is not"),
        (lambda c: inbound(c, 2)[0]["kwargs"].update(initial_state=1), "argument 1 is not"),
        (lambda c: layer(c, -1).update(inbound_nodes=None), "must have a name and its calls"),
        (lambda c: layer(c, -1).update(inbound_nodes=[3]), "a call must have arguments"),
        (lambda c: layer(c, -1).update(name=None), "must have a name and its calls"),
        (lambda c: c["config"].update(output_layers=["masking", 0, 3]), "output_layers must be"),
        (lambda c: c["config"].update(output_layers=[["lstm", 0, 0], 3]), "keras_history must be"),
        (lambda c: c["config"].update(input_layers=[]), "keras_history must be an output"),
        (lambda c: c["config"].update(input_layers=["other", 0, 0]), "must take outputs of layers"),
        (lambda c: history(c, -1).__setitem__(0, "lstm"), "must take outputs of layers"),
        (lambda c: history(c, -1).__setitem__(2, 1), "must take outputs of layers"),
    ],
)
def test_bad_calls_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        frkeras.load(with_config(tmp_path / "model.keras", change, "masked"))


def history(config, k):
    """Return which value the layer is called with."""
    return inbound(config, k)[0]["args"][0]["config"]["keras_history"]


def test_models_nested_without_end(tmp_path):
    config = {"class_name": "Dense"}
    for _ in range(300):
        config = {"class_name": "Sequential", "config": {"name": "m", "layers": [config]}}
    path = write(tmp_path / "model.keras", members() | {"config.json": json.dumps(config)})
    with pytest.raises(ValueError, match=r"model 'm': model 'm': .*|nested deeper"):
        frkeras.load(path)


GRU = "layers/gru/cell/vars"


def replaced(name, **options):
    """Return a change that puts another dataset into the place of one."""

    def change(file):
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, **({"shape": shape, "dtype": "f4"} | options))

    return change


def linked(link):
    def change(file):
        del file[f"{GRU}/0"]
        file[f"{GRU}/0"] = link

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced(f"{GRU}/1", shape=(3, 8)), r"gru/cell/vars/1 must be \(3, 9\), got \(3, 8\)"),
        (replaced(f"{GRU}/0", shape=(4, 9), data=np.ones((4, 9))), "must take 5 inputs, got 4"),
        (replaced(f"{GRU}/1", dtype="i4"), "must be float32 or float64, got int32"),
        (replaced(f"{GRU}/1", dtype="S8"), "must be float32 or float64"),
        (replaced(f"{GRU}/1", shape=None), r"gru/cell/vars/1 must be \(3, 9\), got None"),
        (replaced(f"{GRU}/0", shape=(10**9, 9), chunks=(1, 9)), "must be stored in full"),
        (replaced(f"{GRU}/1", external=[("/etc/passwd", 0, 108)]), "must be stored in full"),
        (linked(h5py.ExternalLink("/etc/other.h5", "/x")), "weights must have .*gru/cell/vars/0"),
        (linked(h5py.SoftLink("/layers/gru/cell/vars/1")), "weights must have .*gru/cell/vars/0"),
        (lambda file: file.pop(f"{GRU}/2"), "gru/cell/vars must have 3 arrays"),
        (
            lambda file: file.create_dataset(f"{GRU}/3", data=[1.0]),
            "gru/cell/vars must have 3 arrays",
        ),
        (lambda file: file.pop("layers/gru"), "weights must have /layers/gru"),
        (lambda file: file.pop("layers"), "weights must have /layers"),
    ],
)
def test_unfit_weights_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        frkeras.load(with_weights(tmp_path / "model.keras", change))
