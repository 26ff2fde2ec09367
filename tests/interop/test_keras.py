"""Keras files: the predictions of Keras, on stored models and on random ones, and bad files."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tolerances import TOLERANCES, assert_close

pytest.importorskip("h5py")

import h5py

from fastrnn.interop import keras as frkeras

pytestmark = pytest.mark.keras

FIXTURES = Path(__file__).parents[1] / "fixtures" / "keras"


def check(actual, expected):
    for a, b in zip(*(y if isinstance(y, (tuple, list)) else (y,) for y in (actual, expected))):
        assert_close(a, b, TOLERANCES["float32"])


@pytest.mark.parametrize("name", ["tagger", "classifier", "masked", "merged"])
def test_stored_models(backend, name):
    with np.load(FIXTURES / "predictions.npz") as stored:
        expected = [stored[key] for key in sorted(stored) if key.startswith(f"{name}.y")]
        x = stored[f"{name}.x"]
    actual = frkeras.load(FIXTURES / f"{name}.keras")(x)
    assert isinstance(actual, tuple) == (len(expected) == 2)
    check(actual, expected if len(expected) == 2 else expected[0])


def test_weights_with_a_configuration():
    text = (FIXTURES / "classifier.json").read_text()
    whole = frkeras.load(FIXTURES / "classifier.keras")
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    for config in (text, json.loads(text)):
        model = frkeras.load(FIXTURES / "classifier.weights.h5", config)
        np.testing.assert_array_equal(model(ids), whole(ids))
    with pytest.raises(ValueError, match=r"config must be model.to_json\(\)"):
        frkeras.load(FIXTURES / "classifier.weights.h5")
    with pytest.raises(ValueError, match=r"config must be None for a \.keras file"):
        frkeras.load(FIXTURES / "classifier.keras", text)


def test_rows_do_not_depend_on_masked_steps():
    model = frkeras.load(FIXTURES / "tagger.keras")
    short, padded = model([[3, 4, 5]]), model([[3, 4, 5, 0, 0]])
    check(padded[:, :3], short)


def test_wrong_inputs_are_refused():
    tagger, merged = (frkeras.load(FIXTURES / f"{n}.keras") for n in ("tagger", "merged"))
    with pytest.raises(ValueError, match=r"ids must be in 0..8, got 9"):
        tagger([[1, 9]])
    with pytest.raises(TypeError, match="ids must be integers"):
        tagger([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"x must be \(B, T, 4\), got \(2, 4\)"):
        merged(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="at least 1 step"):
        merged(np.zeros((2, 0, 4)))


# -------------------------------------------------------------------------------- live comparison


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", exc_type=ImportError)


IDS = np.array(
    [[1, 2, 3, 4, 5], [5, 4, 0, 0, 0], [0, 0, 3, 2, 1], [4, 0, 3, 0, 1], [0, 0, 0, 0, 0]]
)

ACTIVATIONS = [
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh",
    "hard_sigmoid", "softsign", "softplus", "softmax", "exponential",
]  # fmt: skip


@st.composite
def recurrent(draw, keras, return_sequences, bidirectional=False):
    """Draw a recurrent layer, maybe in both directions."""
    flags = {name: draw(st.booleans()) for name in ("use_bias", "zero_output_for_mask")}
    flags["go_backwards"] = not bidirectional and draw(st.booleans())
    kind = draw(st.sampled_from(["SimpleRNN", "LSTM", "GRU"]))
    activations = st.sampled_from(["tanh", "sigmoid", "hard_sigmoid", "softsign"])
    if draw(st.booleans()):
        flags["activation"] = draw(activations)
        if kind != "SimpleRNN":
            flags["recurrent_activation"] = draw(activations)
    if kind == "GRU":
        flags["reset_after"] = draw(st.booleans())
    layer = getattr(keras.layers, kind)(3, return_sequences=return_sequences, **flags)
    if not bidirectional:
        return layer
    mode = draw(st.sampled_from(["sum", "mul", "ave", "concat"]))
    return keras.layers.Bidirectional(layer, merge_mode=mode)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_models_predict_as_in_keras(keras, tmp_path_factory, data):
    layers, draw = keras.layers, data.draw
    stack = [layers.Embedding(6, 4, mask_zero=draw(st.booleans()))]
    for _ in range(draw(st.integers(0, 2))):
        stack.append(draw(recurrent(keras, True, draw(st.booleans()))))
        stack.append(layers.Dropout(0.5))
    if draw(st.booleans()):
        stack.append(draw(recurrent(keras, False, draw(st.booleans()))))
        stack.append(layers.Dense(2, activation=draw(st.sampled_from(ACTIVATIONS))))
    else:
        stack.append(layers.TimeDistributed(layers.Dense(2)))
    first = keras.Input((None,), dtype="int32")
    if draw(st.booleans()):
        model = keras.Sequential([first, *stack])
    else:
        last = first
        for layer in stack:
            last = layer(last)
        model = keras.Model(first, last)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.5)
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    model.save(path)
    check(frkeras.load(path)(IDS), model.predict(IDS, verbose=0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_keras(keras, tmp_path, activation):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation=activation)])
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((9, 3), np.float32) * 3
    check(frkeras.load(tmp_path / "model.keras")(x), model.predict(x, verbose=0))


# -------------------------------------------------------------------------------------- bad files


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


def with_weights(path, change, name="classifier"):
    """Write a stored model with changed weights."""
    files = members(name)
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
    with pytest.raises(ValueError, match=r"path must end with \.keras or \.weights\.h5"):
        frkeras.load(tmp_path / "model.pkl")
    files = members() | {"metadata.json": '{"keras_version": "2.15.0"}'}
    with pytest.raises(ValueError, match=r"keras_version must be 3\.x, got '2\.15\.0'"):
        frkeras.load(write(tmp_path / "model.keras", files))
    for config in ("[", "[" * 100000, "[]", "{}", "null", '{"class_name": "Sequential"}'):
        path = write(tmp_path / "model.keras", members() | {"config.json": config})
        with pytest.raises(ValueError, match=r"config.json must be JSON|model must"):
            frkeras.load(path)


def test_archives_that_explode(tmp_path):
    files = members() | {"config.json": b" " * 10**7}
    path = write(tmp_path / "model.keras", files, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"config\.json must not expand to more than"):
        frkeras.load(path)


def layer(config, k):
    return config["config"]["layers"][k]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: layer(c, 1).update(class_name="Conv1D"), r"\(Conv1D\) is not supported"),
        (lambda c: layer(c, 1).update(class_name=["GRU"]), "is not supported"),
        (lambda c: layer(c, 1).update(module="mine"), r"\(Embedding\) is not supported"),
        (lambda c: layer(c, 2)["config"].update(stateful=True), r"\(GRU\): setting stateful"),
        (lambda c: layer(c, 2)["config"].update(return_state=True), "setting return_state"),
        (lambda c: layer(c, 2)["config"].update(new_option=2), "setting new_option = 2"),
        (lambda c: layer(c, 2)["config"].update(units=-3), "units must be a positive integer"),
        (lambda c: layer(c, 2)["config"].update(units=10**12), r"vars/0 must be \('any', 3"),
        (lambda c: layer(c, 2)["config"].update(units="3"), "units must be a positive integer"),
        (lambda c: layer(c, 2)["config"].update(activation="mish"), "activation must be one of"),
        (lambda c: layer(c, 2)["config"].update(activation={"a": 1}), "activation must be one of"),
        (lambda c: layer(c, 2)["config"].update(dtype="float16"), "dtype must be one of"),
        (lambda c: layer(c, 2)["config"].update(use_bias="yes"), "use_bias must be True or False"),
        (lambda c: layer(c, 2).update(config=[]), "a layer must be a dict with its config"),
        (lambda c: c["config"]["layers"].append(3), "a layer must be a dict"),
        (lambda c: c["config"]["layers"].append(layer(c, 4)), "weights must have .*dense_1"),
        (lambda c: c["config"].update(layers=[]), "model must have a list of layers"),
        (lambda c: c.update(class_name="Model"), "model must be Sequential or Functional"),
    ],
)
def test_unsupported_configurations_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        frkeras.load(with_config(tmp_path / "model.keras", change))


def inbound(config, k):
    return layer(config, k)["inbound_nodes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: inbound(c, -1).append(inbound(c, -1)[0]), "must be called once"),
        (lambda c: inbound(c, -1)[0]["args"].append(2), "must take the output of"),
        (lambda c: inbound(c, -1)[0].update(args=[]), "must take the output of"),
        (lambda c: inbound(c, -1)[0]["kwargs"].update(initial_state=[1]), "initial_state"),
        (lambda c: inbound(c, -1)[0].update(args=inbound(c, 2)[0]["args"]), "output of"),
        (lambda c: c["config"].update(output_layers=["masking", 0, 0]), "output_layers must be"),
        (lambda c: c["config"].update(input_layers=[]), "input_layers must be one layer's"),
        (lambda c: layer(c, 2)["config"].update(mask_value=1.0), "mask must be that of the layers"),
    ],
)
def test_functional_models_that_are_no_chain(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        frkeras.load(with_config(tmp_path / "model.keras", change, "masked"))


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
