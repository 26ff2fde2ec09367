"""People that move: gestures while telling a story, tracks of a finger tip."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.files import member
from fastrnn.data.sets._sources import FINGER_TRACKS, UCI_GESTURES

if TYPE_CHECKING:
    from collections.abc import Mapping

VIDEOS = ("a1", "a2", "a3", "b1", "b3", "c1", "c3")
PHASES = ("Rest", "Preparation", "Stroke", "Hold", "Retraction")
JOINTS = ("lh", "rh", "h", "s", "lw", "rw")  # hands, head, spine, wrists
COLUMNS = tuple(joint + axis for joint in JOINTS for axis in "xyz")
TRACKS = ("stop", "clockwise", "counter clockwise", "move")


class Gestures(NamedTuple):
    """Places of joints in every frame of videos, and the phase of the gesture."""

    videos: dict[str, tuple[np.ndarray, np.ndarray]]  # x (T, 18) float32, y (T,) int64
    classes: list[str]
    columns: list[str]


class FingerTracks(NamedTuple):
    """Tracks of a finger tip, relative to their first frame, in parts of the picture's sides."""

    x: np.ndarray  # (N, 16, 2) float32
    y: np.ndarray  # (N,) int64
    classes: list[str]


def load_gestures(arrays: Mapping[str, np.ndarray]) -> Gestures:
    """Return the videos by name."""
    videos = {
        name: (arrays[f"{name}_x"].copy(), arrays[f"{name}_y"].astype(np.int64)) for name in VIDEOS
    }
    return Gestures(videos, arrays["classes"].tolist(), arrays["columns"].tolist())


def sample_gestures() -> Gestures:
    """Return seven videos of waves, 120 frames each."""
    generator = np.random.default_rng(0)
    videos = {}
    for name in VIDEOS:
        phase = np.arange(120) // 8 % len(PHASES)
        wave = np.sin(phase[:, None] + np.arange(len(COLUMNS)))
        noise = 0.1 * generator.standard_normal(wave.shape)
        videos[name] = ((wave + noise).astype(np.float32), phase.astype(np.int64))
    return Gestures(videos, list(PHASES), list(COLUMNS))


def load_finger_tracks(arrays: Mapping[str, np.ndarray]) -> FingerTracks:
    """Return the tracks; the file keeps them in half precision."""
    return FingerTracks(
        arrays["x"].astype(np.float32), arrays["y"].astype(np.int64), arrays["classes"].tolist()
    )


def sample_finger_tracks() -> FingerTracks:
    """Return arcs to either side, 40 of each class."""
    generator = np.random.default_rng(0)
    y = np.repeat(np.arange(len(TRACKS)), 40)
    turns = np.array([0, 1, -1, 0.1])[y, None] * np.linspace(0, np.pi, 16)
    x = 0.1 * np.stack([np.cos(turns) - 1, np.sin(turns)], -1)
    x += 0.005 * generator.standard_normal(x.shape)
    return FingerTracks(x.astype(np.float32), y, list(TRACKS))


def make_gestures(archive: bytes) -> dict[str, np.ndarray]:
    """Read a line a frame: 18 coordinates, a time stamp and the phase."""
    arrays = {"classes": np.array(PHASES), "columns": np.array(COLUMNS)}
    for name in VIDEOS:
        text = member(archive, f"{name}_raw.csv").decode("utf-8", "replace")
        rows = [line.split(",") for line in text.splitlines()[1:] if line]
        # One frame has the phase in Portuguese, Preparação.
        phases = ["Preparation" if row[-1].startswith("Prepara") else row[-1] for row in rows]
        arrays[f"{name}_x"] = np.array([row[:-2] for row in rows], np.float32)
        arrays[f"{name}_y"] = np.array([PHASES.index(phase) for phase in phases], np.int8)
        arrays[f"{name}_t"] = np.array([row[-2] for row in rows], np.int64)
    return arrays


def make_finger_tracks(table: bytes) -> dict[str, np.ndarray]:
    """Read a line a track: its class, x and y of 16 frames."""
    values = np.loadtxt(table.decode().splitlines(), delimiter=",", ndmin=2)
    return {
        "x": values[:, 1:].reshape(-1, 16, 2).astype(np.float16),
        "y": values[:, 0].astype(np.int8),
        "classes": np.array(TRACKS),
    }


DATASETS = {
    "gestures": DataSet(
        "Gesture phase segmentation: joints of three people in seven videos, 9,901 frames",
        "Madeo, Wagner and Peres, Gesture Phase Segmentation (2014); UCI 302",
        "CC BY 4.0, by the UCI repository",
        (File("frame_level/gesture_phase.npz", (UCI_GESTURES,), make_gestures),),
        load_gestures,
        sample_gestures,
    ),
    "finger-tracks": DataSet(
        "5,296 tracks of a finger tip in webcam video, 16 frames each, four gestures; "
        "neighbours overlap",
        "Takahashi, https://github.com/Kazuhito00/hand-gesture-recognition-using-mediapipe (2020)",
        "Apache-2.0",
        (File("sequence_classification/finger_tracks.npz", (FINGER_TRACKS,), make_finger_tracks),),
        load_finger_tracks,
        sample_finger_tracks,
    ),
}
