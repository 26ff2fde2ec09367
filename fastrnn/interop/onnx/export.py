"""Write layers and models of ours as ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from fastrnn._validation import check_bool
from fastrnn.interop.onnx.graph import Graph
from fastrnn.interop.onnx.layers import dense, embedding, pooling, recurrent
from fastrnn.layers import Dense, Dropout, Embedding
from fastrnn.layers.cells import Cell
from fastrnn.layers.pooling import Pooling
from fastrnn.layers.recurrent import Recurrent
from fastrnn.models import Encoder, FeedForward, Forecaster, LanguageModel, SequenceTagger
from fastrnn.models.classifier import PooledModel

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


def export(
    model: Any, path: str | os.PathLike[str], *, state: bool = False, lengths: bool = False
) -> None:
    """Write a layer or model as an ONNX file.

    Parameters
    ----------
    model : a layer, Encoder, LanguageModel, SequenceTagger, SequenceClassifier, SequenceRegressor,
            Forecaster or FeedForward
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
    (T, B); T and B are free. The output is ``output``, or ``logits`` of a language model; of a
    forecaster what ``predict`` returns. A cell takes ``x`` (B, I) and always its state ``h0`` (and
    ``c0``), (B, H), and returns the next.

    ONNX has no projection in its LSTM. A layer with ``proj_size`` becomes one whose hidden units
    are those before the projection and whose recurrent weights are ``weight_hh @ weight_hr``; an
    initial h is found for them by the pseudo-inverse of ``weight_hr``.

    Raises
    ------
    TypeError
        If the model is none of the above.
    ValueError
        If the model has no such input, an option that ONNX does not have (``layer_norm``,
        ``cell_clip``, ``zoneout``), or ``weight_hr`` is too close to singular to export the state
        of a projected layer.
    """
    check_bool("state", state)
    check_bool("lengths", lengths)
    write = next((write for kind, write in WRITERS.items() if isinstance(model, kind)), None)
    if write is None:
        raise TypeError(f"model must be a layer or {MODELS}, got {type(model).__name__}")
    for name, value in (("state", state), ("lengths", lengths)):
        if value and isinstance(model, WITHOUT[name]):
            raise ValueError(f"{name} must be False for {type(model).__name__}, got True")
    graph = Graph()
    write(graph, model, state, lengths)
    onnx.save(graph.model(type(model).__name__), path)


def _layer(graph: Graph, layer: Recurrent, state: bool, lengths: bool) -> None:
    shape = ["B", "T"] if layer.batch_first else ["T", "B"]
    x = graph.input("x", layer.dtype, [*shape, layer.input_size])
    output = _stack(graph, layer, x, state, lengths)
    width = layer.num_directions * layer.output_size
    graph.output("output", output, layer.dtype, [*shape, width])


def _cell(graph: Graph, cell: Cell, state: bool, lengths: bool) -> None:
    layer = cell._layer
    x = graph.input("x", cell.dtype, ["B", cell.input_size])
    initial = _initial(graph, layer, ["B"])
    first = graph.array([0])
    x, *initial = (graph.node("Unsqueeze", [value, first]) for value in (x, *initial))
    _, final = recurrent(graph, layer, x, initial=initial)
    final = [graph.node("Squeeze", [value, first]) for value in final]
    _final(graph, layer, ["B"], final)


def _stack(graph: Graph, layer: Recurrent, x: str, state: bool, lengths: bool) -> str:
    """Append a stack with inputs and outputs of its own; return its output."""
    sizes = _lengths(graph, lengths)
    leading = [layer.depth, "B"]
    initial = _initial(graph, layer, leading) if state else []
    output, final = recurrent(graph, layer, x, sizes, initial)
    if state:
        _final(graph, layer, leading, final)
    return output


def _initial(graph: Graph, layer: Recurrent, leading: list[int | str]) -> list[str]:
    """Declare the inputs of an initial state."""
    return [
        graph.input(name + "0", layer.dtype, [*leading, width])
        for name, width in zip(layer.cell.states, layer.state_widths)
    ]


def _final(graph: Graph, layer: Recurrent, leading: list[int | str], values: Sequence[str]) -> None:
    """Declare the outputs of a final state."""
    for name, width, value in zip(layer.cell.states, layer.state_widths, values):
        graph.output(name, value, layer.dtype, [*leading, width])


def _lengths(graph: Graph, wanted: bool) -> str:
    """Declare the input of lengths; return its name, "" where there is none."""
    return graph.input("lengths", np.int32, ["B"]) if wanted else ""


def _dense(graph: Graph, layer: Dense, state: bool, lengths: bool) -> None:
    x = graph.input("x", layer.dtype, ["T", "B", layer.in_features])
    y = dense(graph, "output", layer, x)
    graph.output("output", y, layer.dtype, ["T", "B", layer.out_features])


def _embedding(graph: Graph, layer: Embedding, state: bool, lengths: bool) -> None:
    ids = graph.input("ids", np.int64, ["T", "B"])
    vectors = embedding(graph, "embedding", layer, ids)
    graph.output("output", vectors, layer.dtype, ["T", "B", layer.embedding_dim])


def _dropout(graph: Graph, layer: Dropout, state: bool, lengths: bool) -> None:
    x = graph.input("x", np.float32, ["T", "B", "I"])
    graph.output("output", x, np.float32, ["T", "B", "I"])


def _pooling(graph: Graph, layer: Pooling, state: bool, lengths: bool) -> None:
    x = graph.input("x", layer.dtype, ["T", "B", layer.size])
    pooled = pooling(graph, layer, x, _lengths(graph, lengths))
    graph.output("output", pooled, layer.dtype, ["B", layer.size])


def _encoder(graph: Graph, encoder: Encoder, state: bool, lengths: bool) -> None:
    hidden = _stack(graph, encoder.recurrent, _vectors(graph, encoder), state, lengths)
    graph.output("output", hidden, encoder.recurrent.dtype, ["T", "B", encoder.output_size])


def _language_model(graph: Graph, model: LanguageModel, state: bool, lengths: bool) -> None:
    encoder = model.encoder
    hidden = _stack(graph, encoder.recurrent, _vectors(graph, encoder), state, lengths)
    if model.config["tie_weights"]:
        weight = graph.node("Transpose", ["embedding.weight"], perm=[1, 0])
        logits = graph.node("MatMul", [hidden, weight])
        bias = graph.constant("output.bias", model.output.parameters["bias"])
        logits = graph.node("Add", [logits, bias])
    else:
        logits = dense(graph, "output", model.output, hidden)
    graph.output(
        "logits", logits, encoder.recurrent.dtype, ["T", "B", model.config["vocabulary_size"]]
    )


def _tagger(graph: Graph, model: SequenceTagger, state: bool, lengths: bool) -> None:
    encoder = model.encoder
    hidden = _stack(graph, encoder.recurrent, _vectors(graph, encoder), state, lengths)
    scores = dense(graph, "output", model.output, hidden)
    graph.output("output", scores, model.output.dtype, ["T", "B", model.output.out_features])


def _pooled(graph: Graph, model: PooledModel, state: bool, lengths: bool) -> None:
    output = _pooled_output(graph, model, _vectors(graph, model.encoder), lengths)
    graph.output("output", output, model.output.dtype, ["B", model.output.out_features])


def _forecaster(graph: Graph, model: Forecaster, state: bool, lengths: bool) -> None:
    mean, std = (np.array(model.config[name], model.output.dtype) for name in ("mean", "std"))
    x = _vectors(graph, model.encoder)
    x = graph.node("Div", [graph.node("Sub", [x, graph.array(mean)]), graph.array(std)])
    output = _pooled_output(graph, model, x, lengths)
    output = graph.node("Mul", [output, graph.array(std[0])])
    output = graph.node("Add", [output, graph.array(mean[0])])
    shape = [model.config["horizon"]]
    if model.config["quantiles"] is not None:
        shape.append(len(model.config["quantiles"]))
        output = graph.node("Reshape", [output, graph.array([0, *shape])])
    graph.output("output", output, model.output.dtype, ["B", *shape])


def _pooled_output(graph: Graph, model: PooledModel, x: str, lengths: bool) -> str:
    sizes = _lengths(graph, lengths)
    hidden, _ = recurrent(graph, model.encoder.recurrent, x, sizes)
    return dense(graph, "output", model.output, pooling(graph, model.pooling, hidden, sizes))


def _feed_forward(graph: Graph, model: FeedForward, state: bool, lengths: bool) -> None:
    x = graph.input("x", model.layers[0].dtype, ["B", model.layers[0].in_features])
    activation = model.config["activation"].capitalize()
    for k, layer in enumerate(model.layers):
        x = graph.node(activation, [x]) if k else x
        x = dense(graph, f"dense{k}", layer, x)
    graph.output("output", x, model.layers[-1].dtype, ["B", model.layers[-1].out_features])


def _vectors(graph: Graph, encoder: Encoder) -> str:
    """Declare an encoder's input; return the vectors that its first layer reads."""
    layer = encoder.recurrent
    if encoder.inputs == "vectors":
        return graph.input("x", layer.dtype, ["T", "B", layer.input_size])
    ids = graph.input("ids", np.int64, ["T", "B"])
    if encoder.embedding is not None:
        return embedding(graph, "embedding", encoder.embedding, ids)
    values = graph.array(np.array([0, 1], np.float32))
    x = graph.node("OneHot", [ids, graph.array(layer.input_size), values])
    # Runtimes have it for float32 alone.
    return graph.node("Cast", [x], to=helper.np_dtype_to_tensor_dtype(layer.dtype))


MODELS = (
    "an Encoder, LanguageModel, SequenceTagger, SequenceClassifier, SequenceRegressor, Forecaster "
    "or FeedForward"
)
# Kind -> what appends it to a graph, with its inputs and outputs.
WRITERS = {
    Recurrent: _layer,
    Cell: _cell,
    Dense: _dense,
    Embedding: _embedding,
    Dropout: _dropout,
    Pooling: _pooling,
    Encoder: _encoder,
    LanguageModel: _language_model,
    SequenceTagger: _tagger,
    Forecaster: _forecaster,
    PooledModel: _pooled,
    FeedForward: _feed_forward,
}
# Of which kinds a graph cannot take these.
WITHOUT = {
    "state": (Cell, Dense, Embedding, Dropout, Pooling, PooledModel, FeedForward),
    "lengths": (Cell, Dense, Embedding, Dropout, FeedForward),
}
