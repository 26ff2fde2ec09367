"""Sentences that praise or complain."""

from __future__ import annotations

import numpy as np

from fastrnn.data.sets._samples import OBJECTS, SUBJECTS, sentences


def load_rt_polarity(positive: bytes, negative: bytes) -> tuple[list[str], np.ndarray]:
    """Return sentences and labels, 1 the positive ones, which come first."""
    parts = [part.decode().splitlines() for part in (positive, negative)]
    return [line.strip() for part in parts for line in part], np.repeat([1, 0], [*map(len, parts)])


def load_uci_sentences(*parts: bytes) -> tuple[list[str], np.ndarray]:
    """Return sentences and labels, 1 the positive ones."""
    # Not splitlines: two of the sentences have a control character that it takes for a line's end.
    lines = [line for part in parts for line in part.decode().rstrip("\n").split("\n")]
    pairs = [line.rsplit("\t", 1) for line in lines]
    return [text.strip() for text, _ in pairs], np.array([int(label) for _, label in pairs])


def sample_sentiment() -> tuple[list[str], np.ndarray]:
    """Return 40 sentences of praise and 40 of complaint."""
    praise = sentences(40, SUBJECTS, ("loves", "admires", "enjoys"), OBJECTS)
    complaints = sentences(40, SUBJECTS, ("hates", "dreads", "regrets"), OBJECTS, seed=1)
    return praise + complaints, np.repeat([1, 0], 40)
