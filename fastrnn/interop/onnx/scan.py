"""Recurrent layers as ONNX's operator Scan, whose body is the step of their cell.

Any cell with any option can be written so; its own operator, where there is one, runs faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.interop.onnx.traced import Traced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastrnn.cells import Stage
    from fastrnn.interop.onnx.graph import Graph
    from fastrnn.layers.recurrent import Pass, Recurrent


def scan(
    graph: Graph, layer: Recurrent, k: int, x: str, valid: str, initial: Sequence[str]
) -> tuple[str, list[str]]:
    """Append layer `k` of a stack; return its output and its final states.

    Parameters
    ----------
    graph : Graph
    layer : RNN, LSTM or GRU
    k : int
    x : str
        Its input (T, B, width).
    valid : str
        Bool (T, B, 1), True where a step counts; "" where all do.
    initial : sequence of str
        Initial states (num_directions, B, width).

    Returns
    -------
    output : str
        (T, B, num_directions * output_size), zero where steps do not count.
    final : list of str
        States shaped as `initial`.
    """
    D = layer.num_directions
    outputs, finals = [], []
    for d, one in enumerate(layer.passes()[k * D : (k + 1) * D]):
        place = graph.array(np.int64(d))
        first = [graph.node("Gather", [values, place]) for values in initial]
        with graph.within(f"l{k}_reverse" if d else f"l{k}"):
            h, *last = _direction(graph, layer, one, x, valid, first)
        outputs.append(h)
        finals.append([graph.node("Unsqueeze", [value, graph.array([0])]) for value in last])
    output = graph.node("Concat", outputs, axis=2)
    return output, [graph.node("Concat", list(values), axis=0) for values in zip(*finals)]


def _direction(
    graph: Graph, layer: Recurrent, one: Pass, x: str, valid: str, first: list[str]
) -> list[str]:
    """Append one direction of a layer; return h at every step and the final states."""
    cell, dtype, weights = layer.cell, layer.dtype, one.weights
    backwards = layer.reverse or one.direction == 1
    body = graph.body()
    states, values = [], {name: weights[name] for name, _ in cell.vectors if name in weights}
    values["cell_clip"] = layer.cell_clip
    for name, width in zip(cell.states, layer.state_widths):
        states.append(body.input(name, dtype, [None, width]))
        values[name] = Traced(body, states[-1], np.empty((0, width), dtype))
    before = [values[name] for name in cell.states]
    scanned = []
    for n, stage in enumerate(cell.stages):
        with graph.within(f"stage{n}"), body.within(f"stage{n}"):
            blocks = _block(layer, weights, stage, stage.weight, stage.bias)
            zh = _affine(body, values[stage.operand].name, blocks)
            zx = None
            if stage.gates is not None:
                blocks = _block(layer, weights, stage, "weight_ih", "bias_ih")
                scanned.append(_affine(graph, x, blocks).name)
                zx = Traced(body, body.input(f"zx{n}", dtype, [None, zh.shape[1]]), zh.like)
        outputs, _ = stage.forward(zx, zh, values)
        values.update(outputs)
    extras = layer.extras()
    zoneout = extras.zoneout if extras is not None and extras.zoneout is not None else ()
    for name, z, old in zip(cell.states, zoneout, before):
        values[name] = z * old + (1 - z) * values[name]
    h = values["h"].name
    after = [values[name].name for name in cell.states]
    if valid:
        counts = body.input("valid", np.bool_, [None, 1])
        after = [body.node("Where", [counts, *pair]) for pair in zip(after, states)]
        h = body.node("Where", [counts, h, body.array(np.zeros((), dtype))])
        scanned.append(valid)
    for name, value, width in zip(cell.states, after, layer.state_widths):
        body.output(f"next_{name}", value, dtype, [None, width])
    body.output("output", h, dtype, [None, layer.output_size])
    # Scan has an attribute for this, which not all runtimes know.
    scanned = [_flipped(graph, value) if backwards else value for value in scanned]
    *final, output = graph.nodes(
        "Scan",
        [*first, *scanned],
        len(states) + 1,
        body=body.proto(cell.name),
        num_scan_inputs=len(scanned),
    )
    return [_flipped(graph, output) if backwards else output, *final]


def _block(
    layer: Recurrent, weights: Mapping[str, np.ndarray], stage: Stage, *names: str | None
) -> dict[str, np.ndarray]:
    """Return a stage's rows of a weight and, where there is one, its bias."""
    rows = slice(None)
    if stage.gates is not None:
        H = layer.hidden_size
        rows = slice(stage.gates.start * H, stage.gates.stop * H)
    return {name: weights[name][rows] for name in names if name in weights}


def _affine(graph: Graph, x: str, blocks: Mapping[str, np.ndarray]) -> Traced:
    """Append ``x @ weight.T + bias``."""
    (name, weight), *bias = blocks.items()
    y = graph.node("MatMul", [x, graph.constant(name, weight.T)])
    for name, array in bias:
        y = graph.node("Add", [y, graph.constant(name, array)])
    return Traced(graph, y, np.empty((0, len(weight)), weight.dtype))


def _flipped(graph: Graph, x: str) -> str:
    """Append the steps in the opposite order."""
    last, before, axis, by = (graph.array([n]) for n in (-1, np.iinfo(np.int64).min, 0, -1))
    return graph.node("Slice", [x, last, before, axis, by])
