"""The time loop in NumPy, for any cell: the truth that the compiled backend is tested against."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import empty

from fastrnn.backends.ctc import ctc
from fastrnn.backends.functional import (
    adam,
    add_affine,
    affine,
    affine_adjoint,
    norm,
    sgd,
    softmax_cross_entropy,
)
from fastrnn.backends.runs import AdjointRun, Extras, Run, Weights
from fastrnn.cells import CELLS, CellSpec, Stage

__all__ = [
    "MOST_KEPT",
    "Run",
    "Stepper",
    "adam",
    "affine",
    "affine_adjoint",
    "ctc",
    "empty",
    "norm",
    "replay",
    "scan_adjoints",
    "scans",
    "sgd",
    "softmax_cross_entropy",
]


# Bytes of a layer's output up to which calls may be replayed: there is no replay here.
MOST_KEPT = 0

# Underflow gives zero without a warning, as in the core, whatever the caller has set in NumPy.
_QUIET = np.errstate(under="ignore")


class Tape(NamedTuple):
    """What `scan` keeps for `scan_adjoint`, which reads it once."""

    cell: CellSpec
    weights: Weights
    x: np.ndarray
    shapes: list[tuple[int, int]]  # of the states
    steps: list[slice]  # the rows of each step, in the order in which they ran
    operands: list[np.ndarray]  # of each stage, (N, width): what its weight multiplied
    extras: Extras
    saved: list[list]  # of each step, of each stage: what its pointwise function kept


@_QUIET
def scan(run: Run) -> tuple[tuple[np.ndarray, ...], Tape | None]:
    """Run a cell over all steps.

    Returns
    -------
    final_state : tuple of ndarray, each (B, width)
        New arrays: the states after each sequence's own last step.
    tape : Tape or None
        What the adjoint needs, where the run says to keep it.
    """
    cell, weights, x, offsets, state, out, reverse, keep_tape, extras = run
    extras = extras or Extras()
    steps = [slice(*rows) for rows in zip(offsets[:-1].tolist(), offsets[1:].tolist())]
    if reverse:
        steps.reverse()
    zx = _input_product(weights, x)
    blocks = [_blocks(cell, stage, weights) for stage in cell.stages]
    operands = (
        [np.empty((len(x), w.shape[1]), weights["weight_ih"].dtype) for _, w, _ in blocks]
        if keep_tape
        else []
    )
    saved = []
    now = {name: array.copy() for name, array in zip(cell.states, state)}
    constants = {name: weights[name] for name, _ in cell.vectors if name in weights}
    constants["cell_clip"] = extras.cell_clip
    for rows in steps:
        n = rows.stop - rows.start
        before = {name: array[:n] for name, array in now.items()}
        values = {**constants, **before}
        step_saved = []
        for k, (stage, (columns, weight, bias)) in enumerate(zip(cell.stages, blocks)):
            operand = _masked(values[stage.operand], stage, extras)
            part = None if columns is None else zx[rows, columns]
            outputs, kept = stage.forward(part, affine(operand, weight, bias), values)
            values.update(outputs)
            if keep_tape:
                operands[k][rows] = operand
                step_saved.append(kept)
        if keep_tape:
            saved.append(step_saved)
        for name, z in _zoneout(cell, extras, rows):
            values[name] = z * before[name] + (1 - z) * values[name]
        out[rows] = values["h"]
        # Sequences that are not running at this step keep their state.
        now = {name: np.concatenate((values[name], now[name][n:])) for name in now}
    tape = None
    if keep_tape:
        shapes = [array.shape for array in state]
        tape = Tape(cell, weights, x, shapes, steps, operands, extras, saved)
    return tuple(now.values()), tape


def replay(
    groups: list[list[Run]],
    values: np.ndarray,
    x_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    state_shapes: tuple[tuple[int, ...], ...],
    swaps_axes: bool,
    before: Any = None,
) -> Any:
    """Return an object that repeats the inference of a stack on other inputs, or None.

    Parameters
    ----------
    groups : list of list of Run
        Of each layer, its passes. They have run without a tape, and read the rows that the layer
        below made.
    values : ndarray, shape (N,)
        The buffer of the weights.
    x_shape, output_shape : tuple of int
        Of the caller's arrays, none of whose rows is padding.
    state_shapes : tuple of tuple of int
    swaps_axes : bool
        Whether the caller's first two axes are (B, T), unlike the packed rows.
    before : object or None
        The layer's replay so far.

    Returns
    -------
    replay : object or None
        Its ``run(x, state, values)`` returns ``(output, state)``, or None for arguments unlike
        those of the first call, or where other threads use it: the caller then has to run in the
        usual way. Here always None.
    """
    return None


@_QUIET
def scan_adjoint(tape: Tape, run: AdjointRun) -> tuple[np.ndarray | None, tuple[np.ndarray, ...]]:
    """Run the adjoint of `scan`: backpropagation through time.

    Parameters
    ----------
    tape : Tape
        The weights are still those of its run.
    run : AdjointRun

    Returns
    -------
    d_x : ndarray, shape (N, I), or None for ids and where it is left out
    d_initial : tuple of ndarray, each (B, width)
    """
    d_out, d_final, gradients, input_gradient = run
    cell, weights, x, shapes, steps, operands, extras, saved = tape
    blocks = [_blocks(cell, stage, weights) for stage in cell.stages]
    d_zx = np.empty((len(x), len(weights["weight_ih"])), weights["weight_ih"].dtype)
    d_zh = [np.empty((len(x), len(weight)), weights["weight_ih"].dtype) for _, weight, _ in blocks]
    d_final = [None] * len(shapes) if d_final is None else d_final
    d_now = {
        name: np.zeros(shape, weights["weight_ih"].dtype) if d is None else d.copy()
        for name, shape, d in zip(cell.states, shapes, d_final)
    }
    for rows in reversed(steps):
        n = rows.stop - rows.start
        step_saved = saved.pop()
        d_values = {name: d[:n] for name, d in d_now.items()}
        if d_out is not None:
            d_values["h"] = d_values["h"] + d_out[rows]
        d_kept = {}
        for name, z in _zoneout(cell, extras, rows):
            d_kept[name], d_values[name] = z * d_values[name], (1 - z) * d_values[name]
        for k in reversed(range(len(cell.stages))):
            stage, (columns, weight, _) = cell.stages[k], blocks[k]
            d_outputs = {name: d_values.pop(name) for name in stage.outputs}
            d_part, d_product, d_entry = stage.adjoint(step_saved[k], d_outputs)
            if columns is not None:
                d_zx[rows, columns] = d_part
            d_zh[k][rows] = d_product
            d_operand = _masked(d_product @ weight, stage, extras)
            for name, d in ((stage.operand, d_operand), *d_entry.items()):
                d_values[name] = d_values[name] + d if name in d_values else d
        for name, d in d_kept.items():
            d_values[name] = d_values[name] + d
        for name, _ in cell.vectors:
            if name in gradients and rows.stop > rows.start:
                gradients[name] += d_values[name]
        d_now = {name: np.concatenate((d_values[name], d_now[name][n:])) for name in d_now}
    # For each weight one product over all steps, not one a step.
    d_x = _input_gradient(weights, gradients, x, d_zx)
    for k, stage in enumerate(cell.stages):
        _, d_weight, d_bias = _blocks(cell, stage, gradients)
        add_affine(d_zh[k], operands[k], d_weight, d_bias)
    return d_x if input_gradient else None, tuple(d_now.values())


def scans(
    runs: list[Run], most_threads: int | None = None
) -> list[tuple[tuple[np.ndarray, ...], Tape | None]]:
    """Return what `scan` returns, for one run or for two that are independent of each other.

    Two runs, such as both directions of a layer, may run at the same time. The compiled backend
    uses at most `most_threads` threads, here and below; None is the number of `set_num_threads`.
    """
    return [scan(run) for run in runs]


def scan_adjoints(
    tapes: list[Tape], runs: list[AdjointRun], most_threads: int | None = None
) -> list[tuple[np.ndarray | None, tuple[np.ndarray, ...]]]:
    """Return what `scan_adjoint` returns for each; no two may add into the same array."""
    return [scan_adjoint(tape, run) for tape, run in zip(tapes, runs)]


def _masked(operand: np.ndarray, stage: Stage, extras: Extras) -> np.ndarray:
    """Return the operand of a stage, or its gradient, under recurrent dropout."""
    if extras.recurrent_mask is None or stage.weight != "weight_hh":
        return operand
    return operand * extras.recurrent_mask[: len(operand)]


def _zoneout(cell: CellSpec, extras: Extras, rows: slice) -> list[tuple[str, np.ndarray]]:
    """Return the zoneout mask of each state for the rows of a step."""
    masks = extras.zoneout or ()
    return [(name, z if len(z) == 1 else z[rows]) for name, z in zip(cell.states, masks)]


def _input_product(weights: Weights, x: np.ndarray) -> np.ndarray:
    """Return the input product of all rows (N, G*H); for one-hot ids it is looked up."""
    weight, bias = weights["weight_ih"], weights.get("bias_ih")
    if x.ndim == 2:
        return affine(x, weight, bias)
    if "embedding" in weights:
        return affine(weights["embedding"][x], weight, bias)
    return weight.T[x] if bias is None else weight.T[x] + bias


def _input_gradient(
    weights: Weights, gradients: Weights, x: np.ndarray, d_zx: np.ndarray
) -> np.ndarray | None:
    """Add the gradients of the input product's weights; return that of x, None for ids."""
    weight, d_weight, d_bias = (
        weights["weight_ih"],
        gradients["weight_ih"],
        gradients.get("bias_ih"),
    )
    if x.ndim == 2:
        return affine_adjoint(d_zx, x, weight, d_weight, d_bias)
    if "embedding" in weights:
        rows = weights["embedding"][x]
        d_rows = affine_adjoint(d_zx, rows, weight, d_weight, d_bias)
        np.add.at(gradients["embedding"], x, d_rows)
    else:
        np.add.at(d_weight.T, x, d_zx)
        if d_bias is not None:
            d_bias += d_zx.sum(axis=0, dtype=np.float64)
    return None


class Stepper:
    """Advances a stack of one cell step by step, with the states kept in place.

    Parameters
    ----------
    cell : str
    current_weights : callable
        Returns a list with the weights of each layer, by name, as they now are.
    buffers : list
        Not used: `current_weights` is called at each step.
    states : tuple of ndarray, each (layers, B, width)
        Are advanced in place.
    check : callable
        ``x, out = check(x, out)`` brings a step's arguments into the form the layer wants, (B, I)
        or (I,), or raises.
    extras : Extras or None
        As of a `Run`; masks have one row.
    """

    def __init__(self, cell, current_weights, buffers, states, check, extras=None):
        self._cell, self._current_weights = CELLS[cell], current_weights
        self._states, self._check, self._extras = states, check, extras
        self._offsets = np.array([0, states[0].shape[1]], np.int64)
        # The process and the call of the thread that is in a method; `setdefault` lets one in.
        self._inside: dict[str, tuple[int, object]] = {}

    def copy_states(self) -> tuple[np.ndarray, ...]:
        """Return copies of the states, never in the middle of a step.

        Raises
        ------
        RuntimeError
            If another thread is in a step, or in this or the next method.
        """
        return self._alone(lambda: tuple([array.copy() for array in self._states]))

    def set_states(self, values: tuple[np.ndarray, ...]) -> None:
        """Set the states to these values, of the same shapes; RuntimeError as above."""

        def write() -> None:
            for array, value in zip(self._states, values):
                array[...] = value

        inside = self._inside.get("call")
        if inside is not None and inside[0] != os.getpid():
            self._inside.clear()  # by another thread of the parent of fork(), it never ends here
        self._alone(write)

    def step(self, x: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Advance every sequence by one step; see `fastrnn.streaming.Stream.step`."""
        x, out = self._check(x, out)
        y = self._alone(lambda: self._advance(x))
        if out is None:
            return y
        out[...] = y
        return out

    def _alone(self, work: Callable[[], Any]) -> Any:
        call = (os.getpid(), object())
        try:  # around all of it: a signal handler may raise after any call
            if self._inside.setdefault("call", call) is not call:
                raise RuntimeError(
                    "a stream must be one thread's at a time, got another thread's call"
                )
            return work()
        finally:
            try:
                if self._inside["call"] is call:
                    del self._inside["call"]
            except KeyError:  # it was another's call, which has ended meanwhile
                pass

    @_QUIET
    def _advance(self, x: np.ndarray) -> np.ndarray:
        h = x.reshape(self._offsets[1], -1)
        for layer, weights in enumerate(self._current_weights()):
            below, h = h, np.empty_like(self._states[0][layer])
            before = [array[layer] for array in self._states]
            after, _ = scan(
                Run(self._cell, weights, below, self._offsets, before, h, extras=self._extras)
            )
            for array, value in zip(self._states, after):
                array[layer] = value
        return h[0] if x.ndim == 1 else h


def _blocks(
    cell: CellSpec, stage: Stage, weights: Weights
) -> tuple[slice | None, np.ndarray, np.ndarray | None]:
    """Return a stage's columns of the input product and its rows of its weight and bias."""
    weight, bias = weights[stage.weight], weights.get(stage.bias)
    if stage.gates is None:
        return None, weight, bias
    H = len(weight) // len(cell.gates)
    rows = slice(stage.gates.start * H, stage.gates.stop * H)
    return rows, weight[rows], None if bias is None else bias[rows]
