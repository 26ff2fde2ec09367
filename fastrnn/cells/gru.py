"""The gated recurrent unit, with the reset gate after or before the recurrent product.

Reset after the product (``torch.nn.GRU``, cuDNN and Keras by default)::

    r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
    z  = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
    n  = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h' = (1 - z) * n + z * h

and, with dh' the gradient of h' and a the argument of tanh, ::

    da = dh' * (1 - z) * (1 - n^2)          dz = dh' * (h - n) * z * (1 - z)
    dr = da * (W_hn h + b_hn) * r * (1 - r)
    of W_hn h + b_hn: da * r                and dh' * z goes on to h

Reset before the product, as first published, is two stages, since its second product needs r::

    m  = r * h
    n  = tanh(W_in x + b_in + W_hn m + b_hn)

Source: K. Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014. The
form after the product, the gate order and the role of z are those of ``torch.nn.GRU``.
"""

import numpy as np

from fastrnn.cells.base import CellSpec, Stage, sigmoid, split

GATES = ("r", "z", "n")


def _forward(zx, zh, values):
    xr, xz, xn = split(zx, 3)
    hr, hz, hn = split(zh, 3)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    h = values["h"]
    return {"h": (1 - z) * n + z * h}, (r, z, n, h, hn)


def _adjoint(saved, d_outputs):
    r, z, n, h, hn = saved
    dh = d_outputs["h"]
    da = dh * (1 - z) * (1 - n * n)
    dr = da * hn * r * (1 - r)
    dz = dh * (h - n) * z * (1 - z)
    d_zx = np.concatenate((dr, dz, da), axis=1)
    d_zh = np.concatenate((dr, dz, da * r), axis=1)
    return d_zx, d_zh, {"h": dh * z}


def _reset_forward(zx, zh, values):
    r, z = sigmoid(split(zx + zh, 2))
    h = values["h"]
    return {"m": r * h, "z": z}, (r, z, h)


def _reset_adjoint(saved, d_outputs):
    r, z, h = saved
    dr = d_outputs["m"] * h * r * (1 - r)
    dz = d_outputs["z"] * z * (1 - z)
    d = np.concatenate((dr, dz), axis=1)
    return d, d, {"h": d_outputs["m"] * r}


def _update_forward(zx, zh, values):
    n, z, h = np.tanh(zx + zh), values["z"], values["h"]
    return {"h": (1 - z) * n + z * h}, (n, z, h)


def _update_adjoint(saved, d_outputs):
    n, z, h = saved
    dh = d_outputs["h"]
    da = dh * (1 - z) * (1 - n * n)
    return da, da, {"z": dh * (h - n), "h": dh * z}


def _stage(operand, gates, outputs, forward, adjoint):
    return Stage(operand, "weight_hh", "bias_hh", gates, outputs, forward, adjoint)


gru = CellSpec("gru", GATES, ("h",), (_stage("h", slice(0, 3), ("h",), _forward, _adjoint),))
gru_reset_before = CellSpec(
    "gru_reset_before",
    GATES,
    states=("h",),
    stages=(
        _stage("h", slice(0, 2), ("m", "z"), _reset_forward, _reset_adjoint),
        _stage("m", slice(2, 3), ("h",), _update_forward, _update_adjoint),
    ),
)
