"""Sequences from a model: by the likeliest symbol each time, by sampling, or by beam search.

All functions call a *step*, which is given the last symbol of each of N sequences and returns the
scores of the next: ``logits = step(ids)``, ids (N,) int, logits (N, V). It keeps a state, as a
stream does, so N sequences are written side by side. Beam search also tells it which sequence each
row continues: ``logits = step(ids, rows)``, rows (N,) int. A symbol with a score of minus infinity
is never written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn._special import log_softmax
from fastrnn._validation import (
    check_array,
    check_floats,
    check_non_negative_float,
    check_non_negative_int,
    check_positive_int,
    check_seed,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    Step = Callable[..., np.ndarray]

NO_SYMBOL = -1  # the end mark where there is none
MOST_HYPOTHESES = 1_000_000  # more are a mistake: their scores would hardly fit into memory


class Hypothesis(NamedTuple):
    """A sequence that beam search has found."""

    ids: np.ndarray  # (n,) int64, without the end mark
    score: float  # log-probability in nats, the end mark included, normalised by the length


def draw(
    logits: np.ndarray, temperature: float, top_k: int | None, generator: np.random.Generator
) -> np.ndarray:
    """Return ids (N,) drawn from the softmax of ``logits / temperature``, logits (N, V).

    Parameters
    ----------
    logits : ndarray, shape (N, V)
    temperature : float
        Not negative; 0 takes the likeliest and draws nothing.
    top_k : int or None
        Draw from only this many of the likeliest.
    generator : numpy.random.Generator

    Raises
    ------
    ValueError
        If scores are not finite.
    """
    check_finite(logits.max(axis=1))  # NaN if any score of the row is
    if temperature == 0:
        return logits.argmax(axis=1)
    places = None
    if top_k is not None and top_k < logits.shape[1]:
        places = largest(logits, top_k)
        logits = np.take_along_axis(logits, places, axis=1)
    with np.errstate(over="ignore"):
        scores = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperature
    # The largest of scores with Gumbel noise is distributed as their softmax.
    drawn = (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
    return drawn if places is None else places[np.arange(len(places)), drawn]


def sample(
    step: Step,
    first: ArrayLike,
    eos: int | None,
    max_length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | np.random.Generator | None = None,
) -> list[np.ndarray]:
    """Draw symbols until the end mark.

    Parameters
    ----------
    step : callable
        ``logits = step(ids)``, see the module.
    first : array_like of int, shape (N,)
        What each sequence begins with, such as its ``<bos>``; not given back.
    eos : int or None
        The end mark, one of the symbols; None where there is none.
    max_length : int
        Symbols after which a sequence ends without it.
    temperature : float
        Scores are divided by it: below 1 the likely symbols become likelier, 0 always takes the
        likeliest.
    top_k : int or None
        Draw from the `top_k` likeliest symbols only.
    seed : int, numpy.random.Generator or None
        Source of the draws, which depend on the number of sequences as well.

    Returns
    -------
    sequences : list of ndarray of int64, shapes (n,)
        Without the end mark.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or scores are not finite.
    """
    ids, eos, max_length = _check(first, eos, max_length)
    temperature = check_non_negative_float("temperature", temperature)
    if top_k is not None:
        top_k = check_positive_int("top_k", top_k)
    generator = check_seed(seed)
    steps: list[np.ndarray] = []
    running = np.ones(len(ids), bool)
    for _ in range(max_length):
        ids = draw(_check_logits(step(ids), len(ids), eos), temperature, top_k, generator)
        steps.append(ids)  # what follows an end mark does not count
        running &= ids != eos
        if not running.any():
            break
    written = np.array(steps)
    lengths = np.logical_and.accumulate(written != eos).sum(axis=0)
    return [written[:length, n] for n, length in enumerate(lengths)]


def greedy(step: Step, first: ArrayLike, eos: int | None, max_length: int) -> list[np.ndarray]:
    """Take the likeliest symbol each time until the end mark; see :func:`sample`."""
    return sample(step, first, eos, max_length, temperature=0.0)


def beam_search(
    step: Step,
    first: ArrayLike,
    eos: int | None,
    max_length: int,
    *,
    beam_width: int = 5,
    length_penalty: float = 1.0,
) -> list[list[Hypothesis]]:
    r"""Beam search: extend the best prefixes of each sequence, and return the best sequences.

    A hypothesis of n symbols, its end mark included, is scored by

    .. math:: \frac{1}{n^\alpha} \sum_{t \le n} \log p(y_t \mid y_1 \dots y_{t-1})

    At each step the best `beam_width` continuations of a sequence are found. Those of them that end
    with the end mark are done, and the best `beam_width` of the others are continued. A sequence is
    finished when `beam_width` hypotheses are done and no unfinished one has a better score than the
    worst of them, or when `max_length` is reached: then unfinished ones count as they are. With a
    beam of 1 this is greedy decoding.

    Parameters
    ----------
    step : callable
        ``logits = step(ids, rows)`` for B * `beam_width` rows, of which row ``b * beam_width + k``
        is hypothesis k of sequence b: from now on row n continues what was row ``rows[n]`` (of
        the same sequence) with the symbol ``ids[n]``. `rows` is None in the first call.
    first : array_like of int, shape (B,)
    eos, max_length
        As for :func:`sample`.
    beam_width : int
        Hypotheses K of each sequence, at most 1,000,000.
    length_penalty : float
        :math:`\alpha`, not negative: 0 prefers short sequences, 1 compares the mean of the symbols.
        ``max_length ** length_penalty`` must not overflow.

    Returns
    -------
    hypotheses : list of list of Hypothesis
        For each sequence the best ones, at most `beam_width`, the best first.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or scores are not finite.

    References
    ----------
    Sutskever, Vinyals and Le, "Sequence to sequence learning with neural networks" (2014), section
    3.2; the length penalty as in Wu et al., "Google's neural machine translation system" (2016),
    section 7, without their offset of 5.
    """
    first, eos, max_length = _check(first, eos, max_length)
    K = check_beam_width(beam_width)
    length_penalty = check_length_penalty(length_penalty, max_length)
    B = len(first)
    done: list[list[Hypothesis]] = [[] for _ in range(B)]
    finished = np.zeros(B, bool)
    totals = np.full((B, K), -np.inf)  # the K hypotheses begin alike, so one is enough
    totals[:, 0] = 0
    written = np.zeros((B, K, 0), np.int64)
    ids, rows = np.repeat(first, K), None
    own = np.arange(B)[:, None] * K

    def end(b: int, ids: np.ndarray, score: float) -> None:
        if np.isfinite(score):
            found = [*done[b], Hypothesis(ids.copy(), float(score))]
            done[b] = sorted(found, key=lambda hypothesis: -hypothesis.score)[:K]

    for t in range(1, max_length + 1):
        logits = _check_logits(step(ids) if rows is None else step(ids, rows), len(ids), eos)
        check_finite(logits.max(axis=1))
        V = logits.shape[1]
        scores = totals[..., None] + log_softmax(logits, axis=1).reshape(B, K, V)
        # Each of the K hypotheses has one continuation with the end mark: of the best 2 K, at least
        # K are without it.
        best = largest(scores.reshape(B, K * V), 2 * K)
        parents, symbols = np.divmod(best, V)
        totals = np.take_along_axis(scores.reshape(B, K * V), best, axis=1)
        ended = symbols == eos
        for b, k in np.argwhere(ended[:, :K]):
            if not finished[b]:
                end(b, written[b, parents[b, k]], totals[b, k] / t**length_penalty)
        going = np.argsort(ended, axis=1, kind="stable")[:, :K]
        parents, symbols, totals = (
            np.take_along_axis(array, going, axis=1)
            for array in (parents, symbols, np.where(ended, -np.inf, totals))
        )
        if symbols.shape[1] < K:  # fewer continuations than hypotheses, all of them kept
            missing = ((0, 0), (0, K - symbols.shape[1]))
            parents, symbols = np.pad(parents, missing), np.pad(symbols, missing)
            totals = np.pad(totals, missing, constant_values=-np.inf)
        written = np.concatenate(
            [np.take_along_axis(written, parents[..., None], axis=1), symbols[..., None]], axis=2
        )
        ids, rows = symbols.ravel(), (own + parents).ravel()
        going_on = totals / t**length_penalty
        for b in np.flatnonzero(~finished):
            finished[b] = len(done[b]) == K and going_on[b, 0] <= done[b][-1].score
        if finished.all():
            break
    for b in np.flatnonzero(~finished):
        for k in range(K):
            end(b, written[b, k], going_on[b, k])
    return done


def largest(scores: np.ndarray, number: int) -> np.ndarray:
    """Return the indices (B, n) of the n largest of scores (B, N), largest first, ties in order.

    n is `number`, or N if that is less.
    """
    B, N = scores.shape
    number = min(number, N)
    # The n-th largest of the maxima of groups is at most the n-th largest score, so scores below it
    # need not be sorted. To partition all scores takes NumPy forty times as long as the maxima.
    size = min(32, N // number)
    maxima = scores[:, : N // size * size].reshape(B, size, N // size).max(axis=1)
    least = np.partition(maxima, -number, axis=1)[:, -number, None]
    found = np.flatnonzero(scores >= least)
    rows, places = np.divmod(found, N)
    order = np.lexsort((-scores.ravel()[found], rows))
    starts = np.searchsorted(rows, np.arange(B))
    return places[order[starts[:, None] + np.arange(number)]]


def _check(first: Any, eos: Any, max_length: Any) -> tuple[np.ndarray, int, int]:
    first = check_array("first", first, np.dtype(np.int64), ("N",))
    return (
        first,
        NO_SYMBOL if eos is None else check_non_negative_int("eos", eos),
        check_positive_int("max_length", max_length),
    )


def _check_logits(logits: Any, N: int, eos: int) -> np.ndarray:
    """Return the scores that a step has returned as floats (N, V), V above the end mark."""
    logits = check_floats("step's logits", logits)
    logits = check_array("step's logits", logits, logits.dtype, (N, "V"))
    if eos >= logits.shape[1]:
        raise ValueError(f"eos must be in 0..{logits.shape[1] - 1} or None, got {eos}")
    return logits


def check_beam_width(beam_width: Any) -> int:
    """Return a number of hypotheses, at most `MOST_HYPOTHESES`."""
    number = check_positive_int("beam_width", beam_width)
    if number > MOST_HYPOTHESES:
        raise ValueError(f"beam_width must be at most {MOST_HYPOTHESES}, got {number}")
    return number


def check_length_penalty(length_penalty: Any, max_length: int) -> float:
    """Return a penalty, not negative, whose power of the longest length does not overflow."""
    number = check_non_negative_float("length_penalty", length_penalty)
    highest = 700 // math.log(max_length) if max_length > 1 else math.inf  # e ** 709.78 is too much
    if number > highest:
        expected = f"at most {highest:.0f} where max_length is {max_length}"
        raise ValueError(f"length_penalty must be {expected}, got {number}")
    return number


def check_finite(scores: np.ndarray) -> None:
    """Refuse to draw from scores that are not finite; ValueError."""
    if not np.isfinite(scores).all():
        raise ValueError(
            "the model's scores are not finite; check its inputs, or train it at a lower rate"
        )
