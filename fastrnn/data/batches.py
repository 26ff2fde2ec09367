"""Windows of truncated back-propagation through time.

A long sequence is cut into ``batch_size`` streams that lie side by side and are read together, a
window of ``seq_length`` steps at a time. Row ``b`` of a window goes on where row ``b`` of the
window before ended, so a model that carries its state from window to window has read the whole
stream, while its gradients reach back to the window's start.

Source: Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent
network trajectories", Neural Computation 2 (1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_array, check_positive_int, check_probability

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Windows(Sequence[tuple[np.ndarray, np.ndarray]]):
    """The windows of one epoch, in order; each is a pair of inputs and of targets one step ahead.

    Parameters
    ----------
    ids : array_like of int, shape (n,)
        The sequence; at least ``batch_size * seq_length + 1`` long, or with ``keep_rest`` 2.
    batch_size : int
        Number of streams B, each of ``(n - 1) // batch_size`` predictions; what is left at the end
        of the sequence is not read.
    seq_length : int
        Steps T of a window.
    keep_rest : bool
        Whether the steps that do not fill a window make a shorter one at the end. With
        ``batch_size=1`` every one of the ``n - 1`` predictions is made then, which is how a text is
        scored.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer or the sequence is too short for one window.

    Notes
    -----
    ``windows[k]`` is ``(inputs, targets)``, both int64 of shape (T, B), time-major views of one
    array.
    """

    def __init__(
        self, ids: ArrayLike, batch_size: int, seq_length: int, *, keep_rest: bool = False
    ) -> None:
        ids = check_array("ids", ids, np.dtype(np.int64), ("n",))
        batch_size = check_positive_int("batch_size", batch_size)
        self.seq_length = check_positive_int("seq_length", seq_length)
        stream = (ids.size - 1) // batch_size
        steps = stream if keep_rest else stream - stream % self.seq_length
        if steps < 1:
            needed = batch_size * (1 if keep_rest else self.seq_length) + 1
            sizes = f"batch_size {batch_size}"
            sizes += "" if keep_rest else f" and seq_length {self.seq_length}"
            raise ValueError(
                f"the text is too short: {sizes} need at least {needed} symbols, got {ids.size}; "
                "take a longer text or smaller sizes"
            )
        # Column b is stream b and the symbol after it; windows are slices of all columns.
        starts = np.arange(batch_size) * stream
        self._columns = ids[starts + np.arange(steps + 1)[:, None]]

    def __len__(self) -> int:
        return -(-(len(self._columns) - 1) // self.seq_length)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        first = range(len(self))[index] * self.seq_length
        last = min(first + self.seq_length, len(self._columns) - 1)
        return self._columns[first:last], self._columns[first + 1 : last + 1]


def split(ids: np.ndarray, validation_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut a sequence in two: the first part trains, the last part validates.

    Parameters
    ----------
    ids : ndarray, shape (n,)
    validation_fraction : float
        Share of the second part, in [0, 1); 0 leaves it empty.

    Returns
    -------
    training, validation : ndarray
        Views of the first ``int((1 - validation_fraction) * n)`` elements and of the rest.

    Raises
    ------
    ValueError
        If the fraction leaves nothing to train on, or a validation part of a single element, which
        has nothing to predict.
    """
    fraction = check_probability("validation_fraction", validation_fraction)
    cut = int((1 - fraction) * len(ids))
    if cut == 0 or len(ids) - cut == 1:
        raise ValueError(
            f"the text is too short for validation_fraction {fraction:g}: of {len(ids)} symbols it "
            f"leaves {cut} to train on and {len(ids) - cut} to validate on (one has no next)"
        )
    return ids[:cut], ids[cut:]
