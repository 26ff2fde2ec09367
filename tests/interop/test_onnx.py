"""Running ONNX: every option of the three operators, models of others, and bad models."""

import math
from pathlib import Path

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
from onnx_runtimes import runtimes

from fastrnn.interop import onnx as fronnx

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
    assert not fronnx.supports_device(None)
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
        ({"sequence_lens": np.array([2, 5], np.int32)}, "sequence_lens must be in 0..4, got 5"),
        ({"sequence_lens": np.array([2], np.int32)}, r"sequence_lens must be \(2,\), got \(1,\)"),
        ({"X": np.zeros((0, 2, 3), np.float32)}, "X must have at least 1 step"),
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


def test_what_other_writers_write():
    """Axes of size -1 are free, and "ai.onnx" is a name of the standard domain."""
    model, fed = node_model("GRU", {}, plain_feeds(operator="GRU"), opset=17)
    expected = fronnx.run_model(model, fed)
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = -1
    model.opset_import[0].domain = "ai.onnx"
    before = model.SerializeToString()
    for actual, wanted in zip(fronnx.run_model(model, fed), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    assert model.SerializeToString() == before


def test_a_loop_without_a_condition_runs_to_its_count(tmp_path):
    declare = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Add", ["value", "one"], ["next"]),
        ],
        "body",
        [
            declare("turn", TensorProto.INT64, []),
            declare("go_on", TensorProto.BOOL, []),
            declare("value", TensorProto.FLOAT, [1]),
        ],
        [declare("still", TensorProto.BOOL, []), declare("next", TensorProto.FLOAT, [1])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "", "begin"], ["end"], body=body)],
        "loop",
        [declare("turns", TensorProto.INT64, []), declare("begin", TensorProto.FLOAT, [1])],
        [declare("end", TensorProto.FLOAT, [1])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "loop.onnx")
    for run in runtimes(tmp_path / "loop.onnx"):
        outputs = run({"turns": np.array(3), "begin": np.array([2], np.float32)})
        assert outputs["end"] == [5]


def test_arrays_that_a_node_cannot_take_are_refused():
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    free = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, None]) for n in "abc"]
    graph = helper.make_graph([node], "product", free[:2], free[2:])
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    a = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="model does not run on these inputs"):
        fronnx.run_model(model, [a, a])
    with pytest.raises(ValueError, match="node does not run on these inputs"):
        fronnx.run_node(node, [a, a])
    with pytest.raises(ValueError, match="inputs must be a, b, got a"):
        fronnx.run_node(node, {"a": a})
    with pytest.raises(TypeError, match="run_node has no option opset"):
        fronnx.run_node(node, [a, a.T], opset=13)


def test_lengths_that_int32_has_not(tmp_path):
    fronnx.export(fr.GRU(2, 3, seed=0), tmp_path / "layer.onnx", lengths=True)
    prepared = fronnx.prepare(onnx.load(tmp_path / "layer.onnx"))
    with pytest.raises(ValueError, match=r"^lengths must be int32, got 1099511627777$"):
        prepared.run({"x": np.zeros((4, 1, 2)), "lengths": [2**40 + 1]})


def test_element_types_that_are_none_are_refused():
    model, _ = node_model("LSTM", {}, plain_feeds())
    model.graph.input[0].type.tensor_type.elem_type = 91
    with pytest.raises(ValueError, match=r"^X must have an element type of ONNX, got 91$"):
        fronnx.prepare(model)


def elsewhere(name):
    """Return a tensor whose data are in a file."""
    location = onnx.StringStringEntryProto(key="location", value="data.bin")
    return TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL,
        external_data=[location],
    )  # fmt: skip


@pytest.mark.parametrize("place", ["initializer", "attribute", "branch", "function", "sparse"])
def test_data_in_other_files_are_refused(tmp_path, monkeypatch, place):
    """Else those of a stranger's model would be read from wherever the process runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.bin").write_bytes(np.ones(3, np.float32).tobytes())
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    constant = helper.make_node("Constant", [], ["y"], value=elsewhere("w"))
    copy = helper.make_node("Identity", ["w"], ["y"])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    node, initializers, sparse, functions = constant, [], [], []
    if place == "initializer":
        node, initializers = copy, [elsewhere("w")]
    elif place == "branch":
        branch = helper.make_graph([copy], "branch", [], [info], [elsewhere("w")])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        initializers = [onnx.numpy_helper.from_array(np.array(True), "c")]
    elif place == "function":
        node = helper.make_node("Constants", [], ["y"], domain="mine")
        functions = [helper.make_function("mine", "Constants", [], ["y"], [constant], opsets[:1])]
    elif place == "sparse":
        places = onnx.numpy_helper.from_array(np.arange(3))
        node, sparse = copy, [helper.make_sparse_tensor(elsewhere("w"), places, [3])]
    graph = helper.make_graph([node], "graph", [], [info], initializers, sparse_initializer=sparse)
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
    with pytest.raises(ValueError, match=r"^tensor 'w' must be in the model, .* file 'data\.bin'"):
        fronnx.prepare(model)
    if place == "attribute":
        with pytest.raises(ValueError, match=r"^tensor 'w' must be in the model"):
            fronnx.run_node(node, [])


def test_data_in_other_files_may_be_loaded_before(tmp_path):
    model, feeds = node_model("LSTM", {}, plain_feeds(), constants=("W", "R"))
    expected = fronnx.run_model(model, feeds)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    actual = fronnx.run_model(onnx.load(tmp_path / "m.onnx"), feeds)
    np.testing.assert_array_equal(actual[0], expected[0])


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
