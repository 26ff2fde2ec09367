"""The activation functions of Keras, by name.

Source: https://keras.io/api/layers/activations/, with the defaults of their parameters.
"""

import numpy as np
from scipy.special import erf, softmax

from fastrnn.cells.base import sigmoid
from fastrnn.interop._cells import relu, tanh


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _selu(x: np.ndarray) -> np.ndarray:
    # The constants for which mean 0 and variance 1 are a fixed point (Klambauer et al., 2017).
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": relu,
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x >= 0, x, 0.2 * x),
    "elu": _elu,
    "selu": _selu,
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(x.dtype.type(2)))),
    "silu": lambda x: x * sigmoid(x),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "tanh": tanh,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softmax": lambda x: softmax(x, axis=-1),
    "exponential": np.exp,
}
