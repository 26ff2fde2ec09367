"""Melodies."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.sets._sources import CHORALES

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


def make_chorales(lisp: bytes) -> bytes:
    """Read ``(1 ((st 8) (pitch 67) ... ) ((st 12) ...))``, a list a melody, a list a note."""
    melodies = []
    for number, notes in re.findall(r"\((\d+)\s+(\(\(st .*?\)\)\))", lisp.decode(), re.DOTALL):
        columns = {name: [] for name in ("keysig", "timesig", "st", "pitch", "dur", "fermata")}
        for name, value in re.findall(r"\((\w+) (-?\d+)\)", notes):
            columns[name].append(int(value))
        keysig, timesig = columns.pop("keysig")[0], columns.pop("timesig")[0]
        melodies.append({"id": int(number), "keysig": keysig, "timesig": timesig, **columns})
    return json.dumps(melodies, separators=(",", ":")).encode()


DATASETS = {
    "chorales": DataSet(
        "Melodies of 100 chorales of Bach, 4,693 notes",
        "Conklin, Chorales; UCI, by way of https://github.com/robbiebarrat/Bach_AI",
        "music in the public domain; encoding CC BY 4.0, by the UCI repository",
        (File("music/bach_chorale_melodies.json", (CHORALES,), make_chorales),),
        load_chorales,
        sample_chorales,
    )
}
