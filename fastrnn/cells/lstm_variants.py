"""The LSTM with peepholes, a bounded cell, coupled gates, or layer normalisation.

With i, f, g, o the arguments of the gates as in `fastrnn.cells.lstm`, and p_i, p_f, p_o the blocks
of ``peephole`` (absent: 0)::

    i' = sigmoid(i + p_i * c)       f' = sigmoid(f + p_f * c)       coupled: f' = 1 - i'
    c' = clip(f' * c + i' * tanh(g), -cell_clip, cell_clip)
    m  = sigmoid(o + p_o * c') * tanh(c')
    h' = m                          projected: h' = W_hr m

A coupled cell has the gates i, g, o and the peepholes p_i, p_o. With layer normalisation (coupled:
without f) ::

    i, f, g, o = gain_ih * N(W_ih x) + gain_hh * N(W_hh h) + bias
    m  = sigmoid(o + p_o * c') * tanh(gain_c * N(c') + bias_c)

where N takes from a row its mean and divides it by sqrt(variance + 1e-5): the rows are all 4*H (3*H
where coupled) arguments of the gates, and the H of the cell. c' itself is passed on unchanged.
``bias`` and ``bias_c`` may be absent, which is 0.

The adjoint is that of `fastrnn.cells.lstm`, with dc' + do * p_o in place of dc', zero where c' is
clipped; with di * p_i + df * p_f more for c; and with di = dc * (g - c) * i * (1 - i) for coupled
gates. That of y = N(x) is ``dx = (dy - mean(dy) - y * mean(dy * y)) / sqrt(variance + 1e-5)``.

Source: peepholes: F. Gers, J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000;
coupled gates: K. Greff et al., "LSTM: a search space odyssey", IEEE TNNLS 28 (2017); the bound: H.
Sak et al., "Long short-term memory recurrent neural network architectures for large scale acoustic
modeling", Interspeech 2014; normalisation: J. Ba, J. Kiros, G. Hinton, "Layer normalization",
arXiv:1607.06450 (2016), equations 20-22, whose three biases of a gate are one here.
"""

import numpy as np

from fastrnn.cells.base import CellSpec, Stage, sigmoid, split
from fastrnn.cells.lstm import GATES, projection

COUPLED_GATES = ("i", "g", "o")
EPSILON = 1e-5


def _normalise(x):
    """Return N(x) of each row, and what divides it."""
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + EPSILON)
    return centred / deviation, deviation


def _normalise_adjoint(dy, y, deviation):
    shift = dy.mean(axis=1, keepdims=True)
    slope = (dy * y).mean(axis=1, keepdims=True)
    return (dy - shift - y * slope) / deviation


def _peepholes(values, coupled):
    """Return p_i, p_f and p_o."""
    if "peephole" not in values:
        return 0, 0, 0
    if coupled:
        p_i, p_o = np.split(values["peephole"], 2)
        return p_i, 0, p_o
    return np.split(values["peephole"], 3)


def _state(z, values, coupled):
    """Return o and c', and what `_state_adjoint` needs."""
    c, limit = values["c"], values["cell_clip"]
    p_i, p_f, p_o = _peepholes(values, coupled)
    gates = split(z, 3 if coupled else 4)
    i = sigmoid(gates[0] + p_i * c)
    f = 1 - i if coupled else sigmoid(gates[1] + p_f * c)
    g = np.tanh(gates[-2])
    free = f * c + i * g
    c_next = np.clip(free, -limit, limit)
    o = sigmoid(gates[-1] + p_o * c_next)
    return o, c_next, (i, f, g, c, free, c_next, (p_i, p_f, p_o), "peephole" in values)


def _state_adjoint(saved, do, dc, coupled):
    """Return the gradients of the gates' arguments, from that of o's, and of the values."""
    i, f, g, c, free, c_next, (p_i, p_f, p_o), has_peepholes = saved
    dc = (dc + do * p_o) * (free == c_next)
    di = dc * (g - c if coupled else g) * i * (1 - i)
    dg = dc * i * (1 - g * g)
    df = 0 if coupled else dc * c * f * (1 - f)
    dz = np.concatenate((di, dg, do) if coupled else (di, df, dg, do), axis=1)
    d_values = {"c": dc * f + di * p_i + df * p_f}
    if has_peepholes:
        parts = (di * c, do * c_next) if coupled else (di * c, df * c, do * c_next)
        d_values["peephole"] = np.concatenate(parts, axis=1).sum(axis=0)
    return dz, d_values


def _gates(output, coupled):
    """Return the stage that computes c and m, the latter under the name `output`."""

    def forward(zx, zh, values):
        o, c, saved = _state(zx + zh, values, coupled)
        tanh_c = np.tanh(c)
        return {output: o * tanh_c, "c": c}, (o, tanh_c, saved)

    def adjoint(saved, d_outputs):
        o, tanh_c, saved = saved
        dm = d_outputs[output]
        dc = d_outputs["c"] + dm * o * (1 - tanh_c * tanh_c)
        dz, d_values = _state_adjoint(saved, dm * tanh_c * o * (1 - o), dc, coupled)
        return dz, dz, d_values

    return _stage(slice(0, 3 if coupled else 4), output, forward, adjoint)


def _normalised_gates(output, coupled):
    """Return the same stage with layer normalisation."""

    def forward(zx, zh, values):
        x, deviation_x = _normalise(zx)
        h, deviation_h = _normalise(zh)
        gain_ih, gain_hh, gain_c = values["gain_ih"], values["gain_hh"], values["gain_c"]
        z = gain_ih * x + gain_hh * h + values.get("bias", 0)
        o, c, saved = _state(z, values, coupled)
        y, deviation_c = _normalise(c)
        t = np.tanh(gain_c * y + values.get("bias_c", 0))
        kept = (
            (x, gain_ih, deviation_x),
            (h, gain_hh, deviation_h),
            (y, gain_c, deviation_c),
            (o, t),
            "bias" in values,
            saved,
        )
        return {output: o * t, "c": c}, kept

    def adjoint(kept, d_outputs):
        (x, gain_ih, deviation_x), (h, gain_hh, deviation_h), of_c, (o, t), has_bias, saved = kept
        y, gain_c, deviation_c = of_c
        dm = d_outputs[output]
        da = dm * o * (1 - t * t)
        dc = d_outputs["c"] + _normalise_adjoint(da * gain_c, y, deviation_c)
        dz, d_values = _state_adjoint(saved, dm * t * o * (1 - o), dc, coupled)
        d_values |= {
            "gain_ih": (dz * x).sum(axis=0),
            "gain_hh": (dz * h).sum(axis=0),
            "gain_c": (da * y).sum(axis=0),
        }
        if has_bias:
            d_values |= {"bias": dz.sum(axis=0), "bias_c": da.sum(axis=0)}
        d_zx = _normalise_adjoint(dz * gain_ih, x, deviation_x)
        d_zh = _normalise_adjoint(dz * gain_hh, h, deviation_h)
        return d_zx, d_zh, d_values

    return _stage(slice(0, 3 if coupled else 4), output, forward, adjoint)


def _stage(gates, output, forward, adjoint):
    return Stage("h", "weight_hh", "bias_hh", gates, (output, "c"), forward, adjoint)


def _variants(name, gates, make_stage, vectors):
    """Return a cell without and with a projection."""
    states = ("h", "c")
    return (
        CellSpec(name, gates, states, (make_stage("h"),), vectors),
        CellSpec(f"{name}_projected", gates, states, (make_stage("m"), projection), vectors),
    )


def _vectors(gates):
    """Return the vectors of a cell with normalisation."""
    norms = (("gain_ih", gates), ("gain_hh", gates), ("bias", gates), ("gain_c", 1), ("bias_c", 1))
    return (("peephole", gates - 1), *norms)


VARIANTS = (
    *_variants("lstm_peephole", GATES, lambda m: _gates(m, coupled=False), (("peephole", 3),)),
    *_variants(
        "lstm_coupled", COUPLED_GATES, lambda m: _gates(m, coupled=True), (("peephole", 2),)
    ),
    *_variants(
        "lstm_normalised", GATES, lambda m: _normalised_gates(m, coupled=False), _vectors(4)
    ),
    *_variants(
        "lstm_coupled_normalised",
        COUPLED_GATES,
        lambda m: _normalised_gates(m, coupled=True),
        _vectors(3),
    ),
)
