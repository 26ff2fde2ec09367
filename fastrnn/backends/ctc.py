r"""Connectionist temporal classification in NumPy: the sum over all alignments, in log space.

An *alignment* gives each of T frames a symbol or the blank. It stands for the target that is left
when runs of equal symbols are merged and blanks are dropped. With the target's symbols between
blanks, :math:`l = (\varnothing, z_1, \varnothing, \dots, z_S, \varnothing)` of length L = 2 S + 1,
an alignment is a walk along l: each frame stays at the place of the frame before, or moves on by
one, or by two if that skips a blank between two different symbols. With the softmax :math:`y^t` of
a frame's scores,

.. math:: \alpha_t(s) = y^t_{l_s} (\alpha_{t-1}(s) + \alpha_{t-1}(s-1) [+ \alpha_{t-1}(s-2)])

          \beta_t(s) = \gamma_{t+1}(s) + \gamma_{t+1}(s+1) [+ \gamma_{t+1}(s+2)], \qquad
          \gamma_t(s) = y^t_{l_s} \beta_t(s)

          p = \alpha_T(L) + \alpha_T(L-1), \qquad
          \frac{\partial (-\log p)}{\partial x^t_k} =
              y^t_k - \frac{1}{p} \sum_{s: l_s = k} \alpha_t(s) \beta_t(s)

Source: Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data
with recurrent neural networks" (2006), section 4.1 and equations 5 to 16; :math:`\beta` here leaves
out the frame's own y.
"""

import numpy as np


def ctc(
    logits: np.ndarray,
    lengths: np.ndarray,
    targets: np.ndarray,
    target_lengths: np.ndarray,
    blank: int,
    weights: np.ndarray,
    d_logits: np.ndarray,
) -> np.ndarray:
    """Return the negative log-probability of each target, and the gradient of a weighted sum.

    Parameters
    ----------
    logits : ndarray, shape (T, B, V)
        Scores; those beyond a sequence's length are not read.
    lengths : ndarray of int64, shape (B,)
        Valid frames.
    targets : ndarray of int64, shape (S, B)
        Symbols, without the blank.
    target_lengths : ndarray of int64, shape (B,)
        Valid symbols; a target fits its frames.
    blank : int
    weights : ndarray of float64, shape (B,)
        Of the sequences in the gradient.
    d_logits : ndarray, shape and dtype of `logits`, out
        Zero beyond the lengths.

    Returns
    -------
    losses : ndarray of float64, shape (B,)
        Nats.
    """
    losses = np.empty(len(lengths))
    d_logits[...] = 0
    for b, (T, S) in enumerate(zip(lengths, target_lengths)):
        # Infinity less infinity is NaN and flows on; SciPy's log_softmax makes it a number.
        with np.errstate(over="ignore", invalid="ignore"):
            log_y = logits[:T, b].astype(np.float64)
            log_y -= log_y.max(axis=1, keepdims=True)
            log_y -= np.log(np.exp(log_y).sum(axis=1, keepdims=True))
            losses[b], d_rows = _align(log_y, targets[:S, b], blank)
            d_logits[:T, b] = weights[b] * d_rows
    return losses


def _align(log_y: np.ndarray, target: np.ndarray, blank: int) -> tuple[float, np.ndarray]:
    """Return -log p of one target (S,) and its gradient, given log-probabilities (T, V)."""
    T, L = len(log_y), 2 * len(target) + 1
    if T == 0:
        return 0.0, log_y  # no frames, no symbols: probability 1
    symbols = np.full(L, blank)
    symbols[1::2] = target
    # The logarithm of whether each place may be reached by a skip.
    skip = np.full(L, -np.inf)
    skip[3::2][target[1:] != target[:-1]] = 0
    emitted = log_y[:, symbols]

    alpha = np.full((T, L), -np.inf)
    alpha[0, :2] = emitted[0, :2]
    for t in range(1, T):
        before = alpha[t - 1]
        reached = np.logaddexp(before, _moved(before, 1))
        alpha[t] = np.logaddexp(reached, _moved(before, 2) + skip) + emitted[t]
    log_p = np.logaddexp.reduce(alpha[-1, -2:])
    if not np.isfinite(log_p):
        return -log_p, np.full_like(log_y, np.nan)

    beta = np.full((T, L), -np.inf)
    beta[-1, -2:] = 0
    for t in range(T - 2, -1, -1):
        after = beta[t + 1] + emitted[t + 1]
        left = np.logaddexp(after, _moved(after, -1))
        beta[t] = np.logaddexp(left, _moved(after + skip, -2))

    d_rows = np.exp(log_y)
    occupied = np.exp(alpha + beta - log_p)
    for s, symbol in enumerate(symbols):
        d_rows[:, symbol] -= occupied[:, s]
    return -log_p, d_rows


def _moved(row: np.ndarray, places: int) -> np.ndarray:
    """Return a row (L,) moved right, or left if `places` is negative, filled with log 0."""
    moved = np.full_like(row, -np.inf)
    if places > 0:
        moved[places:] = row[:-places]
    else:
        moved[:places] = row[-places:]
    return moved
