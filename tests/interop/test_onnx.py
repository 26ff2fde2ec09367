"""ONNX: every option of the three operators, models of others, export, and bad models."""

import math
from functools import partial
from pathlib import Path

import cases
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from tolerances import TOLERANCES, assert_close

import fastrnn as fr

pytest.importorskip("onnx")

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from fastrnn.interop import onnx as fronnx
from fastrnn.interop.onnx.export import WRITERS as KINDS

pytestmark = pytest.mark.onnx

FIXTURES = Path(__file__).parents[1] / "fixtures" / "onnx"
GATES = {"RNN": "h", "LSTM": "iofc", "GRU": "zrh"}
FUNCTIONS = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}

# name -> (takes alpha, takes beta, f(x, alpha, beta)), one number at a time
ACTIVATIONS = {
    "Relu": (0, 0, lambda x, a, b: max(x, 0)),
    "Tanh": (0, 0, lambda x, a, b: math.tanh(x)),
    "Sigmoid": (0, 0, lambda x, a, b: 1 / (1 + math.exp(-x))),
    "Affine": (1, 1, lambda x, a, b: a * x + b),
    "LeakyRelu": (1, 0, lambda x, a, b: x if x >= 0 else a * x),
    "ThresholdedRelu": (1, 0, lambda x, a, b: x if x >= a else 0),
    "ScaledTanh": (1, 1, lambda x, a, b: a * math.tanh(b * x)),
    "HardSigmoid": (1, 1, lambda x, a, b: min(max(a * x + b, 0), 1)),
    "Elu": (1, 0, lambda x, a, b: x if x >= 0 else a * math.expm1(x)),
    "Softsign": (0, 0, lambda x, a, b: x / (1 + abs(x))),
    "Softplus": (0, 0, lambda x, a, b: math.log1p(math.exp(x))),
}
DEFAULTS = {
    "Affine": (1, 0),
    "LeakyRelu": (0.01, None),
    "ThresholdedRelu": (1, None),
    "ScaledTanh": (1, 1),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1, None),
}


def bound(names, alphas=(), betas=()):
    """Return vectorised activation functions, alpha and beta used up in order."""
    alphas, betas, functions = list(alphas), list(betas), []
    for name in names:
        takes_alpha, takes_beta, function = ACTIVATIONS[name]
        default = DEFAULTS.get(name, (None, None))
        a = (alphas.pop(0) if alphas else default[0]) if takes_alpha else None
        b = (betas.pop(0) if betas else default[1]) if takes_beta else None
        functions.append(
            np.vectorize(lambda x, f=function, a=a, b=b: f(x, a, b), otypes=[np.float64])
        )
    return functions


def specified(operator, attributes, feeds):
    """Return Y, Y_h (and Y_c) by the equations of the specification, one sequence at a time."""
    f64 = {name: np.asarray(array, np.float64) for name, array in feeds.items()}
    direction = attributes.get("direction", "forward")
    D = 2 if direction == "bidirectional" else 1
    x = f64["X"].swapaxes(0, 1) if attributes.get("layout") else f64["X"]
    T, B, _ = x.shape
    H, gates = f64["R"].shape[2], GATES[operator]
    count = len(FUNCTIONS[operator])
    functions = bound(
        attributes.get("activations", FUNCTIONS[operator] * D),
        attributes.get("activation_alpha", ()),
        attributes.get("activation_beta", ()),
    )
    clip = attributes.get("clip", np.inf)
    lengths = feeds.get("sequence_lens", np.full(B, T))
    Y, last = np.zeros((T, D, B, H)), {name: np.zeros((D, B, H)) for name in "hc"}
    for d in range(D):
        f, *g = functions[d * count : (d + 1) * count]
        W = dict(zip(gates, np.split(f64["W"][d], len(gates))))
        R = dict(zip(gates, np.split(f64["R"][d], len(gates))))
        biases = np.split(f64["B"][d], 2 * len(gates)) if "B" in f64 else [0] * 2 * len(gates)
        Wb, Rb = dict(zip(gates, biases)), dict(zip(gates, biases[len(gates) :]))
        P = dict(zip("iof", np.split(f64["P"][d], 3) if "P" in f64 else [0, 0, 0]))
        for b in range(B):
            state = {}
            for name in "hc":
                initial = f64.get("initial_" + name)
                if initial is not None and attributes.get("layout"):
                    initial = initial.swapaxes(0, 1)
                state[name] = np.zeros(H) if initial is None else initial[d, b]
            h, c = state["h"], state["c"]
            steps = range(lengths[b])
            for t in reversed(steps) if direction == "reverse" or d == 1 else steps:
                wx = {k: W[k] @ x[t, b] + Wb[k] for k in gates}
                z = {k: wx[k] + R[k] @ h + Rb[k] for k in gates}

                def clipped(value):
                    return np.clip(value, -clip, clip)

                if operator == "RNN":
                    h = f(clipped(z["h"]))
                elif operator == "GRU":
                    update, reset = f(clipped(z["z"])), f(clipped(z["r"]))
                    if attributes.get("linear_before_reset"):
                        hidden = g[0](clipped(wx["h"] + reset * (R["h"] @ h + Rb["h"])))
                    else:
                        hidden = g[0](clipped(wx["h"] + R["h"] @ (reset * h) + Rb["h"]))
                    h = (1 - update) * hidden + update * h
                else:
                    i = f(clipped(z["i"] + P["i"] * c))
                    forget = f(clipped(z["f"] + P["f"] * c))
                    forget = 1 - i if attributes.get("input_forget") else forget
                    c = forget * c + i * g[0](clipped(z["c"]))
                    h = f(clipped(z["o"] + P["o"] * c)) * g[1](c)
                Y[t, d, b] = h
            last["h"][d, b], last["c"][d, b] = h, c
    states = [last[name] for name in ("hc" if operator == "LSTM" else "h")]
    if attributes.get("layout"):
        return [Y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states)]
    return [Y, *states]


INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]


def node_model(operator, attributes, feeds, opset=22, constants=("W", "R", "B", "P")):
    """Return a model of one node; `constants` are stored in it."""
    dtype = helper.np_dtype_to_tensor_dtype(feeds["X"].dtype)
    names = [name if name in feeds else "" for name in INPUTS]
    while not names[-1]:
        names.pop()
    outputs = ["Y", "Y_h", "Y_c"][: 3 if operator == "LSTM" else 2]
    node = helper.make_node(operator, names, outputs, name="here", **attributes)
    stored = [name for name in constants if name in feeds]
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in feeds.items()
            if name not in stored
        ],
        [helper.make_tensor_value_info(name, dtype, [None] * 3) for name in outputs],
        [onnx.numpy_helper.from_array(feeds[name], name) for name in stored],
    )
    graph.output[0].CopyFrom(helper.make_tensor_value_info("Y", dtype, [None] * 4))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model, {name: array for name, array in feeds.items() if name not in stored}


@st.composite
def nodes(draw):
    """Draw an operator, its attributes and its inputs; float64, where numbers are exact enough."""
    operator = draw(st.sampled_from(sorted(GATES)))
    attributes = {"direction": draw(st.sampled_from(["forward", "reverse", "bidirectional"]))}
    D = 2 if attributes["direction"] == "bidirectional" else 1
    count = len(FUNCTIONS[operator])
    if draw(st.booleans()):
        name = st.sampled_from(sorted(ACTIVATIONS))
        attributes["activations"] = draw(st.lists(name, min_size=D * count, max_size=D * count))
        for parameter in ("activation_alpha", "activation_beta"):
            if draw(st.booleans()):
                numbers = st.sampled_from([0.25, 0.5, 0.75])
                attributes[parameter] = draw(st.lists(numbers, min_size=1, max_size=3))
    flags = {"layout": True, "clip": True}
    flags |= {"input_forget": operator == "LSTM", "linear_before_reset": operator == "GRU"}
    for name, possible in flags.items():
        if possible and draw(st.booleans()):
            attributes[name] = 0.5 if name == "clip" else 1
    T, B, I, H = draw(st.tuples(*[st.integers(1, 4)] * 4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    G, first = len(GATES[operator]), attributes.get("layout")
    shapes = {
        "X": (B, T, I) if first else (T, B, I),
        "W": (D, G * H, I),
        "R": (D, G * H, H),
        "B": (D, 2 * G * H),
        "initial_h": (B, D, H) if first else (D, B, H),
        "initial_c": (B, D, H) if first else (D, B, H),
        "P": (D, 3 * H),
    }
    optional = ["B", "initial_h"] + (["initial_c", "P"] if operator == "LSTM" else [])
    present = {name for name in optional if draw(st.booleans())} | {"X", "W", "R"}
    feeds = {k: rng.uniform(-1, 1, shape) for k, shape in shapes.items() if k in present}
    if draw(st.booleans()):
        feeds["sequence_lens"] = rng.integers(0, T + 1, B, dtype=np.int32)
    return operator, attributes, feeds


@given(nodes(), st.booleans())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_option_is_as_specified(backend, case, constant):
    operator, attributes, feeds = case
    model, fed = node_model(operator, attributes, feeds, constants=("W", "R", "B", "P") * constant)
    for actual, expected in zip(
        fronnx.prepare(model).run(fed), specified(operator, attributes, feeds), strict=True
    ):
        assert_close(actual, expected, TOLERANCES["float64"], operator)


@given(nodes())
@settings(max_examples=60, deadline=None)
def test_options_are_as_in_onnx_runtime(case):
    onnxruntime = pytest.importorskip("onnxruntime")
    operator, attributes, feeds = case
    attributes.pop("layout", None)  # ONNX Runtime has layout 0 alone
    feeds = {name: a.astype(np.float32) for name, a in feeds.items() if name != "sequence_lens"}
    if attributes.get("activations"):  # and no defaults of alpha and beta for some functions
        attributes |= {"activation_alpha": [0.375] * 6, "activation_beta": [0.25] * 6}
    D, G = feeds["W"].shape[0], len(GATES[operator])
    feeds["X"] = np.random.default_rng(0).standard_normal((5, 3, feeds["W"].shape[2]), np.float32)
    for name in ("initial_h", "initial_c"):
        if name in feeds:
            feeds[name] = np.full((D, 3, feeds["R"].shape[2]), 0.5, np.float32)
    feeds["sequence_lens"] = np.array([5, 1, 3], np.int32)
    feeds.setdefault("B", np.zeros((D, 2 * G * feeds["R"].shape[2]), np.float32))
    attributes["hidden_size"] = feeds["R"].shape[2]
    model, fed = node_model(operator, attributes, feeds, opset=17)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    theirs = session.run(None, fed)
    # Unbounded functions may blow up, and rounding errors with them; that of ONNX Runtime's tanh is
    # absolute, and a jump turns it into any error.
    assume(all(np.abs(array).max() < 10 for array in theirs))
    assume("ThresholdedRelu" not in attributes.get("activations", ()))
    for actual, expected in zip(fronnx.prepare(model).run(fed), theirs):
        error, scale = np.abs(actual - expected).max(), max(1, np.abs(expected).max())
        assert error <= TOLERANCES["float32"] * scale, operator


def plain_feeds(dtype=np.float32, operator="LSTM"):
    rng = np.random.default_rng(1)
    G = len(GATES[operator])
    shapes = {"X": (4, 2, 3), "W": (1, G * 5, 3), "R": (1, G * 5, 5)}
    return {name: rng.uniform(-1, 1, shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("opset", [7, 13, 14, 21, 22])
@pytest.mark.parametrize("operator", sorted(GATES))
def test_every_opset_runs(operator, opset):
    feeds = plain_feeds(operator=operator)
    model, fed = node_model(operator, {"hidden_size": 5}, feeds, opset)
    for actual, expected in zip(fronnx.run_model(model, fed), specified(operator, {}, feeds)):
        assert_close(actual, expected, TOLERANCES["float32"])


@pytest.mark.parametrize(("dtype", "limit"), [("float16", 2e-3), ("float32", 1e-5)])
def test_results_have_the_type_of_the_inputs(dtype, limit):
    feeds = plain_feeds(dtype)
    model, fed = node_model("LSTM", {}, feeds)
    for actual, expected in zip(fronnx.run_model(model, fed), specified("LSTM", {}, feeds)):
        assert actual.dtype == dtype
        assert_close(actual, expected, limit)


def test_outputs_may_be_left_out():
    """An output without a name must not turn up as an input without one of a later node."""
    feeds = plain_feeds()
    infos = [helper.make_tensor_value_info(k, TensorProto.FLOAT, a.shape) for k, a in feeds.items()]
    first = helper.make_node("LSTM", ["X", "W", "R"], ["", "Y_h"])
    second = helper.make_node("LSTM", ["X", "W", "R", "", "", "Y_h"], ["", "", "Y_c"])
    output = helper.make_tensor_value_info("Y_c", TensorProto.FLOAT, [1, 2, 5])
    graph = helper.make_graph([first, second], "graph", infos, [output])
    (actual,) = fronnx.run_model(helper.make_model(graph), feeds)
    _, h, _ = specified("LSTM", {}, feeds)
    expected = specified("LSTM", {}, feeds | {"initial_h": h})[2]
    assert_close(actual, expected, TOLERANCES["float32"])


def test_weights_in_a_function_of_the_model():
    feeds = plain_feeds(operator="GRU")
    node = helper.make_node("GRU", ["X", "W", "R"], ["Y"])
    node.attribute.append(onnx.AttributeProto(name="clip", ref_attr_name="limit", type=1))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)]
    function = helper.make_function(
        "mine", "Layer", ["X", "W", "R"], ["Y"], [node], opsets[:1], ["limit"]
    )
    call = helper.make_node("Layer", ["X", "W", "R"], ["Y"], domain="mine", limit=0.25)
    infos = [helper.make_tensor_value_info(k, TensorProto.FLOAT, a.shape) for k, a in feeds.items()]
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [4, 1, 2, 5])
    graph = helper.make_graph([call], "graph", infos, [output])
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)
    (actual,) = fronnx.run_model(model, feeds)
    assert_close(actual, specified("GRU", {"clip": 0.25}, feeds)[0], TOLERANCES["float32"])


def test_default_of_an_input_can_be_replaced():
    feeds = plain_feeds()
    model, fed = node_model("LSTM", {}, feeds)
    shape = feeds["W"].shape
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, shape))
    prepared = fronnx.prepare(model)
    assert prepared.input_names == ["X"]
    other = feeds | {"W": 2 * feeds["W"]}
    assert_close(prepared.run([feeds["X"]])["Y"], specified("LSTM", {}, feeds)[0], 1e-5)
    actual = prepared.run(fed | {"W": other["W"]})["Y"]
    assert_close(actual, specified("LSTM", {}, other)[0], 1e-5)


def test_run_node():
    feeds = plain_feeds()
    node = helper.make_node("LSTM", ["X", "W", "R"], ["", "Y_h"])
    expected = specified("LSTM", {}, feeds)[1]
    for inputs in (feeds, list(feeds.values())):
        (actual,) = fronnx.run_node(node, inputs)
        assert_close(actual, expected, TOLERANCES["float32"])
    (actual,) = fronnx.run_node(node, feeds, opset_version=14)
    assert_close(actual, expected, TOLERANCES["float32"])


def test_model_of_torch(backend):
    with np.load(FIXTURES / "torch_tagger.npz") as stored:
        ids, scores = stored["ids"], stored["scores"]
    prepared = fronnx.prepare(onnx.load(FIXTURES / "torch_tagger.onnx"))
    assert_close(prepared.run([ids])["scores"], scores, TOLERANCES["float32"])


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_what_torch_exports(tmp_path, kind, exporter):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript" if exporter == "dynamo" else "onnx")

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 4)
            self.recurrent = getattr(torch.nn, kind)(4, 5, num_layers=2, bidirectional=True)
            self.output = torch.nn.Linear(10, 3)

        def forward(self, ids):
            return self.output(self.recurrent(self.embedding(ids))[0])

    model, ids, path = Tagger().eval(), torch.randint(11, (7, 3)), tmp_path / "model.onnx"
    names = {"input_names": ["ids"], "output_names": ["scores"]}
    torch.onnx.export(model, (ids,), path, dynamo=exporter == "dynamo", **names)
    for run in runtimes(path):
        expected = model(ids).detach().numpy()
        assert_close(run({"ids": ids.numpy()})["scores"], expected, TOLERANCES["float32"])


def test_devices():
    assert fronnx.supports_device("CPU")
    assert not fronnx.supports_device("CUDA:0")
    with pytest.raises(ValueError, match="device must be 'CPU', got 'CUDA'"):
        fronnx.prepare(node_model("RNN", {}, plain_feeds(operator="RNN"))[0], "CUDA")


# ------------------------------------------------------------------------------------- bad models


@pytest.mark.parametrize(
    ("operator", "attributes", "message"),
    [
        (
            "LSTM",
            {"activations": ["Tanh", "Swish", "Tanh"]},
            "activations .* 'Swish'",
        ),
        ("LSTM", {"activations": ["Tanh"] * 2}, "activations must be 3 names, got 2"),
        ("RNN", {"activations": ["Relu"] * 2}, "activations must be 1 names, got 2"),
        ("GRU", {"direction": "sideways"}, "direction must be one of"),
        ("GRU", {"layout": 2}, "layout must be 0 or 1, got 2"),
        ("LSTM", {"input_forget": 3}, "input_forget must be 0 or 1, got 3"),
        ("RNN", {"clip": -1.0}, "clip must be a positive number, got -1.0"),
        ("RNN", {"hidden_size": 4}, r"R must be \(1, 4, 4\), got \(1, 5, 5\)"),
        ("RNN", {"hidden_size": -4}, "hidden_size must be a positive integer"),
        ("LSTM", {"direction": "bidirectional"}, r"R must be \(2, any, hidden_size\), got"),
        ("LSTM", {"made_up": 1}, "made_up"),
        ("RNN", {"input_forget": 1}, "input_forget"),
    ],
)
def test_bad_attributes_are_named(operator, attributes, message):
    model, _ = node_model(operator, attributes, plain_feeds(operator=operator))
    with pytest.raises(ValueError, match=message):
        fronnx.prepare(model)
    assert not fronnx.is_compatible(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((4, 2, 2), np.float32)}, r"LSTM node here: X must be \(T, B, 3\)"),
        ({"W": np.zeros((1, 19, 3), np.float32)}, r"LSTM node here: W must be \(1, 20"),
        ({"B": np.zeros((1, 20), np.float32)}, r"LSTM node here: B must be \(1, 40\)"),
        ({"P": np.zeros((1, 20), np.float32)}, r"LSTM node here: P must be \(1, 15\)"),
        ({"initial_h": np.zeros((2, 5), np.float32)}, r"initial_h must be \(1, 2, 5\)"),
        ({"sequence_lens": np.array([2, 5], np.int32)}, "lengths must be in 0..4, got 5"),
        ({"sequence_lens": np.array([2], np.int32)}, r"lengths must be \(2,\), got \(1,\)"),
        ({"X": np.zeros((0, 2, 3), np.float32)}, "at least 1 step"),
    ],
)
@pytest.mark.parametrize("constants", [(), ("W", "R", "B", "P")])
def test_bad_inputs_are_named(change, message, constants):
    model, fed = node_model("LSTM", {}, plain_feeds() | change, constants=constants)
    with pytest.raises(ValueError, match=message):
        fronnx.run_model(model, fed)


def test_inputs_must_be_the_graphs():
    model, fed = node_model("LSTM", {}, plain_feeds())
    prepared = fronnx.prepare(model)
    with pytest.raises(ValueError, match=r"X must be \(4, 2, 3\), got \(4, 3, 3\)"):
        prepared.run({"X": np.zeros((4, 3, 3), np.float32)})
    with pytest.raises(TypeError, match="X must be castable to float32, got dtype complex64"):
        prepared.run([fed["X"] * 1j])
    with pytest.raises(ValueError, match=r"inputs must be 1 arrays \(X\), got 2"):
        prepared.run([fed["X"], fed["X"]])
    with pytest.raises(ValueError, match="missing: X, unknown: x"):
        prepared.run({"x": fed["X"]})
    with pytest.raises(
        TypeError, match="inputs must be a sequence or a mapping of arrays, got int"
    ):
        prepared.run(3)


def test_lengths_that_int32_has_not(tmp_path):
    fronnx.export(fr.GRU(2, 3, seed=0), tmp_path / "layer.onnx", lengths=True)
    prepared = fronnx.prepare(onnx.load(tmp_path / "layer.onnx"))
    with pytest.raises(ValueError, match=r"^lengths must be int32, got 1099511627777$"):
        prepared.run({"x": np.zeros((4, 1, 2)), "lengths": [2**40 + 1]})


def test_other_opsets_operators_and_domains_are_named():
    model, _ = node_model("GRU", {}, plain_feeds(operator="GRU"), opset=6)
    with pytest.raises(ValueError, match="opset must be 7 or newer, got 6"):
        fronnx.prepare(model)
    model, _ = node_model("GRU", {}, plain_feeds(operator="GRU"))
    model.graph.node[0].op_type = "QRNN"
    with pytest.raises(ValueError, match="QRNN"):
        fronnx.prepare(model)
    model.graph.node[0].domain = "elsewhere"
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    with pytest.raises(ValueError, match="QRNN"):
        fronnx.prepare(model)
    with pytest.raises(TypeError, match=r"onnx\.ModelProto, as of onnx\.load\(path\), got str"):
        fronnx.prepare("model.onnx")


def attempt(data, feeds):
    """Decode, prepare and run a model; return whether that went well, or was refused."""
    try:
        model = onnx.load_from_string(data)
    except DecodeError:
        return False
    try:
        outputs = fronnx.prepare(model).run(feeds)
    except (ValueError, TypeError, MemoryError):  # sizes are damaged too
        return False
    assert all(isinstance(array, np.ndarray) for array in outputs)
    return True


def tagger():
    with np.load(FIXTURES / "torch_tagger.npz") as stored:
        return (FIXTURES / "torch_tagger.onnx").read_bytes(), [stored["ids"]]


@pytest.mark.filterwarnings("ignore")  # of NumPy, about damaged numbers
def test_truncated_models_are_refused():
    data, feeds = tagger()
    assert attempt(data, feeds)
    # What stands after the graph is the model's version.
    assert not any(attempt(data[:kept], feeds) for kept in range(0, len(data) - 20, 37))


@pytest.mark.filterwarnings("ignore")
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=8))
@example([(561, 1)])  # an axis beyond C's int
@settings(max_examples=200, deadline=None)
def test_damaged_models_run_or_are_refused(damage):
    data, feeds = tagger()
    damaged = bytearray(data)
    for place, difference in damage:
        damaged[place % len(damaged)] ^= difference
    attempt(bytes(damaged), feeds)


# ----------------------------------------------------------------------------------------- export

LAYERS = {
    "rnn_tanh": fr.RNN,
    "rnn_relu": lambda *sizes, **options: fr.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": fr.LSTM,
    "lstm_projected": lambda *sizes, **options: fr.LSTM(*sizes, proj_size=2, **options),
    "gru": fr.GRU,
    "gru_reset_before": partial(fr.GRU, reset_after=False),
    "lstm_peephole": partial(fr.LSTM, peepholes=True),
    "lstm_coupled": partial(fr.LSTM, coupled=True),
    "lstm_coupled_projected": partial(fr.LSTM, coupled=True, peepholes=True, proj_size=2),
}


def runtimes(path):
    """Yield functions feeds -> outputs by name: ours, and ONNX Runtime where it is installed."""
    model = onnx.load(path)
    operators = {node.op_type for node in model.graph.node}
    if "Scan" not in operators or [int(n) for n in onnx.__version__.split(".")[:2]] >= [1, 22]:
        yield fronnx.prepare(model).run
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    yield lambda feeds: dict(zip(names, session.run(None, feeds)))


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
    """Return what a model reads, and the same as an exported graph takes it."""
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
        fr.layers.LastPooling(5, True),
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
