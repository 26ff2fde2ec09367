"""Draws from the scores that a model gives."""

from __future__ import annotations

import numpy as np


def draw_id(
    logits: np.ndarray, temperature: float, top_k: int | None, generator: np.random.Generator
) -> int:
    """Return an id drawn from the softmax of ``logits / temperature``, logits (V,).

    At temperature 0 it is the likeliest; with `top_k` one of so many likeliest.

    Raises
    ------
    ValueError
        If scores are not finite.
    """
    check_scores(logits)
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):
        scores = (logits - logits.max()).astype(np.float64) / temperature
    if top_k is not None and top_k < scores.size:
        scores[np.argpartition(scores, -top_k)[:-top_k]] = -np.inf
    # The largest of scores with Gumbel noise is distributed as their softmax.
    return int((scores + generator.gumbel(size=scores.size)).argmax())


def check_scores(scores: np.ndarray) -> None:
    """Refuse to draw from scores that are not finite; ValueError."""
    if not np.isfinite(scores).all():
        raise ValueError("the model's scores are not finite; train it again with a lower rate")
