"""Melodies."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

Chorale = dict[str, Any]


def load_chorales(content: bytes) -> list[Chorale]:
    """Return the melodies; times are in sixteenths, keysig counts sharps, below 0 flats."""
    return [
        {
            "keysig": melody["keysig"],
            "timesig": melody["timesig"],
            "start": np.array(melody["st"]),
            "pitch": np.array(melody["pitch"]),
            "duration": np.array(melody["dur"]),
            "fermata": np.array(melody["fermata"]),
        }
        for melody in json.loads(content)
    ]


def sample_chorales() -> list[Chorale]:
    """Return 30 random walks on the scale of C."""
    generator = np.random.default_rng(0)
    scale = np.array([60, 62, 64, 65, 67, 69, 71, 72])
    melodies = []
    for _ in range(30):
        steps = np.abs(np.cumsum(generator.integers(-1, 2, 24)) + 3) % len(scale)
        duration = generator.choice([2, 4, 4, 8], 24)
        melodies.append(
            {
                "keysig": 0,
                "timesig": 16,
                "start": np.cumsum(duration) - duration,
                "pitch": scale[steps],
                "duration": duration,
                "fermata": np.arange(24) % 8 // 7,
            }
        )
    return melodies
