"""Image generation: write digits, a row of pixels at a time.

1,438 of scikit-learn's 8 x 8 digits are learnt and 359 tested. An LSTM of 128 units reads row after
row; from its state the 8 pixels of the next row are predicted, each one of 17 grey levels, from
left to right given those before. Two models without a network are fitted to the same images: one
takes every pixel for itself, the other knows the pixel above and the one to the left. Scores are
the nats that each needs for an image. New digits next to real ones go to ``digits.png``.

Run: python examples/digits.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _baselines import counted_pixels
from _common import arguments, report
from _pictures import sheet

import fastrnn as fr

LEVELS, SIZE = 17, 8  # grey levels; rows, and pixels of a row


def load(args: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the images that are learnt and those that are tested, int (N, 8, 8)."""
    if args.quick:  # discs
        row, column = np.random.default_rng(0).uniform(2, 5, (2, 400, 1, 1))
        y, x = np.indices((SIZE, SIZE))
        images = (16 * ((y - row) ** 2 + (x - column) ** 2 < 6)).astype(int)
    else:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise ImportError(
                'the digits need scikit-learn: pip install "fastrnn[examples]"'
            ) from None
        images = load_digits().images.astype(int)
    order = np.random.RandomState(0).permutation(len(images))
    test = round(0.2 * len(images))
    return images[order[test:]], images[order[:test]]


def build(args: Any, data: tuple) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    sizes, options = [LEVELS] * SIZE, {"cell": "lstm", "embedding_size": 8, "chained": True}
    model = fr.models.SequenceGenerator(sizes, 128, dropout=0.3, seed=args.seed, **options)
    batches = fr.data.Batches(list(data[0]), list(data[0]), 32, seed=args.seed)
    schedule = fr.optim.CosineDecay(args.epochs * len(batches))
    return model, batches, {"learning_rate": 3e-3, "schedule": schedule, "clip": 1.0}


def main() -> None:
    """Train, write digits, score."""
    args = arguments(__doc__, epochs=30)
    train, test = data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    written = [list(model.sample(SIZE, temperature=0.8, seed=[args.seed, k])) for k in range(64)]
    sheet({"real": test, "by the network": np.array(written)}, args.output / "digits.png")
    neighbours = [(1, 0), (0, 1)]  # the best weight for the tested images is more than fair to it
    markov = min(counted_pixels(train, test, LEVELS, neighbours, weight) for weight in (0.3, 1, 3))
    scores = {
        "independent_pixels": counted_pixels(train, test, LEVELS, [], 1),
        "row_markov": markov,
    }
    report(args, trainer, nats_per_image=-model.log_likelihood(list(test)).mean(), **scores)


if __name__ == "__main__":
    main()
