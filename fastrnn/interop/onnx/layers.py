"""Layers of ours as nodes of an ONNX graph, and the states and lengths that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from fastrnn.interop.onnx.operators import GRU, LSTM, RNN
from fastrnn.interop.onnx.scan import scan
from fastrnn.layers import AdditiveAttention, AttentionPooling, GeneralAttention, LastPooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastrnn.interop.onnx.graph import Graph
    from fastrnn.layers import Attention, Dense, Embedding
    from fastrnn.layers.pooling import Pooling
    from fastrnn.layers.recurrent import Recurrent

LSTM_FUNCTIONS = ("Sigmoid", "Tanh", "Tanh")
# Cell -> operator, activations of a direction, attributes.
CELLS = {
    "rnn_tanh": (RNN, ("Tanh",), {}),
    "rnn_relu": (RNN, ("Relu",), {}),
    "lstm": (LSTM, LSTM_FUNCTIONS, {}),
    "lstm_peephole": (LSTM, LSTM_FUNCTIONS, {}),
    "lstm_coupled": (LSTM, LSTM_FUNCTIONS, {"input_forget": 1}),
    "gru": (GRU, ("Sigmoid", "Tanh"), {"linear_before_reset": 1}),
    "gru_reset_before": (GRU, ("Sigmoid", "Tanh"), {"linear_before_reset": 0}),
}


def dense(graph: Graph, name: str, layer: Dense, x: str) -> str:
    """Append an affine layer; return its output. Its weights are stored under `name`."""
    weight = graph.constant(f"{name}.weight", layer.parameters["weight"].T)
    y = graph.node("MatMul", [x, weight])
    if layer.bias:
        y = graph.node("Add", [y, graph.constant(f"{name}.bias", layer.parameters["bias"])])
    return y


def embedding(graph: Graph, name: str, layer: Embedding, ids: str) -> str:
    """Append an embedding; return its vectors."""
    table = graph.constant(f"{name}.weight", layer.parameters["weight"])
    return graph.node("Gather", [table, ids])


def pooling(graph: Graph, layer: Pooling, x: str, lengths: str = "") -> str:
    """Append a pooling of x (T, B, width); return what it pools, (B, width)."""
    if isinstance(layer, LastPooling):
        return _last(graph, layer, x, lengths)
    weights = None
    if isinstance(layer, AttentionPooling):
        hidden = graph.node("Tanh", [dense(graph, "pooling.hidden", layer.hidden, x)])
        weights = dense(graph, "pooling.score", layer.score, hidden)  # (T, B, 1)
    if lengths:
        valid = steps_before(graph, x, lengths)
        # What lies beyond the ends may be NaN.
        x = graph.node("Where", [valid, x, graph.array(np.zeros((), layer.dtype))])
        if weights is not None:
            lowest = graph.array(np.array(np.finfo(layer.dtype).min))
            weights = graph.node("Where", [valid, weights, lowest])
    if weights is not None:
        x = graph.node("Mul", [x, graph.node("Softmax", [weights], axis=0)])
        return graph.node("ReduceSum", [x, graph.array([0])], keepdims=0)
    if not lengths:
        return graph.node("ReduceMean", [x], axes=[0], keepdims=0)
    counts = graph.node("Cast", [lengths], to=helper.np_dtype_to_tensor_dtype(layer.dtype))
    counts = graph.node("Reshape", [counts, graph.array([-1, 1])])
    return graph.node("Div", [graph.node("ReduceSum", [x, graph.array([0])], keepdims=0), counts])


def _last(graph: Graph, layer: LastPooling, x: str, lengths: str) -> str:
    if lengths:
        zero, one = (graph.array(np.int64(k)) for k in (0, 1))
        B = graph.node("Gather", [graph.node("Shape", [x]), one])
        rows = graph.node("Range", [zero, B, one])
        ends = graph.node("Sub", [graph.node("Cast", [lengths], to=TensorProto.INT64), one])
        pairs = [graph.node("Unsqueeze", [part, graph.array([1])]) for part in (ends, rows)]
        last = graph.node("GatherND", [x, graph.node("Concat", pairs, axis=1)])
    else:
        last = graph.node("Gather", [x, graph.array(np.int64(-1))])
    if not layer.bidirectional:
        return last
    first = graph.node("Gather", [x, graph.array(np.int64(0))])
    widths = graph.array([layer.size // 2, layer.size - layer.size // 2])
    forward, _ = graph.nodes("Split", [last, widths], 2, axis=1)
    _, backward = graph.nodes("Split", [first, widths], 2, axis=1)
    return graph.node("Concat", [forward, backward], axis=1)


def attention(
    graph: Graph, layer: Attention, queries: str, memory: str, lengths: str = ""
) -> tuple[str, str]:
    """Append attention of queries (S, B, width) to a memory (T, B, width).

    Returns
    -------
    context, weights : str
        (S, B, width) and (S, B, T).
    """
    if lengths:
        valid = steps_before(graph, memory, lengths)
        zero, lowest = (graph.array(layer.dtype.type(k)) for k in (0, np.finfo(layer.dtype).min))
        memory = graph.node("Where", [valid, memory, zero])  # zero times NaN would be NaN
    queries, memory = (graph.node("Transpose", [x], perm=[1, 0, 2]) for x in (queries, memory))
    if isinstance(layer, AdditiveAttention):
        queries = dense(graph, "attention.query", layer.query, queries)
        keys = dense(graph, "attention.memory", layer.memory, memory)
        pairs = [(queries, 2), (keys, 1)]
        pairs = [graph.node("Unsqueeze", [x, graph.array([axis])]) for x, axis in pairs]
        hidden = graph.node("Tanh", [graph.node("Add", pairs)])  # (B, S, T, A)
        scores = dense(graph, "attention.score", layer.score, hidden)
        scores = graph.node("Squeeze", [scores, graph.array([3])])
    else:
        if isinstance(layer, GeneralAttention):
            queries = dense(graph, "attention.query", layer.query, queries)
        queries = graph.node("Mul", [queries, graph.array(layer.dtype.type(layer.scale))])
        keys = graph.node("Transpose", [memory], perm=[0, 2, 1])
        scores = graph.node("MatMul", [queries, keys])
    if lengths:
        valid = graph.node("Transpose", [valid], perm=[1, 2, 0])  # (B, 1, T)
        scores = graph.node("Where", [valid, scores, lowest])
    weights = graph.node("Softmax", [scores], axis=2)
    context = graph.node("MatMul", [weights, memory])
    context, weights = (graph.node("Transpose", [x], perm=[1, 0, 2]) for x in (context, weights))
    return context, weights


def recurrent(
    graph: Graph, layer: Recurrent, x: str, lengths: str = "", initial: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """Append a stack; return its output, laid out as `x`, and its final states.

    Parameters
    ----------
    graph : Graph
    layer : RNN, LSTM or GRU
    x : str
        Its input.
    lengths : str
        "" for none.
    initial : sequence of str
        Its initial states, (num_layers * num_directions, B, width). Empty: zero, or the learned.
    """
    L, D = layer.num_layers, layer.num_directions
    # Runtimes have the operators for layout 0 alone.
    hidden = graph.node("Transpose", [x], perm=[1, 0, 2]) if layer.batch_first else x
    by_operator = _has_operator(layer, bool(initial))
    if not initial and (layer.learned_state or not by_operator):
        initial = _expanded(graph, layer, hidden)
    firsts = [graph.nodes("Split", [s, graph.array([D] * L)], L, axis=0) for s in initial]
    finals: list[list[str]] = [[] for _ in layer.cell.states]
    valid = steps_before(graph, hidden, lengths) if lengths and not by_operator else ""
    for k in range(L):
        first = [values[k] for values in firsts]
        if by_operator:
            hidden, last = _operator(graph, layer, k, hidden, lengths, first)
        else:
            hidden, last = scan(graph, layer, k, hidden, valid, first)
        for values, value in zip(finals, last):
            values.append(value)
    states = [graph.node("Concat", values, axis=0) for values in finals]
    if lengths and initial and by_operator:
        # Runtimes differ in the state of a sequence without steps.
        column = graph.node("Reshape", [lengths, graph.array([-1, 1])])
        empty = graph.node("Equal", [column, graph.array(np.int32(0))])
        states = [graph.node("Where", [empty, *pair]) for pair in zip(initial, states)]
    if layer.batch_first:
        hidden = graph.node("Transpose", [hidden], perm=[1, 0, 2])
    return hidden, states


def stack(graph: Graph, layer: Recurrent, x: str, state: bool, sizes: str) -> str:
    """Append a stack with a state of its own; return its output."""
    leading = [layer.depth, "B"]
    initial = initial_inputs(graph, layer, leading) if state else []
    output, final = recurrent(graph, layer, x, sizes, initial)
    if state:
        final_outputs(graph, layer, leading, final)
    return output


def initial_inputs(graph: Graph, layer: Recurrent, leading: list[int | str]) -> list[str]:
    """Declare the inputs of an initial state."""
    return [
        graph.input(name + "0", layer.dtype, [*leading, width])
        for name, width in zip(layer.cell.states, layer.state_widths)
    ]


def final_outputs(
    graph: Graph, layer: Recurrent, leading: list[int | str], values: Sequence[str]
) -> None:
    """Declare the outputs of a final state, which come last, as in PyTorch's exports."""
    for name, width, value in zip(layer.cell.states, layer.state_widths, values):
        graph.output(name, value, layer.dtype, [*leading, width], last=True)


def lengths_input(graph: Graph, wanted: bool) -> str:
    """Declare the input of lengths; return its name, "" where there is none."""
    return graph.input("lengths", np.int32, ["B"]) if wanted else ""


def _has_operator(layer: Recurrent, with_state: bool) -> bool:
    """Return whether runtimes have an operator that does what the layer does at inference."""
    if layer.cell.name.removesuffix("_projected") not in CELLS or layer.extras() is not None:
        return False
    if layer.dtype != np.float32:  # ONNX has it, ONNX Runtime has not
        return False
    if layer.proj_size and with_state:
        projections = [weights["weight_hr"] for _, weights, _ in layer.passes()]
        return all(np.linalg.matrix_rank(p) == layer.proj_size for p in projections)
    return True


def _operator(
    graph: Graph, layer: Recurrent, k: int, x: str, lengths: str, first: list[str]
) -> tuple[str, list[str]]:
    """Append layer `k` of a stack as an operator; see `scan`. `first` may be empty, for zero."""
    operator, activations, attributes = CELLS[layer.cell.name.removesuffix("_projected")]
    D = layer.num_directions
    weights = [weights for _, weights, _ in layer.passes()[k * D : (k + 1) * D]]
    arrays = _arrays(weights, operator.order, "input_forget" in attributes, layer.dtype)
    stored = {name: graph.constant(f"{name}_l{k}", array) for name, array in arrays.items()}
    if layer.proj_size:
        project = np.stack([w["weight_hr"].T for w in weights])
        if first:
            first = [graph.node("MatMul", [first[0], graph.array(_inverse(project))]), first[1]]
        project = graph.constant(f"weight_hr_l{k}", project)
    inputs = [x, stored["W"], stored["R"], stored.get("B", ""), lengths]
    inputs += [*(first or ["", ""]), stored["P"]] if "P" in stored else first
    Y, *last = graph.nodes(
        operator.__name__,
        inputs,
        1 + len(layer.cell.states),
        hidden_size=layer.hidden_size,
        direction="bidirectional" if D == 2 else "reverse" if layer.reverse else "forward",
        activations=[*activations] * D,
        **attributes,
    )
    if layer.proj_size:
        Y = graph.node("MatMul", [Y, project])
        last[0] = graph.node("MatMul", [last[0], project])
    hidden = graph.node("Transpose", [Y], perm=[0, 2, 1, 3])  # to (T, B, D, H)
    hidden = graph.node("Reshape", [hidden, graph.array([0, 0, D * layer.output_size])])
    return hidden, last


def _expanded(graph: Graph, layer: Recurrent, x: str) -> list[str]:
    """Return the initial states, zero or learned, for the sequences of x (T, B, I)."""
    B = graph.node("Gather", [graph.node("Shape", [x]), graph.array([1])])
    states = []
    for state in layer.initial_state(1):
        depth, _, width = state.shape
        ends = [graph.array([depth]), B, graph.array([width])]
        states.append(
            graph.node("Expand", [graph.array(state), graph.node("Concat", ends, axis=0)])
        )
    return states


def steps_before(graph: Graph, x: str, lengths: str) -> str:
    """Return which steps of x (T, B, ...) stand before the ends, bool (T, B, 1)."""
    zero, one = (graph.array(np.int64(k)) for k in (0, 1))
    T = graph.node("Gather", [graph.node("Shape", [x]), zero])
    steps = graph.node("Range", [zero, T, one])
    steps = graph.node("Reshape", [steps, graph.array([-1, 1, 1])])
    ends = graph.node("Cast", [lengths], to=TensorProto.INT64)
    ends = graph.node("Reshape", [ends, graph.array([1, -1, 1])])
    return graph.node("Less", [steps, ends])


def _arrays(
    weights: list[dict[str, np.ndarray]], order: tuple[int, ...], coupled: bool, dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Return W, R and, where the layer has them, B and P of one layer's directions."""
    places = np.argsort(order)

    def ordered(array: np.ndarray) -> np.ndarray:
        blocks = array.reshape(len(order) - coupled, -1, *array.shape[1:])
        if coupled:  # the operator has a forget gate, which it does not use
            blocks = np.insert(blocks, 1, 0, axis=0)
        return blocks[places].reshape(-1, *array.shape[1:])

    def recurrent(w: dict[str, np.ndarray]) -> np.ndarray:
        if "weight_hr" not in w:
            return w["weight_hh"]
        product = w["weight_hh"].astype(np.float64) @ w["weight_hr"].astype(np.float64)
        return product.astype(dtype)

    def peepholes(w: dict[str, np.ndarray]) -> np.ndarray:
        p_i, *p_f, p_o = np.split(w["peephole"], 2 if coupled else 3)
        return np.concatenate([p_i, p_o, *(p_f or [np.zeros_like(p_i)])])

    arrays = {
        "W": np.stack([ordered(w["weight_ih"]) for w in weights]),
        "R": np.stack([ordered(recurrent(w)) for w in weights]),
    }
    if "bias_ih" in weights[0]:
        biases = [(ordered(w["bias_ih"]), ordered(w["bias_hh"])) for w in weights]
        arrays["B"] = np.stack([np.concatenate(pair) for pair in biases])
    if "peephole" in weights[0]:
        arrays["P"] = np.stack([peepholes(w) for w in weights])
    return arrays


def _inverse(project: np.ndarray) -> np.ndarray:
    """Return what turns h (D, B, P) into hidden units that `project` (D, H, P) maps to h."""
    return np.linalg.pinv(project.astype(np.float64)).astype(project.dtype)
