"""Pictures of what the examples generate, drawn with matplotlib if that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _common import picture, pyplot

# Of a pose: pairs of its joints (left and right hand, head, spine, wrists; neck) that a line joins.
BONES = ((2, 3), (6, 4), (4, 0), (6, 5), (5, 1))


def piano_roll(melodies: dict[str, np.ndarray], path: Path) -> None:
    """Draw melodies, (T, 2) MIDI pitches and durations in sixteenths, one below the other."""

    def draw(rows: Any) -> None:
        for axes, (title, notes) in zip(rows, melodies.items()):
            pitch, duration = notes.T
            start = np.cumsum(duration) - duration
            axes.barh(pitch, duration / 4 - 0.08, left=start / 4, height=0.9)
            axes.set(title=title, yticks=[60, 67, 72, 79], yticklabels=["C4", "G4", "C5", "G5"])
            axes.grid(alpha=0.3)
        rows[-1].set_xlabel("quarter notes")

    picture(path, draw, nrows=len(melodies), figsize=(9, 4.5), sharex=True, sharey=True)


def sheet(sides: dict[str, np.ndarray], path: Path) -> None:
    """Draw sheets of 64 images (N, 8, 8) side by side."""

    def draw(panels: Any) -> None:
        for axes, (title, images) in zip(panels, sides.items()):
            framed = np.pad(images[:64], ((0, 0), (1, 1), (1, 1))).reshape(8, 8, 10, 10)
            axes.imshow(framed.transpose(0, 2, 1, 3).reshape(80, 80), cmap="gray_r")
            axes.set_title(title)
            axes.axis("off")

    picture(path, draw, ncols=len(sides), figsize=(9, 4.8))


def animation(motions: dict[str, np.ndarray], path: Path) -> None:
    """Write a GIF of people that move, (T, 18) coordinates of six joints, side by side."""
    plt = pyplot(path)
    if plt is None:
        return
    from matplotlib.animation import FuncAnimation, PillowWriter

    figure, panels = plt.subplots(
        1, len(motions), figsize=(7, 5), sharex=True, sharey=True, layout="constrained"
    )
    poses = {}
    for title, motion in motions.items():
        joints = motion.reshape(-1, 6, 3)[..., :2]
        neck = 0.7 * joints[:, 2:3] + 0.3 * joints[:, 3:4]  # arms hang from there
        poses[title] = np.concatenate([joints, neck], axis=1)
    seen = np.concatenate(list(poses.values())).reshape(-1, 2)
    low, high = seen.min(0) - 0.5, seen.max(0) + 0.3
    lines = []
    for axes, title in zip(panels, poses):
        axes.set(title=title, xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
        axes.set(xticks=[], yticks=[])
        lines += [axes.plot([], [], "o-", color="C0", lw=4, ms=4)[0] for _ in BONES]
        lines.append(axes.plot([], [], "o", color="C1", ms=22)[0])  # the head

    def show(t: int) -> list:
        for k, pose in enumerate(poses.values()):
            *bones, head = lines[k * (len(BONES) + 1) :][: len(BONES) + 1]
            for line, ends in zip(bones, BONES):
                line.set_data(*pose[t, ends].T)
            head.set_data(*pose[t, [2]].T)
        return lines

    frames = min(len(pose) for pose in poses.values())
    writer = PillowWriter(fps=20)
    FuncAnimation(figure, show, frames=frames).save(path, writer=writer, dpi=80)
    plt.close(figure)
    print(f"wrote {path}")
