"""Write layers and models of ours as ONNX files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastrnn._files import write_atomically
from fastrnn._validation import check_bool, check_choice
from fastrnn.interop.onnx.graph import Graph
from fastrnn.interop.onnx.layers import (
    attention,
    dense,
    embedding,
    final_outputs,
    initial_inputs,
    lengths_input,
    pooling,
    recurrent,
    stack,
)
from fastrnn.interop.onnx.models import MODELS, PARTS
from fastrnn.layers import Attention, Dense, Dropout, Embedding
from fastrnn.layers.cells import Cell
from fastrnn.layers.pooling import Pooling
from fastrnn.layers.recurrent import Recurrent
from fastrnn.models import Captioner, FeedForward, QuestionAnswerer
from fastrnn.models.classifier import PooledModel
from fastrnn.models.writer import Writer


def export(
    model: Any,
    path: str | os.PathLike[str],
    *,
    state: bool = False,
    lengths: bool = False,
    part: str | None = None,
) -> None:
    """Write a layer or model as an ONNX file.

    Parameters
    ----------
    model : a layer or a model
        As it runs at inference: without dropout.
    path : path-like
    state : bool
        True: the graph also takes the initial state, inputs ``h0`` (and ``c0``), and returns the
        final one, outputs ``h`` (and ``c``), shaped as the layer's.
    lengths : bool
        True: the graph also takes ``lengths``, int32 (B,).
    part : {"encoder", "decoder"} or None
        Of a Seq2Seq or Captioner, to write sequences with: what makes the first state (and the
        memory) from the input, or what scores the next symbols and returns the next state.

    Raises
    ------
    TypeError
        If `model` is neither a layer nor a model, or `path` not a path.
    ValueError
        If the model has no such input or part.
    OSError
        If the file cannot be written; one that was there before still is.

    Notes
    -----
    Inputs are ``x`` (T, B, I), or (B, T, I) where the layer is ``batch_first``, or ``ids``, int64
    (T, B); T and B are free. The output is ``output``, or ``logits`` of a model of symbols; of a
    forecaster what ``predict`` returns. A cell takes ``x`` (B, I) and always its state ``h0`` (and
    ``c0``), (B, H), and returns the next. See docs/onnx.md for the models.

    ONNX has no projection in its LSTM. A layer with ``proj_size`` becomes one whose hidden units
    are those before the projection and whose recurrent weights are ``weight_hh @ weight_hr``; an
    initial h is found for them by the pseudo-inverse of ``weight_hr``. What the operators cannot
    say, and float64, which ONNX Runtime has not in them, becomes a loop over the cell's step.
    """
    path = os.fsdecode(path)  # a number is an open file's
    check_bool("state", state)
    check_bool("lengths", lengths)
    write = next((write for kind, write in WRITERS.items() if isinstance(model, kind)), None)
    if write is None:
        raise TypeError(f"model must be a layer or model of fastrnn, got {type(model).__name__}")
    if part is not None:
        check_choice("part", part, PARTS)
        if not isinstance(model, Writer):
            raise ValueError(f"part must be None for {type(model).__name__}, got {part!r}")
        write = PARTS[part]
    for name, value in (("state", state), ("lengths", lengths)):
        if value and isinstance(model, WITHOUT[name]):
            raise ValueError(f"{name} must be False for {type(model).__name__}, got True")
    graph = Graph()
    write(graph, model, state, lengths)
    write_atomically(path, graph.model(type(model).__name__).SerializeToString())


def _layer(graph: Graph, layer: Recurrent, state: bool, lengths: bool) -> None:
    shape = ["B", "T"] if layer.batch_first else ["T", "B"]
    x = graph.input("x", layer.dtype, [*shape, layer.input_size])
    output = stack(graph, layer, x, state, lengths_input(graph, lengths))
    width = layer.num_directions * layer.output_size
    graph.output("output", output, layer.dtype, [*shape, width])


def _cell(graph: Graph, cell: Cell, state: bool, lengths: bool) -> None:
    layer = cell._layer
    x = graph.input("x", cell.dtype, ["B", cell.input_size])
    initial = initial_inputs(graph, layer, ["B"])
    first = graph.array([0])
    x, *initial = (graph.node("Unsqueeze", [value, first]) for value in (x, *initial))
    _, final = recurrent(graph, layer, x, initial=initial)
    final = [graph.node("Squeeze", [value, first]) for value in final]
    final_outputs(graph, layer, ["B"], final)


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
    pooled = pooling(graph, layer, x, lengths_input(graph, lengths))
    graph.output("output", pooled, layer.dtype, ["B", layer.size])


def _attention(graph: Graph, layer: Attention, state: bool, lengths: bool) -> None:
    queries = graph.input("queries", layer.dtype, ["S", "B", layer.query_size])
    memory = graph.input("memory", layer.dtype, ["T", "B", layer.memory_size])
    context, weights = attention(graph, layer, queries, memory, lengths_input(graph, lengths))
    graph.output("context", context, layer.dtype, ["S", "B", layer.memory_size])
    graph.output("weights", weights, layer.dtype, ["S", "B", "T"])


# Kind -> what appends it to a graph, with its inputs and outputs.
WRITERS = {
    Recurrent: _layer,
    Cell: _cell,
    Dense: _dense,
    Embedding: _embedding,
    Dropout: _dropout,
    Pooling: _pooling,
    Attention: _attention,
    **MODELS,
}
# Of which kinds a graph cannot take these.
WITHOUT = {
    "state": (
        Attention,
        Cell,
        Dense,
        Dropout,
        Embedding,
        FeedForward,
        PooledModel,
        Pooling,
        QuestionAnswerer,
        Writer,
    ),
    "lengths": (Captioner, Cell, Dense, Dropout, Embedding, FeedForward),
}
