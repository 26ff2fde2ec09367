"""From ids or vectors to batches: windows of one long sequence, or batches of many sequences.

**Windows** are for truncated back-propagation through time. A long sequence is cut into
``batch_size`` streams that lie side by side and are read together, a window of ``seq_length`` steps
at a time. Row ``b`` of a window continues row ``b`` of the window before, so a model that
carries its state from window to window has read the whole stream, while its gradients reach back to
the window's start.

Source: Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent
network trajectories", Neural Computation 2 (1990).

**Batches** hold sequences of any lengths. Sequences of about the same length are put together, so
that little of a batch is padding. Padding costs memory, but no time: it is never read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fastrnn._validation import (
    as_array,
    check_array,
    check_bool,
    check_non_negative_int,
    check_numbers,
    check_positive_int,
    check_probability,
    check_sequences,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    Sequences = ArrayLike | Sequence[ArrayLike]  # of any lengths


class _Pairs(Sequence[tuple[Any, Any]]):
    """Pairs of inputs and targets, each made on demand; a slice is a list of them."""

    # Sizes that may be set later, each with the function that checks it.
    _checks: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._checks.get(name)
        super().__setattr__(name, value if check is None else check(name, value))

    @abstractmethod
    def _get(self, number: int) -> tuple[Any, Any]:
        """Return pair `number`, from 0 on."""

    def __getitem__(self, index: Any) -> Any:
        numbers = range(len(self))[index]
        return [self._get(k) for k in numbers] if isinstance(numbers, range) else self._get(numbers)


class Windows(_Pairs):
    """The windows of one epoch, in order; each is a pair of inputs and of targets one step ahead.

    Parameters
    ----------
    ids : array_like of int, shape (n,)
        The sequence; at least ``batch_size * seq_length + 1`` long, or with ``keep_rest``
        ``batch_size + 1``.
    batch_size : int
        Number of streams B, each of ``(n - 1) // batch_size`` predictions; the rest at the end of
        the sequence is not read.
    seq_length : int
        Steps T of a window.
    keep_rest : bool
        True adds a shorter last window for the steps that do not fill a whole one. With
        ``batch_size=1`` there are then all ``n - 1`` predictions; so texts are scored in this way.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer or the sequence is too short for one window.

    Notes
    -----
    ``windows[k]`` is ``(inputs, targets)``, both int64 of shape (T, B), time-major views of one
    array.
    """

    _checks: ClassVar = {"seq_length": check_positive_int}

    def __init__(
        self, ids: ArrayLike, batch_size: int, seq_length: int, *, keep_rest: bool = False
    ) -> None:
        ids = check_array("ids", ids, np.dtype(np.int64), ("n",))
        batch_size = check_positive_int("batch_size", batch_size)
        self.seq_length = seq_length
        keep_rest = check_bool("keep_rest", keep_rest)
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

    def _get(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        first = number * self.seq_length
        last = min(first + self.seq_length, len(self._columns) - 1)
        return self._columns[first:last], self._columns[first + 1 : last + 1]


def split(ids: np.ndarray, validation_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut a sequence in two: the first part to train on, the last part to validate on.

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
            f"leaves {cut} to train on and {len(ids) - cut} to validate on, of which the last has "
            "no next; take a longer text or another fraction (0 validates on none)"
        )
    return ids[:cut], ids[cut:]


class Padded(NamedTuple):
    """Sequences of any lengths side by side; the padding after their ends is never read."""

    values: np.ndarray  # (T, B) ids or (T, B, I) vectors
    lengths: np.ndarray  # (B,) int64

    @property
    def mask(self) -> np.ndarray:
        """Where there is an element: bool of shape (T, B)."""
        return np.arange(len(self.values))[:, None] < self.lengths


def pad(sequences: Sequences) -> Padded:
    """Put sequences side by side, padded with zeros after their ends.

    Parameters
    ----------
    sequences : sequence of array_like, shapes (T_b,) of int, or (T_b, I)
        All of one width I, T_b >= 0.

    Returns
    -------
    padded : Padded
        Of shape (T, B) or (T, B, I), T the largest of the T_b, at least 1.

    Raises
    ------
    ValueError
        If there are no sequences or their widths differ.
    TypeError
        If they are not numbers.
    """
    return _pad(check_sequences("sequences", sequences))


def _pad(arrays: list[np.ndarray]) -> Padded:
    # The dtype of an empty sequence does not count: it has no value.
    dtype = np.result_type(*[array for array in arrays if len(array)] or arrays)
    lengths = np.array([len(array) for array in arrays], np.int64)
    values = np.zeros((max(1, lengths.max()), len(arrays), *arrays[0].shape[1:]), dtype)
    for b, array in enumerate(arrays):
        values[: len(array), b] = array
    return Padded(values, lengths)


class Batches(_Pairs):
    """Examples in batches of about the same length, in another order every epoch.

    Parameters
    ----------
    inputs, targets : list of array_like, array, or tuple of these
        One entry for each example. For a list of sequences (see :func:`pad`), a batch has a
        :class:`Padded`; for an array, whose first axis is the examples, or a list of numbers, it
        has some rows; for a tuple it has a tuple of these. Objects that NumPy converts to an
        array, such as a data frame or its column, count as one; a column of sequences as a list.
    batch_size : int
        Examples in a batch; the last batch may have fewer.
    pool : int
        Number of batches whose examples are drawn together and sorted by length.
    seed : int
        Of the order of the examples.

    Raises
    ------
    TypeError
        If inputs or targets are neither a list nor an array, or not of numbers.
    ValueError
        If inputs and targets have different numbers of examples, or none; if the sequences of a
        list have different widths.

    Notes
    -----
    As a sequence, these are the batches in the order of the examples, for evaluation. Training uses
    :meth:`epoch`.
    """

    _checks: ClassVar = {
        "batch_size": check_positive_int,
        "pool": check_positive_int,
        "seed": check_non_negative_int,
    }

    def __init__(
        self, inputs: Any, targets: Any, batch_size: int, *, pool: int = 20, seed: int = 0
    ) -> None:
        self.inputs, self.targets = _examples("inputs", inputs), _examples("targets", targets)
        self.batch_size, self.pool, self.seed = batch_size, pool, seed
        columns = [*_columns(self.inputs), *_columns(self.targets)]
        sizes = {len(column) for column in columns}
        if len(sizes) != 1 or 0 in sizes:
            hint = "; of several inputs a tuple, of the examples of one a list"
            raise ValueError(
                "inputs and targets must have one example or more, and equally many, got "
                + " and ".join(str(len(column)) for column in columns[:4])
                + (" and so on" if len(columns) > 4 else "")
                + (hint if isinstance(inputs, tuple) or isinstance(targets, tuple) else "")
            )
        self._size = sizes.pop()
        ragged = [column for column in columns if isinstance(column, list)]
        # Sorted by the inputs' lengths; where they are equal or fixed, by the targets'.
        self._lengths = [np.array([len(row) for row in column]) for column in ragged]

    def __len__(self) -> int:
        return -(-self._size // self.batch_size)

    def _get(self, number: int) -> tuple[Any, Any]:
        first = number * self.batch_size
        return self._batch(np.arange(first, min(first + self.batch_size, self._size)))

    def epoch(self, number: int) -> Sequence[tuple[Any, Any]]:
        """Return the batches of an epoch, 0 the first: the same for the same number and seed."""
        generator = np.random.default_rng([self.seed, check_non_negative_int("number", number)])
        order = generator.permutation(self._size)
        batches = []
        for first in range(0, self._size, self.pool * self.batch_size):
            drawn = order[first : first + self.pool * self.batch_size]
            if self._lengths:
                drawn = drawn[np.lexsort([lengths[drawn] for lengths in reversed(self._lengths)])]
            batches += [
                drawn[k : k + self.batch_size] for k in range(0, len(drawn), self.batch_size)
            ]
        return _Epoch(self, [batches[k] for k in generator.permutation(len(batches))])

    def _batch(self, rows: np.ndarray) -> tuple[Any, Any]:
        return _collate(self.inputs, rows), _collate(self.targets, rows)


class _Epoch(_Pairs):
    """The batches of one epoch, each made on demand."""

    def __init__(self, batches: Batches, rows: list[np.ndarray]) -> None:
        self._batches, self._rows = batches, rows

    def __len__(self) -> int:
        return len(self._rows)

    def _get(self, number: int) -> tuple[Any, Any]:
        return self._batches._batch(self._rows[number])


def _examples(name: str, value: Any) -> Any:
    """Return checked examples, so that a model accepts the form of all their batches."""
    if isinstance(value, tuple) and value and not isinstance(value, Padded):  # a batch already
        return tuple(_examples(f"{name}[{k}]", column) for k, column in enumerate(value))
    if hasattr(value, "__array__"):  # such as a data frame, its column or a tensor
        value = as_array(name, value)
        if value.dtype == object and value.ndim == 1:  # of sequences, or of one column's values
            value = list(value)
        elif value.dtype == object and value.ndim:  # columns of several types
            try:
                value = value.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{name} must have columns of numbers alone: {error}") from None
    if isinstance(value, list) and value and np.isscalar(value[0]):
        value = as_array(name, value)
    if isinstance(value, list):
        if value and getattr(value[0], "ndim", 0) > 2:
            raise ValueError(
                f"{name}[0] must be (T,) or (T, I), got {value[0].shape}; pictures and the like "
                "are an array, with examples along its first axis: np.stack(...) makes it of a list"
            )
        return check_sequences(name, value) if value else value
    if isinstance(value, np.ndarray) and value.ndim:
        check_numbers(name, value)
        return value
    hint = "; a tuple is one of several inputs, list(...) makes examples of it"
    raise TypeError(
        f"{name} must be a list of sequences or an array of examples, got {type(value).__name__}"
        + (hint if name.endswith("]") else "")
    )


def _columns(examples: Any) -> tuple[Any, ...]:
    return examples if isinstance(examples, tuple) else (examples,)


def _collate(examples: Any, rows: np.ndarray) -> Any:
    if isinstance(examples, tuple):
        return tuple(_collate(column, rows) for column in examples)
    if isinstance(examples, list):
        return _pad([examples[row] for row in rows])
    return examples[rows]
