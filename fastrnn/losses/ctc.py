"""Connectionist temporal classification: targets that are not aligned with the frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import as_array, check_floats, check_id, check_ids, check_lengths
from fastrnn.backends import active_backend

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def ctc(
    logits: ArrayLike,
    lengths: ArrayLike | None,
    targets: ArrayLike,
    target_lengths: ArrayLike | None = None,
    blank: int = 0,
) -> tuple[float, np.ndarray]:
    r"""Negative log-probability of targets, summed over all their alignments with the frames.

    An alignment gives each frame a symbol or the blank; runs of one symbol become one, then blanks
    are dropped. Equal neighbours in a target need a blank between them, so that S symbols with R
    repeats need S + R frames.

    .. math:: L = \frac{1}{B} \sum_b \frac{1}{\max(1, S_b)}
              \Big(-\log \sum_{\pi \to z_b} \prod_t \mathrm{softmax}(x_{tb})_{\pi_t} \Big)

    Parameters
    ----------
    logits : array_like, shape (T, B, V)
        Scores :math:`x`, float32 or taken as float64. NaN gives NaN in its sequence.
    lengths : array_like of int or None, shape (B,)
        Valid frames of each sequence; None: all T. What lies beyond is not read.
    targets : array_like of int, shape (S, B)
        Symbols :math:`z` in 0 to V - 1, without the blank. A target may be empty.
    target_lengths : array_like of int or None, shape (B,)
        Valid symbols :math:`S_b` of each target; None: all S. What lies beyond is not read.
    blank : int
        The blank's place among the V scores.

    Returns
    -------
    loss : float
        Nats a symbol of the target, mean over the B sequences: that of
        ``torch.nn.functional.ctc_loss`` with its default ``reduction="mean"``. A sequence without
        frames has an empty target, whose probability is 1: its loss is 0. Infinite where
        scores of minus infinity leave no alignment, with a gradient of NaN.
    d_logits : ndarray, shape and dtype of `logits`
        Gradient of that mean, zero beyond the lengths.

    Raises
    ------
    ValueError
        If a shape is wrong, a length or symbol out of range, a target holds the blank or needs more
        frames than there are, or there is no sequence.
    TypeError
        If the logits are not real numbers or the others not integers.

    References
    ----------
    Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data with
    recurrent neural networks" (2006), equations 3 and 14 to 16.

    Examples
    --------
    With :class:`fastrnn.data.Padded` scores and targets:

    >>> import numpy as np
    >>> import fastrnn as fr
    >>> scores = fr.data.Padded(np.zeros((3, 2, 2)), np.array([3, 2]))
    >>> loss, _ = fr.losses.ctc(*scores, *fr.data.pad([[1, 1], [1]]))
    >>> round(loss, 3)  # log(8) / 2, as 1 0 1 is one of 8, and log(4 / 3): 11, 01, 10 are 3 of 4
    0.664
    """
    logits = check_floats("logits", logits)
    if logits.ndim != 3 or 0 in logits.shape:
        raise ValueError(f"logits must be (T, B, V) with all of them >= 1, got {logits.shape}")
    T, B, V = logits.shape
    blank = check_id("blank", blank, V)
    lengths = check_lengths(lengths, T, B)
    targets, target_lengths = _check_targets(targets, target_lengths, B, V, blank)
    _refuse_long(targets, target_lengths, lengths)
    weights = 1 / (B * np.maximum(1, target_lengths))
    d_logits = active_backend().empty(logits.shape, logits.dtype)
    losses = active_backend().ctc(
        logits, lengths, targets, target_lengths, blank, weights, d_logits
    )
    return float(losses @ weights), d_logits


def _check_targets(
    targets: ArrayLike, lengths: ArrayLike | None, B: int, V: int, blank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return targets (S, B) and their lengths (B,), int64; what lies beyond an end is 0."""
    targets = as_array("targets", targets)
    if targets.ndim != 2 or targets.shape[1] != B:
        raise ValueError(f"targets must be (S, {B}), got {targets.shape}")
    S = len(targets)
    lengths = check_lengths(lengths, S, B, "target_lengths")
    valid = np.arange(S)[:, None] < lengths
    targets = check_ids("targets", np.where(valid, targets, np.zeros_like(targets)), V)
    blanks = np.argwhere(valid & (targets == blank))
    if len(blanks):
        place = tuple(blanks[0].tolist())
        raise ValueError(f"targets must not have the blank {blank}, got it at {place}")
    return targets, lengths


def _refuse_long(targets: np.ndarray, target_lengths: np.ndarray, lengths: np.ndarray) -> None:
    """Raise ValueError for a target that is too long for its frames."""
    S = np.arange(1, len(targets))[:, None]
    repeats = ((targets[1:] == targets[:-1]) & (target_lengths > S)).sum(axis=0)
    needed = target_lengths + repeats
    for b in np.flatnonzero(needed > lengths)[:1]:
        raise ValueError(
            f"targets must fit their frames: that of sequence {b} has {target_lengths[b]} symbols "
            f"and {repeats[b]} repeats, so it needs {needed[b]} frames, got {lengths[b]}"
        )
