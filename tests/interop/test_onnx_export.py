"""Writing ONNX: layers and models give the same numbers in every runtime."""

import errno
import os
from functools import partial

import cases
import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

import fastrnn as fr

pytest.importorskip("onnx")

import onnx
from onnx_runtimes import runtimes

from fastrnn.interop import onnx as fronnx
from fastrnn.interop.onnx.export import WRITERS as KINDS

pytestmark = pytest.mark.onnx

# Layers whose cell has an operator.
LAYERS = {name: make for name, make in cases.LAYERS.items() if "normalised" not in name}


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("lengths", [None, [3, 0, 5]], ids=["full", "lengths"])
@pytest.mark.parametrize("with_state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5},
    ],
    ids=["plain", "bidirectional", "batch_first"],
)
def test_exported_layers_give_the_same_numbers(tmp_path, cell, lengths, with_state, options):
    layer = LAYERS[cell](4, 6, seed=0, **options)
    path = tmp_path / "layer.onnx"
    fronnx.export(layer, path, state=with_state, lengths=lengths is not None)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 4) if layer.batch_first else (5, 3, 4), np.float32)
    initial = [rng.standard_normal((layer.depth, 3, w), np.float32) for w in layer.state_widths]
    state = None
    feeds = {"x": x}
    if lengths is not None:
        feeds["lengths"] = np.array(lengths, np.int32)
    if with_state:
        state = tuple(initial) if len(initial) > 1 else initial[0]
        feeds |= {f"{name}0": array for name, array in zip("hc", initial)}
    output, final = layer(x, state, lengths)
    expected = {"output": output}
    if with_state:
        expected |= dict(zip("hc", final if isinstance(final, tuple) else (final,)))
    for run in runtimes(path):
        actual = run(feeds)
        for name, array in expected.items():
            assert_close(actual[name], array, TOLERANCES["float32"], name)


WITH_STATE = {
    "layer": (lambda: fr.LSTM(4, 6), ["output", "h", "c"]),
    "cell": (lambda: fr.LSTMCell(4, 6), ["h", "c"]),
    "encoder": (lambda: fr.models.Encoder(4, 6), ["output", "h"]),
    "language model": (lambda: fr.models.LanguageModel(7, 5), ["logits", "h", "c"]),
    "tied": (
        lambda: fr.models.LanguageModel(7, 5, embedding_size=5, tie_weights=True),
        ["logits", "h", "c"],
    ),
    "tagger": (lambda: fr.models.SequenceTagger(4, 6, 3), ["output", "h"]),
    "recogniser": (lambda: fr.models.CTCRecognizer(4, 6, 3), ["logits", "frames", "h"]),
    "generator": (lambda: fr.models.SequenceGenerator((4,), 6), ["output", "h"]),
}


@pytest.mark.parametrize(("make", "names"), WITH_STATE.values(), ids=WITH_STATE)
def test_outputs_come_in_the_order_in_which_they_are_returned(tmp_path, make, names):
    """As in PyTorch's exports: scripts read ``session.run(None, feeds)`` by place."""
    model, options = make(), {"state": "h" in names, "lengths": "frames" in names}
    if isinstance(model, fr.LSTMCell):
        options["state"] = False  # it has one anyhow
    fronnx.export(model, tmp_path / "model.onnx", **options)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [output.name for output in graph.output] == names


@pytest.mark.parametrize("options", [{}, {"embedding_size": 3}, {"num_layers": 2, "cell": "gru"}])
def test_exported_language_models_give_the_same_numbers(tmp_path, options):
    model = fr.models.LanguageModel(7, 5, seed=0, **options)
    check_language_model(model, tmp_path / "model.onnx")


def test_exported_tied_weights_are_stored_once(tmp_path):
    model = fr.models.LanguageModel(50, 8, embedding_size=8, tie_weights=True, seed=0)
    path = tmp_path / "model.onnx"
    check_language_model(model, path)
    shapes = [tuple(array.dims) for array in onnx.load(path).graph.initializer]
    assert shapes.count((50, 8)) + shapes.count((8, 50)) == 1


def check_language_model(model, path):
    fronnx.export(model, path, state=True)
    ids = np.random.default_rng(0).integers(0, model.config["vocabulary_size"], (6, 2))
    _, state = model(ids)
    logits, final = model(ids, state)
    state, final = [s if isinstance(s, tuple) else (s,) for s in (state, final)]
    feeds = {"ids": ids, **{f"{name}0": array for name, array in zip("hc", state)}}
    for run in runtimes(path):
        actual = run(feeds)
        assert_close(actual["logits"], logits, TOLERANCES["float32"])
        for name, array in zip("hc", final):
            assert_close(actual[name], array, TOLERANCES["float32"], name)


def test_exported_float64(tmp_path):
    layer = fr.LSTM(4, 6, 2, bidirectional=True, proj_size=3, dtype="float64", seed=0)
    fronnx.export(layer, tmp_path / "layer.onnx")
    x = np.random.default_rng(0).standard_normal((5, 3, 4))
    for run in runtimes(tmp_path / "layer.onnx"):
        assert_close(run({"x": x})["output"], layer(x)[0], TOLERANCES["float64"])


@pytest.mark.parametrize("lengths", [None, [5, 0, 3]])
@pytest.mark.parametrize(
    "options",
    [
        {"inputs": "vectors", "bidirectional": True, "input_dropout": 0.5},
        {"cell": "lstm", "num_layers": 2, "embedding_size": 3, "dropout": 0.5},
        {"cell": "rnn", "dtype": "float64"},
    ],
)
def test_exported_encoders_give_the_same_numbers(tmp_path, options, lengths):
    encoder = fr.models.Encoder(4, 6, seed=0, **options)
    path = tmp_path / "encoder.onnx"
    fronnx.export(encoder, path, lengths=lengths is not None)
    rng = np.random.default_rng(0)
    if encoder.inputs == "vectors":
        feeds = {"x": rng.standard_normal((5, 3, 4), np.float32)}
    else:
        feeds = {"ids": rng.integers(0, 4, (5, 3))}
    (inputs,) = feeds.values()
    if lengths is not None:
        inputs = fr.data.Padded(inputs, np.array(lengths))
        feeds["lengths"] = np.array(lengths, np.int32)
    expected, _ = encoder(inputs)
    for run in runtimes(path):
        assert_close(run(feeds)["output"], expected, TOLERANCES["float32"])


OPTIONS = {
    "reverse": lambda **o: fr.GRU(4, 6, 2, reverse=True, **o),
    "learned state": lambda **o: fr.LSTM(4, 6, 2, learned_state=True, proj_size=3, **o),
    "reset before": lambda **o: fr.GRU(4, 6, bidirectional=True, reset_after=False, **o),
    "peepholes": lambda **o: fr.LSTM(4, 6, 2, bidirectional=True, peepholes=True, **o),
    "peepholes, projected": lambda **o: fr.LSTM(4, 6, 2, peepholes=True, proj_size=3, **o),
    "coupled": lambda **o: fr.LSTM(4, 6, 2, bidirectional=True, coupled=True, **o),
    "coupled, peepholes": lambda **o: fr.LSTM(4, 6, coupled=True, peepholes=True, **o),
    "training": lambda **o: fr.LSTM(4, 6, 2, variational=True, recurrent_dropout=0.5, **o),
    "layer norm": lambda **o: fr.LSTM(4, 6, 2, bidirectional=True, layer_norm=True, **o),
    "layer norm, projected": lambda **o: fr.LSTM(
        4, 6, layer_norm=True, proj_size=3, peepholes=True, bias=False, **o
    ),
    "cell clip": lambda **o: fr.LSTM(4, 6, 2, cell_clip=0.3, **o),
    "zoneout, lstm": lambda **o: fr.LSTM(4, 6, 2, zoneout=(0.2, 0.4), bidirectional=True, **o),
    "zoneout, gru": lambda **o: fr.GRU(4, 6, zoneout=0.3, reverse=True, learned_state=True, **o),
    "zoneout, reset before": lambda **o: fr.GRU(4, 6, 2, zoneout=0.3, reset_after=False, **o),
    "zoneout, relu": lambda **o: fr.RNN(4, 6, nonlinearity="relu", zoneout=0.3, **o),
    "everything": lambda **o: fr.LSTM(
        4,
        6,
        2,
        batch_first=True,
        bidirectional=True,
        layer_norm=True,
        peepholes=True,
        cell_clip=0.4,
        zoneout=0.2,
        learned_state=True,
        **o,
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("with_state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize("lengths", [None, [3, 5, 1]], ids=["full", "lengths"])
def test_exported_options_give_the_same_numbers(tmp_path, option, with_state, lengths):
    layer = OPTIONS[option](seed=0)
    rng = np.random.default_rng(0)
    for array in layer.parameters.values():  # some begin as zeros
        array += rng.uniform(-0.3, 0.3, array.shape)
    check_layer(layer, tmp_path / "layer.onnx", lengths, with_state)


def check_layer(layer, path, lengths, with_state):
    fronnx.export(layer, path, state=with_state, lengths=lengths is not None)
    runs = list(runtimes(path))
    rng = np.random.default_rng(0)
    cases = [(5, 3, lengths)]
    if lengths is None:  # neither the steps nor the sequences are those of the graph
        cases += [(1, 3, None), (7, 1, None)]
    else:
        cases += [(5, 1, [2]), (3, 4, [3, 0, 1, 2])]
    for T, B, ends in cases:
        x = rng.standard_normal((B, T, 4) if layer.batch_first else (T, B, 4)).astype(layer.dtype)
        initial = [
            rng.standard_normal((layer.depth, B, w)).astype(layer.dtype) for w in layer.state_widths
        ]
        feeds, state = {"x": x}, None
        if ends is not None:
            feeds["lengths"] = np.array(ends, np.int32)
            beyond = np.arange(T)[:, None] >= ends
            x[beyond.T if layer.batch_first else beyond] = np.nan
        if with_state:
            feeds |= {f"{name}0": array for name, array in zip("hc", initial)}
            state = tuple(initial) if len(initial) > 1 else initial[0]
        output, final = layer(x, state, ends)
        expected = {"output": output}
        if with_state:
            expected |= dict(zip("hc", final if isinstance(final, tuple) else (final,)))
        for run in runs:
            actual = run(feeds)
            for name, array in expected.items():
                assert_close(actual[name], array, TOLERANCES[layer.dtype.name], name)


@pytest.mark.parametrize("cell", cases.LAYERS)
def test_the_step_of_every_cell_is_exported(tmp_path, cell):
    layer = cases.LAYERS[cell](4, 6, zoneout=0.3, dtype="float64", seed=0)  # no operator has that
    assert layer.cell.name == cell
    check_layer(layer, tmp_path / "layer.onnx", [5, 0, 2], True)
    assert "Scan" in {node.op_type for node in onnx.load(tmp_path / "layer.onnx").graph.node}


def test_exported_float64_has_no_operator_that_onnx_runtime_lacks(tmp_path):
    layer = fr.GRU(4, 6, 2, bidirectional=True, dtype="float64", seed=0)
    check_layer(layer, tmp_path / "layer.onnx", [5, 0, 2], True)


def test_exported_projection_without_full_rank(tmp_path):
    layer = fr.LSTM(4, 6, proj_size=2, seed=0)
    layer.parameters["weight_hr_l0"][1] = 0  # h cannot be turned back into hidden units
    check_layer(layer, tmp_path / "layer.onnx", None, True)


@pytest.mark.parametrize(
    "cell", [fr.RNNCell, fr.LSTMCell, fr.GRUCell, partial(fr.LSTMCell, layer_norm=True)]
)
def test_exported_cells_give_the_same_numbers(tmp_path, cell):
    cell, path = cell(4, 6, seed=0), tmp_path / "cell.onnx"
    fronnx.export(cell, path)
    x, *state = np.random.default_rng(0).standard_normal((3, 2, 6), np.float32)
    state = state if isinstance(cell, fr.LSTMCell) else state[:1]
    expected = cell(x[:, :4], tuple(state) if len(state) > 1 else state[0])
    feeds = {"x": x[:, :4], **{f"{name}0": array for name, array in zip("hc", state)}}
    for run in runtimes(path):
        actual = run(feeds)
        for name, array in zip("hc", expected if len(state) > 1 else [expected]):
            assert_close(actual[name], array, TOLERANCES["float32"], name)


MODELS = {
    "classifier, last": lambda: fr.models.SequenceClassifier(
        7, 6, 3, pooling="last", embedding_size=4, bidirectional=True, seed=0
    ),
    "classifier, mean": lambda: fr.models.SequenceClassifier(
        7, 6, 3, pooling="mean", cell="lstm", num_layers=2, dropout=0.5, seed=0
    ),
    "classifier, attention": lambda: fr.models.SequenceClassifier(
        7, 6, 3, pooling="attention", embedding_size=4, seed=0
    ),
    "regressor": lambda: fr.models.SequenceRegressor(4, 6, 2, inputs="vectors", seed=0),
    "tagger": lambda: fr.models.SequenceTagger(
        7, 6, 3, embedding_size=4, bidirectional=True, seed=0
    ),
    "forecaster": lambda: fr.models.Forecaster(
        6, 3, input_size=4, mean=[1, 2, 3, 4], std=2.0, seed=0
    ),
    "quantiles": lambda: fr.models.Forecaster(
        6, 3, input_size=4, quantiles=[0.1, 0.5], cell="lstm", seed=0
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lengths", [None, [3, 5, 1]], ids=["full", "lengths"])
def test_exported_models_give_the_same_numbers(tmp_path, name, lengths):
    model, path = MODELS[name](), tmp_path / "model.onnx"
    fronnx.export(model, path, lengths=lengths is not None)
    rng = np.random.default_rng(0)
    if model.encoder.inputs == "ids":
        feeds = {"ids": rng.integers(0, 7, (5, 3))}
    else:
        feeds = {"x": rng.standard_normal((5, 3, 4), np.float32)}
    (values,) = feeds.values()
    padded = fr.data.Padded(values, np.array([5, 5, 5] if lengths is None else lengths))
    if lengths is not None:
        feeds["lengths"] = np.array(lengths, np.int32)
    expected = model.predict(padded) if isinstance(model, fr.models.Forecaster) else model(padded)
    of_steps = isinstance(expected, fr.data.Padded)
    valid = padded.mask  # the bias stands beyond the ends
    expected = expected.values[valid] if of_steps else expected
    for run in runtimes(path):
        actual = run(feeds)["output"]
        actual = actual[valid] if of_steps else actual
        assert_close(actual, expected.astype(np.float32), TOLERANCES["float32"])


def test_exported_feed_forward_gives_the_same_numbers(tmp_path):
    model = fr.models.FeedForward(4, 3, (6, 5), activation="tanh", seed=0)
    fronnx.export(model, tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((2, 4), np.float32)
    for run in runtimes(tmp_path / "model.onnx"):
        assert_close(run({"x": x})["output"], model(x), TOLERANCES["float32"])


@pytest.mark.parametrize("with_lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize(
    "options",
    [
        {"input_size": 7, "embedding_size": 4, "repeat": 3, "bidirectional": True},
        {"input_size": 2, "inputs": "vectors", "stack": 3, "cell": "lstm"},
        {"input_size": 2, "inputs": "vectors", "stack": 2, "repeat": 3},
        {"input_size": 2, "inputs": "vectors"},
    ],
)
def test_exported_recognizers_give_the_same_numbers(tmp_path, options, with_lengths):
    model, path = fr.models.CTCRecognizer(**options, hidden_size=6, num_symbols=3, seed=0), "m.onnx"
    fronnx.export(model, tmp_path / path, lengths=with_lengths)
    rng = np.random.default_rng(0)
    runs = list(runtimes(tmp_path / path))
    for T in (6, 7, 8):
        if model.encoder.inputs == "ids":
            feeds = {"ids": rng.integers(0, 7, (T, 3))}
        else:
            feeds = {"x": rng.standard_normal((T, 3, 2), np.float32)}
        (values,) = feeds.values()
        lengths = np.array([T, 2, 5]) if with_lengths else np.full(3, T)
        if with_lengths:
            feeds["lengths"] = lengths.astype(np.int32)
        scores, frames = padded = model(fr.data.Padded(values, lengths))
        valid = padded.mask
        for run in runs:
            actual = run(feeds)
            assert_close(actual["logits"][valid], scores[valid], TOLERANCES["float32"])
            if with_lengths:
                np.testing.assert_array_equal(actual["frames"], frames)


@pytest.mark.parametrize("options", [{"cell": "lstm"}, {"embedding_size": 4, "dtype": "float64"}])
@pytest.mark.parametrize("lengths", [None, [3, 1]], ids=["full", "lengths"])
def test_exported_question_answerers_give_the_same_numbers(tmp_path, options, lengths):
    model = fr.models.QuestionAnswerer(9, 6, 3, seed=0, **options)
    fronnx.export(model, tmp_path / "model.onnx", lengths=lengths is not None)
    rng = np.random.default_rng(0)
    stories, questions = rng.integers(1, 9, (3, 2, 4)), rng.integers(1, 9, (2, 4))
    stories[0, 1, 2:] = questions[1, 1:] = 0
    feeds = {"stories": stories, "questions": questions}
    ends = np.array([3, 3] if lengths is None else lengths)
    if lengths is not None:
        stories[1:, 1] = 0
        feeds["lengths"] = ends.astype(np.int32)
    expected = model((fr.data.Padded(stories, ends), questions))
    for run in runtimes(tmp_path / "model.onnx"):
        assert_close(run(feeds)["output"], expected, TOLERANCES["float32"])


@pytest.mark.parametrize("with_lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize(
    "options",
    [
        {"size": [3, 4, 2], "chained": True, "embedding_size": 5, "num_layers": 2},
        {"size": [3, 4], "cell": "lstm"},
        {"size": 3, "head": "mixture", "components": 2},
    ],
)
def test_exported_generators_give_the_same_likelihood(tmp_path, options, with_lengths):
    model = fr.models.SequenceGenerator(**options, hidden_size=6, seed=0)
    rng = np.random.default_rng(0)
    for array in model.parameters.values():  # the links begin as zeros
        array += rng.uniform(-0.3, 0.3, array.shape)
    fronnx.export(model, tmp_path / "model.onnx", lengths=with_lengths)
    if model.config["head"] == "mixture":
        elements = rng.standard_normal((5, 3, 3), np.float32)
    else:
        elements = np.stack([rng.integers(0, size, (5, 3)) for size in options["size"]], axis=2)
    feeds = {"elements": elements}
    lengths = np.array([5, 2, 3]) if with_lengths else np.full(3, 5)
    if with_lengths:
        feeds["lengths"] = lengths.astype(np.int32)
    padded = fr.data.Padded(elements, lengths)
    expected = model.loss(padded, padded)[0]
    for run in runtimes(tmp_path / "model.onnx"):
        scores = run(feeds)["output"]
        if model.config["head"] == "mixture":
            scores = scores.reshape(5, 3, 2, 7)
            loss, _ = fr.losses.gaussian_mixture_nll(scores, elements, padded.mask)
        else:
            loss, _ = fr.losses.joint_cross_entropy(scores, elements, options["size"], padded.mask)
        assert abs(loss - expected) <= TOLERANCES["float32"] * max(1, abs(expected))


WRITERS = {
    "general": lambda: fr.models.Seq2Seq(7, 6, 8, embedding_size=4, seed=0),
    "additive": lambda: fr.models.Seq2Seq(
        7, 6, 8, num_layers=2, cell="lstm", attention="additive", bidirectional=False, seed=0
    ),
    "dot": lambda: fr.models.Seq2Seq(2, 6, 8, inputs="vectors", attention="dot", seed=0),
    "float64": lambda: fr.models.Seq2Seq(7, 6, 8, cell="rnn", dtype="float64", seed=0),
    "no attention": lambda: fr.models.Seq2Seq(7, 6, 8, attention=None, seed=0),
    "captioner": lambda: fr.models.Captioner(5, 6, 8, num_layers=2, embedding_size=4, seed=0),
}


def writer_feeds(model, with_lengths):
    """Return inputs of a model, and the same inputs in the form of the exported graph."""
    rng, dtype = np.random.default_rng(0), np.dtype(model.config["dtype"])
    if isinstance(model, fr.models.Captioner):
        x = rng.standard_normal((3, 5), np.float32)
        return x, {"x": x}
    if model.encoder.inputs == "ids":
        feeds = {"ids": rng.integers(0, 7, (4, 3))}
    else:
        feeds = {"x": rng.standard_normal((4, 3, 2)).astype(dtype)}
    (values,) = feeds.values()
    lengths = np.array([4, 1, 2]) if with_lengths else np.full(3, 4)
    if with_lengths:
        feeds["lengths"] = lengths.astype(np.int32)
    return fr.data.Padded(values, lengths), feeds


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("with_lengths", [False, True], ids=["full", "lengths"])
def test_exported_writers_give_the_same_numbers(tmp_path, name, with_lengths):
    model = WRITERS[name]()
    with_lengths = with_lengths and name != "captioner"
    inputs, feeds = writer_feeds(model, with_lengths)
    fronnx.export(model, tmp_path / "model.onnx", lengths=with_lengths)
    runs = list(runtimes(tmp_path / "model.onnx"))
    for S in (1, 5):
        targets = np.random.default_rng(1).integers(0, 6, (S, 3))
        expected = model(inputs, fr.data.Padded(targets, np.full(3, S)))
        for run in runs:
            actual = run({**feeds, "targets": targets})["logits"]
            assert_close(actual, expected, TOLERANCES[model.config["dtype"]])


@pytest.mark.parametrize("name", WRITERS)
def test_exported_parts_write_what_the_model_writes(tmp_path, name):
    model = WRITERS[name]()
    attends = model.decoder.attention is not None
    inputs, feeds = writer_feeds(model, attends)
    fronnx.export(model, tmp_path / "encoder.onnx", part="encoder", lengths=attends)
    fronnx.export(model, tmp_path / "decoder.onnx", part="decoder", lengths=attends)
    expected = model.predict(inputs, max_length=6)
    names = [output.name for output in onnx.load(tmp_path / "encoder.onnx").graph.output]
    parts = [list(runtimes(tmp_path / f"{part}.onnx")) for part in ("encoder", "decoder")]
    for encode, decode in zip(*parts):
        encoded = encode(feeds)
        given = {name: encoded[name] for name in names}
        if attends:
            given["lengths"] = feeds["lengths"]
        ids, written = np.full((1, 3), model.config["bos"]), []
        for _ in range(6):
            outputs = decode({**given, "ids": ids})
            ids = outputs["logits"].argmax(axis=2)
            written.append(ids[0])
            given |= {f"{name}0": outputs[name] for name in "hc" if f"{name}0" in given}
        for b, symbols in enumerate(np.array(written).T):
            (ends,) = np.nonzero(symbols == model.config["eos"])
            np.testing.assert_array_equal(symbols[: ends[0] if len(ends) else 6], expected[b])


@pytest.mark.parametrize("lengths", [None, [3, 5, 1]], ids=["full", "lengths"])
@pytest.mark.parametrize(
    "layer",
    [
        fr.layers.DotAttention(4, 4),
        fr.layers.GeneralAttention(4, 3, scale=2.0, seed=0),
        fr.layers.AdditiveAttention(4, 3, size=5, dtype="float64", seed=0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_exported_attention_gives_the_same_numbers(tmp_path, layer, lengths):
    fronnx.export(layer, tmp_path / "layer.onnx", lengths=lengths is not None)
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((2, 3, 4)).astype(layer.dtype)
    memory = rng.standard_normal((5, 3, layer.memory_size)).astype(layer.dtype)
    feeds = {"queries": queries, "memory": memory}
    if lengths is not None:
        memory[1:, 2] = np.nan
        feeds["lengths"] = np.array(lengths, np.int32)
    expected = layer(queries, memory, lengths)
    for run in runtimes(tmp_path / "layer.onnx"):
        actual = run(feeds)
        for name, array in zip(("context", "weights"), expected):
            assert_close(actual[name], array, TOLERANCES[layer.dtype.name], name)


@pytest.mark.parametrize("lengths", [None, [3, 5, 1]], ids=["full", "lengths"])
@pytest.mark.parametrize(
    "layer",
    [
        fr.layers.LastPooling(4),
        fr.layers.LastPooling(6, True),
        fr.layers.MeanPooling(4),
        fr.layers.AttentionPooling(4, seed=0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_exported_poolings_give_the_same_numbers(tmp_path, layer, lengths):
    fronnx.export(layer, tmp_path / "layer.onnx", lengths=lengths is not None)
    x = np.random.default_rng(0).standard_normal((5, 3, layer.size), np.float32)
    feeds = {"x": x}
    if lengths is not None:
        x[1:, 2] = np.nan
        feeds["lengths"] = np.array(lengths, np.int32)
    for run in runtimes(tmp_path / "layer.onnx"):
        assert_close(run(feeds)["output"], layer(x, lengths), TOLERANCES["float32"])


def test_exported_dense_embedding_and_dropout(tmp_path):
    rng = np.random.default_rng(0)
    for layer, feeds in (
        (fr.Dense(4, 6, seed=0), {"x": rng.standard_normal((5, 3, 4), np.float32)}),
        (fr.Dense(4, 6, bias=False, seed=0), {"x": rng.standard_normal((5, 3, 4), np.float32)}),
        (fr.Dropout(0.5), {"x": rng.standard_normal((5, 3, 4), np.float32)}),
        (fr.Embedding(6, 3, seed=0), {"ids": rng.integers(0, 6, (5, 3))}),
    ):
        path = tmp_path / "layer.onnx"
        fronnx.export(layer, path)
        for run in runtimes(path):
            expected = layer(*feeds.values())
            assert_close(run(feeds)["output"], expected, TOLERANCES["float32"])


def test_nodes_have_names_of_their_own(tmp_path):
    fronnx.export(fr.GRU(4, 6, zoneout=0.1), tmp_path / "layer.onnx")
    graphs = [onnx.load(tmp_path / "layer.onnx").graph]
    bodies = [a.g for n in graphs[0].node for a in n.attribute if a.type == a.GRAPH]
    assert bodies
    names = [node.name for graph in graphs + bodies for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_every_layer_and_model_has_a_writer():
    public = [getattr(module, name) for module in (fr.layers, fr.models) for name in module.__all__]
    bases = (fr.layers.Module, fr.models.Model)
    for kind in public:
        if isinstance(kind, type) and issubclass(kind, bases) and kind not in bases:
            assert issubclass(kind, tuple(KINDS)), kind


def test_refused_exports_write_nothing(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(TypeError, match="model must be a layer or model of fastrnn, got dict"):
        fronnx.export({}, path)
    with pytest.raises(ValueError, match="lengths must be False for Dense, got True"):
        fronnx.export(fr.Dense(2, 3), path, lengths=True)
    with pytest.raises(ValueError, match="part must be None for Dense, got 'encoder'"):
        fronnx.export(fr.Dense(2, 3), path, part="encoder")
    captioner = fr.models.Captioner(2, 4, 3, seed=0)
    with pytest.raises(ValueError, match="part must be one of 'encoder', 'decoder', got 'head'"):
        fronnx.export(captioner, path, part="head")
    with pytest.raises(ValueError, match="lengths must be False for Captioner, got True"):
        fronnx.export(captioner, path, lengths=True)
    model = fr.models.Seq2Seq(3, 4, 2, attention=None)
    with pytest.raises(ValueError, match="lengths must be False for a decoder without attention"):
        fronnx.export(model, path, part="decoder", lengths=True)
    assert not path.exists()


def test_a_file_is_there_until_the_next_one_is_written(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    fronnx.export(fr.Dense(2, 3), path)
    before = path.read_bytes()

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*model\.onnx'"):
        fronnx.export(fr.GRU(2, 3), path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == before


def test_numbers_of_open_files_are_no_paths(tmp_path):
    with open(tmp_path / "notes", "w+b") as file:
        with pytest.raises(TypeError, match=r"os\.PathLike object, not int"):
            fronnx.export(fr.Dense(2, 3), file.fileno())
        assert file.read() == b""
