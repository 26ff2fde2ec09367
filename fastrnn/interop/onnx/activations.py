"""The activation functions of ONNX's recurrent operators.

Source: the operators' documentation, https://onnx.ai/onnx/operators/onnx__LSTM.html; defaults of
alpha and beta as the ONNX operators of the same names, in their versions before opset 7 where they
have been removed since (Affine, ScaledTanh).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn.cells.base import sigmoid
from fastrnn.interop._pointwise import elu, hard_sigmoid, leaky_relu, relu, softplus, softsign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Function = Callable[..., np.ndarray]


class Activation(NamedTuple):
    """A pointwise function and the defaults of the parameters that it takes."""

    function: Function
    alpha: float | None = None
    beta: float | None = None


ACTIVATIONS = {
    "Relu": Activation(relu),
    "Tanh": Activation(np.tanh),
    "Sigmoid": Activation(sigmoid),
    "Affine": Activation(lambda x, alpha, beta: alpha * x + beta, 1.0, 0.0),
    "LeakyRelu": Activation(leaky_relu, 0.01),
    "ThresholdedRelu": Activation(lambda x, alpha: np.where(x >= alpha, x, 0), 1.0),
    "ScaledTanh": Activation(lambda x, alpha, beta: alpha * np.tanh(beta * x), 1.0, 1.0),
    "HardSigmoid": Activation(hard_sigmoid, 0.2, 0.5),
    "Elu": Activation(elu, 1.0),
    "Softsign": Activation(softsign),
    "Softplus": Activation(softplus),
}
_BY_LOWER_NAME = {name.lower(): activation for name, activation in ACTIVATIONS.items()}


def bind_activations(
    names: Sequence[str], alphas: Iterable[float], betas: Iterable[float]
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Return the functions of these names, each with its parameters in place.

    Parameters
    ----------
    names : sequence of str
        In upper or lower case, as exporters write both.
    alphas, betas : iterable of float
        Are used up in the order of the names, by those functions that have the parameter; the
        defaults follow.

    Raises
    ------
    ValueError
        For a name that ONNX does not have.
    """
    alphas, betas = iter(alphas), iter(betas)
    functions = []
    for name in names:
        if name.lower() not in _BY_LOWER_NAME:
            raise ValueError(f"activations must be among {', '.join(ACTIVATIONS)}, got {name!r}")
        function, alpha, beta = _BY_LOWER_NAME[name.lower()]
        taken = {}
        if alpha is not None:
            taken["alpha"] = next(alphas, alpha)
        if beta is not None:
            taken["beta"] = next(betas, beta)
        functions.append(partial(function, **taken) if taken else function)
    return functions
