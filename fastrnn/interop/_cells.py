"""Cells with options of other packages that no compiled cell has: inference in NumPy.

Each function returns a cell of `fastrnn.cells.CELLS` if there is one for its arguments, because
that one is fast. The equations are those of `fastrnn.cells`, with

* any pointwise functions in place of the sigmoid and tanh;
* ``clip``: the arguments of f and g are first clipped to [-clip, clip]; as in ONNX Runtime, the
  argument of an LSTM's h is not;
* ``input_forget``: f = 1 - i; the weights of the forget gate are there but not read.

Source: the operators RNN, LSTM and GRU of the ONNX specification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.backends import active_backend, reference
from fastrnn.cells import CELLS, CellSpec, Stage
from fastrnn.cells.base import sigmoid, split
from fastrnn.interop._pointwise import relu

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = Callable[[np.ndarray], np.ndarray]


def simple_cell(f: Function, clip: float | None = None) -> CellSpec:
    """Return the simple cell, h' = f(z)."""
    if clip is None and f in (np.tanh, relu):
        return CELLS["rnn_tanh" if f is np.tanh else "rnn_relu"]
    f = _clipped(f, clip)
    stage = _stage("h", slice(0, 1), ("h",), lambda zx, zh, values: {"h": f(zx + zh)})
    return CellSpec("rnn", ("h",), ("h",), (stage,))


def lstm_cell(
    f: Function,
    g: Function,
    h: Function,
    clip: float | None = None,
    peepholes: bool = False,
    input_forget: bool = False,
) -> CellSpec:
    """Return the LSTM with f for its gates i, f and o, g for its candidate and h for c'.

    With peepholes the weights have ``peephole``, as in `fastrnn.cells.lstm_variants`.
    """
    if (f, g, h, clip, input_forget) == (sigmoid, np.tanh, np.tanh, None, False):
        return CELLS["lstm_peephole" if peepholes else "lstm"]
    f, g = _clipped(f, clip), _clipped(g, clip)

    def forward(zx, zh, values):
        c = values["c"]
        p_i, p_f, p_o = np.split(values["peephole"], 3) if peepholes else (0, 0, 0)
        z_i, z_f, z_g, z_o = split(zx + zh, 4)
        gate_i = f(z_i + p_i * c)
        gate_f = 1 - gate_i if input_forget else f(z_f + p_f * c)
        c = gate_f * c + gate_i * g(z_g)
        return {"h": f(z_o + p_o * c) * h(c), "c": c}

    return CellSpec(
        "lstm",
        gates=CELLS["lstm"].gates,
        states=("h", "c"),
        stages=(_stage("h", slice(0, 4), ("h", "c"), forward),),
        vectors=CELLS["lstm_peephole"].vectors,
    )


def gru_cell(f: Function, g: Function, reset_after: bool, clip: float | None = None) -> CellSpec:
    """Return the GRU with f for its gates r and z and g for its candidate."""
    if (f, g, clip) == (sigmoid, np.tanh, None):
        return CELLS["gru" if reset_after else "gru_reset_before"]
    f, g = _clipped(f, clip), _clipped(g, clip)

    def after(zx, zh, values):
        x_r, x_z, x_n = split(zx, 3)
        h_r, h_z, h_n = split(zh, 3)
        z, h = f(x_z + h_z), values["h"]
        return {"h": (1 - z) * g(x_n + f(x_r + h_r) * h_n) + z * h}

    def reset(zx, zh, values):
        r, z = f(split(zx + zh, 2))
        return {"m": r * values["h"], "z": z}

    def update(zx, zh, values):
        z, h = values["z"], values["h"]
        return {"h": (1 - z) * g(zx + zh) + z * h}

    if reset_after:
        stages = (_stage("h", slice(0, 3), ("h",), after),)
    else:
        stages = (
            _stage("h", slice(0, 2), ("m", "z"), reset),
            _stage("m", slice(2, 3), ("h",), update),
        )
    return CellSpec("gru", CELLS["gru"].gates, ("h",), stages)


def final_state(cell: CellSpec, *run: Any) -> tuple[np.ndarray, ...]:
    """Return the final state of a `fastrnn.backends.runs.Run` of a cell.

    It runs on the active backend if that knows the cell, else on the reference backend.
    """
    backend = active_backend() if CELLS.get(cell.name) is cell else reference
    [(final, _)] = backend.scans([backend.Run(cell, *run)])
    return final


def _clipped(function: Function, clip: float | None) -> Function:
    return function if clip is None else lambda x: function(np.clip(x, -clip, clip))


def _stage(operand, gates, outputs, forward) -> Stage:
    """Return a stage that has no adjoint: files are run, not trained."""

    def run_forward(zx, zh, values):
        return forward(zx, zh, values), None

    return Stage(operand, "weight_hh", "bias_hh", gates, outputs, run_forward, adjoint=None)
