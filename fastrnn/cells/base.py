"""The description of a recurrent cell: the parts of one time step, and nothing about time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Stage:
    """A recurrent product followed by a pointwise function.

    With ``values`` the arrays known when the stage begins (the states, and what earlier stages of
    the step produced), n rows and H hidden units, a loop over time computes ::

        zh = values[operand] @ weight.T + bias      (n, k*H) for k gates; (n, P) for a projection
        zx = the columns of x @ weight_ih.T + bias_ih that belong to `gates`             (n, k*H)
        outputs, saved = forward(zx, zh, values)

    and puts ``outputs`` into ``values``. Walking backwards it computes ::

        d_zx, d_zh, d_values = adjoint(saved, d_outputs)
        d_values[operand] += d_zh @ weight

    Attributes
    ----------
    operand : str
        The value that is multiplied: ``"h"``, or what an earlier stage produced.
    weight : str
        ``"weight_hh"`` or ``"weight_hr"``.
    bias : str or None
        ``"bias_hh"`` or None.
    gates : slice or None
        Which of the cell's gates this stage computes, hence which blocks of H rows of the weight
        and of H columns of the input product it takes. None: the whole weight, no input part.
    outputs : tuple of str
        The names that ``forward`` produces.
    forward : callable
        ``forward(zx, zh, values) -> (outputs, saved)``. Writes to none of its arguments; ``saved``
        is whatever its adjoint needs.
    adjoint : callable
        ``adjoint(saved, d_outputs) -> (d_zx, d_zh, d_values)``. ``d_outputs`` holds a gradient for
        every name in `outputs`; ``d_values`` the gradients of the values at entry other than
        through zh. ``d_zx`` is None where `gates` is. None: the cell is for inference alone.
    """

    operand: str
    weight: str
    bias: str | None
    gates: slice | None
    outputs: tuple[str, ...]
    forward: Callable[[np.ndarray | None, np.ndarray, Values], tuple[Values, Any]]
    adjoint: Callable[[Any, Values], tuple[np.ndarray | None, np.ndarray, Values]] | None


@dataclass(frozen=True, eq=False)
class CellSpec:
    """A recurrent cell.

    Attributes
    ----------
    name : str
        Its key in `fastrnn.cells.CELLS`.
    gates : tuple of str
        The blocks of H rows in ``weight_ih`` and ``weight_hh``, in their order.
    states : tuple of str
        What a step hands to the next; the first, ``"h"``, is the output.
    stages : tuple of Stage
        What a step does, in order.
    vectors : tuple of (str, int)
        Parameters of the cell's own, by name, and how many times H they are long. A layer may leave
        one out, if the cell says so. Stages find them among their values, and return their
        gradients, summed over the rows, among those of the values.
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    stages: tuple[Stage, ...]
    vectors: tuple[tuple[str, int], ...] = ()


def split(z: np.ndarray, count: int) -> np.ndarray:
    """Return (n, count*H) as (count, n, H) views, one a gate."""
    return z.reshape(len(z), count, z.shape[1] // count).swapaxes(0, 1)


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)); this form neither overflows nor cancels."""
    return np.exp(np.minimum(z, 0)) / (1 + np.exp(-np.abs(z)))
