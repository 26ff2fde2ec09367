"""Initial parameters of recurrent layers, by name.

A weight (G*H, I) has a block (H, I) for each of G gates. Blocks are drawn one by one, so that a
gate begins as it would alone. For one gate these functions are those of the same names in PyTorch
and Keras.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrnn._validation import check_choice

# Draws a block (rows, columns), or (rows,), of a layer with H units.
Initializer = Callable[[np.random.Generator, tuple[int, ...], int], np.ndarray]


def uniform(generator: np.random.Generator, shape: tuple[int, ...], H: int) -> np.ndarray:
    """Draw from +-1 / sqrt(H), as PyTorch's recurrent layers begin."""
    bound = 1 / math.sqrt(H)
    return generator.uniform(-bound, bound, shape)


def glorot_uniform(generator: np.random.Generator, shape: tuple[int, ...], H: int) -> np.ndarray:
    """Draw from +-sqrt(6 / (rows + columns)).

    Source: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010; PyTorch's ``xavier_uniform_``.
    """
    bound = math.sqrt(6 / sum(shape))
    return generator.uniform(-bound, bound, shape)


def orthogonal(generator: np.random.Generator, shape: tuple[int, ...], H: int) -> np.ndarray:
    """Draw a matrix with orthonormal rows or columns, whichever are fewer.

    Source: A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks", ICLR 2014.
    """
    rows, columns = shape
    q, r = np.linalg.qr(generator.standard_normal((max(shape), min(shape))))
    q *= np.where(np.diag(r) < 0, -1, 1)  # else not all such matrices are equally likely
    return q if rows >= columns else q.T


def zeros(generator: np.random.Generator, shape: tuple[int, ...], H: int) -> np.ndarray:
    """Return zeros."""
    return np.zeros(shape)


INITIALIZERS: dict[str, Initializer] = {
    "uniform": uniform,
    "glorot_uniform": glorot_uniform,
    "xavier_uniform": glorot_uniform,
    "orthogonal": orthogonal,
    "zeros": zeros,
}
# Of vectors, which have no columns.
VECTOR_INITIALIZERS = ("uniform", "zeros")
KINDS = ("weight_ih", "weight_hh", "weight_hr", "bias")


def check_init(init: Any) -> dict[str, str]:
    """Return the initialiser of each of `KINDS`.

    Parameters
    ----------
    init : str or mapping
        A name is that of all weights; biases are then zero, or uniform with ``"uniform"``. A
        mapping gives names to some kinds; the others are uniform.

    Raises
    ------
    ValueError
        For an unknown name or kind, or a bias with an initialiser of matrices.
    """
    if isinstance(init, Mapping):
        for kind in init:
            check_choice("init's kind", kind, KINDS)
        names = dict.fromkeys(KINDS, "uniform") | dict(init)
    else:
        check_choice("init", init, INITIALIZERS)
        names = dict.fromkeys(KINDS, init)
        names["bias"] = "uniform" if init == "uniform" else "zeros"
    for kind, name in names.items():
        choices = VECTOR_INITIALIZERS if kind == "bias" else INITIALIZERS
        check_choice(f"init of {kind}", name, choices)
    return names


def initialize(
    array: np.ndarray, kind: str, init: Mapping[str, str], generator: np.random.Generator, H: int
) -> None:
    """Fill a parameter of a recurrent layer with H units.

    Parameters
    ----------
    array : ndarray, shape (G*H, columns), (P, H) or (G*H,)
    kind : str
        Its name in a cell.
    init : dict
        From `check_init`.
    generator : numpy.random.Generator
    H : int
    """
    function = INITIALIZERS[init[kind if kind in init else "bias"]]
    for block in [array] if kind == "weight_hr" else array.reshape(-1, H, *array.shape[1:]):
        block[...] = function(generator, block.shape, H)
