"""Models of ours as ONNX graphs, with their inputs and outputs; see `docs/onnx.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

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
    steps_before,
)
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
from fastrnn.models.heads import CategoricalHead
from fastrnn.models.writer import Writer

if TYPE_CHECKING:
    from fastrnn.interop.onnx.graph import Graph
    from fastrnn.models.decoder import Decoder


def _encoder(graph: Graph, encoder: Encoder, state: bool, lengths: bool) -> None:
    hidden = _hidden(graph, encoder, state, lengths)
    graph.output("output", hidden, encoder.recurrent.dtype, ["T", "B", encoder.output_size])


def _hidden(graph: Graph, encoder: Encoder, state: bool, lengths: bool) -> str:
    """Append an encoder with the inputs it takes; return its output."""
    x = _vectors(graph, encoder)
    return stack(graph, encoder.recurrent, x, state, lengths_input(graph, lengths))


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
    sizes = lengths_input(graph, lengths)
    x, frames = _frames(graph, model, x, sizes)
    if encoder.inputs == "ids":
        x = _look_up(graph, encoder, x)
    hidden = stack(graph, encoder.recurrent, x, state, frames)
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
    output = _pooled_output(graph, model, x, lengths_input(graph, lengths))
    graph.output("output", output, model.output.dtype, ["B", model.output.out_features])


def _forecaster(graph: Graph, model: Forecaster, state: bool, lengths: bool) -> None:
    mean, std = (np.array(model.config[name], model.output.dtype) for name in ("mean", "std"))
    x = _vectors(graph, model.encoder)
    x = graph.node("Div", [graph.node("Sub", [x, graph.array(mean)]), graph.array(std)])
    output = _pooled_output(graph, model, x, lengths_input(graph, lengths))
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
    sizes = lengths_input(graph, lengths)
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
    hidden = stack(graph, model.encoder.recurrent, x, state, lengths_input(graph, lengths))
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
    first = initial_inputs(graph, layer, leading)
    memory = sizes = ""
    if decoder.attention is not None:
        shape = ["T", "B", decoder.attention.memory_size]
        memory, sizes = graph.input("memory", layer.dtype, shape), lengths_input(graph, lengths)
    elif lengths:
        raise ValueError("lengths must be False for a decoder without attention, got True")
    final_outputs(graph, layer, leading, _decoded(graph, decoder, ids, first, memory, sizes))


def _encoded(graph: Graph, model: Writer, lengths: bool) -> tuple[list[str], str, str]:
    """Return the decoder's first state, what attention looks at, and the lengths of that."""
    dtype, memory, sizes = model.decoder.initial.dtype, "", ""
    if isinstance(model, Captioner):
        context = graph.input("x", dtype, ["B", model.config["input_size"]])
    else:
        with graph.within("encoder"):
            x = _vectors(graph, model.encoder)
            sizes = lengths_input(graph, lengths)
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
MODELS = {
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
