"""Motion generation: how people move while they tell a story.

Seven videos of three people, the places of six joints in each frame; four videos are learnt, three
tested. A GRU of 128 units reads how the joints moved from frame to frame and gives a mixture of 10
Gaussians for the next move. It is compared with the best that is linear: a Gaussian vector
autoregression on the same moves, fitted by least squares to the same videos. Scores are nats a
frame, of a density in the units of the data: lower is better, and below 0 is possible. What the
network makes of the first second of a tested video goes to ``dance.gif``, next to the real one.

Run: python examples/dance.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _baselines import autoregression
from _common import arguments, report
from _pictures import animation

import fastrnn as fr

TRAINED, TESTED = ("a1", "a2", "b1", "c1"), ("a3", "b3", "c3")
WINDOW, PROMPT, LENGTH = 100, 30, 120  # frames


def load(args: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the videos that are learnt and those that are tested, (T, 18) places."""
    videos = fr.data.load("gestures", args.data, sample=args.quick).videos
    return tuple([videos[k][0].astype(float) for k in part] for part in (TRAINED, TESTED))


class Scale:
    """Moves from frame to frame, made uncorrelated and of variance 1 over the videos learnt."""

    def __init__(self, videos: list[np.ndarray]) -> None:
        moves = np.concatenate([np.diff(video, axis=0) for video in videos])
        self.mean, self.root = moves.mean(0), np.linalg.cholesky(np.cov(moves.T))
        self.log_volume = np.log(np.diag(self.root)).sum()  # nats from scaled to real units

    def moves(self, video: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.root, (np.diff(video, axis=0) - self.mean).T).T

    def places(self, start: np.ndarray, moves: np.ndarray) -> np.ndarray:
        return start + np.cumsum(moves @ self.root.T + self.mean, axis=0)


def build(args: Any, data: tuple) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    scale, half = Scale(data[0]), WINDOW // 2
    moves = [scale.moves(video).astype(np.float32) for video in data[0]]
    windows = [rows[k : k + WINDOW] for rows in moves for k in range(0, len(rows) - half, half)]
    model = fr.models.SequenceGenerator(18, 128, dropout=0.3, head="mixture", seed=args.seed)
    batches = fr.data.Batches(windows, windows, 16, seed=args.seed)
    schedule = fr.optim.CosineDecay(args.epochs * len(batches))
    return model, batches, {"learning_rate": 3e-3, "schedule": schedule, "clip": 1.0}


def main() -> None:
    """Train, score, continue a motion."""
    args = arguments(__doc__, epochs=40)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    scale = Scale(data[0])
    train, test = ([scale.moves(video) for video in part] for part in data)
    nats = -model.log_likelihood(test).sum() / sum(map(len, test)) + scale.log_volume
    linear = min(autoregression(train, test, order) for order in (1, 2, 4, 8, 12))
    real = data[1][0][: PROMPT + LENGTH]
    begin = scale.moves(real[:PROMPT])
    drawn = np.array(list(model.sample(LENGTH, prompt=begin, temperature=0.5, seed=args.seed)))
    motion = np.concatenate([real[:PROMPT], scale.places(real[PROMPT - 1], drawn)])
    films = {"real": real, f"by the network after {PROMPT} frames": motion}
    animation(films, args.output / "dance.gif")
    report(args, trainer, nats_per_frame=nats, autoregression=linear + scale.log_volume)


if __name__ == "__main__":
    main()
