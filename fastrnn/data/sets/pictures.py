"""Pictures and their captions."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

SIDE = 20


class Emoji(NamedTuple):
    """Emoji, their names in lower case, and which of them are held out for testing."""

    images: np.ndarray  # (N, 20, 20, 3) uint8, red, green, blue on white
    captions: list[str]
    is_test: np.ndarray  # (N,) bool
    groups: list[str]
    codepoints: list[str]  # hexadecimal, joined by blanks


def load_emoji(arrays: Mapping[str, np.ndarray]) -> Emoji:
    """Return the pictures; arrays are copies that may be written to."""
    return Emoji(
        arrays["images"].copy(),
        arrays["captions"].tolist(),
        arrays["is_test"].copy(),
        arrays["groups"].tolist(),
        arrays["codepoints"].tolist(),
    )


def sample_emoji() -> Emoji:
    """Discs, squares and crosses of some colours and sizes."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    shapes = {
        "disc": np.hypot(x, y),
        "square": np.maximum(abs(x), abs(y)),
        "cross": np.minimum(abs(x), abs(y)) * 4,
    }
    colours = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (50, 80, 220)}
    sizes = {"small": 4, "large": 8}
    images, captions = [], []
    for (size, radius), (shape, distance), (colour, rgb) in product(
        sizes.items(), shapes.items(), colours.items()
    ):
        images.append(np.where((distance <= radius)[..., None], rgb, 255))
        captions.append(f"{size} {shape}: {colour}")
    is_test = np.arange(len(captions)) % 4 == 3
    return Emoji(
        np.array(images, np.uint8), captions, is_test, ["made up"] * len(captions), captions
    )
