"""The activation functions of Keras, by name. None is a lambda, so that models can be pickled.

Source: https://keras.io/api/layers/activations/, with the defaults of their parameters.
"""

from functools import partial

import numpy as np
from scipy.special import erf, log_softmax, softmax

from fastrnn.cells.base import sigmoid
from fastrnn.interop._pointwise import elu, hard_sigmoid, leaky_relu, relu, softplus, softsign


def _linear(x: np.ndarray) -> np.ndarray:
    return x


def _relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)


def _selu(x: np.ndarray) -> np.ndarray:
    # The constants for which mean 0 and variance 1 are a fixed point (Klambauer et al., 2017).
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * elu(x, alpha)


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + erf(x / np.sqrt(x.dtype.type(2))))


def _silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def _hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / 6 + 0.5, 0, 1)


def _mish(x: np.ndarray) -> np.ndarray:
    return x * np.tanh(softplus(x))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    return log_softmax(x, axis=-1)


def _softmax(x: np.ndarray) -> np.ndarray:
    return softmax(x, axis=-1)


ACTIVATIONS = {
    "linear": _linear,
    "relu": relu,
    "relu6": _relu6,
    "leaky_relu": partial(leaky_relu, alpha=0.2),
    "elu": elu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": _silu,
    "sigmoid": sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "hard_sigmoid_2": partial(hard_sigmoid, alpha=0.2, beta=0.5),
    "tanh": np.tanh,
    "softsign": softsign,
    "softplus": softplus,
    "mish": _mish,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "exponential": np.exp,
}
