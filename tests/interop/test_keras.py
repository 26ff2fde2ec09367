"""Keras files: the predictions of Keras, on stored models and on random ones."""

import copy
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import TOLERANCES, assert_close

pytest.importorskip("h5py")


from fastrnn.interop import keras as frkeras

pytestmark = pytest.mark.keras

FIXTURES = Path(__file__).parents[1] / "fixtures" / "keras"
STORED = ["tagger", "classifier", "masked", "merged", "convolved"]


def check(actual, expected):
    for a, b in zip(*(y if isinstance(y, (tuple, list)) else (y,) for y in (actual, expected))):
        assert_close(a, b, TOLERANCES["float32"])


@pytest.mark.parametrize("name", STORED)
def test_stored_models(backend, name):
    with np.load(FIXTURES / "predictions.npz") as stored:
        expected = [stored[key] for key in sorted(stored) if key.startswith(f"{name}.y")]
        x = stored[f"{name}.x"]
    actual = frkeras.load(FIXTURES / f"{name}.keras")(x)
    assert isinstance(actual, tuple) == (len(expected) == 2)
    check(actual, expected if len(expected) == 2 else expected[0])


@pytest.mark.parametrize("name", STORED)
def test_predictions_come_in_batches(monkeypatch, name):
    with np.load(FIXTURES / "predictions.npz") as stored:
        x = np.concatenate([stored[f"{name}.x"]] * 3)
    model, sizes = frkeras.load(FIXTURES / f"{name}.keras"), []
    expected, run = model(x), model.run
    monkeypatch.setattr(model, "run", lambda given: sizes.append(len(given[0][0])) or run(given))
    actual = model.predict(x, batch_size=4, verbose=0)
    assert isinstance(actual, list) == isinstance(expected, tuple)
    check(actual, expected)
    assert sum(sizes) == len(x)
    assert max(sizes) == 4
    with pytest.raises(ValueError, match="batch_size must be a positive integer, got 0"):
        model.predict(x, 0)


def duplicate(model, way):
    return copy.deepcopy(model) if way == "copied" else pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("way", ["copied", "pickled"])
def test_models_are_copied_and_pickled(name, way):
    with np.load(FIXTURES / "predictions.npz") as stored:
        x = stored[f"{name}.x"]
    model = frkeras.load(FIXTURES / f"{name}.keras")
    other = duplicate(model, way)
    for a, b in zip(listed(other(x)), listed(model(x)), strict=True):
        np.testing.assert_array_equal(a, b)
    recurrent = [layer for layer in other.layers if hasattr(layer, "cell")]
    for layer in recurrent:
        for weight in layer.weights.values():
            weight[...] = 0
    changed = zip(listed(other(x)), listed(model(x)), strict=True)
    assert not recurrent or any((a != b).any() for a, b in changed)


def test_weights_with_a_configuration():
    text = (FIXTURES / "classifier.json").read_text()
    whole = frkeras.load(FIXTURES / "classifier.keras")
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    for config in (text, json.loads(text)):
        model = frkeras.load(FIXTURES / "classifier.weights.h5", config)
        np.testing.assert_array_equal(model(ids), whole(ids))
    with pytest.raises(ValueError, match=r"config must be model.to_json\(\)"):
        frkeras.load(FIXTURES / "classifier.weights.h5")
    with pytest.raises(
        ValueError, match=r"config must be model.to_json\(\), got what .*get_config"
    ):
        frkeras.load(FIXTURES / "classifier.weights.h5", json.loads(text)["config"])
    with pytest.raises(TypeError, match=r"config must be model.to_json\(\), .* got KerasModel"):
        frkeras.load(FIXTURES / "classifier.weights.h5", whole)
    with pytest.raises(ValueError, match=r"config must be None for a \.keras file"):
        frkeras.load(FIXTURES / "classifier.keras", text)


def test_rows_do_not_depend_on_masked_steps():
    model = frkeras.load(FIXTURES / "tagger.keras")
    short, padded = model([[3, 4, 5]]), model([[3, 4, 5, 0, 0]])
    check(padded[:, :3], short)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ids_may_be_whole_floats(dtype):
    model = frkeras.load(FIXTURES / "tagger.keras")
    check(model(np.array([[3, 4, 0]], dtype)), model([[3, 4, 0]]))


def test_wrong_inputs_are_refused():
    tagger, merged = (frkeras.load(FIXTURES / f"{n}.keras") for n in ("tagger", "merged"))
    with pytest.raises(ValueError, match=r"ids must be in 0..8, got 9"):
        tagger([[1, 9]])
    for value in (1.5, np.nan, np.inf):
        with pytest.raises(TypeError, match="ids must be integers, got dtype float64"):
            tagger([[1.0, value]])
    with pytest.raises(ValueError, match=r"x must be \(B, T, 4\), got \(2, 4\)"):
        merged(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"x must be \(B, T, 4\), got \(\)"):
        merged.predict(3)
    assert [len(y) for y in merged.predict(np.empty((0, 2, 4)))] == [0, 0]
    with pytest.raises(ValueError, match="at least 1 step"):
        merged(np.zeros((2, 0, 4)))
    with pytest.raises(ValueError, match="x must have the inputs input_layer, got ids"):
        tagger({"ids": [[1, 2]]})
    assert tagger([[1, 2]], training=False).shape == (1, 2, 2)
    with pytest.raises(ValueError, match="training must be False, got True"):
        tagger([[1, 2]], training=True)


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
    "hard_sigmoid", "softsign", "softplus", "softmax", "exponential", "mish", "log_softmax",
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
    backward = None
    if draw(st.booleans()):
        other = getattr(keras.layers, draw(st.sampled_from(["SimpleRNN", "LSTM", "GRU"])))
        backward = other(3, return_sequences=return_sequences, go_backwards=True)
    return keras.layers.Bidirectional(layer, merge_mode=mode, backward_layer=backward)


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


def listed(outputs):
    """Return outputs of any form as a list."""
    if isinstance(outputs, dict):
        return [outputs[name] for name in sorted(outputs)]
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def graphs(keras):
    """Yield functional models that are no chains, and what they read."""
    L = keras.layers
    rng = np.random.default_rng(0)
    vectors, wide = rng.standard_normal((5, 5, 4), np.float32), rng.standard_normal((5, 3))
    vectors[0, 3:] = vectors[1, 1] = vectors[2, :2] = 0
    ids = keras.Input((None,), dtype="int32", name="ids")
    other = keras.Input((None,), dtype="int32", name="other")
    x, w = keras.Input((None, 4), name="x"), keras.Input((3,), name="w")
    embedded = L.Embedding(6, 4, mask_zero=True)(ids)

    _, *state = L.LSTM(3, return_state=True)(embedded)
    out, *_ = L.LSTM(3, return_sequences=True, return_state=True)(x, initial_state=state)
    yield "encoder and decoder", keras.Model([ids, x], L.Dense(2)(out)), [IDS, vectors]

    out, *state = L.Bidirectional(L.LSTM(3, return_state=True, return_sequences=True))(
        L.Masking()(x)
    )
    last = L.Bidirectional(L.LSTM(3), merge_mode="sum")(x, initial_state=state)
    yield "states in both directions", keras.Model(x, [last, out, *state]), vectors

    pair = L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode=None)(L.Masking()(x))
    yield "masks side by side", keras.Model(x, L.SimpleRNN(2)(L.Concatenate()(pair))), vectors

    joined = L.Concatenate()([L.GRU(3, go_backwards=True)(embedded), w])
    outputs = {"u": L.Dense(2)(joined), "v": L.Dense(1)(joined)}
    yield "names", keras.Model({"a": ids, "b": w}, outputs), {"a": IDS, "b": wide}

    table, reader = L.Embedding(6, 4, mask_zero=True), L.LSTM(3)
    both = L.Add()([reader(table(ids)), reader(table(other))])
    yield "shared layers", keras.Model([ids, other], both), [IDS, IDS[::-1]]

    states = L.GRU(4, return_sequences=True)(L.Masking()(x))
    for query, value in ((embedded, states), (states, embedded), (x, states), (states, x)):
        looks = [
            L.Attention()([query, value]),
            L.Attention(use_scale=True)([query, value, L.Dense(4)(value)]),
            L.Attention(score_mode="concat", use_scale=True)([query, L.Dense(2)(value), value]),
            L.Attention(score_mode="concat")([query, value]),
            L.AdditiveAttention()([query, value]),
            L.AdditiveAttention(use_scale=False)([query, value]),
        ]
        last = [L.GRU(2)(look) for look in looks]  # which shows what becomes of the mask
        yield "attention", keras.Model([ids, x], [*looks, *last]), [IDS, vectors]

    spread = L.Multiply()([L.LSTM(3, return_sequences=True)(x), L.Dense(1)(x)])
    spread = L.Add()([spread, L.Reshape((1, 3))(w), L.Reshape((1, 1))(L.Dense(1)(w))])
    yield "axes of size 1", keras.Model([x, w], spread), [vectors, wide]

    by_number = L.Concatenate(axis=1)([L.GRU(2)(x), L.LSTM(3)(x)])
    steps = L.Concatenate(axis=2)([x, L.GRU(2, return_sequences=True)(x)])
    yield "axes by number", keras.Model(x, [L.Dense(2)(by_number), L.Dense(2)(steps)]), vectors

    kinds = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)
    pair = [L.Dense(3)(x), L.Dense(3)(x)]
    yield "merges", keras.Model(x, [kind()(pair) for kind in kinds]), vectors
    table = L.Embedding(6, 4, mask_zero=True)
    for parts in ([table(ids), table(other)], [x, table(ids), table(other)], [table(ids), x]):
        merged = [kind()(parts) for kind in kinds if kind is not L.Subtract or len(parts) == 2]
        last = [L.GRU(2)(y) for y in [*merged, L.Concatenate()(parts)]]
        inputs = [ids, other, x]
        yield "masked merges", keras.Model(inputs, [*merged, *last]), [IDS, IDS[::-1], vectors]

    reader = keras.Sequential([table, L.GRU(4, return_sequences=True)])
    states, state = reader(ids), L.LSTM(3)(reader(other))
    joined = L.Concatenate()([L.Dense(2)(states), states])
    begun = L.GRU(3, return_sequences=True)(states, initial_state=state)
    both = L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode=None)
    begun = [begun, *both(states, initial_state=[state, state])]
    last = [L.GRU(2)(y) for y in [joined, *begun]]
    yield "masks behind a nested model", keras.Model([ids, other], last), [IDS, IDS[::-1]]
    one, two = keras.Input((None, 4)), keras.Input((None, 4))
    pair = keras.Model([one, two], L.Concatenate()([one, L.GRU(3, return_sequences=True)(two)]))
    after = L.GRU(2)(pair([states, reader(other)]))
    yield "masks of a nested model of two", keras.Model([ids, other], after), [IDS, IDS[::-1]]

    ops, states = keras.ops, L.GRU(4, return_sequences=True)(L.Masking()(x))
    weights = ops.softmax(ops.matmul(x, ops.transpose(states, (0, 2, 1))) / 2, axis=-1)
    looked = [states[:, -1], states[..., 1:3], states[:, 1::2], weights @ states, weights]
    looked += [ops.stack([x, states], axis=1), ops.expand_dims(w, 1) - ops.square(w)]
    looked += [ops.squeeze(L.RepeatVector(1)(w), 1), ops.concatenate([x, 1 - states], 1)]
    reduced = [f(x * states, axis=(1, 2)) for f in (ops.max, ops.mean, ops.min, ops.sum)]
    reduced += [f(x, axis=1, keepdims=True) for f in (ops.max, ops.mean, ops.min, ops.sum)]
    looked += [*reduced, ops.exp(-ops.abs(states)), 2 / ops.exp(w)]
    looked += [ops.maximum(x, states), ops.minimum(x, 0.5), ops.divide(ops.tanh(x), 3)]
    looked += [L.GRU(2)(x + states), L.GRU(2)(ops.sigmoid(states)), L.Dense(2)(states[:, -1, :])]
    yield "operators", keras.Model([x, w], looked), [vectors, wide]

    scores = L.Dot((2, 2))([x, states])
    context = L.Dot((2, 1))([scores, states])
    dots = [scores, context, L.GRU(2)(context), L.Dot(1)([w, L.GRU(3)(x)])]
    dots += [L.Dot(-1, normalize=True)([x, states]), L.Dot((1, 2))([L.Dense(4)(w), x])]
    yield "dots", keras.Model([x, w], dots), [vectors, wide]

    inner = keras.Model(x, [L.GRU(3)(x), L.LSTM(3)(x)])
    chain = keras.Sequential([keras.Input((None, 4)), L.GRU(4, return_sequences=True)])
    yield "nested", keras.Model(x, L.Multiply()(inner(chain(L.Masking()(x))))), vectors

    named = keras.Model(x, {"v": L.GRU(3)(x), "u": L.LSTM(2)(x)})(x)
    yield "a nested model with names", keras.Model(x, [named["v"], L.Dense(2)(named["u"])]), vectors
    coder = keras.Model(x, L.GRU(3)(x))
    yield "nested models last", keras.Model(x, [coder(x), coder(L.Dense(4)(x))]), vectors
    yield "a nested model last", keras.Model(x, coder(chain(x))), vectors

    read = L.Concatenate()([L.GRU(2)(x), L.Dense(2)(w)])
    for inner in (keras.Model([x, w], read), keras.Model({"w": w, "x": x}, read)):
        for vector in (x, L.Masking()(x)):
            given = [vector, w] if isinstance(inner.input, list) else {"x": vector, "w": w}
            yield (
                "a nested model of two",
                keras.Model([x, w], L.Dense(1)(inner(given))),
                [
                    vectors,
                    wide,
                ],
            )

    states = L.GRU(3, return_sequences=True)(L.Masking()(x))
    pooled = [L.GlobalAveragePooling1D()(states), L.GlobalMaxPooling1D()(states)]
    yield "pooling", keras.Model(x, [L.Concatenate()(pooled)]), vectors

    states = L.RNN(L.LSTMCell(3), return_sequences=True, return_state=True)(L.Masking()(x))
    both = L.Bidirectional(L.RNN(L.GRUCell(2, reset_after=False), return_sequences=True))(states[0])
    last = L.RNN(L.SimpleRNNCell(3), go_backwards=True)(both, initial_state=states[1])
    yield "cells", keras.Model(x, [*states, both, last]), vectors

    dropped = L.GaussianNoise(0.1)(L.SpatialDropout1D(0.3)(embedded))
    again = L.GRU(2, return_sequences=True)(L.RepeatVector(3)(L.LSTM(3, dropout=0.5)(dropped)))
    again = L.TimeDistributed(L.LeakyReLU(0.2))(again)
    yield "other layers", keras.Model(ids, L.Activation("softmax")(again)), IDS

    pages, shape = np.stack([IDS[:4], IDS[3::-1], IDS[:4, ::-1]]), (3, 4, 5)
    words, film = keras.Input((4, 5), dtype="int32"), keras.Input(shape)  # lines, frames
    reader = keras.Sequential([keras.Input((5,)), L.Embedding(6, 4, mask_zero=True), L.LSTM(3)])
    lines = [L.TimeDistributed(reader)(words)]
    table = L.Embedding(6, 4, mask_zero=True)  # whose mask is lost if a wrapper holds it
    tables = (table, L.Embedding(6, 4), L.TimeDistributed(L.Embedding(6, 4, mask_zero=True)))
    for one in tables:
        for inner in (L.GRU(3), L.Bidirectional(L.LSTM(2)), L.GlobalAveragePooling1D()):
            lines += [L.TimeDistributed(inner)(one(words))]
    yield "layers of steps", keras.Model(words, [*lines, L.GRU(2)(lines[0])]), pages
    steps = film
    for layer in (L.Conv1D(6, 2), L.LayerNormalization(), L.MaxPooling1D(2), L.Flatten()):
        steps = L.TimeDistributed(layer)(steps)
    frames = rng.standard_normal((2, *shape), np.float32)
    yield "windows of steps", keras.Model(film, L.LSTM(3)(steps)), frames

    mask = keras.Input((None,), dtype="bool", name="mask")
    yield "a given mask", keras.Model([x, mask], L.GRU(3)(x, mask=mask)), [vectors, IDS != 0]
    outputs = L.GRU(3, return_state=True)(x, mask=mask, initial_state=w)
    yield "a state and no steps", keras.Model([x, mask, w], outputs), [vectors, IDS != 0, wide]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
def test_graphs_predict_as_in_keras(keras, tmp_path):
    rng = np.random.default_rng(0)
    for name, model, x in graphs(keras):
        for weight in model.weights:
            weight.assign(rng.standard_normal(weight.shape) * 0.5)
        model.save(tmp_path / "model.keras")
        model.save(tmp_path / "model.h5")
        model.save_weights(tmp_path / "model.weights.h5")
        expected = model.predict(x, verbose=0)
        for loaded in (
            frkeras.load(tmp_path / "model.keras"),
            frkeras.load(tmp_path / "model.h5"),
            frkeras.load(tmp_path / "model.weights.h5", model.to_json()),
        ):
            actual = loaded(x)
            assert isinstance(actual, dict) == isinstance(expected, dict), name
            found, wanted = listed(actual), listed(expected)
            assert [a.shape for a in found] == [a.shape for a in wanted], name
            check(found, wanted)
            for way in ("copied", "pickled"):
                for a, b in zip(listed(duplicate(loaded, way)(x)), found, strict=True):
                    np.testing.assert_array_equal(a, b, name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
def test_no_mask_in_a_call_is_the_mask_of_its_input(keras, tmp_path):
    """Versions up to 3.3 noted none behind a merge; the newest hands it on all the same."""
    L = keras.layers
    ids = keras.Input((None,), dtype="int32")
    embedded = L.Embedding(6, 4, mask_zero=True)(ids)
    added = L.Add()([L.GRU(4, return_sequences=True)(embedded), embedded])
    model = keras.Model(ids, L.GRU(2)(added))
    model.save_weights(tmp_path / "model.weights.h5")
    config = json.loads(model.to_json())
    config["config"]["layers"][-1]["inbound_nodes"][0]["kwargs"]["mask"] = None
    noted = keras.models.model_from_json(json.dumps(config))
    noted.load_weights(tmp_path / "model.weights.h5")
    loaded = frkeras.load(tmp_path / "model.weights.h5", config)
    check(loaded(IDS), noted.predict(IDS, verbose=0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stateful_layers_go_on_as_in_keras(keras, tmp_path, bidirectional):
    L = keras.layers
    layer = L.LSTM(3, stateful=True, return_sequences=bidirectional)
    stack = [L.Bidirectional(layer)] if bidirectional else [L.Masking(), layer, L.RepeatVector(2)]
    stack.append(L.GRU(2, stateful=True, reset_after=False))
    model = keras.Sequential([keras.Input(batch_shape=(4, 3, 2)), *stack])
    model.save(tmp_path / "model.keras")
    loaded = frkeras.load(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((3, 4, 3, 2), np.float32)
    x[:, 1, 2] = 0
    for k, batch in enumerate(x):
        if k == 2:
            loaded.reset_states()
            for one in model.layers:
                if getattr(one, "stateful", False):
                    one.reset_states()
        check(loaded(batch), model.predict(batch, verbose=0))
    with pytest.raises(ValueError, match=r"x must have 4 sequences, as before .*, got 2"):
        loaded(x[0, :2])
    for one in (loaded, *(one for one in model.layers if getattr(one, "stateful", False))):
        one.reset_states()
    kept = loaded(x[0])
    kept[...] = 0  # the caller's
    others = [duplicate(loaded, way) for way in ("copied", "pickled")]
    expected = loaded(x[1])
    for other in others:  # the states go with it, and are its own from then on
        np.testing.assert_array_equal(other(x[1]), expected)
    loaded.reset_states()
    both = np.concatenate(x[:2])
    check(loaded.predict(both, 4), model.predict(both, 4, verbose=0))
    loaded.reset_states()
    assert loaded(x[0, :2]).shape == (2, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize("frozen", ["forward_layer", "backward_layer"])
@pytest.mark.parametrize("nested", [False, True])
def test_directions_of_which_one_is_not_trained(keras, tmp_path, frozen, nested):
    """Whose arrays stand last in an .h5 file."""
    both = keras.layers.Bidirectional(keras.layers.LSTM(3), name="forward_and_backward")
    chain = [keras.Sequential([both, keras.layers.Dense(2)])] if nested else [both]
    model = keras.Sequential([keras.Input((None, 4)), *chain])
    getattr(both, frozen).trainable = False
    model.save(tmp_path / "model.h5")
    x = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    check(frkeras.load(tmp_path / "model.h5")(x), model.predict(x, verbose=0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize("depth", [1, 2])
def test_names_that_come_again_in_a_nested_model(keras, tmp_path, depth):
    layers = keras.layers
    inner = [layers.Dense(5, name="again"), layers.TimeDistributed(layers.Dense(4, name="again"))]
    for _ in range(depth):
        inner = [keras.Sequential(inner, name="again"), layers.Dense(3)]
    model = keras.Sequential([keras.Input((None, 4)), *inner])
    model.save(tmp_path / "model.h5")
    x = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    check(frkeras.load(tmp_path / "model.h5")(x), model.predict(x, verbose=0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
def test_operators_that_do_not_fit_are_refused(keras, tmp_path):
    L, x, w = keras.layers, keras.Input((None, 4)), keras.Input((None,))
    for output, shapes, message in (
        (
            L.Dense(1)(x[:, 3, :]),
            [(2, 3, 4)],
            r"operation 'get_item\w*' \(GetItem\): index 3 is out",
        ),
        (
            x + w,
            [(2, 3, 4), (2, 3)],
            r"operation 'add\w*' \(Add\): operands could not be broadcast",
        ),
        (L.Dot((1, 1))([x, w]), [(2, 3, 4), (2, 4)], r"x must fit along the axes \(1, 1\) of 'dot"),
    ):
        keras.Model([x, w][: len(shapes)], output).save(tmp_path / "model.keras")
        model = frkeras.load(tmp_path / "model.keras")
        with pytest.raises(ValueError, match=message):
            model([np.zeros(shape) for shape in shapes] if shapes[1:] else np.zeros(*shapes))
    model = keras.Model(x, x[:, -1])
    model.save(tmp_path / "model.keras")
    y = frkeras.load(tmp_path / "model.keras")(np.zeros((2, 3, 4)))
    assert y.dtype == np.float32  # as the model says, whatever it is given
    model.save_weights(tmp_path / "model.weights.h5")
    for key in (["a"], 1.5, {"class_name": "__slice__", "config": {"start": "0"}}, True):
        config = json.loads(model.to_json())
        config["config"]["layers"][-1]["inbound_nodes"][0]["args"][1] = key
        with pytest.raises(ValueError, match=r"index must be integers and slices"):
            frkeras.load(tmp_path / "model.weights.h5", config)
    model = keras.Model(x, keras.ops.sum(x, axis=1))
    model.save_weights(tmp_path / "model.weights.h5")
    config = json.loads(model.to_json())
    config["config"]["layers"][-1]["config"]["axis"] = 10**30  # beyond C's long
    summed = frkeras.load(tmp_path / "model.weights.h5", config)
    with pytest.raises(ValueError, match=r"operation 'sum\w*' \(Sum\): "):
        summed(np.zeros((2, 3, 4)))
    keras.Model(x, keras.ops.einsum("btd,bsd->bts", x, x)).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"\(Einsum\) is not supported here; .* Absolute, Add,"):
        frkeras.load(tmp_path / "model.keras")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
def test_what_layers_of_single_steps_must_be(keras, tmp_path):
    L, film = keras.layers, keras.Input(batch_shape=(2, 3, 4, 5))
    keras.Model(film, L.TimeDistributed(L.LSTM(2, stateful=True))(film)).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"stateful must be False in a layer of single steps"):
        frkeras.load(tmp_path / "m.keras")
    keras.Model(film, L.TimeDistributed(L.LSTM(2))(film)).save(tmp_path / "m.keras")
    model = frkeras.load(tmp_path / "m.keras")
    assert model(np.zeros((2, 0, 4, 5))).shape == (2, 0, 2)
    for shape in ((2, 3), (2, 3, 5)):
        with pytest.raises(ValueError, match=r"x must be "):
            model(np.zeros(shape))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
def test_several_cells_are_refused(keras, tmp_path):
    cells = [keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]
    keras.Sequential([keras.Input((4, 2)), keras.layers.RNN(cells)]).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"layer 'rnn\w*' \(RNN\) is not supported here"):
        frkeras.load(tmp_path / "model.keras")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_runs_in_float32(keras, tmp_path, policy):
    def model(dtype):
        stack = [keras.layers.LSTM(4, dtype=dtype), keras.layers.Dense(2, dtype="float32")]
        return keras.Sequential([keras.Input((5, 3)), *stack])

    mixed, whole = model(policy), model("float32")
    whole.set_weights(mixed.get_weights())
    mixed.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((3, 5, 3), np.float32)
    check(frkeras.load(tmp_path / "model.keras")(x), whole.predict(x, verbose=0))


LAYERS = {
    "LayerNormalization": [{}, {"scale": False, "center": False}, {"axis": [1, 2], "epsilon": 0.1}],
    "BatchNormalization": [{}, {"axis": 1, "center": False}, {"axis": -2, "scale": False}],
    "Conv1D": [
        {"filters": 6, "kernel_size": 3, "activation": "relu"},
        {"filters": 2, "kernel_size": 4, "padding": "same", "use_bias": False},
        {"filters": 6, "kernel_size": 4, "padding": "same", "strides": 3, "groups": 2},
        {"filters": 3, "kernel_size": 3, "padding": "same", "dilation_rate": 2},
        {"filters": 3, "kernel_size": 2, "padding": "causal", "dilation_rate": 3},
        {"filters": 3, "kernel_size": 2, "strides": 3, "activation": "softmax"},
    ],
    "MaxPooling1D": [{}, {"pool_size": 3, "strides": 1}, {"pool_size": 4, "padding": "same"}],
    "AveragePooling1D": [{"pool_size": 2}, {"pool_size": 3, "strides": 2, "padding": "same"}],
    "ReLU": [{}, {"max_value": 0.7, "negative_slope": 0.2, "threshold": 0.3}],
    "LeakyReLU": [{}],
    "ELU": [{"alpha": 0.6}],
    "Softmax": [{}, {"axis": 1}, {"axis": [1, 2]}],
    "Rescaling": [{"scale": 0.5, "offset": -1.0}],
    "Identity": [{}],
    "AlphaDropout": [{"rate": 0.3}],
    "Reshape": [{"target_shape": (-1, 2)}, {"target_shape": (4, 7)}],
    "Permute": [{"dims": (2, 1)}],
    "Flatten": [{}],
    "ZeroPadding1D": [{"padding": (1, 2)}],
    "Cropping1D": [{"cropping": (2, 1)}],
    "UpSampling1D": [{"size": 3}],
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("masked", [False, True])
def test_layers_around_recurrent_ones(keras, tmp_path, name, masked):
    """Alone, and with a recurrent layer after it, which shows what becomes of the mask."""
    L, rng = keras.layers, np.random.default_rng(0)
    x = rng.standard_normal((5, 7, 4), np.float32)
    x[0, 3:] = x[1, 2] = x[2, 0] = 0
    if masked and name == "Softmax":  # to which Keras's mask is one of values
        pytest.skip("Keras refuses it as well")
    for options in LAYERS[name]:
        chain = [L.Masking()] * masked + [getattr(L, name)(**options)]
        model = keras.Sequential([keras.Input((7, 4)), *chain])
        follower = L.Dense(3) if name == "Flatten" else L.GRU(3)
        for one in (model, keras.Sequential([keras.Input((7, 4)), *model.layers, follower])):
            for weight in one.weights:
                weight.assign(rng.uniform(0.3, 1.3, weight.shape))
            one.save(tmp_path / "model.keras")
            loaded = frkeras.load(tmp_path / "model.keras")
            found, expected = loaded(x), one.predict(x, verbose=0)
            assert found.shape == expected.shape
            check(found, expected)
            np.testing.assert_array_equal(duplicate(loaded, "pickled")(x), found)
            assert loaded(x[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize("options", LAYERS["ReLU"])
def test_a_rectifier_of_infinity_is_that_of_keras(keras, tmp_path, options):
    model = keras.Sequential([keras.Input((1, 4)), keras.layers.ReLU(**options)])
    model.save(tmp_path / "model.keras")
    x = np.array([[[-np.inf, -1, np.inf, np.nan]]], np.float32)
    found = frkeras.load(tmp_path / "model.keras")(x)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), 1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_keras(keras, tmp_path, activation):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation=activation)])
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((9, 3), np.float32) * 3
    loaded = frkeras.load(tmp_path / "model.keras")
    check(loaded(x), model.predict(x, verbose=0))
    np.testing.assert_array_equal(duplicate(loaded, "pickled")(x), loaded(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Keras
def test_nothing_is_left_where_more_is_cropped_than_there_is(keras, tmp_path):
    stack = [keras.Input((None, 2)), keras.layers.Cropping1D((1, 4))]
    keras.Sequential(stack).save(tmp_path / "model.keras")
    loaded = frkeras.load(tmp_path / "model.keras")
    assert loaded(np.zeros((1, 6, 2))).shape == (1, 1, 2)
    for T in (3, 5):
        with pytest.raises(ValueError, match="x must have more than 5 steps in 'cropping1d"):
            loaded(np.zeros((1, T, 2)))
