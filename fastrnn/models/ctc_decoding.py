"""From a recogniser's scores to symbols: by the likeliest alignment, or by the likeliest symbols.

Many alignments of frames with symbols stand for the same symbols (see :func:`fastrnn.losses.ctc`).
The likeliest alignment is quickly found, but other symbols may have a larger sum over alignments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn._special import log_softmax
from fastrnn._validation import (
    check_array,
    check_floats,
    check_id,
    check_ids,
    check_lengths,
    check_positive_int,
)
from fastrnn.models.decoding import largest

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Reading(NamedTuple):
    """Symbols that a search has found, and their probability."""

    symbols: np.ndarray  # (S,) int64
    log_probability: float  # nats


def best_path(
    logits: ArrayLike, lengths: ArrayLike | None = None, blank: int = 0
) -> list[np.ndarray]:
    """Return the symbols of the likeliest alignment, which has the best symbol of each frame.

    Parameters
    ----------
    logits : array_like, shape (T, B, V)
    lengths : array_like of int or None, shape (B,)
        Valid frames of each sequence; None: all T.
    blank : int
        The blank's place among the V scores.

    Returns
    -------
    symbols : list of ndarray of int64, shape (S_b,)
        Of each sequence; S_b may be 0.

    Raises
    ------
    ValueError, TypeError
        If an argument has another shape or type, or the best score of a valid frame is not finite.

    References
    ----------
    Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data with
    recurrent neural networks" (2006), section 3.2, best path decoding.
    """
    blank, sequences = _sequences(logits, lengths, blank)
    return [merge(frames.argmax(axis=1), blank) for frames in sequences]


def merge(alignment: ArrayLike, blank: int = 0) -> np.ndarray:
    """Return the symbols (S,) of an alignment (T,): runs are merged, then blanks are dropped."""
    alignment = check_ids("alignment", alignment, np.iinfo(np.int64).max)
    starts = np.ones(len(alignment), bool)
    starts[1:] = alignment[1:] != alignment[:-1]
    return alignment[starts & (alignment != blank)]


def prefix_beam(
    logits: ArrayLike, lengths: ArrayLike | None = None, beam_width: int = 16, blank: int = 0
) -> list[list[Reading]]:
    r"""Return the likeliest readings of each sequence, with the sum over their alignments.

    Frame by frame, the `beam_width` likeliest prefixes are kept, each with the probabilities that
    its alignment ends in a blank, :math:`p_b`, and in its last symbol, :math:`p_n`. Symbol k is
    appended with probability :math:`(p_b + p_n) y_k`, or :math:`p_b y_k` if it is the last symbol.

    Parameters
    ----------
    logits, lengths
        As for :func:`best_path`.
    beam_width : int
        Prefixes that are kept. If all are, the result is exact.
    blank
        As for :func:`best_path`.

    Returns
    -------
    readings : list of list of Reading
        At least one and at most `beam_width` for each sequence, the likeliest first. Dropped
        prefixes do not count in their probabilities.

    Raises
    ------
    ValueError, TypeError
        As from :func:`best_path`, or if the beam's width is not a positive integer.

    References
    ----------
    Graves and Jaitly, "Towards end-to-end speech recognition with recurrent neural networks"
    (2014), algorithm 1, without a language model.
    """
    beam_width = check_positive_int("beam_width", beam_width)
    blank, sequences = _sequences(logits, lengths, blank)
    return [
        _search(log_softmax(frames.astype(np.float64), axis=1), beam_width, blank)
        for frames in sequences
    ]


def _search(log_y: np.ndarray, beam_width: int, blank: int) -> list[Reading]:
    """Return the readings of one sequence of log-probabilities (T, V)."""
    V = log_y.shape[1]
    # Prefix n is another one and a symbol, `made[n] = other * V + symbol`; prefix 0 is empty.
    made, numbers = [blank - V], {blank - V: 0}
    beam = [0]
    ends_blank, ends_symbol = np.zeros(1), np.full(1, -np.inf)
    for row in log_y:
        here = [made[number] for number in beam]
        parents, last = np.divmod(here, V)
        total = np.logaddexp(ends_blank, ends_symbol)
        says = row.copy()
        says[blank] = -np.inf
        # Every prefix as it is, (P,).
        stays = ends_symbol + says[last]
        # Every prefix with one more symbol, (P, K + 1). K + 1 symbols are enough for the K best
        # prefixes: only the one that repeats the last symbol may fall behind those left out.
        symbols = np.sort(largest(says[None], beam_width + 1)[0])
        again = symbols == last[:, None]
        grows = np.where(again, ends_blank[:, None], total[:, None]) + says[symbols]
        # An extended prefix that is in the beam already adds to the probability there.
        places = {number: place for place, number in enumerate(beam)}
        origins = np.array([places.get(parent, -1) for parent in parents.tolist()])
        children = np.flatnonzero(origins >= 0)
        origins, added = origins[children], last[children]
        grown = np.where(added == last[origins], ends_blank[origins], total[origins]) + says[added]
        stays[children] = np.logaddexp(stays[children], grown)
        child, column = np.nonzero(symbols == added[:, None])
        grows[origins[child], column] = -np.inf

        steps = np.append(here, np.add.outer(np.multiply(beam, V), symbols))
        ends_blank = np.append(total + row[blank], np.full(grows.size, -np.inf))
        ends_symbol = np.append(stays, grows)
        scores = np.logaddexp(ends_blank, ends_symbol)
        best = largest(scores[None], beam_width)[0]
        best = best[scores[best] > -np.inf]
        ends_blank, ends_symbol = ends_blank[best], ends_symbol[best]
        beam = []
        for step in steps[best].tolist():
            if step not in numbers:
                numbers[step] = len(made)
                made.append(step)
            beam.append(numbers[step])
    nats = np.logaddexp(ends_blank, ends_symbol).tolist()
    return [Reading(_symbols(number, made, V), value) for number, value in zip(beam, nats)]


def _symbols(number: int, made: list[int], V: int) -> np.ndarray:
    """Return the symbols of a prefix."""
    symbols = []
    while number:
        number, symbol = divmod(made[number], V)
        symbols.append(symbol)
    return np.array(symbols[::-1], np.int64)


def _sequences(
    logits: ArrayLike, lengths: ArrayLike | None, blank: int
) -> tuple[int, list[np.ndarray]]:
    """Return the blank, and the valid scores (T_b, V) of each sequence."""
    logits = check_floats("logits", logits)
    logits = check_array("logits", logits, logits.dtype, ("T", "B", "V"))
    T, B, V = logits.shape
    blank = check_id("blank", blank, V)
    lengths = check_lengths(lengths, T, B)
    sequences = [logits[:length, b] for b, length in enumerate(lengths)]
    for b, frames in enumerate(sequences):
        if not np.isfinite(frames.max(axis=1)).all():
            raise ValueError(
                f"the scores of sequence {b} are not finite; train the model again with a lower "
                "rate"
            )
    return blank, sequences
