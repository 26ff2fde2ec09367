"""Image generation: write digits, a row of pixels at a time.

1,437 of scikit-learn's 8 x 8 digits are learnt and 360 tested. An LSTM of 128 units reads row after
row; from its state the 8 pixels of the next row are predicted, each one of 17 grey levels, from
left to right given those before. Two models without a network are fitted to the same images: one
takes every pixel for itself, the other knows the pixel above and the one to the left. Scores are
the nats that each needs for an image. New digits next to real ones go to ``digits.png``.

Run: python examples/digits.py
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

import numpy as np
from _common import arguments, report

import fastrnn as fr

LEVELS, SIZE = 17, 8


def load(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return the images that are learnt and those that are tested, int (N, 8, 8)."""
    if args.quick:  # discs
        row, column = np.random.default_rng(0).uniform(2, 5, (2, 400, 1, 1))
        y, x = np.indices((SIZE, SIZE))
        images = (16 * ((y - row) ** 2 + (x - column) ** 2 < 6)).astype(int)
    else:
        from sklearn.datasets import load_digits

        images = load_digits().images.astype(int)
    order = np.random.RandomState(0).permutation(len(images))
    test = round(0.2 * len(images))
    return images[order[test:]], images[order[:test]]


def build(args: argparse.Namespace, data: tuple) -> tuple:
    """Return the model, its batches and the settings of training."""
    model = fr.models.SequenceGenerator(
        [LEVELS] * SIZE,
        128,
        cell="lstm",
        dropout=0.3,
        embedding_size=8,
        chained=True,
        seed=args.seed,
    )
    batches = fr.data.Batches(list(data[0]), list(data[0]), 32, seed=args.seed)
    schedule = fr.optim.CosineDecay(args.epochs * len(batches))
    return model, batches, {"learning_rate": 3e-3, "schedule": schedule, "clip": 1.0}


def counted(train: np.ndarray, test: np.ndarray, neighbours: list, weight: float) -> float:
    """Return the nats of an image where a pixel depends on these neighbours, by smoothed counts."""

    def seen(images: np.ndarray) -> tuple:
        padded = np.pad(images, ((0, 0), (1, 0), (1, 0)))
        parts = [padded[:, 1 - down :, 1 - right :][:, :SIZE, :SIZE] for down, right in neighbours]
        return *np.indices((SIZE, SIZE)), sum(LEVELS**k * part for k, part in enumerate(parts))

    counts = np.zeros((SIZE, SIZE, LEVELS ** len(neighbours), LEVELS))
    np.add.at(counts, (*seen(train), train), 1)
    alone = counts.sum(2, keepdims=True) + 1
    counts += weight * alone / alone.mean(-1, keepdims=True)  # where neighbours are of no account
    return -np.log(counts[*seen(test), test] / counts[seen(test)].sum(-1)).sum() / len(test)


def draw(sheets: dict[str, np.ndarray], path: Path) -> None:
    """Draw sheets of 8 x 8 images side by side."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(sheets), figsize=(9, 4.8))
    for axes, (title, images) in zip(panels, sheets.items()):
        framed = np.pad(images[:64], ((0, 0), (1, 1), (1, 1))).reshape(8, 8, 10, 10)
        axes.imshow(framed.transpose(0, 2, 1, 3).reshape(80, 80), cmap="gray_r")
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Train, write digits, score."""
    args = arguments(__doc__, epochs=30)
    train, test = data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.training.fit(model, batches, args.epochs, **settings)
    written = [list(model.sample(SIZE, temperature=0.8, seed=[args.seed, k])) for k in range(64)]
    with suppress(ImportError):  # without matplotlib there is no picture
        sheets = {"real digits": test, "written by the network": np.array(written)}
        draw(sheets, args.output / "digits.png")
    neighbours = [(1, 0), (0, 1)]  # the best weight for the tested images is more than fair to it
    report(
        args,
        trainer,
        nats_per_image=-model.log_likelihood(list(test)).mean(),
        independent_pixels=counted(train, test, [], 1),
        row_markov=min(counted(train, test, neighbours, weight) for weight in (0.3, 1, 3)),
    )


if __name__ == "__main__":
    main()
