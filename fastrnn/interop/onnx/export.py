"""Write layers and models of ours as ONNX files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from fastrnn._validation import check_bool, check_choice
from fastrnn.interop.onnx.graph import Graph
from fastrnn.interop.onnx.layers import (
    attention,
    dense,
    embedding,
    pooling,
    recurrent,
    steps_before,
)
from fastrnn.layers import Attention, Dense, Dropout, Embedding
from fastrnn.layers.cells import Cell
from fastrnn.layers.pooling import Pooling
from fastrnn.layers.recurrent import Recurrent
from fastrnn.models import (
    Captioner,
    CTCRecognizer,
    Encoder,
    FeedForward,
    Forecaster,
    LanguageModel,
    QuestionAnswerer,
    SequenceGenerator,
    SequenceTagger,
)
from fastrnn.models.classifier import PooledModel
from fastrnn.models.decoder import Decoder
from fastrnn.models.heads import CategoricalHead
from fastrnn.models.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence


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

    Raises
    ------
    TypeError
        If the model is neither a layer nor a model, or the path is none.
    ValueError
        If the model has no such input or part.
    """
    path = os.fspath(path)  # onnx.save would write to a number's open file
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
    onnx.save(graph.model(type(model).__name__), path)


def _layer(graph: Graph, layer: Recurrent, state: bool, lengths: bool) -> None:
    shape = ["B", "T"] if layer.batch_first else ["T", "B"]
    x = graph.input("x", layer.dtype, [*shape, layer.input_size])
    output = _stack(graph, layer, x, state, _lengths(graph, lengths))
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


def _stack(graph: Graph, layer: Recurrent, x: str, state: bool, sizes: str) -> str:
    """Append a stack with a state of its own; return its output."""
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
    """Declare the outputs of a final state, which come last, as in PyTorch's exports."""
    for name, width, value in zip(layer.cell.states, layer.state_widths, values):
        graph.output(name, value, layer.dtype, [*leading, width], last=True)


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


def _attention(graph: Graph, layer: Attention, state: bool, lengths: bool) -> None:
    queries = graph.input("queries", layer.dtype, ["S", "B", layer.query_size])
    memory = graph.input("memory", layer.dtype, ["T", "B", layer.memory_size])
    context, weights = attention(graph, layer, queries, memory, _lengths(graph, lengths))
    graph.output("context", context, layer.dtype, ["S", "B", layer.memory_size])
    graph.output("weights", weights, layer.dtype, ["S", "B", "T"])


def _encoder(graph: Graph, encoder: Encoder, state: bool, lengths: bool) -> None:
    hidden = _hidden(graph, encoder, state, lengths)
    graph.output("output", hidden, encoder.recurrent.dtype, ["T", "B", encoder.output_size])


def _hidden(graph: Graph, encoder: Encoder, state: bool, lengths: bool) -> str:
    """Append an encoder with the inputs it takes; return its output."""
    x = _vectors(graph, encoder)
    return _stack(graph, encoder.recurrent, x, state, _lengths(graph, lengths))


def _language_model(graph: Graph, model: LanguageModel, state: bool, lengths: bool) -> None:
    hidden = _hidden(graph, model.encoder, state, lengths)
    if model.config["tie_weights"]:
        weight = graph.node("Transpose", ["embedding.weight"], perm=[1, 0])
        logits = graph.node("MatMul", [hidden, weight])
        bias = graph.constant("output.bias", model.output.parameters["bias"])
        logits = graph.node("Add", [logits, bias])
    else:
        logits = dense(graph, "output", model.output, hidden)
    graph.output(
        "logits", logits, model.config["dtype"], ["T", "B", model.config["vocabulary_size"]]
    )


def _tagger(graph: Graph, model: SequenceTagger, state: bool, lengths: bool) -> None:
    hidden = _hidden(graph, model.encoder, state, lengths)
    scores = dense(graph, "output", model.output, hidden)
    graph.output("output", scores, model.output.dtype, ["T", "B", model.output.out_features])


def _recognizer(graph: Graph, model: CTCRecognizer, state: bool, lengths: bool) -> None:
    encoder = model.encoder
    x = _inputs(graph, encoder, model.config["input_size"])
    sizes = _lengths(graph, lengths)
    x, frames = _frames(graph, model, x, sizes)
    if encoder.inputs == "ids":
        x = _look_up(graph, encoder, x)
    hidden = _stack(graph, encoder.recurrent, x, state, frames)
    scores = dense(graph, "output", model.output, hidden)
    graph.output("logits", scores, model.output.dtype, ["N", "B", model.output.out_features])
    if lengths:
        graph.output("frames", frames, np.int32, ["B"])


def _frames(graph: Graph, model: CTCRecognizer, x: str, sizes: str) -> tuple[str, str]:
    """Return what the encoder of a recogniser reads, and how many frames of each sequence."""
    repeat, stack = model.config["repeat"], model.config["stack"]
    if stack > 1 and sizes:
        zero = graph.array(np.zeros((), model.output.dtype))
        x = graph.node("Where", [steps_before(graph, x, sizes), x, zero])
    if repeat > 1:
        zero, one, times = (graph.array(np.int64(k)) for k in (0, 1, repeat))
        T = graph.node("Gather", [graph.node("Shape", [x]), zero])
        steps = graph.node("Range", [zero, graph.node("Mul", [T, times]), one])
        x = graph.node("Gather", [x, graph.node("Div", [steps, times])])
    if stack > 1:
        T = graph.node("Gather", [graph.node("Shape", [x]), graph.array([0])])
        x = graph.node("Pad", [x, graph.array([0, 0, 0, stack - 1, 0, 0])])
        axis, by = graph.array([0]), graph.array([stack])
        starts = [graph.array([k]) for k in range(stack)]
        ends = [graph.node("Add", [T, start]) for start in starts]
        parts = [graph.node("Slice", [x, *pair, axis, by]) for pair in zip(starts, ends)]
        x = graph.node("Concat", parts, axis=2)
    if sizes and (repeat, stack) != (1, 1):
        times, more, by = (graph.array(np.int32(k)) for k in (repeat, stack - 1, stack))
        sizes = graph.node("Add", [graph.node("Mul", [sizes, times]), more])
        sizes = graph.node("Div", [sizes, by])
    return x, sizes


def _pooled(graph: Graph, model: PooledModel, state: bool, lengths: bool) -> None:
    x = _vectors(graph, model.encoder)
    output = _pooled_output(graph, model, x, _lengths(graph, lengths))
    graph.output("output", output, model.output.dtype, ["B", model.output.out_features])


def _forecaster(graph: Graph, model: Forecaster, state: bool, lengths: bool) -> None:
    mean, std = (np.array(model.config[name], model.output.dtype) for name in ("mean", "std"))
    x = _vectors(graph, model.encoder)
    x = graph.node("Div", [graph.node("Sub", [x, graph.array(mean)]), graph.array(std)])
    output = _pooled_output(graph, model, x, _lengths(graph, lengths))
    output = graph.node("Mul", [output, graph.array(std[0])])
    output = graph.node("Add", [output, graph.array(mean[0])])
    shape = [model.config["horizon"]]
    if model.config["quantiles"] is not None:
        shape.append(len(model.config["quantiles"]))
        output = graph.node("Reshape", [output, graph.array([0, *shape])])
    graph.output("output", output, model.output.dtype, ["B", *shape])


def _pooled_output(graph: Graph, model: PooledModel, x: str, sizes: str) -> str:
    hidden, _ = recurrent(graph, model.encoder.recurrent, x, sizes)
    return dense(graph, "output", model.output, pooling(graph, model.pooling, hidden, sizes))


def _feed_forward(graph: Graph, model: FeedForward, state: bool, lengths: bool) -> None:
    x = graph.input("x", model.layers[0].dtype, ["B", model.layers[0].in_features])
    activation = model.config["activation"].capitalize()
    for k, layer in enumerate(model.layers):
        x = graph.node(activation, [x]) if k else x
        x = dense(graph, f"dense{k}", layer, x)
    graph.output("output", x, model.layers[-1].dtype, ["B", model.layers[-1].out_features])


def _answerer(graph: Graph, model: QuestionAnswerer, state: bool, lengths: bool) -> None:
    stories = graph.input("stories", np.int64, ["S", "B", "W"])
    questions = graph.input("questions", np.int64, ["B", "W"])
    sizes = _lengths(graph, lengths)
    first, last, end = (graph.array([k]) for k in (0, -1, np.iinfo(np.int64).max))
    # Every sentence is read, and the question as one more.
    rows = graph.node("Concat", [stories, graph.node("Unsqueeze", [questions, first])], axis=0)
    ids = graph.node("Transpose", [rows], perm=[2, 0, 1])
    ids = graph.node("Reshape", [ids, graph.array([0, -1])])  # (W, (S + 1) * B)
    is_word = graph.node("Not", [graph.node("Equal", [ids, graph.array(np.int64(0))])])
    words = graph.node("Cast", [is_word], to=TensorProto.INT32)
    words = graph.node("ReduceSum", [words, first], keepdims=0)
    words = graph.node("Max", [words, graph.array(np.int32(1))])  # beyond the end of a story
    H = model.sentence.output_size
    with graph.within("sentence"):
        vectors = _look_up(graph, model.sentence, ids)
        hidden, _ = recurrent(graph, model.sentence.recurrent, vectors, words)
        vectors = pooling(graph, model._last, hidden, words)
    shape = graph.node("Slice", [graph.node("Shape", [rows]), first, graph.array([2])])
    shape = graph.node("Concat", [shape, graph.array([H])], axis=0)
    vectors = graph.node("Reshape", [vectors, shape])
    told = graph.node("Slice", [vectors, first, last])
    asked = graph.node("Slice", [vectors, last, end])
    pairs = graph.node("Concat", [told, graph.node("Mul", [told, asked])], axis=2)
    with graph.within("story"):
        scores = _pooled_output(graph, model.story, pairs, sizes)
    graph.output("output", scores, model.story.output.dtype, ["B", model.config["num_answers"]])


def _generator(graph: Graph, model: SequenceGenerator, state: bool, lengths: bool) -> None:
    """Write the scores of each element, given all before it."""
    head, dtype = model.head, model.encoder.recurrent.dtype
    categorical = isinstance(head, CategoricalHead)
    kind = np.int64 if categorical else dtype
    elements = graph.input("elements", kind, ["T", "B", head.width])
    variables = []
    if categorical:
        places = [graph.array(np.int64(k)) for k in range(head.width)]
        variables = [graph.node("Gather", [elements, place], axis=2) for place in places]
        parts = [
            embedding(graph, f"embedding{k}", head.embeddings[k], _after(graph, ids, start, 2))
            for k, (ids, start) in enumerate(zip(variables, head.start))
        ]
        x = graph.node("Concat", parts, axis=2)
    else:
        x = _after(graph, elements, dtype.type(0), 3)
    hidden = _stack(graph, model.encoder.recurrent, x, state, _lengths(graph, lengths))
    scores = dense(graph, "output", head.output, hidden)
    for k, link in enumerate(head.links if categorical else ()):
        added = embedding(graph, f"link{k}", link, variables[k])
        before = head.output.out_features - link.embedding_dim
        pads = graph.array([0, 0, before, 0, 0, 0])
        scores = graph.node("Add", [scores, graph.node("Pad", [added, pads])])
    graph.output("output", scores, dtype, ["T", "B", head.output.out_features])


def _after(graph: Graph, x: str, start: Any, axes: int) -> str:
    """Return x (T, B, ...) a step late, with `start` in the first."""
    pads = graph.array([1] + [0] * (2 * axes - 1))
    x = graph.node("Pad", [x, pads, graph.array(start)])
    return graph.node("Slice", [x, graph.array([0]), graph.array([-1])])


def _writer(graph: Graph, model: Writer, state: bool, lengths: bool) -> None:
    """Write the scores of each target, given the input and the targets before it."""
    first, memory, sizes = _encoded(graph, model, lengths)
    targets = graph.input("targets", np.int64, ["S", "B"])
    ids = _after(graph, targets, np.int64(model.config["bos"]), 2)
    _decoded(graph, model.decoder, ids, first, memory, sizes)


def _writer_encoder(graph: Graph, model: Writer, state: bool, lengths: bool) -> None:
    first, memory, _ = _encoded(graph, model, lengths)
    layer = model.decoder.recurrent.recurrent
    for name, value in zip(layer.cell.states, first):
        graph.output(f"{name}0", value, layer.dtype, [layer.depth, "B", layer.hidden_size])
    if model.decoder.attention is not None:
        width = model.decoder.attention.memory_size
        graph.output("memory", memory, layer.dtype, ["T", "B", width])


def _writer_decoder(graph: Graph, model: Writer, state: bool, lengths: bool) -> None:
    decoder, layer = model.decoder, model.decoder.recurrent.recurrent
    ids = graph.input("ids", np.int64, ["S", "B"])
    leading = [layer.depth, "B"]
    first = _initial(graph, layer, leading)
    memory = sizes = ""
    if decoder.attention is not None:
        shape = ["T", "B", decoder.attention.memory_size]
        memory, sizes = graph.input("memory", layer.dtype, shape), _lengths(graph, lengths)
    elif lengths:
        raise ValueError("lengths must be False for a decoder without attention, got True")
    _final(graph, layer, leading, _decoded(graph, decoder, ids, first, memory, sizes))


def _encoded(graph: Graph, model: Writer, lengths: bool) -> tuple[list[str], str, str]:
    """Return the decoder's first state, what attention looks at, and the lengths of that."""
    dtype, memory, sizes = model.decoder.initial.dtype, "", ""
    if isinstance(model, Captioner):
        context = graph.input("x", dtype, ["B", model.config["input_size"]])
    else:
        with graph.within("encoder"):
            x = _vectors(graph, model.encoder)
            sizes = _lengths(graph, lengths)
            memory, _ = recurrent(graph, model.encoder.recurrent, x, sizes)
        context = pooling(graph, model.last, memory, sizes)
    layer = model.decoder.recurrent.recurrent
    n, L, H = len(layer.cell.states), layer.num_layers, layer.hidden_size
    first = graph.node("Tanh", [dense(graph, "initial", model.decoder.initial, context)])
    first = graph.node("Reshape", [first, graph.array([0, n, L, H])])
    first = graph.node("Transpose", [first], perm=[1, 2, 0, 3])
    states = [graph.node("Gather", [first, graph.array(np.int64(k))]) for k in range(n)]
    return states, memory, sizes


def _decoded(
    graph: Graph, decoder: Decoder, ids: str, first: list[str], memory: str, sizes: str
) -> list[str]:
    """Append a decoder and its output of scores; return its final state."""
    with graph.within("decoder"):
        x = _look_up(graph, decoder.recurrent, ids)
        hidden, final = recurrent(graph, decoder.recurrent.recurrent, x, initial=first)
        if decoder.attention is not None:
            attended, _ = attention(graph, decoder.attention, hidden, memory, sizes)
            hidden = graph.node("Concat", [attended, hidden], axis=2)
            hidden = graph.node("Tanh", [dense(graph, "combine", decoder.combine, hidden)])
        logits = dense(graph, "output", decoder.output, hidden)
    graph.output("logits", logits, decoder.output.dtype, ["S", "B", decoder.output.out_features])
    return final


def _vectors(graph: Graph, encoder: Encoder) -> str:
    """Declare an encoder's input; return the vectors that its first layer reads."""
    x = _inputs(graph, encoder, encoder.recurrent.input_size)
    return x if encoder.inputs == "vectors" else _look_up(graph, encoder, x)


def _inputs(graph: Graph, encoder: Encoder, width: int) -> str:
    """Declare the ids or vectors that an encoder is given."""
    if encoder.inputs == "vectors":
        return graph.input("x", encoder.recurrent.dtype, ["T", "B", width])
    return graph.input("ids", np.int64, ["T", "B"])


def _look_up(graph: Graph, encoder: Encoder, ids: str) -> str:
    """Return the vectors that stand for ids."""
    if encoder.embedding is not None:
        return embedding(graph, "embedding", encoder.embedding, ids)
    layer = encoder.recurrent
    values = graph.array(np.array([0, 1], np.float32))
    x = graph.node("OneHot", [ids, graph.array(layer.input_size), values])
    # Runtimes have it for float32 alone.
    return graph.node("Cast", [x], to=helper.np_dtype_to_tensor_dtype(layer.dtype))


# Kind -> what appends it to a graph, with its inputs and outputs.
WRITERS = {
    Recurrent: _layer,
    Cell: _cell,
    Dense: _dense,
    Embedding: _embedding,
    Dropout: _dropout,
    Pooling: _pooling,
    Attention: _attention,
    Encoder: _encoder,
    LanguageModel: _language_model,
    SequenceTagger: _tagger,
    CTCRecognizer: _recognizer,
    SequenceGenerator: _generator,
    Forecaster: _forecaster,
    PooledModel: _pooled,
    FeedForward: _feed_forward,
    QuestionAnswerer: _answerer,
    Writer: _writer,
}
PARTS = {"encoder": _writer_encoder, "decoder": _writer_decoder}
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
