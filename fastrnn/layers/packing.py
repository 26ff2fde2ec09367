"""The map between a caller's sequences and the packed rows that a backend reads."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_lengths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


# A packing of more steps is not kept for the next call: it holds up to 128 bytes a step.
MOST_STEPS_KEPT = 4096


class Packing:
    """Puts rows into the order in which a backend reads them, and back into the caller's order.

    Packed rows (N, width) are those of step 0, then those of step 1, and so on; a step has a row
    for each sequence that is still running, longest sequence first. Padding has no row, so it is
    never read. States (layers, B, width) have their sequences in the same order.

    Parameters
    ----------
    shape : tuple of int
        Leading axes of the caller's arrays: (T, B), (B, T) if `batch_first`, or (T,).
    batch_first : bool
    lengths : array_like of int or None, shape (B,)
        Valid steps of each sequence, each in 0..T. None: all T.
    names : pair of str
        What the caller calls the arrays and the lengths.

    Attributes
    ----------
    B : int
        Number of sequences, 1 for (T,).
    offsets : ndarray of int64, shape (number of steps + 1,)
        Where each step's rows begin; the last is N. Steps end with the longest sequence.

    Raises
    ------
    ValueError
        If T = 0, or a length is not in 0..T.
    TypeError
        If lengths are not integers.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        batch_first: bool,
        lengths: ArrayLike | None = None,
        names: tuple[str, str] = ("x", "lengths"),
    ) -> None:
        self._shape = shape
        self._batch_first = batch_first and len(shape) == 2
        T, B = shape[::-1] if self._batch_first else (shape[0], 1) if len(shape) == 1 else shape
        if T == 0:
            raise ValueError(f"{names[0]} must have at least 1 step, got T = 0 in {shape}")
        self.B = B
        self._order = self._rows = None
        if lengths is None:
            self.offsets = np.arange(T + 1, dtype=np.int64) * B
            self.offsets.flags.writeable = False
            return
        lengths = check_lengths(lengths, T, B, names[1])
        order = self._order = (-lengths).argsort(kind="stable")
        steps = np.arange(lengths.max(initial=0) + 1)
        self.offsets = np.minimum(lengths[:, None], steps).sum(axis=0)
        steps = steps[:-1, None]
        rows = steps + order * T if self._batch_first else steps * B + order
        self._rows = rows[steps < lengths[order]]

    @property
    def is_even(self) -> bool:
        """Whether no row is padding: packed rows are all of the caller's, in the order of time."""
        return self._rows is None

    @property
    def swaps_axes(self) -> bool:
        """Whether packed rows have another order in memory than the caller's."""
        return self._batch_first and min(self._shape) > 1

    def sequences(self) -> np.ndarray:
        """Return for each packed row the index of its sequence in a sorted state, int64 (N,)."""
        sizes = np.diff(self.offsets)
        return np.arange(self.offsets[-1]) - np.repeat(self.offsets[:-1], sizes)

    def pack(self, x: np.ndarray) -> np.ndarray:
        """Return the packed rows (N, width) of `x` (*shape, width): a view where nothing moves."""
        if self._rows is None:
            x = x.swapaxes(0, 1) if self._batch_first else x
            return x.reshape(-1, x.shape[-1])
        return x.reshape(-1, x.shape[-1]).take(self._rows, axis=0)

    def pack_ids(self, ids: np.ndarray) -> np.ndarray:
        """Return the ids (N,) of the packed rows of `ids` (*shape): a view where nothing moves."""
        if self._rows is None:
            return (ids.T if self._batch_first else ids).reshape(-1)
        return ids.reshape(-1).take(self._rows)

    def unpack(self, rows: np.ndarray) -> np.ndarray:
        """Return (*shape, width) with `rows` (N, width) in place, zeros in the padding."""
        width = rows.shape[1]
        if self._rows is not None:
            x = np.zeros((*self._shape, width), rows.dtype)
            x.reshape(-1, width)[self._rows] = rows
            return x
        if self._batch_first:
            return rows.reshape(*self._shape[::-1], width).swapaxes(0, 1)
        return rows.reshape(*self._shape, width)

    def sort(self, state: np.ndarray) -> np.ndarray:
        """Return a caller's state as (layers, B, width), in the order of the packed rows."""
        if len(self._shape) == 1:
            return state[:, None]
        return state if self._order is None else state.take(self._order, axis=1)

    def restore(self, state: np.ndarray) -> np.ndarray:
        """Return a state that is in the order of the packed rows as the caller's."""
        if len(self._shape) == 1:
            return state[:, 0]
        if self._order is None:
            return state
        restored = np.empty_like(state)
        restored[:, self._order] = state
        return restored


def packing_of(
    shape: tuple[int, ...], batch_first: bool, lengths: ArrayLike | None, names: tuple[str, str]
) -> Packing:
    """Return a `Packing`; without lengths it may be one of an earlier call."""
    if lengths is None and max(shape) <= MOST_STEPS_KEPT:
        return _kept(shape, batch_first, None, names)
    return Packing(shape, batch_first, lengths, names)


_kept = lru_cache(maxsize=16)(Packing)
