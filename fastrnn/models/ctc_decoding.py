"""What a recogniser's scores say: the likeliest alignment, or the likeliest symbols.

Many alignments of frames with symbols say the same (see :func:`fastrnn.losses.ctc`). The likeliest
one is quickly found; the symbols whose alignments have the largest sum may be others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn._special import log_softmax
from fastrnn._validation import check_array, check_id, check_ids, check_lengths, check_positive_int

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Reading(NamedTuple):
    """Symbols that scores may mean."""

    symbols: np.ndarray  # (S,) int64
    log_probability: float  # nats


def best_path(
    logits: ArrayLike, lengths: ArrayLike | None = None, blank: int = 0
) -> list[np.ndarray]:
    """Return what the likeliest alignment says, which is greedy: the best symbol of each frame.

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
    """Return the symbols (S,) that an alignment (T,) says: runs become one, blanks are dropped."""
    alignment = check_ids("alignment", alignment, np.iinfo(np.int64).max)
    starts = np.ones(len(alignment), bool)
    starts[1:] = alignment[1:] != alignment[:-1]
    return alignment[starts & (alignment != blank)]


def prefix_beam(
    logits: ArrayLike, lengths: ArrayLike | None = None, beam_width: int = 16, blank: int = 0
) -> list[list[Reading]]:
    r"""Return the likeliest readings of each sequence, sums over their alignments.

    Frame by frame, the `beam_width` likeliest beginnings are kept, each with the log-probability
    that its alignment ends in a blank, :math:`p_b`, and in its last symbol, :math:`p_n`. Symbol k
    starts anew with probability :math:`(p_b + p_n) y_k`, where k is the last symbol
    :math:`p_b y_k`.

    Parameters
    ----------
    logits, lengths
        As for :func:`best_path`.
    beam_width : int
        Beginnings that are kept. Where all are, the result is exact.
    blank
        As for :func:`best_path`.

    Returns
    -------
    readings : list of list of Reading
        Of each sequence at most `beam_width`, and one at least, the likeliest first. What was
        dropped on the way is missing from their probabilities.

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
    return [_search(log_softmax(frames, axis=1), beam_width, blank) for frames in sequences]


def _search(log_y: np.ndarray, beam_width: int, blank: int) -> list[Reading]:
    """Return the readings of one sequence of log-probabilities (T, V)."""
    V = log_y.shape[1]
    prefixes: list[tuple[int, ...]] = [()]
    ends_blank, ends_symbol = np.zeros(1), np.full(1, -np.inf)
    for row in log_y:
        # Every prefix as it is, (P,), then every prefix with every symbol more, (P, V).
        total = np.logaddexp(ends_blank, ends_symbol)
        stays = np.full(len(prefixes), -np.inf)
        grows = total[:, None] + row
        grows[:, blank] = -np.inf
        for i, prefix in enumerate(prefixes):
            if prefix:
                stays[i] = ends_symbol[i] + row[prefix[-1]]
                grows[i, prefix[-1]] = ends_blank[i] + row[prefix[-1]]
        places = {prefix: i for i, prefix in enumerate(prefixes)}
        for i, prefix in enumerate(prefixes):
            parent = places.get(prefix[:-1]) if prefix else None
            if parent is not None:  # it grows into this prefix, which is here already
                stays[i] = np.logaddexp(stays[i], grows[parent, prefix[-1]])
                grows[parent, prefix[-1]] = -np.inf
        ends_blank = np.append(total + row[blank], np.full(grows.size, -np.inf))
        ends_symbol = np.append(stays, grows)
        scores = np.logaddexp(ends_blank, ends_symbol)
        best = np.argsort(-scores, kind="stable")[:beam_width]
        best = best[scores[best] > -np.inf]
        prefixes = [_prefix(prefixes, place, V) for place in best.tolist()]
        ends_blank, ends_symbol = ends_blank[best], ends_symbol[best]
    nats = np.logaddexp(ends_blank, ends_symbol).tolist()
    return [Reading(np.array(prefix, np.int64), value) for prefix, value in zip(prefixes, nats)]


def _prefix(prefixes: list[tuple[int, ...]], place: int, V: int) -> tuple[int, ...]:
    """Return what stands at a place among the prefixes, then all of them with a symbol more."""
    if place < len(prefixes):
        return prefixes[place]
    parent, symbol = divmod(place - len(prefixes), V)
    return (*prefixes[parent], symbol)


def _sequences(
    logits: ArrayLike, lengths: ArrayLike | None, blank: int
) -> tuple[int, list[np.ndarray]]:
    """Return the blank, and the valid scores (T_b, V) of each sequence, float64."""
    logits = check_array("logits", logits, np.dtype(np.float64), ("T", "B", "V"))
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
