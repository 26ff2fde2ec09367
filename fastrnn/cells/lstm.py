"""The long short-term memory cell, with a forget gate and, optionally, a projection.

::

    i, f, g, o = W_ih x + b_ih + W_hh h + b_hh
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
    m  = sigmoid(o) * tanh(c')
    h' = m                      projected: h' = W_hr m

From here on i, f, o stand for their sigmoids and g for its tanh. With dm and dc' the gradients of m
and c', the adjoint is ::

    dc  = dc' + dm * o * (1 - tanh(c')^2)
    di  = dc * g * i * (1 - i)          df = dc * c * f * (1 - f)
    dg  = dc * i * (1 - g^2)            do = dm * tanh(c') * o * (1 - o)
    and dc * f goes on to c

Source: S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997); forget
gate: F. Gers, J. Schmidhuber, F. Cummins (2000); projection: H. Sak, A. Senior, F. Beaufays (2014).
Gate order and biases are those of ``torch.nn.LSTM``.
"""

import numpy as np

from fastrnn.cells.base import CellSpec, Stage, sigmoid, split

GATES = ("i", "f", "g", "o")


def _forward(zx, zh, values):
    i, f, g, o = split(zx + zh, 4)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * values["c"] + i * g
    tanh_c = np.tanh(c)
    return o * tanh_c, c, (i, f, g, o, values["c"], tanh_c)


def _adjoint(saved, dm, dc):
    i, f, g, o, c, tanh_c = saved
    dc = dc + dm * o * (1 - tanh_c * tanh_c)
    di = dc * g * i * (1 - i)
    df = dc * c * f * (1 - f)
    dg = dc * i * (1 - g * g)
    do = dm * tanh_c * o * (1 - o)
    dz = np.concatenate((di, df, dg, do), axis=1)
    return dz, dz, {"c": dc * f}


def _gates(output):
    """Return the stage that computes c and m, the latter under the name `output`."""

    def forward(zx, zh, values):
        m, c, saved = _forward(zx, zh, values)
        return {output: m, "c": c}, saved

    def adjoint(saved, d_outputs):
        return _adjoint(saved, d_outputs[output], d_outputs["c"])

    return Stage("h", "weight_hh", "bias_hh", slice(0, 4), (output, "c"), forward, adjoint)


projection = Stage(
    operand="m",
    weight="weight_hr",
    bias=None,
    gates=None,
    outputs=("h",),
    forward=lambda zx, zh, values: ({"h": zh}, None),
    adjoint=lambda saved, d_outputs: (None, d_outputs["h"], {}),
)

lstm = CellSpec("lstm", GATES, states=("h", "c"), stages=(_gates("h"),))
lstm_projected = CellSpec("lstm_projected", GATES, ("h", "c"), (_gates("m"), projection))
