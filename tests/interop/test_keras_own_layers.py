"""Layers of a Keras model as fastrnn's own, to be trained and streamed."""

import os
from pathlib import Path

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

import fastrnn as fr

pytest.importorskip("h5py")

pytestmark = pytest.mark.keras

FIXTURES = Path(__file__).parents[1] / "fixtures" / "keras"
X = np.random.default_rng(0).standard_normal((3, 5, 4), np.float32)


def load(name):
    return fr.interop.keras.load(FIXTURES / f"{name}.keras")


def test_a_stored_model_is_rebuilt(backend):
    model = load("classifier")
    embedding, gru, other, dense = map(model.layer, ("embedding_1", "gru", "gru_1", "dense_1"))
    ids = np.array([[3, 4, 5, 1], [8, 1, 2, 7]])
    hidden = gru(embedding(ids))[0][:, ::-1]  # it goes backwards
    _, last = other(hidden)
    assert_close(np.maximum(dense(last[0]), 0), model(ids), TOLERANCES["float32"])
    stream = other.stream(2)
    for t in range(4):
        y = stream.step(hidden[:, t])
    assert_close(y, last[0], TOLERANCES["float32"])


def test_weights_are_copies():
    model = load("classifier")
    before = model([[1, 2]])
    for name in ("embedding_1", "gru", "dense_1"):
        model.layer(name).parameters.flat_values[...] = 0
    np.testing.assert_array_equal(model([[1, 2]]), before)


def test_names_of_keras_2_may_have_slashes():
    model = load("classifier")
    gru = model.layer("gru")
    next(layer for layer in model.layers if layer.name == "gru").name = "block/gru"
    found = model.layer("block/gru")
    np.testing.assert_array_equal(found.parameters.flat_values, gru.parameters.flat_values)


def test_what_is_no_layer_of_ours_is_refused():
    with pytest.raises(KeyError, match=r"name must be that of a layer \(input_layer_1, .*'lstm'"):
        load("classifier").layer("lstm")
    with pytest.raises(KeyError, match=r"name must be that of a layer .* got 'gru/gru'"):
        load("classifier").layer("gru/gru")
    with pytest.raises(ValueError, match=r"layer 'conv1d' must be an Embedding, .*, got Conv1D"):
        load("convolved").layer("conv1d")
    with pytest.raises(ValueError, match="layer 'lstm_1' must have the usual activations"):
        load("masked").layer("lstm_1")


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SimpleRNN", {}),
        ("SimpleRNN", {"activation": "relu", "use_bias": False}),
        ("LSTM", {"go_backwards": True}),
        ("LSTM", {"use_bias": False}),
        ("GRU", {}),
        ("GRU", {"reset_after": False}),
        ("Bidirectional GRU", {}),
        ("Bidirectional LSTM", {"use_bias": False}),
    ],
)
def test_outputs_are_those_of_keras(backend, keras, tmp_path, kind, options):
    layer = getattr(keras.layers, kind.split()[-1])(
        3, return_sequences=True, bias_initializer="normal", name="inner", **options
    )
    if "Bidirectional" in kind:
        layer = keras.layers.Bidirectional(layer)
    inner = keras.Sequential([keras.Input((None, 4)), layer], name="outer")
    model = keras.Sequential([keras.Input((None, 4)), inner])
    model.save(tmp_path / "model.keras")
    own = fr.interop.keras.load(tmp_path / "model.keras").layer(f"outer/{layer.name}")
    actual, _ = own(X)
    if "go_backwards" in options:
        actual = actual[:, ::-1]
    assert_close(actual, model.predict(X, verbose=0), TOLERANCES["float32"])
    output, _, pullback = own.vjp(X)  # it can be trained
    pullback(output)
    assert all(gradient.any() for gradient in own.gradients.values())


@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize(
    ("forward", "backward", "message"),
    [
        ({"go_backwards": True}, {"go_backwards": False}, "a forward_layer that reads forward"),
        ({}, {"go_backwards": True, "use_bias": False}, "two directions of one kind and size"),
        ({}, {"go_backwards": True, "activation": "relu"}, "two directions of one kind and size"),
    ],
)
def test_directions_that_are_no_layer_of_ours(keras, tmp_path, forward, backward, message):
    L = keras.layers
    layers = [L.LSTM(3, **options) for options in (forward, backward)]
    both = L.Bidirectional(layers[0], backward_layer=layers[1], name="both")
    keras.Sequential([keras.Input((None, 4)), both]).save(tmp_path / "model.keras")
    model = fr.interop.keras.load(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=f"layer 'both' must have {message}"):
        model.layer("both")
