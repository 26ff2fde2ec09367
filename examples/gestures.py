"""Which phase of a gesture is a video frame in? Many to many, in step: a label a frame.

Data: seven videos of three people who tell a story, 18 coordinates of joints a frame; four videos
are for training, three for testing (new stories, the same people). Network: positions and their
differences over two frames, each scaled by its video, a bidirectional GRU of 64 units, five scores
a frame; trained on windows of 100 frames. The same network in PyTorch has an accuracy of 0.604 and
a macro-F1 of 0.560, or 0.603 and 0.567 by an older program; a logistic regression, 0.471 and 0.339.

Run: python examples/gestures.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from _common import arguments, classification_scores, picture, report

import fastrnn as fr

TRAIN, TEST = ("a1", "a2", "b1", "c1"), ("a3", "b3", "c3")


class Data(NamedTuple):
    """Features (T, 36) and phase (T,) of each video, and the names of the phases."""

    videos: dict[str, tuple[np.ndarray, np.ndarray]]
    phases: list[str]


def load(args: Any) -> Data:
    """Put the differences beside the positions and scale them."""
    gestures = fr.data.load("gestures", args.data, sample=args.quick)
    videos = {}
    for name, (x, phases) in gestures.videos.items():
        steps = np.concatenate([np.zeros_like(x[:2]), x[2:] - x[:-2]])
        features = np.concatenate([x, steps], axis=1)
        videos[name] = ((features - features.mean(axis=0)) / features.std(axis=0), phases)
    return Data(videos, gestures.classes)


def build(args: Any, data: Data) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    dropout = {"input_dropout": 0.5, "dropout": 0.5}
    model = fr.models.SequenceTagger(
        36, 64, len(data.phases), inputs="vectors", bidirectional=True, seed=args.seed, **dropout
    )
    videos = [data.videos[name] for name in TRAIN]
    cuts = [(x, y, k) for x, y in videos for k in range(0, len(y) - 50, 50)]
    inputs = [x[k : k + 100] for x, _, k in cuts]
    targets = [y[k : k + 100] for _, y, k in cuts]
    batches = fr.data.Batches(inputs, targets, 16, seed=args.seed)
    return model, batches, {"learning_rate": 4e-3, "clip": 1.0}


def main() -> None:
    """Train, test, and draw both the true and the predicted phases over time."""
    args = arguments(__doc__, epochs=60)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    truth = [data.videos[name][1] for name in TEST]
    predicted = model.predict([data.videos[name][0] for name in TEST])

    def draw(axes: Any) -> None:
        for axis, name, rows in zip(axes, TEST, zip(truth, predicted)):
            image = axis.imshow(rows, "Set2", aspect="auto", interpolation="none", vmin=0, vmax=7)
            axis.set(
                title=f"frames of video {name}", yticks=[0, 1], yticklabels=["true", "predicted"]
            )
            axis.axhline(0.5, color="white", linewidth=3)
        colours = [axes[0].fill(np.nan, np.nan, color=image.cmap(k))[0] for k in range(5)]
        axes[0].figure.legend(colours, data.phases, loc="outside upper center", ncols=5)

    picture(args.output / "gestures.png", draw, nrows=3, figsize=(12, 5))
    report(args, trainer, **classification_scores(*map(np.concatenate, (truth, predicted))))


if __name__ == "__main__":
    main()
