"""Speech: spoken digits as spectra, spoken vowels as coefficients of linear prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

BANDS = 20


class SpokenDigits(NamedTuple):
    """Recordings of single digits; those of index 0 to 4 are for testing."""

    features: list[np.ndarray]  # (T, 20) float32: log energies of mel bands, a frame each 10 ms
    digits: np.ndarray  # (N,) int64
    speakers: list[str]
    indices: np.ndarray  # (N,) int64, number of the recording among those of digit and speaker


class JapaneseVowels(NamedTuple):
    """Recordings of two vowels by nine speakers."""

    train: list[np.ndarray]  # (T, 12) float32
    train_labels: np.ndarray  # (N,) int64
    test: list[np.ndarray]
    test_labels: np.ndarray
    classes: list[str]


def load_spoken_digits(arrays: Mapping[str, np.ndarray]) -> SpokenDigits:
    """Return the recordings; the file keeps features in 256 steps."""
    features = arrays["feats"] * arrays["scale"] + arrays["offset"]
    return SpokenDigits(
        _cut(features, arrays["lens"]),
        arrays["digit"].astype(np.int64),
        arrays["speaker"].tolist(),
        arrays["index"].astype(np.int64),
    )


def sample_spoken_digits() -> SpokenDigits:
    """Return 80 recordings of two speakers."""
    generator = np.random.default_rng(0)
    speakers = ("ann", "bob")
    rows = [(d, s, i) for s in speakers for d in range(10) for i in (0, 1, 5, 6)]
    bands = np.arange(BANDS)
    features = []
    for digit, _, _ in rows:
        steps = np.arange(generator.integers(8, 16))[:, None]
        shape = np.sin((digit + 1) * bands / BANDS + steps / 8)
        features.append((shape + 0.1 * generator.standard_normal(shape.shape)).astype(np.float32))
    digits, names, indices = zip(*rows)
    return SpokenDigits(features, np.array(digits), list(names), np.array(indices))


def load_japanese_vowels(arrays: Mapping[str, np.ndarray]) -> JapaneseVowels:
    """Return both parts."""
    return JapaneseVowels(
        _cut(arrays["train_x"], arrays["train_len"]),
        arrays["train_y"].astype(np.int64),
        _cut(arrays["test_x"], arrays["test_len"]),
        arrays["test_y"].astype(np.int64),
        arrays["classes"].tolist(),
    )


def sample_japanese_vowels() -> JapaneseVowels:
    """Return 36 and 18 recordings of nine speakers."""
    generator = np.random.default_rng(0)

    def part(each: int) -> tuple[list[np.ndarray], np.ndarray]:
        labels = np.repeat(np.arange(9), each)
        lengths = generator.integers(7, 30, len(labels))
        return [
            (np.sin(label + np.arange(12)) + 0.1 * generator.standard_normal((length, 12)))
            .astype(np.float32)
            for label, length in zip(labels, lengths)
        ], labels  # fmt: skip

    return JapaneseVowels(*part(4), *part(2), [str(k + 1) for k in range(9)])


def _cut(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return [part.copy() for part in np.split(values, np.cumsum(lengths)[:-1])]
