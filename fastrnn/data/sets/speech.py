"""Speech: spoken digits as spectra, spoken vowels as coefficients of linear prediction."""

from __future__ import annotations

import io
import wave
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.files import member, members
from fastrnn.data.sets._sources import AEON, SPOKEN_DIGITS

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
    # The checksum covers the labels and lengths alone, see make_spoken_digits.
    if not {"feats", "scale", "offset"} <= arrays.keys() or (
        arrays["feats"].shape != (arrays["lens"].sum(), BANDS)
    ):
        raise ValueError(f"the features of spoken-digits must be ({arrays['lens'].sum()}, {BANDS})")
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


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Return the log energies (T, 20) in mel bands of samples (n,) in -1..1, 8,000 a second.

    Pre-emphasis 0.97, Hamming windows of 25 ms each 10 ms, 256-point transform, triangles between
    22 points from 60 Hz to 4 kHz that are equally far apart in mel and rounded down to bins.
    """
    samples = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    frames = np.lib.stride_tricks.sliding_window_view(samples, 200)[::80]
    power = np.abs(np.fft.rfft(frames * np.hamming(200), 256)) ** 2
    low, high = 2595 * np.log10(1 + np.array([60, 4000]) / 700)
    hertz = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    edge = np.floor(hertz / 8000 * 257)[:, None]
    bins = np.arange(129)
    rise = (bins - edge[:-2]) / (edge[1:-1] - edge[:-2])
    fall = (edge[2:] - bins) / (edge[2:] - edge[1:-1])
    return np.log(power @ np.maximum(0, np.minimum(rise, fall)).T + 1e-8)


def make_spoken_digits(archive: bytes) -> dict[str, np.ndarray]:
    """Turn recordings into spectra in 256 steps.

    The last bit of a computation may move a value to the next step; so the checksum of the file
    covers only exact values: labels, and lengths in frames.
    """
    features, rows = [], []
    for name, content in members(archive, "/recordings/", ".wav").items():
        with wave.open(io.BytesIO(content)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (8000, 1, 2):
                raise ValueError(f"{name} must be of 8 kHz, one channel and 16 bit")
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        features.append(log_mel(samples / 32768))
        digit, speaker, index = PurePosixPath(name).stem.split("_")
        rows.append((int(digit), speaker, int(index)))
    values = np.concatenate(features)
    offset, scale = values.min(), np.ptp(values) / 255
    digits, speakers, indices = zip(*rows)
    return {
        "feats": np.round((values - offset) / scale).astype(np.uint8),
        "offset": np.float32(offset),
        "scale": np.float32(scale),
        "lens": np.array([len(part) for part in features], np.int32),
        "digit": np.array(digits, np.int8),
        "speaker": np.array(speakers),
        "index": np.array(indices, np.int8),
    }


def make_japanese_vowels(wheel: bytes) -> dict[str, np.ndarray]:
    """Read a line a recording: twelve series of numbers and the class, between colons."""
    classes = [str(k + 1) for k in range(9)]
    arrays = {"classes": np.array(classes)}
    for part in ("train", "test"):
        path = f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{part.upper()}.ts"
        _, _, lines = member(wheel, path).decode().partition("@data\n")
        rows = [line.split(":") for line in lines.splitlines()]
        series = [[part.split(",") for part in row[:-1]] for row in rows]
        recordings = [np.array(channels, np.float32).T for channels in series]
        arrays[f"{part}_x"] = np.concatenate(recordings)
        arrays[f"{part}_len"] = np.array([len(x) for x in recordings], np.int32)
        arrays[f"{part}_y"] = np.array([classes.index(row[-1].strip()) for row in rows], np.int8)
    return arrays


DATASETS = {
    "spoken-digits": DataSet(
        "Free Spoken Digit Dataset: 3,000 recordings of six speakers, 8 kHz, as log-mel spectra",
        "Jackson et al., https://github.com/Jakobovski/free-spoken-digit-dataset (2020)",
        "CC BY-SA 4.0",
        (
            File(
                "speech/fsdd_logmel20.npz",
                (SPOKEN_DIGITS,),
                make_spoken_digits,
                ("lens", "digit", "speaker", "index"),
            ),
        ),
        load_spoken_digits,
        sample_spoken_digits,
    ),
    "japanese-vowels": DataSet(
        "Two vowels by nine men, 270 recordings to train, 370 to test, twelve coefficients of "
        "linear prediction a frame",
        "Kudo, Toyama and Shimbo, Multidimensional curve classification using passing-through "
        "regions (1999); UCI, by way of aeon 1.6.0",
        "CC BY 4.0, by the UCI repository; package BSD-3-Clause",
        (File("sequence_classification/japanese_vowels.npz", (AEON,), make_japanese_vowels),),
        load_japanese_vowels,
        sample_japanese_vowels,
    ),
}
