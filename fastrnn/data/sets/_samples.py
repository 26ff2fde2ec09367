"""Made-up sentences, for samples of the sets of text."""

from __future__ import annotations

import numpy as np

SUBJECTS = ("the cat", "a dog", "my friend", "the old man", "our teacher")
VERBS = ("sees", "likes", "finds", "paints", "forgets")
OBJECTS = ("the house", "a red apple", "the small boat", "some music", "a long story")


def sentences(count: int, *choices: tuple[str, ...], seed: int = 0) -> list[str]:
    """Return sentences of one random part of each of `choices`."""
    choices = choices or (SUBJECTS, VERBS, OBJECTS)
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(parts) for parts in choices) for _ in range(count)]
