"""A picture of a voice, and of the digits that a recogniser hears in it over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax


def draw_voice(
    axes: Any, voice: np.ndarray, scores: np.ndarray, seconds: float, title: str
) -> None:
    """Draw spectra above the probabilities of digits.

    Parameters
    ----------
    axes : sequence of two of Matplotlib's axes
    voice : ndarray, shape (T, bands)
    scores : ndarray, shape (N, 11)
        Of the blank and the digits, in each frame.
    seconds : float
        Of a frame.
    title : str
    """
    axes[0].figure.set_size_inches(10, 6)
    probabilities = softmax(scores, axis=1)
    extent = (0, seconds * len(scores), -0.5, scores.shape[1] - 0.5)
    axes[0].imshow(voice.T, "magma", aspect="auto", origin="lower", extent=extent)
    axes[0].set(title=title, yticks=[], ylabel="frequency (mel bands)")
    axes[1].imshow(probabilities.T, "Greys", aspect="auto", origin="lower", extent=extent)
    axes[1].set(yticks=range(11), yticklabels=["blank", *range(10)])
    axes[1].set(xlabel="seconds", ylabel="probability in a frame")
    best = scores.argmax(axis=1)
    box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.7}
    for t in np.flatnonzero((best > 0) & (best != np.append(0, best[:-1]))):
        place = seconds * (t + 0.5)
        axes[0].axvline(place, color="white", linewidth=1, linestyle=":")
        axes[0].text(place, 8.8, best[t] - 1, color="white", fontsize=20, ha="center", bbox=box)
