"""Pictures and their captions."""

from __future__ import annotations

import io
import re
import zlib
from itertools import product
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.files import debian_member, needed
from fastrnn.data.sets._sources import EMOJI_NAMES, NOTO_EMOJI

if TYPE_CHECKING:
    from collections.abc import Mapping

SIDE = 20


class Emoji(NamedTuple):
    """Emoji, their names in lower case, and which of them are held out for testing."""

    images: np.ndarray  # (N, 20, 20, 3) uint8, red, green, blue on white
    captions: list[str]
    is_test: np.ndarray  # (N,) bool
    groups: list[str]
    codepoints: list[str]  # hexadecimal, joined by hyphens


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
    """Return discs, squares and crosses of some colours and sizes."""
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


def make_emoji(package: bytes, names: bytes) -> dict[str, np.ndarray]:
    """Draw each fully qualified emoji of the list that the font has as one picture."""
    harfbuzz = needed("uharfbuzz", "drawing emoji")
    pillow = needed("PIL.Image", "drawing emoji")
    font = harfbuzz.Font(harfbuzz.Face(debian_member(package, "NotoColorEmoji.ttf")))
    images, rows, group = [], [], ""
    for line in names.decode().splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        found = re.match(r"([0-9A-F ]+?) +; fully-qualified +# \S+ E\S+ (.*)", line)
        if not found:
            continue
        codes = [int(code, 16) for code in found[1].split()]
        buffer = harfbuzz.Buffer()
        buffer.add_codepoints(codes)
        buffer.guess_segment_properties()
        harfbuzz.shape(font, buffer)
        glyphs = [info.codepoint for info in buffer.glyph_infos]
        picture = font.get_glyph_color_png(glyphs[0]) if len(glyphs) == 1 else None
        if not picture:
            continue
        images.append(_shrink(pillow, bytes(picture.data)))
        rows.append((found[2].lower(), group, "-".join(f"{code:x}" for code in codes)))
    captions, groups, codepoints = zip(*rows)
    return {
        "images": np.stack(images),
        "captions": np.array(captions),
        "groups": np.array(groups),
        "codepoints": np.array(codepoints),
        "is_test": np.array([zlib.crc32(caption.encode()) % 10 == 0 for caption in captions]),
    }


def _shrink(pillow: ModuleType, png: bytes) -> np.ndarray:
    """Put a picture on white, make it square, and resize it."""
    picture = pillow.open(io.BytesIO(png)).convert("RGBA")
    side = max(picture.size)
    square = pillow.new("RGBA", (side, side), "white")
    place = ((side - picture.width) // 2, (side - picture.height) // 2)
    square.alpha_composite(picture, place)
    resized = square.convert("RGB").resize((SIDE, SIDE), pillow.Resampling.LANCZOS)
    return np.asarray(resized)


DATASETS = {
    "emoji": DataSet(
        "3,655 emoji as pictures of 20 x 20 pixels, and their names",
        "Noto Color Emoji 2.042, Google, Debian's fonts-noto-color-emoji; names of Unicode 15.0",
        "pictures SIL OFL 1.1, not to be sold by themselves; names Unicode licence",
        (File("image_caption/emoji_captions.npz", (NOTO_EMOJI, EMOJI_NAMES), make_emoji),),
        load_emoji,
        sample_emoji,
    )
}
