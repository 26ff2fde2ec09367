"""The simple (Elman) recurrent cell.

::

    h' = f(W_ih x + b_ih + W_hh h + b_hh)       f = tanh or relu

and, with dh' the gradient of h' and f' written by its own output, ::

    dz = dh' * f'(z)        tanh: 1 - h'^2      relu: 1 where h' > 0, else 0

Source: J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990), in the notation of
``torch.nn.RNN``, whose derivative of relu at 0 is 0.
"""

import numpy as np

from fastrnn.cells.base import CellSpec, Stage


def _simple(name, function, back):
    def forward(zx, zh, values):
        h = function(zx + zh)
        return {"h": h}, h

    def adjoint(h, d_outputs):
        dz = back(h, d_outputs["h"])
        return dz, dz, {}

    stage = Stage("h", "weight_hh", "bias_hh", slice(0, 1), ("h",), forward, adjoint)
    return CellSpec(name, gates=("h",), states=("h",), stages=(stage,))


rnn_tanh = _simple("rnn_tanh", np.tanh, lambda h, dh: dh * (1 - h * h))
# Not a product: no gradient passes a unit that is off, not even an infinite one (0 * inf is NaN). A
# unit that is NaN is not off.
rnn_relu = _simple("rnn_relu", lambda z: np.maximum(z, 0), lambda h, dh: np.where(h != 0, dh, 0))
