"""The arguments of a backend: a run of a cell over all steps, and the adjoint of a run.

The compiled backend has its own class for `Run`, with the same constructor.
"""

from typing import NamedTuple

import numpy as np

from fastrnn.cells import CellSpec

Weights = dict[str, np.ndarray]


class Extras(NamedTuple):
    """The options of a run, besides the cell, its weights and its input.

    Attributes
    ----------
    cell_clip : float
        The bound of the cell's state, for cells that have one.
    recurrent_mask : ndarray, shape (B, P), or None
        Multiplies the operands of all products with ``weight_hh``, at every step: recurrent
        dropout. Rows are sorted as those of the state.
    zoneout : tuple of ndarray or None
        For each state a mask z (N, width), packed like the input, or (1, width) for all rows: the
        state after a step is ``z * before + (1 - z) * after``.
    """

    cell_clip: float = np.inf
    recurrent_mask: np.ndarray | None = None
    zoneout: tuple[np.ndarray, ...] | None = None


class Run(NamedTuple):
    """One layer in one direction over all steps.

    Sequences are *packed*: ``x`` holds the rows of step 0, then those of step 1, and so on; step t
    owns the rows ``offsets[t]:offsets[t + 1]``, one for each sequence that is still running,
    longest sequence first, so that the rows of a step are always the first rows of the state.
    Without lengths that is just (T, B, I) seen as (T*B, I).

    Attributes
    ----------
    cell : CellSpec
    weights : dict
        ``weight_ih`` (G*H, I), ``weight_hh`` (G*H, P) and, where the layer has them, ``bias_ih``
        and ``bias_hh`` (G*H,), ``weight_hr`` (P, H) and the cell's own vectors. P is the width of
        h, H if not projected.
    x : ndarray, shape (N, I), or of int64, shape (N,)
        Packed input rows; or ids, of the rows of ``weights["embedding"]`` (V, I) or, without it, of
        unit vectors (one-hot). A tape refers to them and to the weights, so nobody may write there.
    offsets : ndarray of int64, shape (T + 1,)
        Where each step's rows begin in `x`; the steps never grow, and N is the last offset.
    state : tuple of ndarray, each (B, width)
        Initial states in the order of ``cell.states``, rows sorted as those of `x`. Rows beyond the
        first step's are sequences of length 0 and keep their state.
    out : ndarray, shape (N, P)
        Filled with h at every step; may be a column slice of a wider array.
    reverse : bool
        Run each sequence from its own last step to step 0.
    keep_tape : bool
        Return what the adjoint needs.
    extras : Extras or None
        None for none.
    """

    cell: CellSpec
    weights: Weights
    x: np.ndarray
    offsets: np.ndarray
    state: tuple[np.ndarray, ...]
    out: np.ndarray
    reverse: bool = False
    keep_tape: bool = False
    extras: Extras | None = None


class AdjointRun(NamedTuple):
    """The arguments of the adjoint of a run, besides its tape.

    Attributes
    ----------
    d_out : ndarray, shape (N, P), or None
        Gradient of ``out``; None is zero, as below.
    d_final : tuple of (ndarray, shape (B, width), or None), or None
        Gradients of the final states.
    gradients : dict
        Arrays named and shaped like ``weights``, which are added into.
    input_gradient : bool
        False leaves out the gradient of ``x``.
    """

    d_out: np.ndarray | None
    d_final: tuple[np.ndarray | None, ...] | None
    gradients: Weights
    input_gradient: bool = True
