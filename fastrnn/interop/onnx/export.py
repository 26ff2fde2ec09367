"""Write layers and models of ours as ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from fastrnn._validation import check_bool
from fastrnn.interop.onnx.graph import Graph
from fastrnn.interop.onnx.operators import GRU, LSTM, RNN
from fastrnn.layers import Dense, Embedding
from fastrnn.layers.recurrent import Recurrent
from fastrnn.models import LanguageModel

if TYPE_CHECKING:
    import os

# Cell -> operator, activations of a direction, attributes.
CELLS = {
    "rnn_tanh": (RNN, ("Tanh",), {}),
    "rnn_relu": (RNN, ("Relu",), {}),
    "lstm": (LSTM, ("Sigmoid", "Tanh", "Tanh"), {}),
    "lstm_projected": (LSTM, ("Sigmoid", "Tanh", "Tanh"), {}),
    "lstm_peephole": (LSTM, ("Sigmoid", "Tanh", "Tanh"), {}),
    "lstm_peephole_projected": (LSTM, ("Sigmoid", "Tanh", "Tanh"), {}),
    "lstm_coupled": (LSTM, ("Sigmoid", "Tanh", "Tanh"), {"input_forget": 1}),
    "lstm_coupled_projected": (LSTM, ("Sigmoid", "Tanh", "Tanh"), {"input_forget": 1}),
    "gru": (GRU, ("Sigmoid", "Tanh"), {"linear_before_reset": 1}),
    "gru_reset_before": (GRU, ("Sigmoid", "Tanh"), {"linear_before_reset": 0}),
}
WEIGHTS = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peephole"}


def export(
    model: Any, path: str | os.PathLike[str], *, state: bool = False, lengths: bool = False
) -> None:
    """Write a layer or model as an ONNX file.

    Parameters
    ----------
    model : RNN, LSTM, GRU, Dense, Embedding or LanguageModel
        As it runs at inference: without dropout.
    path : path-like
    state : bool
        True: the graph also takes the initial state, inputs ``h0`` (and ``c0``), and returns the
        final one, outputs ``h`` (and ``c``), shaped as the layer's.
    lengths : bool
        True: the graph also takes ``lengths``, int32 (B,).

    Notes
    -----
    Inputs are ``x`` (T, B, I), or (B, T, I) where the layer is ``batch_first``, or ``ids``, int64
    (T, B); T and B are free. The output is ``output``, or ``logits`` of a language model.

    ONNX has no projection in its LSTM. A layer with ``proj_size`` becomes one whose hidden units
    are those before the projection and whose recurrent weights are ``weight_hh @ weight_hr``; an
    initial h is found for them by the pseudo-inverse of ``weight_hr``.

    Raises
    ------
    TypeError
        If the model is none of the above.
    ValueError
        If the model has no such input, or ``weight_hr`` is too close to singular to export the
        state of a projected layer.
    """
    check_bool("state", state)
    check_bool("lengths", lengths)
    recurrent = model.encoder.recurrent if isinstance(model, LanguageModel) else model
    if not isinstance(recurrent, Recurrent):
        for name, value in (("state", state), ("lengths", lengths)):
            if value:
                raise ValueError(f"{name} must be False for {type(model).__name__}, got True")
    graph = Graph()
    if isinstance(model, LanguageModel):
        _language_model(graph, model, state, lengths)
    elif isinstance(model, Recurrent):
        shape = ["B", "T"] if model.batch_first else ["T", "B"]
        x = graph.input("x", model.dtype, [*shape, model.input_size])
        output = _recurrent(graph, model, x, state, lengths)
        width = model.num_directions * model.output_size
        graph.output("output", output, model.dtype, [*shape, width])
    elif isinstance(model, Dense):
        x = graph.input("x", model.dtype, ["T", "B", model.in_features])
        shape = ["T", "B", model.out_features]
        graph.output("output", _dense(graph, model, x), model.dtype, shape)
    elif isinstance(model, Embedding):
        ids = graph.input("ids", np.int64, ["T", "B"])
        table = graph.constant("embedding.weight", model.parameters["weight"])
        vectors = graph.node("Gather", [table, ids])
        graph.output("output", vectors, model.dtype, ["T", "B", model.embedding_dim])
    else:
        raise TypeError(
            "model must be an RNN, LSTM, GRU, Dense, Embedding or LanguageModel, "
            f"got {type(model).__name__}"
        )
    onnx.save(graph.model(type(model).__name__), path)


def _language_model(graph: Graph, model: LanguageModel, state: bool, lengths: bool) -> None:
    dtype, V = model.encoder.recurrent.dtype, model.config["vocabulary_size"]
    ids = graph.input("ids", np.int64, ["T", "B"])
    if model.encoder.embedding is not None:
        table = graph.constant("embedding.weight", model.encoder.embedding.parameters["weight"])
        x = graph.node("Gather", [table, ids])
    else:
        depth = graph.constant("vocabulary_size", np.array(V))
        values = graph.constant("off_and_on", np.array([0, 1], np.float32))
        x = graph.node("OneHot", [ids, depth, values])  # runtimes have it for float32 alone
        x = graph.node("Cast", [x], to=helper.np_dtype_to_tensor_dtype(dtype))
    hidden = _recurrent(graph, model.encoder.recurrent, x, state, lengths)
    if model.config["tie_weights"]:
        weight = graph.node("Transpose", ["embedding.weight"], perm=[1, 0])
        logits = graph.node("MatMul", [hidden, weight])
        bias = graph.constant("output.bias", model.output.parameters["bias"])
        logits = graph.node("Add", [logits, bias])
    else:
        logits = _dense(graph, model.output, hidden)
    graph.output("logits", logits, dtype, ["T", "B", V])


def _dense(graph: Graph, layer: Dense, x: str) -> str:
    weight = graph.constant("output.weight", layer.parameters["weight"].T)
    y = graph.node("MatMul", [x, weight])
    if layer.bias:
        y = graph.node("Add", [y, graph.constant("output.bias", layer.parameters["bias"])])
    return y


def _recurrent(graph: Graph, layer: Recurrent, x: str, state: bool, lengths: bool) -> str:
    """Append a stack; return its output, laid out as `x`."""
    operator, activation, options = _operator(layer)
    L, D, names = layer.num_layers, layer.num_directions, layer.cell.states
    sequence_lens = graph.input("lengths", np.int32, ["B"]) if lengths else ""
    initial: list[list[str]] = []
    if state:
        parts = graph.constant("layers", np.full(L, D))
        for name, width in zip(names, layer.state_widths):
            whole = graph.input(name + "0", layer.dtype, [layer.depth, "B", width])
            initial.append(graph.nodes("Split", [whole, parts], L, axis=0))
    # Runtimes have the operators for layout 0 alone.
    hidden = graph.node("Transpose", [x], perm=[1, 0, 2]) if layer.batch_first else x
    merged = graph.constant("merged", np.array([0, 0, D * layer.output_size]))
    final: list[list[str]] = [[] for _ in names]
    for k in range(L):
        weights = [weights for _, weights, _ in layer.passes()[k * D : (k + 1) * D]]
        if options.get("input_forget"):
            weights = [_with_forget_gate(w, layer.hidden_size) for w in weights]
        arrays = _arrays(weights, operator.order, layer.dtype)
        stored = {name: graph.constant(f"{name}_l{k}", array) for name, array in arrays.items()}
        first = [values[k] for values in initial]
        if layer.proj_size:
            project = np.stack([w["weight_hr"].T for w in weights])
            if state:
                inverse = graph.constant(f"inverse_l{k}", _inverse(project))
                first[0] = graph.node("MatMul", [first[0], inverse])
            project = graph.constant(f"weight_hr_l{k}", project)
        Y, *last = graph.nodes(
            operator.__name__,
            _inputs(hidden, stored, sequence_lens, first),
            1 + len(names),
            hidden_size=layer.hidden_size,
            direction=_direction(layer),
            activations=[*activation] * D,
            **options,
        )
        if layer.proj_size:
            Y = graph.node("MatMul", [Y, project])
            last[0] = graph.node("MatMul", [last[0], project])
        for values, value in zip(final, last):
            values.append(value)
        hidden = graph.node("Transpose", [Y], perm=[0, 2, 1, 3])  # to (T, B, D, H)
        hidden = graph.node("Reshape", [hidden, merged])
    if state:
        for name, width, values in zip(names, layer.state_widths, final):
            whole = graph.node("Concat", values, axis=0)
            if lengths:
                # Runtimes differ in the state of a sequence without steps.
                zero = graph.constant(f"{name}_zero", np.array(0, np.int32))
                column = graph.constant(f"{name}_column", np.array([-1, 1]))
                empty = graph.node("Equal", [graph.node("Reshape", [sequence_lens, column]), zero])
                whole = graph.node("Where", [empty, name + "0", whole])
            graph.output(name, whole, layer.dtype, [layer.depth, "B", width])
    return graph.node("Transpose", [hidden], perm=[1, 0, 2]) if layer.batch_first else hidden


def _inputs(hidden: str, stored: dict[str, str], sequence_lens: str, first: list[str]) -> list[str]:
    """Return an operator's inputs in their order; what is left out is empty, or not there."""
    inputs = [hidden, stored["W"], stored["R"], stored.get("B", ""), sequence_lens, *first]
    if "P" in stored:
        inputs += [""] * (7 - len(inputs)) + [stored["P"]]
    return inputs


def _direction(layer: Recurrent) -> str:
    if layer.bidirectional:
        return "bidirectional"
    return "reverse" if layer.reverse else "forward"


def _operator(layer: Recurrent) -> tuple[type, tuple[str, ...], dict[str, int]]:
    """Return the operator of a layer, and its activations and attributes."""
    if layer.cell.name not in CELLS:
        raise ValueError(f"model must have a cell that ONNX knows, got {layer.cell.name!r}")
    for name, is_set in (
        ("zoneout", any(layer.zoneout)),
        ("cell_clip", np.isfinite(layer.cell_clip)),
        ("learned_state", layer.learned_state),
    ):
        if is_set:
            raise ValueError(f"{name} must be off in a model for ONNX, which has no place for it")
    unknown = set(layer.passes()[0].weights) - WEIGHTS
    if unknown:
        raise ValueError(f"model has parameters that ONNX has no place for: {sorted(unknown)}")
    return CELLS[layer.cell.name]


def _arrays(
    weights: list[dict[str, np.ndarray]], order: tuple[int, ...], dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Return W, R and, where there are biases and peepholes, B and P, of one layer's directions."""
    places = np.argsort(order)

    def ordered(array: np.ndarray) -> np.ndarray:
        return array.reshape(len(order), -1, *array.shape[1:])[places].reshape(array.shape)

    def recurrent(w: dict[str, np.ndarray]) -> np.ndarray:
        if "weight_hr" not in w:
            return w["weight_hh"]
        product = w["weight_hh"].astype(np.float64) @ w["weight_hr"].astype(np.float64)
        return product.astype(dtype)

    arrays = {
        "W": np.stack([ordered(w["weight_ih"]) for w in weights]),
        "R": np.stack([ordered(recurrent(w)) for w in weights]),
    }
    if "bias_ih" in weights[0]:
        biases = [(ordered(w["bias_ih"]), ordered(w["bias_hh"])) for w in weights]
        arrays["B"] = np.stack([np.concatenate(pair) for pair in biases])
    if "peephole" in weights[0]:
        parts = [np.split(w["peephole"], 3) for w in weights]
        arrays["P"] = np.stack([np.concatenate((p_i, p_o, p_f)) for p_i, p_f, p_o in parts])
    return arrays


def _with_forget_gate(weights: dict[str, np.ndarray], H: int) -> dict[str, np.ndarray]:
    """Return a coupled cell's weights with the forget gate's, zeros, in second place."""
    filled = dict(weights)
    for name, array in weights.items():
        if name != "weight_hr":
            zeros = np.zeros((H, *array.shape[1:]), array.dtype)
            filled[name] = np.concatenate((array[:H], zeros, array[H:]))
    return filled


def _inverse(project: np.ndarray) -> np.ndarray:
    """Return what turns h (D, B, P) into hidden units that `project` (D, H, P) maps to h."""
    if (np.linalg.matrix_rank(project) < project.shape[2]).any():
        raise ValueError("state must be False: weight_hr has not full rank")
    return np.linalg.pinv(project.astype(np.float64)).astype(project.dtype)
